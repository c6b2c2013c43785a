"""Declare the options that say what is measured: positions, lens, sampler chains, tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

from elimtool.cli.options import Sinks, TargetSpace, option, switch
from elimtool.errors import ElimError
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


Concepts = Annotated[
    list[str] | None,
    option(
        "--concept",
        metavar="NAME=WORDS",
        help="Follow a set of words by their first tokens, such as 'snow=snow, winter, ice' (table concepts);"
        " repeatable.",
    ),
]


Seeds = Annotated[
    int | None,
    option(
        "--seeds",
        metavar="N",
        help="Let the model write N texts after each prompt, each with a seed of its own, and say whether"
        " concepts are kept in all of them; goes with --generate and --concept.",
    ),
]


def check_seeds(seeds: int | None, generate: int, concepts: Sequence[str] | None) -> None:
    """Refuse texts of several seeds that nothing is followed through.

    Raises:
        ElimError: A concept or the length is missing.
    """
    if seeds is not None and (not concepts or generate < 2):
        raise ElimError(
            "`seeds` follows a concept through texts of two tokens or more: the first place is the prompt's",
            "give `concept`, and say with `generate` how many tokens to write",
        )


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
            return None
        from elimtool.samplers.grammar import Grammar

        for name, value in given.items():
            if value == "":
                raise ElimError(f"`{'grammar' if name == 'file' else name}` is empty", "leave it out")
        return Grammar(self.grammar or "", self.json_schema or "", self.regex or "")


AUTO = "auto"
"""Value of ``--map`` that takes the map in the cache, if there is one."""
_ELSEWHERE = ("plugin", "concept", "map", "json_schema", "regex")
"""Options that are made into something else, or that further options are made of."""


@dataclass(frozen=True)
class MeasureOptions(ReadOptions):
    """What a trace measures."""

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
    beams: Annotated[
        int,
        option(
            "--beams",
            metavar="B",
            help="Also search for the text of --generate with B beams (1 to 64), as transformers does: what"
            " each step drops, and the least number of beams that keeps a target (tables beams, beam_steps,"
            " beam_targets).",
        ),
    ] = 0
    length_penalty: Annotated[
        float,
        option(
            "--length-penalty",
            metavar="X",
            help="Divide the scores of finished texts of --beams by their number of tokens to this power.",
        ),
    ] = 1.0
    early_stopping: Annotated[
        str,
        option(
            "--early-stopping",
            metavar="WHEN",
            help="When --beams ends: no (B texts are finished, and no open one is better at its length),"
            " yes (B are finished), never (no open one can become better).",
        ),
    ] = "no"
    through: Annotated[
        list[str] | None,
        option(
            "--through",
            metavar="CHAIN",
            help="Follow each target's tokens one after the other through this chain, as in --samplers: how"
            " probable the whole is, where it dies and by which rule; repeatable.",
        ),
    ] = None
    paths: Annotated[
        list[str] | None,
        option(
            "--paths",
            metavar="KINDS",
            help="Search for ways of --generate tokens that the text may go on: greedy, beam:B,"
            " least-entropy:B, sampled:K, with commas between: how probable, how uncertain, which"
            " stage cuts them (tables paths, path_steps).",
        ),
    ] = None
    continue_with: Annotated[
        str | None,
        option(
            "--continue-with",
            metavar="TEXT",
            help="The same of a text of your own that goes on from the prompt (path given).",
        ),
    ] = None
    repeat: Annotated[
        int,
        option(
            "--repeat",
            metavar="N",
            help="Repeat the text (or a chat's message) N times, token by token: how well copies predict the"
            " next one, beside other text of that length (table resonance).",
        ),
    ] = 0
    repeat_control: Annotated[
        int, option("--repeat-control", metavar="K", help="Draws of other text that --repeat compares with.")
    ] = 20
    repeat_control_text: Annotated[
        str,
        option(
            "--repeat-control-text",
            metavar="TEXT",
            help="Another message, in chats: the first word of its reply is compared with that after the"
            " copies of --repeat.",
        ),
    ] = "Hello"
    futures: Annotated[
        int,
        option(
            "--futures",
            metavar="M",
            help="Compare the first M (2 to 64) survivors of each chain by what the model would write after"
            " them: are they different choices (tables survivors, survivor_pairs, survivor_sets)?",
        ),
    ] = 0
    future_steps: Annotated[
        int,
        option(
            "--future-steps",
            metavar="N",
            help="Tokens from a survivor to the output that --futures compares, 1 or more.",
        ),
    ] = 1
    along: Annotated[
        str | None,
        option(
            "--along",
            metavar="HOW",
            help="Cut the text (with --prefill what begins the answer, with --chat the message) into"
            " sentences, lines or N tokens; read the answer after each, and in other orders (table"
            " answers_along).",
        ),
    ] = None
    cue: Annotated[
        str,
        option(
            "--cue",
            metavar="TEXT",
            help="What --along reads the answer after, such as ' So the answer is'; put behind the text.",
        ),
    ] = ""
    watch: Annotated[
        list[str] | None,
        option(
            "--watch",
            metavar="TOKEN",
            help="Follow a token at each step of --generate: eos (what ends a text of this model), or one"
            " such as '<|im_end|>': what cuts it, how probable it is to have come by then; repeatable.",
        ),
    ] = None
    concept: Concepts = None
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
    risk: Annotated[
        bool,
        switch(
            "--risk",
            help="Score how uncertain the text of --generate is (table risk): attention, and more samples.",
        ),
    ] = False
    samples: Annotated[
        int, option("--samples", metavar="K", help="Further texts that --risk and --watch sample, 2 or more.")
    ] = 10
    nli: Annotated[
        str | None,
        option(
            "--nli",
            metavar="DIR",
            help="Local folder of a model of entailment (deberta-base-mnli, say) that says which samples of"
            " --risk mean the same. Without: those that are equal.",
        ),
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

    def made(self, **others: Any) -> TraceOptions:
        """Make the options of a trace; arguments and errors as in ``ReadOptions.made``."""
        if self.map not in (AUTO, "none"):
            from elimtool.analysis.map.known import head_roles

            others = {"roles": head_roles(self.map), **others}
        return super().made(
            **{
                "tables": self.named,
                "attention_of": tuple(self.attention_of or ()),
                "concepts": tuple(self.concept or ()),
                "through": tuple(self.through or ()),
                "watch": tuple(self.watch or ()),
                "paths": listed(self.paths),
                **others,
            }
        )

    @property
    def named(self) -> tuple[str, ...] | None:
        """Names of the tables to fill; None for all."""
        return listed(self.tables) or None


def listed(given: Sequence[str] | None) -> tuple[str, ...]:
    """Take apart what is given with commas between."""
    return tuple(name.strip() for names in given or () for name in names.split(","))
