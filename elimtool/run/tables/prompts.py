"""The table of prompts: what was asked, what the tokenizer made of it, and what went wrong."""

from __future__ import annotations

import pyarrow as pa

from elimtool.prompts.prompt import REST, SINK
from elimtool.run.columns import FLOAT, INT, INTS, PROMPT_ID, STRING, STRINGS, Column, Table

SPANS = pa.list_(pa.struct([pa.field("span", pa.string()), pa.field("tokens", pa.list_(pa.int32()))]))
TURNS = pa.list_(pa.struct([pa.field("role", pa.string()), pa.field("text", pa.string())]))
UNTOKENISED = "the prompt failed before it was tokenised"

NOT_GIVEN = "the record gives none, or the run is of an earlier version"

PROMPTS = Table(
    "prompts",
    "What was asked, as the model saw it, and whether it could be measured.",
    "one row per prompt, failed ones included",
    (
        PROMPT_ID,
        Column(
            "status",
            STRING,
            "Whether the prompt was measured. A prompt with status 'error' has no rows in the other tables.",
            range="ok, error",
        ),
        Column("error_type", STRING, "Short name of the kind of failure.", null_when="status is 'ok'"),
        Column(
            "error_message",
            STRING,
            "One line that says what is wrong with the prompt and what to do.",
            null_when="status is 'ok'",
        ),
        Column(
            "text",
            STRING,
            "The prompt as text. For a chat: as rendered by the model's template, with the generation prompt"
            " where the last message is the user's.",
            null_when="the record held no text that could be rendered",
        ),
        Column(
            "n_tokens",
            INT,
            "Number of tokens that the model was given, special and appended tokens included.",
            unit="tokens",
            range=">= 1",
            null_when=UNTOKENISED,
        ),
        Column(
            "n_appended",
            INT,
            "Number of tokens at the end that are not part of the prompt: leading tokens of the targets that"
            " carry none of the answer, appended so that the token probed is the answer's own. Those are the"
            " tokens that all targets and foils share or, where there is one alone, white space.",
            unit="tokens",
            range=">= 0",
            null_when=UNTOKENISED,
        ),
        Column(
            "token_ids",
            INTS,
            "The exact ids that the model was given, appended and written ones included.",
            unit="token id",
            null_when=UNTOKENISED,
        ),
        Column(
            "tokens",
            STRINGS,
            "Readable text of each token, parallel to token_ids. A token that holds part of a character shows"
            r" the bytes of that part as \xNN, in hexadecimal.",
            null_when=UNTOKENISED,
        ),
        Column("group", STRING, "The record's group.", null_when="the record gives none"),
        Column("category", STRING, "The record's category.", null_when="the record gives none"),
        Column(
            "tags",
            STRINGS,
            "The record's tags, an empty list where it gives none.",
            null_when="the record could not be read",
        ),
        Column(
            "meta",
            STRING,
            "The record's free field, as a JSON text.",
            range="valid JSON",
            null_when="the record gives none",
        ),
        Column(
            "targets",
            STRINGS,
            "Targets of the record, in order, as in 'target' of other tables; an empty list where it gives"
            " none and the model's own top tokens are followed.",
            null_when=UNTOKENISED,
        ),
        Column(
            "foils",
            STRINGS,
            "Foils of the record, in order, likewise; an empty list where it gives none.",
            null_when=UNTOKENISED,
        ),
        Column(
            "appended_logprob",
            FLOAT,
            "Natural logarithm of the joint probability of the appended tokens after the prompt, by the model"
            " without interventions.",
            unit="nats",
            range="<= 0",
            null_when=f"{UNTOKENISED}, no token was appended, or they do not fit the model's context",
        ),
        Column(
            "spellings",
            STRINGS,
            "Targets, then foils, as they were scored: with the space put before them, if any.",
            null_when=f"{UNTOKENISED}, or the run is of schema version 1, where 'targets' and 'foils' are the"
            " spellings",
        ),
        Column(
            "spans",
            SPANS,
            f"Spans of the prompt: name and token indices of each, the sink set ('{SINK}') and what named"
            f" spans or roles leave over ('{REST}') among them.",
            null_when=UNTOKENISED,
        ),
        Column(
            "token_priors",
            pa.list_(pa.float32()),
            "Natural logarithm of p_0 of each token, parallel to token_ids: its mean probability in the"
            " model's outputs on the reference text, how frequent it is to the model.",
            unit="nats",
            range="<= 0",
            null_when=f"{UNTOKENISED}, no ridge lens is in use, whose file holds the reference, or the run is"
            " of an earlier version",
        ),
        Column(
            "n_prefill",
            INT,
            "Number of tokens at the end of the prompt that begin the answer: a prefill, or a last message of"
            " the assistant.",
            unit="tokens",
            range=">= 0",
            null_when=UNTOKENISED,
        ),
        Column(
            "n_written",
            INT,
            "Number of tokens after the prompt that the model wrote before it was measured, where positions"
            " among them are probed.",
            unit="tokens",
            range=">= 0",
            null_when=UNTOKENISED,
        ),
        Column(
            "turns",
            TURNS,
            "The turns of a chat as they were given, before the model's template: role and text of each.",
            null_when="the prompt is plain text",
        ),
        Column(
            "control_tokens",
            STRINGS,
            "Control tokens in what the user wrote, in order, each once: special tokens of the tokenizer, and"
            " added ones that the chat template writes. The model reads them as such, not as text. An empty"
            " list where there are none.",
            null_when=f"{UNTOKENISED}, or the run is of an earlier version",
        ),
        Column(
            "clock",
            STRING,
            "The time that the chat template read, in ISO 8601; without a wish of the user the start of the"
            " day of the run, and in batches and checks a fixed one.",
            null_when="the template reads no clock, or the prompt is plain text",
        ),
        Column(
            "template",
            STRING,
            "Name of the wording that the record was made from. Statistics over prompts resample templates,"
            " where two have names.",
            null_when=NOT_GIVEN,
        ),
        Column(
            "tuple",
            STRING,
            "Name shared by the records that differ in the group alone.",
            null_when=NOT_GIVEN,
        ),
        Column(
            "filler",
            STRING,
            "Words that take the group's place in the tuple, one for each group, joined by '|'.",
            null_when=NOT_GIVEN,
        ),
        Column(
            "slots",
            STRING,
            "Values of the template's further slots by name, as a JSON text.",
            range="a JSON object",
            null_when=NOT_GIVEN,
        ),
        Column(
            "answers",
            STRING,
            "All right answers, each a list of aliases, as a JSON text.",
            range="a JSON list of lists",
            null_when=NOT_GIVEN,
        ),
        Column(
            "role",
            STRING,
            "What the record is in its tuple: neutral (without the group's word), good or bad (the right and"
            " the wrong side of a minimal pair), abstain (its targets say that it is not known).",
            range="neutral, good, bad, abstain",
            null_when=NOT_GIVEN,
        ),
        Column(
            "scored",
            STRING,
            "How the text itself is scored: at every position the token that stands next is the one that is"
            " followed. lm-eval: after one token put before the text, BOS or else EOS, as the"
            " lm-evaluation-harness does; no-prefix: from the second token of the text on.",
            range="lm-eval, no-prefix",
            null_when=NOT_GIVEN,
        ),
        Column(
            "seed",
            INT,
            "Added to the run's seed for what the model writes: records that differ in it alone"
            " are texts of one prompt.",
            unit="seed",
            range=">= 0",
            null_when=NOT_GIVEN,
        ),
        Column(
            "left_out",
            STRINGS,
            "Tables that this prompt alone lacks, each with the reason, such as copies that outgrow the"
            " model's context; an empty list for none. Only batches leave out: elsewhere one is an error.",
            null_when="status is 'error', or the run is of an earlier version",
        ),
    ),
    of_prompt=True,
)
