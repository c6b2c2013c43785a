"""Give every command hostile arguments and files, and look for crashes, hangs and tracebacks.

    python scripts/fuzz                                  # 200 inputs for each command
    python scripts/fuzz --count 50 --only report run     # some commands
    python scripts/fuzz --only trace --at 17             # one input again, and what it prints
    python scripts/fuzz --worth                          # also the messages that sound inputs end with

Each input runs in a fork of one process that has imported everything, in a folder of its own. Four of ten are
sound, five have one fault and one has two: a file damaged in one place, a value that is hostile or missing,
an option that is not meant. Files are prompt files, chains, checks, configs, runs, comparisons, baselines,
lenses and models. Input i depends only on the seed, the command and i. A fault is exit code 1 or 70, a
signal, a traceback on a stream, a path that only the last net of the command line spoke of, or more than a
minute. A command that serves is interrupted once it has told its address. Exits with 1 if there was a fault.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import lines
from seeds import seeds

ROOT = Path(__file__).parents[2]
LIMIT = 60
"""Seconds after which an input counts as a hang."""
MEMORY = 12 << 30
"""Bytes of address space: asking for more must be refused, not tried."""
SERVES = "http://127.0.0.1:"
"""What a command has printed that serves until it is interrupted."""


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


def forked(work: Callable[[], Any], folder: Path, limit: float = LIMIT) -> tuple[int | None, str]:
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
    began, serving = time.monotonic(), False
    while time.monotonic() - began < limit:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status), log.read_text(
                "utf-8", "replace"
            ) if log.exists() else ""
        if not serving and log.exists() and SERVES in log.read_text("utf-8", "replace"):
            serving = True
            os.kill(child, signal.SIGINT)
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
    if "error: cannot use " in printed and "File name too long" not in printed:
        return "only the last net of the command line said it"
    return "a traceback" if "Traceback (most recent call last)" in printed else ""


def tried(
    words: Sequence[str], command: Any, number: int, seed: int, seeds: Path, cache: Path
) -> tuple[list[str], int, int | None, str]:
    """Run one input of a command in a folder of its own: its words, faults, exit code and what it printed."""
    from elimtool.cli import app

    chance = random.Random(f"{seed} {' '.join(words)} {number}")
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        os.chdir(folder)
        line, faults = lines.line(command, words, chance, seeds)
        os.environ.update(ELIMTOOL_CACHE=str(cache), ELIMTOOL_MODEL=str(seeds / "model"))
        code, printed = forked(lambda: app.main(line), Path(folder))
        os.chdir(ROOT)
    return line, faults, code, printed


def say(text: str) -> None:
    """Print a text, hostile or not."""
    print(text.encode("ascii", "backslashreplace").decode(), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=200, help="inputs for each command")
    parser.add_argument("--seed", type=int, default=22)
    parser.add_argument("--only", nargs="*", help="first words of the commands to try")
    parser.add_argument("--at", type=int, help="run one input only, and print what it prints")
    parser.add_argument("--worth", action="store_true", help="print how sound inputs were refused")
    asked = parser.parse_args()
    os.environ.update(HF_HUB_OFFLINE="1", COLUMNS="100", OMP_NUM_THREADS="1", PIP_NO_INDEX="1")
    wrongs = inputs = sound = refusals = 0
    with tempfile.TemporaryDirectory(prefix="fuzz-seeds-") as made:
        where, cache = Path(made) / "seeds", Path(made) / "cache"
        os.environ["ELIMTOOL_CACHE"] = str(cache)
        warm()
        where.mkdir()
        code, printed = forked(lambda: seeds(where), where, 20 * LIMIT)
        if code != 0:
            sys.exit(printed)
        say("command: inputs; exit codes; sound ones that were refused; seconds")
        for words, command in commands():
            if asked.only and words[0] not in asked.only and " ".join(words) not in asked.only:
                continue
            name, began, codes, refused = " ".join(words), time.monotonic(), Counter[Any](), 0
            for number in range(asked.count) if asked.at is None else [asked.at]:
                line, faults, code, printed = tried(words, command, number, asked.seed, where, cache)
                codes[code] += 1
                sound += faults == 0
                refused += faults == 0 and code == 2
                if wrong := fault(code, printed):
                    logs = [path.read_text() for path in (cache / "logs").glob("*") if str(path) in printed]
                    printed = "".join([printed, *logs])
                    wrongs += 1
                    say(f"FAULT {name} {number}: {wrong}: {line}\n{printed[-1500:]}")
                elif asked.at is not None or (asked.worth and faults == 0 and code == 2):
                    say(f"{number} {line} {code}\n{printed}")
            inputs, refusals = inputs + sum(codes.values()), refusals + refused
            ends = ", ".join(f"{code}: {count}" for code, count in sorted(codes.items(), key=str))
            say(f"{name}: {sum(codes.values())}; {ends}; {refused}; {time.monotonic() - began:.0f}")
    print(f"{inputs} inputs, {sound} of them sound, {refusals} of these refused, {wrongs} faults")
    sys.exit(bool(wrongs))


if __name__ == "__main__":
    main()
