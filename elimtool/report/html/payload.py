"""Gather the data of a run's page: facts and figures of the run, a line for each prompt, its figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from elimtool.files.rows import Row, Rows
from elimtool.report.facts import Probe, Tables, without_weights
from elimtool.report.figures import judged, palette, retention, walked
from elimtool.report.figures.along import along
from elimtool.report.figures.beams import beams
from elimtool.report.figures.defined import definitions
from elimtool.report.figures.encoding_walk import encoding_walks
from elimtool.report.figures.figure import Figure
from elimtool.report.figures.futures import survivors
from elimtool.report.figures.grammar import grammars
from elimtool.report.figures.grammar_texts import grammar_texts
from elimtool.report.figures.layers import attention_matrix
from elimtool.report.figures.logit_lens import logit_lenses
from elimtool.report.figures.overview import Overview, overview, spelled
from elimtool.report.figures.patchscope import patchscopes
from elimtool.report.figures.paths import paths
from elimtool.report.figures.prompt import figures
from elimtool.report.figures.resonance import repeated
from elimtool.report.figures.sequences import sequences
from elimtool.report.figures.stops import stops
from elimtool.report.figures.words import HASH, SCREEN, quoted, title
from elimtool.report.glossary import GLOSSARY
from elimtool.report.pieces import LATER, joined
from elimtool.report.populations.sections import sections
from elimtool.report.remarks import chat_notes, shipped_notes
from elimtool.report.targets import appended_line
from elimtool.report.turns import text_of
from elimtool.run.manifest import Manifest
from elimtool.run.schema import SCHEMA_VERSION

MOST_HEAD_CELLS = 1_500_000
"""More cells of single heads than this (about 10 MB) are left out of a page, and the page says so."""
MOST_KEYS = 128
"""Keys, and at most as many queries, of an attention matrix, the last ones; its legend says so."""
MOST_POSITIONS = 200
"""Positions shown of a prompt, the last ones; the page says how many are left out."""

_TOLD = (
    along,
    encoding_walks,
    patchscopes,
    survivors,
    paths,
    repeated,
    sequences,
    walked.walk,
    walked.taken_back,
    grammars,
    grammar_texts,
    beams,
    stops,
)
"""Figures of what belongs to no probed position."""


def front(tables: Tables, most: int | None = None, most_head_cells: int = MOST_HEAD_CELLS) -> dict[str, Any]:
    """Gather what the page shows first.

    Args:
        tables: The run's tables.
        most: Largest number of prompts to show; None for all.
        most_head_cells: Leave single heads out, and say so, where there are more cells of them.

    Returns:
        ``{"noun": name of a line, "together": heading of the overview, "alone": whether to open at the first
        line, "run": facts, "notes": [sentence], "glossary": definitions of terms, "defined": those of
        numbers, "steps": borders of heat, "bands": names of ranks, "analyses": what commands found in the
        run, "overview": figures, "prompts": [line], "left_out": int}``.
    """
    view = Overview(tables)
    prompts, corrupted = listed(tables), _corrupted(tables)
    shown = prompts[:most]
    return {
        "noun": tables.run.noun,
        "together": f"All {len(prompts):,} {tables.run.noun}s together",
        "alone": False,
        "run": _facts(tables, most_head_cells),
        "notes": _older(tables.run.manifest)
        + [SCREEN.visible(f"{one}.") for one in shipped_notes(tables.run.manifest)],
        "glossary": GLOSSARY,
        "defined": definitions(),
        "steps": palette.STEPS,
        "bands": palette.RANK_BANDS,
        "analyses": analyses(tables),
        "overview": [one.to_json() for one in overview(tables)] if len(prompts) > 1 else [],
        "prompts": [
            line_of(prompt, view.verdicts.get(prompt["prompt_id"], []))
            | _beside(prompt, corrupted.get(prompt["prompt_id"]))
            for prompt in shown
        ],
        "left_out": len(prompts) - len(shown),
    }


def analyses(tables: Tables) -> list[dict[str, Any]]:
    """Gather what commands found in the run."""
    return [one.to_json() for one in sections(tables.run)]


def single(tables: Tables, figure: Figure) -> dict[str, Any]:
    """Gather a page with one figure alone, as for ``front``."""
    facts = _facts(tables, MOST_HEAD_CELLS)
    return only_figures([figure], facts["model"], facts)


def only_figures(
    figures: Sequence[Figure], together: str, facts: Row, notes: Sequence[str] = ()
) -> dict[str, Any]:
    """Gather a page of figures without prompts.

    Args:
        figures: What it shows, in order.
        together: Its heading.
        facts: ``model`` (its title), ``facts`` beside it, and ``finished`` (a day, or empty).
        notes: Sentences before the figures.

    Returns:
        As for ``front``.
    """
    return {
        "noun": "prompt",
        "together": together,
        "alone": False,
        "run": facts,
        "notes": list(notes),
        "glossary": {},
        "steps": palette.STEPS,
        "bands": palette.RANK_BANDS,
        "analyses": [],
        "overview": [one.to_json() for one in figures],
        "prompts": [],
        "left_out": 0,
    }


def details(
    tables: Tables,
    most: int | None = None,
    most_positions: int = MOST_POSITIONS,
    most_head_cells: int = MOST_HEAD_CELLS,
) -> Iterator[dict[str, Any]]:
    """Yield the prompts in order of ``front``: ``{"probes", "grids", "figures": [...], "left_out": int}``.

    Args:
        tables: The run's tables.
        most: Largest number of prompts; None for all.
        most_positions: Of more probed positions of a prompt, only the last ones are shown.
        most_head_cells: As for ``front``.
    """
    with_heads = has_room_for_heads(tables, most_head_cells)
    for prompt in listed(tables)[:most]:
        yield detail(tables, prompt, most_positions, with_heads)


def detail(
    tables: Tables, prompt: Row, most_positions: int = MOST_POSITIONS, with_heads: bool = True
) -> dict[str, Any]:
    """Gather one prompt, as ``details`` does."""
    positions = tables.positions(prompt["prompt_id"]) if prompt["status"] == "ok" else []
    shown = positions[-most_positions:]
    probes = [Probe(tables, prompt, position) for position in shown]
    return {
        "probes": [_probe(one, with_heads) for one in probes],
        "grids": _grids(probes[-1], most_positions) if probes else [],
        "left_out": len(positions) - len(shown),
        "figures": [one.to_json() for told in _TOLD for one in told(tables, prompt)],
    }


def has_room_for_heads(tables: Tables, most: int) -> bool:
    """Whether single heads have at most so many cells."""
    table = tables.arrow("attention_heads")
    return table is not None and table.num_rows <= most


def _older(manifest: Manifest) -> list[str]:
    """Say of an older run that its words have the meaning of its schema version."""
    if manifest.schema_version == SCHEMA_VERSION:
        return []
    return [
        f"This run has schema version {manifest.schema_version}: its outcomes and regimes are those of that"
        f" version, not of version {SCHEMA_VERSION} (docs/verdicts.md). Measure it again to have them anew."
    ]


def _facts(tables: Tables, most_head_cells: int) -> dict[str, Any]:
    manifest = tables.run.manifest
    count = tables.run.n_layers
    heads = tables.arrow("attention_heads")
    return {
        "model": SCREEN.visible(manifest.model),
        "facts": [
            manifest.dtype,
            *([f"{count} layers" if count != 1 else "1 layer"] if count else []),
            manifest.device,
            *([f"lens {lens_name(manifest.lens)}"] if manifest.lens else []),
            *_without_weights(tables),
            f"elimtool {manifest.elimtool}",
        ],
        "finished": manifest.finished or "",
        "fingerprint": manifest.to_dict().get("fingerprint") or "",
        "heads": ""
        if heads is None or has_room_for_heads(tables, most_head_cells)
        else f"{heads.num_rows:,}",
    }


def _without_weights(tables: Tables) -> list[str]:
    """Say which layers have no attention weights, if some."""
    table = tables.arrow("attention_layers")
    if table is None or "no_weights" not in table.column_names:
        return []
    some = table.select(["layer", "no_weights"]).group_by(["layer", "no_weights"]).aggregate([])
    said = without_weights(some.column("layer").to_pylist(), some.column("no_weights").to_pylist())
    return [said] if said else []


def lens_name(lens: Any) -> str:
    """Name of the lens in run.json, which holds a name, or a mapping of the name and facts on its file."""
    return SCREEN.visible(str(lens.get("name", "") if isinstance(lens, Mapping) else lens))


def line_of(prompt: Row, verdicts: Rows) -> dict[str, Any]:
    """Gather a prompt's line in the list, as for ``front``."""
    first = verdicts[0] if verdicts else {}
    outcomes = list(dict.fromkeys(row["outcome"] for row in verdicts))
    failed = prompt["status"] != "ok"
    return {
        "id": prompt["prompt_id"],
        "name": title(prompt),
        "ident": "" if HASH.fullmatch(prompt["prompt_id"]) else prompt["prompt_id"],
        "text": text_of(prompt),
        "other": "",
        "parts": None,
        "notes": [_sentence(one) for one in chat_notes(prompt)],
        "of": None,
        "tokens": prompt["n_tokens"],
        "tokens_b": None,
        "group": prompt["group"] or "",
        "tags": prompt["tags"] or [],
        "outcomes": ["error"] if failed else outcomes,
        "outcome_words": "error" if failed else spelled(first.get("outcome") or ""),
        "stages": list(dict.fromkeys(row["cut_stage"] for row in verdicts if row.get("cut_stage"))),
        "target": quoted(first["target"]) if first else "",
        "error": SCREEN.visible(prompt["error_message"] or "") if failed else "",
    }


