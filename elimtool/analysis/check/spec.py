"""Define the contents of a check file as strict, frozen records."""

from __future__ import annotations

import re
from datetime import date
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from elimtool.errors import ElimError, nearest
from elimtool.prompts.chat import PINNED, check_time
from elimtool.prompts.position import check_position

AGGREGATIONS = ("mean", "min", "max", "median", "sum", "share", "first", "last")
QUANTILE = re.compile(r"p(\d{1,2}(?:\.\d+)?|100)")
CHOOSING = ("target", "foil", "chain", "stage", "span", "layers", "head", "component")
"""Keys of a check that choose rows."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def _texts(value: Any) -> Any:
    """Take one text for a list of one."""
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _layers(value: Any) -> Any:
    """Read ``12``, ``10-20``, ``last``, ``all`` or a list of layers; -1 is the embedding."""
    if isinstance(value, int) and not isinstance(value, bool):
        return (value,)
    if isinstance(value, str):
        if value in ("last", "all"):
            return value
        if found := re.fullmatch(r"\s*(-1|\d+)\s*-\s*(\d+)\s*", value):
            first, last = int(found[1]), int(found[2])
            if first > last:
                raise ValueError(f"the range {value} runs backwards: write {last}-{first}")
            return tuple(range(first, last + 1))
        if re.fullmatch(r"-1|\d+", value):
            return (int(value),)
        raise ValueError(f"'{value}' is not a layer: give 12, 10-20, a list such as [3, 5], last or all")
    return _tuple(value)


def _position(value: Any) -> Any:
    if isinstance(value, str):
        try:
            check_position(value, measured=True)
        except ElimError as error:
            raise ValueError(error.message) from error
    return value


def _now(value: Any) -> Any:
    """Take an unquoted date, which YAML reads as one, and refuse what is not ISO 8601."""
    text = value.isoformat() if isinstance(value, date) else value
    try:
        return check_time(text) if isinstance(text, str) else text
    except ElimError as error:
        raise ValueError(error.message) from error


def _pattern(value: Any) -> Any:
    try:
        re.compile(value if isinstance(value, str) else "")
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"'{value}' is not a regular expression: {error}") from error
    return value


def _aggregation(value: Any) -> Any:
    if not isinstance(value, str) or value in AGGREGATIONS or QUANTILE.fullmatch(value):
        return value
    raise ValueError(
        f"'{value}' is not an aggregation: {nearest(value, AGGREGATIONS)}, and quantiles such as p95"
    )


Texts = Annotated[tuple[str, ...], BeforeValidator(_texts, json_schema_input_type=str | list[str])]
Number = Annotated[float, Field(allow_inf_nan=False)]
Tolerance = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(gt=0, le=1)]
Layers = Annotated[
    tuple[int, ...] | Literal["last", "all"],
    BeforeValidator(_layers, json_schema_input_type=int | str | list[int]),
]
Aggregation = Annotated[str, BeforeValidator(_aggregation)]
Pattern = Annotated[str, BeforeValidator(_pattern)]
Index = Annotated[int, Field(ge=0)]
Query = Annotated[Index | str, BeforeValidator(_position)]
Id = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]


class ModelSpec(_Strict):
    """The model to run, with the options of the same names.

    Attributes:
        name: Catalogue name, hub id, directory (from the check file's folder) or .gguf file.
        revision: Branch, tag or commit of a hub id.
        dtype: Number type of the weights in memory.
        device: Where to run.
        ablate: Heads and MLPs to ablate: ``17.3``, ``mlp.12``, ``17.3 zero``.
    """

    name: str = "smollm2"
    revision: str | None = None
    dtype: Literal["float32", "bfloat16", "float16", "float64", "auto"] = "float32"
    device: str = "auto"
    ablate: Annotated[tuple[str, ...], BeforeValidator(_tuple)] = ()

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        """Take a text for the name of a model."""
        return {"name": value} if isinstance(value, str) else value


class Select(_Strict):
    """Which prompts a check is about; all keys given must match.

    Attributes:
        id: Ids of prompts; ``*`` stands for any characters.
        tag: Tags, of which a prompt must have one.
        group: Groups, of which a prompt must be in one.
        category: Categories, likewise.
    """

    id: Texts = ()
    tag: Texts = ()
    group: Texts = ()
    category: Texts = ()


class Condition(_Strict):
    """Condition that a value must meet to count for ``share``."""

    min: Number | None = None
    max: Number | None = None
    in_: Annotated[tuple[str, ...], BeforeValidator(_texts, json_schema_input_type=str | list[str])] = Field(
        (), alias="is"
    )
    contains: Texts = ()
    matches: Pattern | None = None


class Defaults(_Strict):
    """Settings of checks that do not give their own."""

    atol: Tolerance = 1e-4
    rtol: Tolerance = 1e-4
    mostly: Share = 1.0
    position: Query = "last"


class Check(_Strict):
    """One assertion about a metric of some prompts.

    Attributes:
        id: Name of the check, unique in the file.
        why: What breaks for users if it fails; shown with the failure.
        prompt: Ids of the prompts; short for ``select: {id: ...}``.
        select: Which prompts; all if neither is given.
        metric: A short name or ``table.column``.
        target: Continuation that the metric is about.
        foil: Continuation that the target is contrasted with.
        chain: Sampler chain.
        stage: Stage of the chain.
        span: Part of the prompt.
        layers: Layers: 12, 10-20, [3, 5], last, all; -1 is the embedding.
        rows: Values that other columns of the table must have, such as ``{part: <mlp>}`` of
            ``contributions`` or ``{metric: lens.logit, category: null}`` of an analysis.
        head: Query head.
        component: Component, such as ``17.3``, ``L17H3`` or ``mlp.5``.
        position: Query position: last (the last one probed), all, an index, or a list such as 4,7-9.
        agg: How to reduce several values to one: mean, min, max, median, sum, share, first, last, p95.
        where: With ``agg: share``, which values count; by default those that are true.
        scope: ``prompt``: one value per prompt; ``all``: one value of all prompts together.
        min: Smallest value that passes.
        max: Largest value that passes.
        is_: The value (or one of the values) that a text or a truth value must have.
        is_not: Values that a text must not have.
        contains: What a text must contain, all of it.
        matches: Regular expression that must match somewhere in a text.
        generate: Tokens to write, for ``written``.
        seeds: Texts to write, one for each of the seeds 0, 1, ...
        text: The text whose probability to be written is judged, for ``written_prob``.
        baseline: Compare with the baseline.
        atol: Absolute tolerance, in the metric's unit.
        rtol: Tolerance relative to the baseline; not used for integers.
        direction: Which change is a regression.
        mostly: Share of the prompts that must pass.
        allow_null: Let "could not be measured" pass a bound.
        k: Tokens that ``topk_overlap`` compares.
        tie: Nats below the k-th token within which a token still counts as one of the k first.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True)

    id: Id
    why: str = ""
    prompt: Texts = ()
    select: Select = Select()
    metric: str
    target: str | None = None
    foil: str | None = None
    chain: str | None = None
    stage: str | None = None
    span: str | None = None
    layers: Layers | None = None
    rows: dict[str, str | bool | int | float | None] = Field(default_factory=dict)
    head: Index | None = None
    component: str | None = None
    position: Query | None = None
    agg: Aggregation | None = None
    where: Condition | None = None
    scope: Literal["prompt", "all"] = "prompt"
    min: Number | None = None
    max: Number | None = None
    is_: Annotated[
        tuple[str, ...] | bool, BeforeValidator(_texts, json_schema_input_type=bool | str | list[str])
    ] = Field((), alias="is")
    is_not: Texts = ()
    contains: Texts = ()
    matches: Pattern | None = None
    generate: Annotated[int, Field(ge=1)] | None = None
    seeds: Annotated[int, Field(ge=1, le=10_000)] = 1
    text: Annotated[str, Field(min_length=1)] | None = None
    baseline: bool = False
    atol: Tolerance | None = None
    rtol: Tolerance | None = None
    direction: Literal["both", "decrease", "increase"] = "both"
    mostly: Share | None = None
    allow_null: bool = False
    k: Annotated[int, Field(ge=1, le=20)] = 10
    tie: Tolerance = 0.01


