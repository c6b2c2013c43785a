"""The page in a real browser: offline, silent, true to the tables, usable, and safe with hostile prompts."""

from __future__ import annotations

import re
import statistics
from pathlib import Path

import pytest

import elimtool
from elimtool.report.figures.defined import definitions
from elimtool.report.glossary import GLOSSARY
from elimtool.report.html.history import write_history
from elimtool.report.html.page import page as make_page
from elimtool.report.html.page import write_page
from tests.report import runs
from tests.report.browser import Page, chromium, faults
from tests.report.synthetic import PARIS, FakePrompt, make_run

RANKS = "[data-figure=ranks]"
SECTION = "section[aria-label^='Rank by layer']"
CELL = "return getComputedStyle(arguments[0]).getPropertyValue('--cell')"
STEP = (
    "const style = getComputedStyle(document.documentElement);"
    "return style.getPropertyValue(`--heat-${arguments[0].dataset.step}`)"
)


def script(name):
    return (Path(__file__).parent / f"{name}.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("pages")


@pytest.fixture(scope="module")
def whole(browser, folder, whole_run):
    write_page(whole_run, folder / "whole.html")
    return Page(browser, folder / "whole.html")


@pytest.fixture(scope="module")
def france(browser, folder):
    write_page(runs.france(), folder / "france.html")
    return Page(browser, folder / "france.html")


@pytest.mark.parametrize("address", ["", "#p=france", "#p=text", "#p=broken"])
@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_wrong(whole, address, width):
    whole.open(address, width)
    found = faults(whole)
    assert found == (["there is no figure"] if address == "#p=broken" else [])
    assert whole.run("return document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("width", [1280, 390])
def test_a_history_is_drawn_with_limits_marks_and_numbers(browser, folder, width):
    write_history(runs.history(), folder / "history.html", overwrite=True)
    page = Page(browser, folder / "history.html").open("", width)
    for theme in ("light", "dark"):
        page.run("document.documentElement.dataset.theme = arguments[0]", theme)
        assert faults(page) == []
    assert page.run("return document.documentElement.scrollWidth") <= width
    assert [one.get_attribute("data-event") for one in page.all("svg [data-event]")] == [
        "out of limits",
        "change point",
    ]
    heights = [one.rect["y"] for one in page.all(".chart line[stroke-dasharray]")]
    points = [one.rect["y"] for one in page.all(".chart circle")]
    assert heights[1] < min(points[:11]) and max(points[:11]) < heights[0] < points[11]  # the last is below
    last = page.all(".chart circle")[11]
    assert "run 11" in page.hover(last) and "out of its limits, change point" in page.hover(last)
    rows = "document.querySelectorAll('details tbody tr').length"
    page.press(page.one("details summary"), f"return {rows} > 0")
    assert page.run(f"return {rows}") == 12


@pytest.fixture(scope="module")
def compared(browser, folder):
    write_page(runs.compared(), folder / "compared.html")
    return Page(browser, folder / "compared.html")


@pytest.mark.parametrize("address", ["", "#p=france", "#p=markup%20%3Cb%3E", "#p=broken"])
@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_wrong_with_a_comparison(compared, address, width):
    compared.open(address, width)
    assert faults(compared) == (["there is no figure"] if address == "#p=broken" else [])
    assert compared.run("return document.documentElement.scrollWidth") <= width
    assert compared.run("return window.hacked") is None and compared.all("main img, main b b") == []
    for theme in ("light", "dark"):
        compared.run("document.documentElement.dataset.theme = arguments[0]", theme)
        for button in compared.all(".tools button[aria-pressed=false]"):
            button.click()
        assert compared.run(script("contrast")) == []
    sides = [pre.text for pre in compared.all(".prompt-text")]
    assert len(sides) == (2 if address == "#p=france" else 0 if not address else len(sides))


def test_an_edit_is_marked_and_controls_stand_behind_their_pair(compared):
    compared.open()
    listed = [entry.get_attribute("id") for entry in compared.all(".entry")]
    assert listed == ["entry-0", "entry-2", "entry-3"] and compared.one("#count").text == "3 pairs"
    compared.one("#by-outcome option[value=control]").click()
    assert [entry.get_attribute("id") for entry in compared.all(".entry")] == ["entry-1"]
    compared.open("#p=france").draw_all()
    assert [mark.text.strip() for mark in compared.all(".prompt-text mark")] == ["so"]
    last = compared.all("#content > section")[-1]
    assert last.get_attribute("id") == "controls"
    summary = last.find_element("css selector", "summary")
    compared.press(summary, "return document.querySelector('#controls a')?.checkVisibility()")
    last.find_element("css selector", "a").click()
    compared.wait("return document.querySelector('h2').textContent.startsWith('random control')")
    compared.one("section a").click()
    compared.wait("return document.querySelector('h2').textContent === 'inserted: so'")


@pytest.mark.parametrize("address", ["", "#p=france"])
@pytest.mark.parametrize("name", ["whole", "compared", "france"])
def test_every_button_does_something(request, name, address):
    """Whatever can be pressed changes the page; what has nothing to do there is disabled."""
    page = request.getfixturevalue(name)
    state = (
        "return `${document.documentElement.outerHTML.length} ${document.documentElement.dataset.theme}`"
        " + [...document.querySelectorAll('[aria-pressed],details')].map((one) => one.ariaPressed + one.open)"
        " + location.hash + [...document.querySelectorAll('select')].map((one) => one.value)"
    )
    page.open(address).draw_all()
    pressable = "header button, #side button, main button, main summary"
    count = len(page.all(pressable))
    assert count > 1
    for index in range(count):
        page.open(address).draw_all()
        button = page.all(pressable)[index]
        if not button.is_displayed() or not button.is_enabled():
            continue
        before = page.run(state)
        page.press(button, f"const now = (() => {{ {state} }})(); return now !== {before!r}")


UNSEEN = (
    "return [...document.querySelectorAll('main tbody td, main tbody th')]"
    ".filter((one) => one.textContent && !one.getClientRects().length).length"
)
UNCUED = (
    "document.querySelectorAll('.edges').forEach((one) => one.classList.remove('more-right', 'more-down'))"
)
HIDDEN = """
return [...document.querySelectorAll("body *")].filter((node) => {
  const style = getComputedStyle(node);
  if (node.closest("#list, script, noscript, svg, select, .skip")) return false;
  if (!node.getClientRects().length) return false;
  const cut = (size) => size > 2;
  const right = cut(node.scrollWidth - node.clientWidth), down = cut(node.scrollHeight - node.clientHeight);
  if (style.overflowX === "visible" || !(right || down)) return false;
  if (style.textOverflow === "ellipsis") return !node.title;
  const shell = node.parentNode;
  const cue = (side) => shell.classList.contains(`more-${side}`)
    && getComputedStyle(shell.querySelector(`:scope > .${side}`)).display !== "none";
  return (right && !cue("right")) || (down && !cue("down"));
}).map((node) => `${node.tagName}.${node.className}`)
"""


@pytest.mark.parametrize(
    ("name", "address"), [("whole", ""), ("whole", "#p=france"), ("compared", "#p=france")]
)
def test_a_narrow_page_hides_nothing_without_a_cue(request, name, address):
    page = request.getfixturevalue(name)
    page.open(address, 390).draw_all()
    for summary in page.all("main summary"):
        summary.click()
    page.run("return new Promise((done) => setTimeout(done, 100))")
    assert page.run(HIDDEN) == []
    assert page.run(UNSEEN) == 0
    assert page.run("return document.documentElement.scrollWidth") <= 390
    page.run(UNCUED)
    if address:
        assert page.run(HIDDEN) != []  # without the cues the same page fails


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("const RO", "nonsense(;const RO", "did not get ready"),
        ("</h1>", "</h1><img src='https://example.org/x.png'>", "example.org"),
        ('"values":[[', '"values":[', "console"),
        ("--line-0: #0072b2", "--line-0: #ffffff", "ranks drew nothing"),
    ],
)
def test_a_broken_page_fails_the_same_checks(browser, folder, old, new, fault):
    text = make_page(runs.france())
    assert old in text
    if "--line" in new:  # every colour of the light palette gone, and the style allowed to apply
        text = unsafe(text)
        for index in range(8):
            text = recoloured(text, f"--line-{index}")
    broken = folder / "broken.html"
    broken.write_text(text.replace(old, new), encoding="utf-8")
    found = faults(Page(browser, broken).open())
    assert any(fault in one for one in found), found


