"""Write docs/glossary.md from elimtool/report/glossary.py; with --check, only compare."""

from __future__ import annotations

import sys
from pathlib import Path

from elimtool.report.glossary import GLOSSARY

PAGE = Path(__file__).parent.parent / "docs" / "glossary.md"
HEAD = """# Glossary

<!-- Written by scripts/make_glossary.py from elimtool/report/glossary.py: change the definitions there. -->

The terms of stories and pages; the page shows a definition where the pointer rests on its term.

| term | means |
|---|---|
"""


def main() -> None:
    """Write the page, or exit with 1 if it is not current."""
    lines = [f"| {term} | {GLOSSARY[term]} |" for term in sorted(GLOSSARY)]
    text = HEAD + "\n".join(lines) + "\n"
    if "--check" in sys.argv[1:]:
        if not PAGE.is_file() or PAGE.read_text("utf-8") != text:
            print(f"{PAGE} is not current: run python scripts/make_glossary.py", file=sys.stderr)
            sys.exit(1)
        return
    PAGE.write_text(text, "utf-8")
    print(PAGE)


if __name__ == "__main__":
    main()
