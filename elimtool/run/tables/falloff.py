"""The table of the falloff: how many tokens are within some distance of the most probable one."""

from __future__ import annotations

import pyarrow as pa

from elimtool.run.columns import INTS, POSITION, PROMPT_ID, SMALL_FLOAT, Column, Table

STEPS = 16
"""Steps of distance to a nat."""
EDGES = 16 * STEPS + 1
"""Distances that are counted up to, from 0; after them all tokens are."""

FALLOFF = Table(
    "falloff",
    "How flat the output is: tokens by their distance from the most probable one, from which the number that"
    " any top-p or min-p keeps follows within narrow bounds.",
    "one row per prompt and position; of a text that is scored, at one position drawn by its id",
    (
        PROMPT_ID,
        POSITION,
        Column(
            "n_within",
            INTS,
            f"Number of tokens whose log-probability is at most i / {STEPS} nats below the largest, for i"
            f" from 0 to {EDGES - 1}; last, of all tokens.",
            unit="tokens",
        ),
        Column(
            "mass_within",
            pa.list_(SMALL_FLOAT),
            "Probability of these tokens together, in the model's output.",
            unit="probability",
        ),
    ),
)
