"""The table of effects: what interventions changed for each target."""

from __future__ import annotations

from elimtool.run.columns import (
    FLOAT,
    POSITION,
    PROMPT_ID,
    STRING,
    TARGET,
    TARGET_TOKEN,
    Column,
    Table,
    probability,
    rank,
)

ALONE = "no other token was followed"
UNMEASURED = "one of the two passes gives the target probability 0"

EFFECTS = Table(
    "effects",
    "What the interventions changed for each target: the model's own pass compared with the pass under them.",
    "one row per prompt, position and target, where there were interventions",
    (
        PROMPT_ID,
        POSITION,
        TARGET,
        Column("intervention", STRING, "What was done to the model, as in the tables of the two passes."),
        rank("rank_before", "Rank in the model's output."),
        rank("rank_after", "The same under the interventions."),
        probability("prob_before", "Probability in the model's output."),
        probability("prob_after", "The same under the interventions."),
        Column(
            "logprob_change",
            FLOAT,
            "Log-probability under the interventions, minus that without.",
            unit="nats",
            null_when=UNMEASURED,
        ),
        Column(
            "versus",
            STRING,
            "What the logit is compared with: the first foil that is another token; without one, the most"
            " probable other target of the model's own pass.",
            null_when=ALONE,
        ),
        Column(
            "logit_difference_before", FLOAT, "Logit minus that of versus.", unit="logits", null_when=ALONE
        ),
        Column(
            "logit_difference_after",
            FLOAT,
            "The same under the interventions.",
            unit="logits",
            null_when=ALONE,
        ),
        Column("outcome_before", STRING, "Outcome, as in verdicts."),
        Column("outcome_after", STRING, "The same under the interventions."),
        Column("top_before", STRING, "Most probable token of the model's output."),
        Column("top_after", STRING, "The same under the interventions."),
        TARGET_TOKEN,
    ),
    of_prompt=True,
)
