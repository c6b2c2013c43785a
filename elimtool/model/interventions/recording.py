"""Record the activations of one prompt, of each layer's heads, MLP and residual stream, in a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from jaxtyping import Float
from torch import Tensor

from elimtool.errors import ElimError
from elimtool.files.tensors import read_tensors, write_tensors
from elimtool.model.interventions.edits import Kind, Site
from elimtool.model.view import Batch

if TYPE_CHECKING:
    from elimtool.model.model import Model
    from elimtool.model.view import Encoded

FORMAT = "elimtool-activations-1"
KINDS: tuple[Kind, ...] = ("heads", "mlp", "residual")
"""Kinds of sites that a recording holds."""


@dataclass(frozen=True)
class Recording:
    """Activations of one prompt, as ``elimtool trace --save-activations`` writes and ``--patch`` reads them.

    The file is safetensors with ``heads.LAYER``, ``mlp.LAYER`` and ``residual.LAYER`` (-1 is the embedding),
    one row a token, in the model's dtype. Its metadata entry ``elimtool`` is JSON with ``format``, ``model``,
    ``weights_sha256``, ``dtype``, ``token_ids`` and ``n_heads``.

    Attributes:
        token_ids: The prompt's tokens.
        n_heads: Heads side by side in ``heads``.
        values: One row a token.
        facts: ``model``, ``weights_sha256`` and ``dtype``.
    """

    token_ids: tuple[int, ...]
    n_heads: int
    values: Mapping[Site, Float[Tensor, "tokens width"]]
    facts: Mapping[str, str]

    def save(self, path: str | Path, overwrite: bool = False) -> None:
        """Write the file, whole or not at all.

        Raises:
            ElimError: It is there and not to be replaced, or cannot be written.
        """
        tensors = {f"{site.kind}.{site.layer}": value for site, value in self.values.items()}
        own = {"format": FORMAT, "token_ids": list(self.token_ids), "n_heads": self.n_heads}
        write_tensors(Path(path), tensors, {**own, **self.facts}, overwrite)

    @classmethod
    def load(cls, path: str | Path) -> Recording:
        """Read a file that ``save`` wrote.

        Raises:
            ElimError: There is no such file, or it is not a recording.
        """
        path = Path(path)
        try:
            stat = path.stat()
        except (OSError, ValueError) as error:
            raise ElimError(f"`patch` {path}: there is no such file", MADE_BY) from error
        return _load(path, stat.st_mtime_ns, stat.st_size)


MADE_BY = "make one with elimtool.record, or with `save_activations` of elimtool trace"


@lru_cache(maxsize=2)  # interventions ask for every prompt; time and size notice a file that was replaced
def _load(path: Path, _time: int, _size: int) -> Recording:
    tensors, facts = read_tensors(path)
    if facts.pop("format", "") != FORMAT:
        raise ElimError(f"`patch` {path} holds no recorded activations", MADE_BY)
    values = {}
    for name, value in tensors.items():
        kind, _, layer = name.partition(".")
        values[Site(int(layer), cast("Kind", kind))] = value
    return Recording(tuple(facts.pop("token_ids")), int(facts.pop("n_heads")), values, facts)


def record(model: Model, one: Encoded) -> Recording:
    """Run a prompt, under the model's interventions, and keep the value of every site that it shows."""
    batch = Batch.of([one], model.device)
    values: dict[Site, Tensor] = {}

    def see(site: Site, value: Tensor) -> None:
        values[site] = value[0].detach().clone()

    with model.watching(batch, shown(model), see):
        model.stream(batch, (), lambda _view: None)
    facts = {
        "model": model.name,
        "weights_sha256": model.hashes()["weights_sha256"],
        "dtype": dtype_name(model.dtype),
    }
    return Recording(one.token_ids, model.n_heads, values, facts)


def shown(model: Model) -> list[Site]:
    """List all sites that a model shows, in order of layers."""
    sites = (Site(layer, kind) for layer in range(model.n_layers) for kind in KINDS)
    return [Site(-1, "residual"), *filter(model.shows, sites)]


def dtype_name(dtype: torch.dtype) -> str:
    """Name a number type, such as ``float32``."""
    return str(dtype).removeprefix("torch.")
