"""The table of verdicts: what became of each target, joined from the other tables."""

from __future__ import annotations

from elimtool.run.columns import (
    FLOAT,
    INT,
    POSITION,
    PROMPT_ID,
    STRING,
    TARGET,
    TARGET_TOKEN,
    Column,
    Table,
    probability,
    rank,
    share,
)
from elimtool.run.tables.evidence import TESTS
from elimtool.run.tables.regimes import ABSTAINS

NEVER = "the target is never in the top-10 after a block"
KEPT = "no chain removes the target"
NO_CONTROLS = "there are no control tokens: no ridge lens is in use, whose file holds their frequencies"
NO_COMPONENTS = "components were not measured"

VERDICTS = Table(
    "verdicts",
    "What became of each target, where, and by what.",
    "one row per prompt, position and target",
    (
        PROMPT_ID,
        POSITION,
        TARGET,
        Column(
            "outcome",
            STRING,
            "The first that holds: sampler_eliminated (a chain removes it, and it contended: it is most"
            " probable, or in the top-10 in the output with at least 0.1 of the first token's"
            " probability), survived (most probable), never_surfaced (never in the top-10, after no"
            " block and not in the output), outranked (in the output in the top-10 or in the 0.95"
            " nucleus), late_eliminated (was in the top-10 after some block, and is neither in the"
            " output).",
        ),
        Column(
            "regime",
            STRING,
            "Regime of the prediction, see the table regimes: strong, balanced, familiar,"
            " dysfunctional:OOD-confident, dysfunctional:OOD-diffuse, dysfunctional:resonant or"
            " dysfunctional:weak-signal.",
            null_when=f"no ridge lens is in use, whose file holds the reference; {ABSTAINS}",
        ),
        Column(
            "entry_layer",
            INT,
            "First block after which the target is in the top-10.",
            unit="layer index",
            range="0 .. layers - 1",
            null_when=NEVER,
        ),
        Column(
            "commit_layer",
            INT,
            "First block from which on the target stays in the top-10 to the end.",
            unit="layer index",
            range="entry_layer .. layers - 1",
            null_when="the target is not in the top-10 at the end",
        ),
        rank("best_rank", "Best rank after any block."),
        Column(
            "best_layer",
            INT,
            "First block after which the target has its best rank.",
            unit="layer index",
            range="0 .. layers - 1",
        ),
        Column(
            "lost_layer",
            INT,
            "First block after which the target is out of the top-10 for good.",
            unit="layer index",
            range="entry_layer + 1 .. layers - 1",
            null_when="it never was in the top-10, or is at the end",
        ),
        Column(
            "severity",
            FLOAT,
            "How far it fell: log10 of its final rank over its best.",
            unit="decades of rank",
            range=">= 0",
        ),
        rank("final_rank", "Rank in the model's output."),
        probability("final_prob", "Probability in the model's output."),
        Column(
            "cut_chain",
            STRING,
            "First chain given that removes the target, whether it contended or not.",
            null_when=KEPT,
        ),
        Column("cut_stage", STRING, "Stage of that chain that removes it.", null_when=KEPT),
        Column(
            "cut_margin",
            FLOAT,
            "How far the target is beyond that stage's cut, in the unit of sampling_targets.margin.",
            unit="the stage's own",
            range="<= 0",
            null_when=KEPT,
        ),
        Column(
            "eliminator",
            STRING,
            "Head or MLP with the most negative centred logit attribution; for a target that was lost, among"
            " the blocks from the one before lost_layer on.",
            null_when=f"no head or MLP lowers the logit, or {NO_COMPONENTS}",
        ),
        Column(
            "eliminator_dla",
            FLOAT,
            "Its centred logit attribution.",
            unit="logits",
            range="< 0",
            null_when=f"no head or MLP lowers the logit, or {NO_COMPONENTS}",
        ),
        Column(
            "promoter",
            STRING,
            "Head or MLP with the largest centred logit attribution.",
            null_when=f"no head or MLP raises the logit, or {NO_COMPONENTS}",
        ),
        Column(
            "promoter_dla",
            FLOAT,
            "Its centred logit attribution.",
            unit="logits",
            range="> 0",
            null_when=f"no head or MLP raises the logit, or {NO_COMPONENTS}",
        ),
        Column(
            "evidence",
            STRING,
            "observed: read off the tables, correlational; confirmed: a causal test agreed, about the"
            " promoter of a target that survived, or the eliminator of any other.",
        ),
        Column(
            "lost_p",
            FLOAT,
            "p-value of being lost so severely by chance: (1 + control tokens that the rule calls"
            " late_eliminated, at least as severely) / (1 + control tokens), see the table controls. Up to"
            " 0.05 the story says lost, above it candidate.",
            unit="probability",
            range="1 / (1 + n_controls) .. 1",
            null_when=f"the outcome is not late_eliminated, or {NO_CONTROLS}",
        ),
        share(
            "lost_chance",
            "Share of the target's control tokens that the rule calls late_eliminated, however severely.",
            null_when=NO_CONTROLS,
        ),
        *TESTS,
        TARGET_TOKEN,
        Column(
            "eliminator_z",
            FLOAT,
            "The same against control tokens: components.z of the eliminator.",
            unit="standard deviations",
            null_when=f"there is no eliminator, or {NO_CONTROLS}",
        ),
        Column(
            "promoter_z",
            FLOAT,
            "The same against control tokens: components.z of the promoter.",
            unit="standard deviations",
            null_when=f"there is no promoter, or {NO_CONTROLS}",
        ),
        Column(
            "eliminator_role",
            STRING,
            "Role of the eliminator, as in head_roles, by the map that the run was given.",
            null_when="there is no eliminator, it has no role, or no map was given",
        ),
        Column(
            "promoter_role",
            STRING,
            "Role of the promoter, likewise.",
            null_when="there is no promoter, it has no role, or no map was given",
        ),
    ),
)
