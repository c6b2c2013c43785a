"""The page of ``elimtool explore`` in a real browser: ask, move a slider, cut, pin, go back, go on."""

from __future__ import annotations

import os
import shlex
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pytest

import elimtool
from elimtool.cli.repeating import command_of
from elimtool.report.figures.defined import definitions
from elimtool.report.html.explore import opened_page
from elimtool.run.reader import Run
from elimtool.samplers import resolve
from elimtool.samplers.catalogue import stage_info
from elimtool.tasks.explore.asked import Offered
from elimtool.tasks.explore.guard import hosts_of
from elimtool.tasks.explore.opened import open_any
from elimtool.tasks.explore.serve import listening
from elimtool.tasks.explore.server import application
from elimtool.tasks.explore.states import TracedStates
from elimtool.tasks.explore.work import JobQueue
from tests.cli.conftest import Command
from tests.cli.conftest import elimtool as command_line
from tests.report.browser import Page, chromium
from tests.report.runs import HOSTILE, many
from tests.tasks.explore.conftest import TOKEN, Loaded

__all__ = ["command_line"]

pytestmark = pytest.mark.slow
CONTRAST = (Path(__file__).parents[2] / "report" / "contrast.js").read_text()
DONE = "return document.querySelector('#repeat pre') && !document.querySelector('#status').textContent"
ASKED = "#prompt=The+capital+of+France+is&targets=Paris"


