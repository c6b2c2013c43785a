"""Trace what a page asks, and keep the last states so that they can be looked at and changed again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

from elimtool.engine.session import Session, second_model
from elimtool.lenses.find import ensure_lens
from elimtool.metrics.metric import ReadoutView, Settings
from elimtool.model.interventions import Knockout, label
from elimtool.model.model import Model
from elimtool.model.source import ModelSource
from elimtool.run.reader import Run
from elimtool.samplers import Chain
from elimtool.samplers.combine import LAYERS, needed_rows
from elimtool.tasks.explore.asked import PageState
from elimtool.tasks.explore.chains import resolved
from elimtool.tasks.explore.kept import Kept, rerun, watched
from elimtool.tasks.map.kept import with_roles
from elimtool.tasks.trace import prepare, traced

MOST_STATES = 24
"""States that are kept; the least recently used one goes first."""
MOST_BYTES = 256 * 2**20
"""Memory of the outputs that are kept, in all."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class TracedState:
    """What was measured for one state of the page.

    Attributes:
        asked: What it answers.
        run: The tables.
        kept: The model's output, for other chains.
        session: What it was measured with, but for the chains.
        settings: Those of its metrics, with its own chains.
    """

    asked: PageState
    run: Run
    kept: Kept
    session: Session
    settings: Settings

    @property
    def chains(self) -> tuple[Chain, ...]:
        """Its sampler chains."""
        return self.settings.chains

    @property
    def views(self) -> list[ReadoutView]:
        """The kept output of the pass that is looked at: of the changed model, where something is changed."""
        return self.kept.views[self.run.interventions]


class TracedStates:
    """The model, loaded when it is first asked, and the states that were traced last.

    One thread at a time may call it.

    Args:
        source: How to load the model.
        typed: Writes the command line that traces a state of a model.
        most: TracedStates to keep.
        most_bytes: Memory of their outputs, in all.
    """

    def __init__(
        self,
        source: ModelSource,
        typed: Callable[[PageState, ModelSource], str],
        most: int = MOST_STATES,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self.source = source
        self.typed = typed
        self.most = most
        self.most_bytes = most_bytes
        self.dropped = 0
        """How many states were dropped so far."""
        self._model: Model | None = None
        self._amateurs: dict[str, Model] = {}
        self._kept: OrderedDict[PageState, TracedState] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def model(self, say: Say) -> Model:
        """Return the model, loaded once.

        Raises:
            ElimError: It cannot be loaded.
        """
        if self._model is None:
            say(f"loading {self.source.name}")
            self._model = self.source.load(say)
        return self._model

    def trace(self, asked: PageState, say: Say, stop: Callable[[], None]) -> TracedState:
        """Return the state that was asked for: kept, with other chains over a kept output, or traced now.

        Args:
            asked: The state.
            say: Called with a line of text when something slow begins.
            stop: Called at every layer; raises where nobody waits any more.

        Raises:
            ElimError: Something asked for cannot be used.
        """
        if (known := self._kept.get(asked)) is not None:
            self._kept.move_to_end(asked)
            return known
        near = next((one for one in reversed(self._kept.values()) if _same_pass(one, asked)), None)
        return self._keep(self._measured(asked, say, stop) if near is None else self._changed(near, asked))

    def fit(self, say: Say, stop: Callable[[], None]) -> None:
        """Fit the model's lens into the cache, as ``elimtool lens fit``; states read without it are dropped.

        Raises:
            ElimError: The model cannot be loaded, or the lens not be written.
        """
        model = self.model(say)
        stop()
        ensure_lens(model, say)
        for asked in [one for one in self._kept if one.lens == "auto"]:
            del self._kept[asked]

    def _measured(self, asked: PageState, say: Say, stop: Callable[[], None]) -> TracedState:
        options, prompt = asked.options(), asked.as_prompt()
        for one in asked.interventions:
            if isinstance(one, Knockout):
                one.check_prompt(prompt)
        model = self.model(say)
        stop()
        options = with_roles(options, model)  # as the command does
        prepare(model, options, say)
        amateur = self._amateur(options.amateur, model, say)
        stop()
        say("tracing")
        session, kept = Session(model, options, amateur=amateur), Kept(stop)
        settings = session.settings
        session.settings = replace(settings, against=watched(settings.against, options.generate, say, stop))
        with model.held():
            encoded = session.encode_all([prompt])
            own, under = [kept.of_pass(None)], [kept.of_pass(label(options.interventions))]
            run = traced(session, [prompt], encoded, extra=own, under=under, say=say)
        session.settings = settings
        return TracedState(asked, run, kept, session, settings)

    def _amateur(self, name: str | None, model: Model, say: Say) -> Model | None:
        """Return a second model, loaded once: all states that ask for it share it."""
        if name is not None and name not in self._amateurs:
            say(f"loading {name}")
            self._amateurs[name] = second_model(model, name)
        return None if name is None else self._amateurs[name]

    def _changed(self, near: TracedState, asked: PageState) -> TracedState:
        run, settings = rerun(near.session, near.run, near.kept, asked.options())
        return replace(near, asked=asked, run=run, settings=settings)

    def _keep(self, state: TracedState) -> TracedState:
        self._kept[state.asked] = state
        while len(self._kept) > 1 and (len(self._kept) > self.most or self._bytes() > self.most_bytes):
            self._kept.popitem(last=False)
            self.dropped += 1
        return state

    def _bytes(self) -> int:
        outputs = {id(one.kept): one.kept.bytes for one in self._kept.values()}
        return sum(outputs.values())


def _same_pass(one: TracedState, other: PageState) -> bool:
    """Whether states differ in their chains alone, and what is kept of the one suffices for the other's.

    It does not where something was written through a chain, a verdict was tested, a table would be another
    one, or chains combine more layers than were kept.
    """
    own = one.asked
    chained = {"samplers": (), "grammar": None, "json_schema": None, "regex": None}
    alike = replace(own, **chained) == replace(other, **chained)  # type: ignore[arg-type]
    if not alike or other.generate or other.confirm:
        return False
    options = other.options()
    needs_layers = any(LAYERS in needed_rows(resolved(chain).stages) for chain in other.samplers)
    return options.selection() == own.options().selection() and (one.kept.layers or not needs_layers)
