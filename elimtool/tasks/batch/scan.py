"""Count the prompts of a whole file and find ids that occur twice, while the first shards run.

A small file is read at once, a large one by a process of its own, so that the work begins without waiting;
if that process dies, by this one.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

from elimtool.errors import ElimError, Exit
from elimtool.files.package import child_environment, python_command
from elimtool.prompts.file import PromptFile
from elimtool.tasks.batch.plan import Input, count_distinct

log = logging.getLogger(__name__)

AT_ONCE = 2**20
"""Size in bytes up to which a file is read before anything else is done."""


class Scan:
    """The scan of one prompt file.

    Args:
        file: The prompt file, or another input, which is read at once.
        dedupe: Whether later records with the same id are left out instead of refused.
        at_once: Bytes up to which a file is read before anything else is done.

    Raises:
        ElimError: The file is small, and cannot be read to its end, has an id twice, or no record.
    """

    def __init__(self, file: Input, dedupe: bool, at_once: int = AT_ONCE) -> None:
        self.total: int | None = None
        self._file, self._dedupe = file, dedupe
        self._process: subprocess.Popen[str] | None = None
        if not isinstance(file, PromptFile) or file.size <= at_once:
            self._read()
            return
        arguments = [str(file.path), file.format, file.name, str(int(dedupe))]
        self._process = subprocess.Popen(
            python_command("elimtool.tasks.batch.scan", *arguments),
            env=child_environment(),
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # a Ctrl-C is for the run, which then ends this
        )

    def check(self, wait: float | None = 0) -> None:
        """Set ``total`` if the scan has ended.

        Args:
            wait: Seconds to wait; ``None`` for as long as it takes.

        Raises:
            ElimError: The file cannot be read to its end, has an id twice, or no record.
        """
        if self._process is None:
            return
        try:
            out, _ = self._process.communicate(timeout=wait)
        except subprocess.TimeoutExpired:
            return
        died, self._process = self._process.returncode, None
        if died:  # killed, say by somebody short of memory
            log.warning("the process that counts the prompts died (status %d); they are counted here", died)
            self._read()
            return
        found = json.loads(out)
        if "message" in found:
            raise ElimError(found["message"], found["hint"], Exit(found["exit_code"]))
        self._take(found["total"])

    def close(self) -> None:
        """Stop the scan."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _read(self) -> None:
        self._take(count_distinct(self._file.records(), self._file.name, self._dedupe))

    def _take(self, total: int) -> None:
        if not total:
            hint = "give a file with at least one prompt"
            raise ElimError(f"{self._file.name} has no record", hint)
        self.total = total


def main(path: str, kind: str, name: str, dedupe: str) -> None:
    """Print the count, or what is wrong, as JSON; runs in the process of its own."""
    file = PromptFile(Path(path), kind)
    file.name = name
    found: dict[str, Any]
    try:
        found = {"total": count_distinct(file.records(), name, dedupe == "1")}
    except ElimError as error:
        found = {"message": error.message, "hint": error.hint, "exit_code": int(error.exit_code)}
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
