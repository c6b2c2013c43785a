"""The stages by name, in the order of every listing. Adding one is a file in this folder and a line here.

Installed packages add theirs by the entry-point group ``elimtool.samplers``.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from elimtool.files.plugins import Registry
from elimtool.samplers.adaptive_p import AdaptiveP
from elimtool.samplers.allowed_tokens import AllowedTokens
from elimtool.samplers.bad_words import BadWords
from elimtool.samplers.context_aware import ContextAware
from elimtool.samplers.contrastive import Contrastive
from elimtool.samplers.dola import DoLa
from elimtool.samplers.dry import DRY
from elimtool.samplers.dynamic_temperature import DynamicTemperature
from elimtool.samplers.encoder_repetition import EncoderRepetition
from elimtool.samplers.epsilon import Epsilon
from elimtool.samplers.eta import Eta
from elimtool.samplers.force import Force
from elimtool.samplers.grammar import Grammar
from elimtool.samplers.greedy import Greedy
from elimtool.samplers.guidance import Guidance
from elimtool.samplers.infill import Infill
from elimtool.samplers.length_decay import LengthDecay
from elimtool.samplers.logit_bias import LogitBias
from elimtool.samplers.min_k import MinK
from elimtool.samplers.min_p import MinP
from elimtool.samplers.min_tokens import MinTokens
from elimtool.samplers.mirostat_v1 import MirostatV1
from elimtool.samplers.mirostat_v2 import MirostatV2
from elimtool.samplers.no_repeat_ngram import NoRepeatNgram
from elimtool.samplers.p_less import PLess
from elimtool.samplers.penalties import Penalties
from elimtool.samplers.phrase_ban import PhraseBan
from elimtool.samplers.prefix_allowed import PrefixAllowed
from elimtool.samplers.quadratic import Quadratic
from elimtool.samplers.reasoning_budget import ReasoningBudget
from elimtool.samplers.remove_invalid import RemoveInvalid
from elimtool.samplers.renormalize import Renormalize
from elimtool.samplers.sequence_bias import SequenceBias
from elimtool.samplers.soft_ban import SoftBan
from elimtool.samplers.stage import Stage
from elimtool.samplers.suppress import Suppress
from elimtool.samplers.synthid import SynthID
from elimtool.samplers.tail_free import TailFree
from elimtool.samplers.temperature import Temperature
from elimtool.samplers.thinking_budget import ThinkingBudget
from elimtool.samplers.top_a import TopA
from elimtool.samplers.top_h import TopH
from elimtool.samplers.top_k import TopK
from elimtool.samplers.top_n_sigma import TopNSigma
from elimtool.samplers.top_p import TopP
from elimtool.samplers.typical import Typical
from elimtool.samplers.watermark import Watermark
from elimtool.samplers.xtc import XTC

_OWN: dict[str, type[Stage]] = {
    "guidance": Guidance,
    "context_aware": ContextAware,
    "contrastive": Contrastive,
    "dola": DoLa,
    "reasoning_budget": ReasoningBudget,
    "grammar": Grammar,
    "soft_ban": SoftBan,
    "logit_bias": LogitBias,
    "encoder_repetition": EncoderRepetition,
    "penalties": Penalties,
    "dry": DRY,
    "sequence_bias": SequenceBias,
    "no_repeat_ngram": NoRepeatNgram,
    "bad_words": BadWords,
    "min_tokens": MinTokens,
    "allowed_tokens": AllowedTokens,
    "prefix_allowed": PrefixAllowed,
    "force": Force,
    "remove_invalid": RemoveInvalid,
    "length_decay": LengthDecay,
    "suppress": Suppress,
    "thinking_budget": ThinkingBudget,
    "temperature": Temperature,
    "dynamic_temperature": DynamicTemperature,
    "quadratic": Quadratic,
    "top_n_sigma": TopNSigma,
    "top_k": TopK,
    "top_p": TopP,
    "min_p": MinP,
    "min_k": MinK,
    "p_less": PLess,
    "typical": Typical,
    "epsilon": Epsilon,
    "eta": Eta,
    "top_h": TopH,
    "top_a": TopA,
    "tail_free": TailFree,
    "xtc": XTC,
    "infill": Infill,
    "mirostat_v1": MirostatV1,
    "mirostat_v2": MirostatV2,
    "adaptive_p": AdaptiveP,
    "watermark": Watermark,
    "synthid": SynthID,
    "renormalize": Renormalize,
    "phrase_ban": PhraseBan,
    "greedy": Greedy,
}


def _fault(name: str, stage: Any) -> str:
    """Say what is wrong with the stage of a plugin."""
    if not isinstance(stage, type) or not issubclass(stage, Stage):
        return f"{stage!r} is not a subclass of elimtool.Stage"
    if "__dataclass_fields__" not in vars(stage):
        return f"{stage.__name__} is not a dataclass"
    if getattr(stage, "kind", None) != name:
        return f"its entry point is called '{name}', and its kind is {getattr(stage, 'kind', None)!r}"
    if missing := sorted(getattr(stage, "__abstractmethods__", ())):
        return f"{stage.__name__} does not define {', '.join(missing)}"
    unknown = {stage.main, *(stage.off or ())} - {"", *(field.name for field in fields(stage))}
    return f"it has no parameter '{min(unknown)}'" if unknown else ""


STAGES: Registry[type[Stage]] = Registry(_OWN, "elimtool.samplers", _fault)
