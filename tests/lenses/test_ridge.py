"""The ridge lens's file: what goes in comes out, the same bytes each time, and anything else is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from elimtool.errors import ElimError
from elimtool.lenses.regime import ReferenceStatistics
from elimtool.lenses.ridge import Facts, RidgeLens

FACTS = Facts(
    model="small",
    weights_sha256="a" * 64,
    text_sha256="b" * 64,
    n_tokens=100,
    n_rows=99,
    window=34,
    rule="none",
    gain_q05=0.25,
    elimtool="0",
)


def made(weights: str = "a" * 64) -> RidgeLens:
    generator = torch.Generator().manual_seed(0)
    surprisal, openings = torch.rand(40, generator=generator), torch.rand(20, 32, generator=generator)
    reference = ReferenceStatistics(surprisal, openings, torch.full((7,), 1 / 7).log(), 0.25)
    return RidgeLens(
        torch.randn(3, 4, 4, generator=generator),
        torch.randn(3, 4, generator=generator),
        torch.tensor([0.1, 0.2, 0.3]),
        reference,
        replace(FACTS, weights_sha256=weights),
    )


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    lens = made()
    lens.save(tmp_path / "new" / "one.safetensors")
    back = RidgeLens.load(tmp_path / "new" / "one.safetensors", "one")
    assert back.name == "one" and back.facts == lens.facts
    for name in ("weight", "bias", "penalty"):
        assert torch.equal(getattr(back, name), getattr(lens, name))
    assert torch.equal(back.reference.surprisal, lens.reference.surprisal)
    assert torch.equal(back.reference.openings, lens.reference.openings)
    assert torch.equal(back.reference.prior, lens.reference.prior)
    assert back.reference.gain_q05 == 0.25
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["one.safetensors"]


def test_the_same_lens_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in "abc":
        made().save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == (tmp_path / "c").read_bytes()


def test_it_maps_affinely_and_has_nothing_for_the_last_layer() -> None:
    lens = made()
    x = torch.randn(2, 4)
    expected = torch.stack([lens.weight[1] @ row + lens.bias[1] for row in x])
    torch.testing.assert_close(lens.to_final(x, 0), expected)
    assert lens.to_final(x.bfloat16(), -1).dtype == torch.bfloat16
    for layer in (-2, 2):
        with pytest.raises(ValueError, match="has no map"):
            lens.to_final(x, layer)


def test_another_model_is_refused_by_name_and_weights() -> None:
    made().check("small", "a" * 64)
    with pytest.raises(ElimError) as caught:
        made().check("other", "c" * 64)
    for part in ("small", "other", "a" * 12, "c" * 12, "lens fit -m other"):
        assert part in str(caught.value)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    made().save(whole)
    content = whole.read_bytes()
    bad = {
        "cut short": content[:-8],
        "empty": b"",
        "text": b"not a lens at all, but text",
        "other metadata": content.replace(b'\\"format\\"', b'\\"fromat\\"'),
    }
    for name, data in bad.items():
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(ElimError, match="cannot be used as a ridge lens"):
            RidgeLens.load(path)
    with pytest.raises(ElimError, match="cannot read the lens"):
        RidgeLens.load(tmp_path / "absent")


def test_a_file_of_an_older_format_is_refused_by_its_name(tmp_path: Path) -> None:
    made().save(tmp_path / "now")
    (tmp_path / "then").write_bytes((tmp_path / "now").read_bytes().replace(b"lens-2", b"lens-1"))
    with pytest.raises(ElimError, match=r"format is 'elimtool-ridge-lens-1'.*reads 'elimtool-ridge-lens-2'"):
        RidgeLens.load(tmp_path / "then")


def test_other_safetensors_and_broken_maps_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(2, 2)}, path)
    with pytest.raises(ElimError, match="not a lens of elimtool"):
        RidgeLens.load(path)
    made().save(path, overwrite=True)
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys() if name != "bias"}  # noqa: SIM118
        save_file(tensors, tmp_path / "less", file.metadata())
    with pytest.raises(ElimError, match="it has no bias"):
        RidgeLens.load(tmp_path / "less")
    lens = made()
    lens.weight[1, 0, 0] = torch.nan
    lens.save(path, overwrite=True)
    with pytest.raises(ElimError, match="not finite"):
        RidgeLens.load(path)
    lens.weight = torch.zeros(2, 4, 4)
    lens.save(path, overwrite=True)
    with pytest.raises(ElimError, match="wrong shape"):
        RidgeLens.load(path)


def test_a_place_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ElimError, match=r"cannot write .*file/lens: Not a directory"):
        made().save(tmp_path / "file" / "lens")
