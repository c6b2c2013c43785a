"""The manifest has the contract's keys, one fingerprint per content, and notices damage."""

from __future__ import annotations

import hashlib
import json
import math

import pytest
from pydantic import ValidationError

from elimtool.errors import ElimError
from elimtool.run.manifest import Manifest

from .conftest import make_manifest

KEYS = set(
    """
    schema_version fingerprint elimtool transformer_lens transformers torch model revision weights_sha256
    tokenizer_sha256 n_layers n_heads dtype device processing bos lens sinks chains seed config
    started finished counts
    """.split()  # noqa: SIM905
)


def test_the_keys_are_the_contracts(manifest):
    assert set(manifest.to_dict()) == KEYS
    assert set(json.loads(manifest.to_json())) == KEYS


def test_the_text_is_sorted_ascii_and_reads_back(manifest):
    text = manifest.to_json()
    assert text.isascii()
    assert list(json.loads(text)) == sorted(KEYS)
    assert Manifest.from_json(text) == manifest
    assert Manifest.from_json(text).to_json() == text


def test_the_fingerprint_is_a_hash_of_everything_but_times_and_counts(manifest):
    facts = {key: value for key, value in manifest.to_dict().items()}
    for key in ("fingerprint", "started", "finished", "counts"):
        del facts[key]
    canonical = json.dumps(facts, sort_keys=True, separators=(",", ":"))
    assert manifest.fingerprint == hashlib.sha256(canonical.encode()).hexdigest()
    later = manifest.finish({"lens": 3}, "2026-02-03T00:00:00Z")
    assert later.fingerprint == manifest.fingerprint
    assert make_manifest(started=None).fingerprint == manifest.fingerprint
    assert make_manifest(dtype="bfloat16").fingerprint != manifest.fingerprint
    assert make_manifest(config={"position": "all"}).fingerprint != manifest.fingerprint


def test_a_manifest_without_the_later_keys_is_as_it_was_before_them():
    known = make_manifest()
    older = make_manifest(n_layers=None, n_heads=None, schema_version=1)
    facts = {key: value for key, value in known.to_dict().items() if key not in ("n_layers", "n_heads")}
    assert older.to_dict() == facts | {"fingerprint": older.fingerprint, "schema_version": 1}
    assert older.fingerprint == "69e3feb09f59265736166eab90db5c5b6751b7096ea56970518e654f8d9fb29b"
    assert known.fingerprint != older.fingerprint
    assert Manifest.from_json(older.to_json()) == older


def test_the_fingerprint_does_not_hang_on_order_or_on_tuples():
    one = make_manifest(config={"a": 1, "b": [1, 2]})
    assert one.fingerprint == make_manifest(config={"b": (1, 2), "a": 1}).fingerprint


def test_the_manifest_is_detached_from_what_it_was_made_of():
    config = {"targets": ["x"]}
    manifest = make_manifest(config=config)
    before = manifest.fingerprint
    config["targets"].append("y")
    assert manifest.fingerprint == before


@pytest.mark.parametrize(
    "changes",
    [
        {"config": {"p": math.nan}},
        {"config": {"p": math.inf}},
        {"chains": [object()]},
        {"dtype": 32},
        {"started": "yesterday"},
        {"modle": "x"},
    ],
)
def test_what_is_no_manifest_is_refused(changes):
    with pytest.raises(ValidationError):
        make_manifest(**changes)


def test_the_parquet_metadata_is_json_without_times_and_counts(manifest):
    metadata = manifest.parquet_metadata()
    assert set(metadata) == {f"elimtool.{key}" for key in KEYS - {"started", "finished", "counts"}}
    assert json.loads(metadata["elimtool.config"]) == manifest.config
    assert json.loads(metadata["elimtool.fingerprint"]) == manifest.fingerprint


def damaged(manifest: Manifest, **changes: object) -> str:
    return json.dumps(json.loads(manifest.to_json()) | changes)


def test_damage_is_named(manifest):
    for text, message in [
        (manifest.to_json()[:50], "DIR/run.json is damaged"),
        ("[]", "not the manifest of a run"),
        ("{}", "not the manifest of a run"),
        (manifest.to_json().replace('"tiny"', "NaN"), "NaN is not JSON"),
        (damaged(manifest, dtype=3), "damaged: dtype"),
        (damaged(manifest, extra=3), "damaged: extra"),
        (damaged(manifest, device="cuda"), "was changed after it was written"),
    ]:
        with pytest.raises(ElimError, match=message) as caught:
            Manifest.from_json(text, where="DIR/run.json")
        assert caught.value.hint


def test_a_newer_schema_version_says_who_wrote_it_and_who_reads_it(manifest):
    text = damaged(manifest, schema_version=99, elimtool="7.0.0", something_new=1)
    with pytest.raises(
        ElimError, match=r"version 99, written by elimtool 7\.0\.0; this elimtool reads version 2"
    ) as caught:
        Manifest.from_json(text)
    assert caught.value.hint == "read it with elimtool 7.0.0 or newer"
