"""How a residual stream before the last layer is read out: raw, by ridge maps, by tuned-lens translators."""
