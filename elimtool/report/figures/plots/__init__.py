"""How matplotlib draws each kind of figure."""
