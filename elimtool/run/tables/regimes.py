"""The table of regimes: the regime of each prediction, and the numbers that decide it."""

from __future__ import annotations

from elimtool.run.columns import FLOAT, INT, POSITION, PROMPT_ID, STRING, Column, Table, share

ABSTAINS = (
    "fewer than 8 tokens count before the prediction (the first two of a prompt and what a chat template"
    " wrote never do), or the reference has fewer than 199 windows"
)

REGIMES = Table(
    "regimes",
    "Whether each prediction is strong, balanced, familiar or dysfunctional. Filled with a ridge lens, whose"
    " file holds the reference.",
    "one row per prompt and position",
    (
        PROMPT_ID,
        POSITION,
        Column(
            "regime",
            STRING,
            "The first of these that holds: dysfunctional:OOD-confident or dysfunctional:OOD-diffuse (p_high"
            " <= 0.025; confident with a collision of 0.5), dysfunctional:resonant (p_low <= 0.025 and a"
            " repetition of 0.5), familiar (p_low <= 0.025, no defect), strong (collision >= 0.5),"
            " dysfunctional:weak-signal (context_gain below the reference's 5 % quantile), else balanced.",
            null_when=ABSTAINS,
        ),
        Column(
            "n_recent",
            INT,
            "Observed tokens that the test looks at: the last 32 up to and with this position, or as many as"
            " there are, the first two of the prompt and what a chat template wrote left out.",
            unit="tokens",
            range="0 .. 32",
        ),
        Column(
            "recent_surprisal",
            FLOAT,
            "Mean surprisal of these tokens, each given all before it.",
            unit="nats",
            range=">= 0",
            null_when="n_recent is 0",
        ),
        share(
            "repetition",
            "Share of the 4-grams ending in these tokens that have occurred before in the prompt; those with"
            " a token of the chat template are left out.",
            null_when="no 4-gram ends in them",
        ),
        Column(
            "p_high",
            FLOAT,
            "Conformal p-value of recent_surprisal being as large: (1 + reference windows at least as"
            " surprising) / (1 + windows). The beginning of a prompt is compared with as many first tokens of"
            " the reference, later windows with windows that have contexts of all lengths.",
            unit="probability",
            range="1 / (1 + windows) .. 1",
            null_when=ABSTAINS,
        ),
        Column(
            "p_low",
            FLOAT,
            "The same for it being as small.",
            unit="probability",
            range="1 / (1 + windows) .. 1",
            null_when=ABSTAINS,
        ),
        Column(
            "collision",
            FLOAT,
            "Chance that two independent draws from the model's output agree: the sum of p^2.",
            unit="probability",
            range="1 / vocabulary .. 1",
        ),
        Column(
            "context_gain",
            FLOAT,
            "What the prompt adds to a context-free guess: KL(output || mean output on the reference text).",
            unit="nats",
            range=">= 0",
        ),
    ),
)

SPAN_SURPRISAL = Table(
    "span_surprisal",
    "How surprising what follows a span is to the model. Filled where the table is named, as audit does.",
    "one row per prompt and span that it names",
    (
        PROMPT_ID,
        Column("span", STRING, "Name of the span."),
        Column(
            "n_after",
            INT,
            "Tokens after the span's last one, up to the last probed position, of the last 32 that count: the"
            " first two of the prompt, what a chat template wrote and appended tokens do not.",
            unit="tokens",
            range=">= 0",
        ),
        Column(
            "surprisal_after",
            FLOAT,
            "Mean surprisal of these tokens, each given all before it.",
            unit="nats",
            range=">= 0",
            null_when="n_after is 0",
        ),
    ),
)