def unsafe(text):
    return re.sub(r"(script|style)-src 'sha256-[^']+'", r"\1-src 'unsafe-inline'", text)


def recoloured(text, name):
    return re.sub(rf"{name}: #[0-9a-f]+", f"{name}: #ffffff", text)


def test_a_hovered_cell_tells_what_the_table_says(france):
    france.open().draw_all()
    table = runs.france().table("attention")
    rows = table[(table["layer"] == 17) & (table["span"] == "3: France")]
    cell = france.all("[data-figure=retention] tbody tr")[2].find_elements("css selector", "td")[17]
    (lift,) = rows["lift_no_sink"]
    meaning = f"attention: {definitions()['retention']['attention']}"
    assert france.hover(cell) == f"3: France\nlayer 17: {float(f'{lift:.3g}'):g}x\n{meaning}"
    assert cell.get_attribute("textContent") == f"{float(f'{lift:.3g}'):g}x"
    colour = france.run(STEP, cell)
    assert france.colours(cell)[colour.strip()] > 100


def test_a_term_is_explained_to_the_keyboard_and_to_a_tap(france):
    from selenium.webdriver.common.keys import Keys

    france.open().draw_all()
    term = france.one(".verdict .badge")
    meaning = GLOSSARY[term.get_attribute("textContent")]
    tip = "const tip = document.getElementById('tip'); return tip.hidden ? '' : tip.textContent"
    france.run("arguments[0].focus()", term)
    assert france.run(tip) == meaning
    term.send_keys(Keys.ESCAPE)
    assert france.run(tip) == ""
    france.run("arguments[0].click()", term)
    assert france.run(tip) == meaning
    france.run("arguments[0].blur()", term)
    assert france.run(tip) == ""


