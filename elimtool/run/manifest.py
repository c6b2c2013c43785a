"""What produced a run: the contents of ``run.json`` as a checked, frozen record."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, ValidationError

from elimtool.errors import ElimError
from elimtool.run.schema import SCHEMA_VERSION

NOT_FINGERPRINTED = ("fingerprint", "started", "finished", "counts")
WHERE_KNOWN = ("n_layers", "n_heads")
"""Keys that came later: left out where there is no value, so that older runs keep their fingerprint."""


def utc_now() -> str:
    """The time in UTC to the second, as ISO 8601."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def canonical_json(value: Any) -> str:
    """JSON that is equal for equal values: sorted keys, no spaces, ASCII only.

    Raises:
        ValueError: ``value`` holds NaN or an infinity, which JSON has no word for.
        TypeError: ``value`` holds something that is no JSON.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def _plain(value: Any) -> Any:
    """A detached copy made of JSON's own types (tuples become lists, keys strings)."""
    try:
        return json.loads(canonical_json(value))
    except TypeError as error:
        raise ValueError(str(error)) from error


def _time(text: str) -> str:
    datetime.fromisoformat(text)
    return text


Plain = Annotated[JsonValue, BeforeValidator(_plain)]
Time = Annotated[str, AfterValidator(_time)]


class Manifest(BaseModel):
    """Everything that a run depends on, and when it ran.

    Two runs with one ``fingerprint`` were made by the same versions from the same model, inputs and options.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    schema_version: int = Field(
        SCHEMA_VERSION, description="Version of the tables' columns and of these keys."
    )
    elimtool: str = Field(description="Version of elimtool.")
    transformer_lens: str | None = Field(description="Version of TransformerLens.")
    transformers: str | None = Field(description="Version of transformers.")
    torch: str | None = Field(description="Version of torch.")
    model: str = Field(description="Model as it was named: a catalogue name, a hub id or a path.")
    revision: str | None = Field(None, description="Revision of the model, where it has one.")
    weights_sha256: str | None = Field(None, description="SHA-256 of the weights.")
    tokenizer_sha256: str | None = Field(None, description="SHA-256 of the tokenizer.")
    n_layers: int | None = Field(None, description="Blocks of the model; left out by earlier versions.")
    n_heads: int | None = Field(None, description="Query heads of a block; likewise.")
    dtype: str = Field(description="Number type of the weights in memory.")
    device: str = Field(description="Device that the model ran on.")
    processing: Plain = Field(description="What was done to the weights ('raw': nothing).")
    bos: Plain = Field(
        description="Whether a beginning-of-sequence token was put before the prompts, and why."
    )
    lens: Plain = Field(description="Lens through which layers were read.")
    sinks: Plain = Field(description="Rule or positions of the attention sink set.")
    chains: Plain = Field(description="Sampler chains, each in full: engine, stages, parameters.")
    seed: int | None = Field(None, description="Seed, where anything was drawn at random.")
    config: Plain = Field(description="All options of the run, in full.")
    started: Time | None = Field(None, description="When the run began (UTC, ISO 8601).")
    finished: Time | None = Field(None, description="When the run was complete (UTC, ISO 8601).")
    counts: dict[str, int] = Field(default_factory=dict, description="Rows written, by table.")

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hexadecimal) over the canonical JSON of all keys but the two times, counts and itself."""
        return hashlib.sha256(canonical_json(self._facts()).encode("ascii")).hexdigest()

    def _stated(self) -> dict[str, Any]:
        return {
            key: value
            for key, value in self.model_dump().items()
            if value is not None or key not in WHERE_KNOWN
        }

    def _facts(self) -> dict[str, Any]:
        return {key: value for key, value in self._stated().items() if key not in NOT_FINGERPRINTED}

    def facts(self) -> dict[str, Any]:
        """What the run depends on: all keys but the two times and counts, ``fingerprint`` among them."""
        return {"fingerprint": self.fingerprint, **self._facts()}

    def without_times(self) -> Manifest:
        """The same facts, without times and counts."""
        return self.model_copy(update={"started": None, "finished": None, "counts": {}})

    def to_dict(self) -> dict[str, Any]:
        """All keys of ``run.json``, ``fingerprint`` among them, as JSON's own types."""
        return {"fingerprint": self.fingerprint, **self._stated()}

    def to_json(self) -> str:
        """The text of ``run.json``: sorted keys, indented, ASCII only, one trailing newline."""
        return json.dumps(self.to_dict(), sort_keys=True, indent=2, allow_nan=False) + "\n"

    def parquet_metadata(self) -> dict[str, str]:
        """File metadata of every part: ``elimtool.KEY`` -> its value as JSON, without times and counts."""
        facts = self.facts()
        return {f"elimtool.{key}": canonical_json(facts[key]) for key in sorted(facts)}

    def finish(self, counts: dict[str, int], finished: str | None = None) -> Manifest:
        """The same run, complete: with the rows of each table and the time it ended (now by default)."""
        return self.model_copy(
            update={"counts": dict(sorted(counts.items())), "finished": finished or utc_now()}
        )

    @classmethod
    def from_json(cls, text: str, where: str = "run.json") -> Manifest:
        """Read ``run.json`` back.

        Args:
            text: Contents of the file.
            where: What to call it in messages.

        Raises:
            ElimError: Damaged, edited by hand, or written by a newer elimtool.
        """
        hint = "run the command again, or restore the file"
        loaded = load_json(text, where)
        check_version(loaded, where)
        stated = loaded.pop("fingerprint", None)
        try:
            manifest = cls.model_validate(loaded)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            raise ElimError(f"{where} is damaged: {place}: {first['msg']}", hint) from error
        if stated != manifest.fingerprint:
            raise ElimError(f"{where} was changed after it was written: its fingerprint does not match", hint)
        return manifest


def load_json(text: str, where: str) -> dict[str, Any]:
    """The keys of a manifest's file.

    Raises:
        ElimError: It is no strict JSON, or has no schema version.
    """
    hint = "run the command again, or restore the file"
    try:
        loaded = json.loads(text, parse_constant=_refuse_constant)
    except ValueError as error:
        raise ElimError(f"{where} is damaged: {error}", hint) from error
    if not isinstance(loaded, dict) or not isinstance(loaded.get("schema_version"), int):
        raise ElimError(f"{where} is not the manifest of a run: it has no schema_version", hint)
    return loaded


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


class OtherSchema(ElimError):
    """What is to be read has a schema version that this elimtool does not know."""


def check_version(loaded: dict[str, Any], where: str) -> None:
    """Refuse a manifest of another schema version.

    Raises:
        OtherSchema: The message names the version of elimtool that reads it.
    """
    version = loaded["schema_version"]
    if version > SCHEMA_VERSION or version < 1:
        writer = loaded.get("elimtool", "an unknown version")
        raise OtherSchema(
            f"{where} has schema version {version}, written by elimtool {writer};"
            f" this elimtool reads version {SCHEMA_VERSION}",
            f"read it with elimtool {writer} or newer",
        )
