"""Time one question with elimtool and with the libraries that people ask it with, in one run.

The question: at which layers does the model know a target, what does the last token look at, and what do
top-k and top-p leave? Each contestant gives, for the last token of one prompt: the rank of a target in every
layer's logit lens (the final norm and the unembedding of the checkpoint), the attention weights of every
head, and the tokens that survive ``top_k=40`` and then ``top_p=0.95``. All answers are compared with those of
plain transformers before a time is told.

    python scripts/bench_peers.py                              # all of them: makes two environments of 1.5 GB
    python scripts/bench_peers.py --only transformers elimtool --tokens 16 --turns 3
    python scripts/bench_peers.py --write                      # puts the table into docs/performance.md

nnsight and InterpKit each get an environment of their own, made once in ``--environments`` by pip, with the
torch of ``constraints.txt``; one that cannot be made is left out, and the table says why. Every contestant is
a process of its own that answers in turn, so that all see the same state of the machine. ``cold`` is from the
start of the process to its first answer, ``warm`` the median time of an answer after that; both as ratios to
plain transformers. ``memory`` is the peak of the process (Linux, macOS).
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import io
import json
import resource
import statistics
import subprocess
import sys
import time
import venv
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- peers -->", "<!-- end peers -->"
TOP_K, TOP_P = 40, 0.95
FIRST = 4
"""Keys whose attention weights are compared: that of the first and of the next tokens."""
CLOSE = 1e-4
"""Largest difference of an attention weight between two contestants."""

Answer = dict[str, Any]
Ask = Callable[[], Answer]


@dataclass(frozen=True)
class Asked:
    """One prompt, as text and as token ids, the target, and where the model lies."""

    folder: str
    text: str
    ids: list[int]
    target: int
    wanted: str
    threads: int


# ----------------------------------------------------------------- contestants, each in a process of its own


def told(read: Any, target: int, names: Callable[[int], str]) -> Answer:
    """What rows of logits say, one a layer: rank of the target, likeliest token, survivors of the last."""
    probs = read[-1].double().topk(TOP_K).values.softmax(-1)
    before = probs.cumsum(-1) - probs
    return {
        "ranks": (1 + (read > read[:, target, None]).sum(-1)).tolist(),
        "first": [names(int(one)) for one in read.argmax(-1)],
        "left": int((before < TOP_P).sum()),
    }


def attended(weights: Any) -> list[list[float]]:
    """Attention to the first tokens, as a mean over heads: [layers, FIRST]."""
    return [layer[:, :FIRST].double().mean(0).tolist() for layer in weights]


def plain(asked: Asked) -> Ask:
    """Transformers alone: hidden states and attention of one call."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(asked.folder, attn_implementation="eager").eval()
    tokenizer = AutoTokenizer.from_pretrained(asked.folder)
    row = torch.tensor([asked.ids])

    def ask() -> Answer:
        with torch.inference_mode():
            out = model(
                row, output_hidden_states=True, output_attentions=True, use_cache=False, logits_to_keep=1
            )
            last = torch.stack([one[0, -1] for one in out.hidden_states])
            # the last of transformers' states is behind the norm already
            read = model.lm_head(torch.cat([model.model.norm(last[:-1]), last[-1:]]))
            weights = [one[0, :, -1] for one in out.attentions]
            return {**told(read, asked.target, tokenizer.decode), "attention": attended(weights)}

    return ask


def transformer_lens(asked: Asked) -> Ask:
    """TransformerLens: ``run_with_cache``, and its own logit lens over that cache."""
    import torch
    from transformer_lens.model_bridge import TransformerBridge
    from transformer_lens.tools.analysis.logit_lens import logit_lens

    model = TransformerBridge.boot_transformers(asked.folder, device="cpu").eval()
    row = torch.tensor([asked.ids])

    def ask() -> Answer:
        with torch.inference_mode():
            logits, cache = model.run_with_cache(row)
            read = logit_lens(model, cache=cache, targets=[asked.target])
            weights = [cache["pattern", layer][0, :, -1] for layer in range(model.cfg.n_layers)]
            found = told(logits[0, -1:], asked.target, model.tokenizer.decode)
            own = [1 + int(one) for one in read.rank_trajectory(asked.target).flatten()]  # it counts from 0
            return {"ranks": own, "attention": attended(weights), "left": found["left"]}

    return ask


def with_nnsight(asked: Asked) -> Ask:
    """nnsight: a trace that saves each block's last row and what it attends to."""
    import nnsight
    import torch
    from nnsight import LanguageModel

    model = LanguageModel(
        asked.folder, attn_implementation="eager", dispatch=True, dtype=torch.float32, device_map="cpu"
    )
    row = torch.tensor([asked.ids])

    def ask() -> Answer:
        with torch.inference_mode():
            with model.trace(row):
                weights, states = nnsight.save([]), nnsight.save([])
                states.append(model.model.embed_tokens.output[0, -1])
                for layer in model.model.layers:
                    weights.append(layer.self_attn.output[1][0, :, -1])
                    states.append(layer.output[0, -1])
                last = torch.stack(states)
                read = model.lm_head(model.model.norm(last)).save()
            return {**told(read, asked.target, model.tokenizer.decode), "attention": attended(weights)}

    return ask


