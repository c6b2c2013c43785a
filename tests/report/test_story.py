import shlex
import subprocess
import sys
from dataclasses import replace
from pkgutil import walk_packages
from typing import Any

import pyarrow as pa
import pytest

import elimtool.report
from elimtool.report.trace.advice import PURPOSES
from elimtool.report.trace.story import story
from elimtool.run.reader import Run
from elimtool.run.schema import TABLES
from tests.report.printed import detailed, flat, printed, section
from tests.report.runs import judged
from tests.report.synthetic import (
    HF,
    LLAMA,
    LONDON,
    PARIS,
    VLLM,
    FakePrompt,
    Token,
    fitted,
    make_run,
    path,
    spread,
)

FRANCE = ["The", " capital", " of", " France", " is"]


def france(**changes):
    return FakePrompt(**{"tokens": FRANCE, "targets": [PARIS, LONDON]} | changes)


@pytest.mark.parametrize("width", [40, 80, 200])
@pytest.mark.parametrize("colour", [False, True])
def test_all_facts_at_every_width(width, colour):
    text = flat(printed(judged(make_run(france())), width, colour=colour))
    for fact in (
        "smollm2 float32, 30 layers, cpu",
        '"The capital of France is"',
        "5 tokens, read at position 4 ' is'",
        "The model would write next",
        "' Paris' has rank 1 (p = 0.77).",
        "' London' has rank 3 (p = 0.012), behind ' Paris' 0.77, ' word2' 0.021.",
        "' Paris' survived: it is the model's first choice and every sampler keeps it.",
        "' London' was outranked by ' Paris' (p = 0.77 against 0.012), and min_p of llama.cpp (p 0.014 after"
        " top_p; needed min_p of at most 0.015, is 0.05) cuts it; it can still be drawn (p 0.013 with hf).",
        "llama.cpp: top_k 40, top_p 0.95, min_p 0.05, temperature 0.8; hf: top_k 50",
        "rank 1 from layer 28 on",
        "top-10 from layer 22 on",
        "' Paris': direct logit attribution above mean, not compared with other tokens: mlp 0 adds 1.2,"
        " mlp 1 takes 0.5",
        "llama.cpp cuts ' London' at min_p and keeps ' Paris' (p 1) alone",
        "hf and vllm keep ' Paris' (p",
        "among 50 and all 49,152 tokens",
        "█ rank 1, ▁ rank 31,204",
        "Left to right: embedding, layers 0 to 29, each read as if the last (raw lens).",
        "0-9",
        "20-29",
        "63%",
    ):
        assert fact in text, fact


@pytest.mark.parametrize("width", [40, 80, 200])
def test_verbose_tells_every_layer_stage_and_span(width):
    text = flat(detailed(judged(make_run(france())), width))
    for fact in (
        "0-5",
        "24-29",
        "65%",
        "31,204 at the embedding",
        "1 from layer 28 on",
        "p 0.77",
        "top_p 0.95",
        "off: top_n_sigma, typical, xtc",
        "' Paris' ends at rank 1 with p = 0.77, rank 1 from layer 28 on; it",
        "was cut by min_p of llama.cpp",
        "vllm: nothing is cut, all 49,152 tokens stay",
    ):
        assert fact in text, fact


@pytest.mark.parametrize("width", [1, 20, 30, 1000])
def test_odd_widths(width):
    text = flat(printed(make_run(france()), max(width, 20)))
    assert "' Paris' ends at rank 1" in text
    story(make_run(france()), width=width)


def test_colour_adds_nothing_but_colour():
    run = make_run(france())
    assert printed(run, colour=True) == printed(run, colour=False)


TYPED = ["elimtool", "trace", "The capital of France is", "-t", "Paris", "-o", "a run"]
OFFERED = {name: lambda _: TYPED for name in PURPOSES if name != "fit"}  # a run offers either ridge or fit


@pytest.mark.parametrize("targets", [[PARIS], [LONDON]])
@pytest.mark.parametrize("lens", ["raw", "ridge"])
@pytest.mark.parametrize("words", [5, 30, 300])
def test_the_story_of_one_target_fits_on_a_screen(targets, lens, words):
    tokens = [*FRANCE, *(f" word{index}" for index in range(words - 5))]
    run = judged(make_run(france(tokens=tokens, targets=targets, lens=lens)))
    told = printed(run, 80, commands=OFFERED)
    assert len(told.splitlines()) <= 40, told
    assert "Try next" in told


