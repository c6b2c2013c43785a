"""Tables of some prompts within other bounds of memory than usual."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from elimtool import Prompt, TraceOptions
from elimtool.engine import loop
from elimtool.lenses.raw import RawLens


def tables(
    model: Any, texts: Sequence[str], options: TraceOptions, targets: tuple[str, ...] = (), **settings: Any
) -> dict[str, pd.DataFrame]:
    """What the metrics fill in one pass over all prompts; ``settings`` replace what the options say."""
    asked = [Prompt(text=text, targets=targets) for text in texts]
    how = replace(loop.settings_for(model, options, RawLens()), **settings)
    found = loop.run_batch(model, loop.encode_all(model, asked, options), how, RawLens())
    return {name: table.to_pandas() for name, table in found.items()}
