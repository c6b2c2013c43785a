"""What a story says of the parts of the prompt that wrote a target's logit."""

from __future__ import annotations

from typing import Any

import pytest
from rich.cells import cell_len

from elimtool.analysis.compare.runs import compare_runs
from elimtool.report.compare.sources import source_lines
from elimtool.report.figures.choose import choose
from elimtool.report.figures.figure import Heat
from elimtool.report.screen import Screen
from elimtool.run.reader import Run
from tests.report.printed import detailed, flat, printed
from tests.report.runs import judged
from tests.report.synthetic import LONDON, PARIS, FakePrompt, fitted, make_run

FRANCE = ("The", " capital", " of", " France", " is")
WROTE = {
    "<sink>": (0.5, "1.0", 0.25, "2.1", -0.125),
    "1: capital": (0.25, "3.1", 0.25, "4.0", -0.125),
    "2: of": (0.125, "3.1", 0.25, "4.0", -0.125),
    "3: France": (4.0, "23.4", 3.0, "23.3", -0.5),
    "4: is": (-2.0, "29.1", 0.5, "29.0", -1.5),
}
"""What each span wrote, the head that wrote most for the target and how much, and against it."""


def row(span: str, **values: Any) -> dict[str, Any]:
    return {"prompt_id": "p", "position": 4, "span": span, **values}


def cells(which: str, head: str, value: float) -> dict[str, Any]:
    layer, number = head.split(".")
    return {f"{which}_layer": int(layer), f"{which}_head": int(number), f"{which}_dla": value}


def run_of(words: list[str] | None = None, targets: Any = (PARIS,), **more: Any) -> Run:
    run = judged(make_run(FakePrompt(words or list(FRANCE), list(targets))))
    prompt_id, position = (run.arrow("survival").to_pylist()[0][name] for name in ("prompt_id", "position"))
    rows = []
    for target in {one["target"]: None for one in run.arrow("survival").to_pylist()}:
        for span, (wrote, top, most, low, least) in WROTE.items():
            values = cells("top", top, most) | cells("low", low, least)
            rows.append(row(span, target=target, dla=wrote, dla_centred=wrote, **values))
        rows.append(row("<mlp>", target=target, dla=9.0, dla_centred=9.0))
    rows = [one | {"prompt_id": prompt_id, "position": position} | more for one in rows]
    return run.with_rows("source_spans", fitted("source_spans", rows))


def test_the_parts_that_wrote_most_are_named_with_their_heads() -> None:
    text = flat(printed(run_of()))
    assert (
        "Of the logit of ' Paris', ' France' wrote +4.0 (+3.0 through head 23.4) and ' is' itself -2.0"
        " (-1.5 through head 29.0); ' capital' and ' of' wrote next to nothing; MLPs wrote +9.0, which is not"
        " split by part (direct paths, above the mean logit)."
    ) in text


def test_a_comparison_tells_the_parts_that_moved_most() -> None:
    one, other = run_of(), run_of()
    rows = other.arrow("source_spans").to_pylist()
    for changed in rows:
        if changed["span"] == "3: France":
            changed.update({"dla_centred": 0.5} | cells("top", "24.1", 0.25))
        if changed["span"] == "<mlp>":
            changed["dla_centred"] = 10.0
    other = other.with_rows("source_spans", fitted("source_spans", rows))
    screen = Screen(80)

    def told(a: Run, b: Run) -> str:
        found = compare_runs(a, b)
        pairs = found.table("pairs")["pair_id"]
        return flat("\n".join(line.plain for line in source_lines(found, pairs, screen)))

    assert told(one, other) == (
        "What parts of the prompt wrote, moved most (logits above the mean, direct paths, A → B)"
        " ' France' for ' Paris': +4.00 → +0.50, most by head 23.4 → 24.1 MLPs for ' Paris': +9.00 → +10.00"
    )
    assert told(one, one) == ""


def test_the_cut_edge_is_told_beside_random_tokens() -> None:
    text = flat(printed(run_of(cut_effect=-2.5, cut_control=0.125, handover_layer=23)))
    assert (
        "cutting ' France' off in layer 23 (where it wrote most) changes the log-probability of ' Paris' by"
        " -2.50 nats; as many random tokens: +0.12" in text
    )


