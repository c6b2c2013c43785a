"""Interventions as values: what parses, what is refused and how, and what must change no bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from elimtool.errors import ElimError
from elimtool.model.interventions import (
    Ablate,
    Component,
    Intervention,
    Knockout,
    Patch,
    Scale,
    label,
)
from elimtool.model.interventions.edits import Site
from elimtool.model.interventions.install import installed
from elimtool.model.interventions.recording import record
from elimtool.model.interventions.reference import ReferenceActivations
from elimtool.model.view import Batch, LayerView
from elimtool.prompts.prompt import Message, Prompt, SpanRequest

TEXT = "The capital of France is Paris"


@pytest.mark.parametrize(
    ("made", "canonical"),
    [
        (Ablate.parse("17.3"), "ablate 17.3 mean"),
        (Ablate.parse("head 17.3", how="zero"), "ablate 17.3 zero"),
        (Ablate.parse("mlp 12", how="resample", seed=4), "ablate mlp.12 resample seed 4"),
        (Ablate("mlp.12"), "ablate mlp.12 mean"),
        (Ablate.parse("L29H1"), "ablate 29.1 mean"),
        (Ablate.parse("l29.h1 zero"), "ablate 29.1 zero"),
        (Scale.parse("MLP12=0.5"), "scale mlp.12=0.5"),
        (Patch.parse("f.st@L17H3,m2:4,L12.mlp"), "patch f.st@17.3,mlp.2:4,mlp.12"),
        (Scale.parse("21.7=2"), "scale 21.7=2.0"),
        (Scale.parse("mlp.12=-0.1"), "scale mlp.12=-0.1"),
        (Knockout.parse("France@20-29"), "knockout France@20-29 from last"),
        (Knockout.parse("a@b@7", "later"), "knockout a@b@7-7 from later"),
        (Knockout.parse("S1: The cat"), "knockout S1: The cat from last"),
        (Patch.parse("run.safetensors"), "patch run.safetensors"),
        (Patch.parse("a@b/c.st@17.3,mlp.2:4,embed:0-2"), "patch a@b/c.st@17.3,mlp.2:4,embed:0-2"),
        (Patch.parse("a@b.safetensors"), "patch a@b.safetensors"),
    ],
)  # fmt: skip
def test_canonical_forms_read_back(made: Intervention, canonical: str) -> None:
    assert str(made) == canonical
    assert type(made).parse(canonical.partition(" ")[2]) == made
    assert label((made, made)) == f"{canonical}; {canonical}"


def test_no_intervention_has_no_label() -> None:
    assert label(()) is None
    assert Component.parse("17.3") == Component(17, 3)


@pytest.mark.parametrize(
    ("make", "message", "hint"),
    [
        (
            lambda: Ablate.parse("17"),
            "`ablate` must name a head, an MLP or an expert, got '17'",
            "LAYER.HEAD",
        ),
        (
            lambda: Ablate.parse("mlp12.1"),
            "`ablate` must name a head, an MLP or an expert, got 'mlp12.1'",
            "mlp.LAYER",
        ),
        (lambda: Ablate.parse(""), "`ablate` must name a head, an MLP or an expert, got ''", "29.1"),
        (lambda: Ablate("1.1", "mena"), "`how` 'mena'", "did you mean 'mean'"),
        (lambda: Scale.parse("1.1"), "`scale` must be COMPONENT=FACTOR, got '1.1'", "mlp.12=0.5"),
        (lambda: Scale.parse("1.1=two"), "`scale` must be COMPONENT=FACTOR, got '1.1=two'", "21.7=2.0"),
        (lambda: Scale.parse("1=2"), "`scale` must name a head, an MLP or an expert, got '1'", "mlp.12"),
        (lambda: Scale.parse("1.1=nan"), "must be finite", ""),
        (lambda: Knockout.parse("@3-4"), "names no span", "SPAN@FIRST-LAST"),
        (lambda: Knockout.parse("a@9-2"), "layer 9 comes after layer 2", "a@2-9"),
        (lambda: Knockout("a", None, "first"), "`origin` 'first'", "valid: last, later"),
        (lambda: Patch.parse("f@nonsense"), "an MLP or the residual stream, got 'nonsense'", "residual.9"),
        (lambda: Patch.parse("f@mlp.1:5-3"), "`patch` must name a head, an MLP or the residual", "FILE@SITE"),
    ],
)
def test_bad_forms_say_what_is_valid(make: Any, message: str, hint: str) -> None:
    with pytest.raises(ElimError) as raised:
        make()
    assert message in raised.value.message
    assert hint in raised.value.hint


@pytest.mark.parametrize(
    ("intervention", "message", "hint"),
    [
        (Ablate("4.0"), "`ablate` 4.0: ", "its layers are 0 to 3"),
        (Ablate("mlp.9"), "has no layer 9", "its layers are 0 to 3"),
        (Scale("3.4", 2.0), "has no head 4 in a layer", "its heads are 0 to 3"),
        (Knockout("x", (2, 4)), "`knockout` 'x@2-4'", "its layers are 0 to 3"),
        (Patch("nowhere.safetensors"), "there is no such file", "`save_activations` of elimtool trace"),
    ],
)
def test_what_a_model_lacks_is_refused(
    llama: Any, intervention: Intervention, message: str, hint: str
) -> None:
    with pytest.raises(ElimError) as raised:
        llama.intervened([intervention])
    assert message in raised.value.message
    assert hint in raised.value.hint


@pytest.mark.parametrize(
    ("span", "message", "hint"),
    [
        ("Fance", "`knockout` 'Fance' does not name a span of the prompt", "did you mean 'France'"),
        ("first", "all its tokens are attention sinks", "name <sink>"),
    ],
)
def test_spans_that_cannot_be_knocked_out(llama: Any, span: str, message: str, hint: str) -> None:
    spans = (SpanRequest("France", "France"), SpanRequest("first", "Th"))
    one = llama.encode(Prompt(text=TEXT, spans=spans))
    with pytest.raises(ElimError) as raised:
        Knockout(span).edits(one, 4, None)
    assert message in raised.value.message
    assert hint in raised.value.hint


@pytest.mark.parametrize("text", ["The Eiffel Tower is in", "Eiffel Tower, the Eiffel Tower"])
def test_a_part_of_the_text_is_knocked_out_as_a_span_of_the_same_tokens(llama: Any, text: str) -> None:
    part = "Eiffel Tower" if text.count("Eiffel") == 1 else "Eiffel Tower#2"
    one = llama.encode(Prompt(text=text))
    span = SpanRequest("tower", "Eiffel Tower", occurrence=text.count("Eiffel"))
    named = llama.encode(Prompt(text=text, spans=(span,)))
    found = Knockout(part, (0, 1)).edits(one, 4, None)
    assert found == Knockout("tower", (0, 1)).edits(named, 4, None)
    assert len(found[0].keys) > 1, "several tokens, which no default span has"
    assert str(Knockout.parse(f"{part}@0-1")) == f"knockout {part}@0-1 from last"


@pytest.mark.parametrize(
    ("span", "message", "hint"),
    [
        ("Eiffel Tower", "the text 'Eiffel Tower' occurs 2 times", "from Eiffel Tower#1 to Eiffel Tower#2"),
        ("Eiffel Tower#3", "the text 'Eiffel Tower' occurs 2 times", "say which one"),
        ("Eiffel tower", "does not name a span of the prompt, and is not in its text", "NAME=TEXT"),
    ],
)
def test_texts_that_cannot_be_knocked_out(llama: Any, span: str, message: str, hint: str) -> None:
    prompt = Prompt(text="Eiffel Tower, the Eiffel Tower", spans=(SpanRequest("the", ", the"),))
    for refuse in (
        lambda: Knockout(span).fits(llama.encode(prompt)),
        lambda: Knockout(span).check_prompt(prompt),
    ):
        with pytest.raises(ElimError) as raised:
            refuse()
        assert message in raised.value.message
        assert hint in raised.value.hint


def test_names_that_only_the_model_knows_are_left_to_it(llama: Any) -> None:
    prompt = Prompt(text=TEXT)
    one = llama.encode(prompt)
    names = [span.name for span in one.spans] + [
        name.partition(":")[2] for name in (s.name for s in one.spans)
    ]
    for name in filter(None, [*names, "3", "S2", "<s>", "prefill", "written"]):
        Knockout(name).check_prompt(prompt)
    Knockout("anything").check_prompt(Prompt(messages=(Message("user", "Hi"),)))
    with pytest.raises(ElimError, match="is not in its text"):
        Knockout("apita").fits(one)  # a part of a word, which a prompt may hold by chance
    assert Knockout("法国").occurrence("你好法国人") == (2, 4), "scripts without spaces have no whole words"


def test_default_spans_have_short_names(llama: Any) -> None:
    one = llama.encode(Prompt(text=TEXT))
    assert Knockout("3").edits(one, 4, None) == Knockout(f"3:{one.tokens[3]}").edits(one, 4, None)
    assert Knockout("3").edits(one, 1, None)[0].keys == (3,)
    shown = [token.strip() for token in one.tokens]
    twice = next(token for token in shown if token and shown.count(token) > 1)
    with pytest.raises(ElimError, match=r"is the name of \d spans"):
        Knockout(twice).edits(one, 4, None)


def test_a_sink_in_a_span_is_left_out_and_said(llama: Any) -> None:
    one = llama.encode(Prompt(text=TEXT, spans=(SpanRequest("s", "The capital"),)))
    span = next(span for span in one.spans if span.name == "s")
    assert span.tokens[0] == 0 and one.sinks == (0,)
    (cut,) = Knockout("s", (2, 2)).edits(one, 4, None)
    assert cut.keys == span.tokens[1:]
    assert "without its attention sink (0 " in Knockout("s").note(one)
    (sink,) = Knockout("<sink>", (2, 2)).edits(one, 4, None)
    assert sink.keys == (0,) and Knockout("<sink>").note(one) == ""


def _final(model: Any, batch: Batch, *interventions: Intervention, reference: Any = None) -> Tensor:
    views: list[LayerView] = []
    model.intervened(interventions, reference).stream(batch, (), views.append)
    return views[-1].residual


def _batch(model: Any, *texts: str, position: Any = "all") -> Batch:
    spans = (SpanRequest("France", "France"),)
    return Batch.of([model.encode(Prompt(text=text, spans=spans), position=position) for text in texts])


def test_what_changes_nothing_changes_no_bit(llama: Any) -> None:
    batch = _batch(llama, TEXT)
    untouched = _final(llama, batch)
    assert torch.equal(_final(llama, batch, Scale("1.2", 1.0), Scale("mlp.2", 1.0)), untouched)
    one = batch.encoded[0]
    start = min(next(span.tokens for span in one.spans if span.name == "France"))
    early = Batch.of([llama.encode(one.prompt, position=start - 1)])
    future = Knockout("France")
    assert torch.equal(_final(llama, early, future), _final(llama, early))
    assert "nothing to cut" in future.note(early.encoded[0])
    assert future.note(one) == ""


def test_knockout_cuts_only_the_layers_and_rows_it_names(llama: Any) -> None:
    batch = _batch(llama, TEXT, position="last")
    keys = next(span.tokens for span in batch.encoded[0].spans if span.name == "France")
    views: list[LayerView] = []
    changed = llama.intervened([Knockout("France", (1, 2))])
    changed.stream(batch, {"attention"}, views.append)
    for view in views[1:]:
        mass = view.attention[0, :, 0, list(keys)].sum(-1)
        visible = view.visible[0, 0, list(keys)]
        assert bool((mass == 0).all()) == (view.layer in (1, 2))
        assert bool(visible.any()) != (view.layer in (1, 2))
        torch.testing.assert_close(view.attention.sum(-1), torch.ones(1, 4, 1), atol=1e-5, rtol=0)


def _reference(seed: int = 0) -> ReferenceActivations:
    dice = torch.Generator().manual_seed(seed)
    sites = [Site(layer, kind) for layer in range(4) for kind in ("heads", "mlp")]
    means = {site: torch.randn(32, generator=dice) for site in sites}
    return ReferenceActivations(4, means, {site: torch.randn(6, 32, generator=dice) for site in sites}, {})


@pytest.mark.parametrize(
    "interventions",
    [
        (Ablate("1.2"), Ablate("mlp.2", "zero")),
        (Ablate("1.2", "resample"), Ablate("mlp.2", "resample", 5)),
        (Scale("1.2", 3.0),),
        (Knockout("France", (0, 2)),),
        (Knockout("France", None, "later"),),
    ],
    ids=str,
)
def test_batched_equals_single(llama: Any, interventions: tuple[Intervention, ...]) -> None:
    texts = ["In France it", TEXT, TEXT + ", and the text of a token is eliminated when no layer keeps it"]
    together = _final(llama, _batch(llama, *texts), *interventions, reference=_reference())
    plain = _final(llama, _batch(llama, *texts))
    for row, text in enumerate(texts):
        alone = _final(llama, _batch(llama, text), *interventions, reference=_reference())[0]
        torch.testing.assert_close(together[row, : len(alone)], alone, atol=1e-4, rtol=0)
        assert not torch.allclose(alone, plain[row, : len(alone)], atol=1e-3)


def test_resampling_depends_on_seed_and_component_alone(llama: Any) -> None:
    batch = _batch(llama, TEXT)
    reference = _reference()
    one = _final(llama, batch, Ablate("1.2", "resample", 1), reference=reference)
    assert torch.equal(one, _final(llama, batch, Ablate("1.2", "resample", 1), reference=reference))
    assert not torch.equal(one, _final(llama, batch, Ablate("1.2", "resample", 2), reference=reference))
    drawn = reference.drawn(Site(1, "heads"), 2, torch.arange(12), 0)
    assert torch.equal(drawn[:6], drawn[6:]) and len(drawn[:6].unique(dim=0)) == 6


def test_rows_of_a_batch_can_have_their_own_interventions(llama: Any) -> None:
    plans = [(), (Ablate("1.2", "zero"),), (Knockout("France"), Ablate("mlp.0", "zero"))]
    batch = _batch(llama, TEXT, TEXT, TEXT)
    views: list[LayerView] = []
    with installed(llama.bridge, batch, plans):
        llama.stream(batch, (), views.append)
    for row, plan in enumerate(plans):
        alone = _final(llama, _batch(llama, TEXT), *plan)[0]
        torch.testing.assert_close(views[-1].residual[row], alone, atol=1e-4, rtol=0)
    assert torch.equal(_final(llama, batch), _final(llama, batch, *plans[0]))


def test_a_model_made_in_memory(tiny: Any) -> None:
    batch = _batch(tiny, TEXT)
    untouched = _final(tiny, batch)
    for one in (Ablate("1.1", "zero"), Ablate("mlp.1", "zero"), Knockout("France", None, "later")):
        assert float((_final(tiny, batch, one) - untouched).abs().max()) > 1e-3, str(one)
    assert torch.equal(_final(tiny, batch), untouched)


def test_recordings_that_do_not_fit_are_refused(llama: Any, tiny: Any, tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    batch = _batch(llama, TEXT)
    record(llama, batch.encoded[0]).save(file)
    with pytest.raises(ElimError, match=r"recorded from other weights.*record it with the model tiny"):
        tiny.intervened([Patch(str(file))])
    with pytest.raises(ElimError, match=r"tokens, the prompt has .*exchange tokens one for one"):
        _final(llama, _batch(llama, TEXT + " yes"), Patch(str(file)))
    with pytest.raises(ElimError, match="position 99 is outside the prompt"):
        _final(llama, batch, Patch(str(file), ("mlp.1:99",)))
    with pytest.raises(ElimError, match="no layer 7"):
        llama.intervened([Patch(str(file), ("residual.7",))])
    text = tmp_path / "b.txt"
    text.write_text("no tensors")
    with pytest.raises(ElimError, match="not a safetensors file"):
        llama.intervened([Patch(str(text))])
    first = file.read_bytes()
    with pytest.raises(ElimError, match="exists"):
        record(llama, batch.encoded[0]).save(file)
    record(llama, batch.encoded[0]).save(file, overwrite=True)
    assert file.read_bytes() == first
    with pytest.raises(ElimError, match="cannot write"):
        record(llama, batch.encoded[0]).save(text / "where")
    record(llama, batch.encoded[0]).save(tmp_path / "no" / "where")
    assert (tmp_path / "no" / "where").read_bytes() == first


def test_a_place_that_does_not_run_is_an_error_and_hooks_are_taken_out(llama: Any) -> None:
    batch = _batch(llama, TEXT)
    untouched = _final(llama, batch)
    with (
        pytest.raises(ElimError, match="layer 1 did not run through its hooks"),
        installed(llama.bridge, batch, [[Ablate("1.2", "zero")]]),
    ):
        pass
    with pytest.raises(ZeroDivisionError), installed(llama.bridge, batch, [[Ablate("1.2", "zero")]]):
        raise ZeroDivisionError
    assert torch.equal(_final(llama, batch), untouched)