def test_offered_commands_can_be_pasted_into_a_shell():
    odd = ["elimtool", "report", "it's/a $run"]
    commands = {name: OFFERED[name] for name in ("confirm", "attribute")} | {"report": lambda _: odd}
    lines = section(printed(judged(make_run(france())), 60, commands=commands), "Try")
    lines = lines[next(index for index, line in enumerate(lines) if line.startswith("  #")) :]
    assert any(line.endswith("\\") for line in lines)
    pasted = shlex.split("\n".join(lines).replace("\\\n", ""), comments=True)
    assert pasted == [*TYPED, *TYPED, *odd]


def test_of_a_prompt_that_no_line_holds_the_place_is_shown():
    long = {"attribute": lambda _: ["elimtool", "attribute", "word " * 100, "-t", "x"]}
    lines = section(printed(make_run(france()), commands=long), "Try next")
    assert lines[1:3] == [
        "  # score what each part of the prompt adds to ' Paris'",
        "  elimtool attribute PROMPT -t x",
    ]
    assert lines[-1] == "  # PROMPT: the prompt as you gave it"


def test_only_what_this_run_lacks_is_offered():
    assert "--confirm" not in printed(
        make_run(france()), commands={"confirm": lambda _: ["elimtool", "--confirm"]}
    )
    assert "Try next" not in printed(make_run(france()))


def test_a_long_prompt_is_shortened_in_the_middle():
    tokens = ["Start", *[f" word{i}" for i in range(900)], " end"]
    spans = {"S1: Start word0": list(range(1, 902))}
    head = printed(make_run(france(tokens=tokens, spans=spans)), 80).splitlines()[1:3]
    assert head[0].startswith('"Start word0')
    assert head[1].endswith('end"')
    assert "…" in "".join(head)


def test_only_tokens_that_were_asked_for_are_marked_as_targets():
    """At a position that the model wrote the token that came next is followed too."""
    run = make_run(france())
    prompts = run.arrow("prompts")
    known = prompts.to_pylist()
    known[0] |= {"targets": [LONDON.text], "foils": [], "spellings": [LONDON.text]}
    told = printed(Run.from_tables(run.manifest, run_tables(run) | {"prompts": rows_of(known, prompts)}))
    marked = {line.split("'")[1]: line.rsplit("←", 1)[1].strip() for line in told.splitlines() if "←" in line}
    assert marked == {" Paris": "written", " London": "target"}


def rows_of(rows: list[dict[str, Any]], like: pa.Table) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=like.schema)


def test_appended_tokens_are_named():
    prompt = france(tokens=["2", "+", "2", "=", " "], n_appended=1, targets=[Token("4", path(900, (29, 1)))])
    run = make_run(prompt)
    assert "read after the space, with which all targets and foils begin" in printed(run)
    prompts = run.arrow("prompts")
    place = prompts.column_names.index("appended_logprob")
    for logprob, told in (
        (-0.147, "read after the space that the model writes first, p 0.86"),
        (-3.5, "read after the space, which the model writes here with p 0.03"),
    ):
        known = prompts.set_column(place, prompts.schema.field(place), pa.array([logprob]))
        assert told in printed(Run.from_tables(run.manifest, {**run_tables(run), "prompts": known}))


@pytest.mark.parametrize(
    ("token", "spelling", "told"),
    [
        ("Par", " Paris", "only the first token 'Par' of ' Paris' is read"),
        (" ", " 4", "'4' is read by the white space before it alone"),
        (" Tokyo", " Tokyo", "written ' Tokyo', p 0.03 for all of it; 'Tokyo' has p 0.0015"),
    ],
)
def test_what_is_read_of_a_target_is_said(token: str, spelling: str, told: str):
    run = make_run(france(targets=[Token(spelling.strip(), path(900, (29, 1)))]))
    rows = run.arrow("survival").to_pylist()
    own = {"target_token": token, "spelling": spelling, "target_logprob": -3.5}
    own |= {"other_spelling": spelling.strip(), "other_spelling_logprob": -6.5}
    survival = TABLES["survival"].from_rows([row | own for row in rows])
    assert told in flat(printed(Run.from_tables(run.manifest, {**run_tables(run), "survival": survival})))


def run_tables(run: Run) -> dict[str, Any]:
    return {name: run.arrow(name) for name in run.tables}


def test_another_lens_gets_no_caution():
    text = printed(make_run(france(lens="ridge")))
    assert "ridge lens" in text


def test_several_prompts_and_one_that_failed():
    bad = FakePrompt(["x"], prompt_id="bad", error="prompt 'x' is longer than the context (cut it)")
    text = printed(make_run(france(prompt_id="a"), bad, france(prompt_id="c")))
    assert "── 1 of 3: a ──" in text and "── 3 of 3: c ──" in text
    told = section(text, "── 2 of 3: bad")
    assert told[-1] == "error: prompt 'x' is longer than the context (cut it)"
    assert text.count("' Paris' ends at rank 1") == 2


