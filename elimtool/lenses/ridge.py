"""The ridge lens: affine maps to the last layer in closed form, and their safetensors file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from elimtool.errors import ElimError
from elimtool.files.parse import parse_json
from elimtool.files.tensors import KEY, write_tensors
from elimtool.lenses.affine import AffineLens
from elimtool.lenses.regime import ReferenceStatistics

FORMAT = "elimtool-ridge-lens-2"
_TENSORS = ("weight", "bias", "penalty", "surprisal", "openings", "prior")


@dataclass(frozen=True, slots=True)
class Facts:
    """The origin of a fitted lens.

    Attributes:
        model: The user's name for the model.
        weights_sha256: Digest of the model's weights; the lens is refused on any other.
        text_sha256: Digest of all token ids that it was fitted on, in order.
        n_tokens: Number of these tokens.
        n_rows: Positions used: all but the first of each window.
        window: Tokens in one window.
        rule: Rule that chose lambda.
        gain_q05: 5 % quantile of the context gain on the fit text (nats).
        elimtool: Version that fitted it.
        format: Name of the file format.
    """

    model: str
    weights_sha256: str
    text_sha256: str
    n_tokens: int
    n_rows: int
    window: int
    rule: str
    gain_q05: float
    elimtool: str
    format: str = FORMAT


class RidgeLens(AffineLens):
    """A lens of affine maps that predict the last layer's residual with the least squared error.

    Early layers are read close to the mean prediction, so their entropy is a property of the fit. Source: Yom
    Din et al. 2023 (arXiv 2303.09435).

    Args:
        weight: ``A_l`` for layers -1 .. n_layers - 2.
        bias: ``b_l``.
        penalty: lambda of each layer, in units of the mean squared error.
        reference: The regime reference of the same fit.
        facts: Its origin.
        name: Value of the column ``lens``.
    """

    def __init__(
        self,
        weight: Float[Tensor, "layers width width"],
        bias: Float[Tensor, "layers width"],
        penalty: Float[Tensor, "layers"],
        reference: ReferenceStatistics,
        facts: Facts,
        name: str = "ridge",
    ) -> None:
        super().__init__(name, weight, bias)
        self.penalty = penalty
        self.reference = reference
        self.facts = facts

    def save(self, path: Path, overwrite: bool = False) -> None:
        """Write the lens to a file, whole or not at all. The same lens gives the same bytes.

        Raises:
            ElimError: The file is there and not to be replaced, or cannot be written.
        """
        tensors = {
            "weight": self.weight,
            "bias": self.bias,
            "penalty": self.penalty,
            "surprisal": self.reference.surprisal,
            "openings": self.reference.openings,
            "prior": self.reference.prior,
        }
        write_tensors(path, tensors, asdict(self.facts), overwrite)

    @classmethod
    def load(cls, path: Path, name: str = "ridge") -> RidgeLens:
        """Read a file that ``save`` wrote. The maps stay on disk until they are used.

        Raises:
            ElimError: The file is missing, damaged, or not a ridge lens.
        """
        facts, tensors = _read(path)
        weight, bias = tensors["weight"], tensors["bias"]
        if weight.ndim != 3 or bias.shape != weight.shape[:2] or weight.shape[1] != weight.shape[2]:
            raise _damaged(path, "its maps have the wrong shape")
        if not bool((bias.sum() + weight.sum()).isfinite()):  # a sum has NaN and infinities without a copy
            raise _damaged(path, "its maps are not finite")
        reference = ReferenceStatistics(
            tensors["surprisal"], tensors["openings"], tensors["prior"], facts.gain_q05
        )
        return cls(weight, bias, tensors["penalty"], reference, facts, name)

    def check(self, model: str, weights_sha256: str) -> None:
        """Refuse any model but the one that the lens was fitted on.

        Raises:
            ElimError: The weights differ; the message gives both.
        """
        if weights_sha256 != self.facts.weights_sha256:
            raise ElimError(
                f"the lens '{self.name}' was fitted on {self.facts.model} (weights"
                f" {self.facts.weights_sha256[:12]}), not on {model} (weights {weights_sha256[:12]})",
                f"fit one: elimtool lens fit -m {model}, or use `lens='raw'`",
            )


def _read(path: Path) -> tuple[Facts, dict[str, Tensor]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            facts = _facts(path, file.metadata() or {})
            missing = sorted(set(_TENSORS) - set(file.keys()))
            if missing:
                raise _damaged(path, f"it has no {', '.join(missing)}")
            return facts, {name: file.get_tensor(name) for name in _TENSORS}
    except SafetensorError as error:
        raise _damaged(path, str(error)) from error
    except OSError as error:
        raise ElimError(
            f"cannot read the lens {path}: {error.strerror or error}",
            "fit one: elimtool lens fit -m MODEL -o FILE",
        ) from error


def _facts(path: Path, metadata: Mapping[str, str]) -> Facts:
    try:
        given: Any = parse_json(metadata.get(KEY, "{}"))
    except ValueError as error:
        raise _damaged(path, "its description is not JSON") from error
    expected = {field.name for field in fields(Facts)}
    if not isinstance(given, dict) or "format" not in given:
        raise _damaged(path, "it is not a lens of elimtool")
    if given["format"] != FORMAT:
        raise _damaged(path, f"its format is '{given['format']}', this elimtool reads '{FORMAT}'")
    if set(given) != expected:
        raise _damaged(path, "its description is not that of a lens")
    return Facts(**given)


def _damaged(path: Path, why: str) -> ElimError:
    return ElimError(
        f"{path} cannot be used as a ridge lens: {why}", "fit it anew: elimtool lens fit -o FILE"
    )
