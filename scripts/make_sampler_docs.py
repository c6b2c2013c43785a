"""Write docs/samplers.md: differences between engines, each with a short example run by elimtool.

Run ``python scripts/make_sampler_docs.py`` after a change to a stage or a preset; ``--check`` only compares.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from generated import settle

from elimtool.samplers import History, preset_names, resolve
from elimtool.samplers.catalogue import stage_infos

PAGE = Path(__file__).parents[1] / "docs" / "samplers.md"
ENGINES = ("llama.cpp", "hf", "vllm", "sglang")
LOGS = {
    "eight equal logits": [0.0] * 8,
    "four tied best of six": [1.0, 3.0, 3.0, 0.0, 3.0, 3.0],
    "p = .4 .3 .1 .1 .05 .05": [0.4, 0.3, 0.1, 0.1, 0.05, 0.05],
    "p = .5 .2 .15 .1 .05": [0.5, 0.2, 0.15, 0.1, 0.05],
}


@dataclass(frozen=True)
class Example:
    """A difference between engines, and the row and parameters that show it.

    Attributes:
        what: What differs.
        row: Key of the row of logits.
        settings: Parameters, the same for every engine.
        apart: Parameters that one engine needs besides, to be compared on the same terms.
    """

    what: str
    row: str
    settings: str
    apart: dict[str, str]


ALONE = {"llama.cpp": "top_k=0,top_p=1,min_p=0,temperature=1", "hf": "top_k=0"}
EXAMPLES = (
    Example("ties at the k-th logit: all of them, or exactly k", "four tied best of six", "top_k=1", ALONE),
    Example("an exact hit of p: stop there, or keep one more", "eight equal logits", "top_p=0.5", ALONE),
    Example(
        "top-p after top-k: of the survivors' mass, or of the whole",
        "p = .5 .2 .15 .1 .05",
        "top_k=3,top_p=0.8",
        ALONE,
    ),
    Example("top-p and min-p: which comes first", "p = .5 .2 .15 .1 .05", "top_p=0.8,min_p=0.25", ALONE),
    Example(
        "truncation before or after temperature", "p = .4 .3 .1 .1 .05 .05", "temperature=2,top_p=0.75", ALONE
    ),
    Example("typical: ties with the last token", "eight equal logits", "typical=0.5", ALONE),
    Example("XTC", "eight equal logits", "xtc=1,xtc_threshold=0.1", ALONE),
    Example("temperature 0", "four tied best of six", "temperature=0", ALONE),
)


def row_of(name: str) -> torch.Tensor:
    """The row of logits that a name of the table means, [1, vocab]."""
    values = torch.tensor([LOGS[name]], dtype=torch.float64)
    return values.log() if name.startswith("p =") else values


def survivors(engine: str, example: Example) -> str:
    """The tokens an engine keeps (among ties: how many), or why it cannot be asked."""
    from elimtool.errors import ElimError

    base = {part.split("=")[0]: part for part in example.apart.get(engine, "").split(",") if part}
    base |= {part.split("=")[0]: part for part in example.settings.split(",")}
    try:
        chain = resolve(f"{engine}:{','.join(base.values())}")
    except ElimError as error:
        return "no such stage" if "no stage" in error.message else "refused"
    ledger = chain.run(row_of(example.row), torch.zeros((1, 0), dtype=torch.int64))
    kept = ledger.kept[0].nonzero()[:, 0].tolist()
    if len(set(LOGS[example.row])) < len(LOGS[example.row]) and "p =" not in example.row:
        return f"{len(kept)} of {len(LOGS[example.row])}"  # which of them is the business of a sort
    return " ".join(str(token) for token in kept)


def differences() -> list[str]:
    """The table of differences."""
    head = "| what differs | row | parameters | " + " | ".join(ENGINES) + " |"
    lines = [head, "|" + "---|" * (3 + len(ENGINES))]
    for example in EXAMPLES:
        cells = [survivors(engine, example) for engine in ENGINES]
        lines.append(f"| {example.what} | {example.row} | `{example.settings}` | " + " | ".join(cells) + " |")
    return lines


def penalties() -> list[str]:
    """The table of penalties."""
    lines = [
        "| engine | token 9, once in the output, logit 1.75 | token 7, twice in the prompt, logit -1.25 |",
        "|---|---|---|",
    ]
    row = torch.zeros((1, 16))
    row[0, 9], row[0, 7] = 1.75, -1.25
    settings = "repetition_penalty=1.2,frequency_penalty=0.3,presence_penalty=0.4"
    for engine in ("llama.cpp", "vllm", "sglang"):
        chain = resolve(f"{engine}:{settings}")
        ledger = chain.run(row, torch.tensor([[9, 7]]), [History((7, 3, 7), (9,))])
        index = next(i for i, s in enumerate(chain.stages) if s.kind == "penalties")
        scores = resolve_one(chain.stages[index], row)
        lines.append(f"| {ledger.chain.partition(':')[0]} | {scores[9]:.4f} | {scores[7]:.4f} |")
    return lines


def resolve_one(stage, row: torch.Tensor) -> list[float]:
    """Logits after one stage alone."""
    from elimtool.samplers import Chain

    chain = Chain("one", "", "", (stage,))
    history = History((7, 3, 7), (9,))
    return chain.run(row, torch.zeros((1, 0), dtype=torch.int64), [history]).final[0].tolist()


def chains() -> list[str]:
    """The chains of all presets."""
    lines = ["| preset | version read | stages in order (bold: on by default) |", "|---|---|---|"]
    for name in preset_names():
        chain = resolve(name)
        parts = []
        for stage in chain.stages:
            shown = f" {getattr(stage, stage.main):g}" if stage.main and not stage.is_off() else ""
            parts.append(stage.name if stage.is_off() else f"**{stage.name}{shown}**")
        lines.append(f"| {name} | {chain.version} | {', '.join(parts)} |")
    return lines


MASKS = (
    "| grammar | after | llguidance allows | xgrammar allows | llguidance alone | xgrammar alone |",
    "|---|---|---|---|---|---|",
    "| object of `name`, `n` | nothing | 2 | 2 | 0 | 0 |",
    '| the same | `{"` | 1 | 4 | 0 | 3: `n`, `na`, `nam` |',
    '| the same | `{"name": "x` | 48,784 | 48,801 | 0 | 17 control tokens |',
    '| the same | `{"name": "x", "n": -` | 10 | 9 | 1: `0` | 0 |',
    '| string of at most 8 | `"ab` | 25,121 | 25,119 | 30 with a backslash | 28 control characters |',
    "| regex `[a-z]{3}` | `a` | 530 | 530 | 0 | 0 |",
)
"""What ``scripts/eval_grammars.py`` prints of both libraries' masks, shortened; it needs xgrammar."""

