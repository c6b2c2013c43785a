"""Read a taxonomy: the categories that must be covered, by how many items and how well."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elimtool.errors import ElimError, nearest
from elimtool.files.yaml import read_yaml
from elimtool.prompts.prompt import Prompt

MIN_ITEMS, MIN_ACCURACY, WEIGHT = 20, 0.7, 1.0
"""What is asked of a leaf that does not say."""
KEYS = ("version", "nodes")
NODE_KEYS = ("title", "min_items", "min_accuracy", "weight")
HOW = "docs/coverage.md has an example"


@dataclass(frozen=True, slots=True)
class Node:
    """What is asked of one node.

    Attributes:
        path: Its path.
        title: Its title, if it has one.
        min_items: Items that it needs.
        min_accuracy: Least lower end of its interval of accuracy.
        weight: Its weight in structural coverage.
    """

    path: str
    title: str | None = None
    min_items: int = MIN_ITEMS
    min_accuracy: float = MIN_ACCURACY
    weight: float = WEIGHT


@dataclass(frozen=True)
class Taxonomy:
    """Nodes by path. Leaves are those without a node below; items belong to leaves."""

    nodes: Mapping[str, Node]
    where: str

    @property
    def leaves(self) -> tuple[str, ...]:
        """Paths of the leaves, in the file's order."""
        begun = {one for path in self.nodes for one in beginnings(path)[:-1]}
        return tuple(path for path in self.nodes if path not in begun)

    def leaf_of(self, category: str | None) -> str:
        """Return the leaf that a category belongs to: its path, or the beginning of it that is a leaf.

        Raises:
            ElimError: There is none.
        """
        for path in reversed(beginnings(category or "")):
            if path in self.leaves:
                return path
        told = (
            f"category '{category}' is in no leaf of the taxonomy" if category else "an item has no category"
        )
        raise ElimError(f"{self.where}: {told}", nearest(category or "", self.leaves))

    def refuse_unplaced(self, prompts: Iterable[Prompt], targets: bool = False) -> None:
        """Refuse a suite with an item that belongs to no leaf, before it is measured.

        Args:
            prompts: What will be measured.
            targets: Whether prompts that name no targets are given some.

        Raises:
            ElimError: There is no leaf for an item.
        """
        for one in prompts:
            alone = one.design.role is None and one.scored is None
            if one.design.role == "good" or (alone and (targets or one.targets)):
                self.leaf_of(one.category)


def beginnings(path: str) -> list[str]:
    """List the beginnings of a path, the shortest first, itself last."""
    parts = path.split("/")
    return ["/".join(parts[: count + 1]) for count in range(len(parts))]


def read_taxonomy(path: Path) -> Taxonomy:
    """Read a taxonomy file.

    Args:
        path: YAML: ``nodes``, a mapping of paths to ``title``, ``min_items``, ``min_accuracy``, ``weight``.

    Raises:
        ElimError: It cannot be read, or a value is out of range.
    """
    found, where = read_yaml(path), str(path)
    _check_keys(found, where, KEYS)
    if found.get("version", 1) != 1:
        raise ElimError(f"{where}: `version` must be 1, got {found['version']!r}", HOW)
    nodes = found.get("nodes")
    if not isinstance(nodes, dict) or not nodes:
        raise ElimError(f"{where}: there are no `nodes`", HOW)
    made = {str(name): _node(str(name), given, f"{where}: '{name}'") for name, given in nodes.items()}
    taxonomy = Taxonomy(made, where)
    for name in made.keys() - set(taxonomy.leaves):
        if asked := sorted(set(nodes[name] or {}) - {"title"}):
            raise ElimError(
                f"{where}: '{name}' has nodes below it, which items belong to: `{asked[0]}` goes with a leaf",
                "give it to the nodes below",
            )
    return taxonomy


def _node(path: str, given: Any, where: str) -> Node:
    given = {} if given is None else given
    _check_keys(given, where, NODE_KEYS)
    if not all(path.split("/")):
        raise ElimError(f"{where}: a part of the path is empty", "join names by single '/'")
    if not isinstance(given.get("title", ""), str):
        raise ElimError(f"{where}: `title` must be a text, got {given['title']!r}", "put it in quotes")
    node = Node(path, **given)
    limits = {"min_items": (1, float("inf")), "min_accuracy": (0, 1), "weight": (0, float("inf"))}
    for name, (low, high) in limits.items():
        value = getattr(node, name)
        whole = name != "min_items" or isinstance(value, int)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (number and whole and low <= value <= high):
            said = f"from {low} to {high:g}" if high < float("inf") else f"{low} or more"
            raise ElimError(f"{where}: `{name}` must be {said}, got {value!r}", HOW)
    return node


def _check_keys(found: Any, where: str, keys: Iterable[str]) -> None:
    if not isinstance(found, dict):
        raise ElimError(f"{where} must be a mapping, got {type(found).__name__}", HOW)
    for name in found:
        if name not in keys:
            raise ElimError(f"{where}: unknown key '{name}'", nearest(str(name), tuple(keys)))