class CheckFile(_Strict):
    """A check file.

    Attributes:
        version: Version of the format.
        model: Model to run.
        prompts: A file of prompt records, or the records.
        samplers: Sampler chains: engines, files (from the check file's folder) or stages in one line.
        model_sampling: Whether engines' chains have the model's own settings laid over them.
        lens: Lens for layers before the last: raw, ridge or a file.
        sinks: Attention sinks: auto, none or positions such as ``0,5``.
        target_space: ``auto`` puts a space before a target where text would have one.
        template_vars: Variables of the chat template, such as enable_thinking.
        tools: Schemas of the tools that chats may call.
        now: Time that the chat template reads: an ISO date or time.
        baseline: File of the baseline, from the check file's folder.
        across: What may differ from the baseline's model: weights, tokenizer, dtype.
        defaults: Settings of checks that do not give their own.
        checks: The checks.
    """

    version: Literal[1]
    model: ModelSpec = ModelSpec()
    prompts: str | tuple[dict[str, Any], ...] | None = None
    samplers: Texts = ("llama.cpp", "hf", "vllm")
    model_sampling: bool = True
    lens: str = "raw"
    sinks: str = "auto"
    target_space: Literal["auto", "exact"] = "auto"
    template_vars: dict[str, Any] = Field(default_factory=dict)
    tools: Annotated[tuple[dict[str, Any], ...], BeforeValidator(_tuple)] = ()
    now: Annotated[str, BeforeValidator(_now)] = PINNED
    baseline: str | None = None
    across: Annotated[tuple[Literal["weights", "tokenizer", "dtype"], ...], BeforeValidator(_texts)] = ()
    defaults: Defaults = Defaults()
    checks: Annotated[tuple[Check, ...], BeforeValidator(_tuple), Field(min_length=1)]

    @model_validator(mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        """Turn prompts given in place into a tuple."""
        if isinstance(value, dict) and isinstance(value.get("prompts"), list):
            return {**value, "prompts": tuple(value["prompts"])}
        return value
