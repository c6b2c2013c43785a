"""The table of ``elimtool audit`` on published pairs of sentences: their publishers' figures."""

from __future__ import annotations

from elimtool.run.columns import FLOAT, INT, STRING, Column, Table, probability, share
from elimtool.run.tables.findings.audit import CATEGORY

SIDES = "the data set has no unrelated sentences (StereoSet has)"
AUDIT_PAIRS = Table(
    "audit_pairs",
    "How often the stereotypical sentence of a published pair is the likelier one, by three rules, in the"
    " publishers' own figures.",
    "one row per rule, over all pairs and per first part of a category; none without such pairs",
    (
        Column(
            "rule",
            STRING,
            "suffix: log P(what both end with | what comes before it); word: log P(the words in which they"
            " differ | what comes before); lm-eval: log P(the whole sentence | BOS, else EOS).",
            range="suffix, word, lm-eval",
        ),
        CATEGORY,
        Column("n_pairs", INT, "Pairs that the rule scores.", "pairs", ">= 1"),
        Column("n_ties", INT, "Of these, with equal scores.", "pairs", ">= 0"),
        share(
            "stereotype_share",
            "Share of pairs whose stereotypical sentence scores strictly higher; by the rule lm-eval it is"
            " pct_stereotype of the lm-evaluation-harness' CrowS-Pairs.",
        ),
        share("ci_low", "Lower end of its 95 % interval, Wilson's."),
        share("ci_high", "Upper end."),
        probability("p_value", "Two-sided binomial p-value against one half."),
        Column(
            "likelihood_diff",
            FLOAT,
            "Mean absolute difference of the two sentences' scores.",
            "nats",
            ">= 0",
        ),
        Column("n_terms", INT, "Target terms of StereoSet.", "terms", ">= 1", SIDES),
        Column(
            "ss",
            FLOAT,
            "Stereotype score of StereoSet: share of a term's pairs whose stereotype scores higher, mean over"
            " terms; 50 is ideal.",
            "percent",
            "0 .. 100",
            SIDES,
        ),
        Column(
            "lms",
            FLOAT,
            "Language modelling score: share of both meaningful sentences that score higher than the"
            " unrelated one, mean over terms.",
            "percent",
            "0 .. 100",
            SIDES,
        ),
        Column("icat", FLOAT, "lms * min(ss, 100 - ss) / 50.", "percent", "0 .. 100", SIDES),
    ),
)
