"""Silence transformers while it loads."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from logging import getLogger


@contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers' progress bars and advice; errors are still raised."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    spreading = getLogger("accelerate")  # it says of every offloaded model that it is offloaded
    level = spreading.level
    spreading.setLevel("ERROR")
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        spreading.setLevel(level)
        if bars:
            logging.enable_progress_bar()
