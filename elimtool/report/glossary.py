"""Define each term of stories and pages in one sentence; ``docs/glossary.md`` is made from it."""

from __future__ import annotations

GLOSSARY = {
    "target": "A continuation that you ask about; of a target of several tokens the first one is read.",
    "foil": "A continuation that a target is contrasted with.",
    "rank": (
        "Place of a token by its logit: 1 is the most probable token, and a rank of n has n - 1"
        " tokens above it."
    ),
    "probability": (
        "Share of the model's output that a token gets, 0 to 1, written p; before any sampler unless said."
    ),
    "logit": (
        "The model's raw score of a token; the softmax turns the scores of all tokens into probabilities."
    ),
    "nats": (
        "Unit of logarithms to the base e: 1 nat is a factor of 2.7 in probability, 0.7 nats a factor of 2."
    ),
    "layer": "A block of the model, counted from 0; -1 is the embedding, before the first block.",
    "logit lens": (
        "Reading a layer as if it were the last: its state is turned into ranks of tokens by the"
        " model's head."
    ),
    "raw lens": (
        "The logit lens without calibration: its probabilities mislead before the last layers,"
        " its ranks less."
    ),
    "ridge lens": "A logit lens calibrated to the model by ridge regression, by elimtool lens fit.",
    "encoding walk": (
        "The way of a position's residual from the embedding to the last layer, a step a block; it is"
        " straight or crooked only beside steps of the same lengths at right angles."
    ),
    "massive activation": (
        "A channel of a state above 100 and above 1,000 times the state's median, usually at the attention"
        " sink."
    ),
    "top-10": "The ten most probable tokens, of a layer as the lens reads it or of the output.",
    "nucleus": "The fewest tokens whose probabilities sum to 0.95 of the model's output.",
    "direct logit attribution": (
        "What a head or MLP itself adds to a token's logit, in logits; above mean: less what it adds to the"
        " vocabulary's mean logit; later layers are not followed, so it is no proof of a cause."
    ),
    "expert": (
        "One of several MLPs of a layer, of which a router runs a few for each token; its scores on the"
        " others are the dropped mass."
    ),
    "ablation": "Replacing what a head or MLP writes by its mean over reference text, to see what changes.",
    "confirmed": "A causal test by ablation agreed, beyond what ablating other components of its kind does.",
    "observed": "Read off one pass of the model and not tested by ablation: where to look, not why.",
    "sampler": (
        "What chooses the next token from the output: a chain of stages such as top-k, top-p and temperature."
    ),
    "survived": "The model's most probable token, which no sampler removes.",
    "sampler eliminated": "A likely target that a stage of a sampler chain removes.",
    "outranked": "A target that was in sight at the end, but another token is more probable.",
    "late eliminated": (
        "A target that was in the top-10 of some layer, and is out of it at the end: lost on the way."
    ),
    "never surfaced": "A target that is in the top-10 of no layer and not of the output.",
    "p-value": (
        "How often tokens as frequent as the target fare as badly by chance, 0 to 1; up to 0.05 a"
        " loss counts."
    ),
    "attention sink": (
        "Tokens, mostly the first, that take attention which does not read them; set apart from the shares."
    ),
    "learned null": (
        "A learned score without a key, to which heads of some models (gpt-oss) give attention that goes to"
        " no token; written <null>."
    ),
    "retention": (
        "Attention that a part of the prompt keeps, as a multiple of an even share among tokens"
        " outside the sink."
    ),
    "even share": "What each visible token outside the sink would get if attention were spread evenly: 1.0x.",
    "total variation": "Share of draws, 0 to 1, that must differ between two distributions.",
}
"""Term -> its definition in one sentence, with the unit and range of numbers."""
