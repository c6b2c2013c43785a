"""Devices made of the processor, whose numbers only a copy brings to the host, and a count of such waits.

They stand for GPUs where there is none. Tensors on one refuse NumPy and tensors of the host or of another, as
CUDA's do, so code that mixes them fails. What would make the host wait for a GPU (reading a number, a copy,
boolean indexing, a copy to the device without ``non_blocking``) is counted by the place in the package.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import return_and_correct_aliasing
from torch.utils._pytree import tree_map

NAME = "pretend"

READS = {
    *("nonzero", "_local_scalar_dense", "item", "masked_select", "equal", "is_nonzero"),
    *("_unique2", "unique_consecutive", "unique_dim", "bincount", "repeat_interleave"),
}
"""Operations whose result, or its shape, the host has to read."""

INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_"}

_counted: Counter[str] = Counter()


class Away(Tensor):
    """A tensor of a device; ``raw`` holds its numbers, ``index`` says which device it is."""

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, raw: Tensor, index: int = 0) -> Any:
        with torch.inference_mode(False):
            return Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
                cls,
                raw.shape,
                strides=raw.stride(),
                storage_offset=raw.storage_offset(),
                dtype=raw.dtype,
                device=torch.device(NAME, index),
            )

    def __init__(self, raw: Tensor, index: int = 0) -> None:
        self.raw, self.index = raw, index

    def data_ptr(self) -> int:
        return self.raw.data_ptr()  # by which accelerate knows tied weights

    def tolist(self) -> Any:
        _count("tolist")
        return self.raw.tolist()

    @classmethod
    def __torch_dispatch__(cls, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(op, args, dict(kwargs or {}))


class _Backend:
    """What torch asks of a module for a device."""

    @staticmethod
    def is_initialized() -> bool:
        return True

    @staticmethod
    def is_available() -> bool:
        return False  # only to those who ask for it by name

    @staticmethod
    def current_device() -> int:
        return 0

    @staticmethod
    def device_count() -> int:
        return 0

    @staticmethod
    def _is_in_bad_fork() -> bool:
        return False

    @staticmethod
    def manual_seed_all(seed: int) -> None:
        del seed


@cache
def device() -> torch.device:
    """Return the device, known to torch from the first call on."""
    from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

    _setup_privateuseone_for_python_backend(NAME, backend_module=_Backend())
    every = torch.library.Library("_", "IMPL", "PrivateUse1")
    every.fallback(lambda op, *args, **kwargs: _run(op, args, kwargs))  # such as ``torch.zeros``
    copies = torch.library.Library("aten", "IMPL", "PrivateUse1")
    copies.impl("_copy_from", _copied)
    for overload in ("arange", "arange.start", "arange.start_step"):  # torch would resize an empty one
        copies.impl(overload, _counted_up)
    _LIBRARIES.extend((every, copies))
    return torch.device(NAME, 0)


_LIBRARIES: list[Any] = []
"""Forgotten, they would take their functions back."""


def put(module: nn.Module) -> None:
    """Put a module's weights on the device, tied ones once."""
    device()
    there: dict[int, tuple[Tensor, Any]] = {}

    def moved(one: Tensor) -> Any:
        if id(one) not in there:  # the old tensor is kept too: its number must not come twice
            away = Away(one.detach())
            parameter = isinstance(one, nn.Parameter)
            there[id(one)] = one, nn.Parameter(away, requires_grad=False) if parameter else away
        return there[id(one)][1]

    for part in module.modules():
        for held in (part._parameters, part._buffers):
            held.update({name: moved(one) for name, one in held.items() if one is not None})


@contextmanager
def waits() -> Iterator[Counter[str]]:
    """While open, count what makes the host wait, by what it is and where in the package."""
    _counted.clear()
    yield _counted


def _count(what: str) -> None:
    frame: Any = sys._getframe(1)
    while frame is not None and not _counts(frame.f_code.co_filename):
        frame = frame.f_back
    place = "a test" if frame is None else f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
    _counted[f"{what} in {place}"] += 1


