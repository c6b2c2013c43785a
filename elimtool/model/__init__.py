"""Load models and run them layer by layer: the only room that knows TransformerLens and transformers."""

DEFAULT_MODEL = "smollm2"
"""The model that is loaded where none is named."""