def test_attention_alone_does_not_say_what_was_kept_or_ignored() -> None:
    for tell in (printed, detailed):
        text = flat(tell(run_of(), 120))
        assert "ignored" not in text and "Most kept" not in text


@pytest.mark.parametrize("width", [40, 80, 120])
def test_the_table_lists_the_part_of_which_most_was_kept_first(width: int) -> None:
    lines = detailed(run_of(), width).splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("What each part wrote"))
    found = [
        line for line in lines[start:] if line.startswith(("MLPs", "' France'", "the sink", "' is' itself"))
    ]
    assert [line.split("  ")[0] for line in found] == ["MLPs", "' France'", "the sink", "' is' itself"]
    assert all(cell_len(line) <= width for line in lines)
    assert ("by 23.4" in found[1]) == (width > 40)


@pytest.mark.parametrize("words", [5, 30, 300])
@pytest.mark.parametrize("targets", [[PARIS], [LONDON]])
def test_the_story_with_sources_still_fits_on_a_screen(words: int, targets: Any) -> None:
    tokens = [*FRANCE, *(f" word{index}" for index in range(words - 5))]
    assert len(printed(run_of(tokens, targets), 80).splitlines()) <= 40


def test_the_figure_puts_weight_and_what_was_written_side_by_side() -> None:
    run = run_of()
    figure = choose(run, "content", target=" Paris")
    assert isinstance(figure, Heat)
    assert figure.rows[:4] == [
        "weight · <sink>",
        "wrote · <sink>",
        "weight · 1: capital",
        "wrote · 1: capital",
    ]
    # a line above each part but the first
    assert [figure.rows[at].partition(" · ")[2] for at in figure.starts] == list(WROTE)[1:]
    total = sum(abs(values[0]) for values in WROTE.values())
    named = dict(zip(figure.rows, figure.values, strict=True))
    assert named["wrote · 3: France"][0] == pytest.approx(4.0 / total)
    assert named["wrote · 4: is"][0] == pytest.approx(-2.0 / total)
    assert set(named["wrote · 4: is"][1:]) == {None} and "`heads`" in figure.note
    mass = [row["mass"] for row in run.arrow("attention").to_pylist() if row["span"] == "3: France"]
    assert named["weight · 3: France"] == [pytest.approx(sum(mass) / len(mass)), *mass]


def test_single_heads_give_the_figure_what_each_layer_wrote() -> None:
    run = run_of()
    keys = {name: run.arrow("source_spans").to_pylist()[0][name] for name in ("prompt_id", "position")}
    cells = [(3, 23, 0, 3.0), (3, 23, 1, -1.0), (4, 23, 0, -1.0), (4, 29, 0, 1.5)]
    names = {3: "3: France", 4: "4: is"}
    rows = [
        keys
        | {"target": " Paris", "span": names[span], "layer": layer, "head": head}
        | {"dla": value, "dla_centred": value}
        for span, layer, head, value in cells
    ]
    figure = choose(run.with_rows("sources", fitted("sources", rows)), "content", target=" Paris")
    named = dict(zip(figure.rows, figure.values, strict=True))
    at = list(figure.columns).index("23")
    # layer 23 wrote most: 2 from France, 1 against from is
    assert named["wrote · 3: France"][at] == pytest.approx(2 / 3)
    assert named["wrote · 4: is"][at] == pytest.approx(-1 / 3)
    assert named["wrote · 4: is"][list(figure.columns).index("29")] == pytest.approx(1.5 / 3)
    assert "`heads`" not in figure.note


def test_what_could_not_be_split_is_said_with_the_reason() -> None:
    nothing = dict.fromkeys(("dla", "dla_centred", "top_layer", "top_dla", "low_dla"))
    text = flat(printed(run_of(undecomposed="layer 3: a reason", **nothing)))
    assert "Which parts of the prompt wrote it cannot be read: layer 3: a reason." in text
    assert "Of the logit" not in text