def test_only_a_failed_prompt():
    text = printed(make_run(FakePrompt(["x"], error="no [bold]tokens[/bold]\nat all")))
    assert "error: no [bold]tokens[/bold]↵at all" in text


def test_more_prompts_than_are_told_are_counted():
    run = make_run(*[france(prompt_id=f"p{i}") for i in range(4)])
    text = printed(run, most_prompts=3)
    assert "1 more prompts are not shown" in text and "p3" not in text


def test_every_position_gets_a_line_and_one_is_told_in_full():
    text = printed(make_run(france(positions=[0, 1, 2, 3, 4])))
    head = text.splitlines()[2:4]
    assert head[0] == "5 tokens, read at 5 positions: position 0 to position 4"
    assert head[1] == "position N is the prediction after token N, counted from 0"
    lines = section(text, "Prediction by position")
    told = flat("\n".join(lines))
    assert "' Paris' is likeliest at position 4: rank 1, p 0.77; in the top-10 at 5 of 5 positions." in told
    table = lines[
        next(index for index, line in enumerate(lines) if line.split()[:2] == ["position", "token"]) :
    ]
    assert table[0].split()[:4] == ["position", "token", "predicts", "p"]
    assert [line.split()[0] for line in table[1:]] == ["0", "1", "2", "3", "4"]
    assert table[-1].split()[-2:] == ["1", "0.77"]
    assert "── In full: position 4 ' is', the last; ' Paris' is likeliest here ──" in text


def test_of_several_positions_the_one_with_the_likeliest_target_is_told():
    """Whatever is said of the last position would be of no use where a target had its chance before."""
    run = make_run(france(positions=[1, 3, 4]))
    rows = run.arrow("survival").to_pylist()
    for row in rows:
        row["prob"] = {1: 0.1, 3: 0.6, 4: 0.2}[row["position"]]
    told = Run.from_tables(run.manifest, run_tables(run) | {"survival": rows_of(rows, run.arrow("survival"))})
    text = printed(told)
    assert "In full: position 3 ' France'; ' Paris' is likeliest here ──" in text
    assert "What ' France' attends to" in text and "What ' is' attends to" not in text
    place = []
    printed(
        judged(told), commands={"attribute": lambda wish: place.append((wish.place, wish.single)) or ["x"]}
    )
    assert place == [("3", False)]


def test_written_positions_have_one_numbering():
    run = make_run(france(tokens=[*FRANCE, " Paris", "."], positions=[4, 5]))
    prompts = run.arrow("prompts").to_pylist()
    prompts[0]["n_written"] = 2
    tables = run_tables(run) | {"prompts": rows_of(prompts, run.arrow("prompts"))}
    text = printed(Run.from_tables(run.manifest, tables), 120)
    assert "7 tokens, the last 2 written by the model, read at 2 positions: written 0 to written 1" in flat(
        text
    )
    lines = [line.split() for line in section(text, "Prediction by position")]
    assert [line[:3] for line in lines[-2:]] == [["0", "'", "Paris'"], ["1", "'.'", "'"]]
    assert (
        "In full: written 1, the last, after ' Paris' ('.' was written); ' Paris' is likeliest here ──"
        in text
    )
    assert "position 4" not in text and "position 5" not in text


def test_a_word_that_is_likelier_without_its_space_is_said_in_the_course_of_the_target():
    run = make_run(france(tokens=[*FRANCE, " Paris", "."], positions=[4, 5]))
    prompts = run.arrow("prompts").to_pylist()
    prompts[0]["n_written"] = 2
    step = {"prompt_id": "p0", "position": 4, "step": 0, "chain": "own", "token": "Bon", "model_prob": 0.33}
    step |= {"model_rank": 1, "prob": 0.5, "runner_up": "London", "runner_up_prob": 0.11}
    same = step | {
        "position": 5,
        "step": 1,
        "token": " London",
        "runner_up": "London",
        "runner_up_prob": 1e-9,
    }
    walked = TABLES["walk"].from_rows(fitted("walk", [step, same]))
    tables = run_tables(run) | {"prompts": rows_of(prompts, run.arrow("prompts")), "walk": walked}
    text = flat(printed(Run.from_tables(run.manifest, tables)))
    told = "rank 3, p 0.012; in the top-10 at 2 of 2 positions; as 'London' p 0.11 at written 0."
    assert f"' London' is likeliest at written 1: {told}" in text
    assert text.count("; as '") == 1


