"""``elimtool lens near``, ``analogy`` and ``axis``: what tokens are to each other, without a prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from elimtool.cli import options as shared
from elimtool.cli.blocks import spread
from elimtool.cli.loading import ModelOptions
from elimtool.cli.measuring import Plugin, plugged
from elimtool.errors import ElimError

if TYPE_CHECKING:
    from elimtool.cli.output import Output
    from elimtool.lenses.axis import Axis, MovedToken
    from elimtool.lenses.clouds import Analogy, Answer, Cloud, Near
    from elimtool.lenses.lens import Lens
    from elimtool.lenses.reading_near import ReadingNear
    from elimtool.lenses.words import Word
    from elimtool.model.model import Model

SPACES = ("unembed", "embed")
NAMES = {"unembed": "the unembedding", "embed": "the embedding"}
DEFAULT_TOKENS = 4096

Space = Annotated[str, shared.option("--in", metavar="SPACE", help="Rows to look among: unembed or embed.")]
Reference = Annotated[
    str,
    shared.option(
        "--lens",
        metavar="NAME",
        env="LENS",
        help="Fitted lens whose mean output says which tokens are as frequent: auto, ridge, or a file.",
    ),
]
Count = Annotated[int, shared.option("--top", metavar="N", help="How many tokens to list.")]


@dataclass(frozen=True)
class TokenQuestion:
    """What every question on tokens is asked with."""

    space: Space = "unembed"
    lens: Reference = "auto"
    plugin: Plugin = None
    top: Count = 10

    def check(self) -> None:
        """Refuse what is no space, no lens or no number, before a model is loaded.

        Raises:
            ElimError: One of them cannot be used.
        """
        from elimtool.lenses.find import check_choice

        plugged(self.plugin)
        if self.space not in SPACES:
            raise ElimError(f"--in '{self.space}' is unknown", f"valid: {', '.join(SPACES)}")
        if not 1 <= self.top <= 1000:
            raise ElimError(f"--top must be 1 to 1000, got {self.top}")
        check_choice(self.lens)

    def open(self, model: Model) -> tuple[Cloud, Lens]:
        """Open the rows of a model, with the lens that knows how frequent tokens are."""
        from elimtool.lenses.clouds import Cloud
        from elimtool.lenses.find import open_lens
        from elimtool.lenses.ridge import RidgeLens

        found, _ = open_lens(self.lens, model)
        prior = found.reference.prior if isinstance(found, RidgeLens) else None
        return Cloud(model.token_vectors(self.space), model.tokenizer, self.space, prior), found


@spread
def near(
    *,
    word: Annotated[
        str | None, typer.Argument(help="A word that is one token, such as hare.", metavar="[WORD]")
    ] = None,
    fold: Annotated[
        bool, shared.switch("--fold", help="Merge spellings of one word (case, space, plural).")
    ] = False,
    prompt: Annotated[
        str | None,
        shared.option("--prompt", help="Instead of a word: what a lens reads at this prompt's last token."),
    ] = None,
    layer: Annotated[
        int | None,
        shared.option("--layer", metavar="L", help="Layer to read the prompt after; -1 is the embedding."),
    ] = None,
    asked: TokenQuestion,
    model: ModelOptions,
    printed: shared.PrintOptions,
) -> None:
    """Print the tokens nearest to a word, or to what a lens reads in a layer of a prompt."""
    asked.check()
    if (word is None) == (prompt is None):
        raise ElimError("give either a word or --prompt", "elimtool lens near hare")
    if (prompt is None) != (layer is None):
        raise ElimError("--prompt and --layer go together", "elimtool lens near --prompt TEXT --layer 12")
    if prompt is not None and (fold or asked.space != "unembed"):
        raise ElimError("--fold and --in are for words", "a layer is read against the unembedding")

    def ask(opened: Model, cloud: Cloud, lens: Lens, _: Any) -> Near | ReadingNear:
        from elimtool.lenses.clouds import near as find
        from elimtool.lenses.corpus import shipped
        from elimtool.lenses.reading_near import reading_near
        from elimtool.lenses.words import find_word
        from elimtool.prompts.prompt import Prompt

        if word is not None:
            return find(cloud, find_word(opened.tokenizer, word), asked.top, fold)
        encoded = opened.encode(Prompt(text=prompt))
        return reading_near(opened, cloud, lens, encoded, layer or 0, shipped("held_out"), asked.top)

    _answer(asked, model, printed, ask)


@spread
def analogy(
    *,
    a: Annotated[str, typer.Argument(help="What B stands beside, such as man.", metavar="A")],
    b: Annotated[str, typer.Argument(help="What A is to, such as woman.", metavar="B")],
    c: Annotated[str, typer.Argument(help="What is moved alike, such as king.", metavar="C")],
    pair: Annotated[
        list[str] | None,
        shared.option(
            "--pair", metavar="A,B", help="A further pair like A and B, to compare offsets with; repeatable."
        ),
    ] = None,
    asked: TokenQuestion,
    model: ModelOptions,
    printed: shared.PrintOptions,
) -> None:
    """Print what C is moved to by the way from A to B, with and without A, B and C themselves."""
    asked.check()
    given = [_pair(one) for one in pair or ()]

    def ask(opened: Model, cloud: Cloud, _: Lens, __: Any) -> Analogy:
        from elimtool.lenses.clouds import analogy as answer
        from elimtool.lenses.words import find_word

        def find(text: str) -> Word:
            return find_word(opened.tokenizer, text)

        pairs = [(find(one), find(other)) for one, other in given]
        return answer(cloud, find(a), find(b), find(c), pairs, asked.top)

    _answer(asked, model, printed, ask)


def _pair(text: str) -> tuple[str, str]:
    words = [one.strip() for one in text.split(",")]
    if len(words) != 2 or not all(words):
        raise ElimError(f"--pair must be two words such as he,she, got '{text}'")
    return words[0], words[1]


@spread
def axis(
    *,
    of: Annotated[
        list[str],
        typer.Argument(help="A channel's number, or two words and then words to place.", metavar="N | A B"),
    ],
    tokens: Annotated[
        int, shared.option("--tokens", metavar="N", help="About how much of the package's text to read.")
    ] = DEFAULT_TOKENS,
    asked: TokenQuestion,
    model: ModelOptions,
    printed: shared.PrintOptions,
) -> None:
    """Print what a channel of the last residual, or the way from one word to another, does to the logits."""
    asked.check()
    if tokens < 128:
        raise ElimError(f"--tokens must be at least 128, got {tokens}")
    if len(of) == 1 and not of[0].isdecimal():
        raise ElimError(f"'{of[0]}' is no channel's number", "give a number, or two words")
    number = int(of[0]) if len(of) == 1 else None

    def measure(opened: Model, cloud: Cloud, _: Lens, say: Any) -> Axis:
        from elimtool.lenses.axis import axis as measured
        from elimtool.lenses.axis import direction, last_residuals
        from elimtool.lenses.corpus import shipped
        from elimtool.lenses.words import find_word

        words = [find_word(opened.tokenizer, one) for one in (of if number is None else ())]
        line = (words[0], words[1]) if number is None else number
        direction(opened, line)  # refuses a channel that is not there before text is read
        residuals = last_residuals(opened, shipped("fit"), tokens, progress=say)
        return measured(opened, residuals, cloud, line, words[2:], asked.top)

    _answer(asked, model, printed, measure)


def _answer(
    asked: TokenQuestion,
    model: ModelOptions,
    printed: shared.PrintOptions,
    ask: Callable[[Model, Cloud, Lens, Any], Near | ReadingNear | Analogy | Axis],
) -> None:
    """Load the model, ask, and print."""
    output = printed.output
    source = model.source
    with output.progress(f"loading {source.name}") as say:
        loaded = source.load(say)
        cloud, lens = asked.open(loaded)
        if asked.top * 5 > cloud.size:
            raise ElimError(f"--top {asked.top} is too many for a vocabulary of {cloud.size}")
        say("comparing tokens")
        found = ask(loaded, cloud, lens, say)
    if cloud.prior is None:
        output.note(
            "no fitted lens says how frequent tokens are: controls are drawn at random; fit one:"
            f" elimtool lens fit -m {source.name}"
        )
    if printed.as_json:
        output.json({"model": source.name, **asdict(found)})
    else:
        _PRINTERS[type(found).__name__](output, found)


def _print_near(output: Output, found: Near) -> None:
    output.line(f"Nearest to {found.word.token!r} in {NAMES[found.space]} (cosine of centred rows)")
    output.line(f"{'token':22}cosine   hub of {found.hub_chance:.1f}")
    for one in found.neighbours:
        merged = f"  {one.spellings} spellings" if one.spellings > 1 else ""
        told = "  same word" if one.variant else merged
        output.line(f"{one.token!r:22}{one.cosine:6.3f} {one.hub:8d}{told}")
    if found.first is not None and found.p_value is not None:
        output.folded(
            "",
            f"The first other word is at {found.first:.3f}. The first neighbours of {found.n_controls}"
            f" {_kind(found.control)} are at {found.control_median:.3f} ({found.control_low:.3f} to"
            f" {found.control_high:.3f}, 90 %); p = {found.p_value:.2g}. Hub: of 1,000 random tokens, how"
            f" many have it among their ten nearest; {found.hub_chance:.1f} if all were alike.",
        )


def _kind(control: str) -> str:
    return "tokens as frequent" if control == "matched" else "tokens at random"


def _print_reading(output: Output, found: ReadingNear) -> None:
    output.line(
        f"Nearest to what the {found.lens} lens reads after layer {found.layer} at {found.token!r}, position"
        f" {found.position}"
    )
    output.line(f"{'token':22}cosine     rank     prob  elsewhere")
    for one in found.neighbours:
        output.line(f"{one.token!r:22}{one.cosine:6.3f} {one.rank:8,d} {one.prob:8.2g} {one.elsewhere:9.1%}")
    output.folded(
        "",
        f"Elsewhere: at how many of {found.n_others:,} positions of other text it is among as many nearest of"
        " this layer. What is near everywhere says nothing of this prompt.",
    )


def _print_analogy(output: Output, found: Analogy) -> None:
    a, b, c = (one.token for one in (found.a, found.b, found.c))
    output.line(f"{a!r} is to {b!r} as {c!r} is to, in {NAMES[found.space]} (unit centred rows)")
    for title, answers in (
        ("without A, B, C and their spellings", found.without_inputs),
        ("with them", found.with_inputs),
    ):
        output.line(title)
        _print_answers(output, answers)
    answer = found.without_inputs[0].token if found.without_inputs else "?"
    output.folded(
        "",
        f"In the place of {c!r}, of {found.n_controls} {_kind(found.control)} the same offset changes the"
        f" first neighbour of {found.changed:.0%} and leads {found.same_answer:.1%} to {answer!r}; {b!r} has"
        f" median rank {found.rank_of_b:,.0f} there.",
    )
    if found.consistency is not None:
        output.folded(
            "",
            f"The offsets of {found.n_pairs:,} pairs have a mean cosine of {found.consistency:.3f}"
            f" ({found.consistency_shuffled:.3f} where they are paired at random, p ="
            f" {found.consistency_p:.2g}).",
        )


def _print_answers(output: Output, answers: Sequence[Answer]) -> None:
    output.line(f"  {'token':20}cosine  rank near C alone")
    for one in answers:
        rank = "" if one.rank_without_offset is None else f"{one.rank_without_offset:,}"
        output.line(f"  {one.token!r:20}{one.cosine:6.3f}  {rank:>17}".rstrip())


def _print_axis(output: Output, found: Axis) -> None:
    if isinstance(found.axis, int):
        name = f"Channel {found.axis} of the last residual"
    else:
        name = f"From {found.axis[0].token!r} to {found.axis[1].token!r} in the last residual"
    output.line(f"{name}: one standard deviation is {found.sd:.3g}, over {found.n_rows:,} positions")
    output.line(f"{'raised':22} logit    {'lowered':22} logit")
    for up, down in zip(found.raised, found.lowered, strict=True):
        output.line(f"{_told(up)}    {_told(down)}")
    verdict = (
        "more than any of them"
        if found.share > found.random_share_high
        else "no more than directions at random"
    )
    output.folded(
        "",
        f"It carries {found.share:.2%} of what the text's residuals do to the logits;"
        f" {found.n_random} random directions carry {found.random_share:.2%} (at most"
        f" {found.random_share_high:.2%}): {verdict}, p = {found.p_value:.2g}. The ten tokens at"
        f" each end have {found.concentration:.1%} of it, of random directions"
        f" {found.random_concentration:.1%}.",
    )
    if found.placed:
        others = "as frequent" if found.placed[0].control == "matched" else "at random"
        output.line(f"{'word':22} place {others:>13}        p")
    for one in found.placed:
        output.line(f"{one.token!r:22}{one.place:6.2f}  {one.control_median:12.2f} {one.p_value:8.2g}")


def _told(one: MovedToken) -> str:
    return f"{one.token!r:22}{one.effect:+6.2f}"


_PRINTERS: dict[str, Callable[[Output, Any], None]] = {
    "Near": _print_near,
    "ReadingNear": _print_reading,
    "Analogy": _print_analogy,
    "Axis": _print_axis,
}