def _sentence(remark: str) -> str:
    return SCREEN.visible(f"{remark[0].upper()}{remark[1:]}.")


def listed(tables: Tables) -> Rows:
    """Prompts that a page lists: a corrupt prompt, of which nothing is drawn, stands beside the clean one."""
    beside = {other["prompt_id"] for _, other in _corrupted(tables).values()}
    return [prompt for prompt in tables.all("prompts") if prompt["prompt_id"] not in beside]


def _corrupted(tables: Tables) -> dict[str, tuple[Row, Row]]:
    """The pair and the corrupt prompt of each clean prompt that has one."""
    known = {row["prompt_id"]: row for row in tables.all("prompts")}
    pairs = [row for row in tables.all("location_pairs") if row["corrupt_id"] is not None]
    return {row["prompt_id"]: (row, known[row["corrupt_id"]]) for row in pairs}


def _beside(prompt: Row, corrupted: tuple[Row, Row] | None) -> dict[str, Any]:
    """Add a corrupt prompt to the line of the clean one, with the tokens marked that differ."""
    if corrupted is None:
        return {}
    pair, other = corrupted
    parts = [
        [[one, at in pair["changed"]] for at, one in enumerate(joined(row["tokens"])) if one != LATER]
        for row in (prompt, other)
    ]
    return {"other": text_of(other), "parts": parts, "sides": ["clean", "corrupt"]}


def _probe(probe: Probe, with_heads: bool) -> dict[str, Any]:
    heads = retention.heads(probe) if with_heads else None
    return {
        "position": probe.position,
        "token": quoted(probe.shown[probe.position]),
        "where": [],
        "after": appended_line(probe, SCREEN),
        "regime": judged.regime(probe),
        "verdicts": judged.judged(probe),
        "figures": [one.to_json() for one in figures(probe)],
        "heads": None if heads is None else _short(heads),
    }


def _grids(probe: Probe, most_positions: int) -> list[dict[str, Any]]:
    """Grids of a whole prompt, several of a kind: by target, or by head."""
    kinds = {
        "Logit lens": logit_lenses(probe, most_positions),
        "Attention of one head": attention_matrix(probe, most=MOST_KEYS),
    }
    return [
        {"label": kind, "figures": [one.to_json() for one in some]} for kind, some in kinds.items() if some
    ]


def _short(heads: dict[str, Any]) -> dict[str, Any]:
    """Round the shares to four decimals, as there are many and they are most of a page's size."""
    values = [
        [[None if one is None else round(one, 4) for one in row] for row in layer]
        for layer in heads["values"]
    ]
    return {**heads, "values": values}
