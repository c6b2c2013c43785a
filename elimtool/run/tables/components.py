"""The table of components: what each head, MLP and constant gave the logit of each target."""

from __future__ import annotations

from elimtool.run.columns import FLOAT, INT, POSITION, PROMPT_ID, STRING, TARGET, TARGET_TOKEN, Column, Table

COMPONENT_COLUMNS = (
    Column(
        "component",
        STRING,
        "What wrote to the residual stream: 'embed', 'head LAYER.HEAD', 'mlp LAYER', or 'bias' for"
        " everything constant (biases of output projections, norms and unembedding).",
    ),
    Column("kind", STRING, "Kind of the component: embed, head, mlp or bias."),
    Column(
        "layer",
        INT,
        "Block that the component belongs to, from 0.",
        unit="layer index",
        range="0 .. layers - 1",
        null_when="the component is 'embed' or 'bias'",
    ),
    Column(
        "head",
        INT,
        "Query head.",
        unit="head index",
        range="0 .. heads - 1",
        null_when="the component is not a head",
    ),
)

COMPONENTS = Table(
    "components",
    "Which heads and MLPs promoted or eliminated each target, as parts that sum to its logit.",
    "one row per prompt, position, target and component",
    (
        PROMPT_ID,
        POSITION,
        TARGET,
        *COMPONENT_COLUMNS,
        Column(
            "dla",
            FLOAT,
            "Direct logit attribution: the component's part of the target's logit before any soft cap, with"
            " the scales of the final norm and of norms behind blocks frozen. The parts of a target sum to"
            " that logit.",
            unit="logits",
        ),
        Column(
            "dla_centred",
            FLOAT,
            "dla minus its mean over the vocabulary: what is left of a shift that softmax ignores. Positive"
            " promotes the target, negative eliminates it.",
            unit="logits",
        ),
        TARGET_TOKEN,
        Column(
            "z",
            FLOAT,
            "dla_centred over the standard deviation of what the component gave 99 tokens as frequent as the"
            " target (those of table controls): near 0, it does this to any such token.",
            unit="standard deviations",
            null_when="there is no fitted lens, which has the frequencies; or the component gives them all"
            " the same",
        ),
    ),
)
