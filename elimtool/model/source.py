"""Hold how to load a model as one value; light to import, so that commands are parsed without torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from elimtool.errors import ElimError, nearest
from elimtool.model import DEFAULT_MODEL

if TYPE_CHECKING:
    from elimtool.model.model import Model

DTYPES = ("float32", "bfloat16", "float16", "float64", "auto")


@dataclass(frozen=True, slots=True)
class ModelSource:
    """How to load a model; the fields are those of ``elimtool.load_model``.

    Raises:
        ElimError: There is no such number type.
    """

    name: str = DEFAULT_MODEL
    revision: str | None = None
    dtype: str = "float32"
    device: str = "auto"
    trust_remote_code: bool = False
    adapters: tuple[str, ...] = ()
    base: str | None = None
    device_map: str | None = None
    n_devices: int | None = None
    quantize: str | None = None

    def __post_init__(self) -> None:
        check_dtype(self.dtype)  # before a server or a batch begins

    def load(self, progress: Callable[[str], None] | None = None) -> Model:
        """Load the model.

        Args:
            progress: Called with a line of text when something slow begins.

        Raises:
            ElimError: The model cannot be found, fetched, read or run.
        """
        from elimtool.model.loading import load_model

        return load_model(**asdict(self), progress=progress)


def check_dtype(dtype: str) -> None:
    """Refuse a number type that models are not loaded in.

    Raises:
        ElimError: There is no such one.
    """
    if dtype not in DTYPES:
        raise ElimError(f"`dtype` '{dtype}' is not valid", nearest(dtype, DTYPES))
