"""Make the figures of a whole run: counts and means over the verdicts and sampler stages of all prompts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from elimtool.analysis.closing import spell_prob
from elimtool.analysis.regime_sentence import regime_words
from elimtool.files.rows import Row
from elimtool.report.facts import Tables
from elimtool.report.figures.figure import Bar, Bars, Columns, Figure, Stack, StackRow
from elimtool.report.figures.words import SCREEN, label, title
from elimtool.run.rules import BEATS_CHANCE

OUTCOMES = ("survived", "sampler_eliminated", "outranked", "late_eliminated", "never_surfaced")
WORST = 20
"""Prompts that ``worst`` names."""
MOST_GROUPS = 40
UNNAMED = "(no group)"


class Overview:
    """The rows that the figures of a run share: the verdicts at the last position of each prompt."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        self.prompts = tables.all("prompts")
        self.verdicts = last_verdicts(tables)

    @property
    def judged(self) -> list[Row]:
        """All verdicts."""
        return [row for rows in self.verdicts.values() for row in rows]


def last_verdicts(tables: Tables) -> dict[str, list[Row]]:
    """Verdicts of each prompt at its last probed position, in the order in which tokens were followed."""
    return last_of(tables.all("verdicts"))


def last_of(verdicts: Iterable[Row]) -> dict[str, list[Row]]:
    """Rows of each prompt at its last position, by ``prompt_id``."""
    found: dict[str, list[Row]] = {}
    for row in verdicts:
        rows = found.setdefault(row["prompt_id"], [])
        if rows and row["position"] > rows[0]["position"]:
            rows.clear()
        if not rows or row["position"] == rows[0]["position"]:
            rows.append(row)
    return found


def overview(tables: Tables) -> list[Figure]:
    """Make every figure of a run that its tables can fill."""
    view = Overview(tables)
    return [one for make in OVERVIEW.values() for one in make(view)]


def outcomes(view: Overview) -> list[Figure]:
    """Count the followed tokens by outcome."""
    counts = Counter(row["outcome"] for row in view.judged)
    if not counts:
        return []
    return [
        Bars(
            name="outcomes",
            title="What became of the followed tokens",
            note="One verdict for each followed token at the last probed position of its prompt.",
            label_title="outcome",
            value_title="tokens",
            bars=[Bar(spelled(one), counts[one]) for one in _known(counts, OUTCOMES)],
        )
    ]


def regimes(view: Overview) -> list[Figure]:
    """Count the prompts by regime; nothing where none was judged."""
    judged = (rows[0].get("regime") for rows in view.verdicts.values())
    counts = Counter(regime for regime in judged if regime)
    if not counts:
        return []
    return [
        Bars(
            name="regimes",
            title="Regimes",
            note="Regime of the prediction at the last probed position of each prompt that could be judged.",
            label_title="regime",
            value_title="prompts",
            bars=[Bar(regime_words(one), counts[one]) for one in sorted(counts)],
        )
    ]


def lost_layers(view: Overview) -> list[Figure]:
    """Count the layers at which tokens that had surfaced were lost for good."""
    lost = [row for row in view.judged if row["lost_layer"] is not None]
    counts = Counter(row["lost_layer"] for row in lost)
    if not counts:
        return []
    layers = range(max(view.tables.run.n_layers or 0, max(counts) + 1))
    return [
        Columns(
            name="lost_layers",
            title="Layers at which tokens were lost",
            note="First layer after which a token that was in the top-10 is out of it for good."
            f" {_against_chance(lost)}",
            x_title="layer",
            value_title="tokens",
            labels=[str(layer) for layer in layers],
            values=[counts[layer] for layer in layers],
        )
    ]


def _against_chance(lost: list[Row]) -> str:
    """Say how many of the lost tokens beat chance."""
    known = [row["lost_p"] for row in lost if row.get("lost_p") is not None]
    if not known:
        return "Candidates: passing through the top-10 may be chance."
    beat = sum(one <= BEATS_CHANCE for one in known)
    others = "" if beat == len(lost) else "; the others are candidates"
    return f"{beat:,} of {len(lost):,} beat chance (p at most {BEATS_CHANCE}){others}."


