"""The tables of speculation in a comparison: what becomes of the tokens that a draft model proposes."""

from __future__ import annotations

from elimtool.run.columns import FLOAT, INT, STRING, Column, Table, probability, rank
from elimtool.run.tables.comparison.sides import PAIR_ID

_CHAIN = Column("chain", STRING, "Name of the target's sampler chain, which drafted tokens are held against.")
_RULE = Column(
    "rule",
    STRING,
    "How a drafted token is accepted: standard (by the ratio of the two probabilities), match (the target"
    " draws the same token), greedy (it is the target's best), siblings (the target draws one of the draft's"
    " four best), ensemble (standard against a mixture of both models), block (standard for all tokens"
    " together).",
    range="standard, match, greedy, siblings, ensemble, block",
)
_STEP = Column("step", INT, "Place of the drafted token, from 0.", unit="tokens", range=">= 0")
_PASS = "tokens a pass"

SPECULATION = Table(
    "speculation",
    "How many tokens a pass of the target model yields when the draft model proposes them. Filled where"
    " speculation was asked for.",
    "one row per pair, chain and rule",
    (
        PAIR_ID,
        _CHAIN,
        _RULE,
        Column("n_drafted", INT, "Tokens that the draft proposed.", unit="tokens", range=">= 1"),
        Column(
            "expected_tokens",
            FLOAT,
            "1 plus the sum over places of the product of alpha up to there: tokens a pass of a draft like"
            " this one on this text. Of block: as drafted_tokens.",
            unit=_PASS,
            range=">= 1",
        ),
        Column(
            "drafted_tokens",
            FLOAT,
            "1 plus the expected number of the very tokens proposed here that are accepted before the first"
            " rejection.",
            unit=_PASS,
            range=">= 1",
        ),
        Column(
            "self_tokens",
            FLOAT,
            "expected_tokens if the draft were the target model itself, with the draft's chain: what even a"
            " perfect draft loses to the rule and the chain.",
            unit=_PASS,
            range=">= 1",
            null_when="the rule is block, which judges drawn tokens only",
        ),
        Column(
            "worst_step",
            INT,
            "The place with the least alpha, the first of several.",
            unit="tokens",
            range=">= 0",
        ),
    ),
)

SPECULATION_STEPS = Table(
    "speculation_steps",
    "Each token that the draft model proposes, and what the target's chain leaves of it.",
    "one row per pair, chain and drafted token",
    (
        PAIR_ID,
        _CHAIN,
        _STEP,
        Column("position", INT, "Index of the token that predicts it.", unit="token index", range=">= 0"),
        Column("token", STRING, "The drafted token."),
        Column("token_id", INT, "Its vocabulary id.", unit="token id", range="0 .. vocabulary - 1"),
        probability("draft_prob", "Its probability in the draft's output, after the draft's chain."),
        probability("model_prob", "Its probability in the target's output, before the chain."),
        rank("model_rank", "Its place among all tokens there."),
        probability("target_prob", "Its probability after the target's chain; 0 where that removes it."),
        Column(
            "cut_stage",
            STRING,
            "Stage of the target's chain that removes it.",
            null_when="the chain leaves the token",
        ),
        probability(
            "mass_refused", "Share of the draft's distribution on tokens that the target's chain removes."
        ),
        Column("target_token", STRING, "Most probable token after the target's chain."),
        probability("target_token_prob", "Its probability there."),
    ),
)

SPECULATION_RULES = Table(
    "speculation_rules",
    "Whether each drafted token is accepted, by every rule.",
    "one row per pair, chain, drafted token and rule",
    (
        PAIR_ID,
        _CHAIN,
        _STEP,
        _RULE,
        probability(
            "accept",
            "Probability that the drafted token is accepted; of block: that the tokens up to it are.",
        ),
        probability(
            "alpha",
            "Probability that a token drawn anew from the draft there is accepted: the overlap of both"
            " distributions for standard and block.",
        ),
        probability(
            "self_alpha",
            "alpha if the draft were the target model itself, with the draft's chain.",
            null_when="the rule is block",
        ),
        probability("reached", "Probability that this token and all before it are accepted."),
        Column(
            "bias",
            FLOAT,
            "Total variation distance between what the rule emits there and the target's chain; 0: lossless.",
            unit="probability",
            range="0 .. 1",
        ),
        Column(
            "residual_token",
            STRING,
            "Most probable token where this one is rejected.",
            null_when="it is never rejected",
        ),
        probability("residual_prob", "Its probability then.", null_when="it is never rejected"),
    ),
)
