"""Load models and tokenizers from Hugging Face directories; refuse those that are damaged or do not fit."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import TYPE_CHECKING, Any

from elimtool.errors import ElimError
from elimtool.files.parse import parse_json
from elimtool.files.yaml import unreadable
from elimtool.model.architectures import auto_class
from elimtool.model.quiet import quiet
from elimtool.model.store import ADAPTER
from elimtool.model.tokens import Tokenizer

if TYPE_CHECKING:
    from elimtool.model.placement import Placement

_NUMBER = re.compile("[0-9]+")
_INSTALL = re.compile("pip install [^`)]+")
_PACKAGE = re.compile(r"pip install `?([A-Za-z0-9_.-]*[A-Za-z0-9])")
_FILES = {"model": ("config.json",), "tokenizer": ("tokenizer.json", "tokenizer_config.json")}
_READ = {
    "model": ("*.json", "*.safetensors", "*.bin"),
    "tokenizer": ("*.json", "*.model", "*.txt", "*.tiktoken"),
}
_VOCABULARIES = ("tokenizer.json", "*.model", "vocab.*", "*.tiktoken")


def load_hugging_face(
    name: str, directory: Path, dtype: str, trust: bool, placement: Placement | None = None
) -> Any:
    """Load a Hugging Face model, every weight of it from the checkpoint.

    Attention is eager: only then TransformerLens' hooks see scores and patterns. Without a placement it is on
    the processor.

    Raises:
        ElimError: The checkpoint is damaged, incomplete, or of a kind that elimtool cannot trace.
    """
    import torch
    from transformers import AutoConfig

    from elimtool.model.placement import PROCESSOR, settle

    placement = placement or PROCESSOR
    known = {"trust_remote_code": trust, "local_files_only": True}
    with _Refusals(name, "model", directory), quiet(), _without_adapter(directory) as place:
        config = AutoConfig.from_pretrained(place, **known)
        quantised = getattr(config, "quantization_config", None) is not None
        hf, info = auto_class(name, config).from_pretrained(
            place,
            config=config,
            dtype="auto" if dtype == "auto" else getattr(torch, dtype),
            attn_implementation="eager",
            ignore_mismatched_sizes=True,  # so that all of them are reported, and refused below
            output_loading_info=True,
            **placement.options(quantised),
            **known,
        )
        placement.check(hf)
        settle(hf)
    _check_weights(name, hf, info)
    return hf.eval() if placement.placed or quantised else moved(name, hf.eval(), placement.device)


def moved(name: str, hf: Any, device: str) -> Any:
    """Move a model to a device.

    Raises:
        ElimError: It does not fit there.
    """
    try:
        return hf.to(device)
    except (RuntimeError, TypeError) as error:
        raise ElimError(
            f"{name}: the model cannot be moved to {device}: {reason(error)}",
            "use a smaller `dtype`, `device_map='auto'` or `device='cpu'`",
        ) from error


@contextmanager
def _without_adapter(directory: Path) -> Iterator[Path]:
    """Show a model's directory without an adapter beside it: transformers loads one where it finds peft."""
    if not (directory / ADAPTER).is_file():
        yield directory
        return
    with TemporaryDirectory(prefix="elimtool-") as view:
        for path in directory.iterdir():
            if not path.name.startswith("adapter_"):
                (Path(view) / path.name).symlink_to(path)
        yield Path(view)


def _check_weights(name: str, hf: Any, info: Mapping[str, Any]) -> None:
    """Refuse checkpoints that do not fit their configuration; transformers would fill or drop weights.

    A weight that the model has no place for is ignored (heads of other tasks, buffers), unless the model has
    the same one under another number: then the checkpoint has more layers than the configuration says.
    """
    if info["mismatched_keys"]:
        key, stored, wanted = sorted(info["mismatched_keys"])[0]
        raise ElimError(
            f"{name}: the weight {key} has shape {list(stored)}, but config.json wants {list(wanted)}",
            "the weights belong to another configuration",
        )
    if missing := sorted(info["missing_keys"]):
        more = len(missing) - 1
        raise ElimError(
            f"{name}: the checkpoint lacks the weight {missing[0]}" + (f" and {more} more" if more else ""),
            "the checkpoint is incomplete or belongs to another configuration",
        )
    likes = {_NUMBER.sub("N", key) for key in hf.state_dict()}
    left = sorted(key for key in info["unexpected_keys"] if _NUMBER.sub("N", key) in likes)
    if left or not hf.config.get_text_config().num_hidden_layers:
        raise ElimError(
            f"{name}: the checkpoint has more layers than config.json says, the first weight left over is "
            f"{left[0] if left else 'in layer 0'}",
            "the weights belong to another configuration",
        )


def load_tokenizer(name: str, directory: Path, trust: bool, n_ids: int | None) -> Tokenizer:
    """Load the tokenizer beside a model's weights.

    Args:
        name: The user's name for the model.
        directory: The model's directory.
        trust: Run Python code that comes with it.
        n_ids: Number of the model's embeddings, if known.

    Raises:
        ElimError: There is no tokenizer, it is damaged, or it is a slow one.
    """
    from transformers import AutoTokenizer

    with _Refusals(name, "tokenizer", directory), quiet():
        backend = AutoTokenizer.from_pretrained(directory, trust_remote_code=trust, local_files_only=True)
    return Tokenizer(backend, n_ids)


