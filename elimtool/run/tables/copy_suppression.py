"""The table of copy suppression: heads that write against tokens of the prompt about to be repeated."""

from __future__ import annotations

from elimtool.run.columns import FLOAT, INT, LAYER, POSITION, PROMPT_ID, Column, Table

COPY_SUPPRESSION = Table(
    "copy_suppression",
    "Which heads keep the model from repeating tokens of the prompt, and which make it repeat them.",
    "one row per prompt, position, layer and head",
    (
        PROMPT_ID,
        POSITION,
        LAYER,
        Column("head", INT, "Query head.", unit="head index", range="0 .. heads - 1"),
        Column(
            "copy_suppression",
            FLOAT,
            "Mean over the keys of n_predicted of minus the head's attention on the key times what the"
            " head's output gives that key's token, as in components.dla_centred. Positive suppresses the"
            " tokens, negative copies them.",
            unit="logits",
            null_when="n_predicted is 0",
        ),
        Column(
            "n_predicted",
            INT,
            "Visible keys whose token is in the top-10 of the lens's reading before the block.",
            unit="tokens",
            range="0 .. position + 1",
        ),
    ),
)
