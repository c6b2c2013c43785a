"""The pages: their code runs, and what they show is what is printed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts import run_docs

ROOT = Path(__file__).parents[1]
PAGE = """
<!-- setup: echo hidden -->
```console
$ echo one \\
    two
one two
$ echo $?
0
```

```sh
cat > file <<'EOF'
text
EOF
# a remark
cat file
```

```text
text
```

<!-- not run: for a reason -->
```sh
false
```

```yaml
a: 1
```

```python
print(6 * 7)
```

```text
41
```
"""


@pytest.fixture
def session(tmp_path: Path) -> run_docs.Session:
    return run_docs.Session(tmp_path)


def test_what_a_page_wants_run() -> None:
    found = run_docs.steps(PAGE)
    assert [(one.kind, one.code, one.shown) for one in found] == [
        ("sh", "echo hidden", None),
        ("sh", "echo one \\\n    two", "one two\n"),
        ("sh", "echo $?", "0\n"),
        ("sh", "cat > file <<'EOF'\ntext\nEOF", None),
        ("sh", "cat file", "text\n"),
        ("python", "print(6 * 7)\n", "41\n"),
    ]
    slow = PAGE.replace("not run: for", "slow: for")
    assert [one.code for one in run_docs.steps(slow)] == [one.code for one in found]
    assert [one.code for one in run_docs.steps(slow, slow=True)][5] == "false"
    assert [PAGE.split("\n")[one.line - 1] for one in found[1:3]] == ["$ echo one \\", "$ echo $?"]


def test_output_that_differs_is_told_and_replaced(
    session: run_docs.Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    page = tmp_path / "page.md"
    page.write_text(PAGE, encoding="utf-8")
    (told,) = run_docs.run_page(page, session, update=True)
    assert "page.md:" in told and "-41" in told and "+42" in told
    assert page.read_text(encoding="utf-8") == PAGE.replace("41", "42")
    assert run_docs.run_page(page, session) == []


def test_a_command_that_fails_fails_the_page(
    session: run_docs.Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    page = tmp_path / "page.md"
    for code in ("```sh\nfalse\n```\n", "```console\n$ elimtool nonsense\n```\n", "<!-- setup: false -->\n"):
        page.write_text(code, encoding="utf-8")
        with pytest.raises(AssertionError, match="left with"):
            run_docs.run_page(page, session)
    page.write_text("```console\n$ false\n$ echo $?\n1\n```\n", encoding="utf-8")
    assert run_docs.run_page(page, session) == []


def test_three_dots_stand_for_lines_and_times_do_not_count() -> None:
    assert run_docs.agrees("a\n...\nd\n", "a\nb\nc\nd\n") and run_docs.agrees("a\n...\n", "a\n")
    assert run_docs.agrees("done (1.2 s)\n", "done (31.4 s)\n")
    assert not run_docs.agrees("a\n...\nd\n", "a\nb\n") and not run_docs.agrees("a\n", "a\nb\n")


STORY = "rank 41\nfirst\n...\nlast 7\n...\nend 3\n"
"""A page's output with gaps."""


@pytest.mark.parametrize("line", [0, 1, 3, 5])
def test_a_stale_line_beside_a_gap_is_told_and_renewed_and_the_gap_stays(line: int) -> None:
    """Before, the whole output was put in, so that pages lost their gaps or were renewed by hand."""
    lines = STORY.split("\n")
    printed = STORY.replace("first\n...", "first\none\ntwo").replace("last 7\n...", "last 7\nthree")
    assert run_docs.agrees(STORY, printed)
    stale = "\n".join(f"{one} stale" if at == line else one for at, one in enumerate(lines))
    assert not run_docs.agrees(stale, printed)
    new = run_docs.renewed(stale, printed)
    assert run_docs.agrees(new, printed) and "stale" not in new
    assert line == 3 or new == STORY  # a line between two gaps may be any, so all is shown there


@pytest.mark.parametrize(
    ("shown", "printed", "new"),
    [
        ("a 1\n...\n", "a 2\nb\nc\n", "a 2\n...\n"),
        ("...\nz 1\n", "a\nb\nz 2\n", "...\nz 2\n"),
        ("a 1\n...\nz 1\n", "a 2\nz 2\n", "a 2\nz 2\n"),
        ("a\n", "b\nc\n\nTry next  more\nand more\n", "b\nc\n\n...\n"),
        ("a 1\n\n...\n", "a 2\nb\n\nTry next  more\n", "a 2\nb\n\n...\n"),
    ],
)
def test_output_is_renewed_with_the_gaps_of_the_page(shown: str, printed: str, new: str) -> None:
    assert not run_docs.agrees(shown, printed)
    assert run_docs.renewed(shown, printed) == new
    assert run_docs.agrees(new, printed)


@given(st.lists(st.sampled_from([*"abc", "..."]), max_size=8), st.lists(st.sampled_from("abcd"), max_size=8))
def test_whatever_is_renewed_agrees(shown: list[str], printed: list[str]) -> None:
    texts = ["\n".join(one) + "\n" for one in (shown, printed)]
    assert run_docs.agrees(run_docs.renewed(*texts), texts[1])


def test_no_page_shows_gaps_alone() -> None:
    for page in run_docs.pages():
        for one in run_docs.steps(page.read_text(encoding="utf-8")):
            assert one.shown is None or not one.shown.strip() or one.shown.replace("...", "").strip(), one


def test_no_number_of_a_page_may_change_unnoticed() -> None:
    """Each is changed in turn; what is printed has a line for every gap."""
    changed = 0
    for page in run_docs.pages():
        for one in run_docs.steps(page.read_text(encoding="utf-8"), slow=True):
            shown = run_docs.TIME.sub("", one.shown or "")
            printed = re.sub(r"^\.\.\.$", "a line\nthat is not shown", shown, flags=re.MULTILINE)
            if not shown.strip():
                continue
            assert run_docs.agrees(shown, printed)
            for digit in list(re.finditer(r"\d", shown))[::3]:
                stale = f"{shown[: digit.start()]}{9 - int(digit[0])}{shown[digit.end() :]}"
                assert not run_docs.agrees(stale, printed), (page, stale)
                assert run_docs.agrees(run_docs.renewed(stale, printed), printed)
                changed += 1
    assert changed > 400


def test_few_blocks_are_not_run() -> None:
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "docs").rglob("*.md")]
    reasons = [reason for text in texts for reason in re.findall(r"<!-- (?:not run|slow): (.*?) -->", text)]
    blocks = sum(len(re.findall(r"^```(?:sh|console|python)$", text, re.MULTILINE)) for text in texts)
    assert all(reasons) and len(reasons) < blocks / 2


LONG = (
    "schema",
    "compare",
    "report",
    "locate",
    "query",
    "paris",
    "interventions",
    "instruction",
    "attribute",
)
"""Pages that take longest."""


def page_of(path: Path) -> Any:
    marks = [pytest.mark.long] if path.stem in LONG else []
    return pytest.param(path, marks=marks, id=str(path.relative_to(ROOT)))


@pytest.mark.slow
@pytest.mark.smollm2
@pytest.mark.parametrize("page", [page_of(path) for path in run_docs.pages()])
def test_what_a_page_shows_is_what_is_printed(page: Path, tmp_path: Path) -> None:
    with run_docs.prepared(tmp_path) as session:
        told = run_docs.run_page(page, session)
    assert told == [], "make pages puts in what is printed now:\n" + "\n".join(told)
