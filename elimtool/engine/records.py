"""Make a run's Arrow tables, prompt rows and manifest from what the engine measured."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import version
from math import isnan
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from elimtool.errors import ElimError
from elimtool.files.rows import Row, Rows
from elimtool.metrics.columns import Categorical, Columns
from elimtool.model.interventions.recording import dtype_name
from elimtool.model.model import PROCESSING
from elimtool.model.placement import facts
from elimtool.model.view import Encoded
from elimtool.prompts.design import Design
from elimtool.prompts.prompt import Prompt, default_id
from elimtool.run.manifest import Manifest
from elimtool.run.schema import ONE_PASS, TABLES
from elimtool.version import __version__

if TYPE_CHECKING:
    from elimtool.model.model import Model
    from elimtool.samplers import Chain


DRAWN = ("generate", "confirm", "ablations", "noise")
"""Options that make a run draw at random."""

FEW = 256
"""Rows below which Arrow's ``take`` costs more than making the column without it."""


def arrow_table(name: str, columns: Columns, intervention: str | None = None) -> pa.Table:
    """Make a table by its schema; NaN and masked entries become null, infinities stay.

    Args:
        name: The table's name.
        columns: Its columns, except ``intervention``.
        intervention: The interventions of the pass; ``None`` for the plain pass.
    """
    schema = TABLES[name].schema
    if name not in ONE_PASS:
        length = len(columns["prompt_id"])
        columns = {**columns, "intervention": pa.repeat(pa.scalar(intervention, pa.string()), length)}
    if set(columns) != set(schema.names):
        raise ValueError(f"table {name}: columns {sorted(set(columns) ^ set(schema.names))} do not match")
    return pa.Table.from_arrays(
        [arrow_column(columns[field.name], field.type) for field in schema], schema=schema
    )


def arrow_column(values: Any, kind: pa.DataType) -> pa.Array:
    """Convert values to an Arrow array. The branches are faster ways to the result of the last line."""
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
    """Wrap numbers without a copy, null where they are NaN."""
    missing = np.isnan(values)
    if not missing.any():
        return pa.array(values)
    # the validity bitmap by hand: Arrow's own search for NaN takes 20 times as long
    valid = pa.py_buffer(np.packbits(~missing, bitorder="little"))
    buffers = [valid, pa.py_buffer(values)]
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), buffers)


def columns_of(rows: Rows) -> Columns:
    """Turn rows, of which there is at least one, into columns."""
    return {key: [row[key] for row in rows] for key in rows[0]}


def prompt_rows(asked: Sequence[Prompt], encoded: Sequence[Encoded | ElimError]) -> Columns:
    """Make the ``prompts`` table: one row a prompt, in input order, usable or not."""
    return columns_of([prompt_row(prompt, one) for prompt, one in zip(asked, encoded, strict=True)])


def failed_row(row: Row, error: Exception) -> Row:
    """Mark the row of a prompt whose measurement failed, and say why."""
    kind = type(error).__name__
    message = _printable(" ".join(str(error).split()) or kind)
    return {**row, "status": "error", "error_type": kind, "error_message": message}


def unread_row(prompt_id: str, text: str | None, error: Exception) -> Row:
    """Make the row of a record that is not a valid prompt."""
    known = {"prompt_id": prompt_id, "text": None if text is None else _printable(text)}
    return failed_row({**dict.fromkeys(TABLES["prompts"].names), **known}, error)


def _printable(text: str) -> str:
    """Escape lone surrogates, which neither Arrow nor a terminal takes."""
    return text.encode("utf-8", "backslashreplace").decode()


def _design(design: Design) -> Row:
    """Make the columns that say where a prompt stands among others."""
    return {
        "template": design.template,
        "tuple": design.tuple_id,
        "filler": design.filler,
        "slots": json.dumps(dict(design.slots), sort_keys=True) if design.slots else None,
        "answers": json.dumps(design.answers) if design.answers else None,
        "role": design.role,
        "seed": design.seed,
    }


