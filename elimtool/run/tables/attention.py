"""The tables of attention: the share of a query's row that each span got, by layer and by head."""

from __future__ import annotations

from dataclasses import replace

from elimtool.prompts.prompt import NULL, REST, SINK
from elimtool.run.columns import (
    FLOAT,
    INT,
    LAYER,
    POSITION,
    PROMPT_ID,
    SMALL_FLOAT,
    STRING,
    AskedBy,
    Column,
    Table,
    share,
)

UNSEEN = "no token of the span is visible (later than the query, or outside the layer's window)"
NOT_NULL = f"{UNSEEN}, or the span is '{NULL}'"
NO_WEIGHTS = "this block has no attention weights"
SINK_TAKES_ALL = "every head leaves less than 0.01 to keys outside the sink set"

SPAN = Column(
    "span",
    STRING,
    f"Name of the span: the user's, a chat role, a sentence, 'INDEX:TEXT' for a single token, '{SINK}' for"
    f" the sink set, '{REST}' for the tokens that neither it nor a named span or role covers, or '{NULL}' for"
    " what heads give to no token, but to a learned score without a key (only in layers that have one).",
)
MASS = share(
    "mass",
    "Share of attention that the query gives to the span: the weights on the span's tokens summed per head,"
    " then the mean over heads.",
    null_when=UNSEEN,
)
LIFT = Column(
    "lift",
    FLOAT,
    "Attention on the span relative to an even spread over all visible keys: mass x n_keys / span_size. 1 is"
    " an even share; comparable across positions and prompts, which mass is not.",
    unit="ratio",
    range="0 .. n_keys",
    null_when=NOT_NULL,
)
MASS_NO_SINK = share(
    "mass_no_sink",
    "Share of the span in what the sink set leaves: per head the mass on the span without its sink tokens,"
    " over the mass on keys outside the set; then the mean over the heads that leave these at least 0.01.",
    null_when=f"the span is '{SINK}' or '{NULL}' or holds no visible token outside it, or {SINK_TAKES_ALL}",
)

UNKNOWN = "the parts of the layer's update are not known (attention_layers.undecomposed says why)"
UNSEEN_PARTS = f"{UNSEEN}, or {UNKNOWN}"
ALL = (
    "the prompt has more than 128 tokens or every position is probed, and neither 'contributions' nor"
    " 'recovery' is named in `tables`"
)
NORM_SHARE = share(
    "norm_share",
    "Share of the span in what heads carry, by length: the norm of the vector that a head moves from each"
    " token (weight x value x output projection), summed over the span's tokens, over the sum for all"
    f" visible keys; then the mean over heads. 0 for '{NULL}'.",
    null_when=UNSEEN_PARTS,
)

ATTENTION = Table(
    "attention",
    "How much attention each span of the prompt kept, layer by layer.",
    "one row per prompt, position, layer and span",
    (
        PROMPT_ID,
        POSITION,
        LAYER,
        SPAN,
        Column(
            "span_size",
            INT,
            "Number of the span's tokens that the query can see in this layer.",
            unit="tokens",
            range="0 .. n_keys",
        ),
        Column(
            "n_keys",
            INT,
            "Number of keys that the query can see in this layer: position + 1, or the sliding window where"
            " that is smaller.",
            unit="tokens",
            range="1 .. position + 1",
        ),
        MASS,
        share("mass_max", "Mass on the span in the head that gives it the most.", null_when=UNSEEN),
        Column(
            "mass_max_head",
            INT,
            "Query head that gives the span the most mass; the lowest index among equals.",
            unit="head index",
            range="0 .. heads - 1",
            null_when=UNSEEN,
        ),
        LIFT,
        MASS_NO_SINK,
        Column(
            "lift_no_sink",
            FLOAT,
            "mass_no_sink relative to an even spread, with keys and span counted without the sink set:"
            " mass_no_sink x visible non-sink keys / visible non-sink tokens of the span.",
            unit="ratio",
            range="0 .. visible non-sink keys",
            null_when="mass_no_sink is null",
        ),
        NORM_SHARE,
        share(
            "block_share",
            "The same share of norms after the heads' vectors are summed for each token: what heads write"
            " against each other does not count. For the sink it is far below norm_share.",
            null_when=f"{UNSEEN_PARTS}, or {ALL}",
        ),
        share(
            "contribution",
            "Share of the span in the residual stream after attention (after the block, where attention and"
            " MLP are parallel): how much closer each token's part brings the rest to the sum, in the 1-norm"
            " and clipped at 0, over the sum for all parts. The rest is the residual's and the biases', see"
            " table 'contributions'. A part that pulls against the sum counts as 0.",
            null_when=f"{UNSEEN_PARTS}, no part is closer than none, or {ALL}",
        ),
        Column(
            "alignment",
            FLOAT,
            "What the span adds along the residual stream after attention (after a parallel block): dot"
            " product of its part with the sum, over the sum's squared length. All parts of a step sum to 1;"
            " negative pulls against the result.",
            unit="share",
            null_when=UNSEEN_PARTS,
        ),
    ),
)

