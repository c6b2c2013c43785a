"""The tables of attribution: what each part of a prompt did for a target, and how far to trust that."""

from __future__ import annotations

from elimtool.run.columns import (
    BOOL,
    FLOAT,
    INT,
    POSITION,
    PROMPT_ID,
    STRING,
    STRINGS,
    TARGET,
    TARGET_TOKEN,
    Column,
    Table,
)

WHOLE = "the method acts on the input or on all layers"
ONE = "the prompt has only one span to attribute to"
METHOD = Column(
    "method",
    STRING,
    "Method that gave the score.",
    range="leave-one-out, leave-one-out-masked, knockout, knockout-later, gradient-x-input,"
    " integrated-gradients, contextcite",
)

ATTRIBUTIONS = Table(
    "attributions",
    "Which part of the prompt did it: what each span did for or against a target, by each method.",
    "one row per prompt, target, span, method and window of layers",
    (
        PROMPT_ID,
        POSITION,
        TARGET,
        Column(
            "span",
            STRING,
            "Part of the prompt. Attention sinks and the token whose prediction is read belong to no part.",
        ),
        Column(
            "span_tokens",
            INT,
            "Number of its tokens that were ablated or summed over.",
            unit="tokens",
            range=">= 1",
        ),
        METHOD,
        Column(
            "first_layer",
            INT,
            "First layer in which attention to the span was cut.",
            unit="layer index",
            range="0 .. layers - 1",
            null_when=WHOLE,
        ),
        Column(
            "last_layer",
            INT,
            "Last layer in which attention to the span was cut.",
            unit="layer index",
            range="first_layer .. layers - 1",
            null_when=WHOLE,
        ),
        Column(
            "score",
            FLOAT,
            "What the span adds to the log-probability of the target, or to its log-odds against the foils"
            " where the prompt has some; above 0 the span preserves the target. Its unit is in score_unit.",
            unit="see score_unit",
        ),
        Column(
            "score_unit",
            STRING,
            "Unit of the score; logits are those of the target's probability against all other tokens.",
            range="nats, logits",
        ),
        Column(
            "direction",
            STRING,
            "What the span does to the target by this score; neutral is less than 0.01 in either direction.",
            range="preserving, eliminating, neutral",
        ),
        Column(
            "rank",
            INT,
            "Place of the span among all spans by this score, the most preserving first; equal scores share"
            " the better place.",
            unit="rank",
            range="1 .. spans",
        ),
        Column(
            "disagrees",
            STRING,
            "Where methods disagree about the span: sign (one finds it preserving, another eliminating), top"
            " (one ranks it first, another does not), or both as 'sign, top'.",
            range="sign, top, 'sign, top'",
            null_when="they agree, there is one method, or the row is one window of layers of several",
        ),
        TARGET_TOKEN,
    ),
)

ATTRIBUTION_METHODS = Table(
    "attribution_methods",
    "What each attribution cost, and how far it can be trusted.",
    "one row per prompt, target and method",
    (
        PROMPT_ID,
        POSITION,
        TARGET,
        METHOD,
        Column(
            "foils",
            STRINGS,
            "Foils that the target is compared with: the score is then of log p(target) - log sum p(foils)."
            " Empty without foils.",
        ),
        Column(
            "value",
            FLOAT,
            "Value that is attributed, for the whole prompt: log-probability of the target, or its log-odds"
            " against the foils.",
            unit="nats",
        ),
        Column(
            "n_forward_passes",
            INT,
            "Prompts run for this method, including the whole prompt and the removal of its top spans; all"
            " targets share these runs.",
            unit="passes",
            range=">= 1",
        ),
        Column(
            "n_backward_passes",
            INT,
            "Backward passes for this method and target.",
            unit="passes",
            range=">= 0",
        ),
        Column(
            "tokens_processed",
            INT,
            "Tokens in these forward passes; what several of a method's prompts begin with counts once if it"
            " was run once, but for the removal of its top spans.",
            unit="tokens",
            range=">= 1",
        ),
        Column(
            "prefix_shared",
            BOOL,
            "Whether what several of these prompts begin with was run once for them.",
        ),
        Column(
            "samples",
            INT,
            "Random ablations of contextcite, or points at which integrated gradients took the gradient.",
            unit="samples",
            range=">= 1",
            null_when="the method has no samples",
        ),
        Column(
            "completeness_error",
            FLOAT,
            "Sum of the scores minus the difference between prompt and baseline, as a share of that"
            " difference.",
            unit="share",
            range=">= 0",
            null_when="the method is not integrated-gradients, or prompt and baseline give the same value",
        ),
        Column(
            "fidelity",
            FLOAT,
            "Linear datamodelling score: rank correlation of the surrogate's predictions with the model's"
            " output on ablations that it was not fitted to, the mean over four folds.",
            unit="rank correlation",
            range="-1 .. 1",
            null_when="the method is not contextcite, or there are too few different ablations",
        ),
        Column(
            "r2",
            FLOAT,
            "Share of the variance on these ablations that the surrogate explains.",
            unit="share",
            range="<= 1",
            null_when="fidelity is null",
        ),
        Column("top_span", STRING, "The span that the method ranks first."),
        Column(
            "top_k",
            INT,
            "How many of the spans ranked first were removed together.",
            unit="spans",
            range="1 .. 3",
            null_when=ONE,
        ),
        Column(
            "top_k_drop",
            FLOAT,
            "How much value falls without them: the more, the more the method's first spans matter together.",
            unit="nats",
            null_when=ONE,
        ),
        TARGET_TOKEN,
    ),
)

ATTRIBUTION_AGREEMENT = Table(
    "attribution_agreement",
    "How far methods of attribution agree about a prompt.",
    "one row per prompt, target and pair of methods",
    (
        PROMPT_ID,
        POSITION,
        TARGET,
        Column("method", STRING, "One method."),
        Column("other_method", STRING, "Another, later in the order of the methods."),
        Column(
            "rank_correlation",
            FLOAT,
            "Spearman's rank correlation of both methods' scores over the spans, ties at their mean rank.",
            unit="rank correlation",
            range="-1 .. 1",
            null_when="there are fewer than three spans, or one method gives all of them the same score",
        ),
        Column("same_top", BOOL, "Whether both rank the same span first."),
        TARGET_TOKEN,
    ),
)
