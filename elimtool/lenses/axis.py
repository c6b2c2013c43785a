"""What one direction of the last residual does to the logits, beside directions drawn at random.

Effects are derivatives through the final norm at the mean residual of the lens's text, times one standard
deviation of that text along the direction; without their mean over the vocabulary, which changes no
probability.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from elimtool.errors import ElimError
from elimtool.lenses.clouds import CHUNK, Cloud, Kind
from elimtool.lenses.corpus import Document
from elimtool.lenses.stream import cut_windows, stream
from elimtool.lenses.words import Word
from elimtool.model.atomic import Progress, in_tenths
from elimtool.model.lock import exclusive
from elimtool.model.model import Model

RANDOM = 50
"""Random directions that an axis is held against."""
TOTAL_ROWS = 512
"""Rows whose whole effect is computed, for the total that shares are of."""
LEADING = 10
"""Tokens at each end that carry ``concentration``."""


@dataclass(frozen=True, slots=True)
class MovedToken:
    """A token that an axis moves.

    Attributes:
        token: Its text.
        token_id: The token.
        effect: Change of its logit, beyond the mean change of all, for one standard deviation along the axis.
    """

    token: str
    token_id: int
    effect: float


@dataclass(frozen=True, slots=True)
class Placed:
    """A word on the axis from one word to another.

    Attributes:
        token: The word's token.
        token_id: The token.
        place: Where its centred row falls on the line: 0 at the first word, 1 at the second.
        control: How the words beside it were chosen: ``matched`` in p_0, or ``random``.
        control_median: Median place of 200 of them.
        p_value: Two-sided share of these, the word among them, that are as far from their median.
    """

    token: str
    token_id: int
    place: float
    control: Kind
    control_median: float
    p_value: float


@dataclass(frozen=True, slots=True)
class Axis:
    """What a direction of the last residual does.

    Attributes:
        axis: A channel's number, or the two words that the direction leads from and to.
        sd: Standard deviation of the text's last residuals along it.
        n_rows: Positions that this and the mean residual are of.
        raised: Tokens raised most by one standard deviation, most first.
        lowered: Tokens lowered most, most first.
        share: Squared effect over all tokens, as a share of that of everything in which the text's residuals
            differ from their mean, to first order. Of orthogonal uncorrelated directions they add up to 1.
        concentration: Share of the axis's squared effect on the ten most raised and ten most lowered.
        n_random: Directions drawn at random.
        random_share: Median share of these.
        random_share_high: Largest share of these.
        random_concentration: Median concentration of these.
        p_value: Share of the random directions, this one among them, with as large a share.
        placed: Words on the line from word to word; empty for a channel.
    """

    axis: int | tuple[Word, Word]
    sd: float
    n_rows: int
    raised: tuple[MovedToken, ...]
    lowered: tuple[MovedToken, ...]
    share: float
    concentration: float
    n_random: int
    random_share: float
    random_share_high: float
    random_concentration: float
    p_value: float
    placed: tuple[Placed, ...]


@exclusive
def last_residuals(
    model: Model,
    documents: Sequence[Document],
    tokens: int,
    window: int = 128,
    progress: Progress | None = None,
) -> Float[Tensor, "rows width"]:
    """Read the last layer's residuals at all positions but the first of windows spread over a text.

    Args:
        model: The model; calls that run it wait for each other.
        documents: The text.
        tokens: About how many tokens to read.
        window: Tokens that the model sees at once.
        progress: Called with the share done.
    """
    windows = cut_windows(model, documents, window, None)
    picked = windows[:: max(1, len(windows) * window // max(tokens, window))]
    tell = in_tenths(progress, "reading text for the mean residual")
    found = []
    with torch.inference_mode():
        for some in stream(model, picked, 8):
            found.append(some.residuals[-1].clone())
            tell((some.first + len(some.windows)) / len(picked))
    return torch.cat(found)


def direction(model: Model, of: int | tuple[Word, Word]) -> Float[Tensor, "width"]:
    """Give the unit direction of a channel, or the one along which a residual raises B's logit against A's.

    Raises:
        ElimError: There is no such channel, or the two words are one.
    """
    if isinstance(of, int):
        if not 0 <= of < model.width:
            raise ElimError(
                f"there is no channel {of}: the residual stream has {model.width}",
                f"give a number from 0 to {model.width - 1}, or two words",
            )
        return torch.nn.functional.one_hot(torch.tensor(of), model.width).to(model.device, torch.float32)
    first, second = model.written(torch.tensor([one.token_id for one in of], device=model.device))
    if of[0].token_id == of[1].token_id:
        raise ElimError(f"{of[0].asked!r} and {of[1].asked!r} are one token", "give two words")
    return torch.nn.functional.normalize(second - first, dim=-1)


def axis(
    model: Model,
    residuals: Float[Tensor, "rows width"],
    cloud: Cloud,
    of: int | tuple[Word, Word],
    words: Sequence[Word] = (),
    count: int = 10,
) -> Axis:
    """Measure what an axis does, and what random directions do.

    Args:
        model: The model.
        residuals: From ``last_residuals``.
        cloud: Rows that words are placed among.
        of: A channel's number, or two words.
        words: Words to place between the two.
        count: Tokens to list at each end.

    Raises:
        ElimError: There is no such channel.
    """
    own = direction(model, of)
    chance = torch.Generator().manual_seed(cloud.seed)
    drawn = torch.nn.functional.normalize(torch.randn(RANDOM, model.width, generator=chance), dim=-1)
    mean = residuals.mean(0, dtype=torch.float64).to(residuals)
    away = residuals - mean
    total = _total(model, mean, away[:: max(1, len(away) // TOTAL_ROWS)])
    steps = torch.cat([own[None], drawn.to(own)])
    spread = (away.double() @ steps.double().T).std(0)
    effects = _effects(model, mean, steps * spread[:, None].to(steps))
    sizes = effects.double().square().sum(-1)
    shares = (sizes / total).cpu()
    ends = torch.cat([effects.topk(LEADING).values, (-effects).topk(LEADING).values], -1)
    held = (ends.double().square().sum(-1) / sizes).cpu()
    up, down = effects[0].topk(count), (-effects[0]).topk(count)
    return Axis(
        of,
        float(spread[0]),
        len(residuals),
        _moved(cloud, up.indices, up.values),
        _moved(cloud, down.indices, -down.values),
        float(shares[0]),
        float(held[0]),
        RANDOM,
        float(shares[1:].quantile(0.5)),
        float(shares[1:].max()),
        float(held[1:].quantile(0.5)),
        (1 + int((shares[1:] >= shares[0]).sum())) / (1 + RANDOM),
        () if isinstance(of, int) else tuple(_placed(cloud, of, word) for word in words),
    )


def _effects(
    model: Model, mean: Float[Tensor, "width"], steps: Float[Tensor, "k width"]
) -> Float[Tensor, "k vocab"]:
    slopes = model.slopes(mean, steps)
    return slopes - slopes.mean(-1, keepdim=True)


def _total(model: Model, mean: Float[Tensor, "width"], away: Float[Tensor, "rows width"]) -> float:
    """Average the squared effect of whole differences from the mean."""
    step = max(1, CHUNK // (model.vocab * 4))
    parts = [_effects(model, mean, away[start : start + step]) for start in range(0, len(away), step)]
    return sum(float(part.double().square().sum()) for part in parts) / len(away)


def _moved(cloud: Cloud, ids: Tensor, values: Tensor) -> tuple[MovedToken, ...]:
    pairs = zip(ids.tolist(), values.tolist(), strict=True)
    return tuple(MovedToken(cloud.text(token), token, value) for token, value in pairs)


def _placed(cloud: Cloud, ends: tuple[Word, Word], word: Word) -> Placed:
    """Place a word, and words as frequent, on the line between two."""
    first, second = (cloud.unit[one.token_id] for one in ends)
    line = (second - first) / (second - first).square().sum()
    excluded = [one.token_id for one in ends]
    controls = cloud.controls(word.token_id, excluded)
    places = ((cloud.unit[[word.token_id, *controls.ids.tolist()]] - first) @ line).double()
    middle = places[1:].quantile(0.5)
    farther = (places[1:] - middle).abs() >= (places[0] - middle).abs()
    return Placed(
        word.token,
        word.token_id,
        float(places[0]),
        controls.kind,
        float(middle),
        (1 + int(farther.sum())) / (1 + len(farther)),
    )