def test_the_written_token_that_nobody_asked_for_gets_no_verdict():
    run = judged(make_run(france()))
    prompts = run.arrow("prompts").to_pylist()
    prompts[0] |= {"targets": [" London"]}
    text = printed(run.with_rows("prompts", prompts))
    assert "' London' was outranked" in text and "' Paris' survived" not in text
    assert "' Paris' has rank" not in text and "' Paris'  " in section(text, "Rank by layer")[1]


def test_a_target_that_is_scored_with_a_space_says_so_once():
    run = make_run(france(targets=[replace(PARIS, text="Paris")]))
    prompts = run.arrow("prompts").to_pylist()
    prompts[0] |= {"spellings": [" Paris"]}
    text = printed(run.with_rows("prompts", prompts))
    assert (
        text.count("'Paris', scored as ' Paris', has rank 1 (p = 0.77).") == 1
        and text.count("scored as") == 1
    )


def test_of_many_positions_the_first_and_last_are_shown():
    tokens = ["a", *[" b"] * 299]
    prompt = france(tokens=tokens, positions=list(range(300)), layers=2, chains=(HF,))
    prompt.targets = [Token(" b", [9, 2, 1])]
    prompt.spans = {"S1: a b": list(range(1, 300))}
    lines = section(printed(make_run(prompt)), "Prediction by position")
    assert any("260 more positions" in line for line in lines)
    numbers = [line.split()[0] for line in lines if line.split()[0].isdigit()]
    assert numbers == [*map(str, range(20)), *map(str, range(280, 300))]


def test_tables_that_are_missing_are_left_out():
    whole = make_run(france())
    for gone in ("attention_layers", "lens", "sampling", "survival", "lens_layers"):
        tables = {name: whole.arrow(name) for name in whole.tables if name != gone}
        text = printed(Run.from_tables(whole.manifest, tables))
        assert "The capital of France is" in text, gone


def test_no_sampler_chain():
    text = flat(printed(make_run(france(chains=()))))
    assert "Samplers" not in text
    assert "ends at rank 1 with p = 0.77, rank 1 from layer 28 on." in text


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "cp437"])
def test_a_console_that_is_not_utf_8(encoding):
    tokens = ["The", " 東京", " é", "\n", " שלום", " is"]
    prompt = france(tokens=tokens, targets=[PARIS, Token(" 日本", path(900, (29, 40)))])
    text = printed(make_run(prompt), encoding=encoding)
    assert "\\u6771\\u4eac" in text and "\\u65e5" in text
    assert "8 rank 1, 1 rank" in text and "<- target" in text
    assert "49,152 -> 40" in detailed(make_run(prompt), encoding=encoding)


def test_neither_torch_nor_transformers_is_imported() -> None:
    """By no story and no figure. Comparisons, and the page that has them, may import pandas."""
    names = [one.name for one in walk_packages(elimtool.report.__path__, "elimtool.report.")]
    light = [one for one in names if not one.startswith(("elimtool.report.compare", "elimtool.report.html"))]
    assert "elimtool.report.trace.story" in light and "elimtool.report.figures.choose" in light
    code = f"import sys, {', '.join(light)}, elimtool.analysis.closing\n"
    code += "heavy = {'torch', 'transformers', 'transformer_lens', 'pandas', 'elimtool.model'}\n"
    code += "heavy &= set(sys.modules)\n"
    code += "sys.exit(f'imports {heavy}' if heavy else 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("share", "said"), [(0.9, True), (0.81, True), (0.79, False), (0.6, False)])
def test_a_near_tie_is_said_to_be_one_and_the_foil_is_offered(share: float, said: bool) -> None:
    second = Token(" London", path(900, (20, 4), (29, 2)))
    probs = spread([0.4, 0.4 * share, 0.01])
    wished = []
    commands = {"foil": lambda wish: wished.append(wish.foil) or ["x"]}
    told = flat(
        printed(judged(make_run(france(targets=[second], probs=probs, chains=(VLLM,)))), commands=commands)
    )
    assert ("was narrowly outranked by ' word1'" in told) is said
    assert ("nearly a tie" in told) is said
    assert "and it can still be drawn (p 0" in told and told.count("with vllm)") == 1
    assert wished == [" word1"] and "# what raises ' word1' above ' London'" in told


