"""Write the sampler ledger: each chain stage by stage, with what it cuts and the fate of each target."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import exp, log2
from typing import Any

from rich.cells import cell_len
from rich.text import Text

from elimtool.analysis.closing import spell_prob
from elimtool.analysis.fate import ChainFate, fate_of, kind_of, removes
from elimtool.files.rows import Row
from elimtool.report.facts import Probe
from elimtool.report.numbers import share
from elimtool.report.screen import Screen, padded

SHOWN_PARAMS = (
    "temperature", "delta", "k", "p", "mass", "n", "a", "z", "h", "epsilon", "tau", "eta", "probability",
    "threshold", "factor", "curve", "target", "repetition", "frequency", "presence", "multiplier", "base",
    "allowed_length",
)  # fmt: skip
"""Parameters that are shown beside the stage's name."""
MAIN = ("temperature", "k", "p", "mass", "h", "epsilon")
"""Parameters that go by the name of their stage."""
NEUTRAL = {"delta": 0, "curve": 1, "repetition": 1, "frequency": 0, "presence": 0}
"""Values with which a parameter does nothing, so that it is not shown."""
KEPT_NAMED = 5
FEW = 3
"""Up to this many targets are shown with the margin of their cut; of more, the names alone."""
LINE_WITHOUT_LABEL = 25
SURPRISING = ("xtc", "typical")
"""Stages that can cut probable tokens: they show why."""
MOST_NOTES = 3
WHERE = {
    "guidance": "after the second prompt",
    "context_aware": "after the second prompt",
    "contrastive": "to the amateur {}",
    "dola": "at the earlier layer",
}
"""Where the other row of a stage that combines two is from."""


@dataclass(frozen=True)
class ChainLedger:
    """Rows of one chain: its stages in order, and those of each target (string, token) by stage."""

    name: str
    engine: str
    stages: tuple[Row, ...]
    targets: Mapping[tuple[str, int], Mapping[int, Row]]
    amateur: str = ""

    def combined(self, index: int, screen: Screen) -> list[str]:
        """Say where targets stand in the row that a stage combines the output with, and what they gain."""
        said = []
        for (text, _), rows in self.targets.items():
            row = rows.get(index)
            if row is None or row.get("other_rank") is None:
                continue
            where = WHERE.get(kind_of(row), "in the other row").format(screen.visible(self.amateur))
            prob = "" if row["other_logprob"] is None else f" (p {spell_prob(exp(row['other_logprob']))})"
            gain = ""
            if row["prob_before"] > 0 and row["prob_after"] > 0:
                gain = f", {log2(row['prob_after'] / row['prob_before']):+.2g} bits here"
            said.append(f"{screen.quoted(text, 18)}: rank {row['other_rank']:,}{prob} {where}{gain}")
        return said[:FEW]

    @property
    def active(self) -> tuple[Row, ...]:
        """Stages that are on."""
        return tuple(stage for stage in self.stages if stage["active"])

    def fate(self, key: tuple[str, int]) -> ChainFate:
        """Fate of a target in the chain."""
        return fate_of(self.name, self.targets[key].values(), self.stages)


def ledgers(probe: Probe) -> list[ChainLedger]:
    """Gather the chains of a position, in the order in which they were given.

    A run may hold one of the two tables alone: then a ledger has no stages, or no targets.
    """
    stages: dict[str, list[Row]] = {}
    for row in probe.rows("sampling"):
        stages.setdefault(row["chain"], []).append(row)
    targets: dict[str, dict[tuple[str, int], dict[int, Row]]] = {}
    for row in probe.rows("sampling_targets"):
        own = targets.setdefault(row["chain"], {}).setdefault((row["target"], row["token_id"]), {})
        own[row["stage_index"]] = row
    return [
        ChainLedger(
            name,
            (stages[name][0]["engine"] or "") if name in stages else "",
            tuple(sorted(stages.get(name, ()), key=lambda row: int(row["stage_index"]))),
            targets.get(name, {}),
            _amateur(probe),
        )
        for name in stages or targets
    ]


def _amateur(probe: Probe) -> str:
    """Name the weaker model that contrastive stages move away from; empty for none."""
    config = probe.run.manifest.config
    stated = config.get("amateur") if isinstance(config, dict) else None
    return str(stated.get("model") or "") if isinstance(stated, dict) else ""


def ledger(chains: list[ChainLedger], screen: Screen) -> list[Text]:
    """Write all chains with aligned columns."""
    labels = [stage_label(stage, screen) for chain in chains for stage in chain.active]
    room = max(screen.width - LINE_WITHOUT_LABEL, 8)
    width = min(max((cell_len(label) for label in labels), default=0), room)
    legend = f"tokens before {screen.glyph('→')} after each stage, and the probability cut"
    lines = screen.titled("Samplers", legend) if chains else []
    return lines + [line for chain in chains for line in _chain(chain, width, screen)]


