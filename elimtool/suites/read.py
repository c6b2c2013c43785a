"""Read a suite of any form as a prompt file."""

from __future__ import annotations

import io
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from elimtool.errors import ElimError, Exit, nearest
from elimtool.files.package import shipped_configs
from elimtool.files.parse import parse_json
from elimtool.files.yaml import read_text, read_yaml
from elimtool.prompts.file import PromptFile
from elimtool.suites.abstain import phrases, with_abstention
from elimtool.suites.file import expand, expand_templates
from elimtool.suites.published import CROWS_PAIRS, WINOBIAS, crows_pairs, minimal_pairs, stereoset, winobias
from elimtool.suites.seeds import with_seeds
from elimtool.suites.sentences import CONTINUATION, RULES
from elimtool.suites.suite import Suite, SuiteCheck

MOST = 2**26
"""Size in bytes up to which a ``.json`` file is read whole to find out what it is."""


def open_prompts(
    path: str | Path,
    format: str | None = None,
    rule: str = CONTINUATION,
    whole: bool = False,
    abstain: str | None = None,
    seeds: int | None = None,
) -> tuple[PromptFile, tuple[SuiteCheck, ...]]:
    """Open a prompt file, or a suite as the prompts that it stands for.

    Args:
        path: A prompt file, ``-`` for standard input, a suite (YAML or JSONL of templates, minimal pairs, or
            CrowS-Pairs, WinoBias, StereoSet or BLiMP as published), or the name of a suite that ships.
        format: Format of a prompt file; ``None`` to find out, also whether it is a suite.
        rule: How sentences of minimal pairs are scored, one of ``RULES``.
        whole: Whether sentences of CrowS-Pairs, WinoBias and StereoSet are scored whole too.
        abstain: Phrases of abstention to ask for after each prompt, see ``phrases``; ``None`` for none.
        seeds: Times that each prompt is asked, each with a seed of its own; ``None`` for once.

    Returns:
        The prompts, and what is wrong or doubtful in a suite.

    Raises:
        ElimError: The file cannot be used, or no template of the suite can (exit code 5).
    """
    if rule not in RULES:
        raise ElimError(f"`rule` must be one of {', '.join(RULES)}, got '{rule}'", nearest(rule, RULES))
    if str(path) in (shipped := shipped_suites()) and not Path(path).exists():
        path = shipped[str(path)]
    suite = None if format is not None or str(path) == "-" else read_suite(Path(path), rule, whole)
    given = {"abstain": abstain, "seeds": seeds}
    if suite is None and (more := next((name for name, one in given.items() if one is not None), None)):
        if Path(path).suffix.lower() != ".jsonl":
            hint = "write the prompts as JSON lines, or give a suite"
            raise ElimError(f"`{more}`: {path} is neither a suite nor JSON lines", hint)
        suite = Suite(tuple(_lines(Path(path))), ())
    if suite is None:
        return PromptFile(path, format), ()
    if abstain is not None:
        suite = replace(suite, records=tuple(with_abstention(suite.records, phrases(abstain))))
    if seeds is not None:
        suite = replace(suite, records=tuple(with_seeds(suite.records, seeds)))
    if not suite.records:
        told = str(suite.checks[0]) if suite.checks else "it has none"
        raise ElimError(f"{path}: no template or pair can be used: {told}", "mend the suite", Exit.NOTHING)
    lines = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in suite.records)
    file = PromptFile("-", "jsonl", io.BytesIO(lines.encode()))
    file.name = f"{path} (expanded)"
    file.facts = {"suite": [asdict(one) for one in suite.checks], "suite_duplicates": suite.n_duplicates}
    return file, suite.checks


def shipped_suites() -> dict[str, Path]:
    """Return the suites that ship with the package, by name."""
    return {one.stem: one for one in sorted(shipped_configs("suites").glob("*.*"))}


def read_suite(path: Path, rule: str = CONTINUATION, whole: bool = False) -> Suite | None:
    """Read a suite; ``None`` where the file is of prompts.

    Args:
        path: The file.
        rule: How sentences of minimal pairs are scored, one of ``RULES``.
        whole: Whether sentences of other published pairs are scored whole too.

    Raises:
        ElimError: It is a suite with mistakes.
    """
    where, suffix = str(path), path.suffix.lower()
    if suffix in (".yaml", ".yml"):
        return expand(read_yaml(path), where)
    if WINOBIAS.fullmatch(path.name):
        kind = path.name.partition("_")[2]
        pro, anti = (read_text(path.with_name(f"{side}_{kind}")) for side in ("pro", "anti"))
        return winobias(pro, anti, where, whole)
    if suffix == ".csv" and set(CROWS_PAIRS) <= {one.strip() for one in _start(path).split(",")}:
        return crows_pairs(read_text(path), where, whole)
    if suffix not in (".json", ".jsonl"):
        return None
    keys = _keys(path)
    if {"data"} <= keys and "prompt" not in keys:
        return stereoset(_json(read_text(path), where), where, whole)
    if {"sentence_good", "sentence_bad"} <= keys or {"good", "bad"} <= keys:
        return minimal_pairs(_lines(path), where, rule)
    if "template" in keys and not keys & {"prompt", "messages"}:
        return expand_templates(_lines(path), {}, where)
    return None


def _start(path: Path) -> str:
    """Return the first line of a file; empty where it cannot be read, which the prompt file will say."""
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            return file.readline(2**20).strip()
    except (OSError, ValueError):
        return ""


def _keys(path: Path) -> set[str]:
    """Return the keys of the first object of a file of JSON or JSONL; none where that is something else."""
    try:
        found: Any = parse_json(_start(path))
    except ValueError:
        if path.suffix.lower() != ".json" or not path.is_file() or path.stat().st_size > MOST:
            return set()
        try:  # one object over many lines, or a line of megabytes
            found = parse_json(path.read_bytes())
        except ValueError:
            return set()
    return set(found) if isinstance(found, dict) else set()


def _lines(path: Path) -> list[dict[str, Any]]:
    found = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if line.strip():
            one = _json(line, f"{path}:{number}")
            if not isinstance(one, dict):
                raise ElimError(f"{path}:{number}: the line is not a JSON object", "one object a line")
            found.append(one)
    return found


def _json(text: str, where: str) -> Any:
    try:
        return parse_json(text)
    except ValueError as error:
        raise ElimError(f"{where} is not valid JSON: {error}", "mend the file") from error
