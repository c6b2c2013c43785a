"""Give every command hostile arguments and files, and look for crashes, hangs and tracebacks.

    python scripts/fuzz.py                                  # 200 inputs for each command
    python scripts/fuzz.py --count 50 --only report run     # some commands
    python scripts/fuzz.py --only trace --at 17             # one input again, and what it prints

Each input runs in a fork of one process that has imported everything, in a folder of its own. Options are
read from the commands themselves, so a new one is tried too. Files are prompt files, chains, checks, configs,
runs, comparisons, baselines and models, whole or damaged. Input i depends only on the seed, the command
and i. A fault is exit code 1 or 70, a signal, a traceback on a stream, or more than a minute. Exits with 1 if
there was any.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
LIMIT = 60
"""Seconds after which an input counts as a hang."""
MEMORY = 12 << 30
"""Bytes of address space: asking for more must be refused, not tried."""

DEEP = 100_000
PLAIN = """
a 0 -1 1 3 1e400 nan -inf 99999999999999999999 0x10 1_0 last all auto none - -- a=b = a= =b a,b
, : 0-3 3-0 0.0 1.1 99.99 head.0.1 mlp.1 mlp.1=0.5 mlp.9=x written written:7 top_k=40 top_k=-1
temperature=1e-300 temperature=nan logit_bias={} dry=1 xtc=2 mirostat=2 hf vllm
llama.cpp:top_k=0 raw ridge exact lens lens,survival prompts verdicts jsonl csv svg html mean
zero resample 0/1 1/0 5% bfloat16 float64 cpu cuda:99 Paris France %s%n [bold]x[/] `target` '
../x ~ ~nobody/x rank< rank<=3 rank=x layer>1 ranks logit_lens 2024-02-30 x=France
"""
WORDS = (
    *PLAIN.split(),
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
SCALARS: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    10**30,
    1e308,
    -0.5,
    "",
    "x",
    "Paris",
    "x" * 400,
    "\u202e",
    "\x1b[0m",
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
PROMPTS = (
    {"prompt": "The capital of France is", "targets": ["Paris"]},
    {"prompt": "a", "id": "a"},
    {"messages": [{"role": "user", "content": "hi"}]},
    {
        "prompt": "a b c",
        "spans": {"x": "b", "y": [0, 9]},
        "foils": ["x"],
        "group": "g",
        "tags": ["t"],
        "meta": {"k": [1]},
    },
)


class Maker:
    """Makes the words of a command line and the files that they name, in the current folder."""

    def __init__(self, chance: random.Random, seeds: Path) -> None:
        self.chance, self.seeds, self.made = chance, seeds, 0

    def fresh(self, suffix: str) -> Path:
        """Name a file that is not there yet."""
        self.made += 1
        return Path(f"f{self.made}{suffix}")

    def one(self, *makers: Callable[[], Any]) -> Any:
        """Choose one of several ways to make something."""
        return self.chance.choice(makers)()

    def word(self) -> str:
        """Choose a word."""
        return self.chance.choice(WORDS)

    def mutated(self, value: Any, rate: float = 0.15) -> Any:
        """Change values of nested JSON at random: replaced, dropped, renamed, nested deeply."""
        if self.chance.random() < rate / 3:
            return self.chance.choice(SCALARS)
        if isinstance(value, dict):
            kept = [(key, one) for key, one in value.items() if self.chance.random() > rate / 3]
            found = {key: self.mutated(one, rate) for key, one in kept}
            if self.chance.random() < rate / 2:
                found[self.word()] = self.chance.choice(SCALARS)
            return found
        if isinstance(value, list):
            return [self.mutated(one, rate) for one in value if self.chance.random() > rate / 3]
        return value

    def garbled(self, content: bytes) -> bytes:
        """Damage bytes: cut, flipped, repeated, empty, nested deeply."""
        at = self.chance.randrange(len(content) + 1)
        return self.one(
            lambda: content[:at],
            lambda: content[:at] + bytes([self.chance.randrange(256)]) + content[at + 1 :],
            lambda: content[:at] + content[: self.chance.randrange(1, 50)] * 3 + content[at:],
            lambda: b"",
            lambda: b"[" * DEEP,
            lambda: b'{"a":' * DEEP,
            lambda: content.decode("utf-8", "replace").encode("utf-16-le"),
            lambda: bytes(self.chance.randrange(256) for _ in range(64)),
            lambda: b"null",
            lambda: b"[1, 2]",
            lambda: b'{"a": NaN}',
        )

    def text(self) -> Path:
        """Write a text file."""
        path = self.fresh(".txt")
        path.write_bytes(
            self.one(
                lambda: b"The capital of France is", lambda: self.garbled(b"The capital of France is\n" * 9)
            )
        )
        return path

    def prompts(self) -> Path:
        """Write a prompt file."""
        suffix = self.chance.choice(
            (".jsonl", ".jsonl", ".csv", ".tsv", ".txt", ".parquet", ".json", ".jsonl.gz", "", ".dat")
        )
        rows = [
            self.mutated(self.chance.choice(PROMPTS), self.chance.choice((0, 0.3)))
            for _ in range(self.chance.randrange(1, 5))
        ]
        content = "\n".join(map(json.dumps, rows)).encode()
        if suffix in (".csv", ".tsv"):
            content = b'prompt,id,target\na b,1,c\n"x\ny",2,\n'
        path = self.fresh(suffix)
        path.write_bytes(content if self.chance.random() < 0.6 else self.garbled(content))
        return path

    def yaml(self, seed: str) -> Path:
        """Write a YAML file."""
        import yaml

        known = yaml.safe_load((self.seeds / seed).read_text())
        path = self.fresh(".yaml")
        text = self.one(
            lambda: self.chance.choice(YAMLS),
            lambda: yaml.safe_dump(self.mutated(known)),
            lambda: yaml.safe_dump(self.mutated(known)),
            lambda: yaml.safe_dump(known),
            lambda: self.chance.choice(YAMLS).join(yaml.safe_dump(known).split("\n", 1)),
        )
        path.write_bytes(
            text.encode("utf-8", "surrogatepass")
            if self.chance.random() < 0.9
            else self.garbled(text.encode())
        )
        return path

    def json(self, seed: str) -> Path:
        """Write a JSON file."""
        path, known = self.fresh(".json"), (self.seeds / seed).read_bytes()
        path.write_bytes(
            self.one(
                lambda: known,
                lambda: self.garbled(known),
                lambda: json.dumps(self.mutated(json.loads(known))).encode(),
            )
        )
        return path

    def directory(self, seed: str) -> Path:
        """Copy a run, a batch, a comparison or a model, and damage none to two of its files."""
        path = self.fresh("")
        shutil.copytree(self.seeds / seed, path)
        files = sorted(one for one in path.rglob("*") if one.is_file())
        for file in self.chance.sample(files, self.chance.choice((0, 1, 1, 2))):
            self.damage(file)
        return path

    def damage(self, file: Path) -> None:
        """Damage one file of a directory."""
        if file.suffix == ".parquet" and self.chance.random() < 0.7:
            return self.retabled(file)
        if file.suffix == ".json" and self.chance.random() < 0.6:
            file.write_text(json.dumps(self.mutated(json.loads(file.read_bytes()))))
            return None
        if file.suffix == ".jinja":
            file.write_text(self.chance.choice(TEMPLATES))
            return None
        content, way = file.read_bytes(), self.chance.randrange(4)
        file.unlink()
        if way == 0:
            file.mkdir()
        elif way == 1:
            file.symlink_to("nowhere")
        elif way == 2:
            file.write_bytes(self.garbled(content))
        return None

    def retabled(self, file: Path) -> None:
        """Write a table without a column, or with one retyped, of nulls, or without rows."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pq.read_table(file)
        at = self.chance.randrange(table.num_columns)
        name, length = table.column_names[at], table.num_rows
        other = self.chance.choice(
            (pa.nulls(length), pa.array(["x"] * length), pa.array([1.5] * length), pa.array([[1]] * length))
        )
        pq.write_table(
            self.one(
                lambda: table.drop_columns([name]),
                lambda: table.set_column(at, name, other),
                lambda: table.slice(0, 0),
            ),
            file,
        )

    def path(self) -> Path:
        """Name a path."""
        return Path(
            self.one(
                lambda: self.word() or ".",
                lambda: "new",
                lambda: "x" * 300,
                lambda: "new/deep/er",
                lambda: str(self.text()),
            )
        )

    def model(self) -> str:
        """Name a model."""
        return self.one(
            *[lambda: str(self.seeds / "model")] * 6,
            lambda: str(self.directory("model")),
            self.word,
            lambda: str(self.path()),
        )

    def value(self, name: str, kind: str) -> str:
        """Make a value for an option or an argument, by its name, else by its kind."""
        run = [
            lambda: self.directory("run"),
            lambda: self.directory("batch"),
            lambda: self.directory("comparison"),
        ]
        known: dict[str, Callable[[], Any]] = {
            "model": self.model,
            "config": lambda: self.yaml("config.yaml"),
            "checks": lambda: self.yaml("checks.yaml"),
            "prompts": self.prompts,
            "file": self.text,
            "corrupt": lambda: self.one(self.word, lambda: "The capital of Spain is"),
            "samplers": lambda: self.one(self.word, lambda: self.yaml("chain.yaml")),
            "chain": lambda: self.one(self.word, lambda: self.yaml("chain.yaml")),
            "name": lambda: self.one(self.word, lambda: self.yaml("chain.yaml")),
            "baseline": lambda: self.json("baseline.json"),
            "directory": lambda: self.one(*run, self.path),
            "directories": lambda: self.one(*run, self.path),
            "run": lambda: self.one(*run, self.path),
            "against": lambda: self.one(*run, self.path),
            "sides": lambda: self.one(*run, self.prompts, self.path),
            "texts": self.text,
            "tools": lambda: self.json("tools.json"),
            "patch": lambda: self.one(self.word, lambda: f"mlp.1={self.text()}"),
            "lens": lambda: self.one(self.word, self.word, self.text),
            "prompt": lambda: self.one(self.word, lambda: "The capital of France is"),
            "paraphrase": lambda: self.one(self.word, lambda: "France has as its capital"),
            "revision": self.word,
            "engine": lambda: self.chance.choice(("local", "x", "")),
            "table": lambda: self.chance.choice(("lens", "prompts", "nope", *WORDS)),
        }
        if name in known and self.chance.random() < 0.85:
            return str(known[name]())
        if kind in ("int", "float"):
            return self.chance.choice(
                ("0", "1", "2", "3", "-1", "7", "1000000", "99999999999999999999", "x", "1.5", "nan", "")
            )
        return str(self.path()) if "Path" in kind else self.word()

    def line(self, command: Any, words: Sequence[str]) -> list[str]:
        """Make a command line: mostly its arguments and what it must have, and some options at random."""
        options = [one for one in command.params if one.param_type_name == "option"]
        chosen = self.chance.sample(options, min(len(options), self.chance.choice((0, 0, 1, 1, 2, 3))))
        chosen += [
            one
            for one in options
            if one.name in (*USUAL.get(words[0], ()), "out" * one.required) and self.chance.random() < 0.85
        ]
        found = list(words)
        for one in command.params:
            if one.param_type_name == "argument" and self.chance.random() < 0.95:
                several = (
                    self.chance.choice((1, 2, 2))
                    if one.multiple or one.nargs != 1 or "list" in one.bare_type()
                    else 1
                )
                found += [self.value(one.name, one.bare_type()) for _ in range(several)]
        for one in dict.fromkeys(chosen):
            flag = self.chance.choice([*one.opts, *one.secondary_opts])
            found += [flag] if one.is_flag else [flag, self.value(one.name, one.bare_type())]
        return [one.replace("\0", "0") for one in found]


