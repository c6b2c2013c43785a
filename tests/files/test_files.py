"""Files that users write: what is wrong with them is said with file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from elimtool.errors import ElimError
from elimtool.files.yaml import decode, read_text, read_yaml


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "given.yaml"


def test_text_is_read_as_utf8_without_its_mark(file: Path) -> None:
    file.write_bytes(b"\xef\xbb\xbfcaf\xc3\xa9\r\n\xef\xbb\xbf")
    assert read_text(file) == "café\r\n\ufeff"


def test_a_missing_file_is_named(file: Path) -> None:
    with pytest.raises(ElimError, match=r"cannot read .*given\.yaml: No such file") as caught:
        read_yaml(file)
    assert str(file) in caught.value.message


def test_a_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(ElimError, match=r"cannot read .*: Is a directory"):
        read_text(tmp_path)


@pytest.mark.parametrize("path", ["a\0b", "x" * 5000])
def test_a_path_that_cannot_be_is_refused(path: str) -> None:
    with pytest.raises(ElimError, match="cannot read"):
        read_text(Path(path))


@pytest.mark.parametrize(
    ("raw", "where"),
    [
        (b"\xff", "byte 0xff on line 1"),
        (b"one\ntwo\nth\xe9ree\n\xff", "byte 0xe9 on line 3"),
        (b"\xef\xbb\xbfone\n\x80", "byte 0x80 on line 2"),
        (b"\xef\xbb\xbf\xc3", "byte 0xc3 on line 1"),
        (b"ok\n\xe2\x82", "byte 0xe2 on line 2"),
    ],
)
def test_bytes_that_are_not_utf8_are_found(raw: bytes, where: str, file: Path) -> None:
    file.write_bytes(raw)
    with pytest.raises(ElimError) as caught:
        read_text(file)
    assert where in caught.value.message
    assert str(file) in caught.value.message
    assert "iconv" in caught.value.hint
    with pytest.raises(ElimError, match=f"standard input is not UTF-8: {where}"):
        decode(raw, "standard input")


def test_yaml_is_read(file: Path) -> None:
    file.write_text("\ufeffmodel: smollm2\nsamplers: [hf, vllm]\n", encoding="utf-8")
    assert read_yaml(file) == {"model": "smollm2", "samplers": ["hf", "vllm"]}


def test_numbers_without_a_point_are_numbers(file: Path) -> None:
    file.write_text("a: 1e-9\nb: -2E+3\nc: 12e4\nd: '1e-9'\n")  # 12e4 may be a commit
    assert read_yaml(file) == {"a": 1e-9, "b": -2000.0, "c": "12e4", "d": "1e-9"}


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing\n"])
def test_an_empty_file_holds_nothing(text: str, file: Path) -> None:
    file.write_text(text)
    assert read_yaml(file) is None


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: 1\nb: [1, 2\nc: 3\n", 3),
        ("a: b: c\n", 1),
        ("a: 1\n\tb: 2\n", 2),
        ('a: 1\nb: "open\n', 3),
        ("a: 1\nb: !!python/object:os.system {}\n", 2),
        ("a: 1\n--- \nb: 2\n", 2),
        ("a: 1\nb: 2\na: 3\n", 3),
        ("a: *nowhere\n", 1),
        ("a:\n- b: 1\n  c: {d: 1, e: 2,\n       d: 3}\n", 4),
        ("a: 1\n? [1, 2]\n: 3\n? {}\n: 4\n", 2),
    ],
)
def test_yaml_that_is_none_is_found_by_line(text: str, line: int, file: Path) -> None:
    file.write_text(text)
    with pytest.raises(ElimError) as caught:
        read_yaml(file)
    assert caught.value.message.startswith(f"{file}:{line}: ")
    assert "\n" not in caught.value.message


def test_control_characters_in_yaml_are_found_by_line(file: Path) -> None:
    file.write_text("a: 1\nb: \x00\n")
    with pytest.raises(ElimError, match=r":2: not valid YAML: .*#x0000"):
        read_yaml(file)


def test_yaml_nested_beyond_reason_is_refused(file: Path) -> None:
    file.write_text("[" * 5000)
    with pytest.raises(ElimError, match="not valid YAML"):
        read_yaml(file)


@pytest.mark.parametrize("kind", ["utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("text", ["model: smollm2\n", "x", "Grüße aus Köln\n"])
def test_utf16_with_a_mark_and_without_is_not_taken_as_text(kind: str, text: str) -> None:
    with pytest.raises(ElimError, match=r"given is UTF-16, not UTF-8 \(convert it"):
        decode(text.encode(kind), "given")


def test_a_zero_byte_in_a_text_does_not_make_it_utf16() -> None:
    assert decode(b"a\0b, and more", "given") == "a\0b, and more"


@pytest.mark.parametrize(
    "text",
    [
        "a: 2024-02-30",
        "a: 1" + "0" * 5000,
        "!!timestamp x",
        "{[1]: 2}",
        "[" * 100_000,
        "!!binary é",
        "&a [*a]",
    ],
)
def test_values_that_no_yaml_reader_can_make_are_said_with_the_file(text: str, file: Path) -> None:
    file.write_text(text, encoding="utf-8")
    try:
        read_yaml(file)
    except ElimError as error:
        assert str(file) in error.message
