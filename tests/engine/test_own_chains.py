"""Chains and stages as Python objects, wherever a chain's name can stand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

import elimtool
from elimtool import AttributeOptions, Chain, ElimError, Stage, TraceOptions
from elimtool.samplers import STAGES, resolve
from elimtool.samplers.candidates import Candidates
from elimtool.samplers.stage import Context, Effect

TEXT = "The capital of France is"


@dataclass(frozen=True)
class Near(Stage):
    """Keeps tokens at most ``nats`` under the best; a user's own, known to no dict."""

    kind: ClassVar[str] = "near"
    main: ClassVar[str] = "nats"
    margin_unit: ClassVar[str] = "nats"
    nats: float = 1.0

    def apply(self, c: Candidates, _: Context, /) -> Effect:
        edge = c.top - self.nats
        return Effect(c, keep=c.scores >= edge, threshold=edge[:, 0], margin=c.target_scores - edge)


MINE = Chain("mine", stages=(STAGES["top_k"](k=5), Near(nats=2.0)))


def test_names_chains_and_stages_are_mixed(llama: Any) -> None:
    options = TraceOptions(samplers=("hf", MINE, Near(nats=0.5)), generate=2, chain=MINE)
    run = elimtool.trace(llama, TEXT, targets=["x"], options=options)
    rows = run.table("sampling")
    assert rows["chain"].unique().tolist() == ["hf", "mine", "near"]
    assert rows[rows.chain == "mine"]["stage"].tolist() == ["top_k", "near"]
    assert set(run.table("walk")["chain"]) == {"mine"}
    config = run.manifest.config
    assert (config["samplers"], config["chain"]) == (["hf", "mine", "near"], "mine")
    assert [one["name"] for one in run.manifest.chains] == ["hf", "mine", "near"]
    assert run.manifest.chains[1]["stages"][1]["params"] == {"nats": 2.0}
    assert "near" in run._repr_html_()
    compared = elimtool.compare_chains(run, MINE, "near")
    assert compared.options["names"] == ["mine", "near"]


def test_a_chain_object_gives_what_its_text_gives(llama: Any) -> None:
    text = "top_k=5,temperature=0.7"
    same = Chain("same", stages=[STAGES["top_k"](k=5), STAGES["temperature"](temperature=0.7)])  # type: ignore[arg-type]
    run = elimtool.trace(llama, TEXT, options=TraceOptions(samplers=(text, same)))
    rows = run.table("sampling").drop(columns="chain_index", errors="ignore")
    one, other = (part.drop(columns="chain").to_numpy().tolist() for _, part in rows.groupby("chain"))
    assert repr(one) == repr(other)
    assert resolve(same) is same
    assert hash(same) == hash(Chain("same", stages=same.stages))


def test_they_stand_for_names_elsewhere_too(llama: Any) -> None:
    two = TraceOptions(samplers=("hf", MINE))
    assert elimtool.compare_samplers(llama, TEXT, options=two).options["names"] == ["hf", "mine"]
    assert elimtool.compare_prompts(llama, TEXT, "The capital of Spain is", options=two).options[
        "samplers"
    ] == [
        "hf",
        "mine",
    ]
    own = AttributeOptions(methods=("leave-one-out",), position="written:1", chain=MINE)
    assert elimtool.attribute(llama, TEXT, options=own).manifest.config["chain"] == "mine"


def test_what_cannot_be_told_apart_or_is_no_chain_is_refused(llama: Any) -> None:
    with pytest.raises(ElimError, match="two different chains are called 'mine'"):
        elimtool.trace(llama, TEXT, options=TraceOptions(samplers=(MINE, Chain("mine", stages=(Near(),)))))
    with pytest.raises(ElimError, match="`chain` must be one of `samplers`, got 'mine'"):
        TraceOptions(samplers=("hf",), chain=MINE)
    with pytest.raises(ElimError, match="a chain has no name"):
        Chain(" ")
    with pytest.raises(ElimError, match=r"`stages` of elimtool.Chain must be "):
        Chain("x", stages=("top_k",))  # type: ignore[arg-type]
