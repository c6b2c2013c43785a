"""The tables of sampling: what each stage of a chain removes, and whether each target survives it."""

from __future__ import annotations

from elimtool.run.columns import (
    BOOL,
    FLOAT,
    INT,
    POSITION,
    PROMPT_ID,
    STRING,
    STRINGS,
    TARGET,
    TARGET_TOKEN,
    TOKEN_ID,
    Column,
    Table,
    probability,
    rank,
)

EMPTY = "no token is left"
GONE = "an earlier stage removed the target"
EARLIER = "an earlier elimtool wrote the run"
ALONE = "the stage is off or combines no other row"

CHAIN = Column("chain", STRING, "Name of the sampler chain; run.json holds it in full.")
STAGE_INDEX = Column(
    "stage_index",
    INT,
    "Place of the stage in its chain, from 0. Every stage has a row, those turned off too.",
    unit="stage index",
    range=">= 0",
)
STAGE = Column("stage", STRING, "Name of the stage, such as temperature, top_k, top_p, min_p or greedy.")
KIND = Column(
    "kind",
    STRING,
    "Kind of the stage, such as top_k, whatever its name in the chain; elimtool samplers show KIND has its"
    " formula.",
    null_when=EARLIER,
)
MARGIN_UNIT = Column(
    "margin_unit",
    STRING,
    "Unit of the stage's margins, such as nats, bits, tokens, probability or sigma (standard deviations of"
    " the logits).",
    null_when=f"the stage has no margins, or {EARLIER}",
)

SAMPLING = Table(
    "sampling",
    "What each stage of each sampler chain removes.",
    "one row per prompt, position, chain and stage",
    (
        PROMPT_ID,
        POSITION,
        CHAIN,
        Column(
            "engine",
            STRING,
            "Engine whose rules for ties, thresholds and order the stage follows.",
            null_when="the chain follows no engine",
        ),
        STAGE_INDEX,
        STAGE,
        Column(
            "active",
            BOOL,
            "Whether the stage's parameters turn it on. A stage that is off, temperature 1 included, prunes"
            " nothing.",
        ),
        Column(
            "params", STRING, "The stage's parameters, as a JSON text with sorted keys.", range="valid JSON"
        ),
        Column(
            "n_before",
            INT,
            "Tokens still alive when the stage begins (logit above minus infinity).",
            unit="tokens",
            range="0 .. vocabulary",
        ),
        Column(
            "n_after",
            INT,
            "Tokens still alive after the stage: 0 where a ban left none, more than before where a stage"
            " brings banned tokens back.",
            unit="tokens",
            range="0 .. vocabulary",
        ),
        probability(
            "mass_pruned",
            "Probability of the removed tokens in the distribution that the stage was given, renormalised"
            " over the survivors so far; 0 for a stage that removes none.",
        ),
        Column(
            "threshold",
            FLOAT,
            "The cut that the stage applied here, in its own unit: the least logit or probability kept, the"
            " cumulative mass, or the like.",
            unit="the stage's own",
            null_when="the stage is off or by nature removes nothing",
        ),
        Column(
            "entropy_before",
            FLOAT,
            "Shannon entropy of the distribution that the stage was given.",
            unit="nats",
            range=">= 0",
            null_when=EMPTY,
        ),
        Column(
            "entropy_after",
            FLOAT,
            "Shannon entropy of the distribution that the stage leaves, renormalised.",
            unit="nats",
            range=">= 0",
            null_when=EMPTY,
        ),
        Column("top_token", STRING, "Text of the most probable token after the stage.", null_when=EMPTY),
        probability("top_prob", "Probability of that token after the stage, renormalised.", EMPTY),
        KIND,
        MARGIN_UNIT,
        Column(
            "params_from",
            STRING,
            "Where parameters come from that are not the engine's own, as a JSON text by parameter: 'user',"
            " 'generation_config.json' or 'general.sampling' (of a GGUF file), which the model ships with.",
            range="valid JSON",
            null_when=f"all are the engine's own, the chain is no engine's, or {EARLIER}",
        ),
        Column(
            "collision_after",
            FLOAT,
            "Collision probability of the distribution that the stage leaves: the sum of the squared"
            " probabilities. 1 over it is the Hill number of order 2, a number of tokens.",
            unit="probability",
            range="0 .. 1",
            null_when=f"{EMPTY}, or {EARLIER}",
        ),
        Column(
            "output_mass",
            FLOAT,
            "Probability, in the model's output at temperature 1 and before any stage, of the tokens that are"
            " alive after the stage.",
            unit="probability",
            range="0 .. 1",
            null_when=EARLIER,
        ),
        Column(
            "notes",
            STRINGS,
            "Notes of the stage, such as the repetition that DRY found; usually an empty list.",
        ),
        Column(
            "n_drawable",
            INT,
            "Tokens that can be drawn after the stage: those alive whose probability is one that float32, in"
            " which engines draw, can hold (2^-149 or more). A ban by a finite logit leaves tokens alive that"
            " cannot be drawn.",
            unit="tokens",
            range="0 .. n_after",
            null_when=EARLIER,
        ),
        Column(
            "rule",
            STRING,
            "The rule by which a ban removed the most probable of the tokens that it removed, such as the"
            " n-gram that would be repeated.",
            null_when=f"the stage removed none by a rule, or {EARLIER}",
        ),
    ),
)