class Live(Page):
    """The page of a server."""

    def __init__(self, driver: Any, address: str) -> None:
        super().__init__(driver, Path())
        self.address = address

    def go(self, where: str = "", width: int = 1280) -> Live:
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.driver.get("about:blank")
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.driver.get_log("performance"), self.driver.get_log("browser")
        self.driver.get(self.address + where)
        self.wait("return document.documentElement.dataset.ready")
        return self

    def traced(self) -> Live:
        self.wait(DONE, 30)
        return self

    def faults(self) -> list[str]:
        said = [one["message"] for one in self.driver.get_log("browser") if one["level"] == "SEVERE"]
        return said + self.requests()

    @property
    def own(self) -> str:
        return self.address

    def text(self, selector: str) -> str:
        return str(self.run("return document.querySelector(arguments[0]).textContent", selector))

    def slide(self, label: str, value: float) -> None:
        self.run(
            "const one = [...document.querySelectorAll('input[type=range]')].find((each) =>"
            " each.getAttribute('aria-label') === arguments[0]); one.value = arguments[1];"
            " one.dispatchEvent(new Event('input'))",
            label,
            value,
        )


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 20,000 prompts, one of which has markup for its id."""
    run = many(20_000, 3, ("prompts", "verdicts", "lens"))
    for name in run.tables:
        table = run.arrow(name)
        at, field = table.schema.get_field_index("prompt_id"), table.schema.field("prompt_id")
        ids = pc.replace_substring(table.column(at), "prompt-0001", HOSTILE["markup"])
        run = Run.from_tables(
            run.manifest,
            {**{one: run.arrow(one) for one in run.tables}, name: table.set_column(at, field, ids)},
        )
    directory = tmp_path_factory.mktemp("large") / "run"
    run.save(directory)
    return directory


@pytest.fixture(scope="module")
def served(llama: Any, llama_directory: Path, large: Path) -> Iterator[Any]:
    uvicorn = pytest.importorskip("uvicorn")
    Loaded.model = llama
    bound = listening("127.0.0.1", 0)
    port = bound.getsockname()[1]
    states = TracedStates(Loaded(str(llama_directory)), command_of)
    jobs = JobQueue()
    app = application(states, jobs, TOKEN, hosts_of("127.0.0.1", port), Offered(), open_any(large))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off", ws="none"))
    thread = threading.Thread(target=lambda: server.run(sockets=[bound]), daemon=True)
    thread.start()

    def stop() -> None:
        server.should_exit = server.force_exit = True
        thread.join(10)

    yield f"http://127.0.0.1:{port}/{TOKEN}/", states, stop
    stop()
    jobs.close()


@pytest.fixture(scope="module")
def live(served: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        yield Live(driver, served[0])


def test_a_first_trace_is_asked_by_keyboard_and_answered_with_an_address(live: Live) -> None:
    from selenium.webdriver.common.keys import Keys

    live.go()
    live.one("#ask-targets").send_keys("Paris")
    live.one("#ask-prompt").send_keys("The capital of France is", Keys.CONTROL + Keys.ENTER)
    live.traced()
    assert live.run("return location.hash") == ASKED
    assert {"ranks", "funnel"} <= {
        one.get_attribute("data-figure") for one in live.draw_all().all("[data-figure]")
    }
    assert len(live.all(".token")) > 3 and "load_model" in live.text("#repeat")
    live.run("document.querySelector('[data-figure=ranks] svg').focus()")
    live.one("[data-figure=ranks] svg").send_keys(Keys.ARROW_RIGHT, Keys.ENTER)
    live.wait("return document.querySelector('#layer h3')", 30)
    live.one("[data-figure=ranks] svg").send_keys(Keys.ARROW_RIGHT, Keys.ENTER)
    live.wait("return document.querySelectorAll('#parts button').length > 1", 30)
    live.run("document.querySelectorAll('#parts button')[1].click()")
    live.wait("return document.querySelector('#changed')", 30)
    assert "ablate 0." in live.text("#changed") and live.faults() == []


SEARCHES = """
window.searches = []; const asked = ask;
ask = (path, ...more) => { if (path === 'lives') searches.push(more[3]); return asked(path, ...more); };
"""


def test_a_slider_gives_the_numbers_of_the_command_that_is_shown(
    live: Live, command_line: Command, tmp_path: Path
) -> None:
    live.go(f"{ASKED}&samplers=top_k%3D40%2Ctemperature%3D0.8").traced()
    live.run(SEARCHES)
    live.slide("top_k of top_k=40,temperature=0.8, slider", 9)
    live.wait("return location.hash.includes('top_k%3D9') && searches.length === 1")
    live.slide("top_k of top_k=9,temperature=0.8, slider", 7)
    live.wait("return location.hash.includes('top_k%3D7')")
    ended = live.run("return searches.map((one) => one.signal.aborted)")
    assert ended == [True, False]  # the slider waits for no search of what was before
    shown = live.run("return probeOf(shown).figures.find((one) => one.name === 'funnel').chains[0]")
    words = shlex.split(live.text("#repeat pre"))
    at = words.index("--")
    done = command_line(*words[1:at], "-o", str(tmp_path / "run"), "-q", *words[at:])
    assert done.code == 0 and "--samplers=top_k=7,temperature=0.8" in words, done.err
    run = elimtool.open_run(tmp_path / "run")
    rows = run.arrow("sampling").to_pylist()
    assert [stage["after"] for stage in shown["stages"]] == [row["n_after"] for row in rows]
    assert len(rows) == len(resolve("top_k=7,temperature=0.8").stages)
    ranks = live.run("return probeOf(shown).figures.find((one) => one.name === 'ranks').lines[0].values")
    lens = run.arrow("lens").to_pylist()
    assert ranks == [row["rank"] for row in lens if row["target"] == lens[0]["target"]]
    live.press(
        live.one("[data-key='0 temperature -1']"),
        "return location.hash.includes('temperature%3D0.8%2Ctop_k%3D7')",
    )
    assert live.faults() == []


def test_a_stage_of_a_preset_is_moved_and_the_chain_is_then_the_user_s_own(live: Live) -> None:
    live.go(f"{ASKED}&samplers=llama.cpp").traced()
    assert "makes it your own chain" in live.text("#sliders")
    live.press(
        live.one("[data-key='0 temperature -1']"),
        "return location.hash.includes('dynamic_temperature%3D0.8')",
    )
    live.wait("return document.querySelector('#sliders').textContent.includes('Your own chain')")
    assert "dynamic_temperature=0.8" in live.text("#repeat") and live.faults() == []


def test_numbers_tell_what_they_are_to_pointer_and_keyboard(live: Live) -> None:
    from selenium.webdriver.common.keys import Keys

    live.go(f"{ASKED}&samplers=llama.cpp").traced()
    live.draw_all()
    told = {}
    for figure, key in (
        ("ranks", Keys.ARROW_RIGHT),
        ("retention", Keys.ARROW_RIGHT),
        ("funnel", Keys.ARROW_DOWN * 5),  # to the first stage that is on
    ):
        at = {"ranks": "[data-figure=ranks] svg", "funnel": "[data-figure=funnel] .chain"}.get(figure)
        box = live.one(at or "[data-name=retention] .scroll")
        live.run("arguments[0].focus()", box)
        box.send_keys(key)
        told[figure] = live.text("#tip")
        live.run("arguments[0].blur()", box)
    for figure, column in (("ranks", "rank"), ("retention", "attention"), ("funnel", "tokens before")):
        assert definitions()[figure][column] in told[figure]
    number = live.one("[data-key$='top_k number']")
    live.run("arguments[0].focus()", number)
    assert stage_info("top_k").summary in live.text("#tip")
    assert definitions()["ranks"]["rank"].split(".")[0] in live.hover(live.one("[data-figure=ranks] svg"))


def test_attention_is_cut_by_click_compared_with_what_was_pinned_and_back_goes_back(live: Live) -> None:
    live.go(ASKED).traced()
    live.one("#pin").click()
    token = next(one for one in live.all(".token") if "of" in one.text)
    live.press(token, "return document.querySelector('#cut')")
    live.one("#cut").click()
    live.wait("return document.querySelector('#changed') && document.querySelector('#pinned')", 30)
    assert "knockout" in live.text("#changed") and len(live.all("#pinned .pair")) == 2
    live.wait("return document.querySelector('#differences .verdict')", 30)
    assert "Interventions: none in A, knockout" in live.text("#differences")
    assert {"ranks", "stages"} <= {
        one.get_attribute("data-name") for one in live.all("#differences [data-name]")
    }
    live.traced()
    live.driver.back()
    live.wait("return !document.querySelector('#changed') && !location.hash.includes('knockout')", 30)
    assert live.faults() == []


def test_two_prompts_are_compared(live: Live) -> None:
    live.go(ASKED).traced()
    live.one("#pin").click()
    live.run("location.hash = '#prompt=The+capital+of+Spain+is&targets=Paris'")
    live.wait("return document.querySelector('#compare')", 30)
    live.run("document.querySelector('#compare').click()")
    live.wait("return document.querySelector('#compared .holder')", 30)
    sides = [one.text for one in live.all("#compared .prompt-text")]
    assert sides == ["The capital of France is", "The capital of Spain is"]
    assert "Where the prompts differ" in live.text("#compared") and live.faults() == []


SCROLLED = """
const list = document.getElementById('list'); let frames = 0, most = 0; const began = performance.now();
return new Promise((done) => { const step = () => {
  list.scrollTop += 997; frames += 1; most = Math.max(most, list.querySelectorAll('.entry').length);
  if (frames < 90) requestAnimationFrame(step);
  else done([1000 * frames / (performance.now() - began), most, list.scrollTop]);
}; requestAnimationFrame(step); });
"""


def test_a_run_of_20_000_prompts_is_opened_at_once_and_scrolled_smoothly(live: Live, large: Path) -> None:
    busy = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))  # others' share of this machine
    began = time.perf_counter()
    opened_page(open_any(large).front)
    seconds = time.perf_counter() - began
    ready = live.go("run").run("return Number(document.documentElement.dataset.ready)") / 1000
    assert live.text("#count") == "20,000 prompts"
    assert seconds + ready < 2 * busy, (seconds, ready, busy)
    frames, most, at = live.run(SCROLLED)
    assert frames >= 30 / busy and most < 60 and at > 80_000, (frames, most, busy)
    live.one("#search").send_keys("hacked")
    assert live.text("#count") == "1 of 20,000 prompts"
    live.one(".entry").click()
    live.wait("return document.querySelector('[data-figure=ranks]')")
    live.draw_all()
    assert live.run("return typeof hacked") == "undefined" and not live.all("img, main script")
    live.driver.back()
    live.wait("return !location.hash")
    assert live.faults() == []


def test_a_page_of_another_origin_is_refused(live: Live, served: Any) -> None:
    live.go(ASKED).traced()
    kept = len(served[1])
    live.driver.get("data:text/html,<p>another site</p>")
    post = (
        "const headers = { 'Content-Type': arguments[2] };"
        "const given = { method: 'POST', mode: arguments[1], headers, body: arguments[3] };"
        "return fetch(arguments[0], given).then((answer) => answer.text(), (error) => error.name)"
    )
    body = '{"asked": {"prompt": "from another site"}}'
    for mode, kind in (("cors", "application/json"), ("no-cors", "text/plain"), ("cors", "text/plain")):
        assert live.run(post, f"{live.address}api/trace", mode, kind, body) in ("", "TypeError")
    assert len(served[1]) == kept
    assert (
        live.run("return fetch(arguments[0]).then(() => 'read', (error) => error.name)", live.address)
        == "TypeError"
    )


def test_states_that_are_dropped_are_told(live: Live, served: Any) -> None:
    states = served[1]
    before, states.most = states.most, 1
    live.go("#prompt=One").wait(
        "return document.querySelector('#status').textContent.includes('dropped')", 30
    )
    assert len(states) == 1
    states.most, states.dropped = before, 0


def test_hostile_prompts_are_text(live: Live) -> None:
    live.go()
    texts = [HOSTILE[name][:60] for name in ("markup", "rtl", "separators")]
    asked = {"prompt": " ".join(texts), "targets": [one[:9] for one in texts]}
    live.run("go(arguments[0])", asked)
    live.wait(f"return document.querySelector('#ask-prompt').value.length === {len(asked['prompt'])}")
    live.traced()
    assert live.run("return typeof hacked") == "undefined" and not live.all("img")
    assert live.faults() == []


@pytest.mark.parametrize(("width", "theme"), [(390, "dark"), (2560, "light")])
def test_the_page_fits_phones_and_walls_in_both_themes(live: Live, width: int, theme: str) -> None:
    live.go(ASKED, width).traced()
    live.run("document.documentElement.dataset.theme = arguments[0]", theme)
    assert live.draw_all().run("return document.documentElement.scrollWidth") <= width
    assert live.run(CONTRAST) == []
    nameless = live.run(
        "return [...document.querySelectorAll('input, textarea, select, button')].filter((one) =>"
        " !one.labels?.length && !one.getAttribute('aria-label') && !one.textContent.trim())"
        ".map((one) => one.outerHTML)"
    )
    assert nameless == []  # screen readers read names


WATCHED = """
document.addEventListener('focusin', ({ target }) => {
  const style = getComputedStyle(target);
  const seen = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0;
  target.dataset.walked = seen ? 'seen' : 'unseen';
});
"""
LEFT = """
const shown = (one) => one.checkVisibility({ visibilityProperty: true }) && !one.disabled;
const controls = 'a[href], button, input, select, textarea, summary, [tabindex="0"]';
const wanted = [...document.querySelectorAll(controls)].filter(shown);
const left = wanted.filter((one) => one.dataset.walked !== 'seen');
return [wanted.length, left.map((one) => one.outerHTML.slice(0, 90))];
"""
FIGURES = """
return [...document.querySelectorAll('main [data-name]')].flatMap((one) => {
  const named = one.getAttribute('aria-label');
  const drawn = one.querySelector('.holder svg');
  const known = !drawn || drawn.getAttribute('aria-label');
  const numbers = [...one.querySelectorAll('summary')].some((each) => each.textContent === 'Numbers');
  const table = numbers || one.querySelector('table, .chains ol');
  return named && known && table ? [] : [[one.dataset.name, Boolean(named), Boolean(known), Boolean(table)]];
});
"""


def tabbed(live: Live) -> int:
    """Go through all controls by the Tab key; return how many there are. Each is reached, and seen to be."""
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    live.run(WATCHED)
    live.run("document.activeElement.blur(); document.querySelector('.skip').focus()")
    count, left = live.run(LEFT)
    for _ in range(40):
        ActionChains(live.driver, duration=0).send_keys(Keys.TAB * 25).perform()
        count, left = live.run(LEFT)
        if not left:
            break
    assert left == []
    return int(count)


def typed(live: Live, selector: str, keys: str, then: str) -> None:
    """Focus a control, type keys there and wait for a script to be true."""
    one = live.one(selector)
    live.run("arguments[0].focus()", one)
    one.send_keys(keys)
    live.wait(then, 30)


def test_every_control_is_reached_by_keyboard_and_every_figure_has_a_name_and_a_table(live: Live) -> None:
    from selenium.webdriver.common.keys import Keys

    live.go(f"{ASKED}&samplers=llama.cpp").traced()
    typed(live, "#more summary", Keys.SPACE, "return document.getElementById('more').open")
    typed(live, "#pin", Keys.SPACE, "return document.querySelector('#status').textContent.includes('as A')")
    typed(live, ".token", Keys.ENTER, "return document.querySelector('#cut')")
    slider = live.one("[data-key$='top_k slider']")
    live.run("arguments[0].focus()", slider)
    slider.send_keys(Keys.ARROW_RIGHT)
    moved = slider.get_attribute("value")
    live.wait(f"return decodeURIComponent(location.hash).includes('top_k={moved}')", 20)
    assert moved != "40" and live.all("#pinned .pair")  # a slider that moves right after pinning compares too
    changed = "&ablate=1.0&position=-2,-1&samplers=llama.cpp"  # with all that a page can show at once
    live.run("location.hash = arguments[0]", ASKED.replace("+of+France", "") + changed)
    live.wait("return document.querySelector('#changed') && document.querySelector('#compare')", 30)
    live.traced().wait("return document.querySelector('#differences').firstChild", 30)
    live.draw_all()
    ranks = "[data-figure=ranks]:not(#pinned *) svg"
    typed(live, ranks, Keys.ARROW_RIGHT * 2 + Keys.ENTER, "return document.querySelector('#parts')")
    typed(live, ".token", Keys.ENTER, "return document.activeElement.id === 'read-here'")
    live.run("for (const one of document.querySelectorAll('#ask details, #sliders details')) one.open = true")
    live.draw_all()
    assert live.run(FIGURES) == [] and len(live.all("main [data-name]")) > 12
    assert tabbed(live) > 80
    typed(live, "#place", Keys.ARROW_UP, "return document.querySelector('#differences .notice')")
    assert "A was not read at position" in live.text("#differences") and not live.all("#beside-a .pair")
    typed(live, "#undo", Keys.ENTER, "return !document.querySelector('#changed')")
    live.traced().wait("return document.querySelector('#differences').firstChild", 30)
    assert not live.all("#differences .notice"), live.text("#differences")
    typed(live, "#unpin", Keys.ENTER, "return !document.querySelector('#pinned')")
    assert live.faults() == []


def test_an_opened_run_is_gone_through_by_keyboard(live: Live) -> None:
    from selenium.webdriver.common.keys import Keys

    live.go("run")
    typed(live, "#list", Keys.ARROW_DOWN * 2 + Keys.ENTER, "return document.querySelector('main .leave')")
    live.draw_all()
    assert live.run("return location.hash") == "#p=prompt-0002" and live.run(FIGURES) == []
    assert tabbed(live) > 10
    typed(live, "#home", Keys.ENTER, "return !location.hash && document.querySelector('main [data-name]')")
    live.draw_all()
    assert live.run(FIGURES) == [] and tabbed(live) > 5
    assert live.faults() == []


def test_an_error_is_said_and_the_page_stays_usable(live: Live) -> None:
    live.go(ASKED).traced()
    live.run("go({ prompt: 'x', samplers: ['nonsense'] })")
    live.wait("return document.querySelector('#status.wrong')")
    assert "neither a preset" in live.text("#status") and live.all("#repeat pre")
    live.run("location.hash = arguments[0]", ASKED)
    live.traced()


def test_where_the_server_ends_while_it_answers_the_page_says_so_and_keeps_what_it_shows(
    live: Live, served: Any
) -> None:
    live.go(ASKED).traced()
    live.run("go({ prompt: 'another', generate: 250 })")
    live.wait("return document.querySelector('#status').textContent.startsWith('writing token')", 30)
    served[2]()
    live.wait("return document.querySelector('#status.wrong')", 30)
    assert "start elimtool explore again" in live.text("#status") and live.all("[data-figure=ranks]")
    live.run("go({ prompt: 'a third' })")
    live.wait("return document.querySelector('#status').textContent.includes('does not answer')")
