"""Hold the rows of an audit for story and figures, by pair of groups, target and foil."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from elimtool.files.rows import Row, Rows
from elimtool.run.analysis import Analysis

SENTENCE = "sentence."
"""Beginning of metrics of whole sentences."""
RULES = ("suffix", "word", "lm-eval")
CONTRASTS = (
    *(SENTENCE + rule for rule in RULES),
    "lens.logit",
    "lens.logprob",
    "survival.target_logprob",
)
"""What the outcome at the end may be, the first that there is."""
ALPHA = 0.05
NAMED = 3
"""Words of a group that a sentence names."""


@dataclass(frozen=True)
class Contrast:
    """The rows of one pair of groups, target and foil.

    Attributes:
        effects: Rows of ``audit_effects``, those of all categories among them.
        layers: Rows of ``audit_layers``.
        words: Words of each group, in order.
    """

    effects: Rows
    layers: Rows
    words: dict[str, list[str]]

    @cached_property
    def final(self) -> Row | None:
        """The outcome at the end that decides."""
        found = self.of("confirmatory", *CONTRASTS)
        return min(found, key=lambda row: CONTRASTS.index(row["metric"]), default=None)

    def of(self, family: str, *metrics: str) -> Rows:
        """Return the rows of a family over all categories."""
        rows = [row for row in self.effects if row["family"] == family and row["category"] is None]
        return [row for row in rows if not metrics or row["metric"] in metrics]

    def by_layer(self, metric: str) -> Rows:
        """Return the rows of an outcome by layer, over all categories."""
        rows = [row for row in self.effects if row["metric"] == metric and row["layer"] is not None]
        return [row for row in rows if row["category"] is None and row["family"] != "other"]

    def skewed(self, metric: str) -> Rows:
        """Return the runs of layers that are skewed over both kinds of units, after correction."""
        rows = [row for row in self.layers if row["metric"] == metric and row["unit"] == "both"]
        return [row for row in rows if row["p_adjusted"] <= ALPHA]

    @property
    def layered(self) -> list[str]:
        """Outcomes by layer."""
        return list(dict.fromkeys(row["metric"] for row in self.effects if row["layer"] is not None))

    def side(self, row: Row, which: str) -> str:
        """Name a group as far as the row's scope allows: by itself, or by its words."""
        name = row[f"group_{which}"]
        words = self.words.get(name, [])
        if row["scope"] == "groups" or not words:
            return f"'{name}' {'records' if row['n_fillers'] is None else 'words'}"
        named = ", ".join(f"'{one.strip()}'" for one in words[:NAMED])
        return f"{named} and {len(words) - NAMED:,} more" if len(words) > NAMED else named


def contrasts(found: Analysis) -> list[Contrast]:
    """Divide the rows of an audit by pair of groups, target and foil.

    Outcomes without a target, such as attention, stand with every target of their pair of groups.
    """
    effects, layers = (found.arrow(name).to_pylist() for name in ("audit_effects", "audit_layers"))
    words = _words(found)
    keys = dict.fromkeys(
        _key(row) for row in effects if row["family"] == "confirmatory" and row["chain"] is None
    )
    made = []
    for key in keys:
        own = [row for row in effects if _belongs(row, key)]
        made.append(Contrast(own, [row for row in layers if _belongs(row, key)], words))
    return made


def _key(row: Row) -> tuple[str, str, str | None, str | None]:
    return row["group_a"], row["group_b"], row["target"], row["foil"]


def _belongs(row: Row, key: tuple[str, str, str | None, str | None]) -> bool:
    mine = _key(row)
    return mine[:2] == key[:2] and mine[2] in (None, key[2]) and mine[3] in (None, key[3])


def _words(found: Analysis) -> dict[str, list[str]]:
    """List the words of each group: a filler names one for each, or where lists are unaligned its own."""
    table = found.arrow("audit_tuples")
    groups = list(dict.fromkeys(table.column("group").to_pylist()))
    made: dict[str, dict[str, None]] = {}
    owned = zip(table.column("group").to_pylist(), table.column("filler").to_pylist(), strict=True)
    for own, filler in dict.fromkeys(owned):
        parts = (filler or "").split("|")
        if len(parts) == len(groups):
            made.setdefault(own, {})[parts[groups.index(own)]] = None
        elif filler and len(parts) == 1:
            made.setdefault(own, {})[filler] = None
    return {group: list(some) for group, some in made.items()}
