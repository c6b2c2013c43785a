"""The tables of the lens: what the residual stream would predict after each block."""

from __future__ import annotations

from elimtool.run.columns import (
    AFTER_LAYER,
    BOOL,
    FLOAT,
    INT,
    POSITION,
    PROMPT_ID,
    STRING,
    TARGET,
    TARGET_TOKEN,
    TOKEN_ID,
    Column,
    Table,
    probability,
    rank,
    share,
)

LENS_NAME = Column(
    "lens",
    STRING,
    "Lens through which the residual stream is read: 'raw' is the model's own final norm and unembedding;"
    " others first map the layer onto the last one, and run.json names their file. At the last layer every"
    " lens is the model's own output.",
)

UNWALKED = "neither encoding_walk nor encoding_steps is named in `tables`, or the final norm gives 0"

LENS = Table(
    "lens",
    "Rank and probability of each target after each block.",
    "one row per prompt, position, layer and target or foil",
    (
        PROMPT_ID,
        POSITION,
        AFTER_LAYER,
        LENS_NAME,
        TARGET,
        TOKEN_ID,
        Column("is_foil", BOOL, "Whether the row is of a foil, followed only for contrast with the targets."),
        rank(
            "rank",
            "Place of the token among all tokens: 1 plus the number of tokens with a strictly larger logit."
            " 1 is the most probable.",
        ),
        Column(
            "rank_ties",
            INT,
            "Number of other tokens with exactly the same logit; the rank under the opposite reading of ties"
            " is rank + rank_ties.",
            unit="tokens",
            range="0 .. vocabulary - 1",
        ),
        Column("logprob", FLOAT, "Natural logarithm of prob.", unit="nats", range="<= 0"),
        probability(
            "prob",
            "Probability of the token in the lens distribution. The raw lens is over-confident before the"
            " last layers: compare ranks there.",
        ),
        Column(
            "logit",
            FLOAT,
            "Score of the token before the softmax, after the soft cap and scale that the model applies, if"
            " any.",
            unit="logit",
        ),
        TARGET_TOKEN,
        Column(
            "cosine",
            FLOAT,
            "Cosine of the residual, as the lens maps it and after the final norm, with the token's row of"
            " the unembedding: the logit without the lengths of both.",
            unit="cosine",
            range="-1 .. 1",
            null_when=UNWALKED,
        ),
        rank(
            "cosine_rank",
            "Place of the token among all tokens by that cosine. Where it differs from rank, the lengths of"
            " the unembedding's rows (and a bias of it) do that.",
            null_when=UNWALKED,
        ),
    ),
)

LENS_LAYERS = Table(
    "lens_layers",
    "How decided each layer's distribution is, and how far it is from the model's output.",
    "one row per prompt, position and layer",
    (
        PROMPT_ID,
        POSITION,
        AFTER_LAYER,
        LENS_NAME,
        Column("top_token", STRING, "Text of the most probable token of this layer."),
        Column(
            "top_token_id",
            INT,
            "Id of the most probable token of this layer; the lowest id among equals.",
            unit="token id",
            range="0 .. vocabulary - 1",
        ),
        probability("top_prob", "Probability of the most probable token."),
        Column(
            "entropy",
            FLOAT,
            "Shannon entropy of the layer's distribution (natural logarithm).",
            unit="nats",
            range="0 .. ln(vocabulary)",
        ),
        Column(
            "collision",
            FLOAT,
            "Chance that two independent draws from the distribution agree: the sum of the squared"
            " probabilities.",
            unit="probability",
            range="1 / vocabulary .. 1",
        ),
        Column(
            "nucleus_size",
            INT,
            "Number of tokens in the nucleus: the fewest most probable tokens that hold 0.9 of the mass.",
            unit="tokens",
            range="1 .. vocabulary",
        ),
        Column(
            "kl_to_final",
            FLOAT,
            "Kullback-Leibler divergence KL(final || layer) of the layer's distribution from the model's"
            " output, clamped at 0.",
            unit="nats",
            range=">= 0",
        ),
        share(
            "survivor_jaccard",
            "Overlap of the layer's 0.9 nucleus with that of the model's output: tokens in both over tokens"
            " in either. 1 at the last layer.",
        ),
        probability(
            "survivor_mass", "Probability that this layer gives to the tokens of the output's 0.9 nucleus."
        ),
    ),
)
