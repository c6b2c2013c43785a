"""The tables of ``elimtool coverage`` on what is right: nodes of a taxonomy, items, many right answers."""

from __future__ import annotations

from elimtool.run.columns import (
    BOOL,
    FLOAT,
    INT,
    POSITION,
    PROMPT_ID,
    STRING,
    Column,
    Table,
    probability,
    share,
)

NOTHING_CUT = "no chain was run, or nothing is cut"
NO_TAXONOMY = "no taxonomy was given"
EMPTY = "no item belongs to the node"
NO_FOIL = "the item has no wrong side"
UNLAYERED = "the run has no table lens, or the item is a tie"
ONE_TOKEN = "the sides share no beginning that was measured, or neither has a token where the other differs"

COVERAGE = Table(
    "coverage",
    "How often the model is right, where that is decided and what chains leave of it, by category.",
    "one row per category path and each of its beginnings, '' for all items",
    (
        Column("node", STRING, "Beginning of a category's path, parts joined by '/'; '' for all items."),
        Column("depth", INT, "Number of parts of the path.", unit="parts", range=">= 0"),
        Column(
            "title",
            STRING,
            "Title of the node in the taxonomy.",
            null_when=f"{NO_TAXONOMY}, or it gives the node none",
        ),
        Column("is_leaf", BOOL, "Whether items belong to the node itself, not to nodes below it."),
        Column("n_items", INT, "Items in the node and below it.", unit="items", range=">= 0"),
        share(
            "accuracy",
            "Share of items where the right side wins, ties included; above leaves the mean over leaves with"
            " items, each counted once.",
            EMPTY,
        ),
        share(
            "ci_low",
            "Lower end of the 95 % interval: Wilson's of a leaf, of Student's t over leaves above.",
            EMPTY,
        ),
        share("ci_high", "Upper end.", EMPTY),
        share(
            "worst_low",
            "Lower end of Wilson's interval of a leaf that holds for all leaves together (Bonferroni): the"
            " one to read of the worst of many.",
            "the node is no leaf or has no items",
        ),
        share("worst_high", "Upper end.", "the node is no leaf or has no items"),
        share(
            "chance",
            "Accuracy of guessing: 0.5 where every item has two sides.",
            "an item has one side, or the node no items",
        ),
        probability(
            "p_value",
            "Two-sided p-value of an accuracy this far from chance: binomial in a leaf, sign flips of leaves"
            " above.",
            "chance is null, or there are fewer than 6 leaves below",
        ),
        Column(
            "mean_difference",
            FLOAT,
            "Mean over items of the right side's log-probability minus the wrong one's; above leaves as"
            " accuracy.",
            unit="nats",
            null_when="no item of the node has a wrong side",
        ),
        Column(
            "decided_layer",
            FLOAT,
            "Median over items of decided_layer.",
            unit="layer",
            range=">= -1",
            null_when="no item of the node has one",
        ),
        Column(
            "decided_low",
            FLOAT,
            "10th percentile of it over items.",
            unit="layer",
            null_when="decided_layer is null",
        ),
        Column(
            "decided_high",
            FLOAT,
            "90th percentile.",
            unit="layer",
            null_when="decided_layer is null",
        ),
        share(
            "alive_share",
            "Share of items whose right token survives every chain.",
            "no chain was run, or no item of the node has such a token",
        ),
        Column(
            "top_cut_stage",
            STRING,
            "Chain and stage that cut the right token of most items, joined by ': '.",
            null_when=NOTHING_CUT,
        ),
        Column(
            "min_items",
            INT,
            "Items that the taxonomy asks of a leaf.",
            unit="items",
            null_when=f"{NO_TAXONOMY}, or the node is no leaf",
        ),
        share(
            "required",
            "Accuracy that the taxonomy asks of a leaf, of the lower end of its interval.",
            f"{NO_TAXONOMY}, or the node is no leaf",
        ),
        Column(
            "covered",
            BOOL,
            "Whether a leaf has enough items and the lower end of its interval reaches what is required;"
            " above, whether all leaves below are covered.",
            null_when=NO_TAXONOMY,
        ),
        share(
            "structural",
            "Structural coverage: weighted share of the leaves at and below the node that are covered; leaves"
            " without items count as not covered.",
            f"{NO_TAXONOMY}, or these leaves weigh nothing",
        ),
        Column(
            "place",
            INT,
            "Place among nodes of the same depth by accuracy, 1 for the lowest; equal ones share it.",
            range=">= 1",
            null_when=EMPTY,
        ),
    ),
)