def _counts(file: str) -> bool:
    return "/elimtool/" in file and not file.endswith("transfer.py")


def _raw(value: Any) -> Any:
    return value.raw if isinstance(value, Away) else value


def _run(op: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Run an operation on the host's numbers, and count it if the host would have to wait for it."""
    kernel = torch._C._dispatch_has_kernel_for_dispatch_key
    name = op._schema.name.removeprefix("aten::")
    index = _index(args)
    whole = kernel(op.name(), "CompositeImplicitAutograd") and not kernel(op.name(), "CPU")
    if whole and name != "item":
        return op.decompose(*args, **kwargs)
    if name in READS:
        _count(name)
    if name in INDEXING and any(one is not None and one.dtype == torch.bool for one in args[1]):
        _count("boolean indexing")
    if name == "copy_":
        return _copied(args[1], args[0], args[2] if len(args) > 2 else kwargs.get("non_blocking", False))
    asked = kwargs.get("device")
    if asked is not None:
        kwargs["device"], index = torch.device("cpu"), torch.device(asked).index or 0
    if name == "_to_copy":
        return _sent(op, args[0], asked, kwargs)
    _refuse_mixed(op, name, args)
    # numbers come where the operation wants tensors, in the precision of those that are there
    exact = torch.float64 if any(_floats(one) for one in args) else None
    fixed = [
        torch.tensor(one, dtype=exact if isinstance(one, float) else None)
        if str(want.type) == "Tensor" and isinstance(one, bool | int | float)
        else one
        for want, one in zip(op._schema.arguments, args, strict=False)
    ]
    raw = list(tree_map(_raw, fixed))
    if name == "histc" and not raw[0].is_floating_point():  # a GPU counts whole numbers too
        raw[0] = raw[0].float()
    found = op(*raw, **tree_map(_raw, kwargs))
    found = tree_map(lambda one: Away(one, index) if isinstance(one, Tensor) else one, found)
    return return_and_correct_aliasing(op, args, kwargs, found)


def _floats(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def _index(args: Any) -> int:
    """Which device the tensors among arguments are on."""
    parts = (part for one in args for part in (one if isinstance(one, list | tuple) else [one]))
    return next((part.index for part in parts if isinstance(part, Away)), 0)


def _counted_up(*args: Any, device: Any = None, dtype: Any = None, **_options: Any) -> Tensor:
    return Away(torch.arange(*args, dtype=dtype), torch.device(device).index or 0)


def _refuse_mixed(op: Any, name: str, args: Any) -> None:
    for one in args:
        for part in one if isinstance(one, list | tuple) else [one]:
            if not isinstance(part, Tensor) or not part.ndim:
                continue
            if isinstance(part, Away) and part.index != _index(args):
                raise RuntimeError(f"Expected all tensors to be on the same device: {op}")
            if not isinstance(part, Away):
                if name not in INDEXING or part is args[0]:
                    raise RuntimeError(f"Expected all tensors to be on the same device: {op}")
                _count("indices of the host")


def _sent(op: Any, one: Tensor, asked: Any, kwargs: dict[str, Any]) -> Tensor:
    away = isinstance(one, Away)
    goes = away if asked is None else torch.device(asked).type == NAME
    later = kwargs.pop("non_blocking", False)
    if away and not goes:
        _count("copy to the host")
    if goes and not away and not later and one.numel():
        _count("copy to the device")
    found = op(_raw(one), **kwargs)
    if not goes:
        return found
    return Away(found, _index([one]) if asked is None else torch.device(asked).index or 0)


def _copied(source: Tensor, target: Tensor, later: bool = False) -> Tensor:
    if isinstance(source, Away) and not isinstance(target, Away):
        _count("copy to the host")
    if isinstance(target, Away) and not isinstance(source, Away) and not later and source.numel():
        _count("copy to the device")
    _raw(target).copy_(_raw(source))
    return target
