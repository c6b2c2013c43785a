"""Words, values and texts that inputs are made of: hostile ones, and legal ones that are seldom used."""

from __future__ import annotations

from typing import Any

DEEP = 20_000
PLAIN = """
a 0 -1 1 3 1e400 nan -inf 99999999999999999999 0x10 1_0 last all auto none - -- a=b = a= =b a,b
, : 0-3 3-0 0.0 1.1 99.99 head.0.1 mlp.1 mlp.1=0.5 mlp.9=x written written:7 top_k=40 top_k=-1
temperature=1e-300 temperature=nan logit_bias={} dry=1 xtc=2 mirostat=2 hf vllm
llama.cpp:top_k=0 raw ridge exact lens lens,survival prompts verdicts jsonl csv svg html mean
zero resample 0/1 1/0 5% bfloat16 float64 cpu cuda:99 Paris France %s%n [bold]x[/] `target` '
../x ~ ~nobody/x rank< rank<=3 rank=x layer>1 ranks logit_lens 2024-02-30 x=France top_k=99999999999999999999
"""
ODD = (
    "",
    " ",
    " Paris",
    "x" * 300,
    "x/" * 300,
    "\u202e\u0645",
    "\x1b[31mred",
    "a\nb",
    "\r::error::x",
    "\ud83d\ude00",
    "e\u0301",
    "\udcff",
    "{{ 1/0 }}",
    '"',
    "1" * 5000,
)
WORDS = (*PLAIN.split(), *ODD)
SCALARS: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    10**30,
    1e308,
    float("inf"),
    float("-inf"),
    float("nan"),
    -0.5,
    "",
    "x",
    "Paris",
    "x" * 400,
    "\u202e",
    "\x1b[0m",
    "\ud800",
    [],
    {},
    [None],
    [[]],
    [1, "a"],
    {"a": 1},
    {"": None},
    ["top_k"],
    {"stage": "top_k"},
)
YAMLS = (
    "",
    "- ",
    "a: [",
    "? [a]\n: b\n",
    "? {a: b}\n: c\n",
    "{[1]: 2}",
    "&a [*a]",
    "a: &a\n  b: *a\n",
    "!!python/object:os.system x",
    "!!binary aGk=",
    "2024-02-30",
    "a: 2024-01-01",
    "a: .nan\nb: .inf\n",
    "'a\0b'",
    "[" * DEEP,
    "{a: " * 3000,
    "- " * 5000,
    "a: 1\na: 2\n",
    "\ufeffa: 1",
    "a: 'x",
    "%YAML 9.9\n---\na",
    "--- a\n--- b\n",
    "a: !!set {x, y}",
    "1: 2\n2: 3\n",
    "~: 1",
    "true: 1",
    "<<: 3",
)
TEMPLATES = (
    "",
    "{{ 1/0 }}",
    "{% for",
    "{{ raise_exception('\x1b[31mno') }}",
    "{{ messages[9] }}",
    "{{ x.y.z }}",
    "{{ messages | tojson }}",
)
TEXTS = (
    "The capital of France is",
    "a b c d",
    "one two three four five six",
    "Once: (x) <y> & 'z' \u00e9\u00fc",
)
"""Prompts whose words are all different, so that each can be a span."""
STAGES: tuple[dict[str, Any], ...] = (
    {"stage": "temperature", "temperature": 0.7},
    {"stage": "temperature", "temperature": 0},
    {"stage": "temperature", "temperature": 1e30},
    {"stage": "temperature", "temperature": 1e-30},
    {"stage": "top_k", "k": 40},
    {"stage": "top_k", "k": 1},
    {"stage": "top_k", "k": 10**9},
    {"stage": "top_p", "p": 0.9},
    {"stage": "top_p", "p": 1e-12},
    {"stage": "min_p", "p": 0.05},
    {"stage": "min_p", "p": 1.0},
    {"stage": "typical", "mass": 0.9},
    {"stage": "top_n_sigma", "n": 1.0},
    {"stage": "top_h", "h": 0.4},
    {"stage": "top_a", "a": 0.2},
    {"stage": "tail_free", "z": 0.95},
    {"stage": "epsilon", "epsilon": 0.1},
    {"stage": "eta", "eta": 0.3},
    {"stage": "xtc", "probability": 1.0, "threshold": 0.0},
    {"stage": "dry", "multiplier": 0.8},
    {"stage": "penalties", "repetition": 1.3, "frequency": 0.5},
    {"stage": "mirostat_v2", "tau": 0.1},
    {"stage": "dynamic_temperature", "temperature": 1.0, "delta": 0.5},
    {"stage": "logit_bias", "bias": {5: -1.5}},
    {"stage": "logit_bias", "bias": {5: float("-inf")}},
    {"stage": "logit_bias", "bias": {5: 100.0, 299: -100.0}},
)
BOUNDS: tuple[dict[str, Any], ...] = (
    {"metric": "entropy", "min": 0},
    {"metric": "entropy", "baseline": True},
    {"metric": "final_rank", "target": "Paris", "max": 300},
    {"metric": "final_rank", "target": "Paris", "max": 1},
    {"metric": "final_logprob", "target": " Paris", "baseline": True, "direction": "decrease"},
    {"metric": "survives", "target": "Paris", "chain": "hf", "mostly": 0.5},
    {"metric": "pruned_mass", "chain": "hf", "max": 1},
    {"metric": "lens.rank", "target": "Paris", "layers": "0-2", "agg": "p95", "max": 300},
    {"metric": "lens_layers.entropy", "layers": "all", "agg": "mean", "scope": "all", "min": 1e-300},
    {"metric": "topk_overlap", "k": 3, "min": 0.5},
    {"metric": "outcome", "target": "Paris", "is_not": ["nothing"]},
    {"metric": "components.dla", "component": "mlp.1", "target": "Paris", "agg": "first", "baseline": True},
)
CHAINS = (
    "hf",
    "vllm",
    "llama.cpp",
    "sglang",
    "koboldcpp",
    "text-generation-webui",
    "vllm-gpu",
    "vllm@model",
    "top_k=40,temperature=0.8",
    "temperature=1e-30",
    "temperature=0",
    "top_p=1e-9",
    "min_p=0.1,xtc=1",
    "llama.cpp:top_k=1",
    "typical=0.3,top_p=0.5",
    "mirostat_v2=3",
    "greedy",
    "vllm:bad_words=[Paris, a b c]",
    "koboldcpp:banned_tokens=[Paris, ' of the capital'],ban_eos_token=true",
    "llama.cpp:logit_bias={Paris: false, 3: 2}",
    "hf:synthid=[1, 2]",
)
SECOND = (
    ("guidance=1.5", "hf:guidance_scale=0,top_k=5", "context_aware=0.5", "context_aware=-1", "hf"),
    ("Bad", "The", "a b c", " ", "x" * 300),
)
"""Chains that move away from a second prompt, and such prompts."""
TARGETS = (
    "Paris",
    " Paris",
    "x",
    "\u00e9",
    "\u202e\u0645",
    "a b c",
    "[bold]x[/]",
    "%s%n",
    "\x1b[31mred",
    "<|end|>",
)
PAIRS = (("a b c d", "a b x d"), ("a b c d", "x y z w"), ("one two six", "one six two"))
"""Prompts of as many tokens as each other."""
TABLES = (
    "lens",
    "lens,survival",
    "verdicts",
    "sampling,sampling_targets",
    "attention,attention_heads",
    "components",
    "encoding_walk,encoding_steps,lens",
)
OF_RUN = ("outcomes", "pruned", "worst")
OF_PROMPT = (
    "logit_lens",
    "retention",
    "heads",
    "ranks",
    "probabilities",
    "funnel",
    "components",
    "top_tokens",
)
QUERIES = (
    "SELECT count(*) FROM lens",
    "SELECT prompt_id, rank FROM survival ORDER BY rank LIMIT 3",
    "SELECT l.token FROM lens_layers AS l JOIN prompts USING (run, prompt_id)",
    "SELECT 1 / 0, 'x' || chr(27)",
    "SELECT * FROM verdicts",
)