COVERAGE_ITEMS = Table(
    "coverage_items",
    "Whether the right side of each item wins, where that is decided, and what cuts it.",
    "one row per minimal pair, fact, or prompt with targets",
    (
        Column("item", STRING, "Name of the pair (its tuple), or id of the prompt."),
        Column("category", STRING, "Its category.", null_when="the record gives none"),
        Column(
            "rule",
            STRING,
            "What is scored. lm-eval, no-prefix: the whole sentence, see prompts.scored. continuation: what"
            " follows the words that both sides begin with. first-token: the likeliest target's first token"
            " against the likeliest foil's.",
            range="lm-eval, no-prefix, continuation, first-token",
        ),
        Column(
            "score_good",
            FLOAT,
            "Log-probability of the right side: the sum over its tokens, without any normalisation by"
            " length.",
            unit="nats",
            range="<= 0",
        ),
        Column(
            "score_bad",
            FLOAT,
            "Log-probability of the wrong side, likewise.",
            unit="nats",
            range="<= 0",
            null_when=NO_FOIL,
        ),
        Column("difference", FLOAT, "score_good minus score_bad.", unit="nats", null_when=NO_FOIL),
        Column(
            "correct",
            BOOL,
            "Whether difference is 0 or more; without a wrong side, whether a target is the most probable"
            " token.",
        ),
        Column("tie", BOOL, "Whether both sides score the same.", null_when=NO_FOIL),
        Column(
            "first_difference",
            INT,
            "Index of the first token that differs, among the tokens of both sides, a prefix included.",
            unit="token index",
            null_when=ONE_TOKEN,
        ),
        Column(
            "token_share",
            FLOAT,
            "Part of difference that is due to that token alone; below 0 where it speaks for the other side.",
            unit="share",
            null_when=f"{ONE_TOKEN}, or the item is a tie",
        ),
        Column(
            "decides_there",
            BOOL,
            "Whether that token alone speaks for the side that wins.",
            null_when=f"{ONE_TOKEN}, or the item is a tie",
        ),
        Column(
            "decided_layer",
            INT,
            "First layer from which on the sum over tokens of the lens's log-probabilities is for the side"
            " that wins; without a wrong side, from which on a target ranks first, or none does.",
            unit="layer",
            range="-1 .. last layer",
            null_when=UNLAYERED,
        ),
        Column(
            "alive",
            BOOL,
            "Whether the right token (at the first difference; of facts, a target) survives every chain.",
            null_when="no chain was run, or first_difference is null in a scored pair",
        ),
        Column("cut_chain", STRING, "First chain that cuts it.", null_when=NOTHING_CUT),
        Column("cut_stage", STRING, "Stage of it that does.", null_when=NOTHING_CUT),
    ),
)

ANSWERS = Table(
    "answers",
    "How many of many right answers are alive after each stage, beside how varied the survivors are.",
    "one row per prompt with answers, position, chain and stage; stage_index -1 before any",
    (
        PROMPT_ID,
        POSITION,
        Column("chain", STRING, "Name of the sampler chain."),
        Column("stage_index", INT, "Place of the stage in its chain, from 0; -1 before any.", range=">= -1"),
        Column("stage", STRING, "Name of the stage.", null_when="stage_index is -1"),
        Column(
            "n_answers", INT, "Answers of the record, aliases counted as one.", unit="answers", range=">= 1"
        ),
        Column(
            "n_distinct",
            INT,
            "Answers that can be told apart by their first token, aliases counted as one.",
            unit="answers",
            range="1 .. n_answers",
        ),
        Column("n_alive", INT, "Of these, with a first token that is alive.", unit="answers", range=">= 0"),
        share("alive_share", "n_alive over n_distinct."),
        probability("mass", "Probability of the answers' first tokens in the distribution there."),
        Column(
            "answers_hill1",
            FLOAT,
            "Effective number of answers: exp of the entropy of their probabilities, renormalised.",
            unit="answers",
            range="1 .. n_distinct",
            null_when="no answer is alive",
        ),
        Column("hill0", INT, "Number of tokens alive (Hill number of order 0).", unit="tokens", range=">= 1"),
        Column("hill1", FLOAT, "exp of the entropy (order 1).", unit="tokens", range="1 .. hill0"),
        Column(
            "hill2",
            FLOAT,
            "1 over the sum of squared probabilities (order 2).",
            unit="tokens",
            range="1 .. hill1",
            null_when="the run is of an earlier elimtool, or before any stage lacks the table lens_layers",
        ),
        probability(
            "joint_mass",
            "Probability at the output of the whole answers, of which none begins another.",
            "stage_index is not -1, or an answer's was not measured",
        ),
    ),
)
