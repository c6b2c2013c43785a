"""Attention weights of one head as an array, out of the table ``attention_weights``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc

from elimtool.errors import ElimError, nearest

if TYPE_CHECKING:
    from numpy.typing import NDArray


def weights_of(table: Any, prompts: Any, layer: int, head: int, prompt: str | None) -> NDArray[np.float32]:
    """Return the weights of one head: [probed positions in order, keys up to the last of them].

    Args:
        table: ``attention_weights`` of one pass.
        prompts: The table ``prompts``.
        layer: The block, from 0.
        head: The query head, from 0.
        prompt: Its id; ``None`` for the only one.

    Raises:
        ElimError: There is no such prompt or head in the table, or several prompts and none is named.
    """
    ids = prompts.column("prompt_id").to_pylist()
    if prompt is None and len(ids) != 1:
        raise ElimError(f"the run has {len(ids):,} prompts", f"name one in `prompt`, such as {ids[:1]}")
    if prompt is not None and prompt not in ids:
        raise ElimError(f"the run has no prompt '{prompt}'", nearest(prompt, ids[:20]))
    of_prompt = table.filter(pc.equal(table.column("prompt_id"), ids[0] if prompt is None else prompt))
    wanted = pc.and_(pc.equal(of_prompt.column("layer"), layer), pc.equal(of_prompt.column("head"), head))
    rows = of_prompt.filter(wanted)
    if not rows.num_rows:
        kept = zip(of_prompt.column("layer").to_pylist(), of_prompt.column("head").to_pylist(), strict=True)
        names = [f"{one}.{other}" for one, other in dict.fromkeys(kept)]
        raise ElimError(f"the weights of head {layer}.{head} were not kept", f"kept: {', '.join(names[:20])}")
    places, index = np.unique(rows.column("position").to_numpy(), return_inverse=True)
    found = np.full((len(places), int(places[-1]) + 1), np.nan, np.float32)
    found[index, rows.column("key").to_numpy()] = rows.column("weight").to_numpy()
    return found
