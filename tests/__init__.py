"""The run-time type checker of the tests: shapes and types as annotated, an int where a float is asked."""

from beartype import BeartypeConf, beartype

checker = beartype(conf=BeartypeConf(is_pep484_tower=True))
