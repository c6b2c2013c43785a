"""Decide which kind of comparison the arguments of ``elimtool compare`` ask for."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from elimtool.cli.compare_prompts import OF_ONE_PAIR, OF_PAIRS
from elimtool.cli.speculating import OF_MODELS
from elimtool.errors import ElimError


class ComparisonKind(Enum):
    """Kinds of comparisons."""

    SAVED = "a saved comparison"
    RUNS = "two runs"
    RUN_CHAINS = "two chains of a run"
    CHAINS = "two chains"
    MODELS = "two models"
    PROMPTS = "two prompts"
    FILES = "two prompt files"
    MAPS = "two maps"


WITHOUT_MODEL = frozenset(
    {ComparisonKind.SAVED, ComparisonKind.RUNS, ComparisonKind.RUN_CHAINS, ComparisonKind.MAPS}
)
"""Kinds that read what is on disk."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Arguments that say what is compared.

    Attributes:
        sides: Directories and files, in order.
        prompts: ``--prompt``.
        models: ``-m``.
        dtypes: ``--dtype``.
        quantize: ``--quantize``.
        samplers: ``--samplers``.
    """

    sides: tuple[Path, ...] = ()
    prompts: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ()
    quantize: tuple[str, ...] = ()
    samplers: tuple[str, ...] = ()

    @property
    def two_models(self) -> bool:
        """Whether two models, or one model in two number types or quantised and not, are compared."""
        return 2 in (len(self.models), len(self.dtypes), len(self.quantize))


ANYWHERE = {"sides", "out", "overwrite", "as_json", "quiet", "config"}
OF_TABLES = ANYWHERE | {"position", "seed", "intervened"}
"""Parameters for runs that are read, without running a model."""

WAYS = (
    "give two runs, a prompt file with two -m or two --samplers, a run with two --samplers, or two --prompt;"
    " see elimtool compare --help"
)


def form_of(asked: Asked, given: Collection[str]) -> ComparisonKind:
    """Find the kind of comparison.

    Args:
        asked: Arguments that say what is compared.
        given: Names of all parameters given on the command line.

    Raises:
        ElimError: A side is missing, there are more than two, or options contradict each other.
    """
    for name, values in (
        ("-m", asked.models),
        ("--dtype", asked.dtypes),
        ("--quantize", asked.quantize),
        ("--prompt", asked.prompts),
    ):
        if len(values) > 2:
            raise ElimError(f"{name} may be given twice, got {len(values):,}", "a comparison has two sides")
    if len(asked.sides) > 2:
        raise ElimError(f"{len(asked.sides):,} runs or files are given", "a comparison has two sides")
    if asked.sides and asked.prompts:
        raise ElimError(f"--prompt and {asked.sides[0]} were both given", "leave one of the two out")
    directories = [path for path in asked.sides if path.is_dir()]
    if directories and len(directories) < len(asked.sides):
        other = next(path for path in asked.sides if path not in directories)
        what = "is a file" if other.exists() else "does not exist"
        raise ElimError(f"{directories[0]} is a directory and {other} {what}", WAYS)
    form = _of_directories(asked) if directories else _of_prompts(asked)
    _refuse_ignored(form, given)
    return form


def _of_directories(asked: Asked) -> ComparisonKind:
    """Kind of a comparison of two runs, of one run, or of a saved comparison."""
    from elimtool.run.comparison import is_comparison

    saved = [path for path in asked.sides if is_comparison(path)]
    if saved and len(asked.sides) == 1:
        return ComparisonKind.SAVED
    if saved:
        raise ElimError(
            f"{saved[0]} is a comparison, not a run", f"elimtool compare {saved[0]} alone prints it again"
        )
    if len(asked.sides) == 2:
        return _of_two_runs(asked.sides)
    if len(asked.samplers) == 2:
        return ComparisonKind.RUN_CHAINS
    raise ElimError(
        f"there is only one side to compare: {asked.sides[0]}",
        "give another run, or two of its chains: --samplers A --samplers B",
    )


def _of_two_runs(sides: tuple[Path, ...]) -> ComparisonKind:
    """Two maps are compared as such; a map and a run of prompts are refused."""
    from elimtool.analysis.compare.runs import opened

    maps = [path for path in sides if opened(path).is_map]
    if len(maps) == 1:
        other = next(path for path in sides if path not in maps)
        raise ElimError(f"{maps[0]} is a map and {other} is not", "give two maps, or two runs of prompts")
    return ComparisonKind.MAPS if maps else ComparisonKind.RUNS


def _of_prompts(asked: Asked) -> ComparisonKind:
    """Kind of a comparison of prompts on the command line or in files."""
    count = len(asked.prompts) or len(asked.sides)
    if not count:
        raise ElimError("there is nothing to compare", WAYS)
    if count == 2 and asked.two_models:
        raise ElimError(
            "two prompts and two models were both given", "compare one pair at a time: leave one of them out"
        )
    if count == 2:
        return ComparisonKind.PROMPTS if asked.prompts else ComparisonKind.FILES
    if asked.two_models:
        return ComparisonKind.MODELS
    if len(asked.samplers) == 2:
        return ComparisonKind.CHAINS
    what = "one prompt" if asked.prompts else str(asked.sides[0])
    raise ElimError(f"there is only one side to compare: {what}", WAYS)


def _refuse_ignored(form: ComparisonKind, given: Collection[str]) -> None:
    """Refuse parameters that this kind of comparison would ignore."""
    used = {
        ComparisonKind.SAVED: ANYWHERE,
        ComparisonKind.RUNS: OF_TABLES,
        ComparisonKind.MAPS: ANYWHERE,
        ComparisonKind.RUN_CHAINS: (OF_TABLES - {"intervened"}) | {"samplers"},
    }.get(form)
    others = {ComparisonKind.PROMPTS: frozenset[str](), ComparisonKind.FILES: OF_ONE_PAIR}.get(form, OF_PAIRS)
    wrong = "`{}` does not go with " + form.value
    for name in given:
        if used is not None:
            if name not in used:
                raise ElimError(wrong.format(name), f"leave it out; {form.value} need no model")
        elif name in OF_MODELS and form is not ComparisonKind.MODELS:
            raise ElimError(wrong.format(name), "give two models: -m DRAFT -m TARGET")
        elif name in others:
            files = form is ComparisonKind.FILES
            hint = "write it in their records" if files else "leave it out; two prompts take it"
            raise ElimError(wrong.format(name), hint)
        elif name == "intervened":
            raise ElimError(
                "`intervened` goes with two runs", "trace with interventions, and compare the runs"
            )
