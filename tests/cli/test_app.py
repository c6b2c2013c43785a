"""The entry point: help, version, exit codes, defects, interrupts and broken pipes."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from elimtool import __version__
from elimtool.cli import app, models
from elimtool.cli.app import OWN
from elimtool.errors import ElimError, Exit
from tests.cli.conftest import Command
from tests.report import runs

HEAVY = ("torch", "transformers", "transformer_lens", "pandas", "pyarrow", "numpy")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["trace", "--help"],
        ["report", "--help"],
        ["models", "--help"],
        ["models", "list"],
    ],
)
def test_light_commands_import_nothing_heavy(arguments: list[str], tmp_path: Path) -> None:
    code = (
        "import sys\nfrom elimtool.cli.app import run, app\n"
        f"code = run(lambda: app({arguments!r}))\n"
        f"print('HEAVY', sorted(set({HEAVY!r}) & set(sys.modules)), code)"
    )
    env = {**os.environ, "ELIMTOOL_CACHE": str(tmp_path)}
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True)
    assert found.stdout.splitlines()[-1] == "HEAVY [] 0"


def test_help_names_every_command(elimtool: Command) -> None:
    out = elimtool("--help").out
    for command in ("trace", "report", "models", "samplers"):
        assert command in out
    assert elimtool("--version").out == f"elimtool {__version__}\n"


def test_trace_help_names_every_option(elimtool: Command) -> None:
    out = elimtool("trace", "--help").out
    options = (
        "model target foil span position samplers lens dtype device out json quiet config sinks heads chat"
    )
    for option in options.split():
        assert f"--{option}" in out


def test_error_is_one_line_and_its_hint() -> None:
    def fail() -> None:
        raise ElimError("two\nlines", "do this", Exit.PARTIAL)

    assert app.run(fail) == 6


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (KeyboardInterrupt(), 130),
        (SystemExit(0), 0),
        (SystemExit(2), 2),
        (SystemExit(None), 0),
        (ElimError("x", "y"), 2),
        (ElimError("x", exit_code=Exit.NOTHING), 5),
    ],
)
def test_exit_codes(raised: BaseException, code: int) -> None:
    def fail() -> None:
        raise raised

    assert app.run(fail) == code


def test_a_defect_is_logged(elimtool: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("not the user's fault")

    monkeypatch.setattr("elimtool.model.catalogue.models_status", broken)
    assert models.list_ is not None
    done = elimtool("models", "list")
    assert done.code == 70
    assert done.err.count("\n") == 1
    log = Path(done.err.strip().rsplit(" ", 1)[1])
    assert "ZeroDivisionError: not the user's fault" in log.read_text()


@pytest.mark.parametrize(("path", "code"), [("/somewhere/else.json", 2), (OWN / "lost.json", 70)])
def test_a_file_that_cannot_be_used_is_a_defect_only_if_it_is_elimtools_own(
    path: str | Path, code: int, elimtool: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(path))

    monkeypatch.setattr("elimtool.model.catalogue.models_status", broken)
    done = elimtool("models", "list")
    assert done.code == code
    assert ("cannot use /somewhere/else.json: No such file" in done.err) == (code == 2)
    log = Path(done.err.strip().rsplit(" ", 1)[1])
    assert "in broken" in log.read_text()


def _start(*arguments: str, **options: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "elimtool", *arguments],
        stderr=subprocess.PIPE,
        **options,  # type: ignore[call-overload]
    )


def _wait_for(process: subprocess.Popen[bytes], library: str) -> None:
    """Wait until a process has loaded a library: from then on its command is at work."""
    maps = Path(f"/proc/{process.pid}/maps")
    if not maps.exists():  # not Linux: all that can be done is to give it time
        time.sleep(3)
    for _ in range(600):
        if process.poll() is not None or not maps.exists() or library in maps.read_text():
            return
        time.sleep(0.05)


@pytest.mark.slow
def test_control_c_while_loading(llama_directory: Path, tmp_path: Path) -> None:
    process = _start(
        "trace", "word", "-m", str(llama_directory), "-o", str(tmp_path / "run"), stdout=subprocess.PIPE
    )
    _wait_for(process, "libtorch")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"interrupted" in err
    assert b"Traceback" not in err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_broken_pipe(llama_directory: Path) -> None:
    reader, writer = os.pipe()
    process = _start("trace", "word", "-m", str(llama_directory), "--json", stdout=writer)
    os.close(writer)
    os.close(reader)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 141
    assert b"Traceback" not in err
    assert b"Exception ignored" not in err


@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")
@pytest.mark.parametrize(
    ("command", "code", "says"),
    [
        ("models list >&-", 141, ""),
        ("report no-such-run >&-", 2, "error: no-such-run does not exist"),
        ("models list > /dev/full", 2, "error: No space left on device"),
        ("report no-such-run 2>&-", 2, ""),
        ("models list >&- 2>&-", 141, ""),
    ],
)
def test_streams_that_take_nothing(command: str, code: int, says: str, tmp_path: Path) -> None:
    """A closed standard output is one without a reader, a full one no defect; errors go to neither."""
    env = {**os.environ, "ELIMTOOL_CACHE": str(tmp_path)}
    done = subprocess.run(
        f"exec '{sys.executable}' -m elimtool {command}",
        shell=True,
        capture_output=True,
        text=True,
        env=env,
        check=False,
    )
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith(says) and bool(done.stderr) == bool(says)
    assert not (tmp_path / "logs").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_standard_error_does_not_end_a_good_command(tmp_path: Path) -> None:
    """What is noted there is lost; the result is not, and the exit code tells of the result."""
    runs.france().save(tmp_path / "run")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "elimtool", "report", "run", "-o", "page.html"],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=full,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stdout) == (0, "page.html\n")
    assert (tmp_path / "page.html").is_file()


@pytest.mark.parametrize(
    "command", ["report NAME", "report run -o NAME", "compare NAME NAME", "run status NAME", "check NAME"]
)
def test_a_name_that_no_file_can_have_is_said_not_a_defect(
    command: str, elimtool: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs.france().save(tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    done = elimtool(*command.replace("NAME", "x" * 300).split())
    assert done.code == 2 and "File name too long" in done.err and "hint: " in done.err
