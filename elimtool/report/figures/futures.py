"""List each chain's survivors with what would follow them, and what each stage leaves of them."""

from __future__ import annotations

from elimtool.analysis.closing import spell_prob
from elimtool.files.rows import Row
from elimtool.report.facts import Tables
from elimtool.report.figures.figure import Listing
from elimtool.report.figures.words import SCREEN, quoted
from elimtool.report.trace.futures import ALIKE, at_last, null_words, set_sentence


def survivors(tables: Tables, prompt: Row) -> list[Listing]:
    """List the survivors of each chain and those that go on alike, and the stages that removed choices."""
    sets, pairs, rows = (
        at_last(tables.rows(name, prompt["prompt_id"]))
        for name in ("survivor_sets", "survivor_pairs", "survivors")
    )
    found = []
    for chain in dict.fromkeys(row["chain"] for row in sets):
        own = [row for row in sets if row["chain"] == chain]
        of_chain = [row for row in pairs if row["chain"] == chain]
        null = f" Likeness of {null_words(of_chain)}." if of_chain else ""
        found.append(
            Listing(
                name="survivors",
                title=f"What would follow the survivors of {SCREEN.visible(chain)}",
                note=f"{set_sentence(own, SCREEN)}.{null}",
                columns=["place", "token", "p", "then", "entropy, nats", "goes on like"],
                rows=[
                    [
                        row["place"],
                        quoted(row["token"]),
                        spell_prob(row["prob"]),
                        quoted(row["future_top"]),
                        f"{row['future_entropy']:.2f}",
                        ", ".join(
                            f"{quoted(one['token_b'])} {one['same_future']:.2f}"
                            for one in of_chain
                            if one["token_a_id"] == row["token_id"] and one["same_future"] >= ALIKE
                        ),
                    ]
                    for row in rows
                    if row["chain"] == chain
                ],
            )
        )
        found.append(
            Listing(
                name="choices",
                title=f"Choices left by the stages of {SCREEN.visible(chain)}",
                note="Stages that change nothing are left out.",
                columns=["stage", "tokens", "compared", "effective tokens", "different futures"],
                rows=[
                    [
                        SCREEN.visible(row["stage"] or "before the chain"),
                        f"{row['n']:,}",
                        row["n_read"],
                        *("" if row[one] is None else f"{row[one]:.2f}" for one in ("hill1", "futures")),
                    ]
                    for before, row in zip([None, *own], own, strict=False)
                    if before is None or (before["n"], before["hill1"]) != (row["n"], row["hill1"])
                ],
            )
        )
    return found
