"""State what two runs must share to be compared, and what may explain a difference between them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from elimtool.analysis.check.words import word
from elimtool.files.rows import Row

if TYPE_CHECKING:
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
    names = [name for name in sorted({*old, *new}) if name not in allowed and old.get(name) != new.get(name)]
    return [f"{name}: {word(old.get(name))} in the baseline, {word(new.get(name))} now" for name in names]
