"""The tables of ``elimtool map`` on what heads keep, and how far they look."""

from __future__ import annotations

from elimtool.run.columns import BOOL, FLOAT, INT, LAYER, STRING, Column, Table

HEAD = Column("head", INT, "Query head.", "head index", "0 .. heads - 1")
WHY = "unmeasured says why"
UNMEASURED = Column("unmeasured", STRING, "Why there is no number.", null_when="there is")
OF_CATEGORY = f"{WHY}, or no query sees the category"

HEAD_CATEGORIES = Table(
    "head_categories",
    "How much attention each head gives each category of tokens, beside what distance alone explains.",
    "one row per layer, head and category",
    (
        LAYER,
        HEAD,
        Column(
            "category",
            STRING,
            "function, name, content (word where the language has no list of function words), number, punct,"
            " piece (starts inside a word), space; or the labels that were given. Overlays: repeated (the"
            " same token was there before), negation.",
        ),
        Column("overlay", BOOL, "Whether tokens may be of the category beside another one."),
        Column(
            "retention",
            FLOAT,
            "Attention on the category, sinks left out, over what even attention gives it: 1 is indifferent.",
            "ratio",
            ">= 0",
            OF_CATEGORY,
        ),
        Column(
            "selectivity",
            FLOAT,
            "The same over the exact expectation if tokens changed places within the distances 0, 1, 2 to 3,"
            " 4 to 7 and so on: what the head keeps beyond how far it looks.",
            "ratio",
            ">= 0",
            OF_CATEGORY,
        ),
        Column(
            "low",
            FLOAT,
            "Lower end of selectivity's 95 % interval over passages.",
            "ratio",
            ">= 0",
            OF_CATEGORY,
        ),
        Column("high", FLOAT, "Its upper end.", "ratio", ">= 0", OF_CATEGORY),
        Column("n_tokens", INT, "Tokens of the category that are no sinks.", "tokens", ">= 0"),
        Column("n_passages", INT, "Passages that have one.", "passages", ">= 0"),
        UNMEASURED,
    ),
)

HEAD_SELECTIVITY = Table(
    "head_selectivity",
    "Which category each head keeps best and worst beyond distance, and how unequal they are to it.",
    "one row per layer and head",
    (
        LAYER,
        HEAD,
        Column(
            "selectivity_index",
            FLOAT,
            "1 minus the entropy of the selectivities' shares over its largest value: 0 if all are alike.",
            "",
            "0 .. 1",
            f"{WHY}, or fewer than 2 categories have a number",
        ),
        Column("kept", STRING, "Category of the largest selectivity.", null_when="as selectivity_index"),
        Column("dropped", STRING, "Category of the smallest.", null_when="as selectivity_index"),
        UNMEASURED,
    ),
)
