"""States of a small model, and a server of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from elimtool.cli.repeating import command_of
from elimtool.model.source import ModelSource
from elimtool.tasks.explore.asked import Offered
from elimtool.tasks.explore.guard import hosts_of
from elimtool.tasks.explore.server import application
from elimtool.tasks.explore.states import TracedStates
from elimtool.tasks.explore.work import JobQueue

TOKEN = "a-secret-of-24-characters"
PORT = 8123


class Loaded(ModelSource):
    """A source of a model that is in memory already; its name is that of its directory."""

    model: ClassVar[Any]

    def load(self, progress: Callable[[str], None] | None = None) -> Any:
        del progress
        return self.model


@pytest.fixture
def source(llama: Any, llama_directory: Path) -> ModelSource:
    Loaded.model = llama
    return Loaded(str(llama_directory))


@pytest.fixture
def states(source: ModelSource) -> TracedStates:
    return TracedStates(source, command_of)


@pytest.fixture
def client(states: TracedStates) -> Iterator[Any]:
    """A client of the server; ``ask(question, **fields)`` -> messages."""
    testing = pytest.importorskip("starlette.testclient")
    with JobQueue() as jobs:
        app = application(states, jobs, TOKEN, hosts_of("127.0.0.1", PORT), Offered())
        with testing.TestClient(app, base_url=f"http://127.0.0.1:{PORT}") as made:
            yield made


@pytest.fixture
def ask(client: Any) -> Callable[..., dict[str, Any]]:
    """``ask(question, **fields)`` -> the last message of the answer."""

    def call(question: str, **fields: Any) -> dict[str, Any]:
        answer = client.post(f"/{TOKEN}/api/{question}", json=fields)
        found: dict[str, Any] = [json.loads(line) for line in answer.text.splitlines()][-1]
        return found

    return call