OTHER_MODELS = "for speech or audio models, which elimtool does not load"
PROCESSORS = {
    "UnbatchedClassifierFreeGuidanceLogitsProcessor": "guidance",
    "SequenceBiasLogitsProcessor": "sequence_bias",
    "EncoderRepetitionPenaltyLogitsProcessor": "encoder_repetition",
    "RepetitionPenaltyLogitsProcessor": "repetition",
    "NoRepeatNGramLogitsProcessor": "no_repeat_ngram",
    "EncoderNoRepeatNGramLogitsProcessor": "encoder_no_repeat_ngram",
    "NoBadWordsLogitsProcessor": "bad_words",
    "MinLengthLogitsProcessor": "min_length",
    "MinNewTokensLengthLogitsProcessor": "min_new_tokens",
    "PrefixConstrainedLogitsProcessor": "prefix_allowed",
    "ForcedBOSTokenLogitsProcessor": "forced_bos",
    "ForcedEOSTokenLogitsProcessor": "forced_eos",
    "InfNanRemoveLogitsProcessor": "remove_invalid",
    "ExponentialDecayLengthPenalty": "length_decay",
    "SuppressTokensLogitsProcessor": "suppress",
    "SuppressTokensAtBeginLogitsProcessor": "begin_suppress",
    "TemperatureLogitsWarper": "temperature",
    "TopHLogitsWarper": "top_h",
    "TopKLogitsWarper": "top_k",
    "TopPLogitsWarper": "top_p",
    "MinPLogitsWarper": "min_p",
    "TypicalLogitsWarper": "typical",
    "EpsilonLogitsWarper": "epsilon",
    "EtaLogitsWarper": "eta",
    "WatermarkLogitsProcessor": "watermark",
    "LogitNormalization": "renormalize",
    "SynthIDTextWatermarkLogitsProcessor": "synthid",
    "ClassifierFreeGuidanceLogitsProcessor": "",
    "AlternatingCodebooksLogitsProcessor": "",
    "BarkEosPrioritizerLogitsProcessor": "",
    "DiaClassifierFreeGuidanceLogitsProcessor": "",
    "DiaEOSChannelFilterLogitsProcessor": "",
    "DiaEOSDelayPatternLogitsProcessor": "",
    "WhisperTimeStampLogitsProcessor": "",
    "WhisperNoSpeechDetection": "",
}
"""The processors of transformers, and the stage of the preset hf that is each; empty for none."""


