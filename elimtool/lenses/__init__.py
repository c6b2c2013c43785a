"""Read layers before the last as predictions: raw, by ridge maps, or by tuned-lens translators."""
