"""The table of top tokens: what the model's output would continue with."""

from __future__ import annotations

from elimtool.run.columns import FLOAT, INT, POSITION, PROMPT_ID, STRING, Column, Table, probability

TOP_TOKENS = Table(
    "top_tokens",
    "What the model would have said: the most probable tokens of its output.",
    "one row per prompt, position and place among the 20 first",
    (
        PROMPT_ID,
        POSITION,
        Column(
            "place",
            INT,
            "Place of the token by falling logit; among equals the lower id comes first.",
            unit="place",
            range="1 .. 20",
        ),
        Column("token", STRING, "Text of the token."),
        Column("token_id", INT, "Vocabulary id of the token.", unit="token id", range="0 .. vocabulary - 1"),
        Column("logprob", FLOAT, "Natural logarithm of prob.", unit="nats", range="<= 0"),
        probability("prob", "Probability of the token in the model's output, before any sampler."),
    ),
)
