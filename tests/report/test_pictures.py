"""Pictures for print: chosen by name, drawn in the palette, the same bytes every time, safe with any text."""

from __future__ import annotations

import io
import warnings
from dataclasses import replace

import pytest
from PIL import Image

from elimtool.errors import ElimError
from elimtool.report.figures import palette
from elimtool.report.figures.choose import NAMES, OF_PROMPT, choose
from elimtool.report.figures.draw import FORMATS, picture
from elimtool.report.figures.plots.fonts import spelled
from tests.report import runs

ALWAYS = [
    name
    for name in NAMES
    if name
    not in (
        "associations",
        "regimes",
        "lost_layers",
        "attribution",
        "attention_matrix",
        "head_ablation",
        "locations",
        "experts",
    )
]
SIGNATURES = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}


def chosen(run, name, prompt="france"):
    given = {"prompt": prompt} if name in OF_PROMPT else {}
    given |= {
        "components": {"target": "Paris"},
        "contrast_components": {"target": "Paris"},
        "head_attribution": {"target": "Paris"},
        "logit_lens_probability": {"target": "Paris"},
        "heads": {"layer": 1},
        "head_attention": {"span": "1: capital"},
    }.get(name, {})
    return choose(run, name, **given)


@pytest.mark.parametrize("name", ALWAYS)
def test_every_figure_is_drawn(whole_run, name):
    image = Image.open(io.BytesIO(picture(chosen(whole_run, name)))).convert("RGB")
    found = {
        "#{:02x}{:02x}{:02x}".format(*colour) for _, colour in image.getcolors(image.width * image.height)
    }
    assert found & {*palette.HEAT_LIGHT, *palette.LINES_LIGHT}
    assert image.width >= 1400


@pytest.mark.parametrize("format", FORMATS)
def test_the_same_figure_is_the_same_file(whole_run, format):
    figure = chosen(whole_run, "ranks")
    first = picture(figure, format)
    assert first.startswith(SIGNATURES[format])
    assert picture(figure, format) == first


def test_characters_that_no_font_has_are_written_by_their_code_points(whole_run):
    assert spelled({"a": ["→ é\n\U0010fffe"], "b": 1}) == {"a": ["→ é\nU+10FFFE"], "b": 1}
    figure = chosen(whole_run, "logit_lens")
    words = [["\U0010fffe" for _ in row] for row in figure.words]
    assert spelled(replace(figure, words=words)).words[0][0] == "U+10FFFE"
    assert picture(replace(figure, words=words)) != picture(replace(figure, words=spelled(words)))  # says so


def test_a_heat_map_has_the_colours_of_its_values():
    figure = choose(runs.france(), "retention")
    image = Image.open(io.BytesIO(picture(figure))).convert("RGB")
    counts = {"#{:02x}{:02x}{:02x}".format(*colour): count for count, colour in image.getcolors(10**7)}
    cells = [value for row in figure.values for value in row]
    steps = [sum(value >= border for border in palette.STEPS["lift"]) for value in cells]
    area = [counts.get(colour, 0) for colour in palette.HEAT_LIGHT]
    shares = [steps.count(step) / len(steps) for step in range(8)]
    assert [one / sum(area) for one in area] == pytest.approx(shares, abs=0.03)


@pytest.mark.parametrize("text", ["$x_1^$ \\frac{", "\u05e9\u05dc\u05d5\u05dd", "\u4f60\u597d", "a" * 500])
def test_any_text_can_be_a_label(text):
    from dataclasses import replace

    from tests.report.synthetic import LONDON, PARIS, FakePrompt, make_run

    run = make_run(FakePrompt(["The", text, " is"], [replace(PARIS, text=text), LONDON]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("retention", "ranks", "funnel"):
            assert picture(choose(run, name)).startswith(SIGNATURES["png"])


@pytest.mark.parametrize(
    ("name", "given", "message", "hint"),
    [
        ("retentoin", {}, "no figure 'retentoin'", "did you mean 'retention'"),
        ("ranks", {}, "4 prompts", "`prompt`: france, spain"),
        ("ranks", {"prompt": "italy"}, "no prompt 'italy'", "france"),
        ("ranks", {"prompt": "broken"}, "nothing was measured", ""),
        ("ranks", {"prompt": "france", "position": 0}, "position 0 was not probed", "probed: "),
        ("contrast_components", {"prompt": "france", "foil": "Oslo"}, "'Oslo' was not followed", "'Berlin'"),
        ("ranks", {"prompt": "france", "foil": "Berlin"}, "`foil` does not go with figure 'ranks'", "out"),
        ("components", {"prompt": "text"}, "tokens were followed", "`target`"),
        ("components", {"prompt": "france", "target": "Rome"}, "'Rome' was not followed", "'Paris'"),
        ("heads", {"prompt": "france"}, "one layer", "`layer`"),
        ("heads", {"prompt": "france", "layer": 99}, "no layer 99", "layers: 0 to 3"),
        ("outcomes", {"prompt": "france"}, "`prompt` does not go", ""),
        (
            "regimes",
            {},
            "nothing to show as 'regimes'",
            "its tables are missing, or hold nothing of the kind",
        ),
    ],
)
def test_what_cannot_be_chosen_is_said(whole_run, name, given, message, hint):
    with pytest.raises(ElimError) as told:
        choose(whole_run, name, **given)
    assert message in told.value.message and hint in told.value.hint
