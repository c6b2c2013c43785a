"""Write docs/tables.md from the schemas in elimtool/run; with --check, only compare."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from generated import settle
from pydantic import BaseModel

from elimtool.prompts.prompt import REST, SINK
from elimtool.run.analysis import AnalysisManifest
from elimtool.run.comparison import ComparisonManifest
from elimtool.run.manifest import NOT_FINGERPRINTED, WHERE_KNOWN, Manifest
from elimtool.run.schema import SCHEMA_VERSION, TABLES, Column, Table
from elimtool.run.tables.comparison import COMPARISON_TABLES
from elimtool.run.tables.findings import FINDING_TABLES

FLOATS = {"double": "float64", "float": "float32"}
PAGE = Path(__file__).parent.parent / "docs" / "tables.md"

HEAD = """\
# The tables of a run

<!-- Written by scripts/make_table_docs.py from the schemas in elimtool/run: change them there. -->

`elimtool trace ... -o DIR` writes one directory per run. `run.json` says what was run; each table is a folder
of Parquet files, `DIR/lens/part-00000.parquet` and so on, with one schema. Unit and definition of every
column are also in the files themselves, as field metadata. This page describes schema version {version}.

<!-- setup: elimtool trace "The capital of France is" -t Paris -o DIR -q -->
```python
import elimtool

run = elimtool.open_run("DIR")
run.manifest.model, run.manifest.dtype  # what was run
lens = run.table("lens")  # pandas
lens[lens.position == lens.position.max()].pivot(index="layer", columns="target", values="rank")
run.arrow("lens")  # pyarrow, nulls and NaN as written
```

No elimtool is needed to read them:

<!-- not run: one of these libraries is enough -->
```python
pandas.read_parquet("DIR/lens")
polars.read_parquet("DIR/lens/*.parquet")
duckdb.sql("SELECT target, min(rank) FROM 'DIR/lens/*.parquet' GROUP BY target")
pyarrow.dataset.dataset("DIR/lens").to_table(filter=pyarrow.dataset.field("layer") >= 20)
```

Several runs at once: `duckdb.sql("SELECT * FROM read_parquet('runs/*/lens/*.parquet', filename = true)")`.

What holds for every number:

- `prompt_id` joins the tables; `position` is the index of the query token, and the prediction made there is
  of the token after it.
- `layer` counts blocks from 0. In the lens tables -1 is the embedding, and the last layer is the model's own
  output.
- Rank 1 is the most probable token. Logarithms are natural, so entropies and divergences are in nats.
- What could not be measured is null, never 0. `Run.table` gives `pd.NA` for it in columns of whole numbers
  and truth values (`Int32`, `boolean`), and NaN in columns of floats.
- Two spans are elimtool's own: `{sink}` is the set of attention sinks (`--sinks`; by default the first token
  and every special one), `{rest}` the tokens that neither it nor a named span or chat role covers. Where no
  token is in two spans, `mass` sums to 1 over the spans of a query in a layer, these two included, and
  `mass_no_sink` over all but `{sink}`. Sentences hold the sink's tokens too: their `mass` alone sums to 1.
- A prompt that could not be used has a row in `prompts` with status `error`, and no rows elsewhere.
- The same command on the same machine writes the same bytes; only `run.json` carries times.

| table | one row per | answers |
|---|---|---|
"""


COMPARISONS = """\

# The tables of a comparison

`elimtool compare ... -o DIR` writes a directory of the same make: `comparison.json` says what was set against
what, and each table is a folder of Parquet files. `elimtool.open_comparison("DIR")` reads it. A comparison
holds the tables that its kind can fill; every difference is B minus A, and null where one side is
([compare.md](compare.md)).

| table | one row per | answers |
|---|---|---|
"""

ANALYSES = """\

# The tables of an analysis

