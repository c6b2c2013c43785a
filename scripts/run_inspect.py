"""Run the scorer of docs/integrations.md in Inspect AI itself, without a model of its own.

    python -m venv ENV && ENV/bin/pip install 'elimtool[inspect]'
    ENV/bin/python scripts/run_inspect.py MODEL       # a directory or a name

Inspect AI brings forty packages, so it is not part of the environment of the tests.
"""

from __future__ import annotations

import re
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from inspect_ai import Task, eval
from inspect_ai.dataset import Sample
from inspect_ai.solver import solver

PAGE = Path(__file__).parent.parent / "docs/integrations.md"


@solver
def silent():
    """Write nothing: the scorer asks the model itself, and a mock model would want a tokenizer of the web."""

    async def solve(state, _):
        return state

    return solve


def main() -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    names: dict[str, object] = {}
    exec(next(one for one in blocks if "inspect_ai" in one), names)
    samples = [Sample(input="The capital of France is", target=word) for word in ("Paris", "Rome")]
    for chain in ("temperature=1", "greedy"):
        task = Task(dataset=samples, solver=silent(), scorer=names["can_be_said"](sys.argv[1], chain))
        with tempfile.TemporaryDirectory() as folder:
            (log,) = eval(task, model="mockllm/model", log_dir=folder, display="none")
            scores = [next(iter(one.scores.values())) for one in log.samples or ()]
        said = "; ".join(f"{one.answer} {one.value:g} ({one.explanation})" for one in scores)
        print(f"inspect_ai {version('inspect_ai')}, {chain}: {log.status}: {said}")


if __name__ == "__main__":
    main()
