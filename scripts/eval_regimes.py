"""Measure how often each regime of ``elimtool.lenses.regime`` occurs by kind of text, on a model with a lens.

Run: python scripts/eval_regimes.py [MODEL] [--windows N] [--lens FILE]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from elimtool import Prompt, TraceOptions, trace
from elimtool.lenses.corpus import shipped
from elimtool.lenses.evaluate_regimes import conditions, regimes_of, shares
from elimtool.lenses.find import open_lens
from elimtool.lenses.regime import REGIMES, UNSEEN, ReferenceStatistics
from elimtool.lenses.ridge import RidgeLens
from elimtool.lenses.stream import Ids, cut_windows
from elimtool.model.loading import load_model
from elimtool.model.model import Model
from elimtool.prompts.file import PromptFile

DATA = Path(__file__).parent.parent / "tests" / "data"

LENGTH = 128
"""Tokens of a window."""


def own_samples(model: Model, windows: list[Ids], prefix: int = 16, seed: int = 0) -> list[Ids]:
    """Continuations that the model itself draws at temperature 1 from the whole vocabulary."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.tensor([one[:prefix] for one in windows], device=model.device)
    length = min(map(len, windows))
    with torch.inference_mode():
        out = model.hf(input_ids=ids, use_cache=True, logits_to_keep=1)
        while ids.shape[1] < length:
            probs = torch.softmax(out.logits[:, -1].float().cpu(), -1)
            drawn = torch.multinomial(probs, 1, generator=generator).to(ids.device)
            ids = torch.cat([ids, drawn], 1)
            out = model.hf(input_ids=drawn, past_key_values=out.past_key_values, use_cache=True)
    return [tuple(row) for row in ids.tolist()]


def held_out(model: Model) -> tuple[list[Ids], list[int]]:
    """Whole windows of the held-out text, and the number of the document that each is of."""
    windows, documents = [], []
    for number, document in enumerate(shipped("held_out")):
        cut = [ids for ids in cut_windows(model, [document], LENGTH, None) if len(ids) == LENGTH]
        windows += cut
        documents += [number] * len(cut)
    return windows, documents


def interval(healthy: list[bool], documents: list[int], seed: int = 0) -> tuple[float, float]:
    """95 % interval of a share, by 2,000 draws of documents with replacement."""
    count = torch.zeros(max(documents) + 1, 2, dtype=torch.float64)
    for good, number in zip(healthy, documents, strict=True):
        count[number] += torch.tensor([good, 1.0])
    count = count[count[:, 1] > 0]
    drawn = torch.randint(len(count), (2000, len(count)), generator=torch.Generator().manual_seed(seed))
    sums = count[drawn].sum(1)
    low, high = (sums[:, 0] / sums[:, 1]).quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return low, high


def prose(model: Model, reference: ReferenceStatistics, windows: list[Ids], documents: list[int]) -> None:
    """Every position of held-out prose from the 65th on: the share that is strong or balanced."""
    found = regimes_of(model, reference, windows, every=1)
    healthy = [name in ("strong", "balanced") for name in found]
    each = len(found) // len(windows)
    low, high = interval(healthy, [number for number in documents for _ in range(each)])
    print(
        f"held-out prose strong or balanced: {sum(healthy) / len(healthy):.1%} of {len(healthy):,} positions"
        f" ({low:.1%} to {high:.1%} by documents, of which there are {len(set(documents))})"
    )


def prompted(model: Model, lens: str) -> None:
    """What is said at the end of ordinary facts, chats and functions: how often it sounds like a defect."""
    options = TraceOptions(lens=lens, tables=("regimes",))
    facts = DATA.parents[1] / "configs" / "suites" / "facts.jsonl"
    for name, path in (("factual", facts), *((x, DATA / f"{x}.jsonl") for x in ("chats", "functions"))):
        records = PromptFile(path).records()
        prompts = [record.prompt for record in records if isinstance(record.prompt, Prompt)]
        rows = trace(model, prompts, options=options).table("regimes")
        defects = rows["regime"].fillna("").str.startswith("dysfunctional")
        print(
            f"{name}: {defects.sum()} of {len(rows)} sound like a defect, {rows['regime'].isna().sum()} not"
            f" judged; largest repetition {rows['repetition'].max():.2f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="smollm2")
    parser.add_argument("--windows", type=int, default=32)
    parser.add_argument("--lens", default="ridge")
    given = parser.parse_args()
    model = load_model(given.model)
    lens, _ = open_lens(given.lens, model)
    if not isinstance(lens, RidgeLens):
        parser.error("a ridge lens is needed: it holds the regime reference")
    whole, documents = held_out(model)
    picked = whole[:: max(1, len(whole) // given.windows)][: given.windows]
    kinds = conditions(picked, len(model.tokenizer.backend))
    kinds["prose"] = whole
    kinds["own samples, T=1"] = own_samples(model, picked)
    size, openings = len(lens.reference.surprisal), len(lens.reference.openings)
    print(
        f"{given.model}: reference of {size} windows and {openings} openings; {len(picked)} windows a kind,"
    )
    print(f"of prose all {len(whole)}")
    table = {kind: shares(regimes_of(model, lens.reference, some)) for kind, some in kinds.items()}
    for n in (8, 16, 32):
        for kind in ("prose", "shuffled", "random", "loop 4"):
            short = [ids[: UNSEEN + n] for ids in kinds[kind]]
            found = regimes_of(model, lens.reference, short, first=UNSEEN + n - 1)
            table[f"{kind}, first {n}"] = shares(found)
    print(f"{'':18}" + "".join(f"{name.removeprefix('dysfunctional:'):>15}" for name in REGIMES))
    for kind, share in table.items():
        print(f"{kind:18}" + "".join(f"{share.get(name, 0.0):15.1%}" for name in REGIMES))
    prose(model, lens.reference, whole, documents)
    prompted(model, given.lens)
    print(json.dumps(table, sort_keys=True))


if __name__ == "__main__":
    main()
