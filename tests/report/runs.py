"""Runs for the page and the figures: a whole one, one with hostile texts, one of many prompts."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

import elimtool
from elimtool.analysis.compare.runs import compare_runs
from elimtool.analysis.query.history import MetricHistory, MetricQuery, follow
from elimtool.analysis.verdict import verdicts
from elimtool.run.comparison import Comparison
from elimtool.run.reader import Run
from elimtool.run.schema import TABLES
from elimtool.run.tables.comparison import COMPARISON_TABLES
from tests.report.synthetic import FRANCE, LONDON, PARIS, FakePrompt, fitted, make_run

HOSTILE = {
    "markup": "</script><script>hacked = 1</script><!--<script><img src=x onerror='hacked = 1'>",
    "rtl": "\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627 \u202ehello",
    "long": "abcdefghij" * 1000,
    "separators": "a\u2028b\u2029c & d &amp; e {{script}} \u0000",
}
"""Prompts that a page must show as text, by id; their targets are the same texts."""


def whole(model: Any) -> Run:
    """Every table, from a model: groups, tags, foils, a walk, and a prompt that failed."""
    options = elimtool.TraceOptions(generate=3, seed=1, errors="row")
    prompts = [
        elimtool.Prompt(
            text="The capital of France is",
            targets=("Paris",),
            foils=("Berlin",),
            group="capitals",
            tags=("easy",),
            id="france",
        ),
        elimtool.Prompt(
            text="The capital of Spain is", targets=("Madrid",), group="capitals", tags=("hard",), id="spain"
        ),
        elimtool.Prompt(text="A token of the text", group="words", id="text"),
        elimtool.Prompt(text="too long " * 100, id="broken"),
    ]
    return elimtool.trace(model, prompts, options=options)


def judged(run: Run) -> Run:
    """A made-up run with its verdicts and some components."""
    rows = [
        {**{key: row[key] for key in ("prompt_id", "position", "target")}, "component": name, "kind": "mlp",
         "layer": layer, "dla": value, "dla_centred": value}
        for row in run.arrow("survival").to_pylist()
        for layer, (name, value) in enumerate([("mlp 0", 1.25), ("mlp 1", -0.5), ("mlp 2", 0.125)])
    ]  # fmt: skip
    attributed = run.with_rows("components", fitted("components", rows))
    return attributed.with_rows("verdicts", verdicts(attributed))


def france() -> Run:
    """One made-up prompt with a short story: ' Paris' survives, ' London' is cut by min_p."""
    return judged(make_run(FakePrompt(["The", " capital", " of", " France", " is"], [PARIS, LONDON])))


def hostile() -> Run:
    """One prompt a hostile text; the text is its token, its target and its id's neighbour in the list."""
    from dataclasses import replace

    prompts = [
        FakePrompt(["The", text, " is"], [replace(PARIS, text=text), LONDON], prompt_id=f"{name} <b>&'\"")
        for name, text in HOSTILE.items()
    ]
    return judged(make_run(*prompts))


def many(count: int, tokens: int = 40, names: Collection[str] = ()) -> Run:
    """The same made-up prompt so many times, under ids of its own, in ten groups; all tables or some."""
    words = ["The", *(f" word{index}" for index in range(tokens - 1))]
    one = judged(make_run(FakePrompt(words, [PARIS, LONDON])))
    ids = [f"prompt-{index:04}" for index in range(count)]
    tables = {}
    for name in names or one.tables:
        table = one.arrow(name)
        copies = pa.concat_tables([table] * count).combine_chunks()
        repeated = pa.array([own for own in ids for _ in range(table.num_rows)])
        copies = copies.set_column(
            copies.column_names.index("prompt_id"), TABLES[name].schema.field("prompt_id"), repeated
        )
        tables[name] = copies
    groups = pa.array([f"group {index % 10}" for index in range(count)])
    prompts = tables["prompts"]
    place = prompts.column_names.index("group")
    tables["prompts"] = prompts.set_column(place, prompts.schema.field("group"), groups)
    return Run.from_tables(one.manifest, tables)


def eight() -> Run:
    """Eight prompts with table ``survival`` alone."""
    run = many(8)
    return Run.from_tables(run.manifest, {name: run.arrow(name) for name in ("prompts", "survival")})


def quiet(days: int, seed: int = 0) -> Any:
    """Probabilities of eight prompts over days that differ by noise alone, [days, 8]."""
    rng = np.random.default_rng(seed)
    return 0.4 + np.arange(8) * 0.02 + rng.normal(0, 0.002, (days, 8))


def made(base: Run, grid: Any, **facts: Any) -> dict[str, Run]:
    """A run a day, with these probabilities and facts such as ``label="week {}"``."""
    return {
        f"run{day}": _with_values(
            base,
            values,
            started=f"2026-01-{day + 1:02d}T00:00:00Z",
            **{name: one.format(day) for name, one in facts.items()},
        )
        for day, values in enumerate(grid)
    }


