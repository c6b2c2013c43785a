"""Write the Python that traces a state of the page."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from elimtool.model.source import ModelSource
from elimtool.prompts.position import parse_position

if TYPE_CHECKING:
    from elimtool.tasks.explore.asked import PageState

OF_ELIMTOOL = ("Prompt", "TraceOptions", "Message", "SpanRequest", "Ablate", "Scale", "Knockout", "Patch")
"""Names that a script may need from ``elimtool``."""
OPTIONS = ("position", "samplers", "lens", "generate", "seed", "against", "amateur", "confirm")
"""Fields of a state that are options of the same name."""
GRAMMAR = ("file", "json_schema", "regex")
"""Fields of ``Grammar``, which are those of a state but for ``file``."""


def script(asked: PageState, source: ModelSource, mapped: bool = False) -> str:
    """Write the Python that traces a state.

    Args:
        asked: The state.
        source: How the model is loaded.
        mapped: Whether heads are named by the map that the cache has of it.
    """
    prompt, options = _prompt(asked), _options(asked)
    body = f"{prompt} {options}"
    names = [name for name in OF_ELIMTOOL if f"{name}(" in body or f"{name}." in body]
    imports = [f"from elimtool import {', '.join([*names, 'load_model', 'trace'])}"]
    imports += ["from elimtool.samplers.grammar import Grammar"] if "grammar=Grammar(" in options else []
    imports += ["from elimtool.tasks.map.kept import with_roles"] if mapped else []
    lines = [
        *imports,
        "",
        f"model = load_model({model_arguments(source)})",
        f"options = {options}",
        *(["options = with_roles(options, model)"] if mapped else []),
        f"run = trace(model, {prompt}, options=options)",
    ]
    return "\n".join(lines) + "\n"


def _prompt(asked: PageState) -> str:
    spans = "".join(f"SpanRequest.parse({one!r}), " for one in asked.spans)
    follow = "".join(
        f", {name}={value!r}" for name, value in (("targets", asked.targets), ("foils", asked.foils)) if value
    )
    follow += f", spans=({spans})" if spans else ""
    if asked.chat or asked.system is not None:
        system = "" if asked.system is None else f"Message('system', {asked.system!r}), "
        prompt = f"Prompt(messages=({system}Message('user', {asked.prompt!r}),){follow})"
    else:
        prompt = f"Prompt(text={asked.prompt!r}{follow})"
    return prompt + ("" if asked.prefill is None else f".with_prefill({asked.prefill!r})")


def _options(asked: PageState) -> str:
    plain = type(asked)("")
    own = {name: getattr(asked, name) for name in OPTIONS if getattr(asked, name) != getattr(plain, name)}
    own |= {"position": parse_position(asked.position)} if "position" in own else {}
    told = [f"{name}={value!r}" for name, value in own.items()]
    changes = [
        f"{kind}.parse({one!r})"
        for kind, values in (
            ("Ablate", asked.ablate),
            ("Scale", asked.scale),
            ("Knockout", asked.knockout),
            ("Patch", asked.patch),
        )
        for one in values
    ]
    told += [f"interventions=({', '.join(changes)},)"] if changes else []
    grammar = dict(zip(GRAMMAR, (asked.grammar, asked.json_schema, asked.regex), strict=True))
    given_one = ", ".join(f"{name}={value!r}" for name, value in grammar.items() if value is not None)
    told += [f"grammar=Grammar({given_one})"] if given_one else []
    return f"TraceOptions({', '.join(told)})"


def given(source: ModelSource) -> dict[str, Any]:
    """Return the fields of a source that are not their defaults, but the name."""
    values = {one.name: (getattr(source, one.name), one.default) for one in fields(source)}
    return {name: value for name, (value, plain) in values.items() if name != "name" and value != plain}


def model_arguments(source: ModelSource) -> str:
    """Write the arguments of ``load_model`` for a source."""
    return ", ".join([repr(source.name), *(f"{name}={value!r}" for name, value in given(source).items())])
