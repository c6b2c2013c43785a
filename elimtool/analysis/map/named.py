"""Name what tokens are put into, without importing anything: a map's options are to be quick."""

from __future__ import annotations

WRITTEN = ("function", "name", "content", "word", "number", "punct", "piece", "space")
"""Categories of tokens by how they are written, each token having one. A text whose language has no list of
function words has ``word`` in place of the first three."""
OVERLAYS = ("repeated", "negation")
"""What tokens may be besides."""
NO_ROTATION = (
    "its queries and keys are not shown",
    "no rotation is passed to its attention: positions are learned, biases on scores, or put in inside",
    "its queries and keys are not a rotation by position of what they are without one",
)
"""Why a layer has no kernel, in the order of ``elimtool.model.rotation.Unread``."""
OTHER = "other"
"""Label of tokens that a file or tagger did not label."""
