"""Write a chain anew with another value of one setting, as a user would type it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from elimtool.errors import ElimError
from elimtool.samplers.chain import Chain
from elimtool.samplers.inline import split, value_of
from elimtool.samplers.presets import preset_names, resolve
from elimtool.samplers.shipped import parted
from elimtool.samplers.stage import Stage
from elimtool.samplers.values import fitted


def with_setting(spec: str, stage: str, value: float) -> str:
    """Change the main parameter of a stage in the text that names a chain.

    Args:
        spec: A preset, a preset with other parameters, or stages in order.
        stage: Name of the stage in the chain.
        value: The parameter's new value.

    Returns:
        A text that ``resolve`` reads as the same chain with this value; empty where there is none, as for a
        chain file.
    """
    head, colon, rest = spec.partition(":")
    preset, where, _ = parted(spec)
    is_preset = preset in preset_names()
    if where and is_preset:  # what a model ships with is laid under both, and changes nothing here
        plain = with_setting(f"{preset}{colon}{rest}", stage, value)
        return plain.replace(preset, f"{preset}@{where}", 1)
    parts = split(rest if is_preset else spec) if colon or not is_preset else []
    given = f"{value:.10g}"
    wanted = _changed(resolve(spec), stage, value_of(given, given))
    # the last place is a parameter that the text did not name
    for index in range(len(parts) + 1):
        name = parts[index].partition("=")[0].strip() if index < len(parts) else stage
        text = ",".join([*parts[:index], f"{name}={given}", *parts[index + 1 :]])
        text = f"{head}:{text}" if is_preset else text
        if _means(text, wanted):
            return text
    return ""


def _changed(chain: Chain, stage: str, value: Any) -> tuple[Stage, ...]:
    """The stages with another value of one's main parameter; none if the stage takes none such."""
    place = next((index for index, one in enumerate(chain.stages) if one.name == stage), None)
    if place is None or not chain.stages[place].main:
        return ()
    old = chain.stages[place]
    try:
        new = replace(old, **{old.main: fitted(type(old), old.main, value)})
    except ElimError:
        return ()
    return (*chain.stages[:place], new, *chain.stages[place + 1 :])


def _means(text: str, wanted: tuple[Stage, ...]) -> bool:
    try:
        return bool(wanted) and resolve(text).stages == wanted
    except ElimError:
        return False
