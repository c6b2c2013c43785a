"""The table of a patchscope: which word the model repeats once a layer's residual is put in its place."""

from __future__ import annotations

from elimtool.run.columns import (
    AFTER_LAYER,
    BOOL,
    FLOAT,
    INT,
    POSITION,
    PROMPT_ID,
    STRING,
    AskedBy,
    Column,
    Table,
    probability,
    rank,
)

PATCHSCOPE = Table(
    "patchscope",
    "What the model repeats where the residual of a probed position is put, after the same block, in place of"
    " that of `?` in the prompt `cat -> cat, 1135 -> 1135, hello -> hello, ?` (each on its own line), and"
    " ` ->` is appended (Ghandeharioun et al. 2024, arXiv 2401.06102, without trained maps).",
    "one row per prompt, position, layer, and the position's own token or a target",
    (
        PROMPT_ID,
        POSITION,
        AFTER_LAYER,
        Column("token", STRING, "The position's token as it is repeated, with a space; or a target's first."),
        Column("token_id", INT, "Its vocabulary index.", unit="token index", range=">= 0"),
        Column("is_source", BOOL, "Whether it is the position's own token, not a target's."),
        rank("rank", "Its rank after the arrow."),
        probability("prob", "Its probability there."),
        rank("rank_unpatched", "Its rank in the prompt as it is."),
        Column(
            "rank_control",
            FLOAT,
            "Median of its ranks where residuals of other text are put in after the same block.",
            unit="rank",
            range="1 .. vocabulary",
        ),
        Column("decoded", STRING, "The three most probable tokens after the arrow, one after the other."),
    ),
    asked_by=AskedBy("patchscope", "ask for it, it takes no value"),
    of_prompt=True,
)
