"""Judge what a draft model proposed by what a target model's sampler chains leave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float64
from torch import Tensor

from elimtool.engine.forced import left_by, outputs
from elimtool.errors import ElimError
from elimtool.files.rows import Row
from elimtool.run.tables.comparison.speculation import SPECULATION, SPECULATION_RULES, SPECULATION_STEPS
from elimtool.samplers import Chain, History, Ledger
from elimtool.samplers.speculation import RULES, Acceptance, judge, judge_block, reached
from elimtool.tasks.compare.drafts import Drafts, Proposal, Speculation, best_of

if TYPE_CHECKING:
    from elimtool.model.model import Model
    from elimtool.model.view import Encoded


def judged(
    model: Model,
    prompts: Sequence[Encoded],
    chains: Sequence[Chain],
    asked: Speculation,
    drafts: Drafts,
    vocabulary: tuple[str, ...],
) -> tuple[dict[str, Any], list[str]]:
    """Judge what the draft proposed by the target's chains.

    Args:
        model: The target.
        prompts: The prompts, as the target is given them.
        chains: Its chains.
        asked: How the draft proposed.
        drafts: What it proposed.
        vocabulary: Texts of the target's tokens.

    Returns:
        The tables ``speculation``, ``speculation_steps`` and ``speculation_rules``, and notes.

    Raises:
        ElimError: The vocabularies differ: one model's tokens mean nothing to the other.
    """
    if vocabulary != drafts.vocabulary:
        raise ElimError(
            "the draft's vocabulary is not the target's: it cannot propose tokens to it",
            "speculation needs two models with one tokenizer; without it they can be compared",
        )
    rows: dict[str, list[Row]] = {"passes": [], "steps": [], "rules": []}
    unlike = 0
    for one in prompts:
        by_path: dict[int, list[Chain]] = {}
        for chain in chains:
            if (proposal := drafts.proposals.get((one.prompt_id, chain.name))) is None:
                continue
            by_path.setdefault(id(proposal), []).append(chain)
        for same in by_path.values():
            proposal = drafts.proposals[one.prompt_id, same[0].name]
            if proposal.prompt != one.token_ids:
                unlike += 1
                continue
            (logits,) = outputs(model, proposal.prompt, [proposal.tokens])
            for chain in same:
                _judge(model, one, chain, proposal, logits, asked, rows)
    notes = []
    if unlike:
        notes.append(f"{unlike:,} prompts are other tokens to the target than to the draft: no speculation.")
    if drafts.left_out:
        notes.append(
            f"Of {drafts.left_out:,} prompts no proposals were kept: tables of speculation lack them."
        )
    tables = {"passes": SPECULATION, "steps": SPECULATION_STEPS, "rules": SPECULATION_RULES}
    return {table.name: table.from_rows(rows[key]) for key, table in tables.items()}, notes


def _judge(
    model: Model,
    one: Encoded,
    chain: Chain,
    proposal: Proposal,
    rows_of_logits: Float64[Tensor, "tokens vocab"],
    asked: Speculation,
    rows: Mapping[str, list[Row]],
) -> None:
    """Judge one proposal by one chain, place by place, and add its rows."""
    own = asked.chain(model, chain)
    state = chain.start(1)
    width = max(rows_of_logits.shape[-1], *(int(one.max()) + 1 for one in proposal.supports))
    ps: list[Tensor] = []
    qs: list[Tensor] = []
    by_rule: dict[str, list[Acceptance]] = {rule: [] for rule in RULES}
    alone: dict[str, list[float]] = {rule: [] for rule in RULES}
    names = {"pair_id": one.prompt_id, "chain": chain.name}
    spell = model.tokenizer.texts
    for place, token in enumerate(proposal.tokens):
        logits = rows_of_logits[place : place + 1]
        history = History(one.token_ids, proposal.tokens[:place])
        left, ledger = left_by(chain, logits, history, state)
        p, q = _padded(left, width), proposal.spread(place, width)
        ps, qs = [*ps, p], [*qs, q]
        for judgement in judge(p, q, token, proposal.leaders[place], asked.weight):
            by_rule[judgement.rule].append(judgement)
        itself = _padded(left_by(own, logits, history, own.start(1))[0], width)
        for judgement in judge(p, itself, int(itself.argmax()), best_of(logits), asked.weight):
            alone[judgement.rule].append(judgement.alpha)
        rows["steps"].append({**names, **_step_row(place, token, one, p, q, logits[0], ledger, spell)})
        if float(left[token]) > 0:  # else nothing of the state after it is ever asked for
            state = chain.accept(state, ledger, torch.tensor([token]))
    by_rule["block"] = judge_block(ps, qs, proposal.tokens)
    for rule, found in by_rule.items():
        chances = reached(found)
        alphas = [judgement.alpha for judgement in found]
        rows["passes"].append(
            {
                **names,
                "rule": rule,
                "n_drafted": len(found),
                "expected_tokens": 1 + (sum(chances) if rule == "block" else _products(alphas)),
                "drafted_tokens": 1 + sum(chances),
                "self_tokens": None if rule == "block" else 1 + _products(alone[rule]),
                "worst_step": alphas.index(min(alphas)),
            }
        )
        for place, judgement in enumerate(found):
            itself_alpha = None if rule == "block" else alone[rule][place]
            row = _rule_row(place, judgement, chances[place], itself_alpha, spell)
            rows["rules"].append({**names, **row})


def _products(alphas: Sequence[float]) -> float:
    """Sum over places of the product up to there."""
    total, chance = 0.0, 1.0
    for alpha in alphas:
        chance *= alpha
        total += chance
    return total


def _padded(probs: Float64[Tensor, "few"], width: int) -> Float64[Tensor, "width"]:
    """Give tokens that this model's output lacks the probability 0."""
    return torch.nn.functional.pad(probs, (0, width - probs.shape[-1]))


def _step_row(
    place: int, token: int, one: Encoded, p: Tensor, q: Tensor, logits: Tensor, ledger: Ledger, spell: Any
) -> Row:
    best = int(p.argmax())
    gone = p == 0
    removed = [record.stage for record in ledger.records if bool(record.removed_mask[0, token])]
    return {
        "step": place,
        "position": len(one.token_ids) - 1 + place,
        "token": spell([token])[0],
        "token_id": token,
        "draft_prob": float(q[token]),
        "model_prob": float(logits.log_softmax(-1)[token].exp()),
        "model_rank": int((logits > logits[token]).sum()) + 1,
        "target_prob": float(p[token]),
        "cut_stage": removed[0] if removed else None,
        "mass_refused": min(1.0, float(q[gone].sum())),
        "target_token": spell([best])[0],
        "target_token_prob": float(p[best]),
    }


def _rule_row(place: int, found: Acceptance, chance: float, alone: float | None, spell: Any) -> Row:
    best = int(found.residual.argmax())
    never = found.accept >= 1 or float(found.residual[best]) == 0
    return {
        "step": place,
        "rule": found.rule,
        "accept": found.accept,
        "alpha": found.alpha,
        "self_alpha": alone,
        "reached": chance,
        "bias": found.bias,
        "residual_token": None if never else spell([best])[0],
        "residual_prob": None if never else float(found.residual[best]),
    }
