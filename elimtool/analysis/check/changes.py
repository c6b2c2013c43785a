"""List what a new baseline changes in an old one, one line per value."""

from __future__ import annotations

from elimtool.analysis.check.baseline import Baseline
from elimtool.analysis.check.words import told, word


def difference(old: Baseline | None, new: Baseline) -> list[str]:
    """Describe what an update changes, one line per value."""
    lines: list[str] = []
    before = old or Baseline({}, {}, {}, {})
    for name in sorted({*before.identity, *new.identity}):
        if old is not None and before.identity.get(name) != new.identity.get(name):
            lines.append(
                f"identity {name}: {word(before.identity.get(name))} -> {word(new.identity.get(name))}"
            )
    for check in sorted({*before.checks, *new.checks}):
        was = before.checks[check].values if check in before.checks else {}
        now = new.checks[check].values if check in new.checks else {}
        for prompt in sorted({*was, *now}):
            if prompt not in was:
                lines.append(f"+ {check} / {prompt}: {told(now[prompt])}")
            elif prompt not in now:
                lines.append(f"- {check} / {prompt}: {told(was[prompt])}")
            elif was[prompt] != now[prompt]:
                lines.append(f"~ {check} / {prompt}: {told(was[prompt])} -> {told(now[prompt])}")
    return lines