def processors() -> list[str]:
    """The table of the processors of transformers."""
    lines = ["| processor of transformers | stage of `hf` |", "|---|---|"]
    for name, stage in PROCESSORS.items():
        told = f"`{stage}`" if stage else f"none: {OTHER_MODELS}"
        lines.append(f"| `{name}` | {told} |")
    return lines


def stages() -> list[str]:
    """The table of stages."""
    lines = ["| stage | does | threshold in | margin in | off |", "|---|---|---|---|---|"]
    for info in stage_infos():
        off = "leave it out" if info.off is None else ", ".join(f"`{k} = {v}`" for k, v in info.off.items())
        lines.append(
            f"| `{info.kind}` | {info.summary} | {info.unit or '-'} | {info.margin_unit or '-'} | {off} |"
        )
    return lines


def page() -> str:
    """The whole page."""
    parts = [
        "# Samplers",
        "This page is written by `scripts/make_sampler_docs.py`; every cell is what elimtool computes.",
        "## What each engine does differently",
        "Cells are the ids of the tokens that survive; where logits are tied, how many do. Stages that "
        "an example does not name are off.",
        "\n".join(differences()),
        "Logits after repetition 1.2, frequency 0.3 and presence 0.4 together (prompt 7 3 7, output 9):",
        "\n".join(penalties()),
        "## Chains of the presets",
        "\n".join(chains()),
        "A chain can also be written out in the order to be applied, `top_k=40,top_p=0.95,temperature=0.8` "
        "(a stage that is there a second time gets a name of its own: `first.stage=top_k,first=3000`, and "
        "a text with spaces at its ends, commas or brackets stands in quotes: "
        '`thinking_budget.message=" So, the answer:"`); '
        "taken from a preset with other parameters, `llama.cpp:temperature=0,top_k=10`; or read from a YAML "
        "file like those in `configs/samplers`.",
        "Where a model is measured, a preset has the settings that the model ships with laid over it, as its "
        "engine does; `sampling.params_from` says which. `vllm@model` asks for them, also under "
        "`--no-model-sampling`, and is refused where there are none to read; `vllm@FOLDER` takes those of a "
        "`generation_config.json`. `elimtool samplers explain CHAIN` says what each stage of a chain does.",
        "Stages that an engine adds to its chain only where they are set (bans, biases, least lengths) are "
        "not listed: `elimtool samplers explain ENGINE` names them.",
        "## Stages",
        "\n".join(stages()),
        "Margins are positive where a token survives. At 0 a tie or a least number of tokens decided.",
        "A stage that bans may leave nothing: `sampling.n_after` is then 0, what depends on a survivor is "
        "null, and a text that is written ends there. `force`, `prefix_allowed` and `remove_invalid` bring "
        "banned tokens back: `n_after` is larger than `n_before`. `n_drawable` counts the tokens that can "
        "really be drawn; soft bans leave survivors that cannot.",
        "`sampling_targets.bound` says where the fate of a target would change: the bias that it needs to "
        "survive, the least length of n-grams that lets it through, how many tokens it must wait, or the "
        "step from which a penalty on length would put the end of the text first.",
        "## Grammars",
        "`--grammar`, `--json-schema` and `--regex` give every chain a stage `grammar`, where its engine has "
        "it: vllm masks before all else, sglang behind its penalties, hf after the repetition penalty, "
        "koboldcpp behind its first top-k of 3,000. Its `mass_pruned` is what the mask removes.",
        "llama.cpp does not mask: it draws a token through its whole chain, asks the grammar about that "
        "token, and only where it is refused runs the chain again, the grammar first. Its preset does the "
        "same (`grammar.mode=check`, at the end): `prob_after` is the mixture `C(t) + (1 - C(G)) C|G(t)` of "
        "both passes for the tokens t that the grammar G allows, `mass_pruned` the probability `1 - C(G)` "
        "that the first draw is refused. Tokens that a truncation removed in the first pass may come back "
        "from the second. `grammar_passes` and `grammar_pass_targets` tell the stages of each pass. Where a "
        "chain only rescales, the mixture is that of masking first. XTC and the selections draw anew in the "
        "second pass; `tests/samplers/test_grammar_check.py` holds it against the engine's loop, drawn "
        "20,000 times. For masking first (the engine's `grammar_first`) put the stage first in a chain of "
        "your own: `grammar.json_schema=FILE,top_k=40,temperature=0.8`.",
        "A mask renormalises at each step, and so writes some texts more often than the model writes them "
        "where it keeps to the grammar by itself. `--grammar-texts W` adds up the texts: their probability "
        "together without the mask (Z; `grammar_whole.log_mass`), how far what the mask writes is from "
        "conditioning on it (`divergence`), and which texts it favours (`grammar_texts.favoured`). Of a "
        "grammar with few texts this is exact. Of others the sum lies between `mass_least` and `mass_most`, "
        "and what needs Z itself is null: texts that were left out may hold any part of it. Spellings of one "
        "text by other tokens count apart.",
        "Masks are made by llguidance (`pip install 'elimtool[grammar]'`) or, with `--grammar-engine "
        "xgrammar` (`grammar.library`), by xgrammar, which vLLM and SGLang take by default; tables name "
        "library and version. `pip install 'elimtool[xgrammar]'` brings, on Linux, Triton and a torch with "
        "CUDA; beside a torch of your own install it by `pip install --no-deps xgrammar apache-tvm-ffi`. "
        "Both are asked for any white space in JSON, as vLLM does. The texts that are whole are the same, "
        "the tokens that may spell them are not. Of the 49,152 tokens of SmolLM2 "
        "(`scripts/eval_grammars.py`, llguidance 1.9.1, xgrammar 0.2.9):",
        "\n".join(MASKS),
        "Where text is forced, llguidance allows the one usual token and xgrammar each beginning of it. In a "
        "string xgrammar lets control tokens stand; where a length is bounded it forbids escapes and lets "
        "control characters through. `-0` is a number to llguidance alone. Schemas that nothing satisfies "
        "(`allOf` of a string and an integer) llguidance refuses, xgrammar does not. Over 20 texts of 24 "
        "tokens that the preset vllm draws through the first schema after three prompts, llguidance forces "
        "12 % of the tokens and xgrammar 8 %; the distortion, 37.1 and 37.8 nats a text (standard errors 2.1 "
        "and 2.0), is not told apart.",
        "## Phrases that are taken back",
        "KoboldCpp keeps a phrase out (`koboldcpp:banned_strings=[...]`, or `phrase_ban` at the end of any "
        "chain) by writing it first: once the text that is held back holds the phrase, however its tokens "
        "spell it, the text goes back to the token in which the phrase begins, and that token is banned at "
        "its place by `soft_ban`. With `--generate` the walk does the same, and `walk_rewinds` tells each "
        "time: step, rule, tokens taken back. As in the engine, every drawn token counts as one of those "
        "that may be written, bans at later places stay when the text goes back further, and the states of "
        "mirostat and adaptive-p are not taken back; "
        "`tests/engine/test_taking_back.py` holds it against the engine's loop. So do sampled `--paths`, and "
        "the texts that `--watch` takes the chance of stopping from: there a step is the place that the text "
        "has come to, and what is drawn counts, taken back or not.",
        "This is not the model's distribution without the phrase: with the first token all that it might "
        "have led to is banned. `back_prob` is that token's probability, `collateral` the part of it that "
        "would not have become the phrase, p(first) (1 - p(rest | first)); `--through` has both for a "
        "target that is a banned phrase (`sequences`).",
        "## Processors of Hugging Face transformers",
        "In its own order, those for other kinds of models last. Each stage is compared with the processor "
        "itself on random rows, and chains of them on 10,000 (`tests/samplers/test_bans.py`, "
        "`tests/samplers/test_huggingface.py`); no row differs. Where a BOS is forced after a prompt of one "
        "token, transformers begins `begin_suppress` one token later; the stage does not.",
        "\n".join(processors()),
        "Not modelled: beams, and llama.cpp's GPU kernels.",
    ]
    return "\n\n".join(parts) + "\n"


def main() -> int:
    """Write the page, or compare it."""
    return settle(PAGE, page())


if __name__ == "__main__":
    sys.exit(main())
