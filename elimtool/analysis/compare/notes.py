"""Note what else differs between two sides, and what could not be compared."""

from __future__ import annotations

from typing import Any

from elimtool.analysis.check.identity import context_of
from elimtool.analysis.compare.join import joined
from elimtool.analysis.compare.pairs import target_counts
from elimtool.analysis.compare.setting import Setting
from elimtool.analysis.compare.side import Side
from elimtool.analysis.compare.tables import NEEDS
from elimtool.run.manifest import Manifest

_FACTS = {
    "model": "models",
    "revision": "revisions",
    "weights_sha256": "weights",
    "tokenizer_sha256": "tokenizers",
    "dtype": "number types",
    "device": "devices",
    "processing": "processing",
    "bos": "beginning-of-sequence policies",
    "lens": "lenses",
    "sinks": "sink rules",
    "elimtool": "versions of elimtool",
    "transformer_lens": "versions of TransformerLens",
    "transformers": "versions of transformers",
    "torch": "versions of torch",
}
_HASHES = ("weights_sha256", "tokenizer_sha256", "lens")


def notes_of(setting: Setting, unpaired: tuple[int, int], intervened: bool = False) -> list[str]:
    """Write all notes on a comparison, a sentence each.

    Args:
        setting: What is compared.
        unpaired: Number of prompts that only side A has, and only side B.
        intervened: Whether the passes under interventions are compared.
    """
    return [
        *facts_apart(setting.a.run.manifest, setting.b.run.manifest),
        *_passes(setting, intervened),
        *_chains(setting),
        *_prompts(setting, unpaired),
        *_layers(setting),
        *_targets(setting),
        *_spellings(setting),
        *_spans(setting),
        *_tables(setting),
    ]


def facts_apart(one: Manifest, other: Manifest) -> list[str]:
    """Note what differs between the manifests of two runs."""
    a, b = one.model_dump(), other.model_dump()
    told = []
    for name, words in _FACTS.items():
        if a[name] == b[name] or (name == "bos" and a["tokenizer_sha256"] == b["tokenizer_sha256"]):
            continue
        values = "" if name in _HASHES and not _short(a[name], b[name]) else f": {a[name]} and {b[name]}"
        told.append(f"Different {words}{values}.")
    if one.quantised != other.quantised:
        ways = [f"quantised ({way})" if way else "not quantised" for way in (one.quantised, other.quantised)]
        told.append(f"The weights differ in precision: those of A are {ways[0]}, those of B {ways[1]}.")
    return told


def _passes(setting: Setting, intervened: bool) -> list[str]:
    """Note the interventions that are compared or left out."""
    acts = [side.run.interventions for side in (setting.a, setting.b)]
    if not any(acts):
        return []
    told = f"{acts[0] or 'none'} in A, {acts[1] or 'none'} in B"
    if intervened:
        return [f"Interventions: {told}."]
    return [f"The models' own passes are compared; interventions are left out: {told}."]


def _short(*values: Any) -> bool:
    return all(isinstance(one, str) and len(one) < 40 for one in values)


def _chains(setting: Setting) -> list[str]:
    """Note chains of only one side, and those whose parameters differ."""
    if setting.chains:
        return [f"Samplers: A goes through {setting.chains[0]}, B through {setting.chains[1]}."]
    a, b = setting.a.chains, setting.b.chains
    told = [f"Chain {name} is in A alone: not compared." for name in a if name not in b]
    told += [f"Chain {name} is in B alone: not compared." for name in b if name not in a]
    stages = [context_of(side.run.manifest)["chains"] for side in (setting.a, setting.b)]
    changed = [name for name in stages[0] if name in stages[1] and stages[0][name] != stages[1][name]]
    return told + [f"Chain {name} has other parameters in B." for name in changed]


def _prompts(setting: Setting, unpaired: tuple[int, int]) -> list[str]:
    told = [
        f"{count:,} of the prompts {'is' if count == 1 else 'are'} in {side} alone: not compared."
        for count, side in zip(unpaired, "AB", strict=True)
        if count
    ]
    if failed := len(setting.given) - len(setting.pairs):
        told.append(f"{failed:,} of the pairs could not be compared: table pairs says why.")
    texts = [
        setting.pairs[f"prompt_id_{name}"].map(side.prompts.set_index("prompt_id")["text"])
        for side, name in ((setting.a, "a"), (setting.b, "b"))
    ]
    other = int((texts[0] != texts[1]).sum())
    if other:
        told.append(f"{other:,} of the prompts read differently in A and B, under one id.")
    return told


