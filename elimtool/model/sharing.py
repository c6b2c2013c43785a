"""Try whether a family of models can run what prompts begin with alike once for all of them."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from elimtool.model.affine import tolerance
from elimtool.model.memory import out_of_memory
from elimtool.model.packing import Packing
from elimtool.model.view import NOBODY, Batch

if TYPE_CHECKING:
    from elimtool.model.model import Model

log = logging.getLogger(__name__)

TRIAL = ((5, 6, 7, 8, 9, 10, 11, 12), (5, 6, 7, 20, 21, 22), (5, 6, 7, 20, 21, 9, 8, 7, 6), (30, 5, 6, 7))
"""Texts of the trial that shows whether a family can share beginnings."""


def packs(model: Model) -> bool:
    """Try whether a family gives the same with tokens in a row as with prompts one under the other."""
    if getattr(model.config, "attn_temperature_tuning", False):
        return False  # of Llama 4: far along a row, later than any trial, it scales by the place there
    texts = [[one % model.vocab for one in text] for text in TRIAL]
    batch = Batch.of([replace(NOBODY, token_ids=tuple(text), positions=(0,)) for text in texts], model.device)
    packing = Packing.of(texts, model.device)
    try:
        with torch.inference_mode():
            with model.alone(batch):
                plain = model.call(batch.ids, use_cache=False).logits
            with model.alone(replace(batch, packing=packing)):
                row = model.call(packing.ids, use_cache=False, **packing.options).logits
    except Exception as error:  # code of an unknown architecture may raise anything
        if out_of_memory(error):
            raise
        log.debug("%s: the trial with shared beginnings failed", model.name, exc_info=True)
        return False
    pairs = zip(plain, row[0, packing.place.to(row.device)], texts, strict=True)
    off = max(float((a - b)[: len(text)].abs().max()) for a, b, text in pairs)
    return off <= tolerance(model.dtype) * max(1.0, float(plain.abs().max()))
