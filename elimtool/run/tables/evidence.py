"""The columns of the table of verdicts that causal tests of its culprits fill."""

from __future__ import annotations

from elimtool.run.columns import BOOL, FLOAT, INT, Column

UNTESTED = "not tested: no --confirm, no such component, or the pass is one under an intervention"


def tested(role: str, does: str) -> tuple[Column, ...]:
    """Define the columns of one culprit; ``does`` is what the verdict claims about it."""
    bound = "95th" if role == "eliminator" else "5th"
    return (
        Column(
            f"{role}_effect",
            FLOAT,
            f"Change of the target's log-probability when the {role} is mean-ablated.",
            unit="nats",
            null_when=UNTESTED,
        ),
        Column(
            f"{role}_effect_resample",
            FLOAT,
            "The same under resample ablation.",
            unit="nats",
            null_when=UNTESTED,
        ),
        Column(
            f"{role}_null",
            FLOAT,
            f"{bound} percentile of that change over random components of the same kind, from the nearest"
            " layers, mean-ablated one at a time.",
            unit="nats",
            null_when=f"{UNTESTED}; or the model has fewer than 20 others",
        ),
        Column(
            f"{role}_null_n",
            INT,
            "Number of these random components.",
            unit="components",
            range="0 .. 20",
            null_when=UNTESTED,
        ),
        Column(
            f"{role}_confirmed",
            BOOL,
            f"Whether the {role} {does} the target causally: its effect passes {role}_null and 0.1 nats (0.6"
            " in half precision), and both ablations agree in sign.",
            null_when=UNTESTED,
        ),
    )


TESTS = (*tested("eliminator", "holds back"), *tested("promoter", "keeps"))
