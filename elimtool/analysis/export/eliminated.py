"""Gather the right answers that a run's model eliminated, and what to know of each for training."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import log
from typing import Any

from elimtool.analysis.fate import fate_of
from elimtool.errors import ElimError
from elimtool.files.rows import Row, Rows
from elimtool.run import Run

NEEDED = ("prompts", "verdicts", "survival", "top_tokens")
"""Tables that training examples are made of."""
STAGES = {"late_eliminated": "layer", "sampler_eliminated": "sampler"}
"""What eliminated an answer, by its outcome; for the others the output."""


@dataclass(frozen=True, slots=True)
class Eliminated:
    """A named target that did not survive.

    Attributes:
        elim_id: Prompt and target, unique in the run.
        prompt: The row of ``prompts``.
        ids: The token ids that the model was given, appended ones included, written ones not.
        spelling: The answer as it was scored.
        token_id: Its token that was scored.
        foils: Foils of the prompt as they were scored.
        right: The prompt's right answers: targets, and aliases of ``answers``.
        greedy: Most probable tokens after the prompt, as far as they are known: one, or those of a walk that
            took the most probable token at each step.
        greedy_from: Number of tokens of ``ids`` that they follow.
        outcome: What became of it.
        severity: ln p of the most probable token minus ln p of the answer's (nats); infinite where the model
            gives it probability 0.
        lost_layer: As in ``verdicts``, like the next two.
        cut_chain: Chain that removes it.
        cut_stage: Stage that removes it.
        setting: Setting of that stage that would have kept it, in words; empty where it is not known.
        template: Unit that is held out: its template, or the prompt where it has none.
    """

    elim_id: str
    prompt: Row
    ids: tuple[int, ...]
    spelling: str
    token_id: int
    foils: tuple[str, ...]
    right: tuple[str, ...]
    greedy: tuple[int, ...]
    greedy_from: int
    outcome: str
    severity: float
    lost_layer: int | None
    cut_chain: str | None
    cut_stage: str | None
    setting: str
    template: str

    @property
    def stage(self) -> str:
        """What eliminated it: ``layer``, ``output`` or ``sampler``."""
        return STAGES.get(self.outcome, "output")

    @property
    def turns(self) -> Rows:
        """Turns of a chat; none for plain text."""
        return self.prompt["turns"] or []


def eliminated(run: Run) -> tuple[list[Eliminated], tuple[str, ...]]:
    """Gather the named targets that did not survive, at the end of each prompt.

    Args:
        run: A finished run.

    Returns:
        The most severe first, then by id; and all templates that have named targets, in order of name.

    Raises:
        ElimError: The run lacks a table.
    """
    for name in NEEDED:
        if name not in run.tables:
            hint = f"measure it again, with all of these in `tables`: {', '.join(NEEDED)}"
            raise ElimError(f"the run has no table '{name}', which training examples are made of", hint)
    plain = run.under(None)
    asked = {row["prompt_id"]: row for row in run.arrow("prompts").to_pylist() if row["targets"]}
    last = {name: _last(row) for name, row in asked.items()}
    tables = {name: _at_the_end(plain, name, last) for name in ("verdicts", "survival", "top_tokens")}
    scored = {(row["prompt_id"], row["target"]): row for row in tables["survival"]}
    first = {row["prompt_id"]: row for row in tables["top_tokens"] if row["place"] == 1}
    walks, settings = _greedy_walks(plain), _settings(plain, last)
    found = []
    for row in tables["verdicts"]:
        key = row["prompt_id"], row["target"]
        prompt = asked[row["prompt_id"]]
        if row["outcome"] == "survived" or row["target"] not in prompt["targets"]:
            continue
        one = _of(prompt, row, scored[key], first[row["prompt_id"]])
        if row["prompt_id"] in walks:
            start, tokens = walks[row["prompt_id"]]
            one = replace(one, greedy=tokens, greedy_from=start)
        found.append(replace(one, setting=settings.get((*key, row["cut_chain"]), "")))
    found.sort(key=lambda one: (-one.severity, one.elim_id))
    return found, tuple(sorted({_unit(row) for row in asked.values()}))


def _last(prompt: Row) -> int:
    """Index of the prompt's last token, before what the model wrote."""
    return int(prompt["n_tokens"]) - int(prompt["n_written"] or 0) - 1


def _unit(prompt: Row) -> str:
    return str(prompt["template"] or prompt["prompt_id"])


def _at_the_end(run: Run, name: str, last: Mapping[str, int]) -> Rows:
    """Rows of a table at the last position of each prompt that has targets."""
    return [row for row in run.arrow(name).to_pylist() if last.get(row["prompt_id"]) == row["position"]]


def _of(prompt: Row, verdict: Row, survival: Row, first: Row) -> Eliminated:
    targets, spelled = prompt["targets"], prompt["spellings"] or (*prompt["targets"], *prompt["foils"])
    answers = json.loads(prompt["answers"] or "[]")
    return Eliminated(
        f"{prompt['prompt_id']}/{verdict['target']}",
        prompt,
        tuple(prompt["token_ids"][: _last(prompt) + 1]),
        spelled[targets.index(verdict["target"])],
        survival["token_id"],
        tuple(spelled[len(targets) :]),
        (*targets, *(alias for one in answers for alias in one)),
        (first["token_id"],),
        _last(prompt) + 1,
        verdict["outcome"],
        first["logprob"] - log(survival["prob"]) if survival["prob"] > 0 else float("inf"),
        verdict["lost_layer"],
        verdict["cut_chain"],
        verdict["cut_stage"],
        "",
        _unit(prompt),
    )


def _greedy_walks(run: Run) -> dict[str, tuple[int, tuple[int, ...]]]:
    """Find where each prompt's walk began, and its tokens as long as they are the most probable ones."""
    if "walk" not in run.tables:
        return {}
    columns = ["prompt_id", "step", "position", "token_id", "model_rank"]
    steps = run.arrow("walk").select(columns).sort_by([("prompt_id", "ascending"), ("step", "ascending")])
    found: dict[str, tuple[int, tuple[int, ...]]] = {}
    for row in steps.to_pylist():
        start, tokens = found.get(row["prompt_id"], (row["position"] + 1, ()))
        if len(tokens) == row["step"] and row["model_rank"] == 1:
            tokens = (*tokens, row["token_id"])
        found[row["prompt_id"]] = start, tokens
    return found


def _settings(run: Run, last: Mapping[str, int]) -> dict[tuple[Any, ...], str]:
    """Find the setting that would have kept each target, by prompt, target and chain."""
    if not {"sampling", "sampling_targets"} <= set(run.tables):
        return {}
    stages: dict[tuple[Any, ...], Rows] = defaultdict(list)
    for row in _at_the_end(run, "sampling", last):
        stages[row["prompt_id"], row["chain"]].append(row)
    targets: dict[tuple[Any, ...], Rows] = defaultdict(list)
    for row in _at_the_end(run, "sampling_targets", last):
        targets[row["prompt_id"], row["target"], row["chain"]].append(row)
    return {
        key: fate_of(key[2], rows, stages[key[0], key[2]]).bound.words.removeprefix("needed ")
        for key, rows in targets.items()
    }


def by_reason(counts: Mapping[str, int], order: Sequence[str]) -> dict[str, int]:
    """Keep the reasons that occurred, in order."""
    return {reason: counts[reason] for reason in order if counts.get(reason)}
