"""The tables of ``elimtool locate``: what patching each layer and position restores, and destroys."""

from __future__ import annotations

from dataclasses import replace

from elimtool.run.columns import (
    BOOL,
    FLOAT,
    INT,
    INTS,
    PROMPT_ID,
    STRING,
    TARGET,
    TARGET_TOKEN,
    Column,
    Table,
)

NOISY = "the clean prompt was corrupted by noise"
NOT_ALL = "not all unrelated prompts were run, as r_null_n and q_null_n say"
CORRUPT = Column("corrupt_id", STRING, "Identifier of the corrupt prompt.", null_when=NOISY)
MEAN = "the target's logit is compared with the mean logit of all tokens"
FOIL = Column("foil", STRING, "Foil as the user asked for it.", null_when=MEAN)
SCORED = (
    TARGET_TOKEN,
    replace(
        TARGET_TOKEN,
        name="foil_token",
        description="Text of the token that stands for the foil.",
        null_when=MEAN,
    ),
)
"""Columns of the tokens that values are of; they stand last, since older runs lack them."""
SHARE = "share of the gap"

LOCATIONS = Table(
    "locations",
    "Where what decides between target and foil sits: what patching layers and positions does.",
    "one row per pair of prompts, site, stretch of layers, head and stretch of positions",
    (
        PROMPT_ID,
        CORRUPT,
        TARGET,
        FOIL,
        Column(
            "site",
            STRING,
            "What is patched: the residual stream after a layer, or the output of its attention, of its MLP"
            " (each after the norm that some families put there, before it is added) or of one head.",
            range="residual, attention, mlp, head",
        ),
        Column(
            "extent",
            STRING,
            "What the row covers: 'cell' one layer and position; 'stretch' several layers or positions (or"
            " all heads) patched together, which did not count and so were not divided; 'changed' all"
            " positions from the first to the last that differs, patched together; 'shared' the positions"
            " before the first difference, which need not be run.",
            range="cell, stretch, changed, shared",
        ),
        Column(
            "layer",
            INT,
            "First layer that is patched; -1 is the embedding.",
            unit="layer index",
            range="-1 .. layers - 1",
        ),
        Column(
            "last_layer",
            INT,
            "Last layer that is patched.",
            unit="layer index",
            range="layer .. layers - 1",
        ),
        Column(
            "head",
            INT,
            "Head that is patched.",
            unit="head index",
            range="0 .. heads - 1",
            null_when="the row is not of a single head",
        ),
        Column("position", INT, "First position that is patched.", unit="token index", range=">= 0"),
        Column(
            "last_position", INT, "Last position that is patched.", unit="token index", range=">= position"
        ),
        Column(
            "r",
            FLOAT,
            "What the clean run's state restores when it is put into the corrupt run: (value there - corrupt)"
            " / gap, with the values of location_pairs. 1 restores all.",
            unit=SHARE,
            null_when="the gap is 0",
        ),
        Column(
            "q",
            FLOAT,
            "What the corrupt run's state destroys when it is put into the clean run: (clean - value there) /"
            " gap. 1 destroys all.",
            unit=SHARE,
            null_when="the gap is 0",
        ),
        Column(
            "r_null",
            FLOAT,
            "95th percentile of |r| where the state comes from unrelated prompts of the same length.",
            unit=SHARE,
            range=">= 0",
            null_when=NOT_ALL,
        ),
        Column("q_null", FLOAT, "The same of |q|.", unit=SHARE, range=">= 0", null_when=NOT_ALL),
        Column(
            "r_null_n",
            INT,
            "Unrelated prompts whose states were put in for r_null. Fewer than unrelated in location_pairs"
            " where it was settled that r does not count: it is negligible, or enough of these do as much.",
            unit="prompts",
            range="0 .. unrelated",
        ),
        Column("q_null_n", INT, "The same for q_null.", unit="prompts", range="0 .. unrelated"),
        Column(
            "r_counts",
            BOOL,
            "Whether |r| exceeds r_null and 0.01, and something can be located (located in location_pairs).",
        ),
        Column("q_counts", BOOL, "The same of q."),
        *SCORED,
    ),
)

LOCATION_PAIRS = Table(
    "location_pairs",
    "How far a clean and a corrupt run are apart, and whether anything can be located between them.",
    "one row per pair of prompts",
    (
        PROMPT_ID,
        CORRUPT,
        TARGET,
        FOIL,
        Column("position", INT, "Position that is read, the last.", unit="token index", range=">= 0"),
        Column("changed", INTS, "Positions that differ, or that got noise.", unit="token index"),
        Column(
            "draws",
            INT,
            "Draws of noise; values are means over them.",
            unit="draws",
            range=">= 1",
            null_when="the prompt is corrupted by another prompt",
        ),
        Column(
            "unrelated", INT, "Unrelated prompts whose states make the null.", unit="prompts", range=">= 1"
        ),
        Column("clean", FLOAT, "logit(target) - logit(foil) of the clean run.", unit="nats"),
        Column("corrupt", FLOAT, "The same of the corrupt run.", unit="nats"),
        Column("gap", FLOAT, "clean - corrupt.", unit="nats"),
        Column(
            "random_gap",
            FLOAT,
            "Median difference between two random replacements of the changed tokens: by tokens of unrelated"
            " prompts, or between draws of noise.",
            unit="nats",
            range=">= 0",
            null_when="there are fewer than two",
        ),
        Column(
            "located",
            BOOL,
            "Whether the gap exceeds 0.5 nats and twice random_gap. If not, no location counts.",
        ),
        Column(
            "tokens_processed",
            INT,
            "Tokens run forward; a token that only some layers are run for counts by their share.",
            unit="tokens",
            range=">= 1",
        ),
        *SCORED,
    ),
)
