"""Name heads with the role that a map of their model found."""

from __future__ import annotations

from collections.abc import Mapping

SPELLED = {
    "previous": "previous token",
    "duplicate": "duplicate token",
    "suppressing": "copy suppression",
}
"""Roles that are not called in the field what tables call them."""


def with_role(name: str, role: str | None) -> str:
    """Add a role to a head's name: ``head 29.0 (copy suppression)``; the name alone without one."""
    return name if role is None else f"{name} ({SPELLED.get(role, role)})"


def role_of(name: str | None, roles: Mapping[str, str]) -> str | None:
    """Look up the role of a component such as ``head 29.0``; ``None`` for an MLP or where it has none."""
    return None if name is None else roles.get(name.removeprefix("head "))
