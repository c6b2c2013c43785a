"""Measure how uncertain a written answer is: by its attention and probabilities, and by other samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import ceil
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float64
from torch import Tensor

from elimtool.analysis.risk.answers import clusters, says
from elimtool.analysis.risk.scores import (
    ALPHA,
    ALPHA_CHAT,
    eigenscore,
    lookback,
    rauq,
    semantic_entropy,
)
from elimtool.engine.against import After
from elimtool.engine.walk import Step, walk
from elimtool.files.rows import Row
from elimtool.model.decode import end_ids
from elimtool.model.view import Batch, Encoded, LayerView
from elimtool.numerics.transfer import array, arrays

if TYPE_CHECKING:
    from elimtool.model.entailment import Entailment
    from elimtool.model.model import Model
    from elimtool.samplers import Chain

Values = npt.NDArray[np.float64]


def risk_row(
    model: Model,
    one: Encoded,
    chain: Chain,
    steps: Sequence[Step],
    samples: int,
    seed: int,
    targets: Sequence[str] = (),
    judge: Entailment | None = None,
    against: After | None = None,
) -> Row:
    """Make the row of table ``risk`` for one prompt.

    Args:
        model: The model, without interventions.
        one: The prompt.
        chain: The chain that its answer and the samples are written through.
        steps: The answer.
        samples: Number of samples, two or more.
        seed: Seed of the answer; the samples take the next ones.
        targets: Right answers, beside those of the record's ``answers``.
        judge: Says which samples mean the same, as answers to the prompt.
        against: Reads the model after a second prompt, for stages that move away from it.
    """
    ends = end_ids(model)
    written = [step.token for step in steps if step.token not in ends]
    own_steps = [step.logits.log_softmax(-1)[0, step.token] for step in steps[: len(written)]]
    logprobs = array(torch.stack(own_steps)).astype(float) if own_steps else np.zeros(0)
    seeds = range(seed + 1, seed + 1 + samples)
    walks = [walk(model, one, chain, len(steps), each, against=against) for each in seeds]
    others = [[step.token for step in steps if step.token not in ends] for steps in walks]
    answers = [list(aliases) for aliases in one.prompt.design.answers]
    texts = [_text(model, tokens) for tokens in others]
    same = None if judge is None else lambda a, b: judge.same(*(_in_context(one, text) for text in (a, b)))
    grouped = clusters(texts, answers, same)
    named = [*targets, *(alias for aliases in answers for alias in aliases)]
    own = _text(model, written)
    read = _attention_scores(model, one, written, np.exp(logprobs)) if written else (None, None)
    return {
        "prompt_id": one.prompt_id,
        "n_answer_tokens": len(written),
        "mean_logprob": float(np.mean(logprobs)) if written else None,
        "lookback": read[0],
        "rauq": read[1],
        "n_samples": samples,
        "eigenscore": eigenscore(_last_states(model, one, others)),
        "semantic_entropy": semantic_entropy(grouped),
        "n_clusters": len(set(grouped)),
        "clustering": "aliases" if answers else "exact" if judge is None else "nli",
        "correct": any(says(own, answer) for answer in named) if named else None,
    }


def _text(model: Model, tokens: Sequence[int]) -> str:
    return b"".join(map(model.tokenizer.spell, tokens)).decode("utf-8", "replace")


def _in_context(one: Encoded, text: str) -> str:
    """Put the question before an answer, as Kuhn et al. do: a word alone entails little."""
    prompt = one.prompt
    asked = prompt.text if prompt.text is not None else prompt.messages[-1].content
    return f"{asked.strip()} {text.strip()}"


def cue_start(one: Encoded) -> int:
    """Find where the cue of the answer begins: a prefill, what the template wrote last, or the last token."""
    start = len(one.token_ids) - one.n_prefill - one.n_appended
    while start - 1 in one.templated:
        start -= 1
    return min(start, len(one.token_ids) - 1)


def _attention_scores(
    model: Model, one: Encoded, written: Sequence[int], probs: Values
) -> tuple[float | None, float | None]:
    """Compute lookback and RAUQ in one pass over the prompt and its answer."""
    start, context = len(one.token_ids), cue_start(one)
    positions = tuple(range(start - 1, start + len(written)))
    whole = replace(one, token_ids=(*one.token_ids, *written), positions=positions)
    looked: list[Tensor] = []
    previous: list[Tensor] = []
    middle = range(model.n_layers // 3, ceil(2 * model.n_layers / 3))

    def observe(view: LayerView) -> None:
        weights = view.all_attention()
        if weights is None:
            return
        rows = weights[0].double()  # [heads, queries, keys]
        if context:
            looked.append(_looked(rows[:, :-1], start - 1, context).to(model.device))
        if view.layer in middle:
            places = torch.arange(1, len(written), device=rows.device)
            previous.append(rows[:, places + 1, start - 1 + places].to(model.device))

    model.stream(Batch.of([whole], model.device), ("attention",), observe)
    alpha = ALPHA_CHAT if one.prompt.messages else ALPHA
    stacks = {name: torch.stack(some) for name, some in (("looked", looked), ("previous", previous)) if some}
    kept = arrays(stacks)  # of all layers in one transfer
    told = float(lookback(*kept["looked"].swapaxes(0, 1)).mean()) if looked else None
    return told, rauq(probs, list(kept.get("previous", ())), alpha)


def _looked(
    weights: Float64[Tensor, "heads written keys"], first: int, context: int
) -> Float64[Tensor, "2 heads written"]:
    """Average what each position gives to a token of the first ``context``, and to one of those since.

    Args:
        weights: Attention of the positions that predict the written tokens.
        first: Index of the first of these positions.
        context: Number of tokens, 1 or more, at most ``first``.
    """
    keys = torch.arange(context, weights.shape[-1], device=weights.device)
    ends = first + 1 + torch.arange(weights.shape[1], device=weights.device)
    since = weights[..., context:].mul(keys < ends[:, None]).sum(-1) / (ends - context)
    return torch.stack([weights[..., :context].mean(-1), since])


def _last_states(model: Model, one: Encoded, others: Sequence[Sequence[int]]) -> Values:
    """Residual after the middle layer at the last token of each sample, [samples, channels]."""
    whole = []
    for tokens in others:
        ids = (*one.token_ids, *tokens)
        whole.append(replace(one, token_ids=ids, positions=(len(ids) - 1,)))
    kept: list[Tensor] = []

    def observe(view: LayerView) -> None:
        if view.layer == model.n_layers // 2:
            kept.append(view.residual[:, 0])

    model.stream(Batch.of(whole, model.device), (), observe)
    return array(kept[0]).astype(float)
