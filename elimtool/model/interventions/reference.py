"""Keep components' activations on reference text, means and samples, in one file a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast
from zlib import crc32

import torch
from jaxtyping import Float, Int
from torch import Tensor

from elimtool.errors import ElimError
from elimtool.files.tensors import read_tensors, write_tensors
from elimtool.model.interventions.edits import Kind, Site

FORMAT = "elimtool-reference-1"


@dataclass(frozen=True)
class ReferenceActivations:
    """Activations that ablation puts in place of a component's own.

    Attributes:
        n_heads: Heads side by side at a ``heads`` site.
        means: Means over all positions of the text but the first of each window.
        samples: Values at a random few of these positions, the same at every site.
        facts: ``weights_sha256``, ``dtype``, ``text_sha256`` and ``tokens``.
    """

    n_heads: int
    means: Mapping[Site, Float[Tensor, "width"]]
    samples: Mapping[Site, Float[Tensor, "drawn width"]]
    facts: Mapping[str, str]

    def mean(self, site: Site, head: int | None, count: int) -> Float[Tensor, "count size"]:
        """Return the mean of a component, ``count`` times."""
        return self._part(self.means[site], head).expand(count, -1)

    def drawn(
        self, site: Site, head: int | None, positions: Int[Tensor, "count"], seed: int
    ) -> Float[Tensor, "count size"]:
        """Draw a sample of a component for each position."""
        samples = self._part(self.samples[site], head)
        # seeded by seed and component, so that neither batches nor other prompts change what is drawn
        named = f"{seed} {site.kind} {site.layer} {head}".encode()
        order = torch.randperm(len(samples), generator=torch.Generator().manual_seed(crc32(named)))
        return samples[order[positions % len(samples)].to(samples.device)]

    def _part(self, values: Tensor, head: int | None) -> Tensor:
        if head is None:
            return values
        size = values.shape[-1] // self.n_heads
        return values[..., head * size : (head + 1) * size]

    def save(self, path: Path) -> None:
        """Write a safetensors file.

        Raises:
            ElimError: The file cannot be written.
        """
        tensors = {f"mean.{site.kind}.{site.layer}": value for site, value in self.means.items()}
        tensors |= {f"samples.{site.kind}.{site.layer}": value for site, value in self.samples.items()}
        write_tensors(
            path, tensors, {"format": FORMAT, "n_heads": self.n_heads, **self.facts}, overwrite=True
        )

    @classmethod
    def load(cls, path: Path, device: torch.device | str = "cpu") -> ReferenceActivations:
        """Read a file that ``save`` wrote.

        Raises:
            ElimError: It is not such a file.
        """
        tensors, facts = read_tensors(path, device)
        if facts.pop("format", "") != FORMAT:
            raise ElimError(f"{path} holds no reference activations", "delete it; it is made again")
        try:
            return cls(int(facts.pop("n_heads")), _sites(tensors, "mean"), _sites(tensors, "samples"), facts)
        except (KeyError, TypeError, ValueError) as error:
            raise ElimError(f"{path} is damaged: {error!r}", "delete it; it is made again") from error


def _sites(tensors: Mapping[str, Tensor], what: str) -> dict[Site, Tensor]:
    found = {}
    for name, value in tensors.items():
        first, kind, layer = name.split(".")
        if first == what:
            found[Site(int(layer), cast("Kind", kind))] = value
    return found