def with_interpkit(asked: Asked) -> Ask:
    """InterpKit: its ``lens``, which tells five tokens of every layer and no rank, and its ``attention``."""
    import torch
    from interpkit import load

    model = load(asked.folder, device="cpu", attention_impl="eager")

    def ask() -> Answer:
        with torch.inference_mode(), contextlib.redirect_stdout(io.StringIO()):
            layers = model.lens(asked.text, position=-1)
            heads = model.attention(asked.text)
            row = model._prepare(asked.text)  # it has no public call for the output alone
            logits = model._forward(row)
        found: dict[int, list[Any]] = {}
        for one in heads:
            found.setdefault(one["layer"], []).append(one["weights"][-1])
        weights = [torch.stack(rows) for rows in found.values()]
        own = told(logits[0, -1:], asked.target, str)
        return {
            "first": [one["top1_token"] for one in layers],
            "attention": attended(weights),
            "left": own["left"],
        }

    return ask


def elimtool(asked: Asked, tables: tuple[str, ...] | None) -> Ask:
    """elimtool: the tables of the question, or all of a trace and its verdict."""
    import elimtool as tool

    model = tool.load_model(asked.folder, device="cpu")
    heads = [f"{layer}.{head}" for layer in range(model.n_layers) for head in range(model.n_heads)]
    chain = f"top_k={TOP_K},top_p={TOP_P}"
    options = tool.TraceOptions(
        lens="raw",
        samplers=(chain,),
        tables=tables,
        target_space="exact",
        attention_of=() if tables is None else tuple(heads),
    )

    def ask() -> Answer:
        run = tool.trace(model, asked.text, targets=[asked.wanted], options=options)
        last = run.arrow("sampling").column("n_after").to_pylist()[-1]
        found = {"ranks": run.arrow("lens").column("rank").to_pylist(), "left": last}
        if tables is not None:
            weights = run.arrow("attention_weights").column("weight").to_numpy()
            shaped = weights.reshape(model.n_layers, model.n_heads, -1)
            found["attention"] = shaped[:, :, :FIRST].mean(1).tolist()
        return found

    return ask


QUESTION = ("lens", "sampling", "attention_weights")
"""The tables of elimtool that answer the question."""

WORK: dict[str, Callable[[Asked], Ask]] = {
    "transformers": plain,
    "elimtool": lambda asked: elimtool(asked, QUESTION),
    "elimtool, every table": lambda asked: elimtool(asked, None),
    "TransformerLens": transformer_lens,
    "nnsight": with_nnsight,
    "InterpKit": with_interpkit,
}
PLAIN = "transformers"
INSTALLED = {"nnsight": "nnsight", "InterpKit": "interpkit"}
"""Contestants with an environment of their own, and the package that it is for."""
PACKAGES = {"TransformerLens": "transformer_lens", **INSTALLED, PLAIN: PLAIN}


def serve(name: str) -> None:
    """Answer the question once for every line that comes in; a line of JSON goes out for each."""
    own = sys.stdout
    sys.stdout = sys.stderr  # what libraries print is no answer
    asked = Asked(**json.loads(sys.stdin.readline()))
    import torch

    torch.set_num_threads(asked.threads)
    ask = WORK[name](asked)
    while True:
        before, cpu = time.perf_counter(), time.process_time()
        answer = ask()
        spent = {"seconds": time.perf_counter() - before, "cpu": time.process_time() - cpu}
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        megabytes = peak / (2**20 if sys.platform == "darwin" else 2**10)
        package = PACKAGES.get(name)
        facts = {"version": importlib.metadata.version(package) if package else "", "memory": megabytes}
        print(json.dumps({**spent, **facts, "answer": answer}), file=own, flush=True)
        if not sys.stdin.readline().strip():
            return


# --------------------------------------------------------------------------------------- the run of them all


@dataclass
class Contestant:
    """A process that answers, and what is known of it."""

    name: str
    process: subprocess.Popen[str]
    cold: float = 0.0
    version: str = ""
    memory: float = 0.0
    warm: list[dict[str, float]] = field(default_factory=list)

    @staticmethod
    def start(name: str, python: Path, asked: Asked) -> tuple[Contestant, Answer]:
        """Start it, and wait for its first answer."""
        begun = time.perf_counter()
        command = [str(python), __file__, "--serve", name]
        pipe = subprocess.PIPE
        own = Contestant(name, subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True))
        first = own.reply(json.dumps(vars(asked)))
        own.cold, own.version = time.perf_counter() - begun, first["version"]
        return own, first["answer"]

    def reply(self, line: str) -> Answer:
        """Send a line, and return what is answered.

        Raises:
            RuntimeError: The process has ended.
        """
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        said = self.process.stdout.readline()
        if not said:
            _, error = self.process.communicate()
            raise RuntimeError((error.strip().splitlines() or ["it ended without a word"])[-1])
        found: Answer = json.loads(said)
        self.memory = found["memory"]
        return found

    def turn(self) -> None:
        """Let it answer once more."""
        found = self.reply("again")
        self.warm.append({"seconds": found["seconds"], "cpu": found["cpu"]})

    def end(self) -> None:
        """Let the process end."""
        self.process.communicate("\n")

    def median(self, what: str) -> float:
        """Median of its warm answers."""
        return statistics.median(one[what] for one in self.warm)


