"""Compare two prompts: trace both, and compare them with each other and with controls."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from elimtool.engine.intake import ask, fingerprint
from elimtool.engine.options import TraceOptions
from elimtool.engine.session import Session
from elimtool.errors import ElimError
from elimtool.model.lock import exclusive
from elimtool.model.model import Model
from elimtool.model.wrapping import Bridge, takes_bridges
from elimtool.prompts.prompt import Prompt
from elimtool.tasks.compare.asked import Controls, check_traced
from elimtool.tasks.compare.bench import Bench
from elimtool.tasks.compare.divergence import causal_within

if TYPE_CHECKING:
    from elimtool.run.comparison import Comparison


@takes_bridges
@exclusive
def compare_prompts(
    model: Model | Bridge,
    a: str | Prompt | Iterable[str | Prompt],
    b: str | Prompt | Iterable[str | Prompt],
    *,
    targets: Sequence[str] = (),
    foils: Sequence[str] = (),
    options: TraceOptions | None = None,
    controls: Controls | None = None,
    unread: Mapping[str, str] | None = None,
    unpaired: tuple[int, int] = (0, 0),
    names: tuple[str, str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Comparison:
    """Compare a model on two prompts, or on many pairs of prompts; differences are B minus A.

    Args:
        model: From ``load_model`` or ``wrap``, or a ``TransformerBridge``; calls on one wait for each other.
        a: The first prompt; or the first of each pair, in order.
        b: The second, or as many.
        targets: Continuations to follow, for pairs that name none of their own. Without any, the most
            probable tokens of either output.
        foils: Continuations to contrast them with, likewise.
        options: What to trace and how; ``errors="row"`` keeps a pair that cannot be used as a row.
        controls: Controls of each edit, and what else to measure.
        unread: Pairs with a record that could not be read, by id: which side, and why.
        unpaired: Number of prompts without a counterpart, on side A and on side B.
        names: Names of the sides in stories; by default the model's.
        progress: Called with (pairs done, pairs in all).

    Returns:
        A comparison of kind ``prompts``. Exchanging the prompts negates every difference and exchanges the
        sides, but changes the comparison with controls, which are edits of the first prompt.

    Raises:
        ElimError: A prompt or an option cannot be used.
    """
    assert isinstance(model, Model)
    from elimtool.run.manifest import utc_now

    started = utc_now()
    options, controls = options or TraceOptions(), controls or Controls()
    check_traced(options, "prompts")
    left, right = ask(a, targets, foils), ask(b, targets, foils)
    if len(left) != len(right):
        raise ElimError(f"{len(left):,} prompts cannot be paired with {len(right):,}", "give as many of each")
    if controls.paraphrases and len(left) > 1:
        raise ElimError(
            "`paraphrases` go with a single pair of prompts", "leave them out, or compare one pair"
        )
    session = Session(model, options, compiled=False)
    bench = Bench(session, controls)
    for done, (one, other) in enumerate(zip(left, right, strict=True), start=1):
        bench.add(one, other)
        if progress is not None:
            progress(done, len(left))
    for name, why in (unread or {}).items():
        bench.add_unread(name, why)
    facts = [session.manifest(started, prompts_sha256=fingerprint(asked)) for asked in (left, right)]
    stated = {
        **options.stated(),
        "lens": facts[0].lens,
        **controls.plain(),
        "causal_within": causal_within(model.dtype),
    }
    if names is not None:
        stated["names"] = list(names)
    return bench.comparison(facts[0], facts[1], stated, started, unpaired)
