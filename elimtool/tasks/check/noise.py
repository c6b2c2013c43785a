"""Measure the noise floor of checks over batch sizes, threads and padding."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elimtool.analysis.check.gate import readings_of, select_checks
from elimtool.analysis.check.identity import identity_of
from elimtool.analysis.check.noise import Noise, floor_of, noise_path, write_noise
from elimtool.analysis.check.read import read_checks
from elimtool.errors import ElimError
from elimtool.prompts.chat import PLAIN, ChatSettings
from elimtool.prompts.prompt import Prompt
from elimtool.tasks.check import measure
from elimtool.tasks.check.api import only_prompts
from elimtool.tasks.check.prompts import prompts_of
from elimtool.tasks.check.tables import brought

if TYPE_CHECKING:
    from elimtool.analysis.check.spec import Check
    from elimtool.engine.options import TraceOptions
    from elimtool.model.model import Model
    from elimtool.run import Run

FILLER = "The text goes on and on, and none of it is about the question. "
FILLER_TOKENS = 200
"""Approximate length of the text beside which prompts are padded."""


def measure_noise(
    checks: str | Path,
    *,
    model: Model | str | None = None,
    only: Collection[str] = (),
    baseline: str | Path | None = None,
    chat: ChatSettings = PLAIN,
    model_sampling: bool | None = None,
    progress: Callable[[str], None] | None = None,
    **loading: Any,
) -> tuple[Path, Noise]:
    """Measure how far each check's values drift, and write it beside the baseline.

    Args:
        checks: The check file.
        model: A loaded model, or a name that overrides the file's.
        only: Ids of the checks; empty for all.
        baseline: File of the baseline, instead of the check file's.
        chat: What chat templates are given, over what the check file says.
        model_sampling: As for ``run_checks``.
        progress: Called with a line of text when something slow begins.
        loading: Other arguments of ``load_model``.

    Returns:
        The path of the file written, and its contents.

    Raises:
        ElimError: As ``run_checks``; or the check file names no baseline.
    """
    read = read_checks(checks, model_sampling=model_sampling, others=brought)
    path = Path(baseline) if baseline else read.baseline
    if path is None:
        raise ElimError(
            f"{read.path}:1: the noise floor is written beside the baseline, and the file names none"
        )
    wanted = select_checks(read, only)
    prompts = prompts_of(read, wanted, chat)
    options = measure.options_of(read, wanted, 1)
    loaded = measure.load(read, model, loading, progress)
    reference = measure.measure(loaded, prompts, options, wanted)
    before = readings_of(read, reference, wanted)
    after = []
    for name, run in variants(loaded, prompts, options, wanted):
        if progress is not None:
            progress(f"measuring drift: {name}")
        after.append((name, readings_of(read, run, wanted)))
    floors = {
        check.id: floor_of(before[check.id], [(name, found[check.id]) for name, found in after])
        for check in wanted
    }
    facts = identity_of(reference.manifest, read.file.target_space)
    noise = Noise(facts, tuple(name for name, _ in after), floors)
    write_noise(noise_path(path), noise)
    return noise_path(path), noise


def variants(
    model: Model, prompts: Sequence[Prompt], options: TraceOptions, checks: Collection[Check] = ()
) -> Iterator[tuple[str, Run]]:
    """Measure the same prompts under changes that should not matter."""
    for size in (2, 8, 32):
        if size == 2 or size < 4 * len(prompts):  # much larger ones repeat one batch of all
            yield (
                f"batch size {size}",
                measure.measure(model, prompts, replace(options, batch_size=size), checks),
            )
    for number in (1, 2, 4):
        with measure.threads(number):
            run = measure.measure(model, prompts, replace(options, batch_size=8), checks)
        yield f"batch size 8, {number} thread{'s' if number > 1 else ''}", run
    yield "padding", _padded(model, prompts, options, checks)


def _padded(model: Model, prompts: Sequence[Prompt], options: TraceOptions, checks: Collection[Check]) -> Run:
    """Measure each prompt in a batch with a long text, so that most of its row is padding."""
    # a sentence of the filler has about 16 tokens
    words = FILLER_TOKENS if model.context is None else min(FILLER_TOKENS, model.context // 2)
    text = FILLER * (words // 16 + 1)
    mixed: list[Prompt] = []
    for number, prompt in enumerate(prompts):
        mixed += [prompt, Prompt(text=f"{number} {text}", id=f"<filler {number}>", tags=("<filler>",))]
    run = measure.measure(model, mixed, replace(options, batch_size=2), checks)
    ids = run.arrow("prompts").column("prompt_id").to_pylist()
    return only_prompts(run, [name for name in ids if not name.startswith("<filler ")])
