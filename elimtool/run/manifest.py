"""State what produced a run: the contents of ``run.json`` as a checked, frozen record."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from datetime import UTC, datetime
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, ValidationError

from elimtool.errors import ElimError
from elimtool.files.parse import parse_json
from elimtool.run.schema import SCHEMA_VERSION

NOT_FINGERPRINTED = ("fingerprint", "label", "started", "finished", "counts")
WHERE_KNOWN = (
    *("n_layers", "n_heads", "adapters", "device_map", "quantization", "plugins", "label"),
    "revision_name",
)
"""Keys added later: left out if they have no value, so that older runs keep their fingerprint."""
HINT = "run the command again, or restore the file"


def utc_now() -> str:
    """Return the time in UTC to the second, as ISO 8601."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def canonical_json(value: Any) -> str:
    """Write JSON that is equal for equal values: sorted keys, no spaces, ASCII only.

    Raises:
        ValueError: ``value`` holds NaN or an infinity, which JSON cannot express.
        TypeError: ``value`` holds something that JSON cannot express.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def _plain(value: Any) -> Any:
    """Copy a value into JSON's own types (tuples become lists, keys strings)."""
    try:
        return json.loads(canonical_json(value))
    except TypeError as error:
        raise ValueError(str(error)) from error


def _time(text: str) -> str:
    datetime.fromisoformat(text)
    return text


Plain = Annotated[JsonValue, BeforeValidator(_plain)]
Time = Annotated[str, AfterValidator(_time)]


class BaseManifest(BaseModel, ABC):
    """What the manifests of runs and of comparisons have in common."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hexadecimal) over the canonical JSON of all keys but the two times, counts and itself."""
        return hashlib.sha256(canonical_json(self._facts()).encode("ascii")).hexdigest()

    @abstractmethod
    def _facts(self) -> dict[str, Any]:
        """Return what the fingerprint is of: all keys but the two times, counts and itself."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Return all keys of the file, ``fingerprint`` included, as JSON's own types."""

    @abstractmethod
    def parquet_metadata(self) -> dict[str, str]:
        """Return the file metadata of every part."""

    def to_json(self) -> str:
        """Return the text of the file: sorted keys, indented, ASCII only, one trailing newline."""
        return json.dumps(self.to_dict(), sort_keys=True, indent=2, allow_nan=False) + "\n"

    def finish(self, counts: dict[str, int], finished: str | None = None) -> Self:
        """Return the finished manifest: with the rows of each table and the time it ended (default: now)."""
        return self.model_copy(
            update={"counts": dict(sorted(counts.items())), "finished": finished or utc_now()}
        )

    @classmethod
    def from_json(cls, text: str, where: str) -> Self:
        """Read the file back.

        Args:
            text: Contents of the file.
            where: What to call it in messages.

        Raises:
            ElimError: Damaged, edited by hand, or written by a newer elimtool.
        """
        loaded = _load(text, where)
        stated = loaded.pop("fingerprint", None)
        try:
            manifest = cls.model_validate(loaded)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            raise ElimError(f"{where} is damaged: {place}: {first['msg']}", HINT) from error
        if stated != manifest.fingerprint:
            raise ElimError(f"{where} was changed after it was written: its fingerprint does not match", HINT)
        return manifest


