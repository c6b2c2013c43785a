"""Render chat templates in a process of their own, within limits of time, memory and size."""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from elimtool.errors import ElimError
from elimtool.files.package import child_environment, python_command

SECONDS = 3
"""Most CPU time of one rendering; common templates take milliseconds."""
MEMORY = 1 << 30
"""Most bytes that the process may take beyond what it starts with."""
LONGEST = 1 << 24
"""Most characters of a rendered chat: more than any model's context."""

INSTEAD = "repair the template, or give the prompt as plain text"

_CHILD = "elimtool.model.render_child"


@dataclass(frozen=True, slots=True)
class Rendered:
    """A chat as text, and whether its template read the clock."""

    text: str
    clock: bool = False


def render(request: Mapping[str, Any], origin: str) -> Rendered:
    """Render a chat by a template.

    Args:
        request: ``template``, ``messages``, ``tools``, ``variables``, ``now`` (ISO 8601),
            ``generation_prompt`` and ``continues``.
        origin: Where the template comes from, for messages.

    Raises:
        ElimError: The template refuses the messages, fails, or exceeds a limit.
    """
    line = json.dumps({**request, "seconds": SECONDS, "longest": LONGEST})
    with _LOCK:
        answer = _RENDERER.ask(line)
    if (error := answer.get("error")) is None:
        return Rendered(answer["text"], answer["clock"])
    reason = " ".join(str(answer["reason"]).split())
    subject = f"the model's chat template ({origin})"
    if error in ("TooLong", "MemoryError", "Ended"):
        what = reason if error != "MemoryError" else f"needs more than {MEMORY >> 20} MiB of memory"
        raise ElimError(f"{subject} was stopped: {what}", INSTEAD)
    if error in ("TemplateError", "TemplateRuntimeError", "UndefinedError", "TypeError", "ValueError"):
        raise ElimError(
            f"{subject} refuses these messages: {reason}",
            "check the roles and their order, or give the prompt as plain text",
        )
    raise ElimError(f"{subject} fails with {error}: {reason}", INSTEAD)


class _Renderer:
    """The process that renders; started when first needed, and anew after it was ended."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._owner = 0

    def ask(self, line: str) -> dict[str, Any]:
        """Send a request and wait for its answer; a process that ends instead gives an ``Ended``."""
        process = self._running()
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(line + "\n")
            process.stdin.flush()
            if answer := process.stdout.readline():
                return dict(json.loads(answer))
        except BrokenPipeError:
            pass
        except BaseException:  # interrupted: the answer would be taken for that of the next request
            self.close()
            raise
        code = process.wait()
        self.close()
        if code == -signal.SIGPROF:
            return {"error": "Ended", "reason": f"it took more than {SECONDS} s of CPU time"}
        return {"error": "Ended", "reason": f"its process ended with code {code}"}

    def _running(self) -> subprocess.Popen[str]:
        if self._owner != os.getpid():  # a forked copy of this process must not share the pipe
            self._process, self._owner = None, os.getpid()
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                python_command(_CHILD, str(MEMORY)),
                env=child_environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                encoding="ascii",
            )
            atexit.register(self.close)
        return self._process

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        atexit.unregister(self.close)
        if process is None or self._owner != os.getpid():
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    continue


_LOCK = threading.Lock()
_RENDERER = _Renderer()
