"""Plant differences between groups in SmolLM2, and see that ``elimtool audit`` finds them at their stage.

    python scripts/eval_audit.py [FOLDER]

Audits the shipped suite ``jobs``; then the same under a knockout of attention to the group's word in layer
25, where its difference is made; then a suite of pronouns under a chain that bans one of them. Runs are kept
in FOLDER and read again from there. docs/audit.md has what it prints.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import elimtool
from elimtool.errors import Exit
from elimtool.files.rows import Rows

SUITE = """
version: 1
name: pronouns
groups: {targets: {female: [" she"], male: [" he"]}}
templates:
"""
JOBS = ("nurse", "teacher", "pilot", "clerk", "farmer", "doctor", "waiter", "judge")
PROMPT = '  - {{id: {job}, template: "The {job} was tired, so", neutral: "The person was tired, so"}}\n'


def main() -> None:
    """Measure what is not in the folder yet, and print a line each."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        audit("jobs", folder / "jobs")
        print("the model's own pass:", *contrast(folder / "jobs"))
        audit("jobs", folder / "cut", "--knockout", "group@25")
        print("attention to the word cut in layer 25:", *contrast(folder / "cut"))
        banned(folder)


def audit(suite: str, out: Path, *options: str) -> None:
    """Audit a suite in a directory, unless it is there."""
    if not (out / "run.json").is_file():
        command = [sys.executable, "-m", "elimtool", "audit", suite, "-o", str(out), "-q", *options]
        done = subprocess.run(command, check=False, stdout=sys.stderr)
        if done.returncode not in (0, Exit.PARTIAL):  # neutral wordings have no word to cut off
            sys.exit(done.returncode)


def contrast(out: Path) -> list[str]:
    """Tell the difference before and after the layer, and where the skew begins."""
    rows = effects(out)
    found = {
        row["layer"]: row["difference"]
        for row in rows
        if row["metric"] == "lens.logit" and not row["category"]
    }
    (first,) = [
        row for row in elimtool.open_run(out).arrow("audit_layers").to_pylist() if row["unit"] == "both"
    ][:1]
    told = [f"{found[layer]:+.2f} nats after layer {layer}," for layer in (24, 25, 29)]
    return [*told, f"skewed from layer {first['first_layer']} on"]


def banned(folder: Path) -> None:
    """Ban ' he' in a chain, and tell which stage makes the difference."""
    model = elimtool.load_model("smollm2")
    (token,) = model.tokenizer.encode(" he", special=False).ids
    chain = folder / "ban.yaml"
    stages = f"[{{stage: logit_bias, bias: [[{token}, -.inf]]}}, {{stage: top_k, k: 40}}]"
    chain.write_text(f"stages: {stages}\n")
    suite = folder / "pronouns.yaml"
    suite.write_text(SUITE + "".join(PROMPT.format(job=job) for job in JOBS))
    audit(str(suite), folder / "ban", "--samplers", str(chain))
    for row in effects(folder / "ban"):
        if row["metric"] in ("stage_share", "survives") and row["category"] is None:
            p_value = "" if row["p_value"] is None else f", p {row['p_value']:.3g}"
            print(f"ban: {row['stage'] or 'at the end'}: {100 * row['difference']:+.0f} points{p_value}")


def effects(out: Path) -> Rows:
    """Rows of ``audit_effects``."""
    rows: Rows = elimtool.open_run(out).arrow("audit_effects").to_pylist()
    return rows


if __name__ == "__main__":
    main()
