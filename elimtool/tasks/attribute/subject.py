"""Prepare a prompt for attribution: find its parts and what to score, and run it without some parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from elimtool.engine.chains import chain_for
from elimtool.engine.scoring import log_probabilities, tokens_run
from elimtool.engine.walk import written_for
from elimtool.errors import ElimError
from elimtool.model.view import Encoded, Span, Target
from elimtool.prompts.prompt import REST, SINK, WRITTEN, Prompt
from elimtool.tasks.attribute.options import AttributeOptions

if TYPE_CHECKING:
    from elimtool.model.model import Model


class Without(NamedTuple):
    """A prompt without some of its tokens.

    Attributes:
        values: Value of each target, by what was removed.
        tokens: Tokens that were run for that.
        shared: Whether what several of these prompts begin with was run once for them.
    """

    values: Float[Tensor, "removals targets"]
    tokens: int
    shared: bool


@dataclass
class Subject:
    """A prompt up to the token that is read, with the spans that can be ablated.

    Attributes:
        model: The model.
        whole: The prompt with all of its tokens.
        one: The same up to the token that is read; its spans are the parts, without sinks and that token.
        targets: Continuations to score.
        foils: Continuations to contrast them with.
        options: Options of the attribution.
        notes: Remarks for the user.
        base: Value of the whole prompt for each target.
    """

    model: Model
    whole: Encoded
    one: Encoded
    options: AttributeOptions
    targets: tuple[Target, ...] = ()
    foils: tuple[Target, ...] = ()
    notes: list[str] = field(default_factory=list)
    base: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.float64))

    @property
    def spans(self) -> tuple[Span, ...]:
        """The parts that can be ablated."""
        return self.one.spans

    @property
    def ids(self) -> list[int]:
        """First tokens of the targets, then of the foils, whose log-probabilities are read."""
        return [one.token_id for one in (*self.targets, *self.foils)]

    def values(self, logprobs: Tensor) -> Tensor:
        """Turn log-probabilities [rows, tokens] into values [rows, targets]: log-odds if there are foils."""
        count = len(self.targets)
        if not self.foils:
            return logprobs
        return logprobs[:, :count] - logprobs[:, count:].logsumexp(-1, keepdim=True)

    def without(self, removals: Sequence[frozenset[int]]) -> Without:
        """Run the prompt without some tokens, each time with those behind them moved up."""
        texts = [
            tuple(token for at, token in enumerate(self.one.token_ids) if at not in removed)
            for removed in removals
        ]
        rows = [
            replace(self.one, token_ids=ids, positions=(len(ids) - 1,), spans=(), sinks=()) for ids in texts
        ]
        found = log_probabilities(self.model, rows, [()] * len(rows), None, [0] * len(self.ids), self.ids)
        tokens = tokens_run(self.model, texts)
        return Without(self.values(found), tokens, tokens < sum(map(len, texts)))


def subject(model: Model, prompt: Prompt, options: AttributeOptions) -> Subject:
    """Encode a prompt, find its parts and what to score, and run it once.

    Args:
        model: The model, under no intervention.
        prompt: The prompt.
        options: Options of the attribution.

    Raises:
        ElimError: The prompt cannot be used, or has nothing to attribute to.
    """
    whole, notes = _encoded(model, prompt, options)
    made = Subject(model, whole, whole, options, notes=notes)
    (at,) = whole.positions
    made.one = replace(
        whole,
        token_ids=whole.token_ids[: at + 1],
        tokens=whole.tokens[: at + 1],
        spans=_parts(whole, notes),
        sinks=tuple(sink for sink in whole.sinks if sink <= at),
    )
    logits = _run_once(made)
    named = whole.targets or (_answer(made, at) or _leader(model, logits, notes),)
    made.targets = tuple(one for one in named if not one.is_foil)
    made.foils = tuple(one for one in named if one.is_foil)
    if not made.targets:
        made.targets = (_leader(model, logits, notes),)
    _check_targets(made)
    made.base = made.values(torch.log_softmax(logits.double(), -1)[None, made.ids].cpu())[0]
    return made


def _encoded(model: Model, prompt: Prompt, options: AttributeOptions) -> tuple[Encoded, list[str]]:
    chain = chain_for(model, options.chain, options.model_sampling)
    wrote = written_for(model, prompt, options.position, options.generate, chain, options.seed)
    written = tuple(step.token for step in wrote[1]) if wrote else ()

    def encode(units: str) -> Encoded:
        return model.encode(
            prompt,
            position=options.position,
            sinks=options.sinks,
            target_space=options.target_space,
            units=units,
            written=written,
        )

    whole = encode(options.units)
    if options.units == "auto" and not prompt.spans and len(_parts(whole, [])) == 1:
        for units in ("sentences", "tokens"):
            finer = encode(units)
            if len(_parts(finer, [])) > 1:
                return finer, [f"the prompt is one part: its {units} are taken as spans"]
    return whole, []


def _parts(whole: Encoded, notes: list[str]) -> tuple[Span, ...]:
    """The spans without sinks, the token read and tokens appended for targets; empty ones are left out.

    Raises:
        ElimError: No span is left.
    """
    (at,) = whole.positions
    end = min(at, len(whole.token_ids) - whole.n_appended)
    parts, gone, sinks = [], [], set()
    for span in whole.spans:
        if span.name in (SINK, REST):
            continue
        kept = tuple(i for i in span.tokens if i < end and i not in whole.sinks)
        sinks |= {i for i in span.tokens if i in whole.sinks and i < at}
        if kept:
            parts.append(Span(span.name, kept))
        elif span.name not in (f"{at}:{whole.tokens[at]}", WRITTEN):
            gone.append(span.name)
    if sinks:
        which = ", ".join(f"{i} {whole.tokens[i]!r}" for i in sorted(sinks))
        notes.append(f"attention sinks stay in place: {which}")
    notes += [f"the span '{name}' has no token to ablate: sinks and the token read stay" for name in gone]
    if not parts:
        raise ElimError(
            "the prompt has no span to attribute to: sinks and the token read stay in place",
            "give a longer prompt, other `units`, or `sinks='none'`",
        )
    return tuple(parts)


def _run_once(made: Subject) -> Tensor:
    """Compute the log-probabilities [vocab] of the whole prompt."""
    wanted = list(range(made.model.vocab))
    return log_probabilities(made.model, [made.one], [()], None, [0] * len(wanted), wanted)[0]


def _answer(made: Subject, at: int) -> Target | None:
    """Take the token that was written at the position, if any."""
    token = made.whole.follows(at)
    if token is None:
        return None
    text = made.whole.tokens[at + 1]
    made.notes.append(f"no target is named: the token that was written, {text!r}, is taken")
    return Target.single(text, token)


def _leader(model: Model, logits: Tensor, notes: list[str]) -> Target:
    token = int(logits.argmax())
    text = model.tokenizer.texts([token])[0]
    notes.append(f"no target is named: the most probable token, {text!r}, is taken")
    return Target.single(text, token)


def _check_targets(made: Subject) -> None:
    """Refuse a contrast of a token with itself; note targets that are scored by their first token."""
    against = {foil.token_id: foil for foil in made.foils}
    for target in made.targets:
        if target.token_id in against:
            foil = against[target.token_id]
            raise ElimError(
                f"target {target.text!r} and foil {foil.text!r} begin with the same token",
                "their difference is 0 whatever the prompt: choose a foil that begins otherwise",
            )
    texts = made.model.tokenizer.texts
    for one in (*made.targets, *made.foils):
        if len(one.token_ids) > 1:
            first = texts([one.token_id])[0]
            made.notes.append(
                f"{one.spelling!r} is {len(one.token_ids):,} tokens: its first, {first!r}, is scored"
            )
