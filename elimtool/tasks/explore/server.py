"""Serve the page and what it asks, to one user on this machine; nothing that a page asks reaches a file."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

from elimtool.errors import ElimError
from elimtool.report.html.explore import ASSETS, asset, opened_page, page
from elimtool.tasks.explore.asked import Offered
from elimtool.tasks.explore.guard import Guard
from elimtool.tasks.explore.opened import OpenedComparison, OpenedRun
from elimtool.tasks.explore.questions import Questions
from elimtool.tasks.explore.states import TracedStates
from elimtool.tasks.explore.work import Job, JobQueue, Work

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

INSTALL = "pip install 'elimtool[explore]'"
MOST_BODY = 2**20
"""Largest body of a request, in bytes."""
SAVED = {"Content-Disposition": 'attachment; filename="run.zip"'}
"""Has the browser save the tables of what was opened, not show them."""


def application(
    states: TracedStates,
    jobs: JobQueue,
    token: str,
    hosts: frozenset[str],
    offered: Offered,
    opened: OpenedRun | OpenedComparison | None = None,
) -> Guard:
    """Make the server's application.

    Args:
        states: The model and what was traced.
        jobs: Does what pages ask; the caller closes it.
        token: First part of every path.
        hosts: Hosts, with their port, by which it may be asked for.
        offered: Files and models that a page may name.
        opened: A finished run or comparison to look at; ``None`` for none.

    Raises:
        ElimError: The package starlette is not installed.
    """
    try:
        from starlette.applications import Starlette
        from starlette.responses import Response
        from starlette.routing import Route
    except ImportError as error:
        raise ElimError("`elimtool explore` needs starlette and uvicorn", INSTALL) from error

    async def show(_: Request) -> Response:
        return Response(page(states.source.name, vars(offered), bool(opened)), media_type="text/html")

    async def file(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in ASSETS:
            return Response("there is no such file", 404)
        return Response(asset(name), media_type="text/css" if name.endswith(".css") else "text/javascript")

    questions = [
        Route(f"/api/{name}", _answering(jobs, made), methods=["POST"])
        for name, made in Questions(states, offered).all.items()
    ]
    routes = [Route("/", show), Route("/assets/{name}", file), *questions, *_looking(opened)]
    return Guard(Starlette(routes=routes), token, hosts)


def _looking(opened: OpenedRun | OpenedComparison | None) -> list[Any]:
    """Make the routes of a finished run: its page, each prompt, and all together."""
    if opened is None:
        return []
    from starlette.responses import JSONResponse, Response, StreamingResponse
    from starlette.routing import Route

    one_at_a_time = asyncio.Lock()

    async def answer(gather: Callable[[], Any]) -> Response:
        try:
            async with one_at_a_time:
                return JSONResponse(await asyncio.to_thread(gather))
        except ElimError as error:
            return JSONResponse({"error": str(error), "hint": error.hint}, 400)

    async def show(_: Request) -> Response:
        return Response(await asyncio.to_thread(lambda: opened_page(opened.front)), media_type="text/html")

    async def prompt(request: Request) -> Response:
        return await answer(lambda: opened.prompt(request.path_params["index"]))

    async def together(_: Request) -> Response:
        return await answer(opened.together)

    async def archive(_: Request) -> Response:
        try:
            pieces = await asyncio.to_thread(opened.archive)
        except ElimError as error:
            return JSONResponse({"error": error.message, "hint": error.hint}, 400)
        return StreamingResponse(pieces, media_type="application/zip", headers=SAVED)

    return [
        Route("/run", show),
        Route("/api/tables", archive),
        Route("/api/prompt/{index:int}", prompt),
        Route("/api/together", together),
    ]


def _answering(jobs: JobQueue, made: Callable[[Any], Work]) -> Callable[[Request], Any]:
    """Make the function that answers a request with a line of JSON for each message of its job."""

    async def handle(request: Request) -> Response:
        from starlette.responses import JSONResponse, StreamingResponse

        try:
            job = jobs.ask(made(await _body(request)))
        except ElimError as error:
            return JSONResponse({"error": error.message, "hint": error.hint}, 400)
        return StreamingResponse(_lines(job, request), media_type="application/x-ndjson")

    return handle


async def _body(request: Request) -> Any:
    content = b""
    async for part in request.stream():
        content += part
        if len(content) > MOST_BODY:
            raise ElimError("the request is too large", "ask for a shorter prompt")
    try:
        return json.loads(content)
    except ValueError as error:
        raise ElimError("the request is not JSON") from error


async def _lines(job: Job, request: Request) -> AsyncIterator[bytes]:
    messages = job.messages()
    watch = asyncio.create_task(_left(job, request))
    try:
        while (message := await asyncio.to_thread(next, messages, None)) is not None:
            yield json.dumps(message).encode() + b"\n"
    finally:  # all is told, or the page went away
        watch.cancel()
        job.cancelled.set()


async def _left(job: Job, request: Request) -> None:
    """Cancel a job as soon as the page goes away, as what it asked next waits for it."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    job.cancelled.set()
