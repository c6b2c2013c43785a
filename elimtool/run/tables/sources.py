"""The tables of sources: what each span of the prompt wrote for and against each target, through heads."""

from __future__ import annotations

from dataclasses import replace

from elimtool.prompts.prompt import NULL, REST, SINK
from elimtool.run.columns import (
    FLOAT,
    INT,
    LAYER,
    POSITION,
    PROMPT_ID,
    STRING,
    TARGET,
    TARGET_TOKEN,
    Column,
    Table,
)
from elimtool.run.tables.contrasts import FOIL, FOIL_TOKEN

SELF, MLP, BIAS = "<self>", "<mlp>", "<bias>"
"""Rows of ``source_spans`` that are no part of the prompt: the embedding, all MLPs, all constants."""

HEAD = Column("head", INT, "Query head.", unit="head index", range="0 .. heads - 1")
UNSPLIT = "a layer's attention is not what its weights and values give: undecomposed says why"
UNSEEN = (
    f"no token of the span is visible (later than the query, a sink, or outside all windows), or {UNSPLIT}"
)
UNCUT = (
    "not tested: no `confirm`, another part wrote more for the target, or it is the query's own token, a sink"
    " or what is in no span"
)
NO_CELL = f"{UNSEEN}, or the span is '{SELF}', '{MLP}', '{BIAS}' or '{NULL}'"

SPAN = Column(
    "span",
    STRING,
    f"Name of the span, as in the table attention, without its sink tokens, which '{SINK}' has; '{REST}' are"
    f" tokens in no span. '{SELF}' is the embedding of the query's own token, '{MLP}' all MLPs, '{BIAS}'"
    f" everything constant, '{NULL}' what goes to no token (0); unless named spans overlap, a target's rows"
    " sum to its logit.",
)
DLA = Column(
    "dla",
    FLOAT,
    "Direct logit attribution: what heads wrote from the span's tokens to the target's logit before any soft"
    " cap, the scales of norms frozen. Direct paths only: MLPs are not split.",
    unit="logits",
    null_when=UNSEEN,
)
CENTRED = Column(
    "dla_centred",
    FLOAT,
    "dla minus its mean over the vocabulary: what is left of a shift that softmax ignores. Positive promotes"
    " the target, negative opposes it.",
    unit="logits",
    null_when=UNSEEN,
)

SOURCES = Table(
    "sources",
    "Which head read which span of the prompt for or against each target: parts that sum to each head's share"
    " in the table components.",
    "one row per prompt, position, target, layer, head and span",
    (
        PROMPT_ID,
        POSITION,
        TARGET,
        LAYER,
        HEAD,
        replace(
            SPAN,
            description="Name of the span, as in the table source_spans. Spans of which the query sees no"
            " token in the layer have no row.",
        ),
        replace(DLA, null_when=""),
        replace(CENTRED, null_when=""),
        TARGET_TOKEN,
    ),
)


def _cell(which: str, does: str) -> tuple[Column, Column, Column]:
    """Define layer, head and size of the extreme cell of one sign."""
    size = f"{'Largest' if does == 'for' else 'Smallest'} cell of one layer and head, centred."
    layer = f"Layer of the head that wrote most {does} the target from the span."
    return (
        Column(f"{which}_layer", INT, layer, "layer index", "0 .. layers - 1", null_when=NO_CELL),
        replace(HEAD, name=f"{which}_head", description="That head.", null_when=NO_CELL),
        Column(f"{which}_dla", FLOAT, size, unit="logits", null_when=NO_CELL),
    )


REDUCED = (
    Column(
        "expected",
        FLOAT,
        "What the span would have written if each head's weights were spread evenly inside distance bins (the"
        " token itself, then distances 1, 2-3, 4-7, ...), sinks apart: the exact mean over all shuffles.",
        unit="logits",
        null_when=f"{NO_CELL}, or it is '{SINK}'",
    ),
    Column(
        "promoted",
        FLOAT,
        "Sum of the cells of single layers and heads that are above 0, centred.",
        unit="logits",
        range=">= 0",
        null_when=NO_CELL,
    ),
    Column(
        "opposed",
        FLOAT,
        "Sum of those under 0.",
        unit="logits",
        range="<= 0",
        null_when=NO_CELL,
    ),
    Column(
        "handover_layer",
        INT,
        "Layer whose heads together wrote most for the target from the span.",
        unit="layer index",
        range="0 .. layers - 1",
        null_when=f"no layer wrote for it, or {NO_CELL}",
    ),
    *_cell("top", "for"),
    *_cell("low", "against"),
)

UNDECOMPOSED = Column(
    "undecomposed",
    STRING,
    "Why nothing could be attributed: the first layer whose update is not the sum of heads and MLP, or whose"
    " heads' outputs are not what weights and values give.",
    null_when="it could",
)

SOURCE_SPANS = Table(
    "source_spans",
    "What each part of the prompt wrote for and against each target, over all layers and heads, and through"
    " which head most.",
    "one row per prompt, position, target and span",
    (
        PROMPT_ID,
        POSITION,
        TARGET,
        SPAN,
        DLA,
        CENTRED,
        Column(
            "z",
            FLOAT,
            "dla_centred over the standard deviation of what the span wrote for 99 tokens as frequent as the"
            " target (those of table controls) from their mean.",
            unit="standard deviations",
            null_when=f"there is no fitted lens, which has the frequencies; or {NO_CELL}",
        ),
        *REDUCED,
        UNDECOMPOSED,
        TARGET_TOKEN,
        Column(
            "cut_effect",
            FLOAT,
            "Change of the target's log-probability when the query does not attend to the span in top_layer.",
            unit="nats",
            null_when=UNCUT,
        ),
        Column(
            "cut_control",
            FLOAT,
            "The same for as many random tokens, drawn from those that the query sees outside the span and"
            " the sinks.",
            unit="nats",
            null_when=f"{UNCUT}; or there are too few other tokens",
        ),
        *(
            Column(
                f"{which}_role",
                STRING,
                f"Role of the head of {which}_layer and {which}_head, as in head_roles, by the map that the"
                " run was given.",
                null_when=f"the head has no role, no map was given, or {NO_CELL}",
            )
            for which in ("top", "low")
        ),
    ),
)

CONTRAST_SOURCES = Table(
    "contrast_sources",
    "What each part of the prompt wrote for each target rather than each foil.",
    "one row per prompt, position, target, foil and span",
    (
        PROMPT_ID,
        POSITION,
        TARGET,
        TARGET_TOKEN,
        FOIL,
        FOIL_TOKEN,
        SPAN,
        Column(
            "dla_difference",
            FLOAT,
            "What heads wrote from the span to the target's logit minus what they wrote to the foil's. The"
            " other columns are of the same differences. Positive favours the target.",
            unit="nats",
            null_when=UNSEEN,
        ),
        *(replace(column, unit="nats") if column.unit == "logits" else column for column in REDUCED),
        UNDECOMPOSED,
    ),
    may_be_empty=True,
)
