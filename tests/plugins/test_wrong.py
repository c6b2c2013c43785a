"""A plugin that raises, lies about its schema or takes a name: an error that names it and its package."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

import elimtool
from elimtool.errors import ElimError
from elimtool.files.plugins import Registry
from elimtool.lenses.brought import LENSES, _fault
from elimtool.metrics import METRICS
from elimtool.metrics.wrong import fault
from elimtool.run.columns import AFTER_LAYER, FLOAT, POSITION, PROMPT_ID, Column, Table
from tests.plugins.parts import LEAD, Clipped, Few, Lead

SHARE = Column("part", FLOAT, "A share.", "share", "0 .. 1")
PART = Table("part", "Which part?", "one row per prompt", (PROMPT_ID, POSITION, SHARE))


def metric(change: Callable[[dict[str, Any]], Any], table: Table = PART) -> type[elimtool.Metric]:
    """A metric whose columns are right but for one change."""

    class Part(elimtool.Metric):
        defines = (table,)

        def finish(self) -> Any:
            ids = [one.prompt_id for one in self.batch.encoded]
            last = [one.positions[-1] for one in self.batch.encoded]
            columns = {"prompt_id": ids, "position": last, "part": np.full(len(ids), 0.5)}
            return change(columns)

    return Part


def measured(model: Any, *plugins: Any, **options: Any) -> Any:
    wanted = elimtool.TraceOptions(plugins=plugins, tables=("part",), **options)
    return elimtool.trace(model, ["The capital", "A token"], options=wanted)


def test_one_that_is_right_passes(tiny: Any) -> None:
    assert measured(tiny, metric(lambda columns: {"part": columns})).table("part")["part"].tolist() == [
        0.5,
        0.5,
    ]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: 1 / 0, "ZeroDivisionError: division by zero"),
        (lambda c: None, "finish returns a NoneType, not a mapping"),
        (lambda c: {"other": c}, "it fills a table 'other', which it does not define"),
        (lambda c: {"part": [1]}, "table 'part': its columns must be a mapping, got a list"),
        (lambda c: {"part": {"prompt_id": c["prompt_id"]}}, "it gives no column 'part'"),
        (lambda c: {"part": {**c, "extra": c["part"]}}, "it gives a column 'extra', which its definition"),
        (lambda c: {"part": {**c, "part": [0.5]}}, "its columns are of different lengths"),
        (lambda c: {"part": {**c, "part": 0.5}}, "its columns are of different lengths"),
        (lambda c: {"part": {**c, "part": ["a", "b"]}}, "column 'part' cannot be made double"),
        (lambda c: {"part": {**c, "position": [0.5, 1.5]}}, "column 'position' cannot be made int32"),
        (lambda c: {"part": {**c, "part": [0.5, None]}}, "column 'part' holds null, and `null_when`"),
        (lambda c: {"part": {**c, "part": np.array([0.5, np.nan])}}, "column 'part' holds null"),
        (
            lambda c: {"part": {**c, "part": [0.5, 1.5]}},
            r"column 'part' holds 1.5, outside its range 0 \.\. 1",
        ),
        (lambda c: {"part": {**c, "part": [0.5, -np.inf]}}, "column 'part' holds -inf, outside its range"),
        (lambda c: {"part": {**c, "prompt_id": ["?", "?"]}}, "it names a prompt that it was not shown: '?'"),
        (
            lambda c: {"part": {**c, "position": [0, 0]}},
            "it names position 0 of prompt .*, which was not",
        ),
    ],
)
def test_what_a_metric_does_wrong_is_said_with_its_name(change: Any, said: str, tiny: Any) -> None:
    with pytest.raises(ElimError, match=f"plugin 'part' of tests.plugins.test_wrong:.*: .*{said}") as caught:
        measured(tiny, metric(change))
    assert caught.value.exit_code == 2 and "leave it out of `plugins`" in caught.value.hint


@pytest.mark.parametrize("method", ["__init__", "observe", "read"])
def test_an_error_in_any_method_is_the_plugin_s(method: str, tiny: Any) -> None:
    def fails(*_: Any) -> None:
        raise KeyError("by me")

    made = type("Part", (metric(lambda c: {"part": c}),), {method: fails})
    with pytest.raises(ElimError, match=r"plugin 'part' of .*: KeyError: 'by me'"):
        measured(tiny, made)


def other(**changes: Any) -> type[elimtool.Metric]:
    return type("Other", (elimtool.Metric,), changes)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (5, "5 is not a subclass of elimtool.Metric"),
        (other(), r"Other.defines must be a tuple of at least one elimtool.Table, got \(\)"),
        (other(defines=(PART,), tables=("part", "more")), "it defines the tables .* and says that it fills"),
        (other(defines=(LEAD,)), "its first table must be called 'part'"),
        (other(defines=(PART, LEAD)), "its first table must be called 'part', and others 'part_"),
        (other(defines=(PART,), needs=frozenset({"everything"})), "it needs 'everything'"),
        (
            other(defines=(Table("part", "?", "?", (SHARE,)),)),
            "lacks the column elimtool.run.columns.P",
        ),
        (other(defines=(Table("part", "?", "?", (PROMPT_ID, SHARE, SHARE)),)), "must be words, each another"),
        (
            other(defines=(Table("part", "?", "?", (PROMPT_ID, Column("intervention", FLOAT, "?"))),)),
            "elimtool adds the column 'intervention' itself",
        ),
        (
            other(defines=(Table("part", "?", "?", (PROMPT_ID, Column("x", pa.date32(), "?"))),)),
            "column 'x' of type date32",
        ),
    ],
)
def test_a_metric_that_cannot_be_one_is_refused_when_it_is_loaded(made: Any, said: str) -> None:
    assert re.search(said, fault("part", made)), fault("part", made)


@pytest.mark.parametrize(
    ("to_final", "said"),
    [
        (lambda self, residual, layer: 1 / 0, "ZeroDivisionError"),
        (lambda self, residual, layer: residual.tolist(), "to_final returns a list, not a tensor"),
        (lambda self, residual, layer: residual[:, :3], r"to_final returns shape \(2, 3\), not \(2, 16\)"),
        (lambda self, residual, layer: residual.double(), "dtype torch.float64, not torch.float32"),
        (lambda self, residual, layer: residual / 0, "numbers that are not finite, at layer -1"),
    ],
)
def test_what_a_lens_does_wrong_is_said_with_its_name(to_final: Any, said: str, tiny: Any) -> None:
    lens = type("Mine", (Clipped,), {"name": "mine", "to_final": to_final})
    with pytest.raises(ElimError, match=f"plugin 'mine' of tests.plugins.test_wrong:Mine: .*{said}"):
        options = elimtool.TraceOptions(plugins=(lens,), lens="mine", tables=("lens_layers",))
        elimtool.trace(tiny, ["The", "A"], options=options)


def test_a_lens_cannot_edit_what_it_is_shown(tiny: Any) -> None:
    def to_final(self: Any, residual: Any, layer: int) -> Any:
        return residual.mul_(0)

    options = {"tables": ("lens_layers",), "lens": "zero"}
    lens = type("Zero", (Clipped,), {"name": "zero", "to_final": to_final})
    found = elimtool.trace(tiny, "The", options=elimtool.TraceOptions(plugins=(lens,), **options))
    raw = elimtool.trace(tiny, "The", options=elimtool.TraceOptions(tables=("lens_layers",), lens="raw"))
    last = [run.table("lens_layers")["entropy"].iloc[-1] for run in (found, raw)]
    assert last[0] == last[1]


@pytest.mark.parametrize(
    ("plugins", "said"),
    [
        (
            (other(defines=(Table("lens", "?", "?", (PROMPT_ID, SHARE)),)),),
            "elimtool has something",
        ),
        (
            (other(defines=(Table("verdicts", "?", "?", (PROMPT_ID, SHARE)),)),),
            "elimtool has something",
        ),
        ((type("Raw", (Clipped,), {"name": "raw"}),), "elimtool has something"),
        ((type("TopK", (Few,), {"kind": "top_k"}),), "elimtool has something"),
        ((Lead, other(defines=(LEAD,))), "has that name too"),
        ((Few(k=3),), "neither a stage's class"),
        ((5,), "5 is neither a stage's class"),
    ],
)
def test_a_name_that_is_taken_is_refused(plugins: Any, said: str) -> None:
    with pytest.raises(ElimError, match=said) as caught:
        elimtool.TraceOptions(plugins=plugins)
    assert caught.value.exit_code == 2


def test_a_class_that_is_written_anew_takes_the_place_of_the_old_one(tiny: Any) -> None:
    assert measured(tiny, metric(lambda c: {"part": c})).table("part")["part"].tolist() == [0.5, 0.5]
    again = metric(lambda c: {"part": {**c, "part": c["part"] / 2}})
    assert measured(tiny, again).table("part")["part"].tolist() == [0.25, 0.25]


def test_tables_that_nobody_fills_are_named(tiny: Any) -> None:
    with pytest.raises(ElimError, match="there is no table 'partly'"):
        elimtool.TraceOptions(tables=("partly",))


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Makes a package with entry points, as installing one would."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def made(group: str, entries: str, text: str = "", name: str = "others") -> None:
        (tmp_path / f"{name}_parts.py").write_text(text)
        info = tmp_path / f"{name}-2.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 2.0\n")
        (info / "entry_points.txt").write_text(f"[{group}]\n{entries}\n")

    yield made
    for name in [name for name in sys.modules if name.endswith("_parts")]:
        del sys.modules[name]


MODULE = "from tests.plugins.parts import *\n"


@pytest.mark.parametrize(
    ("group", "own", "check", "name", "entry", "text", "said"),
    [
        (
            "metrics",
            METRICS,
            fault,
            "lead",
            "lead = others_parts:Lead",
            "1 / 0",
            "cannot be loaded: Zero",
        ),
        (
            "metrics",
            METRICS,
            fault,
            "lead",
            "lead = others_parts:Few",
            MODULE,
            "is not a subclass of",
        ),
        (
            "metrics",
            METRICS,
            fault,
            "size",
            "size = others_parts:Lead",
            MODULE,
            "first table must be called",
        ),
        (
            "metrics",
            METRICS,
            fault,
            "x",
            "lens = others_parts:Lead",
            MODULE,
            "elimtool has something",
        ),
        (
            "metrics",
            METRICS,
            fault,
            "x",
            "lens_layers = others_parts:Lead",
            MODULE,
            "elimtool has something",
        ),
        ("lenses", LENSES, _fault, "mine", "mine = others_parts:number", MODULE, "5 has no method to_final"),
        ("lenses", LENSES, _fault, "mine", "mine = others_parts:Clipped", MODULE, "its name is 'clipped'"),
        (
            "lenses",
            LENSES,
            _fault,
            "x",
            "raw = others_parts:Clipped",
            MODULE,
            "elimtool has something",
        ),
    ],
)
def test_an_entry_point_that_is_wrong_is_named_with_its_package(
    group: str,
    own: Any,
    check: Any,
    name: str,
    entry: str,
    text: str,
    said: str,
    package: Callable[..., None],
) -> None:
    package(f"elimtool.{group}", entry, text)
    registry = Registry({one: own[one] for one in own.own}, f"elimtool.{group}", check, own.taken)
    with pytest.raises(ElimError, match=f"plugin '.*' of others 2.0: .*{said}"):
        _ = registry[name]


def test_one_that_fails_spoils_no_other(package: Callable[..., None], tiny: Any, monkeypatch: Any) -> None:
    package("elimtool.metrics", "broken = others_parts:Lead", "1 / 0")
    monkeypatch.delitem(METRICS.__dict__, "_entries", raising=False)
    try:
        with pytest.raises(ElimError, match=r"plugin 'broken' of others 2\.0"):
            elimtool.trace(tiny, "The")
        assert "lens" in elimtool.trace(tiny, "The", options=elimtool.TraceOptions(tables=("lens",))).tables
        assert len(measured(tiny, metric(lambda c: {"part": c})).table("part")) == 2
    finally:
        METRICS.__dict__.pop("_entries", None)


def test_a_metric_passes_the_tests_of_its_own_where_its_package_is_installed(
    package: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They watch the class, and a module may be loaded anew: neither is another part of that name."""
    from elimtool.testing import check_metric

    text = Path(sys.modules[Lead.__module__].__file__ or "").read_text(encoding="utf-8")
    package("elimtool.metrics", "lead = others_parts:Lead", text)
    monkeypatch.delitem(METRICS.__dict__, "_entries", raising=False)
    METRICS.pop("lead", None)
    try:
        check_metric(METRICS["lead"])
        assert METRICS.origins["lead"].installed
        with pytest.raises(ElimError, match=r"others 2\.0 has one of that name too"):
            elimtool.TraceOptions(plugins=(Lead,))
    finally:
        METRICS.__dict__.pop("_entries", None)
        METRICS.pop("lead", None)


