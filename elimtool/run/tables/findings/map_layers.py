"""The tables of ``elimtool map`` on layers and neurons."""

from __future__ import annotations

from elimtool.run.columns import BOOL, FLOAT, INT, LAYER, STRING, Column, Table, share

NO_NEURONS = "unmeasured says why the layer's neurons are not known"
FEW_TOKENS = f"fewer than 10,000 tokens were read; {NO_NEURONS}"

NEURONS = Table(
    "neurons",
    "How often each neuron of each MLP opens, over the text tokens that are no sinks.",
    "one row per layer and neuron; one without a neuron for a layer whose neurons are not known",
    (
        LAYER,
        Column("neuron", INT, "Neuron of the layer's MLP.", "neuron index", ">= 0", NO_NEURONS),
        share(
            "open",
            "Share of tokens at which the gate's pre-activation is above 0; without a gate, the neuron's.",
            null_when=NO_NEURONS,
        ),
        share(
            "below_1pct",
            "Share of tokens at which the activation is under a hundredth of the token's largest, in absolute"
            " value: a smooth gate is never quite shut.",
            null_when=NO_NEURONS,
        ),
        Column("dead", BOOL, "Whether open is at most 0.001.", null_when=FEW_TOKENS),
        Column("always_on", BOOL, "Whether open is at least 0.999.", null_when=FEW_TOKENS),
        Column("n", INT, "Tokens; 3 over n bounds what no opening at all can hide.", "tokens", ">= 0"),
        Column("unmeasured", STRING, "Why the layer's neurons are not known.", null_when="they are"),
    ),
)

ADDS_NOTHING = "the layer adds nothing, or as linearity"
NOT_FITTED = "the stream does not vary, or the map is of an earlier version"
UNREAD = "no passage could be read out"
READ_AT = " In the first 12 passages, at every second of their first 64 tokens."


UNITS = {"skip_kl": "nats", "influence": "1 - cosine"}


def ends(name: str) -> tuple[Column, Column]:
    """Make the columns of an interval over passages."""
    unit, few = UNITS.get(name, "share"), f"{name} is null, or fewer than 2 passages were read"
    return (
        Column(f"{name}_low", FLOAT, "Lower end of its 95 % interval over passages.", unit, null_when=few),
        Column(f"{name}_high", FLOAT, "Its upper end.", unit, null_when=few),
    )


LAYERS = Table(
    "layers",
    "How much each layer changes the residual stream, and what is lost without it: the two need not agree.",
    "one row per layer",
    (
        LAYER,
        Column(
            "influence",
            FLOAT,
            "1 minus the cosine of the residual stream before and after the layer, mean over text tokens that"
            " are no sinks, then over passages (ShortGPT's block influence).",
            "1 - cosine",
            "0 .. 2",
            "every token is a sink",
        ),
        *ends("influence"),
        Column(
            "influence_sink",
            FLOAT,
            "The same at the sinks alone, where massive activations are built.",
            "1 - cosine",
            "0 .. 2",
            "there are no sinks",
        ),
        Column("angular", FLOAT, "The angle instead, over pi.", "half turns", "0 .. 1", "as influence"),
        Column(
            "skip_kl",
            FLOAT,
            "Divergence of the output without the layer from the model's: what enters it goes on to the next"
            " one." + READ_AT,
            "nats",
            ">= 0",
            UNREAD,
        ),
        *ends("skip_kl"),
        Column("skip_nll", FLOAT, "Rise of the loss there.", "nats", null_when=UNREAD),
        share("skip_agree", "Share of these positions with the same first token.", null_when=UNREAD),
        share(
            "exit_agree",
            "Share of these positions at which the first token, read off after the layer (raw lens), is that"
            " of the output.",
            null_when=UNREAD,
        ),
        share("saturated", "The same, from this layer on to the end.", null_when=UNREAD),
        Column(
            "linearity",
            FLOAT,
            "Share of the variance of the stream after the layer that a linear map of the stream before it"
            " explains at text tokens that are no sinks: fitted on every second passage (ridge, a thousandth"
            " of the mean variance), judged on the others. Below 0 it is worse than the mean.",
            "share",
            "<= 1",
            NOT_FITTED,
        ),
        *ends("linearity"),
        Column("update_linearity", FLOAT, "The same of what the layer adds.", "share", "<= 1", ADDS_NOTHING),
        *ends("update_linearity"),
        share(
            "linearity_published",
            "As it is published: without a penalty, on the passages that it is fitted on, sinks included. One"
            " token of great length is then nearly all of the variance, and many channels fit few tokens.",
            NOT_FITTED,
        ),
        Column(
            "max_abs",
            FLOAT,
            "Largest absolute number of the residual stream after the layer, over all passages, sinks"
            " included.",
            "activation",
            ">= 0",
        ),
        Column("max_position", INT, "Its position in its passage.", "token index", ">= 0"),
        Column("max_channel", INT, "Its channel.", "channel index", ">= 0"),
        Column(
            "max_ratio",
            FLOAT,
            "max_abs over the median absolute number of that passage's state.",
            "ratio",
            ">= 1",
            "the median is 0",
        ),
        Column(
            "n_massive",
            INT,
            "Numbers of that state above both 100 and 1,000 times its median.",
            "numbers",
            ">= 0",
        ),
        Column(
            "max_abs_elsewhere",
            FLOAT,
            "Largest absolute number at tokens that are no sinks.",
            "activation",
            ">= 0",
        ),
        Column(
            "dead",
            INT,
            "Dead neurons.",
            "neurons",
            ">= 0",
            f"part neurons was left out; {FEW_TOKENS}",
        ),
        Column("always_on", INT, "Neurons that are always on.", "neurons", ">= 0", "as dead"),
        share("open", "Mean of neurons.open.", null_when=f"part neurons was left out; {NO_NEURONS}"),
        Column("n_read", INT, "Passages that were read out.", "passages", ">= 0"),
    ),
)

NO_LENS = "unmeasured says why"

EXITS = Table(
    "exits",
    "Where one could stop: the mean layer and how often the token there is the output's, by rules.",
    "one row per rule",
    (
        Column(
            "rule",
            STRING,
            "softmax_diff: the first layer at which the first token's probability is above the second one's"
            " by the threshold; state: at which the cosine with the layer before is the threshold or more;"
            " oracle: whose first token is the output's. Tokens are read off by the model's fitted lens.",
        ),
        Column(
            "threshold",
            FLOAT,
            "Smallest one with an agreement of 0.95 on every second passage.",
            "of the rule",
            null_when=f"{NO_LENS}, or the rule has none (oracle)",
        ),
        Column(
            "mean_layer",
            FLOAT,
            "Mean layer of the exit, on the other passages." + READ_AT,
            "layer index",
            "0 .. layers - 1",
            NO_LENS,
        ),
        share("agreement", "Share of these positions at which the token there is the output's.", NO_LENS),
        Column("n", INT, "Positions.", "tokens", ">= 0"),
        Column("unmeasured", STRING, "Why there is no number.", null_when="there is"),
    ),
)
