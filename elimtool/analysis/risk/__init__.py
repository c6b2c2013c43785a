"""Score how uncertain a written answer is, from attention, probabilities, activations and other samples."""
