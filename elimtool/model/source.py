"""Hold how to load a model as one value; light to import, so that commands are parsed without torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from elimtool.model import DEFAULT_MODEL
from elimtool.model.dtypes import check_dtype

if TYPE_CHECKING:
    from elimtool.model.model import Model


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