def test_a_hovered_layer_tells_ranks_and_events(france):
    france.open().draw_all()
    lens, verdict = runs.france().table("lens"), runs.france().table("verdicts")
    ranks = dict(lens[lens["layer"] == 14][["target", "rank"]].itertuples(index=False))
    assert france.hover(france.one(f"{RANKS} svg"), right=19) == (
        f"layer 14\n' Paris': {ranks[' Paris']}\n' London': {ranks[' London']}"
        f"\nrank: {definitions()['ranks']['rank']}"
    )
    events = france.all(f"{RANKS} [data-event=entry]")
    assert len(events) == verdict["entry_layer"].notna().sum() > 0
    # a table is made when its list has opened, which the page is told later than it opens
    france.press(france.one(f"{SECTION} summary"), f'return document.querySelector("{SECTION} tbody td")')
    shown = [cell.text for cell in france.all(f"{SECTION} tbody tr:nth-child(16) td")]
    assert shown[:3] == ["14", f"{ranks[' Paris']:,}", f"{ranks[' London']:,}"]


def test_what_a_chain_cut_is_greyed_in_its_place(france):
    france.open().draw_all()
    chain = france.one(".chain")
    stages = [item.text.split("\n")[0] for item in chain.find_elements("css selector", "ol:first-of-type li")]
    assert stages == [stage for stage, _ in runs.france_chain()]
    tokens = chain.find_elements("css selector", "ol:last-of-type li")
    assert [token.get_attribute("class") for token in tokens] == ["", "gone"]
    assert "cut by min_p, by" in tokens[1].text


