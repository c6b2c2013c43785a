"""The table of risk: how uncertain the answer is that a model wrote."""

from __future__ import annotations

from elimtool.run.columns import BOOL, FLOAT, INT, PROMPT_ID, STRING, AskedBy, Column, Table, share

EMPTY = "the model wrote no token but the end of the text"

RISK = Table(
    "risk",
    "How uncertain the written answer is: uncertainty, not truth.",
    "one row per prompt",
    (
        PROMPT_ID,
        Column(
            "n_answer_tokens",
            INT,
            "Tokens of the answer that was written through the chain, without an end of the text.",
            unit="tokens",
            range=">= 0",
        ),
        Column(
            "mean_logprob",
            FLOAT,
            "Mean log-probability of its tokens in the model's output, before any stage.",
            unit="nats",
            range="<= 0",
            null_when=EMPTY,
        ),
        share(
            "lookback",
            "Mean weight of a prompt's token over that and the mean weight of a written token (what cues the"
            " answer included), mean over heads and written tokens. The paper (Lookback Lens) trains a"
            " classifier on all heads; this mean is not it.",
            f"{EMPTY}, no layer shows its attention, or the prompt is its cue alone",
        ),
        Column(
            "rauq",
            FLOAT,
            "Doubt that attention to the token before hands on, in the layer of the middle third with most"
            " of it (RAUQ; a token's own probability weighs 0.2, in chats 0.5). Larger is less certain.",
            unit="nats",
            range=">= 0",
            null_when=f"{EMPTY}, or no middle layer shows its attention",
        ),
        Column("n_samples", INT, "Answers sampled beside it.", unit="samples", range=">= 2"),
        Column(
            "eigenscore",
            FLOAT,
            "Mean log eigenvalue of the covariance of the samples' last residuals after the middle layer,"
            " without the channels that are largest (EigenScore). The larger, the further they differ.",
            unit="nats",
        ),
        Column(
            "semantic_entropy",
            FLOAT,
            "Entropy of the shares of clusters of samples that say the same; without nli an upper bound, as"
            " paraphrases split.",
            unit="nats",
            range="0 .. ln(n_samples)",
        ),
        Column("n_clusters", INT, "Number of these clusters.", unit="clusters", range="1 .. n_samples"),
        Column(
            "clustering",
            STRING,
            "How samples are found to say the same: aliases (of the record's answers, else as the others),"
            " exact (equal first sentences without case, punctuation and articles) or nli (each entails the"
            " other by the model of `nli`).",
            range="aliases, exact, nli",
        ),
        Column(
            "correct",
            BOOL,
            "Whether the answer begins with a target or an alias of the record's answers.",
            null_when="the record names neither",
        ),
    ),
    asked_by=AskedBy("risk", "give it: it samples more answers"),
    of_prompt=True,
)
