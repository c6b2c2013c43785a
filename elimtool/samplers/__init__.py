"""Sample tokens as the inference engines do, with a ledger of what every stage of a chain cuts."""

from __future__ import annotations

from elimtool.samplers.chain import Chain, State, name_of
from elimtool.samplers.history import History
from elimtool.samplers.ledger import Ledger
from elimtool.samplers.presets import preset_names, resolve
from elimtool.samplers.setting import with_setting
from elimtool.samplers.stage import Stage
from elimtool.samplers.stage_record import StageRecord
from elimtool.samplers.stages import STAGES

__all__ = [
    "STAGES",
    "Chain",
    "History",
    "Ledger",
    "Stage",
    "StageRecord",
    "State",
    "name_of",
    "preset_names",
    "resolve",
    "with_setting",
]