def test_a_click_on_a_layer_shows_its_heads(whole, whole_run):
    whole.open("#p=france").draw_all()
    whole.all("[data-figure=retention] tbody tr")[0].find_elements("css selector", "td")[1].click()
    whole.wait("return document.querySelector('[data-figure=heads]')")
    table = whole_run.table("attention_heads")
    own = table[(table["prompt_id"] == "france") & (table["layer"] == 1) & (table["span"] != "<sink>")]
    first = own[own["span"] == own["span"].iloc[0]]["mass_no_sink"].tolist()
    shown = [
        cell.get_attribute("textContent") for cell in whole.all("[data-figure=heads] tbody tr:first-child td")
    ]
    assert [float(one.rstrip("%")) / 100 for one in shown] == pytest.approx(first, rel=0.006, abs=1e-4)


def test_keys_alone_reach_a_prompt_and_its_cells(whole):
    from selenium.webdriver.common.keys import Keys

    whole.open()
    whole.one("#list").send_keys(Keys.ARROW_DOWN, Keys.ENTER)
    whole.wait("return document.querySelector('h2').textContent === 'The capital of Spain is'")
    whole.draw_all()
    heat = whole.one("[data-figure=retention]").find_element("xpath", "..")
    heat.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert "layer 1:" in whole.run("return document.getElementById('tip').textContent")
    heat.send_keys(Keys.ENTER)
    whole.wait("return document.querySelector('[data-figure=heads]')")
    chart = whole.one(f"{RANKS} svg")
    chart.send_keys(Keys.ARROW_RIGHT)
    assert whole.run("return document.getElementById('tip').textContent").startswith("embedding\n")


def test_filters_and_search(whole):
    def shown():
        return [entry.get_attribute("id") for entry in whole.all(".entry")], whole.one("#count").text

    whole.open()
    assert shown() == ([f"entry-{index}" for index in range(4)], "4 prompts")
    whole.one("#search").send_keys("SPAIN")
    assert shown() == (["entry-1"], "1 of 4 prompts")
    whole.one("#search").clear()
    whole.run("document.getElementById('search').dispatchEvent(new Event('input'))")
    for filter_, value, wanted in [
        ("by-group", "capitals", ["entry-0", "entry-1"]),
        ("by-tag", "hard", ["entry-1"]),
        ("by-outcome", "error", []),
    ]:
        choice = whole.one(f"#{filter_}")
        choice.find_element("css selector", f"option[value='{value}']").click()
        assert shown()[0] == wanted
    for filter_ in ("by-group", "by-tag"):
        whole.one(f"#{filter_} option[value='']").click()
    assert shown() == (["entry-3"], "1 of 4 prompts")


def test_the_theme_can_be_switched(whole):
    whole.open()
    paper = "return getComputedStyle(document.body).backgroundColor"
    assert whole.run(paper) == "rgb(255, 255, 255)"
    button = whole.one("#theme")
    button.click(), button.click()
    assert (button.text, whole.run(paper)) == ("Theme: dark", "rgb(22, 24, 29)")
    whole.driver.get("about:blank")
    whole.driver.get(whole.path.as_uri())
    assert whole.one("#theme").text == "Theme: dark"
    whole.one("#theme").click()


def test_contrast_of_all_text_is_at_least_aa(whole):
    for theme in ("light", "dark"):
        for address in ("", "#p=france"):
            whole.open(address).draw_all()
            whole.run("document.documentElement.dataset.theme = arguments[0]", theme)
            assert whole.run(script("contrast")) == []


def test_a_notebook_shows_a_run_in_a_frame(browser, folder, whole_run):
    path = folder / "notebook.html"
    path.write_text(f"<!DOCTYPE html><meta charset=utf-8>{whole_run._repr_html_()}", encoding="utf-8")
    shown = Page(browser, path).open()
    browser.switch_to.frame(0)
    assert [one for one in faults(shown) if "about:srcdoc" not in one] == []
    shown.one("[data-figure=worst] a").click()
    shown.wait("return document.querySelector('.prompt-text')")
    shown.draw_all()
    assert shown.all("[data-figure=retention] td")
    browser.switch_to.default_content()


