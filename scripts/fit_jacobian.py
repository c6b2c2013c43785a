"""Fit a Jacobian lens with TransformerLens' own code, and keep it after every prompt.

    python scripts/fit_jacobian.py -m smollm2 -o jacobian.pt --prompts 8 --tokens 64

The prompts are beginnings of passages of the package's text, those that ``elimtool lens fit`` reads. A prompt
of T tokens costs ceil(width / 8) backward passes over 8 x T tokens: minutes on a CPU. docs/lens.md says what
a lens of so few prompts is worth.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from time import perf_counter

import torch

import elimtool
from elimtool.lenses.corpus import shipped


def main() -> None:
    """Fit prompt by prompt; the file is whole after each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-m", "--model", default="smollm2")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=64)
    given = parser.parse_args()
    from transformer_lens.model_bridge import TransformerBridge
    from transformer_lens.tools.analysis.jacobian_lens import JacobianLens

    directory = elimtool.load_model(given.model).directory
    bridge = TransformerBridge.boot_transformers(str(directory), device="cpu", dtype=torch.float32)
    documents = shipped("fit")
    chosen = documents[:: max(1, len(documents) // given.prompts)][: given.prompts]
    fitted = []
    for number, document in enumerate(chosen, start=1):
        start = perf_counter()
        text = document.text[: 12 * given.tokens]  # more than enough characters
        fitted.append(
            JacobianLens.fit(
                bridge,
                [text],
                corpus="elimtool, text of lens fit",
                max_seq_len=given.tokens,
                show_progress=False,
            )
        )
        JacobianLens.merge(fitted).save(str(given.out))
        print(f"{number} of {len(chosen)} prompts, {perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
