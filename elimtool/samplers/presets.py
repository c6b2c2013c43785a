"""Build the chain that a text names: a preset, a file or stages inline."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from elimtool.errors import ElimError, nearest
from elimtool.files.package import shipped_configs
from elimtool.samplers.chain import Chain
from elimtool.samplers.chain_file import StageEntry, read_chain
from elimtool.samplers.grammar import Grammar
from elimtool.samplers.inline import assignments
from elimtool.samplers.limits import check_limit, checked
from elimtool.samplers.shipped import USER, Shipped, lay_over, parted, wanted
from elimtool.samplers.stage import Stage, parameters
from elimtool.samplers.stages import STAGES
from elimtool.samplers.values import fitted
from elimtool.version import __version__

PRESETS = shipped_configs("samplers")

ALIASES: dict[str, tuple[str, str]] = {
    "temp": ("temperature", "temperature"),
    "dynatemp_range": ("dynamic_temperature", "delta"),
    "dynatemp_exponent": ("dynamic_temperature", "exponent"),
    "repetition_penalty": ("penalties", "repetition"),
    "repeat_penalty": ("penalties", "repetition"),
    "rep_pen": ("penalties", "repetition"),
    "presence_penalty": ("penalties", "presence"),
    "frequency_penalty": ("penalties", "frequency"),
    "repeat_last_n": ("penalties", "last_n"),
    "typical_p": ("typical", "mass"),
    "epsilon_cutoff": ("epsilon", "epsilon"),
    "eta_cutoff": ("eta", "epsilon"),
    "tfs": ("tail_free", "z"),
    "xtc_probability": ("xtc", "probability"),
    "xtc_threshold": ("xtc", "threshold"),
    "smoothing_factor": ("quadratic", "factor"),
    "smoothing_curve": ("quadratic", "curve"),
    "adaptive_target": ("adaptive_p", "target"),
    "adaptive_decay": ("adaptive_p", "decay"),
    "no_repeat_ngram_size": ("no_repeat_ngram", "n"),
    "bad_words_ids": ("bad_words", "words"),
    "allowed_token_ids": ("allowed_tokens", "tokens"),
    "suppress_tokens": ("suppress", "tokens"),
    "encoder_repetition_penalty": ("encoder_repetition", "penalty"),
    "banned_tokens": ("soft_ban", "words"),
    "banned_strings": ("soft_ban", "words"),
    "ban_eos_token": ("soft_ban", "ends"),
    "ignore_eos": ("logit_bias", "ends"),
    "custom_token_bans": ("logit_bias", "bans"),
    "guidance_scale": ("guidance", "scale"),
    "renormalize_logits": ("renormalize", "on"),
    "remove_invalid_values": ("remove_invalid", "on"),
    "dry_multiplier": ("dry", "multiplier"),
    "dry_base": ("dry", "base"),
    "dry_allowed_length": ("dry", "allowed_length"),
    "dry_last_n": ("dry", "last_n"),
}
"""Names that engines use, allowed in inline chains, and the stage and parameter that they mean."""

OF_KIND = "stage"
"""What stands behind a name in an inline chain that is given to a stage: ``first.stage=top_k``."""

ELSEWHERE: dict[str, tuple[str, str]] = {
    "ban_eos_token": ("suppress", "ends"),
    "custom_token_bans": ("suppress", "tokens"),
}
"""What such a name means in a chain that lacks the stage above: text-generation-webui's are others'."""


def preset_names() -> list[str]:
    """List the names of the presets, sorted."""
    return list(_preset_names())


@cache
def _preset_names() -> tuple[str, ...]:
    """List them once: every chain that a text names is looked for among them, some times over."""
    return tuple(sorted(p.stem for p in PRESETS.glob("*.yaml")))


def resolve(
    spec: str | Chain | Stage, shipped: Shipped | None = None, grammar: Grammar | None = None
) -> Chain:
    """Build the chain that a text names.

    Args:
        spec: A chain, which stays as it is; a stage, which becomes a chain of that name; or a text: a preset
            (``llama.cpp``), a preset with other parameters (``llama.cpp:temperature=0,top_k=10``), either
            with ``@model`` behind the preset's name (the settings that the model ships with must be there to
            be laid over it) or ``@FOLDER`` (those of that folder's ``generation_config.json``), the path of a
            chain file, or stages in order (``top_k=40,top_p=0.95,temperature=0.8``). A parameter is
            ``stage=value`` for the stage's main parameter, ``stage.parameter=value``, or a name that engines
            use (``repetition_penalty``). A stage that is there a second time gets a name of its own:
            ``first.stage=top_k,first=3000``.
        shipped: Settings that the model ships with, by file and key; a preset has them laid over it as its
            engine does, under what the text says. None for the bare preset.
        grammar: A grammar for the chain: where its engine has one, else first; one that the chain names
            itself wins.

    Raises:
        ElimError: The text names nothing, or a stage, parameter or value is not valid; the message lists
            valid ones.
    """
    return _with_grammar(_with_fallbacks(_resolved(spec, shipped)), grammar).without_idle()


def _resolved(spec: str | Chain | Stage, shipped: Shipped | None) -> Chain:
    if isinstance(spec, Chain):
        return spec
    if isinstance(spec, Stage):
        return Chain(spec.name, stages=(spec,))
    text = spec.strip()
    head, colon, rest = text.partition(":")
    preset, where, _ = parted(text)
    if preset in preset_names():
        chain = _preset(preset)
        chain = lay_over(chain, wanted(chain, where, shipped), _override)
        chain = _override(chain, assignments(rest, text), text, USER) if colon else chain
        return chain if chain.name == text else replace(chain, name=text)
    if text.endswith((".yaml", ".yml")) or _is_file(text):
        return _from_file(Path(text), Path(text).stem, ())
    if "=" in text and not (colon and "=" not in head):
        return _inline(text)
    if text in STAGES:
        return Chain(text, "elimtool", __version__, (_build(text, {}, ""),))
    word = head if colon else text
    raise ElimError(
        f"unknown sampler chain '{word}'",
        nearest(word, preset_names()) + "; or a .yaml file, or stage=value,...",
    )


def check_speculative(spec: str | Chain | Stage, shipped: Shipped | None = None) -> None:
    """Refuse a chain that its engine refuses while a draft model proposes tokens.

    Raises:
        ElimError: The engine refuses a value; the message names it.
    """
    chain = resolve(spec, shipped)
    for name, allowed in chain.speculative_limits:
        index, parameter = _find(list(chain.stages), name, chain.name)
        check_limit(
            f"{chain.engine} with a draft model", name, allowed, getattr(chain.stages[index], parameter)
        )


def _with_fallbacks(chain: Chain) -> Chain:
    """Set what the engine sets by itself."""
    for name, others, changes in chain.fallbacks:
        on = {stage.name: not stage.is_off() for stage in chain.stages}
        if on.get(name) and not any(on.get(other) for other in others):
            chain = _override(chain, dict(changes), chain.name, f"{chain.engine}, for {name}")
    return chain


def has_grammar(spec: str | Chain | Stage) -> bool:
    """Return whether the chain that a text names has a grammar of its own."""
    if isinstance(spec, str):
        preset, _, changes = parted(spec)
        if preset in preset_names():  # what a model ships with adds no grammar
            spec = f"{preset}:{changes}" if changes else preset
    return any(isinstance(one, Grammar) and not one.is_off() for one in resolve(spec).stages)


def _with_grammar(chain: Chain, grammar: Grammar | None) -> Chain:
    """Put a grammar where a chain has its place for one, or before all stages."""
    if grammar is None:
        return chain
    place = next((index for index, one in enumerate(chain.stages) if isinstance(one, Grammar)), None)
    if place is None:
        return replace(chain, stages=(grammar, *chain.stages))
    own = chain.stages[place]
    if not own.is_off():
        return chain
    given = {f.name: getattr(grammar, f.name) for f in parameters(Grammar) if f.name not in ("mode", "eos")}
    stages = (*chain.stages[:place], replace(own, **given), *chain.stages[place + 1 :])
    return replace(chain, stages=stages)


def _is_file(text: str) -> bool:
    """Return whether a text is the path of a file; one of thousands of token ids is too long for a path."""
    try:
        return Path(text).is_file()
    except OSError:
        return False


@lru_cache
def _preset(name: str) -> Chain:
    """Build the chain of a preset; its file is read once."""
    return _from_file(PRESETS / f"{name}.yaml", name, ())


def _from_file(path: Path, name: str, seen: tuple[Path, ...]) -> Chain:
    """Build the chain of a file, following ``base``."""
    if path.resolve() in seen:
        raise ElimError(f"chain file {path} is its own base")
    entry = read_chain(path)
    if entry.base:
        chain = _base(entry.base, path, (*seen, path.resolve()))
        chain = _in_order(chain, entry.order, path) if entry.order else chain
        if entry.set:
            chain = _override(chain, {str(k): v for k, v in entry.set.items()}, f"{path}: set")
    else:
        stages = tuple(_entry(e, path) for e in entry.stages)
        chain = Chain(name, entry.engine or "elimtool", entry.version or __version__, stages)
        optional = tuple(s.name for s, e in zip(stages, entry.stages, strict=True) if e.optional)
        chain = replace(chain, optional=optional)
    return _within_limits(
        chain,
        name=name,
        engine=entry.engine or chain.engine,
        version=entry.version or chain.version,
        precision=entry.precision or chain.precision,
        accumulation=entry.accumulation or chain.accumulation,
        sources=entry.sources or chain.sources,
        limits=checked(entry.limits) or chain.limits,
        speculative_limits=checked(entry.speculative_limits) or chain.speculative_limits,
        fallbacks=tuple((one.where, one.without, tuple(one.set.items())) for one in entry.fallbacks)
        or chain.fallbacks,
        settings_file=entry.model_settings.file or chain.settings_file,
        settings=tuple(entry.model_settings.keys.items()) or chain.settings,
    )


def _in_order(chain: Chain, order: tuple[str, ...], path: Path) -> Chain:
    """Put the stages of a chain in another order, which must name each once."""
    known = {stage.name: stage for stage in chain.stages}
    if sorted(order) != sorted(known):
        wrong = sorted({*order} ^ {*known}) or sorted(order)
        raise ElimError(f"{path}: order must name each stage of the base once", f"look at {', '.join(wrong)}")
    return replace(chain, stages=tuple(known[name] for name in order))


def _within_limits(chain: Chain, **changes: Any) -> Chain:
    """Change a chain, and refuse parameters that its engine refuses."""
    changed = replace(chain, **changes)
    for name, allowed in changed.limits:
        index, parameter = _find(list(changed.stages), name, changed.name)
        check_limit(changed.engine, name, allowed, getattr(changed.stages[index], parameter))
    return changed


def _base(base: str, path: Path, seen: tuple[Path, ...]) -> Chain:
    """Build the chain that a file starts from: a preset, or a file in the same folder."""
    if base in preset_names():
        return _from_file(PRESETS / f"{base}.yaml", base, seen)
    beside = path.parent / base
    if beside.is_file():
        return _from_file(beside, beside.stem, seen)
    raise ElimError(
        f"{path}: base '{base}' is neither a preset nor a file beside it", nearest(base, preset_names())
    )


def _entry(entry: StageEntry, path: Path) -> Stage:
    """Build a stage of a file; errors name file and line."""
    try:
        return _build(entry.stage, entry.params, entry.label)
    except ElimError as error:
        raise ElimError(f"{path}:{entry.line}: {error.message}", error.hint) from error


def _build(kind: str, params: Mapping[str, Any], label: str) -> Stage:
    """Build a stage from its name and parameters."""
    if kind not in STAGES:
        raise ElimError(f"unknown stage '{kind}'", nearest(kind, tuple(STAGES.everything())))
    names = _parameters(STAGES[kind])
    for name in params:
        if name not in names:
            raise ElimError(f"{kind} has no parameter '{name}'", nearest(name, names))
    return STAGES[kind](**{k: fitted(STAGES[kind], k, v) for k, v in params.items()}, label=label)


def _parameters(stage: type[Stage]) -> tuple[str, ...]:
    """List the names of a stage's parameters."""
    return tuple(f.name for f in parameters(stage))


def _target(name: str) -> tuple[str, str]:
    """Return the stage and parameter that a name in an inline form means.

    Raises:
        ElimError: There is none of that name.
    """
    if name in ALIASES:
        return ALIASES[name]
    if name in STAGES:
        if not STAGES[name].main:
            raise ElimError(f"{name} takes no value", f"write '{name}' alone as a chain")
        return name, STAGES[name].main
    kind, dot, parameter = name.partition(".")
    if dot and kind in STAGES:
        return kind, parameter
    raise ElimError(f"unknown stage or parameter '{name}'", nearest(name, (*STAGES.everything(), *ALIASES)))


def _inline(text: str) -> Chain:
    """Build a chain of stages, in the order in which they are first named."""
    chosen: dict[str, dict[str, Any]] = {}
    kinds: dict[str, str] = {}
    for name, value in assignments(text, text).items():
        if value is None and name in STAGES and not STAGES[name].main:
            chosen[name] = {}
            continue
        own, _, parameter = name.partition(".")
        if parameter == OF_KIND:
            _check_label(own, value, chosen, text)
            chosen[own], kinds[own] = {}, value
            continue
        if own in kinds:
            parameter = parameter or _target(kinds[own])[1]
        else:
            own, parameter = _target(name)
        if parameter in chosen.setdefault(own, {}):
            raise ElimError(f"{own}.{parameter} is given twice in '{text}'")
        chosen[own][parameter] = value
    stages = tuple(
        _build(kinds.get(name, name), params, name if name in kinds else "")
        for name, params in chosen.items()
    )
    return Chain(text, "elimtool", __version__, stages)


def _check_label(label: str, kind: Any, known: Collection[str], text: str) -> None:
    """Refuse a name for a stage that could be mistaken, or whose kind is not there."""
    if label in known or label in STAGES or label in ALIASES:
        raise ElimError(
            f"'{label}' in '{text}' means a stage already",
            f"give it another name, as in my_{label}.{OF_KIND}={kind}",
        )
    if not label.isidentifier():
        raise ElimError(f"a stage cannot be called '{label}' in '{text}'", "use letters, digits and _")
    if not isinstance(kind, str) or kind not in STAGES:
        raise ElimError(f"unknown stage '{kind}'", nearest(str(kind), tuple(STAGES.everything())))


def _override(chain: Chain, changes: Mapping[str, Any], where: str, source: str = "") -> Chain:
    """Change parameters of a chain; each change must name one of its stages, and is noted with its source."""
    stages = list(chain.stages)
    origins = {(name, parameter): known for name, parameter, known in chain.origins}
    for name, value in changes.items():
        index, parameter = _find(stages, name, where)
        names = _parameters(type(stages[index]))
        if parameter not in names:
            raise ElimError(f"{stages[index].name} has no parameter '{parameter}'", nearest(parameter, names))
        stages[index] = replace(stages[index], **{parameter: fitted(type(stages[index]), parameter, value)})
        if source:
            origins[stages[index].name, parameter] = source
    told = tuple((*place, known) for place, known in origins.items())
    return _within_limits(chain, stages=tuple(stages), origins=told)


def _find(stages: list[Stage], name: str, where: str) -> tuple[int, str]:
    """Return the index of the stage that a change means, and the parameter."""
    labels = [s.name for s in stages]
    kind, dot, parameter = name.partition(".")
    if kind in labels:
        index = labels.index(kind)
        return index, parameter if dot else stages[index].main
    kind, parameter = _target(name)
    if kind in labels:
        return labels.index(kind), parameter
    kinds = [s.kind for s in stages]
    if kind not in kinds and ELSEWHERE.get(name, ("",))[0] in kinds:
        kind, parameter = ELSEWHERE[name]
    if kind in kinds:
        return kinds.index(kind), parameter
    raise ElimError(f"the chain in '{where}' has no stage '{kind}'", nearest(kind, labels))
