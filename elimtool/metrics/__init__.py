"""Reduce the activations of a forward pass to columns of tables, one family of numbers per file.

To add one, add a file to this folder and a line here. Installed packages add theirs by the entry-point group
``elimtool.metrics``.
"""

from __future__ import annotations

from elimtool.files.plugins import Registry
from elimtool.metrics.associations import Associations
from elimtool.metrics.attention import AttentionRetention
from elimtool.metrics.attention_weights import AttentionWeights
from elimtool.metrics.components import Components
from elimtool.metrics.concepts import Concepts
from elimtool.metrics.contrasts import Contrasts
from elimtool.metrics.controls import FrequencyControls
from elimtool.metrics.copy_suppression import CopySuppression
from elimtool.metrics.encoding_walk import EncodingWalk
from elimtool.metrics.experts import Experts
from elimtool.metrics.falloff import Falloff
from elimtool.metrics.lens import LensTrajectory
from elimtool.metrics.mechanisms import Mechanisms
from elimtool.metrics.metric import Metric
from elimtool.metrics.regimes import Regimes
from elimtool.metrics.sampling import SamplerLedger
from elimtool.metrics.top_tokens import TopTokens
from elimtool.metrics.wrong import fault
from elimtool.run.schema import TABLES
from elimtool.run.tables.findings import FINDING_TABLES

_OWN: dict[str, type[Metric]] = {
    "associations": Associations,
    "attention": AttentionRetention,
    "attention_weights": AttentionWeights,
    "components": Components,
    "concepts": Concepts,
    "contrasts": Contrasts,
    "controls": FrequencyControls,
    "copy_suppression": CopySuppression,
    "encoding_walk": EncodingWalk,
    "experts": Experts,
    "falloff": Falloff,
    "lens": LensTrajectory,
    "mechanisms": Mechanisms,
    "regimes": Regimes,
    "sampling": SamplerLedger,
    "top_tokens": TopTokens,
}

METRICS: Registry[type[Metric]] = Registry(_OWN, "elimtool.metrics", fault, taken={*TABLES, *FINDING_TABLES})
