"""The tables of the tokens that end generated text: their fate at each step, and when a text stops."""

from __future__ import annotations

from elimtool.run.columns import FLOAT, INT, PROMPT_ID, STRING, AskedBy, Column, Table, probability, rank
from elimtool.run.tables.sequences import FATE, TOKEN_ID
from elimtool.run.tables.walk import CHAIN, STEP

OVER = "the text had ended before"
LEFT = "the chain leaves it"

BY_WATCH = AskedBy("watch", "name tokens with it: eos, or a text such as '<|im_end|>'")

STOPS = Table(
    "stops",
    "How probable generated text is to stop: at each step, and by then, along this text and over others.",
    "one row per prompt and step of the text that was asked for",
    (
        PROMPT_ID,
        STEP,
        CHAIN,
        Column("token", STRING, "Text of the token that was drawn.", null_when=OVER),
        probability(
            "model_prob", "Probability of the watched tokens together in the model's output.", null_when=OVER
        ),
        probability("prob", "The same through the chain: how probable it is to stop here.", null_when=OVER),
        Column(
            "removed_by",
            STRING,
            "Name of the stage that removes the last of the watched tokens.",
            null_when=f"the chain leaves one, or {OVER}",
        ),
        probability(
            "model_stopped_by",
            "Control: `stopped_by` with the model's own probabilities, as without a chain.",
            null_when=OVER,
        ),
        probability(
            "stopped_by",
            "Probability that a text which goes this way has stopped by here: 1 minus the product of 1 minus"
            " `prob` up to this step.",
            null_when=OVER,
        ),
        probability(
            "stop_by",
            "Probability that a text of this prompt has stopped by here, whatever way it goes: the mean of"
            " `stopped_by` over `n_texts` texts, drawn as the chain draws but never a watched token where"
            " another is left. It estimates the share of generated texts that hold a watched token by then."
            " Where texts go back (phrase_ban), tokens taken back count among those that may be drawn.",
        ),
        Column(
            "stop_by_se",
            FLOAT,
            "Standard error of that mean.",
            unit="probability",
            range=">= 0",
        ),
        Column("n_texts", INT, "Texts that it is the mean of.", unit="texts", range=">= 2"),
    ),
    asked_by=BY_WATCH,
    of_prompt=True,
)

STOP_TOKENS = Table(
    "stop_tokens",
    "The fate of each watched token at each step of the generated text.",
    "one row per prompt, written token and watched token",
    (
        PROMPT_ID,
        STEP,
        CHAIN,
        Column("token", STRING, "Text of the watched token."),
        TOKEN_ID,
        rank("model_rank", "Its rank in the model's output."),
        probability("model_prob", "Its probability in the model's output, before any stage."),
        probability("prob", "Its probability through the chain."),
        Column("removed_by", STRING, "Name of the stage that removes it.", null_when=LEFT),
        Column("why", STRING, "One sentence: by which rule.", null_when=LEFT),
    ),
    asked_by=BY_WATCH,
    of_prompt=True,
)

STOP_STAGES = Table(
    "stop_stages",
    "What each stage does to each watched token at each step of the generated text.",
    "one row per prompt, written token, watched token and stage",
    (PROMPT_ID, STEP, CHAIN, Column("token", STRING, "Text of the watched token."), TOKEN_ID, *FATE),
    asked_by=BY_WATCH,
    of_prompt=True,
)