def test_a_notebook_shows_one_figure(browser, folder, whole_run):
    path = folder / "figure.html"
    figure = whole_run.figure("logit_lens", prompt="france", target="Paris")
    path.write_text(f"<!DOCTYPE html><meta charset=utf-8>{figure._repr_html_()}", encoding="utf-8")
    shown = Page(browser, path).open()
    browser.switch_to.frame(0)
    assert [one for one in faults(shown) if "about:srcdoc" not in one] == []
    assert [one.get_attribute("data-figure") for one in shown.all("[data-figure]")] == ["logit_lens"]
    browser.switch_to.default_content()


@pytest.fixture(scope="module")
def grids(browser, folder, llama):
    options = elimtool.TraceOptions(position="all", heads=True, attention_of=("1.2",))
    prompt = elimtool.Prompt(text="The capital of France is Paris", targets=("Paris",))
    run = elimtool.trace(llama, prompt, options=options)
    write_page(run, folder / "grids.html")
    return run, Page(browser, folder / "grids.html")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_grids_are_drawn_and_read_at_both_widths_and_themes(grids, width, theme):
    _, shown = grids
    shown.open("", width).draw_all()
    shown.run("document.documentElement.dataset.theme = arguments[0]", theme)
    for name in ("logit_lens", "attention_matrix", "head_attention", "head_attribution"):
        (table,) = shown.all(f"[data-figure={name}]")
        box = table.find_element("xpath", "..").rect
        assert box["x"] >= 0 and box["x"] + box["width"] <= width
        cell = table.find_elements("css selector", "td[data-step]")[-1]  # in the last row and column
        colour = shown.run(CELL, cell).strip()
        assert shown.colours(cell).get(colour, 0) > 50
        section = table.find_element("xpath", "ancestor::section[1]")
        assert section.find_element("css selector", ".legend b").text
    assert shown.run("return document.documentElement.scrollWidth") <= width
    for pressed in (False, True):
        assert shown.run(script("contrast")) == []
        for button in shown.all(".tools button") if not pressed else ():
            button.click()


def test_a_grid_opens_at_the_position_that_is_read(browser, folder):
    words = ["The", *(f" word{at}" for at in range(59))]
    run = make_run(FakePrompt(words, [PARIS], positions=list(range(60))))
    write_page(run, folder / "long.html")
    for position in (59, 30):
        shown = Page(browser, folder / "long.html").open(f"#p=p0&at={position}", 390).draw_all()
        head = shown.one("[data-figure=logit_lens] thead th.chosen")
        scroll = head.find_element("xpath", "ancestor::div[1]").rect
        assert head.get_attribute("title").startswith(f"{position}: ")
        names = shown.one("[data-figure=logit_lens] tbody th").rect
        assert names["x"] == scroll["x"] and shown.one(".edges.more-left > .left").rect["x"] >= names["width"]
        assert scroll["x"] < head.rect["x"] <= scroll["x"] + scroll["width"] - head.rect["width"] + 1


def test_a_cell_of_the_logit_lens_tells_word_rank_and_place(grids):
    run, shown = grids
    shown.open().draw_all()
    lens, layers = run.table("lens"), run.table("lens_layers")
    row = shown.all("[data-figure=logit_lens] tbody tr")[1]
    layer, position = int(row.find_element("css selector", "th").text), 2
    told = shown.hover(row.find_elements("css selector", "td")[position])
    rank = lens[(lens["layer"] == layer) & (lens["position"] == position)]["rank"].iloc[0]
    word = layers[(layers["layer"] == layer) & (layers["position"] == position)]["top_token"].item()
    lines = told.split("\n")
    assert lines[0] == f"layer {layer}"
    assert lines[1].startswith("position 2: ") and lines[1].endswith(f": {rank:,}")
    assert lines[2].startswith("top token '") and word.strip() in lines[2]
    later = shown.one("[data-figure=attention_matrix] td.masked")
    assert "later than the query" in shown.hover(later)
    (kind,) = [one for one in shown.all("label select") if "Logit lens" in one.text]
    kind.find_elements("css selector", "option")[-1].click()
    shown.draw_all()
    assert shown.one("section[aria-label^='Logit lens'] .legend b").text == "probability of the top token"