USUAL = {
    "compare": ("prompt", "target"),
    "locate": ("corrupt", "target", "foil"),
    "attribute": ("target",),
    "batch": ("out",),
    "check": ("run",),
}


def commands() -> Iterator[tuple[tuple[str, ...], Any]]:
    """Iterate over the words of every command, and the command."""
    import typer

    from elimtool.cli.app import app

    pending: list[tuple[tuple[str, ...], Any]] = [((), typer.main.get_command(app))]
    while pending:
        words, one = pending.pop(0)
        if hasattr(one, "commands"):
            pending += [((*words, name), inner) for name, inner in one.commands.items()]
        else:
            yield words, one


def warm() -> None:
    """Import all that a command may, so that a fork need not; compute nothing, as threads do not fork."""
    sys.path.insert(0, str(ROOT))
    import pandas
    import pyarrow.parquet
    import torch
    import transformer_lens.model_bridge.sources
    import transformers

    import elimtool.tasks.batch.run
    import elimtool.tasks.trace

    torch.set_num_threads(1)
    assert pandas and pyarrow and transformer_lens and transformers and elimtool


def seeds(folder: Path) -> None:
    """Write one whole file of each kind, from a tiny model."""
    import elimtool
    from elimtool.cli import app
    from tests.conftest import byte_tokenizer
    from tests.families import save

    (folder / "model").mkdir(parents=True)
    save("llama", folder / "model", byte_tokenizer())
    (folder / "prompts.jsonl").write_text("\n".join(map(json.dumps, PROMPTS[:2])))
    (folder / "chain.yaml").write_text(
        "stages:\n- temperature: 0.7\n- top_k: 40\n- logit_bias: {biases: {5: -1.5}}\n- top_p: 0.9\n"
    )
    (folder / "config.yaml").write_text(
        "position: last\nsamplers: [hf]\ntarget: [Paris]\nseed: 1\nquiet: true\n"
    )
    (folder / "tools.json").write_text(
        '[{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]'
    )
    (folder / "checks.yaml").write_text(
        f"version: 1\nprompts: {folder}/prompts.jsonl\nbaseline: baseline.json\nmodel: {{dtype: float32}}\n"
        "defaults: {atol: 0.01}\nchecks:\n- {id: a, metric: entropy, min: 0}\n"
        "- {id: b, metric: lens.rank, target: Paris, layers: [1], max: 300, baseline: true}\n"
    )
    model = elimtool.load_model(str(folder / "model"))
    run = elimtool.trace(
        model,
        ["The capital of France is", "a b"],
        targets=["Paris"],
        options=elimtool.TraceOptions(generate=2),
    )
    run.save(folder / "run")
    elimtool.compare_runs(run, run).save(folder / "comparison")
    os.chdir(folder)
    for line in ("batch prompts.jsonl -o batch -m model -q", "check checks.yaml -m model --update -q"):
        with contextlib.suppress(SystemExit):
            app.main(line.split())
    assert (folder / "batch/run.json").exists() and (folder / "baseline.json").exists()


