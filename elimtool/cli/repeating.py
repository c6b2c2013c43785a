"""Write the command line that traces what a page of ``elimtool explore`` shows."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from elimtool.model.source import ModelSource
    from elimtool.tasks.explore.asked import PageState


def command_of(asked: PageState, source: ModelSource) -> str:
    """Write the command that traces a state of the page, for a shell."""
    from elimtool.tasks.explore.asked import PageState

    words = ["elimtool", "trace", *model_words(source)]
    words += ["--chat"] if asked.chat and asked.system is None else []
    for flag, values in (
        ("--system", (asked.system,)),
        ("--prefill", (asked.prefill,)),
        ("--target", asked.targets),
        ("--foil", asked.foils),
        ("--span", asked.spans),
        ("--samplers", () if asked.samplers == PageState("").samplers else asked.samplers),
        ("--ablate", asked.ablate),
        ("--scale", asked.scale),
        ("--knockout", asked.knockout),
        ("--patch", asked.patch),
        ("--grammar", (asked.grammar,)),
        ("--json-schema", (asked.json_schema,)),
        ("--regex", (asked.regex,)),
        ("--against", (asked.against,)),
        ("--amateur", (asked.amateur,)),
    ):
        words += [f"{flag}={one}" for one in values if one is not None]
    words += ["--confirm"] if asked.confirm else []
    plain = PageState("")
    for name in ("position", "lens", "generate", "seed"):
        if getattr(asked, name) != getattr(plain, name):
            words.append(f"--{name}={getattr(asked, name)}")
    return shlex.join([*words, "--", asked.prompt])


def model_words(source: ModelSource) -> list[str]:
    """Write the options of a command line for a model."""
    from elimtool.tasks.explore.script import given

    words = [f"--model={source.name}"]
    for name, value in given(source).items():
        flag = f"--{'adapter' if name == 'adapters' else name.replace('_', '-')}"
        values = value if isinstance(value, tuple) else (value,)
        words += [flag] if value is True else [f"{flag}={one}" for one in values]
    return words
