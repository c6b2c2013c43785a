"""Measure just the tables that the checks of a file read."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elimtool.analysis.check.read import Checks
from elimtool.analysis.check.spec import Check
from elimtool.analysis.check.values import tables_of
from elimtool.errors import ElimError
from elimtool.model.lock import exclusive
from elimtool.model.source import ModelSource
from elimtool.model.wrapping import Bridge, wrap
from elimtool.prompts.prompt import Prompt
from elimtool.run.schema import UNTRACED
from elimtool.tasks.check.written import with_written

if TYPE_CHECKING:
    from elimtool.engine.options import TraceOptions
    from elimtool.model.interventions import Ablate
    from elimtool.model.model import Model
    from elimtool.run import Run


def load(
    checks: Checks,
    model: Model | Bridge | str | None,
    overrides: Mapping[str, Any],
    progress: Callable[[str], None] | None,
) -> Model:
    """Load the model that a check file is about.

    Args:
        checks: From ``read_checks``.
        model: A loaded model or a bridge, which is used as it is, or a name that overrides the file's.
        overrides: Fields of ``ModelSource`` that override the file's.
        progress: Called with a line of text when something slow begins.

    Raises:
        ElimError: The model cannot be loaded.
    """
    if model is None or isinstance(model, str):
        return source_of(checks, model, overrides).load(progress)
    return wrap(model) if isinstance(model, Bridge) else model


def source_of(checks: Checks, model: str | None, overrides: Mapping[str, Any]) -> ModelSource:
    """Say how to load the model of a check file; arguments as of ``load``."""
    spec = checks.file.model
    beside = checks.beside(spec.name)
    name = model if model is not None else str(beside) if beside.exists() else spec.name
    source = ModelSource(name, spec.revision, spec.dtype, spec.device)
    return replace(source, **overrides)


def options_of(checks: Checks, wanted: Collection[Check], batch_size: int) -> TraceOptions:
    """Choose what to measure for some checks.

    Raises:
        ElimError: A sampler chain, the lens or an intervention of the file is not valid.
    """
    from elimtool.engine.options import TraceOptions
    from elimtool.samplers import resolve

    for check in wanted:
        if command := checks.metrics[check.id].command:
            raise ElimError(
                f"{checks.path}:{checks.line(check)}: check '{check.id}' reads what elimtool {command} finds",
                f"give elimtool {command} the prompts and a directory, then judge that run with `run`",
            )
    read = tables_of(checks.metrics[check.id] for check in wanted)
    tables = tuple(name for name in read if name not in UNTRACED)
    chains = tuple(_beside(checks, chain) for chain in checks.file.samplers)
    for chain in chains:
        resolve(chain)
    return TraceOptions(
        position=_position(checks),
        samplers=chains,
        model_sampling=checks.file.model_sampling,
        lens=_lens(checks),
        sinks=checks.file.sinks,
        target_space=checks.file.target_space,
        tables=tables,
        rollout="rollout" in tables,
        batch_size=batch_size,
        interventions=tuple(_ablation(checks, index) for index in range(len(checks.file.model.ablate))),
        errors="row",
    )


def _ablation(checks: Checks, index: int) -> Ablate:
    from elimtool.model.interventions import Ablate

    try:
        return Ablate.parse(checks.file.model.ablate[index])
    except ElimError as error:
        where = checks.places.at(("model", "ablate", index))
        raise ElimError(f"{where}: {error.message}", error.hint) from error


def _lens(checks: Checks) -> str:
    """The lens, of a file beside the check file where it names one."""
    from elimtool.lenses.jacobian import SCHEME

    lens = checks.file.lens
    scheme = SCHEME if lens.startswith(SCHEME) else ""
    return scheme + _beside(checks, lens.removeprefix(scheme))


def _beside(checks: Checks, name: str) -> str:
    """The path of a file beside the check file, or the name as it is."""
    path = checks.beside(name)
    return str(path) if Path(name).suffix and path.is_file() else name


def _position(checks: Checks) -> Any:
    """The position that all checks of the file read, or ``all`` if they differ."""
    default = checks.file.defaults.position
    asked = {default if check.position is None else check.position for check in checks.file.checks}
    return asked.pop() if len(asked) == 1 else "all"


@exclusive
def measure(
    model: Model, prompts: Sequence[Prompt], options: TraceOptions, checks: Collection[Check] = ()
) -> Run:
    """Run the model once over all prompts; one that cannot be used becomes a row with its error.

    With interventions, only the pass under them is kept.

    Args:
        model: The model.
        prompts: The prompts.
        options: What to measure.
        checks: The checks that are judged, some of which may read what the model writes.
    """
    from elimtool.tasks.trace import trace

    run = trace(model, prompts, options=options)
    return with_written(model, run.under(run.interventions), prompts, options, checks)


@contextmanager
def threads(number: int | None) -> Iterator[None]:
    """Let torch use ``number`` threads within the context; ``None`` leaves them unchanged."""
    import torch

    before = torch.get_num_threads()
    if number is not None:
        torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