def test_after_a_cut_the_setting_that_keeps_the_target_is_offered() -> None:
    second = Token(" London", path(900, (20, 4), (29, 2)))
    chain = ("own", [("top_k", {"k": 5, "ties": "exact"}), ("top_p", {"p": 0.3, "boundary": "reach"})])
    run = judged(
        with_bounds(make_run(france(targets=[second], probs=spread([0.4, 0.3, 0.01]), chains=(chain,))))
    )
    wished = []
    commands = {name: lambda wish: wished.append(wish) or ["x"] for name in PURPOSES}
    told = flat(printed(run, commands=commands))
    assert "'s first choice" not in told and "was eliminated by a sampler" in told
    assert "one likelier token holds 0.553; needed top_p > 0.553, is 0.3) cuts it" in told
    assert "own cuts ' London' at top_p and leaves only ' Paris'" in told
    assert "# the setting at which top_p keeps ' London'" in told
    assert (wished[0].chain, wished[0].stage, wished[0].value) == ("own", "top_p", 0.56)
    assert "test by ablation" not in told and "which part of the prompt" not in told


def test_the_token_that_alone_stands_above_is_named() -> None:
    second = Token(" London", path(900, (20, 4), (29, 2)))
    chain = ("own", [("top_p", {"p": 0.3, "boundary": "reach"})])
    first, probs = replace(PARIS, text=" Paris"), spread([0.4, 0.3, 0.01])
    run = make_run(france(targets=[second, first], probs=probs, chains=(chain,)))
    told = flat(printed(judged(with_bounds(run))))
    assert "top_p of own (' Paris' alone holds 0.400; needed top_p > 0.400, is 0.3) cuts it" in told


def test_what_no_chain_keeps_is_said_to_be_kept_by_none() -> None:
    chain = ("own", [("top_k", {"k": 2, "ties": "exact"})])
    told = flat(printed(judged(make_run(france(targets=[LONDON], chains=(chain,))))))
    assert "was outranked by ' word1'" in told and "cuts it; no chain keeps it." in told


def test_lost_between_layers_and_cut_by_samplers_are_two_sentences() -> None:
    lost = Token(" Rome", path(900, (4, 6), (10, 40), (29, 74)))
    run = judged(make_run(france(targets=[lost], chains=(LLAMA, HF))))
    rows = [row | {"lost_p": 0.03, "lost_chance": 0.1} for row in run.arrow("verdicts").to_pylist()]
    told = flat(printed(run.with_rows("verdicts", rows)))
    first, _, then = told.partition("and ends at rank 74. ")
    assert "' Rome' was lost at layer 6" in first
    assert then.startswith(
        "Only about 3% of control tokens (as frequent in text as ' Rome') are lost as badly. At that rank,"
        " whatever the layers did, top_k of llama.cpp and hf (needed k of at least 74, is 40 and 50) cut it."
    )
    assert "p-value" not in told and "p-value 0.03" in flat(detailed(run.with_rows("verdicts", rows)))


@pytest.mark.parametrize(
    ("first", "other", "told"),
    [
        (" ", " 4", "Read after the space that the model writes first (p 0.77), '4' has rank 1, p 0.96:"),
        (" word1", " 4", "Written ' 4' it is likelier: p 0.74 for all of it: leave `target_space` out."),
    ],
)
def test_a_likelier_spelling_is_said_before_lost_and_offered_first(first: str, other: str, told: str) -> None:
    run = judged(make_run(france(targets=[Token("4", path(900, (4, 6), (10, 40), (29, 74)))])))
    own = {"spelling": "4", "target_token": "4", "other_spelling": other, "other_spelling_logprob": -0.3}
    rows = [row | own | {"target_logprob": -8.0} for row in run.arrow("survival").to_pylist()]
    tops = run.arrow("top_tokens").to_pylist()
    tops[0] |= {"token": first}
    run = run.with_rows("survival", rows).with_rows("top_tokens", tops)
    manifest = run.manifest.model_copy(update={"config": {"target_space": "exact"}})
    run = Run.from_tables(manifest, run_tables(run))
    text = flat(printed(run, commands={name: lambda _, name=name: [name] for name in PURPOSES}))
    assert 0 < text.index(told) < text.index("lost at layer")
    offered = text[text.index("Try next") :]
    assert offered.split("#")[1].startswith(" read '4' in the spelling that the model finds likelier")
    assert "test by ablation" not in offered
    less = [row | {"other_spelling_logprob": -9.0} for row in rows]
    text = flat(printed(run.with_rows("survival", less), commands={"spelling": lambda _: ["x"]}))
    assert "target_space" not in text and "Try next" not in text


def with_bounds(run: Run) -> Run:
    """The run with the share of the first token's probability that verdicts judge by."""
    rows = run.arrow("survival").to_pylist()
    for row in rows:
        row |= {"max_min_p": row["prob"] / 0.4, "min_top_p": 0.4}
    return run.with_rows("survival", rows)