def _with_values(run: Run, values: Any, **facts: Any) -> Run:
    """The run with these probabilities, one a prompt, the same for all of its targets."""
    table = run.arrow("survival")
    at = table.column_names.index("prob")
    own = dict(zip(run.arrow("prompts").column("prompt_id").to_pylist(), map(float, values), strict=True))
    new = pa.array([own[name] for name in table.column("prompt_id").to_pylist()])
    tables = {
        "prompts": run.arrow("prompts"),
        "survival": table.set_column(at, table.schema.field(at), new),
    }
    return Run.from_tables(run.manifest.model_copy(update=facts), tables)


def history() -> MetricHistory:
    """Twelve runs, of which the last is out of its limits and a change point."""
    grid = quiet(12, seed=2)
    grid[11] -= 0.05
    return follow(made(eight(), grid, label="run {}"), MetricQuery("survival.prob"))


def compared() -> Comparison:
    """Three made-up pairs and a control: France lost to London, a text that is markup, and an error."""
    sides = []
    for shift in (0, 1):
        words = [["The", " capital", " of", " France", " is"], ["The", HOSTILE["markup"], " is"]]
        prompts = [
            FakePrompt([*tokens, " so"] if shift else tokens, [PARIS, LONDON], {"s": [1]}, prompt_id=name,
                       probs=FRANCE[::-1] if shift else FRANCE)
            for name, tokens in zip(("france", "markup <b>"), words, strict=True)
        ]  # fmt: skip
        sides.append(judged(make_run(*prompts, FakePrompt(["x"], prompt_id="broken", error="too long"))))
    found = compare_runs(*sides)
    return Comparison.of(
        "prompts", found.a, found.b, {**found.tables, **_of_prompts(found)}, notes=["<b>A</b> note."]
    )


def many_pairs(count: int) -> Comparison:
    """The first pair of ``compared`` so many times, under ids of its own."""
    one = compared()
    tables = {}
    for name, table in one.tables.items():
        if "pair_id" not in table.column_names:
            tables[name] = table
            continue
        own = table.filter(pc.equal(table.column("pair_id"), "france"))
        copies = pa.concat_tables([own] * count).combine_chunks()
        ids = pa.array([f"pair-{index:05}" for index in range(count) for _ in range(own.num_rows)])
        at = copies.column_names.index("pair_id")
        tables[name] = copies.set_column(at, copies.schema.field(at), ids.cast(copies.schema.field(at).type))
    return Comparison.of(one.kind, one.a, one.b, tables)


def _of_prompts(found: Comparison) -> dict[str, Any]:
    """Tables that only a comparison of prompts has, and a control of the first pair."""
    pairs = found.arrow("pairs").to_pylist()
    control = {**pairs[0], "pair_id": "france/random", "control": "random", "of": "france"}
    first = {**pairs[0], "onset_layer": 12, "js_output": 0.31, "n_matched": 5, "n_common_prefix": 5}
    own = {"pair_id": "france"}
    rows: dict[str, list[dict[str, Any]]] = {
        "pairs": [{**first, "prefix_difference": 0.0, "prefix_holds": True}, *pairs[1:], control],
        "alignment": [
            *(
                {**own, "operation": "equal", "index_a": i, "index_b": i, "token_a": token, "token_b": token}
                for i, token in enumerate(["The", " capital", " of", " France", " is"])
            ),
            {**own, "operation": "insert", "index_a": None, "index_b": 5, "token_a": None, "token_b": " so"},
        ],
        "divergence": [
            {**own, "layer": layer, "js": 0.01 * (layer + 1), "band": 0.12, "beyond": layer > 11}
            for layer in range(-1, 30)
        ],
        "association_contrast": [
            {**own, "layer": layer, "lens": "ridge", "concept": "snow", "n_tokens": 3, "n_controls": 99,
             "prob_a": 0.1, "prob_b": 0.2, "difference": 0.05 * layer, "difference_low": -0.5,
             "difference_high": 0.5, "p_value": 0.3, "p_adjusted": 0.6}
            for layer in range(-1, 30)
        ],
        "head_differences": [
            {**own, "layer": layer, "head": head, "span": "s", "focus_a": 0.9, "focus_b": 0.4,
             "retention_shift": -0.5 * head, "z": None if layer else 3.5 * head}
            for layer in range(2)
            for head in range(3)
        ],
    }  # fmt: skip
    blank = {name: dict.fromkeys(COMPARISON_TABLES[name].names) for name in rows}
    return {
        name: COMPARISON_TABLES[name].from_rows([{**blank[name], **row} for row in some])
        for name, some in rows.items()
    }


def france_chain() -> list[Any]:
    """Stages of the first chain of ``france`` as the page labels them, with their parameters."""
    from tests.report.synthetic import LLAMA

    labels = {
        "top_k": "top_k 40",
        "top_p": "top_p 0.95",
        "min_p": "min_p 0.05",
        "temperature": "temperature 0.8",
    }
    return [(labels.get(stage, stage), params) for stage, params in LLAMA[1]]
