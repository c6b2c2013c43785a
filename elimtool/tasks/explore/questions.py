"""Turn what a page asks into work for the model, and refuse what cannot be meant."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from elimtool.errors import ElimError
from elimtool.samplers import resolve
from elimtool.samplers.shipped import Shipped
from elimtool.tasks.explore.answer import answer, layer, resampled
from elimtool.tasks.explore.asked import Offered, PageState
from elimtool.tasks.explore.chains import reordered
from elimtool.tasks.explore.pair import compared, differences
from elimtool.tasks.explore.sliders import lives
from elimtool.tasks.explore.states import TracedState, TracedStates
from elimtool.tasks.explore.taken import archive, drawing, report
from elimtool.tasks.explore.work import Work


class Questions:
    """What a page can ask, each as work that one thread does after the other.

    Args:
        states: The model and what was traced.
        offered: Files and models that a page may name.
    """

    def __init__(self, states: TracedStates, offered: Offered) -> None:
        self.states = states
        self.offered = offered

    @property
    def all(self) -> dict[str, Callable[[Any], Work]]:
        """Functions from a request to its work, by name."""
        return {
            "trace": self.trace,
            "chain": self.chain,
            "layer": self.layer,
            "lives": self.lives,
            "compare": self.compare,
            "differences": self.differences,
            "fit": self.fit,
            "report": lambda given: self._of_state(given, report),
            "archive": lambda given: self._of_state(given, archive),
            "picture": self.picture,
        }

    def trace(self, given: Any) -> Work:
        """Trace a state, and gather all that is shown of it."""
        return self._of_state(given, lambda state: answer(self.states, state))

    def chain(self, given: Any) -> Work:
        """Change a chain of a state; where no pass is needed, gather only what that changes.

        A verdict's test is left out: it would be made again at each move of a slider.
        """
        asked = self._asked(given)
        asked.options()
        wanted = changed(asked, given)

        def done(say: Callable[[str], None], stop: Callable[[], None]) -> Any:
            state = wanted(lambda: self.states.model(say).shipped_sampling)
            state.options()
            found = self.states.trace(state, say, stop)
            return (
                answer(self.states, found)
                if asked.generate or asked.confirm
                else resampled(self.states, found)
            )

        return done

    def fit(self, _: Any) -> Work:
        """Fit the model's lens, which is the one file that a page can have written: in the cache."""
        return self.states.fit

    def layer(self, given: Any) -> Work:
        """Gather the figures of one layer."""
        number, position = whole(given, "layer"), whole(given, "position")
        return self._of_state(given, lambda state: layer(state, position, number))

    def lives(self, given: Any) -> Work:
        """Find where the sliders of a chain keep a target."""
        chain, target, position = (whole(given, name) for name in ("chain", "target", "position"))
        wanted = self._asked(given)
        wanted.options()

        def found(say: Callable[[str], None], stop: Callable[[], None]) -> Any:
            return lives(self.states.trace(wanted, say, stop), chain, position, target, stop)

        return found

    def picture(self, given: Any) -> Work:
        """Draw a figure for print."""
        name, title, form = (text(given, one) for one in ("name", "title", "format"))
        position = whole(given, "position")
        return self._of_state(given, lambda state: drawing(state, position, name, title, form))

    def compare(self, given: Any) -> Work:
        """Compare the prompts of two states, token by token and layer by layer."""
        one, other = self._asked(given, "a"), self._asked(given, "b")
        return lambda say, stop: compared(self.states, one, other, say, stop)

    def differences(self, given: Any) -> Work:
        """Compare what two states measured, at a position of the second if one is named."""
        states = [self._asked(given, name) for name in ("a", "b")]
        for state in states:
            state.options()
        position = None if field(given, "position") is None else whole(given, "position")

        def found(say: Callable[[str], None], stop: Callable[[], None]) -> Any:
            a, b = (self.states.trace(one, say, stop) for one in states)
            return differences(a, b, position)

        return found

    def _asked(self, given: Any, name: str = "asked") -> PageState:
        asked = field(given, name)
        return asked if isinstance(asked, PageState) else PageState.read(asked, self.offered)

    def _of_state(self, given: Any, use: Callable[[TracedState], Any]) -> Work:
        wanted = self._asked(given)
        wanted.options()  # what is wrong with it is said before the model is asked
        return lambda say, stop: use(self.states.trace(wanted, say, stop))


def changed(wanted: PageState, given: dict[str, Any]) -> Callable[[Callable[[], Shipped]], PageState]:
    """Change a state's chain as a request says: another value of a stage, or another order.

    Returns:
        From what looks up the settings that the model ships with: the changed state, without its test.

    Raises:
        ElimError: The request does not say what to change, or it cannot be changed.
    """
    chain = whole(given, "chain")
    wanted = replace(wanted, confirm=False)
    if "order" in given:
        order = given["order"]
        if not isinstance(order, list) or not all(isinstance(one, str) for one in order):
            raise ElimError("`order` must be a list of names of stages")
        text = wanted.chain_at(chain)
        return lambda shipped: wanted.with_chain(chain, reordered(text, resolve(text, shipped()), order))
    stage, value = given.get("stage"), given.get("value")
    if not isinstance(stage, str) or isinstance(value, bool) or not isinstance(value, int | float):
        raise ElimError("a change of a chain must have a `stage` and a `value`, or an `order`")
    made = wanted.with_stage(chain, stage, float(value))
    return lambda _: made


def field(given: Any, name: str) -> Any:
    """Return a field of a request, ``None`` where it is not there.

    Raises:
        ElimError: The request is no object.
    """
    if not isinstance(given, Mapping):
        raise ElimError("a request must be an object")
    return given.get(name)


def text(given: Any, name: str) -> str:
    """Read a text of a request.

    Raises:
        ElimError: It is not one.
    """
    value = field(given, name)
    if not isinstance(value, str):
        raise ElimError(f"`{name}` must be a text, got {value!r}")
    return value


def whole(given: Any, name: str) -> int:
    """Read a whole number of a request.

    Raises:
        ElimError: It is not one.
    """
    value = field(given, name)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ElimError(f"`{name}` must be a whole number, got {value!r}")
    return value