def environment(package: str, folder: Path) -> Path:
    """Make an environment for a package, if there is none, and return its Python.

    Raises:
        RuntimeError: pip cannot install it.
    """
    python = folder / package / "bin" / "python"
    if (folder / package / "made").exists():
        return python
    print(f"making an environment for {package} ...", file=sys.stderr)
    venv.create(folder / package, with_pip=True, clear=True)
    wanted = ["-c", str(ROOT / "constraints.txt"), "torch", "transformers", "accelerate", package]
    done = subprocess.run(
        [str(python), "-m", "pip", "install", "--quiet", *wanted], check=False, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"pip: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}")
    (folder / package / "made").touch()
    return python


def differences(answer: Answer, plain_answer: Answer) -> list[str]:
    """Say in which parts an answer is not that of plain transformers."""
    found = []
    for key in answer:
        own, other = answer[key], plain_answer[key]
        if key == "attention":
            pairs = zip(own, other, strict=True)
            same = all(abs(a - b) < CLOSE for one, two in pairs for a, b in zip(one, two, strict=True))
        else:
            same = own == (other if key == "left" else other[-len(own) :])
        if not same:
            found.append(key)
    return found


def prepare(model_name: str, sizes: list[int], threads: int) -> list[Asked]:
    """Find the model's directory, and cut a prompt of each size."""
    from elimtool.lenses.corpus import shipped
    from elimtool.model.loading import load_model, locate

    place, _ = locate(model_name, revision=None, progress=lambda _line: None)
    model = load_model(model_name, device="cpu")
    text = " ".join(one.text for one in shipped("held_out"))
    ids = model.tokenizer.encode(text, special=False).ids
    asked = []
    for size in sizes:
        some, target = ids[:size], ids[size]
        begun, wanted = model.tokenizer.backend.decode(some), model.tokenizer.texts([target])[0]
        if model.tokenizer.encode(begun, special=False).ids != some:
            raise SystemExit(
                f"{size} tokens of the text are not the tokens of what they say: choose another size"
            )
        asked.append(Asked(str(place), begun, list(some), target, wanted, threads))
    return asked


def measure(asked: Asked, names: list[str], folder: Path, turns: int) -> list[list[str]]:
    """Rows of the table for one prompt."""
    running: list[Contestant] = []
    rows: dict[str, str] = {}
    truth: Answer = {}
    for name in names:
        print(f"{len(asked.ids)} tokens: {name} ...", file=sys.stderr)
        try:
            package = INSTALLED.get(name)
            python = Path(sys.executable) if package is None else environment(package, folder)
            one, answer = Contestant.start(name, python, asked)
        except RuntimeError as error:
            rows[name] = str(error)
            continue
        truth = truth or answer
        if wrong := differences(answer, truth):
            one.end()
            rows[name] = f"another answer: {', '.join(wrong)}"
        else:
            running.append(one)
    for _ in range(turns):
        for one in running:
            one.turn()
    for one in running:
        one.end()
    first = running[0]
    table = []
    for one in running:
        warm = statistics.median(
            mine["cpu"] / other["cpu"] for mine, other in zip(one.warm, first.warm, strict=True)
        )
        named = f"{one.name} {one.version}".strip()
        figures = [f"{one.cold / first.cold:.2f}", f"{warm:.2f}", f"{one.memory:,.0f}"]
        table.append([str(len(asked.ids)), named, *figures])
    table += [[str(len(asked.ids)), name, why, "", ""] for name, why in rows.items()]
    return table


def main() -> None:
    """Time them, print the table, and write it where that is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--tokens", type=int, nargs="+", default=[16, 128, 1024])
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=WORK, default=list(WORK), metavar="NAME")
    parser.add_argument("--environments", type=Path, default=Path.home() / ".cache" / "elimtool-peers")
    parser.add_argument("--write", action="store_true", help="put the table into docs/performance.md")
    parser.add_argument("--serve", choices=WORK, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(given.serve)
        return
    names = [PLAIN, *(one for one in WORK if one in given.only and one != PLAIN)]
    given.environments.mkdir(parents=True, exist_ok=True)
    head = ["tokens", "with", "cold", "warm", "memory (MiB)"]
    rows = [head, ["---"] * len(head)]
    for asked in prepare(given.model, given.tokens, given.threads):
        rows += measure(asked, names, given.environments, given.turns)
    lines = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    text = f"{given.model}, float32, cpu, {given.threads} threads, {given.turns} turns:\n\n{lines}\n"
    print(text)
    if given.write:
        page = PAGE.read_text(encoding="utf-8")
        before, rest = page.split(f"{BEGIN}\n")
        after = rest.split(END)[1]
        PAGE.write_text(f"{before}{BEGIN}\n{text}{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
