"""Prints how often each regime of elimtool.lenses.regime is found, by kind of text, on a model with a lens.

Run: python scripts/eval_regimes.py [MODEL] [--windows N] [--lens FILE]
"""

from __future__ import annotations

import argparse
import json

import torch

from elimtool.calibrate.find import open_lens
from elimtool.calibrate.regimes import conditions, regimes_of, shares
from elimtool.calibrate.stream import Ids, cut_windows
from elimtool.corpus import shipped
from elimtool.lenses.regime import REGIMES
from elimtool.lenses.ridge import RidgeLens
from elimtool.model.loading import load_model
from elimtool.model.model import Model


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
    whole = [ids for ids in cut_windows(model, shipped("held_out"), 128, None) if len(ids) == 128]
    picked = whole[:: max(1, len(whole) // given.windows)][: given.windows]
    kinds = conditions(picked, len(model.tokenizer.backend))
    kinds["own samples, T=1"] = own_samples(model, picked)
    print(
        f"{given.model}: reference of {len(lens.reference.surprisal)} windows, {len(picked)} windows a kind"
    )
    table = {kind: shares(regimes_of(model, lens.reference, some)) for kind, some in kinds.items()}
    print(f"{'':18}" + "".join(f"{name.removeprefix('dysfunctional:'):>15}" for name in REGIMES))
    for kind, share in table.items():
        print(f"{kind:18}" + "".join(f"{share.get(name, 0.0):15.1%}" for name in REGIMES))
    print(json.dumps(table, sort_keys=True))


if __name__ == "__main__":
    main()