def forked(work: Callable[[], Any], folder: Path) -> tuple[int | None, str]:
    """Run a command in a fork: its exit code (negative: a signal; None: it hung) and what it printed."""
    log = folder / "printed"
    child = os.fork()
    if not child:
        code = 1
        try:
            os.setsid()
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 30, 1 << 30))
            where, nothing = (
                os.open(log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC),
                os.open(os.devnull, os.O_RDONLY),
            )
            for at, descriptor in enumerate((nothing, where, where)):
                os.dup2(descriptor, at)
            work()
            code = 0
        except SystemExit as leaving:
            code = leaving.code if isinstance(leaving.code, int) else 1
        finally:
            sys.stdout.flush()
            os._exit(code)
    began = time.monotonic()
    while time.monotonic() - began < LIMIT:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status), log.read_text(
                "utf-8", "replace"
            ) if log.exists() else ""
        time.sleep(0.005)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None, log.read_text("utf-8", "replace")


def fault(code: int | None, printed: str) -> str:
    """Say what is wrong with how a command ended; empty if nothing."""
    if code is None:
        return f"no end after {LIMIT} s"
    if code in (1, 70) or code < 0:
        return f"exit code {code}"
    return "a traceback" if "Traceback (most recent call last)" in printed else ""


def tried(
    words: Sequence[str], command: Any, number: int, seed: int, seeds: Path, cache: Path
) -> tuple[list[str], int | None, str]:
    """Run one input of a command in a folder of its own."""
    from elimtool.cli import app

    chance = random.Random(f"{seed} {' '.join(words)} {number}")
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        os.chdir(folder)
        line = Maker(chance, seeds).line(command, words)
        os.environ.update(ELIMTOOL_CACHE=str(cache), ELIMTOOL_MODEL=str(seeds / "model"))
        code, printed = forked(lambda: app.main(line), Path(folder))
        os.chdir(ROOT)
    return line, code, printed


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=200, help="inputs for each command")
    parser.add_argument("--seed", type=int, default=22)
    parser.add_argument("--only", nargs="*", help="first words of the commands to try")
    parser.add_argument("--at", type=int, help="run one input only, and print what it prints")
    asked = parser.parse_args()
    os.environ.update(HF_HUB_OFFLINE="1", COLUMNS="100", OMP_NUM_THREADS="1")
    faults = inputs = 0
    with tempfile.TemporaryDirectory(prefix="fuzz-seeds-") as made:
        where, cache = Path(made) / "seeds", Path(made) / "cache"
        os.environ["ELIMTOOL_CACHE"] = str(cache)
        warm()
        where.mkdir()
        code, printed = forked(lambda: seeds(where), where)
        if code:
            sys.exit(printed)
        for words, command in commands():
            if asked.only and words[0] not in asked.only and " ".join(words) not in asked.only:
                continue
            began, codes = time.monotonic(), dict[Any, int]()
            for number in range(asked.count) if asked.at is None else [asked.at]:
                line, code, printed = tried(words, command, number, asked.seed, where, cache)
                inputs, codes[code] = inputs + 1, codes.get(code, 0) + 1
                if wrong := fault(code, printed):
                    logs = [path.read_text() for path in (cache / "logs").glob("*") if str(path) in printed]
                    printed = "".join([printed, *logs])
                    faults += 1
                    print(
                        f"FAULT {' '.join(words)} {number}: {wrong}: {line}\n{printed[-1500:]}".encode(
                            "ascii", "backslashreplace"
                        ).decode(),
                        flush=True,
                    )
                elif asked.at is not None:
                    print(line, code, printed)
            print(f"{' '.join(words)}: {codes} in {time.monotonic() - began:.0f} s", flush=True)
    print(f"{inputs} inputs, {faults} faults")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
