"""The table of controls: what chance does to tokens as frequent as a target."""

from __future__ import annotations

import pyarrow as pa

from elimtool.run.columns import FLOAT, INT, POSITION, PROMPT_ID, TARGET, TOKEN_ID, Column, Table

CONTROLS = Table(
    "controls",
    "How often the rule that calls a target late-eliminated says so of tokens that are as frequent. Filled"
    " where a ridge lens is in use, whose file holds the frequencies.",
    "one row per prompt, position and target",
    (
        PROMPT_ID,
        POSITION,
        TARGET,
        TOKEN_ID,
        Column(
            "prior",
            FLOAT,
            "The target token's p_0: its mean probability in the model's outputs on the reference text.",
            unit="probability",
            range="0 .. 1",
        ),
        Column(
            "prior_low",
            FLOAT,
            "Smallest p_0 of the control tokens: those nearest in log p_0 that the prompt does not follow.",
            unit="probability",
            range="0 .. 1",
        ),
        Column("prior_high", FLOAT, "Largest p_0 of the controls.", unit="probability", range="0 .. 1"),
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
    ),
)
