"""Declare the options that say what is measured: positions, lens, sampler chains, tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

from elimtool.cli.options import Sinks, TargetSpace, option, switch
from elimtool.errors import ElimError, nearest
from elimtool.prompts.position import parse_position

if TYPE_CHECKING:
    from elimtool.engine.options import TraceOptions
    from elimtool.samplers.grammar import Grammar

ModelSampling = Annotated[
    bool,
    switch(
        "--model-sampling/--no-model-sampling",
        help="Lay the settings that the model ships with (generation_config.json, GGUF general.sampling) over"
        " an engine's chain, as the engine does by default; what --samplers says wins.",
    ),
]


Plugin = Annotated[
    list[str] | None,
    option(
        "--plugin",
        metavar="MODULE:NAME",
        env="PLUGIN",
        help="A sampler stage, metric or lens of your own, such as mine:Near, known by its name from here on;"
        " repeatable. Those of installed packages are known without.",
    ),
]


def plugged(plugin: list[str] | None) -> tuple[str, ...]:
    """Make what ``--plugin`` names known, before something is looked up by its name.

    Raises:
        ElimError: It cannot be loaded or used.
    """
    if plugin:
        from elimtool.engine.plugins import plug

        plug(plugin)
    return tuple(plugin or ())


@dataclass(frozen=True)
class ReadOptions:
    """Which token is read, through which lens, and which sampler chains are applied."""

    position: Annotated[
        str,
        option(
            "--position",
            metavar="WHICH",
            help="Tokens to probe: last, all (which takes several times as long), an index from 0 (-1 is the"
            " last), or a list such as 4,7-9.",
            env="POSITION",
        ),
    ] = "last"
    samplers: Annotated[
        list[str] | None,
        option(
            "--samplers",
            metavar="CHAIN",
            env="SAMPLERS",
            help="Sampler chain: an engine's name, a YAML file, or stages such as top_k=40,temperature=0.8;"
            " repeatable. Without: llama.cpp, hf and vllm.",
        ),
    ] = None
    grammar: Annotated[
        str | None,
        option(
            "--grammar",
            metavar="FILE",
            help="Let every chain write only texts of this grammar (Lark, or GBNF as of llama.cpp), where its"
            " engine masks; needs the extra 'grammar'.",
        ),
    ] = None
    json_schema: Annotated[
        str | None,
        option(
            "--json-schema",
            metavar="FILE",
            help="The same by a JSON schema (or the schema itself, a text that begins with a brace).",
        ),
    ] = None
    regex: Annotated[
        str | None,
        option("--regex", metavar="TEXT", help="The same by a regular expression for the whole output."),
    ] = None
    grammar_engine: Annotated[
        str | None,
        option(
            "--grammar-engine",
            metavar="NAME",
            help="Library that makes their masks: llguidance (without this option), or xgrammar, which vLLM"
            " and SGLang take by default; needs the extra of that name.",
        ),
    ] = None
    model_sampling: ModelSampling = True
    lens: Annotated[
        str,
        option(
            "--lens",
            metavar="NAME",
            env="LENS",
            help="How layers before the last are read out: auto (the model's fitted lens, else raw), raw,"
            " ridge, a lens file, or jacobian:FILE of TransformerLens.",
        ),
    ] = "auto"
    sinks: Sinks = "auto"
    target_space: TargetSpace = "auto"
    plugin: Plugin = None

    def made(self, **others: Any) -> TraceOptions:
        """Make the options of a trace.

        Args:
            others: Options of the trace that are not in this block.

        Raises:
            ElimError: A value cannot be used.
        """
        from elimtool.engine.options import DEFAULT_SAMPLERS, TraceOptions
        from elimtool.samplers import resolve

        plugins = plugged(self.plugin)
        chains = tuple(self.samplers or DEFAULT_SAMPLERS)
        grammar = self.named_grammar
        for chain in (*chains, *others.get("through", ())):
            # before a model is loaded: a mistyped chain should not cost ten seconds
            resolve(chain, grammar=grammar)
        own = {name: value for name, value in asdict(self).items() if name not in _ELSEWHERE}
        own |= {"position": parse_position(self.position), "samplers": chains, "plugins": plugins}
        own["grammar"] = grammar
        return TraceOptions(**{**own, **others})

    @property
    def named_grammar(self) -> Grammar | None:
        """The grammar that is asked for; None for none.

        Raises:
            ElimError: It is not valid, or two are given.
        """
        given = {"file": self.grammar, "json_schema": self.json_schema, "regex": self.regex}
        if all(value is None for value in given.values()):
            if self.grammar_engine is not None:
                hint = "give `grammar`, `json_schema` or `regex` too"
                raise ElimError("`grammar_engine` makes the masks of a grammar, and there is none", hint)
            return None
        from elimtool.samplers.grammar import Grammar
        from elimtool.samplers.grammar_libraries import LIBRARIES

        engine = "llguidance" if self.grammar_engine is None else self.grammar_engine
        if engine not in LIBRARIES:
            raise ElimError(f"`grammar_engine`: there is no '{engine}'", nearest(engine, tuple(LIBRARIES)))

        for name, value in given.items():
            if value == "":
                raise ElimError(f"`{'grammar' if name == 'file' else name}` is empty", "leave it out")
        return Grammar(self.grammar or "", self.json_schema or "", self.regex or "", library=engine)


AUTO = "auto"
"""Value of ``--map`` that takes the map in the cache, if there is one."""
_ELSEWHERE = ("plugin", "concept", "map", "json_schema", "regex", "grammar_engine")
"""Options that are made into something else, or that further options are made of."""


@dataclass(frozen=True)
class PassOptions(ReadOptions):
    """What is measured in a prompt's own pass, and how it is continued."""

    heads: Annotated[
        bool | None,
        switch(
            "--heads/--no-heads",
            help="Fill the tables of single heads and experts. Without: yes, unless --position all; sources"
            " only if given.",
        ),
    ] = None
    attention_of: Annotated[
        list[str] | None,
        option(
            "--attention-head",
            metavar="L.H",
            help="Keep every attention weight of this head, such as 17.3; repeatable. With --position all:"
            " its whole attention matrix.",
        ),
    ] = None
    ablate_each: Annotated[
        bool,
        switch("--ablate-each", help="Ablate every head and MLP by itself: a pass for each, so minutes."),
    ] = False
    rollout: Annotated[
        bool,
        switch(
            "--rollout",
            help="Follow what attention mixes through all layers (table rollout): every row of every layer up"
            " to --position, about a forward pass more for every 15 tokens; at most 256 tokens.",
        ),
    ] = False
    tables: Annotated[
        list[str] | None,
        option(
            "--tables",
            metavar="NAMES",
            env="TABLES",
            help="Fill only these tables, such as lens,survival, and measure only what they need.",
        ),
    ] = None
    generate: Annotated[
        int, option("--generate", metavar="N", help="Let the model write N tokens, with a ledger for each.")
    ] = 0
    chain: Annotated[
        str | None,
        option("--chain", metavar="CHAIN", help="Which of --samplers to write through. Without: the first."),
    ] = None
    seed: Annotated[
        int,
        option(
            "--seed",
            metavar="N",
            env="SEED",
            help="Seed of everything random: --generate, resample, --confirm.",
        ),
    ] = 0
    map: Annotated[
        str,
        option(
            "--map",
            metavar="DIR",
            env="MAP",
            help="A map of the model (elimtool map): heads are named with the role that they have there. auto"
            " takes the one that the cache has of these weights, none takes no map.",
        ),
    ] = AUTO
    against: Annotated[
        str | None,
        option(
            "--against",
            metavar="TEXT",
            help="A second prompt for the stages guidance and context_aware, which move away from it: a"
            " negative prompt, or the prompt without its context.",
        ),
    ] = None
    amateur: Annotated[
        str | None,
        option(
            "--amateur",
            metavar="MODEL",
            help="A weaker model with the same vocabulary, whose output the stage contrastive moves away from"
            " (--samplers contrastive=0.5).",
        ),
    ] = None

    def made(self, **others: Any) -> TraceOptions:
        """Make the options of a trace; arguments and errors as in ``ReadOptions.made``."""
        if self.map not in (AUTO, "none"):
            from elimtool.analysis.map.known import head_roles

            others = {"roles": head_roles(self.map), **others}
        own = {"tables": self.named, "attention_of": tuple(self.attention_of or ())}
        return super().made(**{**own, **others})

    @property
    def named(self) -> tuple[str, ...] | None:
        """Names of the tables to fill; None for all."""
        return listed(self.tables) or None


def listed(given: Sequence[str] | None) -> tuple[str, ...]:
    """Take apart what is given with commas between."""
    return tuple(name.strip() for names in given or () for name in names.split(","))
