"""The tables of pairs: what is compared with what, and how the tokens of two prompts are aligned."""

from __future__ import annotations

from elimtool.run.columns import BOOL, FLOAT, INT, STRING, STRINGS, Column, Table, probability, share
from elimtool.run.tables.comparison.sides import EITHER, NOT_PROMPTS, PAIR_ID, sides

NO_DISTRIBUTIONS = (
    "the two output distributions were not both at hand (two runs), or their vocabularies differ"
)

PAIRS = Table(
    "pairs",
    "What was compared with what, whether that was possible, and whether the output changed.",
    "one row per pair, failed ones and controls included",
    (
        PAIR_ID,
        *sides(Column("prompt_id", STRING, "Identifier of the prompt.")),
        Column(
            "control",
            STRING,
            "Kind of control: an edit that should not matter, with which the others are compared.",
            range="paraphrase, neutral, random",
            null_when="the pair is no control",
        ),
        Column("of", STRING, "pair_id that a control belongs to.", null_when="the pair is no control"),
        Column(
            "status",
            STRING,
            "Whether the pair was compared. A pair with status 'error' has no rows in the other tables.",
            range="ok, error",
        ),
        Column(
            "error_message",
            STRING,
            "One line: which side could not be used, and why.",
            null_when="status is 'ok'",
        ),
        *sides(Column("text", STRING, "The prompt as the model saw it.")),
        *sides(Column("n_tokens", INT, "Tokens that the model was given.", unit="tokens", range=">= 1")),
        *sides(
            Column(
                "position",
                INT,
                "Index of the token whose prediction is compared.",
                unit="token index",
                range=">= 0",
            )
        ),
        Column(
            "n_matched",
            INT,
            "Tokens that the alignment of the two prompts matches.",
            unit="tokens",
            range=">= 0",
            null_when=NOT_PROMPTS,
        ),
        Column(
            "n_common_prefix",
            INT,
            "Tokens before the first one that differs.",
            unit="tokens",
            range=">= 0",
            null_when=NOT_PROMPTS,
        ),
        Column(
            "prefix_difference",
            FLOAT,
            "Largest difference of the residual streams of one token, relative to their size, over the common"
            " prefix and all layers. Causality makes it 0 but for rounding.",
            unit="ratio",
            range=">= 0",
            null_when=f"{NOT_PROMPTS}, the pair is a control, or the prompts begin differently",
        ),
        Column(
            "prefix_holds",
            BOOL,
            "Whether prefix_difference is within the tolerance that comparison.json states.",
            null_when="prefix_difference is null",
        ),
        *sides(Column("top_token", STRING, "Most probable token of the output.")),
        *sides(probability("top_prob", "Probability of that token.")),
        Column(
            "output_changed", BOOL, "Whether the most probable tokens differ, as texts.", null_when=EITHER
        ),
        Column(
            "js_output",
            FLOAT,
            "Jensen-Shannon divergence (base 2) of the two output distributions.",
            unit="bits",
            range="0 .. 1",
            null_when=NO_DISTRIBUTIONS,
        ),
        Column(
            "onset_layer",
            INT,
            "First layer after which the two differ by more than the band of the controls.",
            unit="layer index",
            range="-1 .. layers - 1",
            null_when="they never do, or there are fewer than 19 controls",
        ),
        share(
            "onset_chance",
            "Share of the pair's controls that have an onset too, each compared with the others: the higher,"
            " the less an onset means.",
            null_when="the pair is a control, or there are fewer than 20",
        ),
        Column(
            "n_controls",
            INT,
            "Controls that the pair is compared with.",
            unit="pairs",
            range=">= 0",
            null_when=f"{NOT_PROMPTS}, or the pair is a control",
        ),
        *sides(
            Column(
                "continuation",
                STRING,
                "Greedy continuation: the most probable token each time.",
                null_when="no continuation was requested, or the pair is a control",
            )
        ),
        Column(
            "n_targets",
            INT,
            "Targets that both sides followed, and that are compared.",
            unit="targets",
            range=">= 0",
            null_when="status is 'error'",
        ),
        *sides(
            Column(
                "n_unmatched",
                INT,
                "Targets that only this side followed: they are not compared.",
                unit="targets",
                range=">= 0",
            )
        ),
        Column("group", STRING, "Group of A's record, else of B's.", null_when="neither gives one"),
        Column("category", STRING, "Category of A's record, else of B's.", null_when="neither gives one"),
        Column("tags", STRINGS, "Tags of either record.", null_when="the record could not be read"),
        Column(
            "template",
            STRING,
            "Template of A's record, else of B's.",
            null_when="neither gives one, or the comparison is of an earlier version",
        ),
    ),
)

ALIGNMENT = Table(
    "alignment",
    "Which token of prompt A corresponds to which of prompt B. Filled where two prompts are compared.",
    "one row per pair and aligned token",
    (
        PAIR_ID,
        Column(
            "operation",
            STRING,
            "equal (the same token), replace (one token in the place of another), delete (only in A) or"
            " insert (only in B).",
            range="equal, replace, delete, insert",
        ),
        *sides(Column("index", INT, "Index of the token.", unit="token index", range=">= 0")),
        *sides(Column("token", STRING, "Text of the token.")),
    ),
)
