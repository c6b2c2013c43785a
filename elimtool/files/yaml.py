"""Read YAML files that users write, with errors that name the file and the line."""

from __future__ import annotations

import codecs
import re
from pathlib import Path
from typing import Any

from yaml import SafeLoader
from yaml.nodes import CollectionNode, MappingNode, Node, ScalarNode

from elimtool.errors import ElimError


def read_text(path: Path) -> str:
    """Read a UTF-8 file, without its byte-order mark.

    Raises:
        ElimError: The file is missing, unreadable or not UTF-8; the message says where.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        hint = "check the name and its permissions"
        raise ElimError(f"cannot read {path}: {error.strerror or error}", hint) from error
    except ValueError as error:  # a path with a NUL
        raise ElimError(f"cannot read {str(path)!r}: {error}", "check the name") from error
    return decode(raw, str(path))


def unreadable(path: Path) -> str:
    """Say why a file cannot be opened, in the system's words; empty if it can."""
    try:
        with path.open("rb"):
            return ""
    except (OSError, ValueError) as error:
        return str(getattr(error, "strerror", None) or error)


def decode(raw: bytes, where: str) -> str:
    """Decode UTF-8 bytes, and drop a byte-order mark.

    Raises:
        ElimError: Not UTF-8; the message names the place, and the line and the offending byte or UTF-16.
    """
    raw = raw.removeprefix(codecs.BOM_UTF8)
    # UTF-16 without a mark is valid UTF-8 wherever the letters are ASCII: every other byte is zero
    zeros = max(raw[::2].count(0), raw[1::2].count(0))
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or zeros > len(raw) // 4:
        raise ElimError(f"{where} is UTF-16, not UTF-8", "convert it: iconv -f UTF-16 -t UTF-8")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        byte = raw[error.start]
        raise ElimError(
            f"{where} is not UTF-8: byte 0x{byte:02x} on line {line}",
            "convert it, for example with iconv -t UTF-8",
        ) from error


def read_yaml(path: Path) -> Any:
    """Read a YAML file; ``None`` if it is empty.

    Raises:
        ElimError: Unreadable, not YAML, or a key given twice; the message names the file and the line.
    """
    import yaml
    from yaml.reader import ReaderError

    text = read_text(path)
    try:
        _refuse_repeated_keys(yaml.compose(text, yaml.SafeLoader), path)
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ElimError(f"{path}{line}: not valid YAML: {error.problem}") from error
    except ReaderError as error:
        number = text.count("\n", 0, error.position) + 1
        raise ElimError(f"{path}:{number}: not valid YAML: {str(error).splitlines()[0]}") from error
    except yaml.YAMLError as error:
        raise ElimError(f"{path}: not valid YAML: {str(error).splitlines()[0]}") from error
    except RecursionError as error:
        raise ElimError(f"{path}: not valid YAML: nested too deeply") from error
    except (ValueError, TypeError, LookupError, AttributeError) as error:  # a date such as 2024-02-30
        raise ElimError(f"{path}: not valid YAML: {error}", "put the value in quotes") from error


class _Loader(SafeLoader):
    """YAML 1.1 but for 1e-9, which it takes for a text and everybody else for a number."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile("[-+]?[0-9]+[eE][-+][0-9]+$"), list("-+0123456789")
)


def _refuse_repeated_keys(root: Node | None, path: Path) -> None:
    """Refuse equal keys in one mapping: YAML forbids them, but PyYAML silently takes the last."""
    pending, seen = [root], set[int]()
    while pending:
        node = pending.pop()
        # aliases share their node: a few lines of them can stand for billions of values
        if id(node) in seen or not isinstance(node, CollectionNode):
            continue
        seen.add(id(node))
        if not isinstance(node, MappingNode):
            pending += node.value
            continue
        keys: set[str] = set()
        for key, value in node.value:
            if isinstance(key, ScalarNode) and key.value in keys:
                line = key.start_mark.line + 1
                raise ElimError(f"{path}:{line}: '{key.value}' is given twice", "leave one of the two out")
            keys.add(str(key.value))
            pending.append(value)
