"""The table of checks: what a check file found of a run, small enough to be kept for years."""

from __future__ import annotations

from elimtool.run.columns import FLOAT, INT, STRING, Column, Table

CHECKS = Table(
    "checks",
    "What the checks of a file found of this run, kept so that years of them can be queried.",
    "one row per check",
    (
        Column("file", STRING, "The check file, as it was given."),
        Column("check_id", STRING, "Id of the check."),
        Column("metric", STRING, "What it reads."),
        Column(
            "status", STRING, "What it found.", "", "passed, failed, no_baseline, not_comparable or error"
        ),
        Column("n_prompts", INT, "Prompts that it is about.", "prompts", ">= 1"),
        Column("n_passed", INT, "Those that passed.", "prompts", "0 .. n_prompts"),
        Column(
            "value",
            FLOAT,
            "Mean of the values that it judged; of truth values the share that are true.",
            unit="that of the metric",
            null_when="the values are texts or tokens, or none could be measured",
        ),
        Column(
            "off",
            FLOAT,
            "How far the worst value is past the nearest one that passes.",
            "that of the metric",
            ">= 0",
            "all passed, or the values have no distance",
        ),
        Column(
            "message",
            STRING,
            "What is wrong with the first prompt that did not pass.",
            null_when="all passed",
        ),
    ),
)
