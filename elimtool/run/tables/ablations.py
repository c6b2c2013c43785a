"""The table of ablations: what every head and MLP alone changes for each target."""

from __future__ import annotations

from elimtool.run.columns import (
    BOOL,
    FLOAT,
    INT,
    POSITION,
    PROMPT_ID,
    STRING,
    TARGET,
    TARGET_TOKEN,
    AskedBy,
    Column,
    Table,
)

FEW = "the model has fewer than 21 components of its kind, or the run is of an older elimtool"

ABLATIONS = Table(
    "ablations",
    "What each head and MLP, ablated by itself, changes for each target.",
    "one row per prompt, position, target and component",
    (
        PROMPT_ID,
        POSITION,
        TARGET,
        TARGET_TOKEN,
        Column("component", STRING, "What was ablated: 'head LAYER.HEAD' or 'mlp LAYER'."),
        Column("kind", STRING, "Kind of the component: head or mlp."),
        Column("layer", INT, "Its block, from 0.", unit="layer index", range="0 .. layers - 1"),
        Column(
            "head",
            INT,
            "Query head.",
            unit="head index",
            range="0 .. heads - 1",
            null_when="the component is an MLP",
        ),
        Column(
            "effect",
            FLOAT,
            "Change of the target's log-probability when the component is replaced by its mean over reference"
            " text at every position but the sinks. Below 0 the component promotes the target. Components"
            " compensate for each other, so a small effect does not clear one.",
            unit="nats",
        ),
        Column(
            "null",
            FLOAT,
            "95th percentile of |effect| among 20 random other components of its kind, drawn from the nearest"
            " layers that have enough of them.",
            unit="nats",
            range=">= 0",
            null_when=FEW,
        ),
        Column("beyond", BOOL, "Whether |effect| exceeds null.", null_when=FEW),
    ),
    asked_by=AskedBy("ablate_each", "give it: every head and MLP takes a pass of its own"),
    of_prompt=True,
)
