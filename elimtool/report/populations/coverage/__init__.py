"""Tell and draw what a model covers, and how calibrated it is."""
