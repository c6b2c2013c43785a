"""The tables of what a check had a model write, and of how probable some text was."""

from __future__ import annotations

from elimtool.run.columns import BOOL, INT, PROMPT_ID, STRING, Column, Table, probability

TOO_LONG = "the text would not fit into the model's context"
CHAIN = Column("chain", STRING, "Name of the sampler chain that was written through.")

WRITTEN = Table(
    "written",
    "The texts that the model wrote through a chain, for a check of written text.",
    "one row per prompt, chain, length asked for and seed",
    (
        PROMPT_ID,
        CHAIN,
        Column("generate", INT, "Tokens that were asked for.", unit="tokens", range=">= 1"),
        Column("seed", INT, "Seed of the draws.", unit="seed", range=">= 0"),
        Column(
            "text", STRING, "What was written, without the token that ended the text.", null_when=TOO_LONG
        ),
        Column(
            "n_written", INT, "Tokens that were written.", unit="tokens", range=">= 1", null_when=TOO_LONG
        ),
        Column(
            "ended",
            BOOL,
            "Whether a token that ends the text was drawn, before as many were written.",
            null_when=TOO_LONG,
        ),
    ),
)

WRITTEN_TEXTS = Table(
    "written_texts",
    "How probable a text is to be what the model writes next, token by token through a chain.",
    "one row per prompt, chain and text",
    (
        PROMPT_ID,
        CHAIN,
        Column("text", STRING, "The text as the check gives it."),
        Column("scored_as", STRING, "As it is scored, such as with a space before it."),
        Column("n_tokens", INT, "Its tokens, as the tokenizer splits it.", unit="tokens", range=">= 1"),
        probability(
            "prob",
            "Product of the probabilities with which the chain draws its tokens; 0 where a stage removes one."
            " Of a stage that acts by chance, the mean over its draw.",
            null_when=TOO_LONG,
        ),
        probability("model_prob", "The same in the model's output, without a chain.", null_when=TOO_LONG),
    ),
)
