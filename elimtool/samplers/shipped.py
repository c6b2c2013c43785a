"""Lay the settings that a model ships with over a preset, as the engine that it is of does by default."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from elimtool.errors import ElimError
from elimtool.samplers.chain import Chain

USER = "user"
"""Where a value comes from that the user gave."""

Shipped = Mapping[str, Mapping[str, Any]]
"""Settings that a model ships with, by file and key."""

SEQUENCE = "sequence"
_STAGE_OF = {"typ_p": "typical", "typical_p": "typical", "temp": "temperature"}
"""llama.cpp's names of samplers that differ from the preset's."""
_ALWAYS = ("logit_bias",)
"""Stages of llama.cpp's chain that are no part of its order."""


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
            elif parameter:
                chain = change(chain, {parameter: value}, f"{file}: {key}", file)
            elif value:
                raise ElimError("the preset has no such stage")
        except ElimError as error:
            note = f"{key} = {value}: {error.message}"
            chain = replace(chain, left_out=(*chain.left_out, note))
    return chain


def _in_sequence(chain: Chain, text: Any) -> Chain:
    """Put stages in the order of llama.cpp's ``sequence``, names parted by semicolons; others go."""
    names = [_STAGE_OF.get(name.strip(), name.strip()) for name in str(text).split(";") if name.strip()]
    known = {stage.name: stage for stage in chain.stages}
    if unknown := [name for name in names if name not in known or name in _ALWAYS]:
        raise ElimError(f"the preset has no stage '{unknown[0]}'")
    first = tuple(known[name] for name in _ALWAYS if name in known)
    order = (*first, *(known[name] for name in dict.fromkeys(names)))
    left = {stage.name for stage in order}
    kept = tuple(one for one in chain.origins if one[0] in left)
    return replace(chain, stages=order, origins=(*kept, ("", "order", chain.settings_file)))
