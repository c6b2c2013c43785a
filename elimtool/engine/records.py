"""Columns to Arrow tables, prompts to rows, and a run's manifest: the seam between engine and run room."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from elimtool.errors import ElimError
from elimtool.files.rows import Row
from elimtool.metrics.columns import Categorical, Columns
from elimtool.model.model import PROCESSING
from elimtool.model.view import Encoded
from elimtool.prompts.prompt import Prompt, default_id
from elimtool.run.manifest import Manifest
from elimtool.run.schema import ONE_PASS, TABLES
from elimtool.version import __version__

if TYPE_CHECKING:
    from elimtool.model.model import Model
    from elimtool.samplers import Chain


DRAWN = ("generate", "confirm", "ablations")
"""Options that make a run draw at random."""


FEW = 256
"""Rows under which a column is made without Arrow's ``take``, whose call alone costs more."""


def arrow_table(name: str, columns: Columns, intervention: str | None = None) -> pa.Table:
    """One table by its frozen schema; NaN and masked entries become null, infinities stay.

    Args:
        name: Which table.
        columns: Its columns, but for ``intervention``.
        intervention: What was done to the model in the pass that the rows are of.
    """
    schema = TABLES[name].schema
    if name not in ONE_PASS:
        length = len(columns["prompt_id"])
        columns = {**columns, "intervention": pa.repeat(pa.scalar(intervention, pa.string()), length)}
    if set(columns) != set(schema.names):
        raise ValueError(f"table {name}: columns {sorted(set(columns) ^ set(schema.names))} do not match")
    return pa.Table.from_arrays([_column(columns[field.name], field.type) for field in schema], schema=schema)


def _column(values: Any, kind: pa.DataType) -> pa.Array:
    """Values as an Arrow array; the shorter ways give what the last line would."""
    if isinstance(values, pa.Array):
        return values
    if isinstance(values, Categorical):
        if len(values) < FEW:
            return pa.array(np.asarray(values), type=kind)
        return pa.array(values.categories, type=kind).take(pa.array(values.codes))
    if type(values) is np.ndarray and values.dtype.kind == "f" and pa.types.is_floating(kind):
        wanted = kind.to_pandas_dtype()
        if np.can_cast(values.dtype, wanted):
            return _floats(np.ascontiguousarray(values, wanted))
    return pa.array(values, type=kind, from_pandas=True)


def _floats(values: npt.NDArray[Any]) -> pa.Array:
    """Numbers without a copy, null where they are NaN: Arrow's own search for NaN takes 20 times as long."""
    missing = np.isnan(values)
    if not missing.any():
        return pa.array(values)
    valid = pa.py_buffer(np.packbits(~missing, bitorder="little"))
    buffers = [valid, pa.py_buffer(values)]
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), buffers)


def prompt_rows(asked: Sequence[Prompt], encoded: Sequence[Encoded | ElimError]) -> Columns:
    """The ``prompts`` table: one row a prompt, in input order, usable or not."""
    rows = [prompt_row(prompt, one) for prompt, one in zip(asked, encoded, strict=True)]
    return {key: [row[key] for row in rows] for key in rows[0]}


def failed_row(row: Row, error: Exception) -> Row:
    """The row of a prompt whose measurement failed: what is known of it, and why."""
    return {**row, "status": "error", "error_type": type(error).__name__, "error_message": _one_line(error)}


def unread_row(prompt_id: str, text: str | None, error: Exception) -> Row:
    """The row of a record that is no prompt at all."""
    known = {"prompt_id": prompt_id, "text": None if text is None else _printable(text)}
    return failed_row({**dict.fromkeys(TABLES["prompts"].names), **known}, error)


def _one_line(error: Exception) -> str:
    return _printable(" ".join(str(error).split()) or type(error).__name__)


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def prompt_row(prompt: Prompt, one: Encoded | ElimError) -> Row:
    """One row of the ``prompts`` table."""
    given = {
        "group": prompt.group,
        "category": prompt.category,
        "tags": list(prompt.tags),
        "meta": _json(prompt.meta) if prompt.meta not in (None, {}) else None,
    }
    if isinstance(one, Encoded):
        return {**_encoded_row(one), **given}
    raw = prompt.text if prompt.text is not None else "\n".join(m.content for m in prompt.messages)
    empty = dict.fromkeys(_ENCODED_ONLY)
    return {
        **empty,
        "prompt_id": prompt.id or default_id(raw),
        "status": "error",
        "error_type": type(one).__name__,
        "error_message": str(one),
        "text": _printable(raw),
        **given,
    }


def _json(meta: Any) -> str:
    return json.dumps(dict(meta) if isinstance(meta, Mapping) else meta, sort_keys=True)


_ENCODED_ONLY = ("n_tokens", "n_appended", "token_ids", "tokens", "targets", "foils", "spans")


def _encoded_row(one: Encoded) -> Row:
    return {
        "prompt_id": one.prompt_id,
        "status": "ok",
        "error_type": None,
        "error_message": None,
        "text": one.text,
        "n_tokens": len(one.token_ids),
        "n_appended": one.n_appended,
        "token_ids": list(one.token_ids),
        "tokens": list(one.tokens),
        "targets": [target.text for target in one.targets if not target.is_foil],
        "foils": [target.text for target in one.targets if target.is_foil],
        "spans": [{"span": span.name, "tokens": list(span.tokens)} for span in one.spans],
    }


@cache
def _installed(package: str) -> str:
    """A package's version; finding it reads files, which costs milliseconds."""
    return version(package)


def manifest(model: Model, config: Mapping[str, Any], chains: Sequence[Chain], started: str) -> Manifest:
    """Everything that the run depends on, for ``run.json``."""
    hashes = model.hashes()
    return Manifest(
        elimtool=__version__,
        transformer_lens=_installed("transformer_lens"),
        transformers=_installed("transformers"),
        torch=_installed("torch"),
        model=model.name,
        revision=model.revision or None,
        weights_sha256=hashes["weights_sha256"],
        tokenizer_sha256=hashes["tokenizer_sha256"],
        n_layers=model.n_layers,
        n_heads=model.n_heads,
        dtype=str(model.dtype).removeprefix("torch."),
        device=str(model.device),
        processing=PROCESSING,
        bos=model.tokenizer.bos_policy,
        lens=config.get("lens"),
        sinks=config["sinks"],
        seed=config["seed"] if any(map(config.get, DRAWN)) else None,
        chains=[chain.describe() for chain in chains],
        config=json.loads(json.dumps(config)),
        started=started,
    )
