"""Values that engines refuse, raise or cut: each preset against its engine, value by value."""

from __future__ import annotations

import json
from math import inf

import pytest
import torch
import transformers

from elimtool.errors import ElimError
from elimtool.samplers import STAGES, resolve
from elimtool.samplers.limits import accepts
from elimtool.samplers.presets import check_speculative
from tests.samplers.rows import alone

NONE = torch.zeros((1, 0), dtype=torch.int64)
ROW = torch.tensor([[1.0, 0.995, 0.0, -3.0]])

VLLM = {
    "temperature": ((0, 1e-6, 2), (-0.1, 2.1)),
    "top_p": ((0.001, 1), (0, 1.1, -0.5)),
    "top_k": ((-1, 0, 5), (-2,)),
    "min_p": ((0, 1), (-0.1, 1.1)),
    "repetition_penalty": ((0.5, 3), (0, -1)),
    "frequency_penalty": ((-2, 2), (-2.1, 2.1)),
    "presence_penalty": ((-2, 2), (-2.1, 2.1)),
}
"""Values that vLLM 0.33's ``SamplingParams._verify_args`` accepts, and values that it refuses."""
SGLANG = {
    **VLLM,
    "temperature": ((0, 5), (-0.1,)),
    "top_k": ((-1, 1, 5), (0, -2)),
    "repetition_penalty": ((0.5, 2), (0, 2.1)),
}
"""The same for ``SamplingParams.verify`` of SGLang 0.5.23."""
HF = {
    "temperature": (0.5, 3, 0, -1),
    "top_k": (1, 50, 0, -1),
    "top_p": (0, 0.5, 1, -0.1),
    "min_p": (0, 1, 1.5, -0.1),
    "typical_p": (0.5, 1, 0, -0.1),
    "repetition_penalty": (0.5, 3, 0, -1),
}
"""Values to try on transformers itself."""

NAMED = [
    pytest.param(engine, name, value, accepted, id=f"{engine}:{name}={value}")
    for engine, table in (("vllm", VLLM), ("sglang", SGLANG))
    for name, groups in table.items()
    for accepted, group in zip((True, False), groups, strict=True)
    for value in group
]


@pytest.mark.parametrize(("engine", "name", "value", "accepted"), NAMED)
def test_a_preset_accepts_what_its_engine_accepts(
    engine: str, name: str, value: float, accepted: bool
) -> None:
    spec = f"{engine}:{name}={value}"
    if accepted:
        assert resolve(spec).run(ROW, NONE).end.n.item() >= 1
        return
    with pytest.raises(ElimError, match=name.removesuffix("_penalty")):
        resolve(spec)


def processors(**given: float) -> transformers.LogitsProcessorList:
    """The processors that transformers itself makes for a setting."""
    config = transformers.LlamaConfig(
        vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1
    )
    model = transformers.LlamaForCausalLM(config)
    generation = transformers.GenerationConfig(do_sample=True, **given)
    return model._get_logits_processor(generation, device="cpu")


@pytest.mark.parametrize("name", HF)
def test_the_hf_preset_refuses_what_transformers_refuses(name: str) -> None:
    for value in HF[name]:
        try:
            processors(**{name: value if name == "top_k" else float(value)})
            refused = False
        except ValueError:
            refused = True
        try:
            resolve(f"hf:{name}={value}")
            ours = False
        except ElimError:
            ours = True
        assert ours == refused, (name, value, refused)


