"""Declare the options that ask for tables of their own, see ``elimtool.engine.requests``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from elimtool.cli.measuring import PassOptions, listed
from elimtool.cli.options import option, switch
from elimtool.errors import ElimError

if TYPE_CHECKING:
    from elimtool.engine.options import TraceOptions

Concepts = Annotated[
    list[str] | None,
    option(
        "--concept",
        metavar="NAME=WORDS",
        help="Follow a set of words, with and without a space before, such as 'snow=snow, winter, ice'"
        " (table concepts); repeatable.",
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
class MeasureOptions(PassOptions):
    """What a trace measures."""

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
    grammar_texts: Annotated[
        int,
        option(
            "--grammar-texts",
            metavar="W",
            help="Add up the texts that --grammar, --json-schema or --regex allows in --generate tokens,"
            " following the W (1 to 128) most probable beginnings of each length: how often a free text would"
            " be one of them, and which of them masking favours (tables grammar_whole, grammar_texts).",
        ),
    ] = 0
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
    patchscope: Annotated[
        bool,
        switch(
            "--patchscope",
            help="Put what each layer holds at --position into a prompt that repeats words, and read which"
            " word the model repeats (table patchscope): some 20 tokens of work for each layer.",
        ),
    ] = False
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

    def made(self, **others: Any) -> TraceOptions:
        """Make the options of a trace; arguments and errors as in ``ReadOptions.made``."""
        own = {
            "concepts": tuple(self.concept or ()),
            "through": tuple(self.through or ()),
            "watch": tuple(self.watch or ()),
            "paths": listed(self.paths),
        }
        return super().made(**{**own, **others})
