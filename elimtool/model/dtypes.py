"""Name the number types that models are loaded in."""

from __future__ import annotations

from elimtool.errors import ElimError, nearest

DTYPES = ("float32", "bfloat16", "float16", "float64", "auto")


def check_dtype(dtype: str) -> None:
    """Refuse a number type that models are not loaded in.

    Raises:
        ElimError: There is no such one.
    """
    if dtype not in DTYPES:
        raise ElimError(f"`dtype` '{dtype}' is not valid", nearest(dtype, DTYPES))
