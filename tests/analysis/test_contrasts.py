"""Decision layers and sign changes of a target against a foil, by hand."""

from __future__ import annotations

from typing import Any

import pytest

from elimtool.analysis.contrasts import changes, decision


def layers(*differences: float | None) -> list[dict[str, Any]]:
    """The embedding's row first, as in the table."""
    return [{"layer": i - 1, "difference": one} for i, one in enumerate(differences)]


@pytest.mark.parametrize(
    ("differences", "layer", "changed"),
    [
        ((-1.0, -2.0, 1.0, 3.0), 1, 1),
        ((-1.0, 2.0, -1.0, 3.0), 2, 2),
        ((-1.0, 2.0, 1.0, 3.0), 0, 0),  # the embedding does not count
        ((1.0, 2.0, 1.0, -3.0), 2, 1),  # the foil may win
        ((1.0, 2.0, 0.0, 3.0), 2, 2),  # level is another sign
        ((1.0, 2.0, 1.0, 0.0), None, 1),  # level at the end: nothing is decided
        ((0.0, 0.0, 0.0, 0.0), None, 0),  # one token stands for both
        ((1.0, 2.0, None, 3.0), 2, 2),  # an unknown difference settles nothing
        ((1.0, -2.0), 0, 0),  # a single block
    ],
)
def test_a_decision_is_where_the_sign_settles(
    differences: tuple[float | None, ...], layer: int | None, changed: int
) -> None:
    rows = layers(*differences)
    found = decision(rows)
    assert (found and found["layer"]) == layer
    assert changes(rows) == changed
    if found is not None:  # the embedding may be left out
        assert decision(rows[1:]) == found
