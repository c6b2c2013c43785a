"""The table of concepts: whether any token of a set is alive, after each layer and each sampler stage."""

from __future__ import annotations

from elimtool.run.columns import BOOL, INT, POSITION, PROMPT_ID, STRING, AskedBy, Column, Table, probability

CONCEPTS = Table(
    "concepts",
    "Whether a concept, a set of tokens, is alive after each layer and stage, beside sets as frequent.",
    "one row per prompt, position, concept or control set, and layer or stage",
    (
        PROMPT_ID,
        POSITION,
        Column("concept", STRING, "Name of the set of tokens."),
        Column(
            "control",
            INT,
            "Number of the control set, from 0: as many tokens that are about as frequent.",
            unit="sets",
            range="0 .. 19",
            null_when="the row is of the concept itself",
        ),
        Column("n_tokens", INT, "Tokens of the set.", unit="tokens", range=">= 1"),
        Column(
            "layer",
            INT,
            "Block after which the residual stream is read, from 0; -1 is the embedding.",
            unit="layer index",
            range="-1 .. layers - 1",
            null_when="the row is of a sampler's stage",
        ),
        Column("chain", STRING, "Sampler chain.", null_when="the row is of a layer"),
        Column(
            "stage_index",
            INT,
            "Place of the stage in its chain, from 0.",
            unit="stage index",
            range=">= 0",
            null_when="the row is of a layer",
        ),
        Column("stage", STRING, "Name of the stage.", null_when="the row is of a layer"),
        Column(
            "alive",
            BOOL,
            "Whether a token of the set is in the 0.9 nucleus of the layer, or survives the stage.",
        ),
        probability("mass", "Probability of the set's tokens, after the layer or the stage."),
    ),
    asked_by=AskedBy("concepts", "name sets of words, such as 'snow=snow, winter, ice'"),
)
