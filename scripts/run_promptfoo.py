"""Run the assertion of docs/integrations.md in promptfoo itself.

    python scripts/run_promptfoo.py MODEL [PROMPTFOO ...]

In a folder of your own: ``npm install promptfoo`` (with Node.js as new as it asks for), then give this script
the command that starts it, such as ``npx promptfoo`` (what it is without). promptfoo brings 700 packages of
Node.js, so it is not part of the environment of the tests.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

PAGE = Path(__file__).parent.parent / "docs/integrations.md"
QUIET = ("PROMPTFOO_DISABLE_TELEMETRY", "PROMPTFOO_DISABLE_UPDATE", "PROMPTFOO_DISABLE_REMOTE_GENERATION")


def configuration(page: str, model: str) -> dict[str, object]:
    """Make a configuration of the page's line, for a model and two targets; its provider only echoes."""
    (line,) = re.findall(r"`(assert: \[.*?\])`", page, re.DOTALL)
    (asserted,) = yaml.safe_load(line)["assert"]
    tests = [
        {"vars": {"country": "France"}, "assert": [asserted | {"config": asserted["config"] | more}]}
        for more in ({"model": model}, {"model": model, "target": "Rome"})
    ]
    return {"prompts": ["The capital of {{country}} is"], "providers": ["echo"], "tests": tests}


def main() -> None:
    model, command = sys.argv[1], sys.argv[2:] or ["npx", "promptfoo"]
    page = PAGE.read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "elimtool_assert.py").write_text(
            next(one for one in blocks if "get_assert" in one), "utf-8"
        )
        (folder / "config.yaml").write_text(yaml.safe_dump(configuration(page, model)), "utf-8")
        clean = dict.fromkeys(QUIET, "1") | {"PROMPTFOO_CONFIG_DIR": name, "PROMPTFOO_PYTHON": sys.executable}
        evaluate = ["eval", "-c", "config.yaml", "--no-write", "--no-cache", "-o", "out.json"]
        subprocess.run(
            [*command, *evaluate], cwd=folder, env=os.environ | clean, check=False, stdout=sys.stderr
        )
        found = json.loads((folder / "out.json").read_text(encoding="utf-8"))
    version = found["metadata"]["promptfooVersion"]
    for one in found["results"]["results"]:
        (said,) = one["gradingResult"]["componentResults"]
        print(f"promptfoo {version}: {'pass' if said['pass'] else 'fail'} ({said['reason']})")


if __name__ == "__main__":
    main()
