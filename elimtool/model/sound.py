"""Refuse what a pass shows where its numbers would be wrong: hidden keys with weights, values not finite."""

from __future__ import annotations

from typing import Any

import torch

from elimtool.errors import ElimError
from elimtool.model.view import LayerView


def check_mask(name: str, view: LayerView) -> None:
    """Refuse attention to keys that the mask hides: then the mask does not tell everything.

    Args:
        name: The user's name for the model.
        view: A layer; passes where its attention or its mask is not known.

    Raises:
        ElimError: A hidden key has weight.
    """
    if view.attention is None or view.visible is None:
        return
    if bool((view.attention[:, :, 0] * ~view.visible[:, None, 0]).gt(0).any()):
        raise ElimError(
            f"{name}: layer {view.layer} attends to keys that its mask hides",
            "elimtool does not know this architecture's masks; its retention would be wrong",
        )


def not_finite(name: str, hf: Any, dtype: torch.dtype) -> ElimError:
    """Say why activations are not finite: a damaged weight, or else the number type.

    Args:
        name: The user's name for the model.
        hf: The wrapped model.
        dtype: Number type of its weights.
    """
    for place, parameter in hf.named_parameters():
        if parameter.device.type != "meta" and not bool(parameter.isfinite().all()):
            clean = place.replace("_original_component.", "")  # the name in the checkpoint
            return ElimError(
                f"{name}: the weight {clean} has NaN or infinite values",
                "the weights are damaged; fetch or export them again",
            )
    return ElimError(
        f"{name}: the model's activations are not finite for this prompt in {dtype}",
        "try `dtype='float32'`",
    )
