"""Tables of some prompts within other bounds of memory than usual."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from elimtool import Prompt, TraceOptions
from elimtool.engine.loop import measure_together
from elimtool.engine.session import Session


def tables(
    model: Any, texts: Sequence[str], options: TraceOptions, targets: tuple[str, ...] = (), **settings: Any
) -> dict[str, pd.DataFrame]:
    """What the metrics fill in one pass over all prompts; ``settings`` replace what the options say."""
    asked = [Prompt(text=text, targets=targets) for text in texts]
    session = Session(model, options, compiled=False)
    session.settings = replace(session.settings, **settings)
    found = measure_together(session, [session.encode(one) for one in asked])
    return {name: table.to_pandas() for name, table in found.items()}
