"""Compare lenses and a patchscope on held-out text by layer, as the table that docs/lens.md shows.

    python scripts/eval_lenses.py --lens ridge.safetensors --lens jacobian:own.pt --samples 48

Prints Markdown: for each layer and way of reading, the divergence from the output, how often its first token
is the output's, the order of the output's first tokens, the mass elsewhere, how often its first token is the
token that is read.
"""

from __future__ import annotations

import argparse

import elimtool
from elimtool.lenses.corpus import shipped
from elimtool.lenses.evaluate import evaluate
from elimtool.lenses.find import open_lens
from elimtool.lenses.patchscope import Patchscope

LAYERS = (-1, 0, 3, 8, 12, 16, 20, 24, 27, 28)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-m", "--model", default="smollm2")
    parser.add_argument("--lens", action="append", default=[])
    parser.add_argument("--samples", type=int, default=48)
    given = parser.parse_args()
    model = elimtool.load_model(given.model)
    lenses = [open_lens(one, model)[0] for one in given.lens]
    found = evaluate(model, [*lenses, Patchscope(model)], shipped("held_out"), samples=given.samples)
    print(f"{found.n_rows} positions")
    print("| layer | read by | KL | top-1 | ranks | mass elsewhere | own token |")
    print("|---|---|---|---|---|---|---|")
    for one in found.layers:
        if one.layer in LAYERS:
            ranks, shares = one.rank_correlation, (one.mass_moved, one.own_token)
            print(
                f"| {one.layer} | {one.lens} | {one.kl:.2f} | {one.agreement:.1%} | {ranks:.2f} |"
                f" {' | '.join(f'{share:.1%}' for share in shares)} |"
            )


if __name__ == "__main__":
    main()
