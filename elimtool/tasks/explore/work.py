"""Do what pages ask one after the other, in one thread, and tell each how far it is."""

from __future__ import annotations

import queue
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from elimtool.errors import ElimError
from elimtool.tasks.explore.kept import Cancelled

MOST_WAITING = 8
"""Requests that may wait; one more is refused."""

Work = Callable[[Callable[[str], None], Callable[[], None]], Any]
"""Does something, given what to tell and what to ask whether to stop."""


@dataclass(eq=False)
class Job:
    """One request. It tells ``{"say": text}``, and last ``{"done": result}`` or ``{"error", "hint"}``."""

    work: Work
    told: queue.Queue[dict[str, Any]] = field(default_factory=queue.Queue)
    cancelled: threading.Event = field(default_factory=threading.Event)

    def say(self, text: str) -> None:
        """Tell how far it is, and stop where nobody waits."""
        self.stop()
        self.told.put({"say": text})

    def stop(self) -> None:
        """Raise ``Cancelled`` where nobody waits any more."""
        if self.cancelled.is_set():
            raise Cancelled

    def messages(self) -> Iterator[dict[str, Any]]:
        """Yield what it tells until it is over; an empty object now and then, to find who went away."""
        while True:
            try:
                message = self.told.get(timeout=0.25)
            except queue.Empty:
                message = {"error": "cancelled", "hint": ""} if self.cancelled.is_set() else {}
            yield message
            if "done" in message or "error" in message:
                return

    def run(self) -> None:
        """Do the work and tell its end."""
        try:
            self.told.put({"done": self.work(self.say, self.stop)})
        except Cancelled:
            self.told.put({"error": "cancelled", "hint": ""})
        except ElimError as error:
            self.told.put({"error": error.message, "hint": error.hint})
        except MemoryError:
            self.told.put({"error": "there is not enough memory for it", "hint": "ask for a shorter prompt"})


class JobQueue:
    """A thread that does jobs in the order in which they came, until it is closed.

    Args:
        most_waiting: Jobs that may wait.
    """

    def __init__(self, most_waiting: int = MOST_WAITING) -> None:
        self._jobs: queue.Queue[Job | None] = queue.Queue(most_waiting)
        self._open: list[Job] = []
        self._closed = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._serve, daemon=True, name="explore")
        self._thread.start()

    def __enter__(self) -> JobQueue:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, work: Work) -> Job:
        """Queue a job.

        Raises:
            ElimError: Too many are waiting.
        """
        job = Job(work)
        with self._lock:
            if ahead := len(self._open):
                job.told.put({"say": f"waiting for {ahead} other request{'s' * (ahead > 1)}"})
            try:
                self._jobs.put_nowait(job)
            except queue.Full:
                raise ElimError("too many requests are waiting", "try again when one is done") from None
            self._open.append(job)
        return job

    def cancel(self) -> None:
        """Tell all that they are cancelled; what runs ends at its next layer."""
        self._closed = True
        for job in tuple(self._open):  # without the lock, as a signal may come while it is held
            job.cancelled.set()

    def close(self) -> None:
        """Cancel all and wait for what runs: a pass must not be cut off with the process."""
        self.cancel()
        with suppress(queue.Full):  # then it is not waiting for jobs, and sees that it is closed
            self._jobs.put_nowait(None)
        self._thread.join()

    def _serve(self) -> None:
        while not self._closed:
            job = self._jobs.get()
            if job is None:
                return
            try:
                if not job.cancelled.is_set():
                    job.run()
            except Exception as error:  # a defect must not end the thread that all pages wait for
                traceback.print_exc()
                job.told.put({"error": f"this is a defect of elimtool: {error!r}", "hint": ""})
            finally:
                with self._lock:
                    self._open.remove(job)
