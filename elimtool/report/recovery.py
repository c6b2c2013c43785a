"""Tell whether late layers came back to tokens that early layers starved of attention."""

from __future__ import annotations

from elimtool.files.rows import Row

SHARES = {"mass": "attention weight", "norm": "what heads move"}


def recovery_sentence(row: Row) -> str:
    """Tell one row of table ``recovery``; empty where too few tokens are seen."""
    if row["starved"] is None or not row["n_keys"]:
        return ""
    said = _starved(row)
    if not row["starved"]:
        return f"{said}."
    read = f"{row['recovered'] / row['starved']:.0%} of these were read again by late layers"
    return f"{said}; {read}, {row['expected'] / row['starved']:.0%} would be by chance at like distance."


def recovery_summary_sentence(found: Row) -> str:
    """Tell the summary of a run, see ``elimtool.analysis.recovery``."""
    said = f"{_starved(found)}, in {found['n_prompts']:,} prompt{'' if found['n_prompts'] == 1 else 's'}"
    if found["ratio"] is None:
        return said
    said += f"; late layers read {found['recovered']:,} of these again, {found['ratio']:.2f} times"
    said += f" what chance does at like distance{_ends(found, 'ratio')}"
    if found["carry_over"] is None:
        return said
    return f"{said}; early and late shares correlate by {found['carry_over']:.2f}{_ends(found, 'carry_over')}"


def _starved(row: Row) -> str:
    share = f"{row['starved'] / row['n_keys']:.0%}"
    return f"Early layers starved {share} of {row['n_keys']:,} tokens of {SHARES[row['by']]}"


def _ends(found: Row, name: str) -> str:
    low, high = found[f"{name}_low"], found[f"{name}_high"]
    return "" if low is None else f" ({low:.2f} to {high:.2f})"
