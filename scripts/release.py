"""Print what is left to do for a release after ``make release`` has built and checked it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from elimtool.version import __version__

ROOT = Path(__file__).parents[1]


def left_to_do(version: str, changelog: str, changed_files: list[str]) -> list[str]:
    """List the steps that only a maintainer can take, those first that must come before an upload.

    Args:
        version: The version that was built.
        changelog: Text of the changelog.
        changed_files: Files that differ from the last commit.
    """
    steps = []
    heading = re.search(r"^## \[(.*?)\] - (.*)$", changelog, re.MULTILINE)
    if heading is None or heading[1] != version:
        steps.append(f"CHANGELOG.md: begin it with a section [{version}]")
    elif heading[2] == "Unreleased":
        steps.append(f"CHANGELOG.md: put the date in place of Unreleased in [{version}], and in CITATION.cff")
    if changed_files:
        steps.append(f"commit or drop: {', '.join(changed_files)}")
    return [
        *steps,
        "python scripts/fresh_install.py dist/*.whl   (into an environment of its own: some minutes)",
        f"git tag -s v{version} && git push origin v{version}",
        "twine upload dist/*   (needs the project's token of the package index)",
        "after that `uvx elimtool`, `pipx install elimtool` and `pip install elimtool` find it",
    ]


def main() -> None:
    changed = subprocess.run(
        ["git", "status", "--porcelain", "--untracked-files=no"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.split("\n")
    files = [line[3:] for line in changed if line]
    print("\nBuilt and checked:")
    for path in sorted((ROOT / "dist").iterdir()):
        print(f"  dist/{path.name}  {path.stat().st_size / 1e6:.1f} MB")
    print("Left to do, by a maintainer:")
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    for index, step in enumerate(left_to_do(__version__, text, files), 1):
        print(f"  {index}. {step}")


if __name__ == "__main__":
    main()
