"""Models that the user already has: measured as loaded ones are, and left as they were."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

import elimtool
from elimtool import ElimError, TraceOptions
from elimtool.model.slots import HOOKS

TEXT = "The capital of France is"
QUICK = TraceOptions(tables=("lens", "lens_layers", "attention", "sampling"))


@pytest.fixture
def hf(llama_directory: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(llama_directory)


def state(module: Any) -> dict[str, Any]:
    """What a user can see of a model: its modules, hooks, modes, gradients, configuration and weights."""
    return {
        name: (
            one,
            one.training,
            {kind: list(one.__dict__[kind].items()) for kind in HOOKS},
            [(each, each.requires_grad, each._version) for each in one.parameters(recurse=False)],
            one.__dict__.get("forward"),
            getattr(getattr(one, "config", None), "_attn_implementation", None),
        )
        for name, one in module.named_modules(remove_duplicate=False)
    }


def same(one: Any, other: Any) -> bool:
    return repr(one.table("lens").to_dict()) == repr(other.table("lens").to_dict())


def test_a_hugging_face_model_gives_what_the_loaded_one_gives(hf: Any, llama: Any, tokenizer: Any) -> None:
    hf.train()
    hf.model.layers[0].register_forward_hook(lambda *_: None)
    before = state(hf)
    model = elimtool.wrap(hf, tokenizer, name="mine")
    run = elimtool.trace(model, TEXT, targets=["x"], options=QUICK)
    loaded = elimtool.trace(llama, TEXT, targets=["x"], options=QUICK)
    assert state(hf) == before
    assert run.manifest.model == "mine"
    for name in QUICK.tables or ():
        assert run.arrow(name).equals(loaded.arrow(name)), name
    assert elimtool.wrap(hf, tokenizer).name == Path(hf.config._name_or_path).name  # no path of the machine


def test_hooks_and_weights_of_the_user_act(hf: Any, tokenizer: Any) -> None:
    model = elimtool.wrap(hf, tokenizer)
    plain = elimtool.trace(model, TEXT, targets=["x"], options=QUICK)
    with torch.no_grad():
        hf.model.layers[1].mlp.down_proj.weight.mul_(3)  # a step of training
    stepped = elimtool.trace(model, TEXT, targets=["x"], options=QUICK)
    assert not same(plain, stepped)
    seen: list[int] = []

    def third(_module: Any, _args: Any, out: Any) -> Any:
        seen.append(1)
        return out / 3

    handle = hf.model.layers[1].mlp.down_proj.register_forward_hook(third)
    hooked = elimtool.trace(elimtool.wrap(hf, tokenizer), TEXT, targets=["x"], options=QUICK)
    assert seen
    torch.testing.assert_close(
        torch.tensor(hooked.table("lens")["logit"].to_numpy()),
        torch.tensor(plain.table("lens")["logit"].to_numpy()),
        rtol=1e-5,
        atol=1e-5,
    )
    with torch.no_grad():
        ids = torch.tensor([hooked.table("prompts")["token_ids"][0].tolist()])
        own = hf(ids).logits[0, -1]
    last = hooked.table("lens").iloc[-1]
    assert float(own[last["token_id"]]) == pytest.approx(last["logit"], abs=1e-4)
    handle.remove()


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_bridge_is_left_as_it_was_also_after_an_interrupt(
    error: type[BaseException], hf: Any, llama: Any, tokenizer: Any
) -> None:
    from elimtool.model.bridging import bridge_of

    bridge = bridge_of("mine", hf)
    bridge.tokenizer = tokenizer
    bridge.train()
    bridge(torch.tensor([[1, 2]]))  # in its first pass a bridge puts hooks of its own on
    seen: list[int] = []
    bridge.blocks[1].hook_out.add_hook(lambda value, hook: seen.append(1))
    before = state(bridge)
    assert any(one[1] for one in before.values())
    assert any(grad for one in before.values() for _, grad, _ in one[3])
    run = elimtool.trace(bridge, TEXT, targets=["x"], options=QUICK)
    assert seen
    assert state(bridge) == before
    assert same(run, elimtool.trace(llama, TEXT, targets=["x"], options=QUICK))

    def stop(value: Any, hook: Any) -> None:
        raise error

    bridge.blocks[1].hook_out.add_hook(stop)
    before = state(bridge)
    for call in (
        lambda: elimtool.trace(bridge, TEXT, options=QUICK),
        lambda: elimtool.compare_models(bridge, llama, TEXT),
        lambda: elimtool.record(bridge, TEXT),
    ):
        with pytest.raises((error, ElimError)):
            call()
        assert state(bridge) == before


def test_what_takes_a_model_takes_a_bridge() -> None:
    calls = {name: getattr(elimtool, name) for name in elimtool.__all__ if not name[0].isupper()}
    taking = {
        f"{name}, {key}": one
        for name, call in calls.items()
        for key, one in call.__annotations__.items()
        if re.search(r"\bModel\b", str(one)) and key != "return"
    }
    assert len(taking) >= 8
    assert [name for name, one in taking.items() if "Bridge" not in one] == []


def test_checks_judge_a_bridge_and_leave_it_as_it_was(
    hf: Any, llama: Any, tokenizer: Any, tmp_path: Path
) -> None:
    from elimtool.model.bridging import bridge_of

    (tmp_path / "p.jsonl").write_text(json.dumps({"id": "one", "prompt": TEXT, "targets": ["x"]}))
    (tmp_path / "c.yaml").write_text(
        "version: 1\nprompts: p.jsonl\nchecks:\n  - {id: any, metric: final_rank, max: 1}\n"
    )
    bridge = bridge_of("mine", hf)
    bridge.tokenizer = tokenizer
    bridge(torch.tensor([[1, 2]]))
    before = state(bridge)
    reports = [elimtool.run_checks(tmp_path / "c.yaml", model=one) for one in (bridge, llama)]
    assert state(bridge) == before
    values = [[finding.seen for finding in one.results[0].bad] for one in reports]
    assert values[0] == values[1] != []
    with pytest.raises(ElimError, match=r"`model` of elimtool.run_checks must be Model \| TransformerBridge"):
        elimtool.run_checks(tmp_path / "c.yaml", model=hf)


def test_what_cannot_be_wrapped_is_refused(hf: Any, tokenizer: Any) -> None:
    with pytest.raises(ElimError, match="needs its `tokenizer`"):
        elimtool.wrap(hf)
    with pytest.raises(ElimError, match=r"`model` of elimtool.wrap must be "):
        elimtool.wrap("smollm2")  # type: ignore[arg-type]
    with pytest.raises(ElimError, match=r"`model` of elimtool.trace must be "):
        elimtool.trace(hf, TEXT)
    from elimtool.model.bridging import bridge_of

    bridge = bridge_of("mine", hf)
    with pytest.raises(ElimError, match="the bridge has no tokenizer"):
        elimtool.trace(bridge, TEXT)
    with pytest.raises(ElimError, match="inside a TransformerBridge"):
        elimtool.wrap(hf, tokenizer)
    bridge.compatibility_mode = True
    with pytest.raises(ElimError, match="processed by enable_compatibility_mode"):
        elimtool.wrap(bridge, tokenizer)
