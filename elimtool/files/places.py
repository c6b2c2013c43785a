"""Read a YAML file and remember the line of every key and item, so that errors can name it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from elimtool.files.yaml import read_text, read_yaml

Key = tuple[str | int, ...]
"""Path to a value: keys of mappings and indices of lists, outermost first."""


@dataclass(frozen=True)
class Places:
    """The lines of a YAML file.

    Attributes:
        path: The file.
        lines: Line of every key and list item, from 1.
        texts: Every scalar value as written, without quotes.
    """

    path: Path
    lines: Mapping[Key, int] = field(default_factory=dict)
    texts: Mapping[Key, str] = field(default_factory=dict)

    def line(self, key: Key) -> int:
        """Return the line of a key, or of the nearest enclosing key that the file has; else 1."""
        while key and key not in self.lines:
            key = key[:-1]
        return self.lines.get(key, 1)

    def at(self, key: Key) -> str:
        """Return ``FILE:LINE`` of a key."""
        return f"{self.path}:{self.line(key)}"


def read_with_places(path: Path) -> tuple[Any, Places]:
    """Read a YAML file, and find the line of each part.

    Raises:
        ElimError: As ``read_yaml``.
    """
    import yaml

    content = read_yaml(path)
    lines: dict[Key, int] = {}
    texts: dict[Key, str] = {}
    pending: list[tuple[Key, Node | None]] = [((), yaml.compose(read_text(path), yaml.SafeLoader))]
    entered: set[int] = set()
    while pending:
        key, node = pending.pop()
        if node is None or id(node) in entered:  # an alias: its lines are those of its anchor
            continue
        if isinstance(node, ScalarNode):
            texts[key] = str(node.value)
            continue
        entered.add(id(node))
        if isinstance(node, MappingNode):
            for name, value in node.value:
                inner = (*key, str(name.value))
                lines[inner] = name.start_mark.line + 1
                pending.append((inner, value))
        elif isinstance(node, SequenceNode):
            for index, value in enumerate(node.value):
                lines[(*key, index)] = value.start_mark.line + 1
                pending.append(((*key, index), value))
    return content, Places(path, lines, texts)
