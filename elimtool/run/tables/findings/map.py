"""The tables of ``elimtool map``: what heads, neurons and layers of a model do."""

from __future__ import annotations

from elimtool.run.columns import BOOL, FLOAT, INT, LAYER, STRING, Column, Table, probability, share
from elimtool.run.tables.findings.map_heads import (
    HEAD,
    HEAD_CATEGORIES,
    HEAD_DISTANCES,
    HEAD_EXAMPLES,
    HEAD_KERNELS,
    HEAD_SELECTIVITY,
    KV_GROUP,
)
from elimtool.run.tables.findings.map_layers import EXITS, LAYERS, NEURONS
from elimtool.run.tables.findings.map_pairs import HEAD_INTERACTIONS, HEAD_PAIRS

FEW_UNITS = "there are fewer than 2 passages or probes"
UNTESTED = "the role has no null, or its score is null"

HEAD_ROLES = Table(
    "head_roles",
    "How far each head does what a role names, beside what a head that does not would score.",
    "one row per layer, head and role",
    (
        LAYER,
        HEAD,
        KV_GROUP,
        Column(
            "role",
            STRING,
            "previous: attends to the token before; duplicate: to the same token before; induction: to what"
            " followed the same token; sink: to the sinks; dormant: gives nearly all to them; copying: the"
            " value of a token raises that token; suppressing: it lowers it; retrieval: the token that is to"
            " be said is found where it is told; successor: a word (digit, number, day, month, letter) makes"
            " the next one come first.",
        ),
        Column(
            "score",
            FLOAT,
            "Mean over the rows that have a target, then over passages or probes: of the attention on the"
            " target, or of the rows for which the role holds. copying and suppressing: of values whose own"
            " token stands above, or below, 990 of 999 random tokens. retrieval: of the answer's tokens at"
            " which the head's first key is that token in the hidden sentence.",
            "share",
            "0 .. 1",
            "fewer than 10 rows have a target, the layer has no attention weights, or, for copying,"
            " suppressing and successor, it is layer 0 or its values cannot be read; for retrieval, the model"
            " itself says fewer than half of the answers' tokens",
        ),
        Column(
            "score_held",
            FLOAT,
            "The same of every second passage or probe: rank heads by the others, report this.",
            "share",
            "0 .. 1",
            "as score",
        ),
        Column(
            "null",
            FLOAT,
            "Score of the null: previous, the mean of the keys 2 to 8 before; duplicate and induction, the"
            " same key where nothing repeats; sink, what uniform attention gives; copying and suppressing,"
            " 0.01; retrieval, another sentence is hidden; successor, 1 over the number of words.",
            "share",
            "0 .. 1",
            "as score, or the role has no null (dormant)",
        ),
        Column(
            "low",
            FLOAT,
            "Lower end of the score's 95 % interval over passages or probes.",
            "share",
            "0 .. 1",
            FEW_UNITS,
        ),
        Column("high", FLOAT, "Its upper end.", "share", "0 .. 1", FEW_UNITS),
        probability(
            "p",
            "One-sided p-value of score over null: sign flips over passages or probes; for successor exact,"
            " over words.",
            UNTESTED,
        ),
        probability("q", "p, adjusted over all heads of the role (Benjamini-Hochberg).", UNTESTED),
        Column(
            "present",
            BOOL,
            "Whether the head has the role: low is over null by 0.1 and q is at most 0.05; dormant: low is"
            " over 0.5.",
            null_when="score or low is null",
        ),
        Column("n_units", INT, "Passages or probes.", "passages", ">= 0"),
        Column("probe", STRING, "What it was measured on: text, repeats, needle or member (a word)."),
        Column(
            "output_ratio",
            FLOAT,
            "For dormant: mean size of what the head writes over the mean of its layer's heads. A head that"
            " rests on the sinks may write nothing, or the same everywhere.",
            "ratio",
            ">= 0",
            "the role is another one, or the heads' outputs cannot be read",
        ),
        share(
            "greedy",
            "For retrieval: the score over the tokens that the model itself would say.",
            "the role is another one, or score is null",
        ),
    ),
)

PART_TABLES: dict[str, tuple[Table, ...]] = {
    "roles": (HEAD_ROLES,),
    "categories": (HEAD_CATEGORIES, HEAD_SELECTIVITY),
    "distances": (HEAD_DISTANCES, HEAD_KERNELS),
    "redundancy": (HEAD_PAIRS, HEAD_INTERACTIONS),
    "neurons": (NEURONS,),
    "layers": (LAYERS, EXITS),
    "examples": (HEAD_EXAMPLES,),
}
"""Part of a map, as ``only`` names it -> the tables that it gives."""
