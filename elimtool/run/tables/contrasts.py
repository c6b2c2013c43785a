"""The tables of contrasts: what sets a target apart from a foil, by layer, component and sampler stage."""

from __future__ import annotations

from dataclasses import replace

from elimtool.run.columns import (
    AFTER_LAYER,
    BOOL,
    FLOAT,
    INT,
    POSITION,
    PROMPT_ID,
    STRING,
    TARGET,
    TARGET_TOKEN,
    TOKEN_ID,
    Column,
    Table,
)
from elimtool.run.tables.components import COMPONENT_COLUMNS
from elimtool.run.tables.lens import LENS_NAME
from elimtool.run.tables.sampling import CHAIN

UNSEPARATED = "no stage of the chain separates the two"
NO_CONTROLS = "there are no control tokens: no ridge lens is in use, whose file holds their frequencies"
NO_COMPONENTS = "components were not measured"
NO_MARGIN = f"{UNSEPARATED}; or the stage has no margins"

FOIL = Column("foil", STRING, "Foil that the target is contrasted with, named as targets are.")
FOIL_TOKEN = replace(
    TARGET_TOKEN, name="foil_token", description="Text of the token that stands for the foil."
)
FOIL_TOKEN_ID = Column(
    "foil_token_id",
    INT,
    "Vocabulary id of the token that stands for the foil.",
    unit="token id",
    range="0 .. vocabulary - 1",
)
DIFFERENCE = Column(
    "difference",
    FLOAT,
    "Logit of the target minus that of the foil, after a soft cap if the model has one: the logarithm of how"
    " many times as probable the target is.",
    unit="nats",
    null_when="one of the logits is infinite",
)
N_CONTROLS = Column(
    "n_controls",
    INT,
    "Control pairs: a token as frequent as the target and one as frequent as the foil, which end apart.",
    unit="pairs",
    range="0 .. 99",
    null_when=NO_CONTROLS,
)

CONTRAST_LAYERS = Table(
    "contrast_layers",
    "After which block each target is ahead of each foil, and by how much.",
    "one row per prompt, position, layer, target and foil",
    (
        PROMPT_ID,
        POSITION,
        AFTER_LAYER,
        LENS_NAME,
        TARGET,
        TARGET_TOKEN,
        TOKEN_ID,
        FOIL,
        FOIL_TOKEN,
        FOIL_TOKEN_ID,
        DIFFERENCE,
        N_CONTROLS,
        Column(
            "n_controls_settled",
            INT,
            "Control pairs whose difference has its final sign at this layer and all later ones.",
            unit="pairs",
            range="0 .. n_controls",
            null_when=NO_CONTROLS,
        ),
    ),
    may_be_empty=True,
)

CONTRAST_COMPONENTS = Table(
    "contrast_components",
    "Which heads and MLPs set each target apart from each foil, as parts that sum to the difference of their"
    " logits.",
    "one row per prompt, position, target, foil and component",
    (
        PROMPT_ID,
        POSITION,
        TARGET,
        TARGET_TOKEN,
        FOIL,
        FOIL_TOKEN,
        *COMPONENT_COLUMNS,
        Column(
            "dla_difference",
            FLOAT,
            "Direct logit attribution: the component's part of the target's logit minus its part of the"
            " foil's, before any soft cap. Positive favours the target, negative the foil.",
            unit="nats",
        ),
    ),
    may_be_empty=True,
)

CONTRAST_STAGES = Table(
    "contrast_stages",
    "Which stage of each sampler chain is the first to remove one of target and foil and to keep the other.",
    "one row per prompt, position, chain, target and foil",
    (
        PROMPT_ID,
        POSITION,
        CHAIN,
        TARGET,
        TARGET_TOKEN,
        FOIL,
        FOIL_TOKEN,
        Column(
            "stage_index",
            INT,
            "Place of that stage in its chain, from 0.",
            unit="stage index",
            range=">= 0",
            null_when=UNSEPARATED,
        ),
        Column("stage", STRING, "Name of that stage.", null_when=UNSEPARATED),
        Column("kind", STRING, "Kind of that stage, such as top_k.", null_when=UNSEPARATED),
        Column("kept", STRING, "Which of the two it keeps: target or foil.", null_when=UNSEPARATED),
        Column(
            "target_margin",
            FLOAT,
            "How far the target is from that stage's cut, positive where it survives.",
            unit="the stage's own",
            null_when=NO_MARGIN,
        ),
        Column(
            "foil_margin",
            FLOAT,
            "How far the foil is from that stage's cut.",
            unit="the stage's own",
            null_when=NO_MARGIN,
        ),
        Column("margin_unit", STRING, "Unit of both margins, as in the table sampling.", null_when=NO_MARGIN),
        Column("why", STRING, "One sentence: why the stage removed the other.", null_when=UNSEPARATED),
        Column("target_survives", BOOL, "Whether the target survives the whole chain."),
        Column("foil_survives", BOOL, "Whether the foil survives the whole chain."),
    ),
    may_be_empty=True,
)


def _extreme(role: str, direction: str) -> tuple[Column, Column]:
    """Define the columns of the head or MLP that does most in one direction."""
    absent = f"{NO_COMPONENTS}, or none favours the {direction}"
    return (
        Column(role, STRING, f"Head or MLP that favours the {direction} most.", null_when=absent),
        Column(f"{role}_dla", FLOAT, "Its dla_difference.", unit="nats", null_when=absent),
    )


CONTRASTS = Table(
    "contrasts",
    "How far each target is ahead of each foil, from which layer on, and by what.",
    "one row per prompt, position, target and foil",
    (
        PROMPT_ID,
        POSITION,
        TARGET,
        TARGET_TOKEN,
        TOKEN_ID,
        FOIL,
        FOIL_TOKEN,
        FOIL_TOKEN_ID,
        LENS_NAME,
        DIFFERENCE,
        Column(
            "decision_layer",
            INT,
            "First block from which on the difference, read through the lens, keeps the sign that it has in"
            " the output. The embedding does not count, and a layer at which the two are level has another"
            " sign.",
            unit="layer index",
            range="0 .. layers - 1",
            null_when="the two are level in the output, as where one token stands for both",
        ),
        Column(
            "sign_changes",
            INT,
            "How often the difference changes its sign from one block to the next; level counts as a sign.",
            unit="changes",
            range="0 .. layers - 1",
        ),
        N_CONTROLS,
        Column(
            "n_controls_settled",
            INT,
            "Control pairs that have settled by the decision layer. If most have, the layer says little of"
            " this target and this foil.",
            unit="pairs",
            range="0 .. n_controls",
            null_when=f"{NO_CONTROLS}; or there is no decision layer",
        ),
        *_extreme("promoter", "target"),
        *_extreme("eliminator", "foil"),
        Column(
            "n_chains",
            INT,
            "Sampler chains that were run.",
            unit="chains",
            range=">= 0",
        ),
        Column(
            "n_separating",
            INT,
            "Chains that have a stage which removes one of the two and keeps the other.",
            unit="chains",
            range="0 .. n_chains",
        ),
    ),
)
