"""Print what a batch found."""

from __future__ import annotations

from typing import Any

from elimtool.analysis.closing import spell_prob
from elimtool.analysis.experts import dropped_in_words
from elimtool.files.rows import Row, Rows
from elimtool.report.recovery import recovery_summary_sentence
from elimtool.report.risk import risk_sentences
from elimtool.report.screen import Screen

NAME = 24
MESSAGE = 240
TEXT = 40


def batch_lines(found: dict[str, Any], n_errors: int, screen: Screen) -> list[str]:
    """Write the results of ``elimtool.analysis.batch.batch_results``, without the command to try next."""
    lines: list[str] = []
    if found["outcomes"]:
        total = sum(found["outcomes"].values())
        told = ", ".join(
            f"{name.replace('_', ' ')} {count:,} ({count / total:.0%})"
            for name, count in found["outcomes"].items()
        )
        lines += _wrapped(f"{total:,} verdict{'' if total == 1 else 's'}: {told}", screen)
    if found.get("experts"):
        lines += _wrapped(_experts(found["experts"]), screen)
    for one in found.get("recovery", ()):
        lines += _wrapped(recovery_summary_sentence(one), screen)
    for told in risk_sentences(found["risk"]) if found.get("risk") else ():
        lines += _wrapped(screen.visible(told), screen)
    if found["first_errors"]:
        shown = len(found["first_errors"])
        count = f"{n_errors:,} error{'' if n_errors == 1 else 's'}"
        lines.append(f"{count}, the first {shown}:" if n_errors > shown else f"{count}:")
        for row in found["first_errors"]:
            message = screen.shorten(screen.visible(row["error_message"] or ""), MESSAGE)
            lines += _wrapped(f"{screen.visible(row['prompt_id'])}: {message}", screen, 2)
    lines += _lacking(found["left_out"], screen) if found.get("left_out") else []
    worst = found["worst"]
    if len(worst) > 1:
        alike = all(row["final_rank"] == 1 for row in worst)
        measure = "least probable first choice" if alike else "final rank of the first token followed"
        lines.append(f"worst prompts, by {measure}:")
        for row in worst:
            lines += _wrapped(_fate(row, screen), screen, 2)
    return lines


def _lacking(found: dict[str, Any], screen: Screen) -> list[str]:
    count = found["prompts"]
    lines = [f"{count:,} prompt{' lacks' if count == 1 else 's lack'} tables, in full in prompts.left_out:"]
    for row in found["first"]:
        reasons = screen.shorten(screen.visible("; ".join(row["reasons"])), MESSAGE)
        lines += _wrapped(f"{screen.visible(row['prompt_id'])}: {reasons}", screen, 2)
    return lines


def _experts(layers: Rows) -> str:
    busiest = max(layers, key=lambda row: row["busiest_share"])
    idle = sum(row["n_idle"] for row in layers)
    total = sum(row["n_experts"] for row in layers)
    said = f"experts: {dropped_in_words(layers)}; " if dropped_in_words(layers) else "experts: "
    said += (
        f"busiest expert {busiest['layer']}.{busiest['busiest']}, in {busiest['busiest_share']:.0%} of the"
    )
    return f"{said} positions; {idle:,} of {total:,} never ran"


def _fate(row: Row, screen: Screen) -> str:
    target, outcome = screen.quoted(row["target"], NAME), row["outcome"].replace("_", " ")
    place = f"rank {row['final_rank']:,}, p {spell_prob(row['final_prob'])}"
    text = screen.shorten(screen.spaced(row["text"] or ""), TEXT)
    return f'{screen.visible(row["prompt_id"])} "{text}": {target} {place}, {outcome}'


def _wrapped(text: str, screen: Screen, indent: int = 0) -> list[str]:
    return [line.plain for line in screen.wrap(text, indent=indent, hang=2)]
