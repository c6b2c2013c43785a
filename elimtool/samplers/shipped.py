"""Lay the settings that a model ships with over a preset, as the engine that it is of does by default."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from elimtool.errors import ElimError
from elimtool.files.parse import parse_json
from elimtool.samplers.chain import Chain
from elimtool.samplers.mirostat_v1 import MirostatV1
from elimtool.samplers.mirostat_v2 import MirostatV2

USER = "user"
"""Where a value comes from that the user gave."""

Shipped = Mapping[str, Mapping[str, Any]]
"""Settings that a model ships with, by file and key."""

SEQUENCE = "sequence"
MIROSTAT = "mirostat"
_STAGE_OF = {
    "typp": "typical",
    "typ": "typical",
    "temp": "temperature",
    "nucleus": "top_p",
    "topk": "top_k",
    "topp": "top_p",
    "topnsigma": "top_n_sigma",
    "minp": "min_p",
}
"""Names of samplers that llama.cpp reads (without dashes, underscores and case) beside the preset's."""
_ALWAYS = ("reasoning_budget", "logit_bias")
"""Stages of llama.cpp's chain that are no part of its order, and come first ..."""
_LAST = ("grammar",)
"""... or last."""


MODEL = "model"
"""What stands behind the @ of ``PRESET@model``: the model that is measured."""
CONFIG = "generation_config.json"


def parted(text: str) -> tuple[str, str, str]:
    """Part a text of the form ``PRESET[@WHERE][:CHANGES]``."""
    head, _, changes = text.partition(":")
    preset, _, where = head.partition("@")
    return preset.strip(), where.strip(), changes


def wanted(chain: Chain, where: str, shipped: Shipped | None) -> Shipped:
    """Return the settings that ``PRESET@WHERE`` asks for.

    Args:
        chain: The preset.
        where: ``model``, or the path of a ``generation_config.json`` or of the folder that holds one; empty
            for no such wish.
        shipped: The settings of the model that is measured; None where there is none.

    Raises:
        ElimError: The preset's engine reads no settings of models, no model is measured, or the file cannot
            be read.
    """
    if not where:
        return shipped or {}
    asked = f"'{chain.name}@{where}'"
    if not chain.settings_file:
        raise ElimError(
            f"{asked}: {chain.engine} reads no settings that a model ships with", f"write '{chain.name}'"
        )
    if where == MODEL:
        if shipped is None:
            hint = f"give a model, or the folder of its {CONFIG}: {chain.name}@FOLDER"
            raise ElimError(f"{asked}: no model is loaded whose settings could be read", hint)
        return shipped
    path = Path(where) / CONFIG if Path(where).is_dir() else Path(where)
    if chain.settings_file != CONFIG:
        hint = f"write {chain.name}@{MODEL}, and give the GGUF file as the model"
        raise ElimError(f"{asked}: {chain.engine} reads '{chain.settings_file}' of a GGUF file", hint)
    try:
        found = parse_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ElimError(f"{asked}: cannot read {path}: {error}", f"it must be a {CONFIG}") from error
    if not isinstance(found, dict):
        raise ElimError(f"{asked}: {path} does not hold a JSON object", f"it must be a {CONFIG}")
    return {CONFIG: found}


def lay_over(
    chain: Chain, shipped: Shipped, change: Callable[[Chain, Mapping[str, Any], str, str], Chain]
) -> Chain:
    """Lay a model's own settings over a preset; what the engine refuses or the preset lacks is noted.

    Args:
        chain: The preset, which names the file and the keys that its engine reads.
        shipped: The model's settings.
        change: Changes parameters of a chain, see ``presets``.
    """
    file = chain.settings_file
    given = shipped.get(file, {})
    for key, parameter in chain.settings:
        if (value := given.get(key)) is None:
            continue
        try:
            if key == SEQUENCE:
                chain = _in_sequence(chain, value)
            elif key == MIROSTAT:
                chain = _steered(chain, value, given)
            elif parameter:
                chain = change(chain, {parameter: value}, f"{file}: {key}", file)
            elif value:
                raise ElimError("the preset has no such stage")
        except ElimError as error:
            note = f"{key} = {value}: {error.message}"
            chain = replace(chain, left_out=(*chain.left_out, note))
    return chain


def _in_sequence(chain: Chain, text: Any) -> Chain:
    """Put stages in the order of llama.cpp's ``sequence``, names parted by semicolons; others go.

    llama.cpp leaves out the names that it does not know.
    """
    known = {stage.name: stage for stage in chain.stages}
    names = [_named(name) for name in str(text).split(";") if name.strip()]
    found = [name for name in names if name in known and name not in (*_ALWAYS, *_LAST)]
    lost = [name for name in names if name not in found] + [n for n in set(found) if found.count(n) > 1]
    if not found:
        raise ElimError("the preset has none of these stages")
    first = tuple(known[name] for name in _ALWAYS if name in known)
    last = tuple(known[name] for name in _LAST if name in known)
    order = (*first, *(known[name] for name in dict.fromkeys(found)), *last)
    left = {stage.name for stage in order}
    kept = tuple(one for one in chain.origins if one[0] in left)
    notes = tuple(f"{SEQUENCE} = {text}: '{name}' is left out" for name in sorted(lost))
    origins = (*kept, ("", "order", chain.settings_file))
    return replace(chain, stages=order, origins=origins, left_out=(*chain.left_out, *notes))


def _named(name: str) -> str:
    """Return the preset's name of a sampler, as llama.cpp reads names: whatever their case and dashes."""
    plain = name.strip().lower().replace("-", "_")
    return _STAGE_OF.get(plain.replace("_", ""), plain)


def _steered(chain: Chain, version: Any, given: Mapping[str, Any]) -> Chain:
    """Leave biases, temperature and Mirostat alone, as llama.cpp does where a model asks for it."""
    if version not in (0, 1, 2):
        raise ElimError("there is no such version")
    if version == 0:
        return chain
    kinds = {1: MirostatV1, 2: MirostatV2}
    steered = kinds[version](tau=given.get("mirostat_tau", 5.0), eta=given.get("mirostat_eta", 0.1))
    left = tuple(stage for stage in chain.stages if stage.name in (*_ALWAYS, "temperature"))
    last = tuple(stage for stage in chain.stages if stage.name in _LAST)
    kept = tuple(one for one in chain.origins if one[0] in {stage.name for stage in (*left, *last)})
    own = tuple(
        (steered.name, name, chain.settings_file) for name in ("tau", "eta") if f"mirostat_{name}" in given
    )
    origins = (*kept, *own, ("", "order", chain.settings_file))
    return replace(chain, stages=(*left, steered, *last), origins=origins)
