"""What ``elimtool check`` prints."""

from __future__ import annotations

from typing import get_args

from elimtool.cli.schemas.making import Schema, list_of, made_from, object_of, or_null, value


def check() -> Schema:
    """Describe what checks found."""
    from elimtool.analysis.check.findings import Status
    from elimtool.analysis.check.paired import PairedDifference

    status = {"enum": list(get_args(Status)), "description": "What came of it."}
    finding = {
        "prompt": or_null("string", "Id of the prompt; null for one value of all prompts."),
        "status": status,
        "seen": {"description": "The value; infinities as texts."},
        "expected": value("string", "What would have passed, in words."),
        "baseline": {"description": "The baseline's value; null without one."},
        "off": {"type": ["number", "string", "null"], "description": "How far past what passes."},
        "where": value("string", "Target, chain, stage, span and layers, in words."),
        "message": value("string", "One sentence: expected, seen, how far off, where."),
        "causes": list_of({"type": "string"}, "What changed since the baseline and may explain it."),
        "story": value("string", "What became of the target; empty if the run does not say."),
    }
    result = {
        "id": value("string", "Id of the check."),
        "line": value("integer", "Its line in the file."),
        "why": value("string", "Why it is there, as the file says."),
        "metric": value("string", "What it reads."),
        "status": status,
        "n": value("integer", "Findings."),
        "n_passed": value("integer", "Findings that passed."),
        "mostly": value("number", "Share of the prompts that had to pass."),
        "findings": list_of(object_of(finding, "A prompt under a check."), "One for each prompt."),
    }
    keys = {
        "file": value("string", "The check file."),
        "model": value("string", "The model, as it was named."),
        "passed": value("boolean", "Whether the exit code is 0."),
        "exit_code": value("integer", "Exit code of the command."),
        "checks": list_of(object_of(result, "A check."), "The checks, in the order of the file."),
        "warnings": list_of({"type": "string"}, "What fails only with `--strict`."),
        "mismatch": list_of({"type": "string"}, "How the baseline's identity differs."),
        "missing": value("string", "The baseline that the file names, if there is none."),
        "updates": list_of({"type": "string"}, "What an update of the baseline changed."),
        "pairs": list_of(made_from(PairedDifference), "Differences from the run of `--against`."),
        "seconds": value("number", "How long it took."),
    }
    return object_of(keys, "What checks found.")


def noise() -> Schema:
    """Describe measured drift."""
    keys = {
        "file": value("string", "The file that the floors were written to."),
        "elimtool_noise": value("integer", "Version of its form."),
        "identity": value("object", "Model that they were measured on."),
        "variations": list_of({"type": "string"}, "What was changed."),
        "checks": value("object", "By check: floor, prompt, variation, unstable."),
    }
    return object_of(keys, "How far values drift without a cause.")