def _layers(setting: Setting) -> list[str]:
    told = []
    if not setting.same_depth:
        depths = f"A has {setting.a.run.n_layers} layers, B {setting.b.run.n_layers}"
        told.append(f"{depths}: of the layers only the outputs are compared, of attention nothing.")
    lenses = [
        set(side.run.arrow(name).column("lens").unique().to_pylist())
        for side in (setting.a, setting.b)
        for name in ("lens_layers", "lens")
        if side.has(name)
    ]
    if len({name for one in lenses for name in one}) > 1 and setting.same_depth:
        told.append("The layers are read through different lenses: only the outputs are compared.")
    return told


def _targets(setting: Setting) -> list[str]:
    told = []
    if not setting.same_tokens and len(setting.finals):
        told.append("Token ids cannot be compared: targets are joined as strings.")
    counts = {name: int(numbers.sum()) for name, numbers in target_counts(setting).items()}
    if counts["n_unmatched_a"] or counts["n_unmatched_b"]:
        told.append(
            f"{counts['n_targets']:,} targets are followed on both sides; {counts['n_unmatched_a']:,} more"
            f" of A and {counts['n_unmatched_b']:,} of B have no counterpart."
        )
    return told


def _spellings(setting: Setting) -> list[str]:
    """Note targets that the sides write otherwise, and prompts that they read them in at another place."""
    told = []
    if setting.both("survival"):
        a, b = (side.rows("survival", ["target", "spelling"]) for side in (setting.a, setting.b))
        asked = a["prompt_id"].isin(setting.a.asked) & a["spelling"].notna()
        rows = joined(setting.pairs, a[asked], b[b["spelling"].notna()], ["target"])
        other = rows[rows["spelling_a"] != rows["spelling_b"]]
        if len(other):
            first = other.iloc[0]
            told.append(
                f"{len(other):,} of the targets are written otherwise in B, such as"
                f" {first['spelling_b']!r} for {first['spelling_a']!r}: each side's numbers are of the"
                " spelling that it finds likelier."
            )
    before = [
        setting.pairs[f"prompt_id_{name}"].map(side.appended)
        for side, name in ((setting.a, "a"), (setting.b, "b"))
    ]
    apart = before[0] != before[1]
    if apart.any():
        places = [repr(one[apart].iloc[0]) if one[apart].iloc[0] else "the prompt" for one in before]
        told.append(
            f"{int(apart.sum()):,} of the prompts are read at another place in B: after {places[1]}, in A"
            f" after {places[0]}, which is appended for the targets."
        )
    return told


def _spans(setting: Setting) -> list[str]:
    """Count the spans that only one side has."""
    if not (setting.both("attention") and setting.same_depth):
        return []
    named = [_span_names(side) for side in (setting.a, setting.b)]
    counts = [0, 0]
    for row in setting.pairs.itertuples():
        a, b = named[0][row.prompt_id_a], named[1][row.prompt_id_b]
        counts = [counts[0] + len(a - b), counts[1] + len(b - a)]
    if not any(counts):
        return []
    return [
        f"{counts[0]:,} spans of A and {counts[1]:,} of B have no counterpart: their attention is left out."
    ]


def _span_names(side: Side) -> dict[object, set[str]]:
    """Collect the names of each prompt's spans."""
    prompts = side.run.arrow("prompts").select(["prompt_id", "spans"]).to_pylist()
    return {row["prompt_id"]: {span["span"] for span in row["spans"] or ()} for row in prompts}


def _tables(setting: Setting) -> list[str]:
    """Note tables that would be compared but that only one side has."""
    known = dict.fromkeys(name for _, needed in NEEDS.values() for name in needed)
    told = []
    for one, other, name in ((setting.a, setting.b, "B"), (setting.b, setting.a, "A")):
        if lacking := [table for table in known if one.has(table) and not other.has(table)]:
            told.append(f"{name} lacks tables that would be compared: {', '.join(lacking)}.")
    return told
