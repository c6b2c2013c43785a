"""Read and write the sampler chains that a page asks for: no files, and stages in another order."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import yaml

from elimtool.errors import ElimError
from elimtool.samplers import Chain, Stage, preset_names, resolve
from elimtool.samplers.grammar import Grammar
from elimtool.samplers.inline import split, value_of
from elimtool.samplers.presets import OF_KIND
from elimtool.samplers.shipped import MODEL, parted
from elimtool.samplers.stage import parameters, plain

OF_TEXT = f"{Grammar.kind}.regex"
"""The one parameter of a grammar in a chain that is never a file."""


RANGES: dict[str, tuple[float, float, float]] = {
    "temperature": (0.0, 2.0, 0.01),
    "dynamic_temperature": (0.0, 2.0, 0.01),
    "top_k": (0, 200, 1),
    "top_p": (0.0, 1.0, 0.005),
    "min_p": (0.0, 1.0, 0.005),
    "typical": (0.0, 1.0, 0.005),
    "top_n_sigma": (0.0, 8.0, 0.05),
    "epsilon": (0.0, 0.1, 0.0005),
    "eta": (0.0, 0.1, 0.0005),
    "tail_free": (0.0, 1.0, 0.005),
}
"""Lowest and highest value of a slider, and its step, by kind of stage; others take a number alone."""


def refuse_files(chain: str) -> None:
    """Refuse the text of a chain that names a file, before one is looked for.

    Raises:
        ElimError: It is neither a preset nor stages in order, or one of them reads a file.
    """
    preset, where, changes = parted(chain)
    known = preset in preset_names() and where in ("", MODEL)
    inline = preset not in preset_names() and not any(mark in chain for mark in "/\\") and ".y" not in chain
    parts = [part.partition("=") for part in split(changes if known else chain)]
    named = [(name.strip(), value.strip()) for name, _, value in parts]
    if any(
        (name.partition(".")[0] == Grammar.kind and name != OF_TEXT)
        or (name.endswith(f".{OF_KIND}") and value_of(value, name) == Grammar.kind)
        for name, value in named
    ):
        raise ElimError(
            "a grammar of a chain is read from a file", f"use {OF_TEXT}, or the page's fields for grammars"
        )
    if not known and not (inline and "=" in chain) and chain.strip() not in _alone():
        raise ElimError(
            f"'{chain}' is neither a preset nor stages in order",
            "such as llama.cpp:top_k=10 or top_k=40,temperature=0.8; chain files go with `elimtool trace`",
        )
    resolved(chain)


def resolved(chain: str) -> Chain:
    """Resolve a chain before a model is there whose settings ``PRESET@model`` asks for.

    Raises:
        ElimError: It names nothing, or a stage is not valid.
    """
    return resolve(chain.replace(f"@{MODEL}", "", 1) if not is_inline(chain) else chain)


def _alone() -> frozenset[str]:
    """Names that are chains of one stage."""
    from elimtool.samplers import STAGES

    return frozenset(STAGES.everything())


def is_inline(chain: str) -> bool:
    """Whether a chain is stages in order: the user's own."""
    return parted(chain)[0] not in preset_names()


def reordered(text: str, chain: Chain, order: Sequence[str]) -> str:
    """Put the stages of a chain in another order.

    Args:
        text: What names the chain, such as ``llama.cpp`` or ``top_k=40,temperature=0.8``.
        chain: The chain, with the settings of the model laid over a preset.
        order: Names of its stages, each once.

    Returns:
        The stages in order. Of a preset, those that are off are left out where no slider turns them on;
        what is left is the user's own chain, as the engine orders its stages itself.

    Raises:
        ElimError: The names are not those of the stages, or they cannot be written in order.
    """
    known = {one.name: one for one in chain.stages}
    if sorted(order) != sorted(known):
        raise ElimError(f"the stages of '{text}' are {', '.join(known)}", "name each of them once")
    if is_inline(text):
        parts: dict[str, list[str]] = {name: [] for name in order}
        for part in map(str.strip, split(text)):
            own = part.partition("=")[0].partition(".")[0].strip()
            parts[own if own in parts else resolve(part).stages[0].name].append(part)
        return ",".join(part for name in order for part in parts[name])
    return written_out([known[name] for name in order], text)


def written_out(stages: Sequence[Stage], text: str) -> str:
    """Write stages in order, as an inline chain has them; of those that are off, those that have a slider.

    Args:
        stages: The stages.
        text: What names their chain, for errors.

    Raises:
        ElimError: A parameter cannot be written.
    """
    kept = [one for one in stages if not one.is_off() or (one.kind in RANGES and is_number(one))]
    counts = Counter(one.kind for one in kept)
    found = ",".join(part for one in kept for part in _parts(one, counts[one.kind] > 1))
    wanted = [(one.kind, one.params()) for one in kept]
    if [(one.kind, one.params()) for one in resolve(found).stages] != wanted:
        raise ElimError(f"the stages of '{text}' cannot be written in order", "write them as you want them")
    return found


def is_number(stage: Stage) -> bool:
    """Whether the stage's main parameter is a number."""
    value = getattr(stage, stage.main) if stage.main else None
    return isinstance(value, int | float) and not isinstance(value, bool)


def _parts(stage: Stage, again: bool) -> list[str]:
    """Write a stage as parts of a chain: its main parameter, and others that differ from the default.

    Args:
        stage: The stage.
        again: Whether another one is of its kind: then it keeps a name of its own, if it has one.
    """
    own = {one.name: getattr(stage, one.name) for one in parameters(type(stage))}
    defaults = {one.name: one.default for one in parameters(type(stage))}
    called = stage.name if again else stage.kind
    begun = [] if called == stage.kind else [f"{called}.{OF_KIND}={stage.kind}"]
    more = [
        f"{called}.{name}={_written(value)}"
        for name, value in own.items()
        if name != stage.main and value != defaults[name]
    ]
    if not stage.main:
        return [*(begun or [called]), *more]
    return [*begun, f"{called}={_written(own[stage.main])}", *more]


def _written(value: Any) -> str:
    """Write a value so that it is read as the same: YAML 1.1 reads ``off`` without quotes as false."""
    shown = plain(value)
    if isinstance(shown, float):
        return f"{shown:.10g}"
    return shown if isinstance(shown, str) and yaml.safe_load(shown) == shown else json.dumps(shown)
