"""Take a model that the user already has in memory, and leave it as it was."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, Protocol, TypeVar, runtime_checkable

from torch import nn

from elimtool.errors import ElimError
from elimtool.model.bridging import bridge_of
from elimtool.model.model import Model
from elimtool.model.slots import HOOKS
from elimtool.model.tokens import Tokenizer

P = ParamSpec("P")
R = TypeVar("R")


@runtime_checkable
class Bridge(Protocol):
    """A ``TransformerBridge`` of TransformerLens."""

    original_model: Any
    blocks: Any
    cfg: Any


@runtime_checkable
class HuggingFace(Protocol):
    """A causal language model of transformers."""

    config: Any
    base_model_prefix: Any

    def get_input_embeddings(self) -> Any:
        """Return the module that embeds tokens."""


@runtime_checkable
class FastTokenizer(Protocol):
    """A tokenizer of transformers."""

    all_special_ids: Any
    is_fast: Any


def wrap(model: Bridge | HuggingFace, tokenizer: FastTokenizer | None = None, *, name: str = "") -> Model:
    """Make a model that is already in memory usable wherever one of ``load_model`` is.

    A ``TransformerBridge`` is used as it is, with the hooks that the user put on it. Of a Hugging Face model
    the modules are copied and the weights shared: the model given keeps its modules, hooks, attention
    implementation, training mode and gradients, and its hooks act here too. Change its weights in place and
    the change is measured; move or cast it, and wrap it again.

    Args:
        model: A ``TransformerBridge`` or a causal language model of transformers.
        tokenizer: Its fast tokenizer; a bridge may bring its own.
        name: What to call it in ``run.json``; without, what it calls itself.

    Raises:
        ElimError: There is no tokenizer, the bridge has processed its weights, or the architecture is not
            one that elimtool reads.
    """
    given: Any = model
    if isinstance(model, Bridge):
        called = name or str(getattr(given.cfg, "model_name", "") or "bridge")
        if getattr(given, "compatibility_mode", False):
            raise ElimError(
                f"{called}: its weights were processed by enable_compatibility_mode",
                "elimtool reads raw weights: give a bridge on which it was not called",
            )
        bridge, tokenizer = given, tokenizer or getattr(given, "tokenizer", None)
    else:
        called = name or _own_name(given)
        if any(hasattr(module, "original_component") for module in given.modules()):
            raise ElimError(f"{called} is inside a TransformerBridge", "give the bridge itself")
        if tokenizer is None:
            raise ElimError(f"{called}: a Hugging Face model needs its `tokenizer`", "give it too")
        bridge = bridge_of(called, _beside(given))
    if tokenizer is None:
        raise ElimError(f"{called}: the bridge has no tokenizer", "give one as `tokenizer`")
    config: Any = getattr(bridge.original_model, "config", None)
    text = config.get_text_config() if hasattr(config, "get_text_config") else None
    n_ids = getattr(text, "vocab_size", None) or None
    return Model(bridge=bridge, tokenizer=Tokenizer(tokenizer, n_ids), name=called)


def takes_bridges(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function take a ``TransformerBridge`` wherever it takes a ``Model``."""

    @wraps(function)
    def taken(*args: P.args, **named: P.kwargs) -> R:
        wrapped: Any = {key: _wrapped(one) for key, one in named.items()}
        return function(*map(_wrapped, args), **wrapped)

    return taken


def _wrapped(one: Any) -> Any:
    return wrap(one) if isinstance(one, nn.Module) and isinstance(one, Bridge) else one


def _own_name(hf: Any) -> str:
    name = str(getattr(hf.config, "_name_or_path", "") or type(hf).__name__)
    return Path(name).name if Path(name).is_absolute() else name


def _beside(hf: Any) -> Any:
    """Copy the modules of a model, but no weight, and no hook: those of the user are called as they are."""
    memo: dict[int, Any] = {}
    for parameter in hf.parameters():
        plain = type(parameter) is nn.Parameter
        memo[id(parameter)] = nn.Parameter(parameter.detach(), requires_grad=False) if plain else parameter
    memo |= {id(buffer): buffer for buffer in hf.buffers()}
    for module in hf.modules():
        memo |= {id(hook): hook for kind in HOOKS for hook in module.__dict__[kind].values()}
    copied = copy.deepcopy(hf, memo).eval()
    copied.set_attn_implementation("eager")  # only then hooks see scores and patterns
    return copied
