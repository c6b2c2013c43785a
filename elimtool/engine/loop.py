"""Prompts in, a run out: encodes, batches, streams layers past the metrics, reads out, fills tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from elimtool.engine.follow import Leaders, follow
from elimtool.engine.intake import ask, batches, fingerprint, refuse_duplicates
from elimtool.engine.intervening import changed, described
from elimtool.engine.records import arrow_table, concatenate, manifest, prompt_rows
from elimtool.engine.walk import walk_tables
from elimtool.errors import ElimError, nearest
from elimtool.lenses.find import check_choice, open_lens
from elimtool.lenses.lens import Lens
from elimtool.lenses.ridge import RidgeLens
from elimtool.metrics import METRICS
from elimtool.metrics.metric import Followed, Metric, ReadoutView, Settings
from elimtool.model.encode import Position
from elimtool.model.interventions import Intervention, label
from elimtool.model.memory import collecting_later, returning_large
from elimtool.model.view import Batch, Encoded, LayerView
from elimtool.numerics import kernels
from elimtool.numerics.shapes import shapes
from elimtool.prompts.prompt import Prompt
from elimtool.run.selection import HEADS, Selection, refuse_unfitted, select
from elimtool.samplers import Chain, resolve

if TYPE_CHECKING:
    import pyarrow as pa

    from elimtool.model.model import Model
    from elimtool.run.reader import Run

DEFAULT_SAMPLERS = ("llama.cpp", "hf", "vllm")


@dataclass(frozen=True, slots=True)
class TraceOptions:
    """What to measure and how; the same for every prompt of a run.

    Attributes:
        position: Query tokens to probe: ``last``, ``all`` or an index from 0.
        samplers: Sampler chains: preset names, YAML files or inline chains.
        lens: How layers before the last are read out: ``auto`` (the model's fitted lens if there is one, else
            raw), ``raw``, ``ridge``, a file of ``elimtool lens fit`` or a tuned-lens folder.
        sinks: Attention-sink set: ``auto``, ``none`` or positions such as ``0,5``.
        target_space: ``auto`` or ``exact``, see ``elimtool.model.targets.spaced``.
        heads: Whether to fill the tables of single heads (``selection.HEADS``); ``None`` means unless
            every position is probed, and where ``tables`` names one of them.
        tables: Tables to fill, see ``elimtool.run.selection``; ``None`` for all.
        generate: Tokens to write after each prompt through ``chain``; 0 for no walk.
        chain: Which of ``samplers`` the walk goes through; ``None`` for the first.
        seed: Seeds the walk's draws, and which components ``confirm`` compares with.
        interventions: Done to the model, together, in a second pass over every prompt.
        confirm: Whether to test the verdicts' culprits by ablation, see ``elimtool.tasks.confirm``.
        batch_size: Prompts in one forward pass at most.
        errors: ``raise`` the first bad prompt, or keep it as a ``row`` with its error.
    """

    position: Position = "last"
    samplers: tuple[str, ...] = DEFAULT_SAMPLERS
    lens: str = "auto"
    sinks: str = "auto"
    target_space: Literal["auto", "exact"] = "auto"
    heads: bool | None = None
    tables: tuple[str, ...] | None = None
    generate: int = 0
    chain: str | None = None
    seed: int = 0
    interventions: tuple[Intervention, ...] = ()
    confirm: bool = False
    batch_size: int = 8
    errors: Literal["raise", "row"] = "raise"

    def __post_init__(self) -> None:
        check_choice(self.lens)
        if self.target_space not in ("auto", "exact"):
            raise ElimError(f"--target-space '{self.target_space}' is not valid", "give auto or exact")
        if isinstance(self.position, str) and self.position not in ("last", "all"):
            raise ElimError(
                f"--position '{self.position}' is not valid", "give last, all, or an index from 0"
            )
        if self.generate < 0:
            raise ElimError(f"--generate {self.generate} is not valid", "give the number of tokens to write")
        if self.chain is not None and self.chain not in self.samplers:
            raise ElimError(
                f"--chain '{self.chain}' is none of the samplers", nearest(self.chain, self.samplers)
            )
        if self.generate and not self.samplers:
            raise ElimError("--generate needs a sampler chain to draw through", "give one with --samplers")
        if self.batch_size < 1:
            raise ElimError(f"batch size {self.batch_size} is not valid", "give at least 1")
        if self.generate and self.interventions:
            raise ElimError(
                f"--generate cannot be combined with {self.interventions[0]}",
                "interventions act on the prompt's own pass; trace the written text as a prompt",
            )
        if self.confirm and not (self.single_heads and "verdicts" in self.selection().kept):
            without = "--heads" if not self.single_heads else "the table verdicts"
            raise ElimError(f"--confirm needs {without}", "it tests the components that the verdicts name")
        self.selection()

    def selection(self) -> Selection:
        """The tables that the options come to."""
        return select(
            self.tables, heads=self.single_heads, walk=self.generate > 0, intervened=bool(self.interventions)
        )

    @property
    def single_heads(self) -> bool:
        """Whether single heads are looked at."""
        named = not HEADS.isdisjoint(self.tables or ())
        return (self.position != "all" or named) if self.heads is None else self.heads


def measure(
    model: Model,
    prompts: str | Prompt | Iterable[str | Prompt],
    *,
    targets: Sequence[str] = (),
    foils: Sequence[str] = (),
    options: TraceOptions | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Run:
    """Measure what ``elimtool.trace`` judges: arguments, result and errors as there, without verdicts."""
    from elimtool.run import Run
    from elimtool.run.manifest import utc_now

    started = utc_now()
    options = options or TraceOptions()
    lens, named = open_lens(options.lens, model)
    settings = settings_for(model, options, lens)
    asked = ask(prompts, targets, foils)
    for intervention in options.interventions:  # before prompts are fitted: the model may lack the place
        intervention.check(model)
    encoded = [_encode(model, prompt, options) for prompt in asked]
    refuse_duplicates(encoded)
    tables: dict[str, list[pa.Table]] = {"prompts": [arrow_table("prompts", prompt_rows(asked, encoded))]}
    usable = [one for one in encoded if isinstance(one, Encoded)]
    probed = sum(len(one.positions) for one in usable)
    large = kernels.worth(model.vocab, probed * (model.n_layers + 1))
    settings = replace(settings, compiled=large and model.device.type == "cpu")
    under = changed(model, options.interventions)
    later: dict[str, list[pa.Table]] = {}
    done, leaders = 0, Leaders()
    for some in batches(usable, options.batch_size):
        for name, table in run_batch(model, some, settings, lens, leaders).items():
            tables.setdefault(name, []).append(table)
        if under is not None:
            for name, table in run_batch(under, some, settings, lens, leaders).items():
                later.setdefault(name, []).append(table)
        done += len(some)
        if progress is not None:
            progress(done, len(usable))
    if options.generate:
        written = written_through(settings, options)
        for one in usable:
            for name, columns in walk_tables(model, one, written, options.generate, options.seed).items():
                tables.setdefault(name, []).append(arrow_table(name, columns))
    config = {**asdict(options), "lens": named, "prompts_sha256": fingerprint(asked)}
    config["compiled"] = settings.compiled
    config |= described(options.interventions, under, usable)
    whole = {name: concatenate(parts + later.get(name, [])) for name, parts in tables.items()}
    return Run.from_tables(manifest(model, config, settings.chains, started), whole)


def settings_for(model: Model, options: TraceOptions, lens: Lens) -> Settings:
    """What the metrics of a run obey: its chains, heads, tables and reference set.

    Raises:
        ElimError: A chain cannot be resolved, or a table needs a fitted lens and there is none.
    """
    reference = lens.reference if isinstance(lens, RidgeLens) else None
    if reference is None:
        refuse_unfitted(options.tables, model.name)
    chains = tuple(chain_for(model, spec) for spec in options.samplers)
    return Settings(chains, options.single_heads, options.selection().measured, reference)


def written_through(settings: Settings, options: TraceOptions) -> Chain:
    """The chain that a walk goes through."""
    return settings.chains[options.samplers.index(options.chain) if options.chain else 0]


def run_batch(
    model: Model,
    encoded: Sequence[Encoded],
    settings: Settings,
    lens: Lens,
    leaders: Leaders | None = None,
) -> Mapping[str, pa.Table]:
    """One forward pass: the metrics' tables for some encoded prompts, those that ``settings`` wants.

    Args:
        model: The model, under interventions or not.
        encoded: The prompts.
        settings: What the metrics obey.
        lens: How layers are read out.
        leaders: Tokens that an earlier pass followed, see ``elimtool.engine.follow.follow``.
    """
    with collecting_later():
        return _run_batch(model, encoded, settings, lens, leaders)


def _run_batch(
    model: Model,
    encoded: Sequence[Encoded],
    settings: Settings,
    lens: Lens,
    leaders: Leaders | None,
) -> Mapping[str, pa.Table]:
    batch = Batch.of(encoded, model.device)
    metrics = [made(batch, settings) for made in METRICS.values() if any(map(settings.wants, made.tables))]
    if not metrics:
        return {}
    needs = frozenset[str]().union(*(metric.needs for metric in metrics))
    prompt, probe = batch.rows
    kept: list[Tensor] = []

    def observe(view: LayerView) -> None:
        kept.append(view.residual[prompt, probe])
        for metric in metrics:
            metric.observe(view)

    with returning_large(max(len(one.token_ids) for one in encoded)):
        model.stream(batch, needs, observe)
    if any(type(metric).read is not Metric.read for metric in metrics):
        with torch.inference_mode():
            _read_out(model, batch, torch.stack(kept), lens, metrics, settings, leaders)
    filled: dict[str, pa.Table] = {}
    for metric in metrics:
        for name, columns in metric.finish().items():
            if columns and settings.wants(name):
                filled[name] = arrow_table(name, columns, label(model.interventions))
    return filled


def _read_out(
    model: Model,
    batch: Batch,
    residuals: Float[Tensor, "layers rows width"],
    lens: Lens,
    metrics: Sequence[Metric],
    settings: Settings,
    leaders: Leaders | None,
) -> None:
    """Read the probed residuals out in chunks of rows, all layers of a row at once.

    Chunks take each other's memory: a metric keeps none of the logits that it was shown.
    """
    n_layers, n_rows, _ = residuals.shape
    chunk = max(1, settings.readout_bytes // (n_layers * model.vocab * 4))
    room = None
    if model.dtype == torch.float32 and model.device.type == "cpu":
        # numpy asks the system for large pages, torch for many small ones
        room = torch.from_numpy(np.empty((n_layers * min(chunk, n_rows), model.vocab), dtype=np.float32))
    for start in range(0, n_rows, chunk):
        part = residuals[:, start : start + chunk]
        carried = [lens.to_final(part[i], i - 1) for i in range(n_layers - 1)]
        read = model.readout(torch.cat([*carried, part[-1]]), room)
        logits = read.reshape(n_layers, -1, read.shape[-1])
        rows = tuple(index[start : start + chunk] for index in batch.rows)
        view = _view(model, batch, (rows[0], rows[1]), logits, lens.name, part[-1], settings, leaders)
        for metric in metrics:
            metric.read(view)


def _view(
    model: Model,
    batch: Batch,
    rows: tuple[Tensor, Tensor],
    logits: Float[Tensor, "layers rows vocab"],
    lens: str,
    final: Float[Tensor, "rows width"],
    settings: Settings,
    leaders: Leaders | None,
) -> ReadoutView:
    shape, output = shapes(logits, settings.compiled), torch.log_softmax(logits[-1], -1)
    joint = settings.wants("survival")  # the one table that has it
    followed: Followed = follow(model, batch, rows, output, shape.top, leaders, joint=joint)
    return ReadoutView(
        batch,
        rows,
        lens,
        logits,
        shape,
        output,
        followed,
        lambda token: model.tokenizer.texts([token])[0],
        lambda tokens, some: model.directions(final[some], tokens, logits[-1, some]),
        model.readout,
    )


def encode_all(model: Model, asked: Sequence[Prompt], options: TraceOptions) -> list[Encoded]:
    """The prompts that can be used, as ``measure`` sees them."""
    encoded = [_encode(model, prompt, options) for prompt in asked]
    return [one for one in encoded if isinstance(one, Encoded)]


def chain_for(model: Model, spec: str) -> Chain:
    """A sampler chain, with the strings that DRY stops at turned into this model's tokens."""
    chain = resolve(spec)
    if not any(stage.kind == "dry" and not stage.is_off() for stage in chain.stages):
        return chain
    backend = model.tokenizer.backend
    pieces = model.tokenizer.texts(range(len(backend)))
    return chain.with_vocabulary(pieces, lambda text: backend(text, add_special_tokens=False).input_ids)


def _encode(model: Model, prompt: Prompt, options: TraceOptions) -> Encoded | ElimError:
    try:
        one = model.encode(
            prompt, position=options.position, sinks=options.sinks, target_space=options.target_space
        )
        for intervention in options.interventions:
            intervention.fits(one)
        return one
    except ElimError as error:
        if options.errors == "raise":
            raise
        return error
