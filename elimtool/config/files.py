"""Reads YAML files that users write, with errors that name the file and the line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from elimtool.errors import ElimError


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, without a byte-order mark.

    Raises:
        ElimError: The file is missing, unreadable or not UTF-8; the message says where.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ElimError(f"cannot read {path}: {error.strerror or error}") from error
    return decode(raw, str(path))


def decode(raw: bytes, where: str) -> str:
    """Bytes as UTF-8 text, a byte-order mark dropped.

    Raises:
        ElimError: Not UTF-8; the message names the place, the line and the offending byte.
    """
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        byte = raw[error.start]
        raise ElimError(
            f"{where} is not UTF-8: byte 0x{byte:02x} on line {line}", "convert it, for example with iconv -t UTF-8"
        ) from error


def read_yaml(path: Path) -> Any:
    """The contents of a YAML file.

    Raises:
        ElimError: Unreadable, or not YAML; the message names the file and the line.
    """
    import yaml

    try:
        return yaml.safe_load(read_text(path))
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ElimError(f"{path}{line}: not valid YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise ElimError(f"{path}: not valid YAML: {str(error).splitlines()[0]}") from error