def test_a_prompt_that_a_metric_fails_on_costs_only_itself(tiny: Any, tmp_path: Path) -> None:
    from elimtool.prompts.file import PromptFile
    from elimtool.tasks.batch.local import LocalEngine
    from elimtool.tasks.batch.options import BatchOptions
    from elimtool.tasks.batch.run import run

    def change(columns: dict[str, Any]) -> Any:
        return 1 / 0 if "bad" in columns["prompt_id"] else {"part": columns}

    path = tmp_path / "p.jsonl"
    path.write_text("".join(f'{{"id": "{name}", "prompt": "The {name}"}}\n' for name in ("a", "bad", "c")))
    options = elimtool.TraceOptions(plugins=(metric(change),), tables=("part",))
    batch = BatchOptions()
    found = run(PromptFile(path), tmp_path / "run", LocalEngine(tiny, options, batch), batch)
    assert (found.prompts, found.errors, found.summed("defects")) == (3, 1, {})
    told = elimtool.open_run(tmp_path / "run")
    assert told.table("part")["prompt_id"].tolist() == ["a", "c"]
    (message,) = told.prompts["error_message"].dropna()
    assert "p.jsonl:2: plugin 'part' of tests.plugins.test_wrong" in message and "ZeroDivision" in message


def test_they_are_the_last_to_see_what_is_shown(tiny: Any) -> None:
    class Edits(Lead):
        def read(self, view: Any) -> None:
            super().read(view)
            view.logits.zero_()

        def observe(self, view: Any) -> None:
            view.residual.zero_()

    one = elimtool.trace(tiny, "The capital of", plugins=[Edits]).table("lens_layers")
    other_one = elimtool.trace(tiny, "The capital of").table("lens_layers")
    assert one.equals(other_one)
    assert torch.is_inference_mode_enabled() is False and AFTER_LAYER in LEAD.columns
