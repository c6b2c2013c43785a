"""Prepare a clean and a corrupt run of one length, and unrelated prompts of that length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from itertools import zip_longest
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from rich.cells import cell_len
from torch import Tensor

from elimtool.errors import ElimError
from elimtool.lenses.corpus import shipped
from elimtool.model.view import Encoded, Target
from elimtool.prompts.prompt import Prompt, SpanRequest
from elimtool.tasks.locate.options import LocateOptions

if TYPE_CHECKING:
    from elimtool.model.model import Model

NOISE = 3.0
"""Standard deviation of the noise, as a multiple of that of the span's embeddings (Meng et al. 2022)."""

SHOWN = 24
"""Lines of tokens that a message shows."""


@dataclass(frozen=True, slots=True)
class CorruptedPair:
    """A clean prompt and what corrupts it.

    Attributes:
        clean: The clean prompt, with what all continuations share appended.
        corrupt: The corrupt prompt, of the same length; ``None`` for noise.
        target: What the clean prompt is to say.
        foil: What it is compared with; ``None`` for the mean of all tokens.
        changed: Positions that differ, or get noise.
    """

    clean: Encoded
    corrupt: Encoded | None
    target: Target
    foil: Target | None
    changed: tuple[int, ...]

    @property
    def length(self) -> int:
        """Tokens of each run."""
        return len(self.clean.token_ids)

    def values(self, logits: Float[Tensor, "rows vocab"]) -> Float[Tensor, "rows"]:
        """Compute logit(target) - logit(foil), or minus the mean logit, in float64."""
        logits = logits.double()
        against = logits.mean(-1) if self.foil is None else logits[:, self.foil.token_id]
        return logits[:, self.target.token_id] - against


def pair_of(
    model: Model,
    prompt: Prompt,
    corrupt: Prompt | None,
    noise: str | None,
    options: LocateOptions,
) -> CorruptedPair:
    """Encode both prompts, and find the positions at which they differ.

    Raises:
        ElimError: They cannot be compared, or the target cannot be told from the foil.
    """
    if (corrupt is None) == (noise is None):
        raise ElimError(
            "give either `corrupt` or `noise`",
            "another prompt of as many tokens, or a part of the prompt to put noise on",
        )
    if len(prompt.targets) != 1 or len(prompt.foils) > 1:
        raise ElimError(
            "locating needs one target and at most one foil,"
            f" got {len(prompt.targets):,} and {len(prompt.foils):,}",
            "give what the clean prompt says as `targets`, and what the corrupt one says as `foils`",
        )
    if noise is not None:
        prompt = replace(prompt, spans=(SpanRequest("noise", noise), *prompt.spans))
    clean = model.encode(prompt, sinks=options.sinks, target_space=options.target_space)
    target, foil = _followed(clean)
    if noise is not None:
        span = next(span for span in clean.spans if span.name == "noise")
        return CorruptedPair(clean, None, target, foil, span.tokens)
    assert corrupt is not None
    plain = replace(corrupt, targets=(), foils=())
    other = _ending_alike(model.encode(plain, sinks=options.sinks), clean)
    ids, others = clean.token_ids, other.token_ids
    if len(ids) != len(others):
        raise _unequal(clean, other)
    changed = tuple(at for at, (one, two) in enumerate(zip(ids, others, strict=True)) if one != two)
    if not changed:
        raise ElimError("`corrupt` is the same as the prompt", "exchange the tokens whose effect you want")
    return CorruptedPair(clean, other, target, foil, changed)


def _followed(clean: Encoded) -> tuple[Target, Target | None]:
    target = next(one for one in clean.targets if not one.is_foil)
    foil = next((one for one in clean.targets if one.is_foil), None)
    if foil is not None and foil.token_id == target.token_id:
        raise ElimError(
            f"target {target.text!r} and foil {foil.text!r} begin with the same token",
            "their difference is 0 whatever is patched: choose a foil that begins otherwise",
        )
    return target, foil


def _ending_alike(other: Encoded, clean: Encoded) -> Encoded:
    """Append to the corrupt prompt what was appended to the clean one."""
    count = clean.n_appended
    if not count:
        return other
    ids, tokens = clean.token_ids[-count:], clean.tokens[-count:]
    last = len(other.token_ids) + count - 1
    return replace(
        other,
        token_ids=other.token_ids + ids,
        tokens=other.tokens + tokens,
        n_appended=count,
        positions=(last,),
    )


def _unequal(clean: Encoded, other: Encoded) -> ElimError:
    """Show both prompts' tokens side by side, from before the first that differs."""
    return ElimError(
        f"the prompt has {len(clean.token_ids):,} tokens and `corrupt` has {len(other.token_ids):,}:"
        " they must be exchanged one for one",
        "\n".join(["side by side, where they differ:", *side_by_side(clean.tokens, other.tokens)]),
    )


def side_by_side(ours: Sequence[str], theirs: Sequence[str]) -> list[str]:
    """Lay two prompts' tokens out as a table, each beside its counterpart, from before the first difference.

    Tokens without a counterpart stand alone; ``SHOWN`` lines at most.
    """
    lines: list[tuple[str, str, str]] = []
    for what, a, b, c, d in SequenceMatcher(None, ours, theirs, autojunk=False).get_opcodes():
        for one, two in zip_longest(range(a, b), range(c, d)):
            left = "" if one is None else f"{one:>4} {ours[one]!r}"
            right = "" if two is None else f"{two:>4} {theirs[two]!r}"
            lines.append((left, right, "" if what == "equal" else "*"))
    first = max(next((at for at, line in enumerate(lines) if line[2]), 0) - 1, 0)
    shown, more = lines[first : first + SHOWN], len(lines) - first - SHOWN
    table = [("prompt", "corrupt", ""), *shown]
    width = max(cell_len(line[0]) for line in table)
    told = [
        f"  {one}{' ' * (width - cell_len(one))}  {mark or ' '} {two}".rstrip() for one, two, mark in table
    ]
    return [*told, f"  and {more} more"] if more > 0 else told


def unrelated(model: Model, length: int, count: int) -> list[tuple[int, ...]]:
    """Cut prompts of a length from the package's text, each from another place, spread over it."""
    documents = shipped("fit")
    step = max(1, len(documents) // count)
    lead = model.tokenizer.encode("a").ids
    lead = lead[
        : len(lead) - len(model.tokenizer.encode("a", special=False).ids)
    ]  # a BOS, where there is one
    found = []
    for start in range(0, step * count, step):
        body: tuple[int, ...] = ()
        for at in range(len(documents)):
            document = documents[(start + at) % len(documents)]
            body += model.tokenizer.encode(document.text, special=False).ids
            if len(body) >= length:
                break
        found.append((lead + body)[:length])
    return found


def with_noise(
    inputs: Float[Tensor, "runs keys width"], positions: Sequence[int], draws: int, seed: int
) -> Float[Tensor, "runs keys width"]:
    """Add noise to some positions of the runs 1 .. draws, each drawn anew."""
    where = torch.tensor(list(positions))
    sd = NOISE * float(inputs[0, where].float().std())
    dice = torch.Generator().manual_seed(seed)
    noise = torch.randn(draws, len(where), inputs.shape[-1], generator=dice) * sd
    noisy = inputs.clone()
    noisy[1 : draws + 1, where] += noise.to(inputs)
    return noisy
