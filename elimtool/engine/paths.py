"""Measure paths through what a model may write: each token's place in the output, and which stage cuts it.

Fills the tables ``paths`` and ``path_steps``. All paths are scored in the same way, by a pass over each with
its tokens given, whatever search has found them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import exp
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool
from torch import Tensor

from elimtool.engine.against import After, history
from elimtool.engine.forced import Ways, outputs, ways_of_rows
from elimtool.engine.path_search import GIVEN, PathKind, PathSearch
from elimtool.engine.records import columns_of
from elimtool.errors import ElimError
from elimtool.files.rows import Row, Rows
from elimtool.metrics.columns import Columns
from elimtool.model.decode import end_ids
from elimtool.numerics.distributions import entropy

if TYPE_CHECKING:
    from elimtool.model.model import Model
    from elimtool.model.view import Encoded
    from elimtool.samplers import Chain, Ledger
    from elimtool.samplers.chain import State

Ids = tuple[int, ...]

ROWS = 256
"""Rows of outputs that are held at once."""
GRAM = 4
"""Length of the n-grams that say how much a path repeats."""
LONGEST_LOOP = 32
"""Tokens of the longest piece that counts as a loop ..."""
ROUNDS = 3
"""... once the path ends in so many copies of it."""


@dataclass(frozen=True, slots=True)
class PathFate:
    """What one chain does to one token of a path."""

    alive: bool
    stage: str | None = None
    why: str | None = None


@dataclass(frozen=True, slots=True)
class ScoredPath:
    """One path with its tokens' places in the output.

    Attributes:
        ids: Its tokens.
        logprobs: Log-probability of each (nats).
        entropies: Entropy of the output that each is taken from (nats).
        ranks: Rank of each there.
        fates: What each chain does to each, [chains][tokens].
    """

    ids: Ids
    logprobs: list[float]
    entropies: list[float]
    ranks: list[int]
    fates: list[list[PathFate]]


def path_tables(
    model: Model,
    one: Encoded,
    chains: Sequence[Chain],
    kinds: Sequence[PathKind],
    search: PathSearch,
    given: str | None,
) -> dict[str, Columns]:
    """Fill ``paths`` and ``path_steps`` for one prompt.

    Args:
        model: The model, without interventions.
        one: The prompt.
        chains: The chains that say which paths they allow.
        kinds: Kinds of paths to search for.
        search: Where to search; its prompt is that of ``one``.
        given: A text that goes on from the prompt, a path too; ``None`` for none.

    Raises:
        ElimError: A path outgrows the model's context, or the given text has no token.
    """
    bare = bare_prompt(one)
    search = replace(search, one=bare)
    _check_room(model, len(bare.token_ids) + search.tokens if kinds else 0)
    found = [(kind.name, path) for kind in kinds for path in search.find(kind)]
    if given is not None:
        found.append((GIVEN, _tokens_of(model, given)))
    different = list(dict.fromkeys(path for _, path in found))
    scored = {
        path.ids: path
        for some in _groups(different)
        for path in _scored(model, bare.token_ids, some, chains, search.against)
    }
    places: dict[str, int] = {}
    wholes: Rows = []
    steps: Rows = []
    for name, ids in found:
        places[name] = places.get(name, 0) + 1
        key = {"prompt_id": one.prompt_id, "path": name, "place": places[name]}
        other = _retokenised(model, bare, ids, given) if name == GIVEN and given is not None else None
        wholes.append({**key, "retokenised": other, **_whole(model, scored[ids], chains, scored.values())})
        steps += [{**key, **row} for row in _steps(model, scored[ids], chains)]
    return {"paths": columns_of(wholes), "path_steps": columns_of(steps)}


def _check_room(model: Model, longest: int) -> None:
    """Refuse paths that could not end within the context before the first is searched for."""
    if model.context is not None and longest > model.context:
        raise ElimError(
            f"the prompt and its paths take {longest:,} tokens, but the model's context is {model.context:,}",
            "generate fewer tokens",
        )


def bare_prompt(one: Encoded) -> Encoded:
    """Return a prompt without what it was given for targets and without what the model wrote."""
    end = len(one.token_ids) - one.n_written - one.n_appended
    return replace(one, token_ids=one.token_ids[:end])


def _tokens_of(model: Model, text: str) -> Ids:
    ids = tuple(model.tokenizer.encode(text, special=False).ids)
    if not ids:
        raise ElimError("`continue_with` has no token", "give a text that goes on from the prompt")
    return ids


def _retokenised(model: Model, bare: Encoded, ids: Ids, given: str) -> bool:
    """Tell whether a prompt and the text behind it have other tokens where they are tokenised as one."""
    joined = model.tokenizer.encode(bare.text + given, special=not bare.prompt.messages)
    return tuple(joined.ids) != bare.token_ids + ids


def _groups(paths: Sequence[Ids]) -> Iterator[list[Ids]]:
    """Group paths whose outputs are held together."""
    some: list[Ids] = []
    for path in paths:
        longest = max(len(one) for one in [*some, path])
        if some and (len(some) + 1) * longest > ROWS:
            yield some
            some = []
        some.append(path)
    if some:
        yield some


def _scored(
    model: Model, prompt: Ids, paths: Sequence[Ids], chains: Sequence[Chain], against: After | None
) -> list[ScoredPath]:
    logits = outputs(model, prompt, paths)
    fates = [_fates(chain, prompt, paths, logits, against) for chain in chains]
    found = []
    for row, (path, own) in enumerate(zip(paths, logits, strict=True)):
        tokens = torch.tensor(path)[:, None]
        logprobs = own.log_softmax(-1)
        ranks = (own > own.gather(1, tokens)).sum(-1) + 1
        found.append(
            ScoredPath(
                path,
                logprobs.gather(1, tokens)[:, 0].tolist(),
                entropy(logprobs).tolist(),
                ranks.tolist(),
                [of_chain[row] for of_chain in fates],
            )
        )
    return found


def _fates(
    chain: Chain,
    prompt: Ids,
    paths: Sequence[Ids],
    logits: Sequence[Tensor],
    against: After | None,
) -> list[list[PathFate]]:
    """Follow paths side by side through a chain, [paths][tokens]; each sees its own tokens as its history."""
    state = chain.start(len(paths))
    found: list[list[PathFate]] = [[] for _ in paths]
    for step in range(max(map(len, paths))):
        at = [min(step, len(path) - 1) for path in paths]  # a path that is over stands still, unread
        tokens = torch.tensor([path[place] for path, place in zip(paths, at, strict=True)])
        rows = torch.stack([own[place] for own, place in zip(logits, at, strict=True)])
        past = [history(prompt, path[:place], against) for path, place in zip(paths, at, strict=True)]
        ways = ways_of_rows(chain, rows, past, state, tokens[:, None])
        alive = torch.stack([ledger.kept.gather(1, tokens[:, None])[:, 0] for _, ledger in ways])
        for row, path in enumerate(paths):
            if step < len(path):
                removed_in = None if bool(alive[:, row].any()) else ways[-1][1]
                found[row].append(_fate(removed_in, row))
        state = _learnt(chain, state, ways, tokens, alive)
    return found


def _fate(ledger: Ledger | None, row: int) -> PathFate:
    """Name the stage that removes a token; without a ledger the token survives."""
    if ledger is None:
        return PathFate(True)
    record = next(one for one in ledger.records if not bool(one.alive_after[row, 0]))
    return PathFate(False, record.stage, record.why_target(0, row))


def _learnt(
    chain: Chain, state: State, ways: Ways, tokens: Tensor, alive: Bool[Tensor, "ways rows"]
) -> State:
    """Return the state after each path's token; a stage learns nothing from a token that was removed."""
    found = state
    for way, (_, ledger) in sorted(
        enumerate(ways), key=lambda one: one[1][0]
    ):  # the usual way has the last word
        after = chain.accept(state, ledger, tokens)
        found = {index: torch.where(alive[way], after[index], found[index]) for index in state}
    return found


