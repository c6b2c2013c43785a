"""Fetch models from the hub: the newest snapshot, or the cached one if the hub cannot be reached."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from elimtool.errors import ElimError


def snapshot(name: str, revision: str | None, trust: bool, known: str) -> tuple[Path, str]:
    """Return directory and commit of a hub model, fetching it unless it is cached.

    If the hub does not answer within ``HF_HUB_ETAG_TIMEOUT`` (10 s by default), or ``HF_HUB_OFFLINE`` is set,
    the cached snapshot is used.

    Args:
        name: ``org/model``, or a model without an organisation.
        revision: Branch, tag or commit; ``None`` is the main branch.
        trust: Fetch Python code too.
        known: Hint of errors: other valid names.

    Raises:
        ElimError: There is no such model or revision, access is refused, or the hub cannot be reached.
    """
    from huggingface_hub.errors import LocalEntryNotFoundError

    commit, unreachable = _commit(name, revision, known)
    try:
        found = _fetch(name, commit, trust, cached_only=unreachable is not None)
    except LocalEntryNotFoundError as error:
        raise ElimError(*_why(name, unreachable or error, known)) from error
    except _failures() as error:
        raise ElimError(*_why(name, error, known)) from error
    return found, found.name


def check_snapshot(name: str, revision: str, known: str) -> None:
    """Refuse a revision that the hub does not have, or, where it cannot be reached, that is not cached.

    Fetches nothing but what the hub says of the revision.

    Args:
        name: As for ``snapshot``.
        revision: Branch, tag or commit.
        known: Hint of errors: other valid names.

    Raises:
        ElimError: There is no such model or revision, or it is not cached and the hub cannot be reached.
    """
    from huggingface_hub import try_to_load_from_cache

    _, unreachable = _commit(name, revision, known)
    cached = try_to_load_from_cache(name, "config.json", revision=revision)
    if unreachable is not None and not isinstance(cached, str):
        raise ElimError(*_why(name, unreachable, known)) from unreachable


def _failures() -> tuple[Any, ...]:
    """List the errors of a hub that does not answer as it should."""
    from huggingface_hub.errors import HfHubHTTPError

    # the hub's error class derives first from the base class of its HTTP client's errors, whichever that is
    return HfHubHTTPError.__bases__[0], OSError


def _commit(name: str, revision: str | None, known: str) -> tuple[str | None, BaseException | None]:
    """Ask the hub for the commit of a revision; where it cannot be reached return the revision, and why."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HFValidationError, RevisionNotFoundError

    try:
        found = HfApi().model_info(name, revision=revision, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    except HFValidationError as error:
        raise ElimError(f"the model '{name}' is neither a hub id nor a file or directory", known) from error
    except RevisionNotFoundError as error:
        raise ElimError(f"'{name}' has no revision '{revision}'", "give a branch, tag or commit") from error
    except _failures() as error:
        return revision, error
    return found.sha, None


def _fetch(name: str, revision: str | None, trust: bool, *, cached_only: bool) -> Path:
    """Fetch configuration, tokenizer and weights: safetensors, or pickled ones if there are no others."""
    from huggingface_hub import snapshot_download

    texts = ["*.json", "*.jinja", "*.model", "*.txt", "*.tiktoken", *(["*.py"] if trust else [])]
    found = Path()
    for weights in ("*.safetensors", "*.bin"):
        found = Path(
            snapshot_download(
                name,
                revision=revision,
                allow_patterns=[*texts, weights],
                ignore_patterns=["*/*", "consolidated*"],  # the same weights in other formats
                local_files_only=cached_only,
            )
        )
        if any(found.glob(weights)):
            return found
    raise ElimError(
        f"'{name}' has no weights in Hugging Face format" + (" in the local cache" if cached_only else ""),
        "it needs *.safetensors or *.bin files beside its config.json",
    )


def _why(name: str, error: BaseException, known: str) -> tuple[str, str]:
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    if isinstance(error, GatedRepoError):
        return f"'{name}' is gated", "accept its licence on the hub and run `hf auth login`"
    if isinstance(error, RepositoryNotFoundError):
        return f"there is no model '{name}' on the hub, or it is private", known
    if isinstance(error, OfflineModeIsEnabled):
        return f"'{name}' is not cached, and HF_HUB_OFFLINE forbids to fetch it", known
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        return f"'{name}' is not cached, and the hub answers with HTTP status {status}", known
    if isinstance(error, LocalEntryNotFoundError):
        return f"'{name}' is not in the local cache as a whole, and the hub cannot be reached", known
    reason = " ".join(str(error).split()) or type(error).__name__
    return f"'{name}' is not cached, and the hub cannot be reached ({reason})", known
