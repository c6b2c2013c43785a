"""Group the attribution rows of one position by target, method and span."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp

from elimtool.files.rows import Row
from elimtool.report.facts import Probe


@dataclass(frozen=True)
class Method:
    """Scores of one method for the spans of a target.

    Attributes:
        name: Name of the method.
        unit: Unit of the scores.
        scores, ranks, directions: One value a span.
        windows: Scores by span, for each window (first layer, last layer).
        facts: Its row of ``attribution_methods``.
    """

    name: str
    unit: str
    scores: list[float]
    ranks: list[int]
    directions: list[str]
    windows: Mapping[tuple[int, int], list[float]]
    facts: Row

    @property
    def first(self) -> int:
        """The span ranked first."""
        return self.ranks.index(1)


@dataclass(frozen=True)
class Attributed:
    """Attributions of one target.

    Attributes:
        target: The target as it was scored.
        versus: Foils that it is compared with.
        value: The value that is attributed: log-probability, or log-odds against the foils.
        spans: Names of the parts.
        disagrees: One entry a span: how methods disagree, ``None`` where they agree.
        methods: The methods in the order of the table.
        correlations: Rank correlations of pairs of methods.
    """

    target: str
    versus: list[str]
    value: float
    spans: list[str]
    disagrees: list[str | None]
    methods: list[Method]
    correlations: list[float]

    @property
    def prob(self) -> float:
        """Probability of the target, where there are no foils."""
        return exp(min(self.value, 0.0))

    @property
    def differ(self) -> int:
        """Number of spans about which methods disagree."""
        return sum(one is not None for one in self.disagrees)

    def extremes(self, most: int) -> list[int]:
        """Indices of at most ``most`` spans: of more, the first method's highest and lowest."""
        order = sorted(range(len(self.spans)), key=lambda at: -self.methods[0].scores[at])
        return sorted(order if len(order) <= most else [*order[: most // 2], *order[-(most // 2) :]])


def attributed(probe: Probe) -> list[Attributed]:
    """Gather the targets of a position, in the order of the tables."""
    rows = probe.rows("attributions")
    pairs = probe.rows("attribution_agreement")
    found = []
    for target in dict.fromkeys(row["target"] for row in rows):
        own = [row for row in rows if row["target"] == target]
        facts = {row["method"]: row for row in probe.rows("attribution_methods") if row["target"] == target}
        methods = [_method(own, facts[name]) for name in dict.fromkeys(row["method"] for row in own)]
        whole = [row for row in own if row["method"] == methods[0].name and row["first_layer"] is None]
        first = facts[methods[0].name]
        correlations = [row["rank_correlation"] for row in pairs if row["target"] == target]
        found.append(
            Attributed(
                target=target,
                versus=list(first["foils"]),
                value=first["value"],
                spans=[row["span"] for row in whole],
                disagrees=[row["disagrees"] for row in whole],
                methods=methods,
                correlations=[one for one in correlations if one is not None],
            )
        )
    return found


def _method(rows: Sequence[Row], facts: Row) -> Method:
    own = [row for row in rows if row["method"] == facts["method"]]
    whole = [row for row in own if row["first_layer"] is None]
    windows: dict[tuple[int, int], list[float]] = {}
    for row in own:
        if row["first_layer"] is not None:
            windows.setdefault((row["first_layer"], row["last_layer"]), []).append(row["score"])
    return Method(
        name=facts["method"],
        unit=whole[0]["score_unit"],
        scores=[row["score"] for row in whole],
        ranks=[row["rank"] for row in whole],
        directions=[row["direction"] for row in whole],
        windows=windows,
        facts=facts,
    )