def _whole(model: Model, path: ScoredPath, chains: Sequence[Chain], others: Iterable[ScoredPath]) -> Row:
    """Sum a path's steps up; what it gives away to others is counted over as many tokens as it has."""
    count = len(path.ids)
    logprob, doubt = sum(path.logprobs), sum(path.entropies)
    as_long = [one for one in others if len(one.ids) >= count]
    grams = [path.ids[at : at + GRAM] for at in range(count - GRAM + 1)]
    return {
        "text": b"".join(map(model.tokenizer.spell, path.ids)).decode("utf-8", "backslashreplace"),
        "token_ids": list(path.ids),
        "n_tokens": count,
        "ended": path.ids[-1] in end_ids(model),
        "logprob": logprob,
        "entropy": doubt,
        "excess": -logprob - doubt,
        "mean_prob": exp(logprob / count),
        "rep4": 1.0 - len(set(grams)) / len(grams) if grams else None,
        "looped": loops(path.ids),
        "allowed_by": [
            chain.name
            for chain, fates in zip(chains, path.fates, strict=True)
            if all(fate.alive for fate in fates)
        ],
        "regret_logprob": max(sum(one.logprobs[:count]) for one in as_long) - logprob,
        "regret_entropy": doubt - min(sum(one.entropies[:count]) for one in as_long),
    }


def loops(ids: Sequence[int]) -> bool:
    """Whether tokens end in ``ROUNDS`` copies of a piece of at most ``LONGEST_LOOP`` tokens."""
    ends = [ids[-ROUNDS * size :] for size in range(1, min(LONGEST_LOOP, len(ids) // ROUNDS) + 1)]
    return any(tuple(end) == tuple(end[: len(end) // ROUNDS]) * ROUNDS for end in ends)


def _steps(model: Model, path: ScoredPath, chains: Sequence[Chain]) -> Rows:
    names = model.tokenizer.texts(path.ids)
    fates: list[tuple[str | None, list[PathFate | None]]] = [
        (chain.name, [*of_chain]) for chain, of_chain in zip(chains, path.fates, strict=True)
    ]
    return [
        {
            "step": step,
            "token": names[step],
            "token_id": path.ids[step],
            "logprob": path.logprobs[step],
            "entropy": path.entropies[step],
            "rank": path.ranks[step],
            "chain": chain,
            "alive": fate and fate.alive,
            "cut_stage": fate and fate.stage,
            "cut_why": fate and fate.why,
        }
        for chain, of_chain in fates or [(None, [None] * len(path.ids))]
        for step, fate in enumerate(of_chain)
    ]
