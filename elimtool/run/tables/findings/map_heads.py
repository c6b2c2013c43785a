"""The tables of ``elimtool map`` on what heads keep, and how far they look."""

from __future__ import annotations

from elimtool.run.columns import BOOL, FLOAT, INT, LAYER, STRING, Column, Table, probability, share

HEAD = Column("head", INT, "Query head.", "head index", "0 .. heads - 1")
KV_GROUP = Column("kv_group", INT, "Group of heads that share keys and values.", "group index", ">= 0")
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
        probability(
            "p",
            "Chance of as much attention on the category if it were as often under what distance gives it:"
            " signs of the passages' differences flipped, one-sided.",
            OF_CATEGORY,
        ),
        probability("q", "p, adjusted over all heads of the category (Benjamini-Hochberg).", OF_CATEGORY),
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

NO_KERNEL = "no_kernel says why"

HEAD_DISTANCES = Table(
    "head_distances",
    "How far each head looks on text, and the score of its mean query on its mean key so far apart.",
    "one row per layer, head and distance",
    (
        LAYER,
        HEAD,
        Column("distance", INT, "Tokens between query and key; 0 is the query itself.", "tokens", "0 .. 63"),
        Column(
            "lift",
            FLOAT,
            "Attention on the key so far before, sinks left out, over what even attention gives it; mean over"
            " the same queries for every distance (from 64 on; in shorter passages the second half).",
            "ratio",
            ">= 0",
            "head_kernels.unmeasured says why, or the layer's window ends before",
        ),
        Column(
            "score",
            FLOAT,
            "Mean over these queries of what the softmax is taken of.",
            "logit",
            null_when="the layer shows no scores, or its window ends before",
        ),
        Column(
            "kernel",
            FLOAT,
            "Score of the mean query on the mean key, both before they are turned by their position and then"
            " turned so far apart: what position alone explains.",
            "logit",
            null_when="head_kernels.no_kernel says why",
        ),
    ),
)

HEAD_KERNELS = Table(
    "head_kernels",
    "How far each head looks, and how it likes the token itself against the one before.",
    "one row per layer and head",
    (
        LAYER,
        HEAD,
        KV_GROUP,
        Column(
            "self_bias_position",
            FLOAT,
            "Kernel at distance 0 less that at 1: below 0 the head likes the neighbour better than the token"
            " itself by position alone.",
            "logit",
            null_when=NO_KERNEL,
        ),
        Column(
            "self_bias_content",
            FLOAT,
            "Mean score of tokens on themselves less the kernel at distance 0: what content adds.",
            "logit",
            null_when=NO_KERNEL,
        ),
        Column("self_bias_net", FLOAT, "The sum of both.", "logit", null_when=NO_KERNEL),
        Column(
            "kernel_r",
            FLOAT,
            "Correlation of kernel and mean score over distances; where it is not near 1 the head looks by"
            " content.",
            "",
            "-1 .. 1",
            f"{NO_KERNEL}, the layer shows no scores, or either does not vary",
        ),
        Column("d50", INT, "Smallest distance within which half of the lift is.", "tokens", ">= 0", WHY),
        Column("d90", INT, "Smallest distance within which nine tenths of it are.", "tokens", ">= 0", WHY),
        Column("peak", INT, "Distance of the largest lift.", "tokens", ">= 0", WHY),
        UNMEASURED,
        Column("no_kernel", STRING, "Why there is no kernel.", null_when="there is"),
    ),
)

HEAD_EXAMPLES = Table(
    "head_examples",
    "Where each head attends most on text: of three passages the query whose largest weight is largest, and"
    " its keys.",
    "one row per layer, head, passage and key: three passages, and three keys of each, the largest first",
    (
        LAYER,
        HEAD,
        Column("example", INT, "Number of the passage: 1 has the largest weight.", "passage", "1 .. 3"),
        Column("passage", STRING, "Its prompt_id in the table prompts."),
        Column("query", INT, "Position of the query, which is no sink.", "token index", ">= 0"),
        Column("query_token", STRING, "Its token."),
        Column("before", STRING, "The text of up to 8 tokens before it."),
        Column("key", INT, "Position of the key, which is no sink.", "token index", ">= 0"),
        Column("key_token", STRING, "Its token."),
        share("weight", "The head's attention on the key. A layer that shows no weights has no rows."),
    ),
)