def test_spelled_numbers_are_aligned_and_sorted_as_numbers(france):
    """8e-10 is under 0.72 and 1,227 over 3, whatever the letters say; heads are addresses."""
    rows = [
        ["0.72", "18.9", "3"],
        ["8e-10", "18.10", "1,227"],
        ["", "2.1", "-40.5"],
        ["1.4e-06", "2.10", "89"],
    ]
    france.open()
    france.run(
        "const table = plainTable({ columns: ['p stop', 'head', 'rank'], rows: arguments[0] });"
        "table.id = 'tried'; document.body.append(table)",
        rows,
    )
    fallen = {1: [0, 3, 1, 2], 2: [1, 0, 3, 2], 3: [1, 3, 0, 2]}
    for column, order in fallen.items():
        cells = france.all(f"#tried tbody td:nth-child({column})")
        assert all(
            ("number" in (one.get_attribute("class") or "")) == (column != 2) for one in cells if one.text
        )
        france.run(f"document.querySelector('#tried th:nth-child({column}) button').click()")
        shown = france.all(f"#tried tbody td:nth-child({column})")
        assert [one.get_attribute("textContent") for one in shown] == [rows[at][column - 1] for at in order]


def test_a_token_of_a_table_is_not_broken_behind_its_space(france):
    france.open()
    words = ["' particular'", "before the chain", "'a text of several words, quoted'"]
    drawn = (
        "const table = plainTable({ columns: ['said'], rows: arguments[0].map((one) => [one]) });"
        "return [...table.querySelectorAll('tbody td')].map((one) => one.className)"
    )
    assert france.run(drawn, words) == ["short", "", ""]


def test_bars_of_shares_fill_their_part_of_a_whole(whole):
    whole.open("").draw_all()
    tables = whole.driver.execute_script(
        "return [...document.querySelectorAll('table.bars:not(.said):not(.stack)')]"
        ".filter((one) => one.tHead.rows[0].cells[1].textContent === 'share')"
        ".map((one) => [...one.tBodies[0].rows].map((row) => [parseFloat(row.cells[1].textContent),"
        " parseFloat(row.querySelector('.fill').style.width), row.querySelector('.open') !== null]))"
    )
    assert tables
    for rows in tables:
        peak = max(value for value, _, _ in rows)
        of = 100 if peak >= 25 else peak
        for value, width, is_open in rows:
            assert width == pytest.approx(100 * value / of, abs=0.6) and is_open == (peak < 25)


def test_hostile_prompts_are_text(browser, folder):
    path = folder / "hostile.html"
    write_page(runs.hostile(), path)
    shown = Page(browser, path)
    for index, (name, text) in enumerate(runs.HOSTILE.items()):
        shown.open(width=390)
        shown.one("#list").click()
        shown.run("location.hash = promptAddress(front.prompts[arguments[0]].id)", index)
        shown.wait(f"return document.querySelector('h2 + p').textContent.startsWith('{name} <b>')")
        assert faults(shown) == []
        assert shown.one("pre").get_attribute("textContent") == f"The{text} is".replace("\r", "\n")
        assert shown.run("return window.hacked") is None
        assert shown.all("main img, main b b, main script") == []
        assert shown.run("return document.documentElement.scrollWidth") <= 390


@pytest.mark.slow
def test_five_hundred_prompts(browser, folder):
    path = folder / "many.html"
    size = write_page(runs.many(500), path)
    assert size < 25e6
    shown = Page(browser, path).open()
    ready = int(shown.run("return document.documentElement.dataset.ready"))
    assert ready < 2000, f"interactive after {ready} ms"
    assert len(shown.all(".entry")) < 40
    frames = shown.driver.execute_async_script(script("scroll"))
    print(f"{size / 1e6:.1f} MB, interactive after {ready} ms, frames {statistics.median(frames):.0f} ms")
    assert statistics.median(frames) < 50
    assert shown.all(".entry")[-1].get_attribute("aria-posinset") == "500"
    shown.all(".entry")[-1].click()
    shown.wait("return document.querySelector('h2 + p').textContent.startsWith('prompt-0499')")
    assert faults(shown) == []
