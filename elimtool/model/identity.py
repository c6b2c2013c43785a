"""Tell by digests which weights and which tokenizer a loaded model has."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

from elimtool.model.adapters import with_adapters
from elimtool.model.store import state_sha256, tokenizer_sha256, weights_sha256

if TYPE_CHECKING:
    from elimtool.model.model import Model


def hashes_of(model: Model) -> dict[str, str]:
    """Compute ``weights_sha256`` and ``tokenizer_sha256``, of the files or of the model in memory."""
    if model.directory is None:
        words = model.tokenizer.backend.backend_tokenizer.to_str()
        return {
            "weights_sha256": state_sha256(model.hf),
            "tokenizer_sha256": sha256(words.encode()).hexdigest(),
        }
    weights = with_adapters(weights_sha256(model.directory), model.adapters or ())
    if model.placement.quantize:  # other weights in memory than in the files
        weights = sha256(f"{weights}\n{model.placement.quantize}".encode()).hexdigest()
    tokenizer = tokenizer_sha256(model.tokenizer_directory or model.directory)
    return {"weights_sha256": weights, "tokenizer_sha256": tokenizer}
