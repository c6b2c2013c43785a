"""The public interface is typed: a strict client passes mypy, and each of its slips is found."""

from __future__ import annotations

from pathlib import Path

import pytest
from mypy import api

from tests import typed_client

ROOT = Path(__file__).parents[1]
SLIPS = """
import elimtool
from elimtool import Chain, Prompt, TraceOptions

model = elimtool.load_model(5)
run = elimtool.trace(model, ["a"], samplers=("hf",))
elimtool.wrap("smollm2")
Prompt(text=5)
TraceOptions(samplers=(5,))
TraceOptions(errors="ignore")
Chain("x", stages=("top_k",))
run.attention("0", 1)
run.tabel("lens")
elimtool.trase(model, "a")
"""


@pytest.mark.slow
@pytest.mark.long
def test_a_strict_client_passes_and_its_slips_are_found(tmp_path: Path) -> None:
    client = tmp_path / "client.py"
    client.write_text(Path(typed_client.__file__).read_text())
    slips = tmp_path / "slips.py"
    slips.write_text(SLIPS)
    config = [
        "--strict",
        "--config-file",
        str(ROOT / "pyproject.toml"),
        "--cache-dir",
        str(ROOT / ".mypy_cache"),
    ]
    said, errors, _ = api.run([*config, str(client), str(slips)])
    assert not errors
    found = [int(line.split(":")[1]) for line in said.splitlines() if ": error: " in line]
    assert "client.py" not in said, said
    slipped = [at for at, line in enumerate(SLIPS.splitlines(), 1) if line and "import" not in line]
    assert sorted(set(found)) == slipped, said


def test_the_client_runs(llama_directory: Path, tmp_path: Path) -> None:
    names, row, rank = typed_client.survivors(str(llama_directory), "The capital of France is")
    assert names == ["hf", "mine", "best"]
    assert row.sum() == pytest.approx(1, abs=1e-5)
    assert rank >= 1
    assert "is not a run directory" in typed_client.error_of(tmp_path)
