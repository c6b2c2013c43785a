"""The server answers its own page alone, says what is wrong, and goes on after it."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import elimtool
from elimtool.errors import ElimError
from elimtool.report.html.explore import ASSETS
from elimtool.tasks.explore.asked import Offered
from elimtool.tasks.explore.guard import HEADERS, hosts_of
from elimtool.tasks.explore.serve import check_token, listening
from elimtool.tasks.explore.server import application
from elimtool.tasks.explore.states import TracedStates
from elimtool.tasks.explore.work import JobQueue
from tests.tasks.explore.conftest import PORT, TOKEN

Ask = Callable[..., dict[str, Any]]
ASKED = {"prompt": "The capital of France is", "targets": ["Paris"]}


@pytest.mark.parametrize(
    ("path", "headers", "code"),
    [
        (f"/{TOKEN}/", {}, 200),
        (f"/{TOKEN}/", {"host": f"localhost:{PORT}"}, 200),
        (f"/{TOKEN}/", {"host": "evil.example"}, 421),
        (f"/{TOKEN}/", {"host": f"evil.example:{PORT}"}, 421),
        (f"/{TOKEN}/", {"host": "127.0.0.1:1"}, 421),
        (f"/{TOKEN}/", {"origin": "http://evil.example"}, 403),
        (f"/{TOKEN}/", {"origin": "null"}, 403),
        (f"/{TOKEN}/", {"origin": f"http://127.0.0.1:{PORT}"}, 200),
        ("/", {}, 403),
        ("/another-secret-of-24-cha/", {}, 403),
        (f"/{TOKEN}x/", {}, 403),
        (f"/{TOKEN}/nothing", {}, 404),
        (f"/{TOKEN}/assets/nothing.js", {}, 404),
        (f"/{TOKEN}/assets/..%2f..%2fpage.py", {}, 404),
        (f"/{TOKEN}/assets/%2fetc%2fpasswd", {}, 404),
    ],
)
def test_only_the_own_page_is_answered(client: Any, path: str, headers: Any, code: int) -> None:
    answer = client.get(path, headers=headers)
    assert answer.status_code == code
    assert all(answer.headers[name] == value for name, value in HEADERS.items())


def test_a_form_of_another_site_cannot_ask(client: Any) -> None:
    kinds = ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data")
    for kind in kinds:  # which a browser sends without asking the server first
        answer = client.post(f"/{TOKEN}/api/trace", content="{}", headers={"content-type": kind})
        assert answer.status_code == 415


def test_what_was_asked_ends_as_soon_as_its_page_goes_away(states: TracedStates) -> None:
    pytest.importorskip("starlette")
    body = json.dumps({"asked": {"prompt": "The capital", "generate": 250}}).encode()
    coming: list[Any] = [{"type": "http.request", "body": body, "more_body": False}]
    host = f"127.0.0.1:{PORT}".encode()
    scope = {
        **{"type": "http", "asgi": {"version": "3.0", "spec_version": "2.4"}, "http_version": "1.1"},
        **{"method": "POST", "path": f"/{TOKEN}/api/trace", "query_string": b"", "root_path": ""},
        "headers": [(b"host", host), (b"content-type", b"application/json")],
    }
    sent: list[Any] = []

    async def receive() -> Any:
        return coming.pop() if coming else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message.get("body", b""))

    with JobQueue() as jobs:
        app = application(states, jobs, TOKEN, hosts_of("127.0.0.1", PORT), Offered())
        asyncio.run(app(scope, receive, send))
        assert list(jobs.ask(lambda _, __: 7).messages())[-1] == {"done": 7}  # nothing holds it up
    assert b"cancelled" in b"".join(sent) and len(states) == 0


def test_everything_that_the_page_asks_for_is_there(client: Any) -> None:
    for name in ASSETS:
        answer = client.get(f"/{TOKEN}/assets/{name}")
        assert answer.status_code == 200 and answer.text
    text = client.get(f"/{TOKEN}/").text
    assert "http://" not in text and "https://" not in text and "<script>" not in text


def test_a_trace_is_answered_with_its_figures_and_how_to_repeat_it(ask: Ask) -> None:
    done = ask("trace", asked=ASKED)["done"]
    probe = done["prompt"]["probes"][-1]
    names = [figure["name"] for figure in probe["figures"]]
    assert {"ranks", "funnel", "retention"} <= set(names)
    assert [one["token"].strip("'\u2068\u2069") for one in probe["verdicts"]] == ["Paris"]
    assert done["command"].startswith("elimtool trace --model=") and "load_model" in done["python"]
    assert [chain["name"] for chain in done["chains"]] == ["llama.cpp", "hf", "vllm"]
    assert sum(token["lift"] is not None for token in probe["tokens"]) > 1
    layer = ask("layer", asked=ASKED, layer=1, position=probe["position"])["done"]
    assert [figure["name"] for figure in layer] == ["layer_tokens", "layer_components"]


def test_a_chain_is_changed_and_only_what_it_changes_comes_back(ask: Ask) -> None:
    done = ask("chain", asked=ASKED, chain=0, stage="top_k", value=1)["done"]
    assert done["asked"]["samplers"] == ["llama.cpp:top_k=1", "hf", "vllm"]
    assert "prompt" not in done and done["probes"][-1]["figures"][0]["name"] == "funnel"
    stages = done["probes"][-1]["figures"][0]["chains"][0]["stages"]
    assert [stage["after"] for stage in stages if stage["label"].startswith("top_k")] == [1]
    ordered = {**ASKED, "samplers": ["top_k=4,temperature=0.8"]}
    done = ask("chain", asked=ordered, chain=0, order=["temperature", "top_k"])["done"]
    assert done["asked"]["samplers"] == ["temperature=0.8,top_k=4"]


def test_prompts_of_two_states_are_compared(ask: Ask) -> None:
    other = {**ASKED, "prompt": "The capital of Spain is"}
    done = ask("compare", a=ASKED, b=other)["done"]
    assert done["line"]["text"] != done["line"]["other"] and done["prompt"]["probes"][0]["figures"]
    assert "same prompt" in ask("compare", a=ASKED, b={**ASKED, "seed": 1})["error"]


def test_states_with_any_change_are_compared_by_what_was_measured(ask: Ask) -> None:
    a = {**ASKED, "samplers": ["llama.cpp", "hf"]}
    b = {**a, "samplers": ["llama.cpp:top_k=7", "hf"], "ablate": ["1.0"], "prompt": "The capital of Spain is"}
    done = ask("differences", a=a, b=b)["done"]
    found = {one["name"]: one for one in done["prompt"]["probes"][0]["figures"]}
    own = [ask("trace", asked=one)["done"]["prompt"]["probes"][-1]["figures"] for one in (a, b)]
    for name in ("ranks", "probabilities"):
        drawn = [next(one for one in figures if one["name"] == name)["lines"][0] for figures in own]
        assert [one["values"] for one in found[name]["lines"]] == [one["values"] for one in drawn]
    funnels = [next(one for one in figures if one["name"] == "funnel") for figures in own]
    kept = [[stage["after"] for stage in one["chains"][0]["stages"] if stage["active"]] for one in funnels]
    rows = [row for row in found["stages"]["rows"] if row[0] == "llama.cpp → llama.cpp:top_k=7"]
    assert [[row[2] for row in rows], [row[3] for row in rows]] == kept
    same = ask("compare", a=a, b={**a, "prompt": b["prompt"]})["done"]["prompt"]["probes"][0]["figures"]
    assert found["alignment"]["rows"] == next(one["rows"] for one in same if one["name"] == "alignment")
    assert "1.0" in " ".join(done["notes"]) and "not compared" not in " ".join(done["notes"])


def test_states_are_compared_at_the_position_that_is_looked_at(ask: Ask) -> None:
    a = {"prompt": "The capital of France is", "position": "all", "samplers": ["hf"]}
    b = {**a, "prompt": "So: The capital of Spain is"}
    probes = [ask("trace", asked=one)["done"]["prompt"]["probes"] for one in (a, b)]
    at = [[token["text"].strip() for token in one[-1]["tokens"]].index("of") for one in probes]
    done = ask("differences", a=a, b=b, position=at[1])["done"]
    assert done["positions"] == at and at[0] < at[1]
    found = {one["name"]: one for one in done["prompt"]["probes"][0]["figures"]}
    own = [
        next(one for one in some if one["position"] == where) for some, where in zip(probes, at, strict=True)
    ]
    drawn = [next(one for one in each["figures"] if one["name"] == "funnel")["chains"][0] for each in own]
    kept = [[stage["after"] for stage in chain["stages"] if stage["active"]] for chain in drawn]
    assert [[row[2] for row in found["stages"]["rows"]], [row[3] for row in found["stages"]["rows"]]] == kept
    last = ask("differences", a=a, b=b)["done"]
    assert last["positions"] is None and last["prompt"]["probes"] != done["prompt"]["probes"]
    for where, words in ((0, "no token of A corresponds"), (at[1], "A was not read at position")):
        assert words in ask("differences", a={**a, "position": "last"}, b=b, position=where)["error"]


def test_a_state_can_be_taken_along(ask: Ask, tmp_path: Path) -> None:
    page = base64.b64decode(ask("report", asked=ASKED)["done"]["base64"]).decode()
    assert page.startswith("<!DOCTYPE html>") and "The capital of France is" in page
    packed = base64.b64decode(ask("archive", asked=ASKED)["done"]["base64"])
    zipfile.ZipFile(io.BytesIO(packed)).extractall(tmp_path)
    assert elimtool.open_run(tmp_path / "run").arrow("lens").num_rows
    done = ask("trace", asked=ASKED)["done"]
    probe = done["prompt"]["probes"][-1]
    title = next(one["title"] for one in probe["figures"] if one["name"] == "ranks")
    given = {"position": probe["position"], "name": "ranks", "title": title}
    drawn = ask("picture", asked=ASKED, format="svg", **given)["done"]
    assert drawn["name"] == "ranks.svg" and b"<svg" in base64.b64decode(drawn["base64"])
    assert "png or svg" in ask("picture", asked=ASKED, format="exe", **given)["error"]


@pytest.mark.parametrize(
    ("question", "fields", "words"),
    [
        ("trace", {}, "must be an object with a `prompt`"),
        ("trace", {"asked": {"prompt": "x", "spans": ["y"]}}, "NAME=TEXT"),
        ("trace", {"asked": {"prompt": "x", "ablate": ["99.0"]}}, "99"),
        ("trace", {"asked": {"prompt": "x", "samplers": ["top_p=7"]}}, "top_p"),
        ("trace", {"asked": {"prompt": "x " * 5000}}, "tokens"),
        ("trace", {"asked": {"prompt": "x", "knockout": ["absent@0-1"]}}, "absent"),
        ("chain", {"asked": ASKED, "chain": 7, "stage": "top_k", "value": 1}, "no chain 7"),
        ("chain", {"asked": ASKED, "chain": "0", "stage": "top_k", "value": 1}, "whole number"),
        ("chain", {"asked": ASKED, "chain": 0, "stage": "top_k", "value": "1"}, "`stage` and a `value`"),
        ("chain", {"asked": ASKED, "chain": 0, "order": "top_k"}, "list of names"),
        ("chain", {"asked": ASKED, "chain": 0, "stage": "top_p", "value": 7.0}, "does not take 7"),
        ("layer", {"asked": ASKED, "layer": 0, "position": 77}, "position 77"),
        ("lives", {"asked": ASKED, "chain": 0, "target": 9, "position": 7}, "position 7"),
    ],
)
def test_what_is_wrong_is_said_and_the_next_request_is_answered(
    ask: Ask, question: str, fields: dict[str, Any], words: str
) -> None:
    assert words in ask(question, **fields)["error"]
    assert "done" in ask("trace", asked=ASKED)


@pytest.mark.parametrize("content", [b"{", b"\xff", b"x" * (2**20 + 1)])
def test_a_body_that_is_no_request_is_refused(client: Any, content: bytes) -> None:
    headers = {"content-type": "application/json"}
    answer = client.post(f"/{TOKEN}/api/trace", content=content, headers=headers)
    assert answer.status_code == 400 and "error" in answer.json()


def test_requests_wait_their_turn_and_too_many_are_refused() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(say: Any, stop: Any) -> str:
        begun.set()
        go_on.wait(10)
        return "slow"

    with JobQueue(most_waiting=1) as jobs:
        first = jobs.ask(slow)
        assert begun.wait(10)
        second = jobs.ask(lambda say, stop: "fast")
        assert next(second.messages()) == {"say": "waiting for 1 other request"}
        with pytest.raises(ElimError, match="too many"):
            jobs.ask(slow)
        second.cancelled.set()  # its page went away
        go_on.set()
        assert list(first.messages())[-1] == {"done": "slow"}
        third = jobs.ask(lambda say, stop: "again")
        assert list(third.messages())[-1] == {"done": "again"}
        assert second.told.empty()


def test_a_defect_ends_one_request_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with JobQueue() as jobs:
        broken = jobs.ask(lambda say, stop: 1 / 0)
        assert "defect" in list(broken.messages())[-1]["error"]
        assert list(jobs.ask(lambda say, stop: 7).messages())[-1] == {"done": 7}
        assert "ZeroDivisionError" in capsys.readouterr().err


def test_closing_ends_what_runs_where_it_asks_and_begins_nothing_more() -> None:
    begun = threading.Event()

    def endless(say: Any, stop: Callable[[], None]) -> None:
        while True:
            begun.set()
            stop()

    jobs = JobQueue()
    running, waiting = jobs.ask(endless), jobs.ask(endless)
    assert begun.wait(10)
    jobs.close()
    assert list(running.messages())[-1]["error"] == "cancelled"
    assert list(waiting.told.queue) == [{"say": "waiting for 1 other request"}]


def test_an_address_in_use_and_a_short_token_are_refused() -> None:
    with listening("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ElimError, match=f"port {port}"):
            listening("127.0.0.1", port)
    with pytest.raises(ElimError, match="cannot serve on 192"):
        listening("192.0.2.1", 0)
    for wrong in ("short", "x" * 15, "with/slash-and-more-letters", ""):
        with pytest.raises(ElimError, match="`token`"):
            check_token(wrong)
    assert f"192.0.2.7:{PORT}" in hosts_of("192.0.2.7", PORT)
