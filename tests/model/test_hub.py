"""Ids of the hub to models: from its cache without asking it, and what it answers in one clear error."""

from __future__ import annotations

import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from elimtool.errors import ElimError
from elimtool.model.loading import load_model
from elimtool.model.parts import check_revisions
from tests.model.loads import hub_at, refused

pytestmark = pytest.mark.usefixtures("closed_hub")

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def _cache(home: Path, source: Path, name: str = "org/model") -> Path:
    folder = home / f"models--{name.replace('/', '--')}"
    snapshot = folder / "snapshots" / COMMIT
    shutil.copytree(source, snapshot)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(COMMIT)
    return snapshot


@pytest.mark.parametrize("offline", [True, False])
@pytest.mark.parametrize("revision", [None, "main", COMMIT])
def test_a_cached_hub_model_loads_without_the_hub(
    offline: bool,
    revision: str | None,
    llama_directory: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    snapshot = _cache(tmp_path / "hub", llama_directory)
    model = load_model("org/model", revision=revision)
    assert (model.revision, model.directory) == (COMMIT, snapshot)


def test_a_cached_hub_model_without_weights(llama_directory: Path, tmp_path: Path) -> None:
    (_cache(tmp_path / "hub", llama_directory) / "model.safetensors").unlink()
    assert (
        "'org/model' has no weights in Hugging Face format in the local cache" in refused("org/model").message
    )


def test_offline_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE forbids" in refused("no-such-org/no-such-model").message


def test_an_unreachable_hub_fails_fast() -> None:
    start = time.monotonic()
    error = refused("no-such-org/no-such-model")
    assert time.monotonic() - start < 5
    assert error.message.startswith(
        "'no-such-org/no-such-model' is not cached, and the hub cannot be reached"
    )
    assert error.hint.startswith("valid: smollm2, gemma3-270m; hub ids, local directories and .gguf files")


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bytes | None], None]]:
    """A hub that gives one answer to everything, or none at all."""
    listener = socket.create_server(("127.0.0.1", 0))
    held: list[socket.socket] = []

    def start(answer: bytes | None) -> None:
        def run() -> None:
            while True:
                try:
                    held.append(listener.accept()[0])
                except OSError:
                    return
                if answer is not None:
                    held[-1].recv(65536)
                    held[-1].sendall(answer)
                    held[-1].close()

        threading.Thread(target=run, daemon=True).start()
        hub_at(monkeypatch, f"http://127.0.0.1:{listener.getsockname()[1]}")

    yield start
    listener.close()
    for connection in held:
        connection.close()


def _http(status: str, *headers: str) -> bytes:
    return "\r\n".join(
        [f"HTTP/1.1 {status}", "Content-Length: 0", "Connection: close", *headers, "", ""]
    ).encode()


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (_http("404 Not Found", "X-Error-Code: RepoNotFound"), "there is no model 'org/model' on the hub"),
        (_http("404 Not Found", "X-Error-Code: RevisionNotFound"), "'org/model' has no revision 'v1'"),
        (_http("403 Forbidden", "X-Error-Code: GatedRepo"), "'org/model' is gated"),
        (_http("503 Service Unavailable"), "the hub answers with HTTP status 503"),
        (b"hello\r\n\r\n", "the hub cannot be reached"),
        (b"", "the hub cannot be reached"),
        (None, "the hub cannot be reached"),
    ],
)
def test_what_the_hub_answers_is_told(
    answer: bytes | None, says: str, serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 1)
    serve(answer)
    start = time.monotonic()
    assert says in refused("org/model", revision="v1").message
    assert time.monotonic() - start < 5


def test_revisions_are_looked_for_before_any_is_measured(
    llama_directory: Path, tmp_path: Path, serve: Any
) -> None:
    """By what the hub says of each; where it cannot be reached those in the cache are there."""
    snapshot = _cache(tmp_path / "hub", llama_directory)
    (snapshot.parents[1] / "refs" / "step1000").write_text(COMMIT)
    check_revisions("org/model", ["step1000", COMMIT])
    with pytest.raises(ElimError, match="not cached, and the hub cannot be reached"):
        check_revisions("org/model", ["step1000", "step4000"])
    with pytest.raises(ElimError, match="no such file or directory"):
        check_revisions("./org/model", ["step1000"])
    serve(_http("404 Not Found", "X-Error-Code: RevisionNotFound"))
    with pytest.raises(ElimError, match="has no revision 'step1000'"):
        check_revisions("org/model", ["step1000"])
