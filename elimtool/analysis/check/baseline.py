"""Store a run's values as a baseline, in sorted JSON that can be reviewed like code, and read it back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elimtool.analysis.check.spec import CHOOSING
from elimtool.errors import ElimError, Exit
from elimtool.files.destination import write_file
from elimtool.files.parse import parse_json

if TYPE_CHECKING:
    from elimtool.analysis.check.spec import Check, Defaults
    from elimtool.analysis.check.values import CheckedValue

FORMAT = 1
ALL = "*"
"""Key of a value of all prompts together."""
DIGITS = 8
"""Significant digits kept: finer than any tolerance that makes sense in float32."""


@dataclass(frozen=True, slots=True)
class Entry:
    """The values of one check.

    Attributes:
        of: What the values are of, from ``definition``; only values of the same are compared.
        values: Prompt id (or ``ALL``) to value.
    """

    of: str
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Baseline:
    """Reviewed values that a run is compared with.

    Attributes:
        identity: Model, weights, tokenizer, dtype, processing, schema, lens, sinks.
        context: Sampler chains and interventions, which may change and then explain a regression.
        prompts: Prompt id to ``sha256`` and the beginning of its text.
        checks: Check id to its values.
    """

    identity: Mapping[str, Any]
    context: Mapping[str, Any]
    prompts: Mapping[str, Mapping[str, str]]
    checks: Mapping[str, Entry] = field(default_factory=dict)

    def to_json(self) -> str:
        """Write sorted keys, one value per line."""
        content = {
            "elimtool_baseline": FORMAT,
            "identity": self.identity,
            "context": self.context,
            "prompts": self.prompts,
            "checks": {name: asdict(entry) for name, entry in self.checks.items()},
        }
        return json.dumps(content, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def stored(value: Any, told: Any = None) -> Any:
    """Convert a value to the form that baselines store and comparisons use.

    Args:
        value: A number, truth value, text, null, or ids of tokens.
        told: For ids: pairs of id and text, which the baseline shows.
    """
    if told is not None:
        return [f"{token} {text}" for token, text in told]
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if isfinite(value) else str(value)
    return value


def entry_of(check: Check, defaults: Defaults, readings: Iterable[CheckedValue]) -> Entry:
    """Make a check's entry of a baseline; prompts that failed have no value."""
    values = {
        reading.prompt or ALL: stored(reading.value, reading.rows[0].get("told") if reading.rows else None)
        for reading in readings
        if not reading.error
    }
    return Entry(definition(check, defaults), values)


def definition(check: Check, defaults: Defaults) -> str:
    """Describe what a check reads, in words that are equal if and only if the settings are."""
    if check.position is None and defaults.position != "last":
        check = check.model_copy(update={"position": defaults.position})
    names = (*CHOOSING, "rows", "position", "agg", "where", "scope", "generate", "seeds", "text")
    given = {name: getattr(check, name) for name in names if name in check.model_fields_set}
    if check.metric == "topk_overlap":
        given["k"] = check.k
    plain = check.model_dump(mode="json", include=set(given), by_alias=True)
    told = [f"{name} {json.dumps(plain[name], ensure_ascii=False)}" for name in given]
    return ", ".join([check.metric, *told])


def read_baseline(path: Path) -> Baseline | None:
    """Read the baseline in a file; ``None`` if there is no such file.

    Raises:
        ElimError: The file is damaged or of a newer format (exit code 4).
    """
    if not path.exists():
        return None
    from elimtool.files.yaml import read_text

    text = read_text(path)
    hint = "restore it from version control, or write it anew with `update='all'`"
    try:
        content = parse_json(text)
        if content["elimtool_baseline"] != FORMAT:
            raise ElimError(
                f"{path} has baseline format {content['elimtool_baseline']}; this elimtool reads {FORMAT}",
                "write it anew with `update='all'`",
                Exit.BASELINE,
            )
        checks = {
            str(name): Entry(str(one["of"]), dict(one["values"])) for name, one in content["checks"].items()
        }
        prompts = {str(name): dict(one) for name, one in content["prompts"].items()}
        return Baseline(dict(content["identity"]), dict(content["context"]), prompts, checks)
    except ValueError as error:
        raise ElimError(f"{path} is damaged: {error}", hint, Exit.BASELINE) from error
    except (KeyError, TypeError, AttributeError) as error:
        raise ElimError(f"{path} is not a baseline of elimtool: {error}", hint, Exit.BASELINE) from error


def write_baseline(path: Path, baseline: Baseline) -> None:
    """Write a baseline, whole or not at all, and make its folder.

    Raises:
        ElimError: The file system refuses.
    """
    write_file(path, encoded(baseline.to_json()), overwrite=True)


def encoded(text: str) -> bytes:
    """Encode the text of a baseline or a noise file; lone surrogates, which JSON may hold, are escaped."""
    return text.encode("utf-8", "backslashreplace")


def merged(old: Baseline | None, new: Baseline, only_new: bool) -> Baseline:
    """Return the baseline to write: the new one, or with ``only_new`` the old one with additions."""
    if old is None or not only_new:
        return new
    checks = dict(old.checks)
    for name, entry in new.checks.items():
        known = old.checks.get(name)
        if known is None:
            checks[name] = entry
        elif known.of == entry.of:
            checks[name] = replace(known, values={**entry.values, **known.values})
    context = {
        **new.context,
        **old.context,
        "chains": {**new.context["chains"], **old.context.get("chains", {})},
    }
    return Baseline(old.identity, context, {**new.prompts, **old.prompts}, checks)
