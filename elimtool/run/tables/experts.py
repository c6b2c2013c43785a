"""The tables of mixtures of experts: what routers chose, and what each expert gave each target's logit."""

from __future__ import annotations

from elimtool.run.columns import (
    BOOL,
    FLOAT,
    INT,
    POSITION,
    PROMPT_ID,
    SMALL_FLOAT,
    STRING,
    TARGET,
    TARGET_TOKEN,
    Column,
    Table,
)

LAYER = Column(
    "layer",
    INT,
    "Block with a mixture of experts, from 0.",
    unit="layer index",
    range="0 .. layers - 1",
)
UNSEEN = "the router's logits cannot be seen"
NO_SCORES = f"{UNSEEN}, or the weights are proportional to neither their softmax nor their sigmoid"

EXPERTS = Table(
    "experts",
    "Which experts of a mixture each position was sent to, how sure the router was, and what it dropped.",
    "one row per prompt, position, layer and expert, in layers with a mixture of experts",
    (
        PROMPT_ID,
        POSITION,
        LAYER,
        Column(
            "expert",
            INT,
            "Expert that the router chooses among.",
            unit="expert index",
            range="0 .. experts - 1",
        ),
        Column(
            "router_logit",
            SMALL_FLOAT,
            "The router's logit of the expert, as transformers gives it with output_router_logits.",
            unit="logit",
            null_when=UNSEEN,
        ),
        Column(
            "router_prob",
            SMALL_FLOAT,
            "The router's score of the expert: the softmax of its logits over all experts, or their sigmoid"
            " in families whose router takes that (DeepSeek-V3), whose scores do not sum to 1.",
            unit="probability",
            range="0 .. 1",
            null_when=NO_SCORES,
        ),
        Column(
            "rank",
            INT,
            "1 + number of experts with a larger logit.",
            unit="rank",
            range="1 .. experts",
            null_when=UNSEEN,
        ),
        Column("chosen", BOOL, "Whether the expert ran for this position."),
        Column(
            "weight",
            SMALL_FLOAT,
            "Factor on the expert's output in the layer's sum, as the family makes it of the scores;"
            " in Llama 4 on its input.",
            unit="factor",
            null_when="the expert did not run",
        ),
        Column(
            "margin",
            SMALL_FLOAT,
            "The expert's logit minus the smallest logit of a chosen expert: 0 or more for a chosen one."
            " Positive without being chosen: a bias or a limit to groups of experts was against it.",
            unit="logits",
            null_when=UNSEEN,
        ),
        Column(
            "dropped_mass",
            SMALL_FLOAT,
            "Share of the router's scores that lies on experts that did not run, at this position and layer.",
            unit="share",
            range="0 .. 1",
            null_when=NO_SCORES,
        ),
        Column(
            "unsplit",
            STRING,
            "Why the layer's output could not be split into its experts, so that expert_components lacks it.",
            null_when="the experts that ran add up to the output",
        ),
    ),
)

EXPERT_COMPONENTS = Table(
    "expert_components",
    "Which experts of a mixture promoted or eliminated each target, as parts that sum to their MLP's.",
    "one row per prompt, position, target, layer and expert that ran; shared experts last",
    (
        PROMPT_ID,
        POSITION,
        TARGET,
        TARGET_TOKEN,
        Column("component", STRING, "'expert LAYER.EXPERT', or 'shared LAYER' for experts that always run."),
        LAYER,
        Column(
            "expert",
            INT,
            "Expert that wrote it.",
            unit="expert index",
            range="0 .. experts - 1",
            null_when="they are the shared experts",
        ),
        Column(
            "dla",
            FLOAT,
            "Direct logit attribution of what the expert wrote, with its weight, as in components. The parts"
            " of a layer sum to that of its 'mlp LAYER'.",
            unit="logits",
        ),
        Column(
            "dla_centred",
            FLOAT,
            "dla minus its mean over the vocabulary, as in components.",
            unit="logits",
        ),
    ),
)
