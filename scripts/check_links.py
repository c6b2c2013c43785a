"""Check the links of README.md, CONTRIBUTING.md, CHANGELOG.md and docs/, and list those that lead outside.

    python scripts/check_links.py [--network]

Links within the repository must lead to files and headings that are there; addresses outside must be written
soundly. ``--network`` asks each of these too, and names those that do not answer. Ends with 1 at a fault.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(?<!\!)\[[^\]\n]*\]\(([^)\s]+)\)")
PLAIN = re.compile(r"(?<![(\w])https?://[^\s)>\"`,]+")
CODE = re.compile(r"^```.*?^```$|`[^`\n]*`|<!--.*?-->", re.MULTILINE | re.DOTALL)
MADE = ("commands.md", "python.md")
"""Pages that are made while the site is built."""
SLOW = 20.0
"""Seconds after which an address counts as not answering."""


def pages(root: Path = ROOT) -> list[Path]:
    """List the pages."""
    top = [root / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    return [*(one for one in top if one.is_file()), *sorted((root / "docs").rglob("*.md"))]


def links(page: Path) -> list[str]:
    """List where the links of a page lead, code left out."""
    text = CODE.sub("", page.read_text(encoding="utf-8"))
    return [*LINK.findall(text), *PLAIN.findall(LINK.sub("", text))]


def anchors(page: Path) -> set[str]:
    """List the anchors of a page's headings, as the site and GitHub write them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE):
        plain = re.sub(r"[^\w\s-]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)).strip().lower()
        found |= {re.sub(r"\s", "-", plain), re.sub(r"[-\s]+", "-", plain)}
    return found | set(re.findall(r'id="([^"]+)"', text))


def faults(root: Path = ROOT) -> Iterator[str]:
    """Name every link that leads nowhere within the repository, or is not an address."""
    for page in pages(root):
        for link in links(page):
            if (fault := _fault(page, link)) is not None:
                yield f"{page.relative_to(root)}: {link}: {fault}"


def _fault(page: Path, link: str) -> str | None:
    if "://" in link:
        parts = urlsplit(link)
        sound = parts.scheme == "https" and re.fullmatch(r"[\w-]+(\.[\w-]+)+", parts.netloc)
        return None if sound else "not a sound https address"
    name, _, anchor = link.partition("#")
    to = (page.parent / name).resolve() if name else page
    if to.name in MADE:
        return None
    if not to.exists():
        return "no such file"
    return f"no heading '{anchor}'" if anchor and anchor not in anchors(to) else None


def outside(root: Path = ROOT) -> list[str]:
    """List the addresses outside the repository, each once; OWNER stands for whoever has it."""
    found = {one for page in pages(root) for one in links(page) if "://" in one}
    return sorted(one for one in found if "/OWNER/" not in one)


def answer(address: str) -> str:
    """Ask an address, and say what went wrong; empty where it answers."""
    request = Request(address, headers={"User-Agent": "elimtool check_links"})
    try:
        with urlopen(request, timeout=SLOW):
            return ""
    except HTTPError as error:
        return f"status {error.code}"
    except OSError as error:
        return str(error)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--network", action="store_true")
    given = parser.parse_args()
    wrong = list(faults())
    for address in outside():
        said = answer(address) if given.network else "not asked"
        print(f"{address}  {said or 'answers'}")
        wrong += [f"{address}: {said}"] if given.network and said else []
    for one in wrong:
        print(one, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
