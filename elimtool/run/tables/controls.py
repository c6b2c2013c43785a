"""The table of controls: what chance does to tokens as frequent as a target."""

from __future__ import annotations

import pyarrow as pa

from elimtool.run.columns import (
    INT,
    POSITION,
    PROMPT_ID,
    TARGET,
    TARGET_TOKEN,
    TOKEN_ID,
    Column,
    Table,
    probability,
)

CONTROLS = Table(
    "controls",
    "How often the rule that calls a target late-eliminated also does so for tokens as frequent. Filled with"
    " a ridge lens, whose file holds the frequencies.",
    "one row per prompt, position and target",
    (
        PROMPT_ID,
        POSITION,
        TARGET,
        TOKEN_ID,
        probability(
            "prior",
            "The target token's p_0: its mean probability in the model's outputs on the reference text.",
        ),
        probability(
            "prior_low",
            "Smallest p_0 of the control tokens: those nearest in log p_0 that are not followed themselves.",
        ),
        probability("prior_high", "Largest p_0 of the controls."),
        Column(
            "n_controls",
            INT,
            "Control tokens: 99, or as many as a small vocabulary has.",
            unit="tokens",
            range="1 .. 99",
        ),
        Column(
            "n_lost",
            INT,
            "Controls that the rule calls late-eliminated.",
            unit="tokens",
            range="0 .. n_controls",
        ),
        Column(
            "lost_severities",
            pa.list_(pa.float64()),
            "Severity of each of these, ascending: log10 of the final rank over the best.",
            unit="decades of rank",
            range=">= 0",
        ),
        TARGET_TOKEN,
    ),
)
