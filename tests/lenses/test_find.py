"""The fitted lens in the cache: made once, made anew if it is damaged, and read without a lock."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from elimtool.lenses import find
from elimtool.lenses.corpus import shipped
from elimtool.model import atomic


def test_a_damaged_lens_is_fitted_anew_and_a_whole_one_needs_no_lock(
    llama: Any, llama_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ELIMTOOL_CACHE", str(tmp_path))
    few = shipped("fit")[:2]
    monkeypatch.setattr(find, "shipped", lambda _name: few)
    path = find.ensure_lens(llama)
    whole = path.read_bytes()
    path.write_bytes(whole[:1000])
    assert not find.has_lens(llama_directory)
    with pytest.warns(UserWarning, match="is damaged, and is made anew"):
        lens, _ = find.open_lens("auto", llama)
    assert lens.name == "ridge" and path.read_bytes() == whole and find.has_lens(llama_directory)

    def refuse(*_arguments: Any) -> None:
        raise AssertionError("a lock needs a cache that can be written")

    monkeypatch.setattr(atomic, "locked", refuse)
    assert find.open_lens("ridge", llama)[0].name == "ridge" and find.ensure_lens(llama) == path
