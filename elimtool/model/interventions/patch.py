"""Patch activations: put values recorded in another run in the place of the model's own.

Source: causal tracing and interchange interventions, Meng et al. 2022 (arXiv 2202.05262), Zhang and Nanda
2024 (arXiv 2309.16042): exchange tokens one for one, so that positions of the two prompts agree.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from elimtool.errors import ElimError, checked_fields
from elimtool.model.interventions.component import Component
from elimtool.model.interventions.edits import Change, Cut, Site
from elimtool.model.interventions.recording import Recording, dtype_name
from elimtool.model.store import digest_file

if TYPE_CHECKING:
    from elimtool.model.interventions.reference import ReferenceActivations
    from elimtool.model.model import Model
    from elimtool.model.view import Encoded

_PLACE = re.compile(r"(?:residual[. ])(-1|[0-9]{1,6})|embed")
_POSITIONS = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")

FORMS = "give FILE, or FILE@SITE[:POSITIONS],... with sites such as 17.3, mlp.12, residual.9 or embed"


@dataclass(frozen=True, slots=True)
class Place:
    """What to patch: a head, an MLP, or the residual stream after a layer, at all positions or some."""

    site: Site
    head: int | None
    first: int | None = None
    last: int | None = None

    @classmethod
    def parse(cls, text: str) -> Place | None:
        """Read ``17.3``, ``mlp.12:4`` or ``residual.9:4-6``; ``None`` if it has another form."""
        name, colon, where = text.strip().partition(":")
        at = _POSITIONS.fullmatch(where) if colon else None
        if colon and at is None:
            return None
        first = int(at[1]) if at else None
        last = int(at[2] or at[1]) if at else None
        if found := _PLACE.fullmatch(name):
            return cls(Site(int(found[1] or -1), "residual"), None, first, last)
        part = Component.parse(name)
        if part is not None and part.expert is None:  # recordings do not hold single experts
            return cls(part.site, part.head, first, last)
        return None

    def __str__(self) -> str:
        name = {
            "heads": f"{self.site.layer}.{self.head}",
            "mlp": f"mlp.{self.site.layer}",
            "residual": f"residual.{self.site.layer}" if self.site.layer >= 0 else "embed",
        }[self.site.kind]
        if self.first is None:
            return name
        return f"{name}:{self.first}" + (f"-{self.last}" if self.last != self.first else "")


@checked_fields
@dataclass(frozen=True, slots=True)
class Patch:
    """Put recorded activations in the place of the model's own, at the same positions.

    The file is from ``elimtool trace --save-activations``: of the same model and dtype, and of a prompt with
    the same number of tokens.

    Attributes:
        file: The recording.
        places: Where to patch, such as ``mlp.12`` or ``residual.9:4``; empty for everything in the file.
    """

    file: str
    places: tuple[str, ...] = ()

    needs_reference: ClassVar[bool] = False
    extends: ClassVar[bool] = False

    def __post_init__(self) -> None:
        read = []
        for text in self.places:
            place = Place.parse(text)
            if place is None or (place.first or 0) > (place.last or 0):
                raise ElimError(
                    f"`patch` must name a head, an MLP or the residual stream, got '{text}'", FORMS
                )
            read.append(str(place))
        object.__setattr__(self, "places", tuple(read))

    @classmethod
    def parse(cls, text: str) -> Patch:
        """Read ``FILE``, ``FILE@SITE,SITE`` or the canonical form.

        Raises:
            ElimError: A site is not valid.
        """
        text = text.removeprefix("patch ")
        file, at, sites = text.rpartition("@")  # paths may have an @ too
        if at and "/" not in sites and not sites.endswith(".safetensors"):
            return cls(file, tuple(sites.split(",")))
        return cls(text)

    def __str__(self) -> str:
        return f"patch {self.file}" + (f"@{','.join(self.places)}" if self.places else "")

    def check(self, model: Model) -> None:
        """Refuse a recording of another model or dtype, and places that it does not hold."""
        held = Recording.load(self.file)
        if held.facts["weights_sha256"] != model.hashes()["weights_sha256"]:
            raise ElimError(
                f"`patch` {self.file} was recorded from other weights, of {held.facts['model']}",
                f"record it with the model {model.name}",
            )
        if held.facts["dtype"] != dtype_name(model.dtype):
            raise ElimError(
                f"`patch` {self.file} was recorded in {held.facts['dtype']},"
                f" the model runs in {dtype_name(model.dtype)}",
                f"use `dtype='{held.facts['dtype']}'`",
            )
        for place in self._places():
            Component(max(place.site.layer, 0), place.head).check(model, "patch")
            if place.site not in held.values:
                raise ElimError(f"`patch` {self.file} does not hold {place}", "record it again")

    def sha256(self) -> str:
        """Return the digest of the recording."""
        return digest_file(Path(self.file))

    def fits(self, one: Encoded) -> None:
        """Refuse a prompt of another length, and positions outside it."""
        self.edits(one, 0, None)

    def edits(
        self, one: Encoded, n_layers: int, reference: ReferenceActivations | None
    ) -> list[Change | Cut]:
        """Put the recorded values at their positions."""
        del n_layers, reference
        held = Recording.load(self.file)
        length = len(one.token_ids)
        if len(held.token_ids) != length:
            raise ElimError(
                f"`patch` {self.file} has {len(held.token_ids):,} tokens, the prompt has {length:,}",
                "patch between prompts of one length: exchange tokens one for one",
            )
        places = self._places() or [Place(site, None) for site in held.values]
        return [_change(place, held, length, self.file) for place in places]

    def note(self, one: Encoded) -> str:
        """Have nothing to say."""
        del one
        return ""

    def _places(self) -> list[Place]:
        return [place for text in self.places if (place := Place.parse(text))]


def _change(place: Place, held: Recording, length: int, file: str) -> Change:
    first, last = place.first or 0, length - 1 if place.last is None else place.last
    if last >= length:
        raise ElimError(
            f"`patch` {file}@{place}: position {last} is outside the prompt's {length:,} tokens",
            f"give 0 to {length - 1}",
        )
    values = held.values[place.site][first : last + 1]
    if place.head is not None:
        size = values.shape[-1] // held.n_heads
        values = values[:, place.head * size : (place.head + 1) * size]
    return Change(place.site, place.head, tuple(range(first, last + 1)), values)
