"""Names to loaded models: the catalogue, a hub id, a local directory or a .gguf file."""

from __future__ import annotations

import gc
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from elimtool.errors import ElimError, nearest
from elimtool.model.model import Model
from elimtool.model.tokens import Tokenizer

DEFAULT_MODEL = "smollm2"
DTYPES = ("float32", "bfloat16", "float16", "float64", "auto")

Progress = Callable[[str], None]


def load_model(
    name: str = DEFAULT_MODEL,
    *,
    revision: str | None = None,
    dtype: str = "float32",
    device: str = "auto",
    trust_remote_code: bool = False,
    progress: Progress | None = None,
) -> Model:
    """Load a causal language model with its raw weights under TransformerLens' hooks.

    Args:
        name: A catalogue name (``smollm2``), a Hugging Face id (``org/model``), a local directory in
            Hugging Face format, or a ``.gguf`` file (converted once, then cached).
        revision: Branch, tag or commit of a hub id.
        dtype: ``float32`` (default), ``bfloat16``, ``float16``, ``float64``, or ``auto`` for the
            checkpoint's own.
        device: ``auto`` (CUDA if there is one, else CPU), ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        trust_remote_code: Run Python code that comes with the checkpoint.
        progress: Called with a line of text when something slow begins.

    Raises:
        ElimError: The model cannot be found, fetched, read or run; the message says which.
    """
    say = progress or (lambda _line: None)
    where = _pick_device(device)
    if dtype not in DTYPES:
        raise ElimError(f"--dtype '{dtype}' is not valid", nearest(dtype, DTYPES))
    directory, commit = locate(name, revision=revision, trust_remote_code=trust_remote_code, progress=say)
    say(f"loading {name}")
    with _collector_off():
        hf = load_hugging_face(name, directory, dtype, trust_remote_code).to(where)
        tokenizer = _load_tokenizer(name, directory, trust_remote_code)
        bridge = _bridge(name, hf)
    return Model(bridge=bridge, tokenizer=tokenizer, name=name, revision=commit, directory=directory)


def locate(
    name: str, *, revision: str | None, trust_remote_code: bool = False, progress: Progress
) -> tuple[Path, str]:
    """The local directory of a model, fetched and converted if need be, and its hub commit if it has one.

    Raises:
        ElimError: There is no such model, or it cannot be had.
    """
    from elimtool.model.catalogue import CATALOGUE, materialise

    if revision is not None and (name in CATALOGUE or Path(name).exists()):
        raise ElimError(f"--revision {revision} is for hub ids; '{name}' is not one", "leave --revision out")
    if name in CATALOGUE:
        return materialise(CATALOGUE[name], progress=progress), ""
    path = Path(name).expanduser()
    if path.is_dir():
        return _check_directory(path), ""
    if path.is_file():
        if path.suffix != ".gguf":
            raise ElimError(
                f"--model {name} is a file, but not a .gguf", "give the directory that holds config.json"
            )
        from elimtool.model.gguf import gguf_directory

        progress(f"converting {path.name}")
        return gguf_directory(path), ""
    if name.startswith((".", "/", "~")) or name.endswith(".gguf") or name.count("/") > 1 or not name:
        raise ElimError(f"--model '{name}': there is no such file or directory")
    return _snapshot(name, revision, trust_remote_code, tuple(CATALOGUE))


def _check_directory(path: Path) -> Path:
    if not (path / "config.json").is_file():
        raise ElimError(
            f"{path} has no config.json, so it is not a Hugging Face model directory",
            "export one with save_pretrained, or give a .gguf file",
        )
    if not any(path.glob("*.safetensors")) and not any(path.glob("*.bin")):
        raise ElimError(f"{path} has no weights (*.safetensors or *.bin)")
    return path.resolve()