class Manifest(BaseManifest):
    """Everything that a run depends on, and when it ran.

    Two runs with one ``fingerprint`` were made by the same versions from the same model, inputs and options.
    """

    schema_version: int = Field(
        SCHEMA_VERSION, description="Version of the tables' columns and of these keys."
    )
    elimtool: str = Field(description="Version of elimtool.")
    transformer_lens: str | None = Field(description="Version of TransformerLens.")
    transformers: str | None = Field(description="Version of transformers.")
    torch: str | None = Field(description="Version of torch.")
    model: str = Field(description="Model as it was named: a catalogue name, a hub id or a path.")
    revision: str | None = Field(None, description="Revision of the model, where it has one.")
    revision_name: str | None = Field(
        None, description="Revision as it was asked for, such as step1000; left out where none was."
    )
    weights_sha256: str | None = Field(
        None, description="SHA-256 of the weights' files; with `quantize`, of that and the number type."
    )
    tokenizer_sha256: str | None = Field(None, description="SHA-256 of the tokenizer.")
    n_layers: int | None = Field(None, description="Blocks of the model; left out by earlier versions.")
    n_heads: int | None = Field(None, description="Query heads of a block; likewise.")
    adapters: Plain = Field(
        None,
        description="Adapters merged into the weights: name, scale, kind, SHA-256; an empty list where one"
        " lies beside the weights and was left out. Left out where there is none.",
    )
    dtype: str = Field(description="Number type of the weights in memory.")
    device: str = Field(description="Device that the model ran on.")
    device_map: Plain = Field(
        None, description="Device of each module, where the weights were spread or offloaded; else left out."
    )
    quantization: Plain = Field(
        None, description="How the weights were quantised, by the checkpoint or `quantize`; else left out."
    )
    plugins: Plain = Field(
        None,
        description="Parts of the run that are not elimtool's own, by kind (samplers, metrics, lenses) and"
        " name: distribution (package and version, null without one), source (MODULE:NAME), SHA-256 of its"
        " file. Else left out.",
    )
    processing: Plain = Field(description="What was done to the weights ('raw': nothing).")
    bos: Plain = Field(
        description="Whether a beginning-of-sequence token was put before the prompts, and why."
    )
    lens: Plain = Field(description="Lens through which layers were read.")
    sinks: Plain = Field(description="Rule or positions of the attention sink set.")
    chains: Plain = Field(description="Sampler chains, each in full: engine, stages, parameters.")
    seed: int | None = Field(None, description="Seed, where anything was drawn at random.")
    config: Plain = Field(description="All options of the run, in full.")
    label: str | None = Field(
        None, description="What the user calls the run (`label`); no part of the fingerprint. Else left out."
    )
    started: Time | None = Field(None, description="When the run began (UTC, ISO 8601).")
    finished: Time | None = Field(None, description="When the run was complete (UTC, ISO 8601).")
    counts: dict[str, int] = Field(default_factory=dict, description="Rows written, by table.")

    @property
    def quantised(self) -> str:
        """How the weights were quantised, in words; empty where they were not."""
        if not isinstance(self.quantization, dict):
            return ""
        bits = [n for n in (8, 4) if self.quantization.get(f"load_in_{n}bit")]
        return ", ".join([str(self.quantization.get("quant_method", "unknown")), *(f"{n} bit" for n in bits)])

    def _stated(self) -> dict[str, Any]:
        return {
            key: value
            for key, value in self.model_dump().items()
            if value is not None or key not in WHERE_KNOWN
        }

    def _facts(self) -> dict[str, Any]:
        return {key: value for key, value in self._stated().items() if key not in NOT_FINGERPRINTED}

    def facts(self) -> dict[str, Any]:
        """Return what the run depends on: all keys but the two times and counts, ``fingerprint`` included."""
        return {"fingerprint": self.fingerprint, **self._facts()}

    def without_times(self) -> Manifest:
        """Return the same facts without times and counts."""
        return self.model_copy(update={"started": None, "finished": None, "counts": {}})

    def to_dict(self) -> dict[str, Any]:
        """Return all keys of ``run.json``, ``fingerprint`` included, as JSON's own types."""
        return {"fingerprint": self.fingerprint, **self._stated()}

    def parquet_metadata(self) -> dict[str, str]:
        """Return the file metadata of every part: ``elimtool.KEY`` -> the value of each fact as JSON."""
        facts = self.facts()
        return {f"elimtool.{key}": canonical_json(facts[key]) for key in sorted(facts)}

    @classmethod
    def from_json(cls, text: str, where: str = "run.json") -> Self:
        """See ``BaseManifest.from_json``."""
        return super().from_json(text, where)


def _load(text: str, where: str) -> dict[str, Any]:
    """Load the keys of a manifest's file, of a schema version that this elimtool reads."""
    try:
        loaded = parse_json(text, _refuse_constant)
    except ValueError as error:
        raise ElimError(f"{where} is damaged: {error}", HINT) from error
    if not isinstance(loaded, dict) or not isinstance(loaded.get("schema_version"), int):
        raise ElimError(f"{where} is not the manifest of a run: it has no schema_version", HINT)
    version = loaded["schema_version"]
    if version > SCHEMA_VERSION or version < 1:
        writer = loaded.get("elimtool", "an unknown version")
        raise OtherSchema(
            f"{where} has schema version {version}, written by elimtool {writer};"
            f" this elimtool reads version {SCHEMA_VERSION}",
            f"read it with elimtool {writer} or newer",
        )
    return loaded


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


class OtherSchema(ElimError):
    """The schema version is one that this elimtool cannot read."""