SAMPLING_TARGETS = Table(
    "sampling_targets",
    "Whether each target survives each stage, and by how much.",
    "one row per prompt, position, chain, stage and target",
    (
        PROMPT_ID,
        POSITION,
        CHAIN,
        STAGE_INDEX,
        STAGE,
        TARGET,
        TOKEN_ID,
        Column("alive_before", BOOL, "Whether the target is alive when the stage begins."),
        Column(
            "alive_after",
            BOOL,
            "Whether the target is alive after the stage. The stage that eliminates it is the one with"
            " alive_before true and alive_after false.",
        ),
        probability(
            "prob_before",
            "Probability of the target in the distribution that the stage was given; 0 once it is removed.",
        ),
        probability(
            "prob_after", "Probability of the target after the stage, renormalised; 0 once it is removed."
        ),
        Column(
            "rank_before",
            INT,
            "Rank of the target among the tokens alive when the stage begins: 1 plus the number with a"
            " strictly larger logit.",
            unit="rank",
            range="1 .. n_before",
            null_when=GONE,
        ),
        Column(
            "margin",
            FLOAT,
            "How far the target is from the stage's cut, positive where it survives, in the unit that"
            " margin_unit names.",
            unit="the stage's own",
            null_when=f"the stage is off or by nature removes nothing, or {GONE}",
        ),
        KIND,
        MARGIN_UNIT,
        Column(
            "why",
            STRING,
            "One sentence: why the stage removed the target, or what counts against it.",
            null_when="the stage did neither",
        ),
        TARGET_TOKEN,
        Column(
            "within_rounding",
            BOOL,
            "Whether the margin is under 1e-5 (and no count of tokens): the engine computes in float32 and"
            " might decide otherwise.",
            null_when=f"the margin is null, or {EARLIER}",
        ),
        Column(
            "bound",
            FLOAT,
            "Where the fate of the target changes: the bias that its logit needs, as this stage is given it,"
            " to survive (more than that); the least length n of n-grams that lets it through; how many"
            " tokens must be written before it is allowed; or the step, a number of written tokens, from"
            " which the stage would raise it above every other. bound_of says which.",
            unit="nats for a bias, else tokens",
            null_when=f"the stage has no such bound for the target, or {EARLIER}",
        ),
        Column(
            "bound_of",
            STRING,
            "What the bound is: bias, n, tokens or step.",
            null_when="bound is null",
        ),
        rank(
            "other_rank",
            "Rank of the target in the row that the stage combines with the one it was given, among all"
            " tokens: after the second prompt (guidance, context_aware), of the amateur (contrastive), or"
            " read out after the earlier layer (dola). rank_before is that in its own row.",
            f"{ALONE}, or {EARLIER}",
        ),
        Column(
            "other_logprob",
            FLOAT,
            "Log-probability of the target in that row.",
            unit="nats",
            range="<= 0",
            null_when=f"{ALONE}, the target is impossible there, or {EARLIER}",
        ),
    ),
)

_SHOWN = "the five that are most probable to the model, in that order"

CHAIN_DIFFERENCES = Table(
    "chain_differences",
    "How far apart two chains leave the same output.",
    "one row per prompt, position and pair of chains",
    (
        PROMPT_ID,
        POSITION,
        CHAIN,
        Column("other", STRING, "Name of the chain that it is compared with, one given later."),
        probability(
            "total_variation",
            "Total variation distance of the two final distributions: half the sum of the absolute"
            " differences of the probabilities. Two draws, one from each, cannot differ less often.",
            "a chain leaves no token",
        ),
        Column("n_only", INT, "Tokens that survive only the first chain.", unit="tokens", range=">= 0"),
        Column("only", STRINGS, f"Texts of such tokens: {_SHOWN}."),
        Column("n_only_other", INT, "Tokens that survive only the other chain.", unit="tokens", range=">= 0"),
        Column("only_other", STRINGS, f"Texts of such tokens: {_SHOWN}."),
    ),
)