ATTENTION_HEADS = Table(
    "attention_heads",
    "The same shares of attention, head by head.",
    "one row per prompt, position, layer, head and span",
    (
        PROMPT_ID,
        POSITION,
        LAYER,
        Column("head", INT, "Query head.", unit="head index", range="0 .. heads - 1"),
        SPAN,
        replace(
            MASS,
            type=SMALL_FLOAT,
            description="Share of attention that this head's query gives to the span: the sum of its weights"
            " on the span's tokens.",
        ),
        replace(LIFT, type=SMALL_FLOAT),
        replace(
            MASS_NO_SINK,
            type=SMALL_FLOAT,
            description="Share of the span in what this head leaves outside the sink set: the mass on the"
            " span without its sink tokens, over the mass on keys outside the set.",
            null_when=f"the span is '{SINK}' or '{NULL}' or holds no visible token outside it, or the head"
            " leaves less than 0.01 to keys outside the sink set",
        ),
        replace(
            NORM_SHARE,
            type=SMALL_FLOAT,
            description="Share of the span in what this head carries, by length: the norms of the vectors"
            " that it moves from the span's tokens, over the sum for all visible keys.",
        ),
    ),
)

ATTENTION_WEIGHTS = Table(
    "attention_weights",
    "The attention weights of the heads that were asked for (`attention_of`), key by key.",
    "one row per prompt, position, layer, head and key up to the position",
    (
        PROMPT_ID,
        POSITION,
        LAYER,
        Column("head", INT, "Query head.", unit="head index", range="0 .. heads - 1"),
        Column(
            "key", INT, "Token index that the query attends to.", unit="token index", range="0 .. position"
        ),
        Column(
            "weight",
            SMALL_FLOAT,
            "Attention weight after the softmax; the weights of a query sum to 1 in each head, but"
            f" for what goes to '{NULL}'.",
            unit="share",
            range="0 .. 1",
            null_when="the layer's sliding window hides the key",
        ),
    ),
    asked_by=AskedBy("attention_of", "name heads with it, such as 17.3"),
)

