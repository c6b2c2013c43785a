"""The table of a metric's history: a point for each run, with control limits and changes."""

from __future__ import annotations

from elimtool.run.columns import BOOL, FLOAT, INT, STRING, Column, Table

FEW = "fewer than two prompts are common to all runs, or the series is of one prompt"
FIRST = f"it is the first run, or {FEW}"
NO_LIMITS = "there are too few runs before for limits"

HISTORY = Table(
    "history",
    "How one number moved over many runs: control limits from the first of them, and paired changes.",
    "one row per series and run, in order",
    (
        Column("metric", STRING, "The number, as a check names it."),
        Column("prompt_id", STRING, "Prompt of the series.", null_when="the series is the mean over prompts"),
        Column("order", INT, "Place of the run in the series, from 0.", unit="index", range=">= 0"),
        Column("run", STRING, "Directory of the run, as it was given."),
        Column("label", STRING, "The user's name for the run.", null_when="it has none"),
        Column(
            "revision",
            STRING,
            "Revision of its model, as it was asked for; else its commit.",
            null_when="it has none",
        ),
        Column("started", STRING, "When it began (UTC, ISO 8601).", null_when="the run does not say"),
        Column(
            "n_prompts",
            INT,
            "Prompts that are averaged: those that have the number in all runs.",
            unit="prompts",
            range=">= 1",
        ),
        Column("value", FLOAT, "Mean of the number over these prompts."),
        Column("ci_low", FLOAT, "Lower end of its 95 % interval (Student's t over prompts).", null_when=FEW),
        Column("ci_high", FLOAT, "Upper end.", null_when=FEW),
        Column(
            "change", FLOAT, "Mean over prompts of this run's number minus the last run's.", null_when=FIRST
        ),
        Column("change_low", FLOAT, "Lower end of its 95 % interval, paired by prompt.", null_when=FIRST),
        Column("change_high", FLOAT, "Upper end.", null_when=FIRST),
        Column(
            "p_adjusted",
            FLOAT,
            "P-value of the change (Student's t over prompts), adjusted over the runs of the series (Holm).",
            "probability",
            "0 .. 1",
            f"{FIRST}, or there are fewer than 6 prompts",
        ),
        Column(
            "changed",
            BOOL,
            "Whether the run is a change point: p_adjusted is at most 0.05, and the change is past rounding.",
            null_when="p_adjusted is null",
        ),
        Column("centre", FLOAT, "Mean of the first runs.", null_when=NO_LIMITS),
        Column("low", FLOAT, "Lower control limit.", null_when=NO_LIMITS),
        Column("high", FLOAT, "Upper control limit.", null_when=NO_LIMITS),
        Column(
            "beyond",
            BOOL,
            "Whether the value is outside the limits.",
            null_when=f"{NO_LIMITS}, or the run is one of those that made them",
        ),
    ),
)
