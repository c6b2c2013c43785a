"""Write docs/glossary.md from elimtool/report/glossary.py; with --check, only compare."""

from __future__ import annotations

import sys
from pathlib import Path

from generated import settle

from elimtool.report.glossary import GLOSSARY

PAGE = Path(__file__).parent.parent / "docs" / "glossary.md"
HEAD = """# Glossary

<!-- Written by scripts/make_glossary.py from elimtool/report/glossary.py: change the definitions there. -->

The terms of stories and pages; the page shows a definition where the pointer rests on its term.

| term | means |
|---|---|
"""


def main() -> int:
    """Write the page, or compare it."""
    lines = [f"| {term} | {GLOSSARY[term]} |" for term in sorted(GLOSSARY)]
    return settle(PAGE, HEAD + "\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main())
