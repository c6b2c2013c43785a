"""Write a page of docs/ that is made from code; with --check, only compare."""

from __future__ import annotations

import sys
from pathlib import Path


def settle(page: Path, text: str) -> int:
    """Write a page, or compare it where the running script was given ``--check``.

    Returns:
        Exit code: 1 where the page is not current.
    """
    if "--check" in sys.argv[1:]:
        if page.is_file() and page.read_text(encoding="utf-8") == text:
            return 0
        print(f"{page} is not current: run python scripts/{Path(sys.argv[0]).name}", file=sys.stderr)
        return 1
    page.parent.mkdir(exist_ok=True)
    page.write_text(text, encoding="utf-8")
    print(page)
    return 0