def test_a_limit_holds_for_chain_files_too(tmp_path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("base: sglang\nset: {top_p: 0}\n")
    with pytest.raises(ElimError, match=r"sglang accepts for top_p only \(0, 1\], got 0") as refused:
        resolve(str(path))
    assert "give top_p one of these values" in refused.value.hint and "'top_p=0'" in refused.value.hint
    path.write_text("engine: mine\nlimits: {top_k: '1 or [10, 20)'}\nstages:\n  - {stage: top_k, k: 20}\n")
    with pytest.raises(ElimError, match="mine accepts for top_k only 1 or"):
        resolve(str(path))
    path.write_text("engine: mine\nlimits: {top_k: '[a, 20)'}\nstages:\n  - {stage: top_k, k: 20}\n")
    with pytest.raises(ElimError, match="'a' is not a number"):
        resolve(str(path))


def test_the_grammar_of_limits() -> None:
    assert accepts("-1 or [1, inf)", -1) and accepts("-1 or [1, inf)", 1) and not accepts("-1 or [1, inf)", 0)
    assert not accepts("(0, 1]", 0) and accepts("(0, 1]", 1) and not accepts("[0, 1)", 1)
    assert not accepts("[0, inf)", inf)


def test_vllm_raises_low_temperatures_and_only_zero_is_greedy() -> None:
    for low in ("0.000001", "0.009"):
        ledger = resolve(f"vllm:temperature={low}").run(ROW, NONE)
        wanted = torch.tensor([0.6225, 0.3775, 0.0, 0.0], dtype=torch.float64)
        assert torch.allclose(ledger.probs()[0], wanted, atol=5e-5)
    assert resolve("vllm:temperature=0").run(ROW, NONE).end.n.item() == 1
    assert resolve("sglang:temperature=0.0000001").run(ROW, NONE).end.n.item() == 1


def test_vllm_cuts_biases_to_a_hundred() -> None:
    ledger = resolve("vllm:logit_bias={2: 500, 1: -.inf}").run(ROW, NONE)
    assert ledger.records[0].notes and "100" in ledger.records[0].notes[0]
    assert torch.allclose(ledger.end.wide()[0], torch.tensor([1.0, -99.005, 100.0, -3.0]).double())
    assert resolve("llama.cpp:logit_bias={2: 500}").run(ROW, NONE).before(1).wide()[0, 2] == 500


def test_a_bias_of_an_unknown_token_is_refused_where_the_engine_refuses_it() -> None:
    for engine in ("vllm", "sglang"):
        with pytest.raises(ElimError, match="token id 4 is not in the vocabulary") as error:
            resolve(f"{engine}:logit_bias={{4: 1.0}}").run(ROW, NONE)
        assert "0 to 3" in str(error.value.hint)
    assert resolve("llama.cpp:logit_bias={4: 1.0}").run(ROW, NONE).end.n.item() >= 1


def test_infinite_parameters_can_be_written_as_json() -> None:
    chain = resolve("logit_bias={3: -.inf}")
    assert '[3, "-inf"]' in json.dumps(chain.describe(), allow_nan=False)
    assert chain.run(ROW, NONE).end.n.item() == 3


def test_an_enormous_k_keeps_everything() -> None:
    for ties in ("all", "exact"):
        stage = STAGES["top_k"](k=10**20, ties=ties)
        assert alone(stage).run(ROW, NONE).end.n.item() == 4


def test_xtc_with_a_threshold_of_zero_keeps_the_least_probable() -> None:
    ledger = resolve("xtc=1,xtc_threshold=0").run(ROW, torch.tensor([[0, 3]]))
    assert ledger.kept[0].tolist() == [False, False, False, True]
    assert ledger.records[0].margin[0, 0] < 0 <= ledger.records[0].margin[0, 1]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("vllm:bad_words=" + str([[one] for one in range(129)]), "takes 128 sequences, got 129"),
        ("vllm-gpu:allowed_token_ids=" + str(list(range(1025))), "at most 1,024 entries for allowed_tokens"),
        (
            "vllm-gpu:logit_bias=" + str([[one, 1.0] for one in range(1025)]),
            "at most 1,024 entries for logit_bias",
        ),
    ],
)
def test_lists_that_an_engine_refuses_are_refused(spec: str, message: str) -> None:
    with pytest.raises(ElimError, match=message):
        resolve(spec)


def test_two_spellings_of_a_text_count_twice() -> None:
    words = [f"w{one}" for one in range(65)]
    chain = resolve(f"vllm:bad_words={words}")
    with pytest.raises(ElimError, match="takes 128 sequences, got 130"):
        chain.with_vocabulary([], lambda text: (1, 2) if text.startswith(" ") else (3, 2))
    assert len(chain.with_vocabulary([], lambda _: (1, 2)).stages[0].params()["words"]) == 65


def test_vllm_takes_no_min_p_and_no_bias_from_who_has_a_draft_model() -> None:
    for spec in ("vllm:min_p=0.05", "vllm-gpu:logit_bias=[[1, 2.0]]", "vllm:min_p=2e-5"):
        resolve(spec)
        with pytest.raises(ElimError, match="vllm with a draft model"):
            check_speculative(spec)
    for spec in ("vllm", "vllm:min_p=1e-5,temperature=0.5", "llama.cpp", "top_k=4,min_p=0.1"):
        check_speculative(spec)
