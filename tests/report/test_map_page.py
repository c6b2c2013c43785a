"""What a map's page shows of each head, and how it is opened and sorted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import elimtool
from elimtool.analysis.map.known import best_kept
from elimtool.report.html.page import write_page
from elimtool.report.map.figures import head_grid
from elimtool.report.map.heads import category_sentences, distance_sentences
from elimtool.report.map.layers import layer_figures, neuron_figures
from elimtool.report.map.listing import head_listing
from elimtool.report.map.profiles import Profiles
from elimtool.run.analysis import Analysis
from elimtool.run.tables.findings import FINDINGS
from tests.report import runs
from tests.report.browser import Page, chromium, faults
from tests.report.test_map import ROWS as ROLES
from tests.report.test_map_told import ROWS as LAYERS


def category(
    head: int, name: str, selectivity: float | None, low: float | None, q: float | None = None
) -> dict[str, Any]:
    return {
        "layer": 0, "head": head, "category": name, "overlay": False, "retention": 1.0,
        "selectivity": selectivity, "low": low, "high": selectivity, "p": q, "q": q,
        "n_tokens": 1234, "n_passages": 9, "unmeasured": None,
    }  # fmt: skip


def kernel(head: int, position: float | None, net: float | None, r: float | None) -> dict[str, Any]:
    return {
        "layer": 0, "head": head, "kv_group": 0, "self_bias_position": position, "self_bias_content": 0.0,
        "self_bias_net": net, "kernel_r": r, "d50": 2 + head, "d90": 9, "peak": 1, "unmeasured": None,
        "no_kernel": None if position is not None else "a reason",
    }  # fmt: skip


CATEGORIES = [
    category(0, "name", 3.0, 2.5, 0.01),
    category(1, "name", 1.5, 1.1, 0.06),  # over 1 by itself, but one head of many may be so by chance
    category(0, "number", None, None),
]
KERNELS = [kernel(0, -0.5, 0.25, 0.99), kernel(1, -0.25, -0.125, 0.5)]
DISTANCES = [
    {"layer": 0, "head": 0, "distance": at, "lift": 2.0 - at, "score": 0.5 * at, "kernel": None}
    for at in range(3)
]
TABLES: dict[str, Any] = {
    "head_roles": [row | {"low": row["score"] and 0.5 * row["score"]} for row in ROLES],
    "head_categories": CATEGORIES,
    "head_selectivity": [
        {
            "layer": 0,
            "head": 0,
            "selectivity_index": 0.25,
            "kept": "name",
            "dropped": "punct",
            "unmeasured": None,
        }
    ],
    "head_distances": DISTANCES,
    "head_kernels": KERNELS,
    "head_examples": [
        {
            "layer": 0,
            "head": 0,
            "example": 1,
            "passage": "text-004",
            "query": 9,
            "query_token": " cat",
            "before": "The dog saw a",
            "key": key,
            "key_token": token,
            "weight": weight,
        }
        for key, token, weight in ((2, " dog", 0.75), (1, " The", 0.01))
    ],
}
PAIRS = [
    {
        "layer_a": 0, "head_a": 0, "layer_b": 0, "head_b": 1, "same_group": True, "js": 0.25, "js_null": 0.5,
        "cka": 0.75, "cka_null": 0.0, "affinity": 0.5, "affinity_null": 0.125,
    }
]  # fmt: skip


def test_a_cell_opens_roles_categories_and_distances() -> None:
    grid: Any = head_grid(Profiles(TABLES)).to_json()
    roles, kept, lift, position, seen = grid["opens"][0][0]
    assert [row["label"] for row in roles["rows"]] == ["induction", "sink", "copying"]
    assert roles["rows"][0]["certain"] and roles["rows"][0]["mark"] == 0.01
    assert roles["rows"][2]["text"] == "not measurable" and roles["rows"][2]["value"] is None
    assert [(row["label"], row["value"], row["mark"]) for row in kept["rows"]] == [("name", 3, 1)]
    by_chance: Any = {one["name"]: one for one in Profiles(TABLES).opens((0, 1))}["map_head_categories"]
    assert [one["rows"][0]["certain"] for one in (kept, by_chance)] == [True, False]  # both are over 1 alone
    assert lift["kind"] == "lines" and lift["axis"] == "distance" and lift["lines"][0]["values"] == [2, 1, 0]
    assert [line["name"] for line in position["lines"]] == ["mean score on text"]
    assert "-0.50 by position, +0.25 with content" in position["note"]
    assert seen["rows"] == [["The dog saw a [cat]", "' dog' 75%", "7", "text-004"]]
    assert len(grid["opens"][1][0]) == 1  # a head of which only roles are known


def test_the_grid_is_coloured_by_role_or_by_what_else_was_mapped() -> None:
    grid: Any = head_grid(Profiles(TABLES)).to_json()
    assert grid["kinds"] == [[1, 1], [6, None]] and grid["kind_names"]["1"] == "I induction"
    assert grid["blank"] == "none of these roles"
    views = {one["title"]: one for one in grid["views"]}
    assert list(views)[:2] == ["strongest role", "induction"] and "keeps names" in views
    assert views["induction"]["values"] == [[0.9, 0.4], [0.05, None]]
    assert views["induction"]["words"] == [["I", "I"], ["", ""]]
    assert views["keeps names"]["values"][0] == [3, 1.5] and views["keeps names"]["words"][0] == ["+", ""]
    without: Any = head_grid(Profiles(TABLES | {"head_roles": []})).to_json()
    assert without["values"] == [[3, 1.5]] and without["unit"] == "lift" and without["kinds"] == []
    kernels: Any = head_grid(Profiles({"head_kernels": KERNELS})).to_json()
    assert kernels["values"] == [[2, 3]] and kernels["views"][1]["values"] == [[0.25, -0.125]]


def test_the_category_that_a_head_keeps_is_the_most_selective_that_chance_does_not_explain() -> None:
    rows = [
        category(0, "name", 4.0, 3.0, 0.2),  # the most selective, but of many heads one may be so by chance
        category(0, "number", 2.0, 0.9, 0.03),
        category(0, "word", 1.5, 1.2, 0.001),
        category(0, "rare", 9.0, 8.0, 0.001) | {"overlay": True},
        category(0, "punctuation", None, None),
    ]
    found = best_kept(rows)
    assert found is not None and found["category"] == "number"
    assert best_kept(rows[:1]) is None
    assert best_kept([{name: one for name, one in rows[2].items() if name != "q"}]) is None  # an older map


def test_a_cell_lists_the_partners_of_its_head() -> None:
    profiles = Profiles(TABLES | {"head_pairs": PAIRS})
    listed: list[Any] = [
        one for head in ((0, 0), (0, 1)) for one in profiles.opens(head) if one["name"] == "map_head_partners"
    ]
    assert [one["rows"][0][:4] for one in listed] == [["0.1", "yes", 0.25, 0.5], ["0.0", "yes", 0.25, 0.5]]
    assert listed[0]["links"] == "#head="


def test_all_heads_are_listed_to_be_sorted() -> None:
    listing = head_listing(Profiles(TABLES))
    first = dict(zip(listing.columns, listing.rows[0], strict=True))
    assert first["head"] == "0.0" and first["role"] == "induction" and first["keeps"] == "name"
    assert listing.rows[1][listing.columns.index("keeps")] is None  # q 0.06
    assert first["d50"] == 2 and first["self-bias by position"] == -0.5
    assert len(listing.rows) == 4 and [row[1] for row in listing.rows] == [
        "induction",
        "induction",
        "sink",
        "none",
    ]
    assert listing.rows[3][2:] == [None] * 10
    assert head_listing(Profiles({"head_roles": ROLES})).columns == [
        "head",
        "role",
        "induction",
        "sink",
        "copying",
    ]


def test_what_heads_keep_and_how_far_they_look_is_told() -> None:
    assert category_sentences(CATEGORIES) == [
        "name: 1 of 2 heads keep it more than distance explains (q 0.05 over heads): 0.0 3 times (2.5 to 3)."
    ]
    (none,) = category_sentences(CATEGORIES[1:])
    assert none == "name: none of 1 heads keeps it more than distance explains (q 0.05 over heads)."
    told = distance_sentences(KERNELS)
    assert told[0].startswith(
        "half of a head's attention over even attention is within 2 tokens (median of 2"
    )
    assert told[1].startswith("by position alone 100% (95 %: 34% to 100%) of 2 heads")
    assert "with content it is 50% (95 %: 9% to 91%)." in told[1]
    assert told[2].startswith("position explains the scores of 1 of 2 heads")
    assert distance_sentences([kernel(0, None, None, None)])[1] == "1 of 1 heads have no kernel: a reason."
    assert distance_sentences([]) == [] and category_sentences([]) == []


def test_layers_are_a_strip_and_neurons_counts() -> None:
    strip: Any = layer_figures(LAYERS)[0]
    assert strip.columns == [str(at) for at in range(6)] and strip.rows[2] == "lost without it"
    assert strip.values[2][1] == 1 and strip.details[2][1] == "9"
    neurons = [
        {"layer": at // 2, "neuron": at % 2, "open": 0.0 if at < 3 else 1.0, "n": 3000} for at in range(4)
    ]
    (counts,) = neuron_figures(neurons)
    assert [(row.label, list(row.counts)) for row in counts.rows] == [
        ("layer 0", [2, 0, 0, 0, 0]),
        ("layer 1", [1, 0, 0, 0, 1]),
    ]
    assert neuron_figures([]) == []


def faults_of_map(shown: Page) -> list[str]:
    """Everything wrong but for figures of the run itself, whose prompts are made up."""
    return [one for one in faults(shown) if one.startswith(("map_", "console", "request", "the page"))]


def test_a_head_is_opened_and_heads_are_sorted_in_the_browser(tmp_path: Path) -> None:
    run = runs.many(2)
    run.save(tmp_path / "map")
    asked = {"map": ["roles"], "corpus": "held_out", "passages": 32, "tokens": 128}
    tables = {name: table.from_rows(TABLES.get(name, [])) for name, table in FINDINGS["map"].items()}
    Analysis.of("map", elimtool.open_run(tmp_path / "map").manifest, tables, asked, 0).save(tmp_path / "map")
    write_page(elimtool.open_run(tmp_path / "map"), tmp_path / "map.html")
    with chromium(tmp_path / "profile") as driver:
        shown = Page(driver, tmp_path / "map.html").open("", 390)
        assert not faults_of_map(shown)
        shown.run("document.querySelector('[data-figure=map_roles] td').click()")
        assert [one.text for one in shown.all(".opened h3")] == [
            "Roles of head 0.0", "What head 0.0 keeps", "How far head 0.0 looks",
            "What position explains of head 0.0", "Where head 0.0 attends most",
        ]  # fmt: skip
        assert not faults_of_map(shown)  # each of them is drawn
        column = "[data-figure=map_heads] tbody td:first-child"
        assert [one.text for one in shown.all(column)] == ["0.0", "0.1", "1.0", "1.1"]
        for order, ends in (("descending", ["0.0", "0.1"]), ("ascending", ["1.0", "0.1"])):
            shown.run("document.querySelectorAll('[data-figure=map_heads] th button')[2].click()")
            assert shown.all(f"[data-figure=map_heads] th[aria-sort={order}]")
            first, second, *_, last = [one.text for one in shown.all(column)]
            assert [first, second] == ends and last == "1.1"  # which has no value, and stays last
        _by_keyboard(shown)
        colour = "[data-name=map_roles] select"
        shown.run(
            f"const one = document.querySelector('{colour}'); one.value = 1;"
            "one.dispatchEvent(new Event('change'))"
        )
        words = [one.get_attribute("textContent") for one in shown.all("[data-figure=map_roles] td .word")]
        assert words == ["I", "I", "", ""] and shown.all(".opened h3")[0].text == "Roles of head 0.0"
        shown.run("document.querySelectorAll('[data-figure=map_heads] td a')[1].click()")
        assert shown.wait("return document.querySelector('.opened h3')?.textContent == 'Roles of head 0.1'")
        assert not faults_of_map(shown.open("#head=1.0"))
        assert shown.all(".opened h3")[0].text == "Roles of head 1.0"
        assert not faults_of_map(shown.open("#head=9.9")) and not shown.all(".opened h3")


def _by_keyboard(shown: Page) -> None:
    """Arrow keys and Enter open a head, Escape leads back to the grid."""
    from selenium.webdriver.common.keys import Keys

    shown.one("[data-name=map_roles] .scroll").send_keys(Keys.ARROW_DOWN, Keys.ARROW_RIGHT, Keys.ENTER)
    assert shown.all(".opened h3")[0].text == "Roles of head 0.1"
    assert shown.run("return document.activeElement.className") == "opened"
    shown.driver.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert shown.run("return document.activeElement.classList.contains('scroll')")
    shown.one("[data-name=map_roles] .scroll").send_keys(Keys.ARROW_LEFT, Keys.ENTER)
