"""The component that did most for or against a target, whatever the order of the table's rows."""

from __future__ import annotations

from typing import Any, ClassVar

from elimtool.analysis.culprits import Culprit, shares
from elimtool.run.schema import TABLES

ROWS = [
    ("a", 3, " é", "embed", None, -90.0),
    ("a", 3, " é", "head 0.1", 0, 2.0),
    ("b", 3, " é", "head 0.1", 0, 5.0),
    ("a", 4, " é", "head 1.0", 1, -1.0),
    ("a", 3, "", "mlp 0", 0, 0.0),
    ("a", 3, " é", "mlp 1", 1, -4.0),
    ("a", 3, " é", "mlp 0", 0, -7.0),
    ("a", 3, " é", "head 1.1", 1, 2.0),
    ("a", 3, " é", "bias", None, 90.0),
]


class Recorded:
    """As much of a run as is looked at."""

    tables: ClassVar[tuple[str, ...]] = ("components",)

    def __init__(self, rows: list[Any]) -> None:
        self.rows = rows

    def arrow(self, name: str) -> Any:
        table = TABLES[name]
        keys = ("prompt_id", "position", "target", "component", "layer", "dla_centred")
        empty = dict.fromkeys(table.names) | {"dla": 0.0}
        made = [{**empty, **dict(zip(keys, row, strict=True))} for row in self.rows]
        return table.from_rows([{**row, "kind": row["component"].split()[0]} for row in made])


def test_the_largest_of_a_sign_is_found_and_the_first_of_equals() -> None:
    found: Any = shares(Recorded(ROWS))  # type: ignore[arg-type]
    assert set(found) == {("a", 3, " é"), ("b", 3, " é"), ("a", 4, " é"), ("a", 3, "")}
    one = found["a", 3, " é"]
    assert one.extreme(1) == Culprit("head 0.1", 2.0, None)
    assert one.extreme(-1) == Culprit("mlp 0", -7.0, None)
    assert one.extreme(-1, lost=2) == Culprit("mlp 1", -4.0, None)  # from layer 1 on
    assert one.extreme(1, lost=2) == Culprit("head 1.1", 2.0, None)
    assert one.extreme(-1, lost=9) is None
    assert found["b", 3, " é"].extreme(-1) is None
    assert found["a", 4, " é"].extreme(-1) == Culprit("head 1.0", -1.0, None)
    assert found["a", 3, ""].extreme(1) is None


def test_a_table_without_heads_or_mlps_has_no_culprits() -> None:
    assert shares(Recorded(ROWS[:1])) == {}  # type: ignore[arg-type]
    assert shares(Recorded([])) == {}  # type: ignore[arg-type]
