"""Write what interventions changed at one position of a prompt."""

from __future__ import annotations

from rich.text import Text

from elimtool.analysis.closing import spell_prob
from elimtool.files.rows import Row
from elimtool.report.facts import Probe
from elimtool.report.screen import Screen

MOST = 10
NAME = 24


def effect_lines(probe: Probe, screen: Screen) -> list[Text]:
    """Each target before and after, the most probable token, and notes; nothing without interventions."""
    rows = probe.rows("effects")
    if not rows:
        return []
    title = f"Under {screen.visible(rows[0]['intervention'])}"
    lines = screen.titled(title, f"the model's own pass {screen.glyph('→')} under it", hang=2)
    for row in rows[:MOST]:
        lines += screen.wrap(_sentence(row, screen), hang=2)
    if len(rows) > MOST:
        lines.append(Text(f"{len(rows) - MOST:,} more targets are not shown.", style="dim"))
    before, after = (screen.quoted(rows[0][name], NAME) for name in ("top_before", "top_after"))
    stays = rows[0]["top_before"] == rows[0]["top_after"]
    lines += screen.wrap(
        f"most probable: {before} stays" if stays else f"most probable: {_to(before, after, screen)}"
    )
    for note in probe.notes("intervention_notes"):
        lines += screen.wrap(f"note: {screen.visible(note)}", hang=2, style="dim")
    return lines


def _sentence(row: Row, screen: Screen) -> str:
    rank = _to(f"{row['rank_before']:,}", f"{row['rank_after']:,}", screen)
    prob = _to(spell_prob(row["prob_before"]), spell_prob(row["prob_after"]), screen)
    said = f"{screen.quoted(row['target'], NAME)} rank {rank}, p {prob}"
    if row["logprob_change"] is not None:
        said += f" ({row['logprob_change']:+.2f} nats)"
    if row["versus"] is not None:
        difference = _to(
            f"{row['logit_difference_before']:+.2f}", f"{row['logit_difference_after']:+.2f}", screen
        )
        said += f", logit difference to {screen.quoted(row['versus'], NAME)} {difference}"
    was, becomes = (row[name].replace("_", " ") for name in ("outcome_before", "outcome_after"))
    return said + (f"; outcome unchanged ({was})" if was == becomes else f"; {_to(was, becomes, screen)}")


def _to(before: str, after: str, screen: Screen) -> str:
    return f"{before} {screen.glyph('→')} {after}"
