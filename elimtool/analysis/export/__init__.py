"""Choose the eliminated answers of a run that a model can be trained on."""
