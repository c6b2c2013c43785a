"""Search for paths through what a model may write: greedy, with beams, of least entropy, sampled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float64
from torch import Tensor

from elimtool.engine.against import After
from elimtool.engine.beams import BeamSearch
from elimtool.engine.taking_back import TakingBack
from elimtool.engine.walk import moments, walk
from elimtool.errors import ElimError, nearest
from elimtool.model.decode import Decoder, TextTree, end_ids
from elimtool.numerics.distributions import entropy
from elimtool.numerics.ranking import top

if TYPE_CHECKING:
    from elimtool.model.model import Model
    from elimtool.model.view import Encoded
    from elimtool.samplers import Chain

Ids = tuple[int, ...]

GREEDY = "greedy"
BEAM = "beam"
LEAST_ENTROPY = "least-entropy"
SAMPLED = "sampled"
GIVEN = "given"
"""Name of the path that ``continue_with`` gives."""
KINDS = (GREEDY, BEAM, LEAST_ENTROPY, SAMPLED)
MOST_PATHS = 64
"""Most paths of one kind: their outputs are held side by side."""
NUCLEUS = 0.9
"""Mass of the nucleus that a path of least entropy keeps to: outside it the least entropy is in what no one
writes, such as marks that end a turn."""
MOST_CHOICES = 8
"""Tokens of the nucleus, the most probable ones, that each such path is continued with."""


@dataclass(frozen=True, slots=True)
class PathKind:
    """A way to choose paths, and how many.

    Attributes:
        name: As it was asked for, such as ``beam:4``.
        kind: One of ``KINDS``.
        count: Paths to keep.
    """

    name: str
    kind: str
    count: int

    @staticmethod
    def of(name: str) -> PathKind:
        """Read what was asked for.

        Raises:
            ElimError: There is no such kind, or the number cannot be used.
        """
        kind, colon, number = name.partition(":")
        if kind not in KINDS:
            raise ElimError(f"`paths`: there is no kind of path '{kind}'", nearest(kind, KINDS))
        if kind == GREEDY:
            if colon:
                raise ElimError(f"`paths`: greedy is one path, got '{name}'", "leave the number out")
            return PathKind(name, kind, 1)
        if not number.isascii() or not number.isdigit() or not 1 <= int(number) <= MOST_PATHS:
            raise ElimError(
                f"`paths`: '{name}' needs how many paths to keep, from 1 to {MOST_PATHS}",
                f"such as {kind}:4",
            )
        return PathKind(name, kind, int(number))


def kinds_of(names: Sequence[str]) -> tuple[PathKind, ...]:
    """Read the kinds of paths that are asked for.

    Raises:
        ElimError: One cannot be used, or stands there twice.
    """
    found = tuple(map(PathKind.of, names))
    for at, one in enumerate(names):
        if one in names[:at]:
            raise ElimError(f"`paths`: '{one}' stands there twice", "leave one out")
    return found


@dataclass(frozen=True, slots=True)
class PathSearch:
    """What paths are searched in.

    Attributes:
        model: The model, without interventions.
        one: The prompt, without targets or written tokens.
        tokens: Tokens of a path at most; a token that ends a text ends it earlier.
        chain: The chain that sampled paths are drawn through; ``None`` where none is asked for.
        seed: Seed of the first sampled path; the others take the next ones.
        against: Reads the model after a second prompt, for stages that move away from it.
    """

    model: Model
    one: Encoded
    tokens: int
    chain: Chain | None = None
    seed: int = 0
    against: After | None = None

    def find(self, kind: PathKind) -> list[Ids]:
        """Find the paths of one kind, the best first, sampled ones as they were drawn."""
        how: dict[str, Callable[[int], list[Ids]]] = {
            GREEDY: self._greedy,
            BEAM: self._beams,
            LEAST_ENTROPY: self._least_entropy,
            SAMPLED: self._sampled,
        }
        return how[kind.kind](kind.count)

    def _greedy(self, _: int) -> list[Ids]:
        ends, decoder = end_ids(self.model), Decoder(self.model)
        logits = decoder.read(self.one.token_ids)
        path: Ids = ()
        while True:
            path += (int(top(logits)),)
            if len(path) == self.tokens or path[-1] in ends:
                return [path]
            logits = decoder.read(path[-1:])

    def _beams(self, count: int) -> list[Ids]:
        """Keep the likeliest texts; sums of log-probabilities are compared whatever their lengths."""
        search = BeamSearch(count, self.tokens, end_ids(self.model), length_penalty=0.0)
        tree = TextTree(self.model, self.one.token_ids)
        while not search.done:
            search.step(tree.read([beam.tokens for beam in search.open]).log_softmax(-1))
        return [beam.tokens for beam in search.finished]

    def _least_entropy(self, count: int) -> list[Ids]:
        """Keep the paths with the least sum of entropies: of all steps, and of what they lead to."""
        ends, decoder = end_ids(self.model), Decoder(self.model)
        logits = decoder.read(self.one.token_ids)
        paths: list[Ids] = [()]
        sums = [float(doubt) for doubt in entropy(logits.log_softmax(-1))]
        over: list[tuple[float, Ids]] = []
        while paths and len(paths[0]) < self.tokens:
            asked = [(row, token) for row in range(len(paths)) for token in _choices(logits[row])]
            after = decoder.look(*map(list, zip(*asked, strict=True)))
            doubts = entropy(after.log_softmax(-1)).tolist()
            # a text that ends leads to nothing
            found = [
                (sums[row] + (0.0 if token in ends else doubts[at]), at)
                for at, (row, token) in enumerate(asked)
            ]
            known = [(total, -1 - at) for at, (total, _) in enumerate(over)]
            best = sorted([*found, *known])[:count]
            over = [over[-1 - at] for _, at in best if at < 0] + [
                (total, (*paths[asked[at][0]], asked[at][1]))
                for total, at in best
                if at >= 0 and asked[at][1] in ends
            ]
            open_ = [(total, at) for total, at in best if at >= 0 and asked[at][1] not in ends]
            paths = [(*paths[asked[at][0]], asked[at][1]) for _, at in open_]
            sums = [total for total, _ in open_]
            if paths and len(paths[0]) < self.tokens:
                decoder.follow([asked[at][0] for _, at in open_])
                logits = decoder.read_rows([path[-1:] for path in paths])
        return [path for _, path in sorted([*over, *zip(sums, paths, strict=True)])]

    def _sampled(self, count: int) -> list[Ids]:
        assert self.chain is not None  # options refuse sampled paths without a chain
        ends = end_ids(self.model)
        seeds = range(self.seed, self.seed + count)
        if TakingBack(self.chain).bans:  # each text goes back at a place of its own
            walks = [
                walk(self.model, self.one, self.chain, self.tokens, seed, against=self.against)
                for seed in seeds
            ]
            return [tuple(step.token for step in one) for one in walks if one]
        paths: list[Ids] = [()] * count
        going = [True] * count
        steps = moments(self.model, self.one, self.chain, seeds, against=self.against)
        for moment in islice(steps, self.tokens):
            left = moment.ledger.end.n.tolist()
            for row, token in enumerate(moment.tokens.tolist()):
                if going[row] and left[row]:
                    paths[row] += (token,)
                going[row] = going[row] and bool(left[row]) and token not in ends
            if not any(going) or not all(left):
                break
        return [path for path in paths if path]


def _choices(logits: Float64[Tensor, " vocab"]) -> list[int]:
    """Return the tokens of the nucleus, the most probable first, the lower id first among equals."""
    probs = logits.softmax(-1)
    order = probs.argsort(descending=True, stable=True)[:MOST_CHOICES]
    before = torch.cat([probs.new_zeros(1), probs[order].cumsum(-1)[:-1]])
    return [int(token) for token, mass in zip(order, before, strict=True) if mass < NUCLEUS]
