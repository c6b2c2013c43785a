"""Render chat templates for another process, so that one that hangs ends only this.

A template is code of others: it can loop for hours, or ask for a number of a hundred million digits, which no
exception interrupts. The kernel ends this process instead, by a timer of CPU time, and refuses it memory.

One JSON request a line on standard input, one JSON answer a line on what was standard output.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping
from datetime import datetime
from typing import Any


def main() -> None:
    """Answer requests until the other side closes the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, whose end closes the pipe
    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)
    from transformers.utils import chat_template_utils

    _limit_memory(int(sys.argv[1]))
    for line in sys.stdin:
        request = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, float(request["seconds"]))
        try:
            answer = _answer(chat_template_utils, request)
        except (Exception, RecursionError) as error:
            answer = {"error": type(error).__name__, "reason": str(error)[:2000]}
        signal.setitimer(signal.ITIMER_PROF, 0)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _answer(utils: Any, request: Mapping[str, Any]) -> dict[str, Any]:
    clock: list[str] = []
    now = datetime.fromisoformat(request["now"])

    def strftime_now(format: str) -> str:
        clock.append(request["now"])
        return now.strftime(format)

    template = request["template"]
    utils._compile_jinja_template(template).globals["strftime_now"] = strftime_now
    texts, _ = utils.render_jinja_template(
        [request["messages"]],
        tools=request["tools"] or None,
        chat_template=template,
        add_generation_prompt=request["generation_prompt"],
        continue_final_message=request["continues"],
        **request["variables"],
    )
    if len(texts[0]) > request["longest"]:
        reason = f"it writes {len(texts[0]):,} characters, more than {request['longest']:,}"
        return {"error": "TooLong", "reason": reason}
    return {"text": texts[0], "clock": bool(clock)}


def _limit_memory(more: int) -> None:
    """Let this process have some bytes more than it has now."""
    try:
        import resource
        from pathlib import Path

        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        most = pages * resource.getpagesize() + more
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    except (ImportError, OSError, ValueError):
        return  # elsewhere than on Linux the time is the only limit


if __name__ == "__main__":
    main()
