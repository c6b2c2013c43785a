"""Options of a batch: how a prompt file is worked through, as opposed to what is measured."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from elimtool.errors import ElimError, nearest
from elimtool.prompts.chat import PLAIN_PINNED, ChatSettings
from elimtool.run.selection import HEADS

ENGINES = ("local", "ray")
SHARD_SIZE = 256


def single_heads(asked: bool | None, tables: Collection[str] | None) -> bool | None:
    """Decide whether a batch measures single heads: over a whole file only on request.

    Args:
        asked: The user's choice, if any.
        tables: The tables that the user names, if any.

    Returns:
        A value for ``TraceOptions.heads``.
    """
    return False if asked is None and HEADS.isdisjoint(tables or ()) else asked


@dataclass(frozen=True, slots=True)
class MostErrors:
    """Limit on failed prompts above which a run stops: a number, or a share of the prompts done."""

    number: int | None = None
    share: float | None = None

    @classmethod
    def parse(cls, text: str | None) -> MostErrors:
        """Read ``N`` or ``P%``; ``None`` for no limit.

        Raises:
            ElimError: The text has neither form.
        """
        if text is None:
            return cls()
        if re.fullmatch(r"\d+", text):
            return cls(number=int(text))
        if re.fullmatch(r"\d+(\.\d+)?%", text) and float(text[:-1]) <= 100:
            return cls(share=float(text[:-1]) / 100)
        raise ElimError(f"`max_errors` must be a number such as 20, or a share such as 5%, got '{text}'")

    def exceeded(self, errors: int, done: int) -> bool:
        """Whether ``errors`` among ``done`` prompts are too many."""
        if self.number is not None:
            return errors > self.number
        return self.share is not None and errors > self.share * done


@dataclass(frozen=True, slots=True)
class Slice:
    """The shards that one of several processes works on: those with ``shard % count == index``."""

    index: int = 0
    count: int = 1

    @classmethod
    def parse(cls, text: str | None) -> Slice:
        """Read ``i/n`` with i from 0.

        Raises:
            ElimError: The text has another form, or i is out of range.
        """
        if text is None:
            return cls()
        found = re.fullmatch(r"(\d+)/(\d+)", text)
        if not found or not int(found[1]) < int(found[2]):
            hint = "give i/n with i from 0 to n - 1, such as 0/8 for the first of eight"
            raise ElimError(f"`shard` '{text}' is not valid", hint)
        return cls(int(found[1]), int(found[2]))

    def has(self, shard: int) -> bool:
        """Whether a shard belongs to this slice."""
        return shard % self.count == self.index

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


@dataclass(frozen=True, slots=True)
class RayOptions:
    """Which Ray cluster to use, and how much of it.

    Attributes:
        address: ``HOST:PORT`` or ``auto``; ``None`` for a cluster that is running, else this machine.
        actors: Number of workers, one model each; ``None`` for as many as fit the cluster.
        cpus: CPUs per worker.
        gpus: GPUs per worker.
        attempts: Times that a shard is tried on workers that die before its prompts become error rows.
    """

    address: str | None = None
    actors: int | None = None
    cpus: float = 1
    gpus: float = 0
    attempts: int = 3

    def __post_init__(self) -> None:
        if self.actors is not None and self.actors < 1:
            raise ElimError(f"`actors` must be at least 1, got {self.actors}")
        if self.cpus < 0 or self.gpus < 0 or self.cpus + self.gpus == 0:
            raise ElimError("an actor needs a CPU or a GPU", "set `cpus` or `gpus` to more than 0")
        if self.attempts < 1:
            raise ElimError(f"`attempts` must be at least 1, got {self.attempts}")


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """How a prompt file is worked through.

    Attributes:
        shard_size: Records in a shard, which becomes one part of each table.
        batch_size: Prompts in one forward pass at most; ``None`` to choose by device and memory.
        max_errors: Failed prompts above which the run stops.
        dedupe: Keep the first of several records with one id, instead of refusing them.
        slice: The shards to work on.
        targets: Continuations to follow, for prompts that name none of their own.
        foils: Continuations to contrast them with, likewise.
        chat: What chat templates are given, where a record does not say.
        engine: ``local`` or ``ray``.
        ray: Options of the Ray engine.
        label: The user's name for the run.
    """

    shard_size: int = SHARD_SIZE
    batch_size: int | None = None
    max_errors: MostErrors = MostErrors()
    dedupe: bool = False
    slice: Slice = Slice()
    targets: tuple[str, ...] = ()
    foils: tuple[str, ...] = ()
    chat: ChatSettings = PLAIN_PINNED
    engine: str = "local"
    ray: RayOptions = RayOptions()
    label: str | None = None

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise ElimError(f"`engine` '{self.engine}' is not valid", nearest(self.engine, ENGINES))
        if self.shard_size < 1:
            raise ElimError(f"`shard_size` must be at least 1, got {self.shard_size}")
        if self.batch_size is not None and self.batch_size < 1:
            raise ElimError(f"`batch_size` must be at least 1, got {self.batch_size}")