Commands on populations, such as `elimtool audit`, keep what they found beside the run:
`DIR/analysis/audit/audit_effects/part-00000.parquet` and so on, with `analysis.json`. The run's own tables
are never touched. `open_run("DIR").analysis("audit")` reads them, `open_run("DIR").table("audit_effects")`
one of them; `elimtool query` has them as views, `run show` prints them, and checks read their columns
([check.md](check.md)).

| table | one row per | answers |
|---|---|---|
"""


def page() -> str:
    """The whole page."""
    lines = [HEAD.format(version=SCHEMA_VERSION, sink=SINK, rest=REST).rstrip("\n"), *listed(TABLES)]
    for table in TABLES.values():
        lines += section(table)
    lines += [*manifest_section(), COMPARISONS.rstrip("\n"), *listed(COMPARISON_TABLES)]
    for table in COMPARISON_TABLES.values():
        lines += section(table)
    lines += [*comparison_section(), ANALYSES.rstrip("\n"), *listed(FINDING_TABLES)]
    for table in FINDING_TABLES.values():
        lines += section(table)
    return "\n".join([*lines, *analysis_section()]) + "\n"


def listed(tables: dict[str, Table]) -> list[str]:
    """A line for each table, as rows of Markdown."""
    rows = ((table, cell(table.row.removeprefix("one row per "))) for table in tables.values())
    return [f"| [`{table.name}`](#{table.name}) | {one} | {cell(table.purpose)} |" for table, one in rows]


def section(table: Table) -> list[str]:
    """Heading and columns of one table."""
    head = ["", f"## {table.name}", "", f"{table.purpose} {table.row.capitalize()}.", ""]
    rows = ["| column | type | unit | range | null when | meaning |", "|---|---|---|---|---|---|"]
    return head + rows + [row(column) for column in table.columns]


def row(column: Column) -> str:
    """One column as a row of Markdown."""
    facts = (column.unit, column.range, column.null_when or "never", column.description)
    return f"| `{column.name}` | {type_name(column)} | " + " | ".join(cell(fact) for fact in facts) + " |"


def type_name(column: Column) -> str:
    """Arrow's name of the type, with floats as numpy and pandas call them."""
    text = re.sub(r"(element|item): ", "", str(column.type))
    return "`" + re.sub(r"\b(double|float)\b", lambda match: FLOATS[match[0]], text) + "`"


def cell(text: str) -> str:
    """Text that a Markdown table shows as it is."""
    return text.replace("|", "\\|").replace("<", "&lt;") or " "


def manifest_section() -> list[str]:
    """The keys of run.json."""
    intro = (
        "Written last: a directory without it is an unfinished run. Every Parquet file carries the same\n"
        "facts, without the two times and `counts`, in its metadata as `elimtool.KEY` (JSON)."
    )
    return ["", "## run.json", "", intro, "", *keys(Manifest, "runs")]


def comparison_section() -> list[str]:
    """The keys of comparison.json."""
    intro = "Written last: a directory without it is an unfinished comparison."
    return ["", "## comparison.json", "", intro, "", *keys(ComparisonManifest, "comparisons")]


def analysis_section() -> list[str]:
    """The keys of analysis.json."""
    intro = "Written last, without times: the same command on the same run writes the same bytes."
    return ["", "## analysis.json", "", intro, "", *keys(AnalysisManifest, "analyses")]


def keys(model: type[BaseModel], nouns: str) -> list[str]:
    """The keys of a manifest, as rows of Markdown."""
    lines = ["| key | in the fingerprint | meaning |", "|---|---|---|"]
    for name, field in model.model_fields.items():
        counted = "no" if name in NOT_FINGERPRINTED else "where known" if name in WHERE_KNOWN else "yes"
        lines.append(f"| `{name}` | {counted} | {cell(field.description or '')} |")
    meaning = f"SHA-256 over the canonical JSON of all keys not marked no: equal for {nouns} of one thing."
    return [*lines, f"| `fingerprint` | no | {meaning} |"]


def main() -> int:
    """Write the page, or compare it."""
    return settle(PAGE, page())


if __name__ == "__main__":
    sys.exit(main())