ATTENTION_LAYERS = Table(
    "attention_layers",
    "How widely a layer's heads attend, how much the sink takes, and what share of the keys they drop.",
    "one row per prompt, position and layer, also of layers without attention weights",
    (
        PROMPT_ID,
        POSITION,
        LAYER,
        Column(
            "entropy",
            FLOAT,
            "Shannon entropy of the query's attention row (natural logarithm) per head, then the mean over"
            f" heads. With a '{NULL}', of what visible keys get, divided by its sum.",
            unit="nats",
            range="0 .. ln(visible keys)",
            null_when=NO_WEIGHTS,
        ),
        Column(
            "n_eff",
            FLOAT,
            "Effective number of keys attended to: exp(entropy) per head, then the mean over heads. Not the"
            " exponential of the entropy column.",
            unit="tokens",
            range="1 .. visible keys",
            null_when=NO_WEIGHTS,
        ),
        share(
            "sink_mass",
            "Share of attention on the sink set per head, then the mean over heads.",
            null_when=f"the prompt has no sink set, or {NO_WEIGHTS}",
        ),
        share(
            "eliminated_frac",
            "Share of (head, visible non-sink key) pairs whose weight, renormalised without the sink set,"
            " is below the threshold that rule names; over the heads that leave these keys at least 0.01.",
            null_when=f"no key outside the sink set is visible, {SINK_TAKES_ALL}, or {NO_WEIGHTS}",
        ),
        share(
            "masked_frac",
            "Share of the keys up to the query that the layer's sliding window hides from it; 0 in a layer"
            " without one. Such keys are masked, not eliminated.",
            null_when=NO_WEIGHTS,
        ),
        Column(
            "rule",
            STRING,
            "Name of the elimination threshold: 'lt_0.25_uniform' is a quarter of an even spread over the"
            " visible non-sink keys.",
            null_when=NO_WEIGHTS,
        ),
        Column(
            "no_weights",
            STRING,
            "Why the layer has no attention weights here: a state space, convolution or linear attention has"
            " none, and some are not shown. The tables of spans and heads have no rows of it.",
            null_when="it has attention weights",
        ),
        share(
            "null_mass",
            "Share of attention that goes to no token, but to a learned score without a key; mean over"
            " heads.",
            null_when=f"the layer has no such score, or {NO_WEIGHTS}",
        ),
        share(
            "sink_norm_share",
            "norm_share of the sink set: its share in what heads carry, by length; mean over heads.",
            null_when=f"the prompt has no sink set, {UNKNOWN}, or {NO_WEIGHTS}",
        ),
        Column(
            "sink_value_ratio",
            FLOAT,
            "How much a head would carry from the sinks at equal weight: mean norm of value x output"
            " projection over the visible sink tokens, over the median of the other visible keys; median"
            " over heads. Under 1, weight is parked where little is carried.",
            unit="ratio",
            range="0 ..",
            null_when=f"no sink or no other key is visible, {UNKNOWN}, {NO_WEIGHTS}, or {ALL}",
        ),
        share(
            "mixing",
            "Share of the stream after attention that comes from other tokens: the norm of all that attention"
            " carries from other keys, over itself plus the norm of residual and own token together.",
            null_when=f"{UNKNOWN}, or {NO_WEIGHTS}",
        ),
        share(
            "clipped",
            "Share of visible keys whose part counts as 0 in 'contribution', since it does not bring the rest"
            " closer to the sum.",
            null_when=f"{UNKNOWN}, {NO_WEIGHTS}, or {ALL}",
        ),
        share(
            "negative_frac",
            "Share of visible keys with an attention score below 0 (after scale, soft cap and position bias);"
            " mean over heads. Softmax ignores a shift of all scores, so heads and models do not compare,"
            f" unless the layer has a '{NULL}'.",
            null_when=f"the scores are not shown, or {NO_WEIGHTS}",
        ),
        share(
            "negative_mass",
            "Weight of the visible keys with a score below 0; mean over heads. As little comparable as"
            " negative_frac.",
            null_when=f"the scores are not shown, or {NO_WEIGHTS}",
        ),
        share(
            "below_mean_mass",
            "Weight of the visible keys whose score is under the row's mean score, by more than a millionth"
            " of the row's range; mean over heads. A shift of all scores does not change it.",
            null_when=f"the scores are not shown, or {NO_WEIGHTS}",
        ),
        Column(
            "context_90",
            INT,
            "Effective context: the nearest visible non-sink keys, the query's own token first, that hold"
            " 0.9 of the weight on all of them; of the mean over heads of rows without the sink.",
            unit="tokens",
            range="1 .. visible non-sink keys",
            null_when=f"no key outside the sink set is visible, {SINK_TAKES_ALL}, or {NO_WEIGHTS}",
        ),
        Column(
            "context_90_even",
            INT,
            "What context_90 would be if the weight were spread evenly.",
            unit="tokens",
            range="1 .. visible non-sink keys",
            null_when="context_90 is null",
        ),
        Column(
            "undecomposed",
            STRING,
            "Why the parts of the layer's update are not known: norm_share, block_share, contribution,"
            " alignment and mixing are then null.",
            null_when="they are known, or the layer has no attention weights",
        ),
    ),
)
