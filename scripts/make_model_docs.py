"""Write docs/models.md from the families that tests compare with Hugging Face; with --check, only compare."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from generated import settle  # noqa: E402

from elimtool.model.architectures import runnable_types, unsupported_types  # noqa: E402
from tests.families import FAMILIES  # noqa: E402
from tests.more_families import ALIKE, EXPERTS, IMAGES, LIMITS, MORE, Limits  # noqa: E402

PAGE = ROOT / "docs" / "models.md"
HEAD = """# Models

<!-- Written by scripts/make_model_docs.py from tests/families.py and tests/more_families.py. -->

elimtool runs what transformers has as a causal language model and TransformerLens has hooks for:
directories in Hugging Face format, hub ids and `.gguf` files. This page says for which families that was
checked, and how. `elimtool models verify MODEL` does the first two checks on a model of yours.

Versions: transformers {transformers}, TransformerLens {transformer_lens}.

## What was checked

Each family is built from transformers' own class, four layers with random weights, and compared with the
same model without TransformerLens, eager attention, float32, on the CPU:

- **residuals, logits**: the output of every block and the logits, by hooks on transformers' own blocks
  (within 1e-4 of the largest value);
- **attention**: the weights that transformers' attention modules return (within 2e-5);
- **attribution**: the shares of embedding, heads and MLPs sum to transformers' logit;
- **heads**, **MLPs**: an ablation gives the logits that a hook by hand on transformers' module gives;
- **knockout**: the logits are those of transformers' own pass with an additive mask by hand, and the span's
  weight is 0 in every layer with attention;
- **experts**: in mixtures of experts, the router's logits, its choice and its weights in table `experts` are
  those of transformers' own modules, and the experts' parts sum to their MLP's share where that is
  attributed. A dash: the family has no experts.

"As" another family: TransformerLens has the same hooks for both, and these checks ran with the other one.

What a family does not have is null in the tables, never 0. `attention_layers.no_weights` names the reason
where a layer has no attention weights, `mechanisms.undecomposed` where a block's update is not split into
heads and MLP.

A random model shows that the numbers are computed right, not that they mean the same in every family. With
real weights the tests run SmolLM2-135M-Instruct, and Gemma 3 270M where `ELIMTOOL_GEMMA_GGUF` names its
file or `gemma3-270m`, as the catalogue calls it.

| family | residuals, logits | attention | attribution | heads | MLPs | knockout | experts |
|---|---|---|---|---|---|---|---|
"""


def _row(family: str, limits: Limits) -> str:
    def said(reason: str) -> str:
        return f"no: {reason}" if reason else "yes"

    attention, knockout = "yes", "yes"
    if limits.attention is not None:
        some = ", ".join(map(str, limits.attention))
        where = f"layers {some} of 0 to 3; the others: " if some else "no: "
        attention = where + "; ".join(limits.no_weights)
        knockout = "in the layers with attention" if some else "no: there is no edge to cut"
    cells = (attention, said("; ".join(limits.undecomposed)), said(limits.heads), said(limits.mlp), knockout)
    if family in ALIKE:
        cells = (attention, *[f"as `{ALIKE[family]}`"] * 4)
    experts = "-"
    if family in EXPERTS:
        why = EXPERTS[family]
        experts = said(why and f"elimtool cannot read how `{why}` are called")
    return f"| `{family}` | yes | " + " | ".join((*cells, experts)) + " |"


def _refusal(family: str, reason: str) -> str:
    package = "a package is missing unless it is installed by hand, " if reason.startswith("pip") else ""
    return f"- `{family}`: {package}{reason}"


def page() -> str:
    """Return the page's text."""
    none = Limits()
    every = {**dict.fromkeys(FAMILIES, none), **{name: LIMITS.get(name, none) for name in MORE}}
    rows = [_row(name, limits) for name, limits in sorted(every.items()) if not limits.refused]
    refused = [_refusal(name, limits.refused) for name, limits in sorted(every.items()) if limits.refused]
    types = {build().model_type for build in {**FAMILIES, **MORE}.values()}
    untried = [f"`{one}`" for one in runnable_types() if one not in types | set(every)]
    lacking = [f"`{one}`" for one in unsupported_types()]
    head = HEAD.format(transformers=version("transformers"), transformer_lens=version("transformer-lens"))
    return (
        head
        + "\n".join(rows)
        + "\n\nShells around a vision tower are read as text, without images: "
        + f"{', '.join(['gemma3_images', 'gemma4', *IMAGES])}."
        + "\n\n## Refused, with this reason\n\n"
        + "\n".join(refused)
        + "\n- encoders (BERT) and encoder-decoders (T5, T5Gemma, BART): they do not continue a text from"
        " left to right\n"
        + "\n## Nobody has tried\n\nThese load, but no test compares them: "
        + ", ".join(untried)
        + ".\nModels with Python code of their own (`--trust-remote-code`) are not tested either.\n"
        + "\n## TransformerLens has no hooks for\n\nRefused before weights are read: "
        + ", ".join(lacking)
        + ".\n"
    )


def main() -> int:
    """Write the page, or compare it."""
    return settle(PAGE, page())


if __name__ == "__main__":
    sys.exit(main())
