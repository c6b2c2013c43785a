"""A pass that is asked for before the tables of the one before it are filled changes no number."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from elimtool import Ablate, Prompt, TraceOptions
from elimtool.engine.defects import Defects
from elimtool.engine.forward import launch
from elimtool.engine.loop import Passes, Tables
from elimtool.engine.session import Session
from elimtool.metrics.columns import Columns
from elimtool.metrics.metric import Metric, Settings
from elimtool.model.loading import load_model
from elimtool.model.memory import LogitRoom
from elimtool.model.view import Batch, Encoded, LayerView
from tests.accelerator import Away, put
from tests.families import save

LENGTHS = (12, 5, 24, 25, 6)
TEXT = "The capital of France is Paris, and the capital of Spain is Madrid, where it is warm in the summer."


def encoded(session: Session) -> list[Encoded]:
    some = [Prompt(text=TEXT[:n], id=f"p{n}", targets=(" P", "t"), foils=(" R",)) for n in LENGTHS]
    found = [one for one in session.encode_all(some) if isinstance(one, Encoded)]
    assert len(found) == len(LENGTHS)
    return found


def ran(session: Session, ahead: bool | None, extra: Any = (), defects: Defects | None = None) -> Passes:
    passes = Passes(session, defects, extra=extra, ahead=ahead)
    passes.run(encoded(session), 2, little=0)
    return passes


def tables(passes: Passes) -> Tables:
    return passes.tables([f"p{n}" for n in LENGTHS])


def same(one: Tables, other: Tables) -> None:
    assert set(one) == set(other)
    for name, table in one.items():
        assert table.equals(other[name]), name


@dataclass
class Told:
    """What happened to passes, in order; ``at`` is called with each."""

    at: Callable[[str, tuple[str, ...]], None] = lambda *_: None
    events: list[str] = field(default_factory=list)

    def metric(self, batch: Batch, settings: Settings) -> Metric:
        return Telling(batch, settings, self)

    def tell(self, what: str, batch: Batch) -> None:
        ids = tuple(one.prompt_id for one in batch.encoded)
        self.events.append(f"{what} {' '.join(ids)}")
        self.at(what, ids)


class Telling(Metric):
    """Tells when its pass begins and when its tables are filled."""

    def __init__(self, batch: Batch, settings: Settings, told: Told) -> None:
        super().__init__(batch, settings)
        self.told = told

    def observe(self, view: LayerView) -> None:
        if view.layer < 0:
            self.told.tell("runs", self.batch)

    def finish(self) -> dict[str, Columns]:
        self.told.tell("filled", self.batch)
        return {}


@pytest.fixture(scope="module")
def plain(llama: Any) -> Session:
    return Session(llama, TraceOptions(tables=("lens",)))


def test_tables_are_the_same_to_the_bit(llama: Any) -> None:
    names = ("lens_layers", "attention", "top_tokens")
    changed = (Ablate("0.1", how="zero"),)
    session = Session(llama, TraceOptions(tables=names, samplers=("min_p=0.1",), interventions=changed))
    one, other = ran(session, False), ran(session, True)
    same(tables(one), tables(other))
    assert (one.tokens, one.slots) == (other.tokens, other.slots)


def test_tables_hold_nothing_of_the_logits(llama: Any) -> None:
    session = Session(llama, TraceOptions(heads=False), compiled=True)
    some, room = encoded(session)[:3], LogitRoom()
    whole = launch(llama, some, session.settings, session.lens).tables()
    pending = launch(llama, some, session.settings, session.lens, room=room)
    room.rows(1, llama.vocab).numpy().fill(np.nan)
    same(pending.tables(), dict(whole))


def test_one_pass_waits_while_the_next_is_asked_for(plain: Session) -> None:
    orders = []
    for ahead in (None, True):
        told, done = Told(), list[int]()
        passes = Passes(plain, extra=[told.metric], ahead=ahead)
        passes.run(encoded(plain), 2, lambda now, _, done=done: done.append(now), little=0)  # type: ignore[misc]
        groups = [one.removeprefix("runs ") for one in told.events if one.startswith("runs")]
        assert done == sorted(done) and done[-1] == len(LENGTHS)
        orders.append((told.events, groups))
    (here, groups), (there, again) = orders
    assert groups == again and len(groups) == 3
    assert here == [f"{what} {group}" for group in groups for what in ("runs", "filled")]
    turns = [turn for before, after in pairwise(groups) for turn in (f"runs {after}", f"filled {before}")]
    assert there == [f"runs {groups[0]}", *turns, f"filled {groups[-1]}"]


def test_what_fails_while_tables_are_filled_costs_its_own_prompt(plain: Session) -> None:
    def broken(what: str, ids: tuple[str, ...]) -> None:
        if what == "filled" and "p12" in ids:
            raise ValueError("broken")

    told, defects = Told(broken), Defects()
    passes = ran(plain, True, [told.metric], defects)
    assert list(passes.failed) == ["p12"] and str(passes.failed["p12"]) == "broken"
    left = {f"p{n}" for n in LENGTHS} - {"p12"}
    assert set(tables(passes)["lens"].column("prompt_id").to_pylist()) == left
    with pytest.raises(ValueError, match="broken"):
        ran(plain, True, [told.metric])


def test_without_memory_the_pass_before_is_finished_first(plain: Session) -> None:
    refused: list[tuple[str, ...]] = []

    def short(what: str, ids: tuple[str, ...]) -> None:
        if what == "runs" and len(ids) > 1 and len(told.events) > 1 and not refused:
            refused.append(ids)
            raise torch.OutOfMemoryError("CUDA out of memory")

    told = Told(short)
    passes = ran(plain, True, [told.metric])
    one, other = (tables(each)["lens"].column("prompt_id") for each in (passes, ran(plain, False)))
    assert one.equals(other)
    failed = told.events.index(f"runs {' '.join(refused[0])}")
    before = told.events[failed - 1].removeprefix("runs ").removeprefix("filled ")
    assert told.events[failed + 1] == f"filled {before}"
    assert told.events[failed + 2 : failed + 4] == [f"runs {one}" for one in refused[0]]


def test_an_interrupt_drops_what_was_pending(plain: Session) -> None:
    armed = [True]

    def stop(what: str, ids: tuple[str, ...]) -> None:
        if what == "runs" and "p24" in ids and armed:
            armed.clear()
            raise KeyboardInterrupt

    told = Told(stop)
    passes = Passes(plain, extra=[told.metric], ahead=True)
    with pytest.raises(KeyboardInterrupt):
        passes.run(encoded(plain), 2, little=0)
    some = encoded(plain)[:1]
    told.events.clear()
    passes.run(some, 2, little=0)
    assert told.events == [f"{what} {some[0].prompt_id}" for what in ("runs", "filled")]


def test_a_pending_pass_keeps_no_activation(tmp_path: Any, tokenizer: Any) -> None:
    model = load_model(str(save("llama", tmp_path, tokenizer)))
    model.hashes()
    put(model.bridge)
    session = Session(model, TraceOptions(samplers=("min_p=0.1",)))
    some = encoded(session)[:2]
    widths = {model.hf.config.hidden_size, model.hf.config.intermediate_size, model.vocab}
    assert not widths & {len(one.token_ids) for one in some}
    launch(session.model, some, session.settings, session.lens).tables()  # what a model keeps from then on
    known = {id(one) for one in _there()}
    pending = launch(session.model, some, session.settings, session.lens)
    kept = [one for one in _there() if id(one) not in known]
    assert kept and not [one.shape for one in kept if widths & set(one.raw.shape)]
    assert pending.tables()["lens"].num_rows


def _there() -> list[Away]:
    """Tensors of the device that are held."""
    gc.collect()
    return [one for one in gc.get_objects() if type(one) is Away]  # nothing else is asked of other objects