def prompt_row(prompt: Prompt, one: Encoded | ElimError) -> Row:
    """Make one row of the ``prompts`` table."""
    meta = dict(prompt.meta) if isinstance(prompt.meta, Mapping) else prompt.meta
    row: Row = {
        **dict.fromkeys(TABLES["prompts"].names),
        "group": prompt.group,
        "category": prompt.category,
        "tags": list(prompt.tags),
        "meta": None if meta in (None, {}) else json.dumps(meta, sort_keys=True),
        **_design(prompt.design),
        "scored": prompt.scored,
        "turns": [{"role": one.role, "text": _printable(one.content)} for one in prompt.messages] or None,
    }
    if not isinstance(one, Encoded):
        raw = prompt.text if prompt.text is not None else "\n".join(m.content for m in prompt.messages)
        return {
            **row,
            "prompt_id": prompt.id or default_id(raw),
            "status": "error",
            "error_type": type(one).__name__,
            "error_message": str(one),
            "text": _printable(raw),
        }
    return {
        **row,
        "prompt_id": one.prompt_id,
        "status": "ok",
        "text": one.text,
        "n_tokens": len(one.token_ids),
        "n_appended": one.n_appended,
        "n_prefill": one.n_prefill,
        "n_written": one.n_written,
        "token_ids": list(one.token_ids),
        "tokens": list(one.tokens),
        "targets": [target.text for target in one.targets if not target.is_foil],
        "foils": [target.text for target in one.targets if target.is_foil],
        "appended_logprob": None if isnan(one.appended_logprob) else one.appended_logprob,
        "spellings": [target.spelling for target in one.targets],
        "control_tokens": list(one.control_tokens),
        "clock": one.clock,
        "left_out": [],
        "spans": [{"span": span.name, "tokens": list(span.tokens)} for span in one.spans],
    }


def _chats(encoded: Sequence[Encoded]) -> dict[str, Any]:
    """Collect what chat templates were given, by prompt; nothing where they were given messages alone."""
    found = {}
    for one in encoded:
        chat = one.prompt.chat
        if chat.template_vars or chat.tools or one.clock:
            given = {"template_vars": dict(chat.template_vars), "tools": list(chat.tools), "now": one.clock}
            found[one.prompt_id] = {key: value for key, value in given.items() if value}
    return {"chats": found} if found else {}


@cache
def _installed(package: str) -> str:
    """Look up a package's version; cached, since it reads files, which takes milliseconds."""
    return version(package)


def manifest(
    model: Model,
    config: Mapping[str, Any],
    chains: Sequence[Chain],
    started: str,
    encoded: Sequence[Encoded] = (),
    plugins: dict[str, Any] | None = None,
) -> Manifest:
    """Collect everything that the run depends on, for ``run.json``.

    Args:
        model: The model.
        config: All options of the run.
        chains: Its sampler chains.
        started: When it began.
        encoded: Its prompts, where they are known.
        plugins: Parts of it that are not elimtool's own.
    """
    hashes = model.hashes()
    return Manifest(
        elimtool=__version__,
        transformer_lens=_installed("transformer_lens"),
        transformers=_installed("transformers"),
        torch=_installed("torch"),
        model=model.name,
        revision=model.revision or None,
        revision_name=model.revision_name or None,
        weights_sha256=hashes["weights_sha256"],
        tokenizer_sha256=hashes["tokenizer_sha256"],
        n_layers=model.n_layers,
        n_heads=model.n_heads,
        adapters=None if model.adapters is None else [one.plain() for one in model.adapters],
        dtype=dtype_name(model.dtype),
        device=str(model.device),
        plugins=plugins,
        processing=PROCESSING,
        bos=model.tokenizer.bos_before([one.token_ids for one in encoded]),
        **facts(model.hf),
        lens=config.get("lens"),
        sinks=config["sinks"],
        seed=config["seed"] if any(map(config.get, DRAWN)) or "written" in str(config["position"]) else None,
        chains=[chain.describe() for chain in chains],
        config=json.loads(
            json.dumps({**config, **_chats(encoded)})
        ),  # as a reader of the file will see it: tuples become lists
        started=started,
    )