def _chain(chain: ChainLedger, width: int, screen: Screen) -> list[Text]:
    title = screen.shorten(screen.visible(chain.name), screen.width // 2)
    by = f" ({screen.visible(chain.engine)})" if chain.engine and chain.engine != chain.name else ""
    head = Text(f"{title}{by}", style="bold")
    if chain.stages and not any(stage["n_after"] < stage["n_before"] for stage in chain.stages):
        count = chain.stages[-1]["n_after"]
        head.append(f": nothing is cut, all {count:,} tokens stay", style="not bold")
    told = shipped(chain)
    lines = [head, *(screen.wrap(screen.visible(told), indent=2, style="dim") if told else [])]
    for stage in chain.active:
        label = padded(screen.shorten(stage_label(stage, screen), width), width)
        lines += _stage(chain, stage, label, screen)
    lines += _kept(chain, screen)
    off = ", ".join(screen.visible(stage["stage"]) for stage in chain.stages if not stage["active"])
    return lines + (screen.wrap(f"off: {off}", indent=2, style="dim", hang=5) if off else [])


def shipped(chain: ChainLedger) -> str:
    """Say which values the model ships with: ``temperature 0.6 from the model's generation_config.json``."""
    found: dict[str, list[str]] = {}
    for stage in chain.stages:
        params = json.loads(stage["params"])
        for name, source in json.loads(stage.get("params_from") or "{}").items():
            if source != "user":
                word = str(stage["stage"])
                told = word if name in (*MAIN, word) else f"{word} {name}"
                found.setdefault(source, []).append(f"{told} {params[name]:g}")
    return "; ".join(f"{', '.join(values)} from the model's {source}" for source, values in found.items())


def _stage(chain: ChainLedger, stage: Row, label: str, screen: Screen) -> list[Text]:
    line = Text(f"  {label} ")
    before, after = stage["n_before"], stage["n_after"]
    back = after - before
    if after < before:
        line.append(f"{before:>7,} {screen.glyph('→')} {after:<7,}{share(stage['mass_pruned']):>5}")
    elif back:
        line.append(f"{before:>7,} {screen.glyph('→')} {after:<7,} {back:,} came back", style="dim")
    else:
        line.append(f"{before:>7,} kept", style="dim")
    drawable = stage.get("n_drawable")
    if drawable is not None and drawable < after:
        line.append(f"  only {drawable:,} can be drawn", style="dim")
    index = stage["stage_index"]
    cut = {key: rows[index] for key, rows in chain.targets.items() if index in rows and removes(rows[index])}
    remarks = [*list(stage["notes"])[:MOST_NOTES], *chain.combined(index, screen)]
    if kind_of(stage) in SURPRISING:
        remarks += [f"{screen.quoted(key[0], 18)}: {row['why']}" for key, row in cut.items() if row["why"]]
    said = [
        one for note in remarks for one in screen.wrap(screen.visible(note), indent=4, style="dim", hang=4)
    ]
    if not cut:
        return [line, *said]
    few = len(chain.targets) <= FEW
    told = "cut " + ", ".join(_fate(key, row, few, screen) for key, row in cut.items())
    if line.cell_len + 2 + cell_len(told) <= screen.width:
        return [line.append(f"  {told}", style="red"), *said]
    return [line, *screen.wrap(told, indent=4, style="red", hang=4), *said]


def _fate(key: tuple[str, int], row: Row, told: bool, screen: Screen) -> str:
    by = distance(row) if told else ""
    return screen.quoted(key[0], 18) + (f" by {by}" if by else "")


def distance(row: Row) -> str:
    """Distance of a target from its stage's cut, with the unit: ``1.1 nats``; empty where not known."""
    margin, unit = row["margin"], row["margin_unit"]
    if margin is None:
        return ""
    near = ", within rounding" if row.get("within_rounding") else ""
    return spell_prob(abs(margin)) + (f" {unit}" if unit else "") + near


def _kept(chain: ChainLedger, screen: Screen) -> list[Text]:
    """Targets that can still be drawn, with their probability after the last stage."""
    ends = [(key, rows[max(rows)]) for key, rows in chain.targets.items()]
    alive = [(key, row) for key, row in ends if row["alive_after"]]
    if not alive:
        return screen.wrap("no target is left", indent=2, style="red") if ends else []
    named = [f"{screen.quoted(key[0], 18)} p = {spell_prob(row['prob_after'])}" for key, row in alive]
    more = f" and {len(alive) - KEPT_NAMED:,} more" if len(alive) > KEPT_NAMED else ""
    return screen.wrap(f"left: {', '.join(named[:KEPT_NAMED])}{more}", indent=2, style="green", hang=6)


def stage_label(stage: Row, screen: Screen) -> str:
    """Name of a stage with its main parameters: ``top_p 0.95``."""
    params: dict[str, Any] = json.loads(stage["params"])
    told = [
        (key, params[key])
        for key in SHOWN_PARAMS
        if isinstance(params.get(key), int | float) and params[key] != NEUTRAL.get(key)
    ]
    values = [f"{key}={value:g}" if len(told) > 1 else f"{value:g}" for key, value in told]
    return screen.visible(" ".join([str(stage["stage"]), *values]))
