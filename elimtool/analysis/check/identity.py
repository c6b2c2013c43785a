"""State what two runs must share to be compared, and what may explain a difference between them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from elimtool.analysis.check.words import word
from elimtool.errors import ElimError, Exit
from elimtool.files.rows import Row
from elimtool.run.schema import CHANGED

if TYPE_CHECKING:
    from elimtool.analysis.check.metrics import CheckMetric
    from elimtool.run.manifest import Manifest

SHOWN = 240
"""Characters of a prompt that a baseline shows; the hash covers the whole text."""

_FIELDS = ("model", "revision", "weights_sha256", "tokenizer_sha256", "dtype", "processing", "schema_version")
_SETTINGS = ("bos", "lens", "sinks")
_ACROSS = {
    "weights": ("model", "revision", "weights_sha256"),
    "tokenizer": ("tokenizer_sha256", "bos"),
    "dtype": ("dtype",),
}


def identity_of(manifest: Manifest, target_space: str) -> dict[str, Any]:
    """Collect what two runs must share for their values to be comparable."""
    facts = manifest.model_dump()
    return {**{key: facts[key] for key in (*_FIELDS, *_SETTINGS)}, "target_space": target_space}


def context_of(manifest: Manifest) -> dict[str, Any]:
    """Collect what may change between two runs and then explains a difference."""
    chains = manifest.chains if isinstance(manifest.chains, list) else []
    config = manifest.config if isinstance(manifest.config, dict) else {}
    acts = config.get("interventions") or config.get("ablate") or []
    described: dict[str, Any] = {str(one["name"]): _stages(one) for one in chains if isinstance(one, dict)}
    return {"chains": described, "interventions": acts if isinstance(acts, list) else [acts]}


def _stages(chain: Mapping[str, Any]) -> dict[str, str]:
    """List the stages that are on, numbered, with their parameters in words."""
    on = [stage for stage in chain.get("stages", ()) if not stage.get("off")]
    return {
        f"{index:02} {stage['name']}": ", ".join(f"{k}={v}" for k, v in sorted(stage["params"].items()))
        for index, stage in enumerate(on)
    }


def prompts_of(rows: Mapping[str, Row]) -> dict[str, dict[str, str]]:
    """Collect hash and beginning of every prompt's rendered text."""
    return {name: _fingerprint(row["text"] or "") for name, row in rows.items()}


def _fingerprint(text: str) -> dict[str, str]:
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return {"sha256": digest, "text": text if len(text) <= SHOWN else text[:SHOWN] + "…"}


def mismatch(old: Mapping[str, Any], new: Mapping[str, Any], across: Iterable[str]) -> list[str]:
    """Describe the fields in which two identities differ, except those that ``across`` allows."""
    allowed = {name for word in across for name in _ACROSS[word]}
    same = ("weights_sha256", "tokenizer_sha256")
    if all(old.get(name) is not None and old.get(name) == new.get(name) for name in same):
        allowed |= {"model", "revision"}  # the same files under another name
    if old.get("tokenizer_sha256") is not None and old.get("tokenizer_sha256") == new.get("tokenizer_sha256"):
        allowed.add(
            "bos"
        )  # it follows from tokenizer and prompts, whether named before these are known or after
    names = [name for name in sorted({*old, *new}) if name not in allowed and old.get(name) != new.get(name)]
    return [
        f"{name}: {word(old.get(name))} in the baseline, {word(new.get(name))} now{_remedy(name, old, new)}"
        for name in names
    ]


def _remedy(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Say what to do about two schema versions; any other difference is for the user to judge."""
    if name != "schema_version":
        return ""
    older = (old.get(name) or 0) < (new.get(name) or 0)
    todo = "update the baseline and review it" if older else "measure the run again with this elimtool"
    return f" (some columns have another meaning: {todo})"


def refuse_other_schema(run: Manifest, against: Manifest) -> None:
    """Refuse to compare the values of two runs of different schema versions.

    Raises:
        ElimError: Their versions differ (exit code 4).
    """
    versions = run.schema_version, against.schema_version
    if versions[0] != versions[1]:
        older = "the judged run" if versions[0] < versions[1] else "`against`"
        raise ElimError(
            f"the judged run has schema version {versions[0]}, the run of `against` {versions[1]}:"
            " some columns have another meaning",
            f"measure {older} again with this elimtool",
            Exit.BASELINE,
        )


def refuse_old_meaning(run: Manifest, metric: CheckMetric) -> None:
    """Refuse to judge a column of a run that was written when the column had another meaning.

    Raises:
        ElimError: The column has changed since the run's schema version (exit code 4).
    """
    since = CHANGED.get((metric.table, metric.column), 1)
    if run.schema_version < since:
        raise ElimError(
            f"metric '{metric.name}' has another meaning since schema version {since}, and the run has"
            f" version {run.schema_version}",
            "measure the run again with this elimtool",
            Exit.BASELINE,
        )
