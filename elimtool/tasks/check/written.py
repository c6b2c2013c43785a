"""Let a model write what checks of written text judge, and score the texts that they name."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from elimtool.analysis.check.select_prompts import chosen_prompts
from elimtool.errors import ElimError
from elimtool.files.rows import Row, Rows

if TYPE_CHECKING:
    from elimtool.analysis.check.spec import Check
    from elimtool.engine.options import TraceOptions
    from elimtool.model.model import Model
    from elimtool.model.view import Encoded
    from elimtool.prompts.prompt import Prompt
    from elimtool.run import Run
    from elimtool.samplers import Chain


@dataclass(frozen=True, slots=True)
class Writing:
    """What checks ask to be written after one prompt through one chain.

    Attributes:
        lengths: Numbers of tokens asked for.
        seeds: Number of walks: the seeds are 0, 1, ...
        texts: Texts to score.
    """

    lengths: frozenset[int] = frozenset()
    seeds: int = 0
    texts: frozenset[str] = frozenset()


def with_written(
    model: Model, run: Run, prompts: Sequence[Prompt], options: TraceOptions, checks: Collection[Check]
) -> Run:
    """Add the tables ``written`` and ``written_texts`` to a run, if a check reads them.

    Args:
        model: The model, without interventions.
        run: The run of the prompts.
        prompts: The prompts in the run's order.
        options: What was measured: the chains, and how targets are spelled.
        checks: The checks that are judged.

    Raises:
        ElimError: A check names a chain that the file has not, or the model cannot generate.
    """
    written = [check for check in checks if check.generate is not None or check.text is not None]
    if not written:
        return run
    from elimtool.engine.session import Session

    session = Session(model, options)
    rows: dict[str, Row] = {row["prompt_id"]: row for row in run.arrow("prompts").to_pylist()}
    asked = dict(zip(rows, prompts, strict=True))
    walks: Rows = []
    scores: Rows = []
    for name, chain, writing in _writings(written, rows, session.settings.chains):
        if rows[name]["status"] != "ok":
            continue
        key: Row = {"prompt_id": name, "chain": chain.name}
        walks += [{**key, **row} for row in _walks(model, asked[name], chain, writing)]
        scores += [
            {**key, **_score(model, asked[name], chain, text, options.target_space)}
            for text in sorted(writing.texts)
        ]
    return run.with_rows("written", walks).with_rows("written_texts", scores)


def _writings(
    checks: Sequence[Check], prompts: Mapping[str, Row], chains: Sequence[Chain]
) -> list[tuple[str, Chain, Writing]]:
    """Join what all checks ask of each prompt and chain."""
    named = {chain.name: chain for chain in chains}
    found: dict[tuple[str, str], Writing] = {}
    for check in checks:
        name = check.chain or chains[0].name
        if name not in named:
            raise ElimError(
                f"check '{check.id}': the file has no chain '{name}'", f"it has: {', '.join(named)}"
            )
        for prompt in chosen_prompts(check, prompts):
            old = found.get((prompt, name), Writing())
            found[prompt, name] = Writing(
                old.lengths | ({check.generate} if check.generate else set()),
                max(old.seeds, check.seeds if check.generate else 0),
                old.texts | ({check.text} if check.text else set()),
            )
    return [(prompt, named[name], writing) for (prompt, name), writing in found.items()]


def _walks(model: Model, prompt: Prompt, chain: Chain, writing: Writing) -> Rows:
    one = _plain(model, prompt)
    return [
        {"generate": length, "seed": seed, **_walk(model, one, chain, length, seed)}
        for length in sorted(writing.lengths)
        for seed in range(writing.seeds)
    ]


def _walk(model: Model, one: Encoded, chain: Chain, length: int, seed: int) -> Row:
    from elimtool.engine.walk import walk
    from elimtool.model.decode import end_ids

    try:
        tokens = [step.token for step in walk(model, one, chain, length, seed)]
    except ElimError:  # it outgrew the context
        return {"text": None, "n_written": None, "ended": None}
    ended = bool(tokens) and tokens[-1] in end_ids(model)
    spelled = b"".join(map(model.tokenizer.spell, tokens[:-1] if ended else tokens))
    return {"text": spelled.decode("utf-8", "replace"), "n_written": len(tokens), "ended": ended}


def _score(model: Model, prompt: Prompt, chain: Chain, text: str, target_space: str) -> Row:
    from elimtool.engine.forced import probability_of

    one = model.encode(replace(_bare(prompt), targets=(text,)), position=-1, target_space=target_space)
    (target,) = one.targets
    found: Row = {"text": text, "scored_as": target.spelling, "n_tokens": len(target.token_ids)}
    try:
        prob, alone = probability_of(model, _plain(model, prompt), chain, target.token_ids)
    except ElimError:
        return {**found, "prob": None, "model_prob": None}
    return {**found, "prob": prob, "model_prob": alone}


def _bare(prompt: Prompt) -> Prompt:
    return replace(prompt, targets=(), foils=(), spans=())


def _plain(model: Model, prompt: Prompt) -> Encoded:
    return model.encode(_bare(prompt), position=-1)