class _Refusals:
    """Turns what transformers raises at a directory that it cannot read into one clear error."""

    def __init__(self, name: str, what: str, directory: Path) -> None:
        self.name, self.what, self.directory = name, what, directory

    def __enter__(self) -> None:
        return

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # the tokenizers library raises bare ``Exception``: catch that class itself, none derived from it
        if error is None or not (kind is Exception or isinstance(error, _refusing())):
            return
        message, hint = self._diagnosis(error)
        raise ElimError(f"{self.name}: {message}", hint) from error

    def _diagnosis(self, error: BaseException) -> tuple[str, str]:
        if "trust_remote_code" in str(error):
            return (
                f"the {self.what} needs Python code of its own to be read",
                "pass `trust_remote_code=True` if you trust its author",
            )
        for path in sorted(one for kind in _READ[self.what] for one in self.directory.glob(kind)):
            if why := unreadable(path):
                return f"cannot read {path.name}: {why}", "check its permissions, and where it links to"
        for file in _FILES[self.what]:
            if wrong := _not_an_object(self.directory / file):
                return f"{file} is not valid: {wrong}", "fetch or export the model again"
        if isinstance(error, ImportError) and (method := _quantised(self.directory)):
            return (
                f"its weights are quantised ({method}): {reason(error)}",
                f"install what reads them: {_command(error)}",
            )
        if package := _lacking(error):
            return f"the {self.what} needs the package {package}", f"install it: pip install {package}"
        if self.what == "model" and (damaged := _damaged(self.directory)):
            return f"{damaged} is damaged: {reason(error)}", "fetch or export the model again"
        if self.what == "tokenizer" and not any(any(self.directory.glob(one)) for one in _VOCABULARIES):
            return "there is no tokenizer beside config.json", "put tokenizer.json there"
        return (
            f"the {self.what} cannot be loaded: {reason(error)}",
            "it may be incomplete or damaged; compare it with where it came from",
        )


def _command(error: BaseException) -> str:
    found = _INSTALL.search(str(error))
    return found[0].strip() if found else "see transformers' page on quantisation"


def _quantised(directory: Path) -> str:
    """Name the method that a checkpoint's weights were quantised with; empty for none."""
    try:
        stated = json.loads((directory / "config.json").read_bytes()).get("quantization_config") or {}
    except (OSError, ValueError, AttributeError):
        return ""
    return str(stated.get("quant_method") or "bitsandbytes") if isinstance(stated, dict) and stated else ""


def _lacking(error: BaseException) -> str:
    """Name the package that an import missed; empty for other errors."""
    found = _PACKAGE.search(str(error)) if isinstance(error, ImportError) else None
    return found[1] if found else ""


def unusable(name: str, architecture: str, error: Exception) -> ElimError:
    """Return the error for an architecture that TransformerLens cannot put hooks on."""
    if package := _lacking(error):
        return ElimError(
            f"{name}: its hooks need the package {package}", f"install it: pip install {package}"
        )
    return ElimError(
        f"{name}: TransformerLens cannot put hooks on the architecture {architecture}: {reason(error)}",
        "elimtool cannot trace it; docs/models.md says which families were tried",
    )


def _refusing() -> tuple[type[BaseException], ...]:
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError

    damaged = (OSError, EOFError, SafetensorError, pickle.UnpicklingError)
    unfit = (StrictDataclassError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError)
    return (*damaged, *unfit, RuntimeError, ImportError)


def _damaged(directory: Path) -> str:
    """Find the first safetensors file of a directory that cannot be opened; empty if all can."""
    from safetensors import SafetensorError, safe_open

    for path in sorted(directory.glob("*.safetensors")):
        try:
            safe_open(path, framework="np")
        except (SafetensorError, OSError):
            return path.name
    return ""


def _not_an_object(path: Path) -> str:
    """Say what is wrong with a JSON file that should hold an object; empty if nothing, or without a file."""
    try:
        content = parse_json(path.read_bytes())
    except json.JSONDecodeError as error:
        return f"line {error.lineno}: {error.msg}"
    except UnicodeDecodeError:
        return "it is not UTF-8"
    except ValueError as error:
        return str(error)
    except OSError:
        return ""
    return "" if isinstance(content, dict) else "it is not a JSON object"


def reason(error: BaseException) -> str:
    """Shorten an exception to its first sentence; a line ending in a colon is joined with the next."""
    if isinstance(error, KeyError):
        return f"{error} is missing or not known"
    if isinstance(error, pickle.UnpicklingError):
        return "a weights file is not a PyTorch checkpoint"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    while len(lines) > 1 and lines[0].endswith(":"):
        lines[:2] = [f"{lines[0]} {lines[1]}"]
    return lines[0].split(". ")[0] if lines else type(error).__name__