def groups(view: Overview) -> list[Figure]:
    """Divide each group by outcome; nothing where no prompt names a group."""
    named = {row["prompt_id"]: row["group"] for row in view.prompts}
    if not any(named.values()):
        return []
    counts: dict[str, Counter[str]] = {}
    for row in view.judged:
        counts.setdefault(named.get(row["prompt_id"]) or UNNAMED, Counter())[row["outcome"]] += 1
    if not counts:
        return []
    keys = _known({outcome for count in counts.values() for outcome in count}, OUTCOMES)
    shown = sorted(counts, key=lambda name: (name == UNNAMED, name))
    more = f" The first {MOST_GROUPS} of {len(shown):,} groups." if len(shown) > MOST_GROUPS else ""
    return [
        Stack(
            name="groups",
            title="Outcomes by group",
            note=f"Share of the followed tokens of each group.{more}",
            label_title="group",
            keys=[spelled(key) for key in keys],
            rows=[StackRow(label(name), [counts[name][key] for key in keys]) for name in shown[:MOST_GROUPS]],
        )
    ]


def pruned(view: Overview) -> list[Figure]:
    """Average the probability that each stage of each chain removes."""
    table = view.tables.arrow("sampling")
    if table is None:
        return []
    rows = table.select(["chain", "stage_index", "stage", "active", "mass_pruned"])
    # threads would give the groups in any order, and chains are to keep theirs
    grouped = rows.group_by(["chain", "stage_index", "stage"], use_threads=False)
    means = grouped.aggregate([("mass_pruned", "mean"), ("active", "max")]).to_pylist()
    chains = list(dict.fromkeys(row["chain"] for row in means))
    means.sort(key=lambda row: (chains.index(row["chain"]), row["stage_index"]))
    return [
        Bars(
            name="pruned",
            title="Probability cut by each sampler stage",
            note="Mean over prompts and positions, of the distribution that the stage was given. Stages that"
            " are off are left out.",
            label_title="stage",
            value_title="share",
            bars=[
                Bar(label(f"{row['chain']}: {row['stage']}"), row["mass_pruned_mean"])
                for row in means
                if row["active_max"]
            ],
        )
    ]


def worst(view: Overview) -> list[Figure]:
    """Rank the prompts by the final rank of their first followed token, worst first."""
    first = [rows[0] for rows in view.verdicts.values()]
    first.sort(key=lambda row: (-row["final_rank"], row["final_prob"]))  # stable: equal ones in file order
    if len(first) < 2:
        return []
    names = {prompt["prompt_id"]: title(prompt) for prompt in view.prompts}
    return [
        Bars(
            name="worst",
            title="Worst prompts",
            note="By the final rank of the first token that was followed; bars are logarithmic.",
            label_title="prompt",
            value_title="final rank",
            log=True,
            bars=[
                Bar(names[row["prompt_id"]], row["final_rank"], _fate(row), prompt=row["prompt_id"])
                for row in first[:WORST]
            ],
        )
    ]


def _fate(row: Row) -> str:
    told = [SCREEN.quoted(row["target"], 24), f"p {spell_prob(row['final_prob'])}", spelled(row["outcome"])]
    if row["lost_layer"] is not None:
        told.append(f"lost at layer {row['lost_layer']}")
    return ", ".join(told)


def spelled(name: str) -> str:
    """Write an outcome in words."""
    return name.replace("_", " ")


def _known(found: Iterable[str], order: tuple[str, ...]) -> list[str]:
    """The names that were found: first those of ``order``, in its order."""
    names = set(found)
    return [one for one in order if one in names] + sorted(names - set(order))


OVERVIEW = {
    "outcomes": outcomes,
    "regimes": regimes,
    "groups": groups,
    "lost_layers": lost_layers,
    "pruned": pruned,
    "worst": worst,
}
"""The figures of a run, by name, in the order of the page."""