def _snapshot(name: str, revision: str | None, trust: bool, catalogue: tuple[str, ...]) -> tuple[Path, str]:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        RepositoryNotFoundError,
    )
    from huggingface_hub.errors import LocalEntryNotFoundError, RevisionNotFoundError

    texts = ["*.json", "*.jinja", "*.model", "*.txt", *(["*.py"] if trust else [])]
    known = f"in the catalogue: {', '.join(catalogue)}; local directories and .gguf files work too"
    try:
        found = snapshot_download(name, revision=revision, allow_patterns=[*texts, "*.safetensors"])
        if not any(Path(found).glob("*.safetensors")):
            found = snapshot_download(name, revision=revision, allow_patterns=[*texts, "*.bin"])
    except GatedRepoError as error:
        raise ElimError(
            f"'{name}' is gated", "accept its licence on the hub and run `hf auth login`"
        ) from error
    except RevisionNotFoundError as error:
        raise ElimError(f"'{name}' has no revision '{revision}'") from error
    except RepositoryNotFoundError as error:
        raise ElimError(f"there is no model '{name}' on the hub", known) from error
    except LocalEntryNotFoundError as error:
        raise ElimError(f"'{name}' is not cached and the hub cannot be reached", known) from error
    except HFValidationError as error:
        raise ElimError(f"--model '{name}' is neither a hub id nor a file or directory", known) from error
    except (HfHubHTTPError, OSError) as error:
        raise ElimError(f"'{name}' could not be fetched: {_first_line(error)}", known) from error
    return Path(found), Path(found).name


def load_hugging_face(name: str, directory: Path, dtype: str, trust: bool) -> Any:
    """The Hugging Face model, every weight of it read from the checkpoint.

    Attention is eager: TransformerLens' hooks see scores and patterns only then.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoConfig, AutoModelForCausalLM

    known = {"trust_remote_code": trust, "local_files_only": True}
    wanted = "auto" if dtype == "auto" else getattr(torch, dtype)
    try:
        with _quiet():
            config = AutoConfig.from_pretrained(directory, **known)
            hf, info = AutoModelForCausalLM.from_pretrained(
                directory,
                config=config,
                dtype=wanted,
                attn_implementation="eager",
                output_loading_info=True,
                **known,
            )
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        hint = "it may be incomplete or damaged; compare it with where it came from"
        if "trust_remote_code" in str(error):
            hint = "it comes with Python code of its own; pass --trust-remote-code if you trust its author"
        raise ElimError(f"{name}: the model cannot be loaded: {_first_line(error)}", hint) from error
    wrong = sorted(info["missing_keys"]) + sorted(str(key) for key in info["mismatched_keys"])
    if wrong:
        raise ElimError(
            f"{name}: {len(wrong)} weights are missing or of the wrong shape, the first is {wrong[0]}",
            "the checkpoint is incomplete or belongs to another configuration",
        )
    return hf.eval()


def _load_tokenizer(name: str, directory: Path, trust: bool) -> Tokenizer:
    from transformers import AutoTokenizer

    try:
        with _quiet():
            backend = AutoTokenizer.from_pretrained(directory, trust_remote_code=trust, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
        raise ElimError(
            f"{name}: the tokenizer cannot be loaded: {_first_line(error)}",
            "put tokenizer.json and tokenizer_config.json beside config.json",
        ) from error
    return Tokenizer(backend)


def _bridge(name: str, hf: Any) -> Any:
    """Put a Hugging Face model under TransformerLens' hooks, in place.

    The tokenizer stays with us: the bridge's own set-up would change its padding and BOS behaviour.
    """
    with _quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformer_lens.factories.architecture_adapter_factory import SUPPORTED_ARCHITECTURES
        from transformer_lens.model_bridge.sources import build_bridge_from_module

        architecture = type(hf).__name__
        if architecture not in SUPPORTED_ARCHITECTURES:
            raise ElimError(
                f"{name}: TransformerLens does not support the architecture {architecture}",
                "elimtool needs its hooks; see TransformerLens' list of supported models",
            )
        return build_bridge_from_module(hf, architecture, hf_config=hf.config, model_name=name)


def _pick_device(device: str) -> str:
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, index = device.partition(":")
    if kind not in ("cpu", "cuda", "mps"):
        raise ElimError(f"--device '{device}' is not valid", nearest(device, ("auto", "cpu", "cuda", "mps")))
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}[kind]
    if not there or (kind == "cuda" and index.isdigit() and int(index) >= torch.cuda.device_count()):
        raise ElimError(f"--device {device}: there is no such device on this machine", "use --device cpu")
    return device


@contextmanager
def _collector_off() -> Iterator[None]:
    """Loading makes millions of objects and no garbage: without the cycle collector it is a tenth faster."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence transformers' progress bars and advice; what matters is raised."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
