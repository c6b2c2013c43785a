"""Make the options that several commands share, with sound values."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from files import Files
from words import CHAINS, ODD, SECOND, TABLES, TARGETS, TEXTS


@dataclass
class Part:
    """An argument, or an option with its value.

    Attributes:
        flag: The option; empty for an argument.
        value: What it is given; ``None`` for a switch.
        file: A file of the current folder that the value names.
    """

    flag: str
    value: str | None = None
    file: Path | None = None

    @property
    def words(self) -> list[str]:
        """The words of the command line."""
        return [self.flag] * bool(self.flag) + ([] if self.value is None else [self.value])


Offer = Callable[[], list[Part]]


class Options:
    """Makes options that several commands share, and the files that they name, in the current folder."""

    def __init__(self, chance: random.Random, seeds: Path) -> None:
        self.chance, self.seeds = chance, seeds
        self.files = Files(chance, seeds)
        self.text, self.chat = chance.choice(TEXTS), False
        self.name = chance.choice(("model", "model", "model", "mixture"))

    def of(self, flag: str, *values: Any) -> list[Part]:
        """Give an option one of several values."""
        return [Part(flag, str(self.chance.choice(values)))]

    def file(self, flag: str, path: Path, more: str = "") -> list[Part]:
        """Give an option a file, and what is behind its name."""
        return [Part(flag, f"{path}{more}", path)]

    def some(self, offers: Sequence[Offer], most: int) -> list[Part]:
        """Take none to ``most`` of some offers."""
        taken = self.chance.sample(offers, min(len(offers), self.chance.randrange(most + 1)))
        return [part for offer in taken for part in offer()]

    def model(self, flag: str = "-m") -> list[Part]:
        """Name one of the models, mostly in place, at times in a copy that can be damaged."""
        if self.chance.random() < 0.2:
            return self.file(flag, self.files.copied(self.name))
        return [Part(flag, str(self.seeds / self.name))]

    def loading(self) -> list[Part]:
        """Name the model, and at times how it is loaded."""
        dtype = [lambda: self.of("--dtype", "float32", "float64", "bfloat16", "auto")]
        return self.model() + self.some([*dtype, lambda: self.of("--device", "cpu", "auto")], 1)

    def prompt(self) -> list[Part]:
        """Give the prompt as an argument or in a file, plain or as a chat."""
        given = (
            [Part("", self.text)]
            if self.chance.random() < 0.8
            else self.file("-f", self.files.text(self.text))
        )
        if self.chance.random() < 0.7:
            return given
        self.chat = True
        chat: list[Offer] = [
            lambda: self.of("--system", "Be brief.", *ODD[5:8]),
            lambda: self.of("--template-var", "x=1", "enable_thinking=false", "y=[1]"),
            lambda: self.file("--tools", self.files.copied("tools.json")),
            lambda: self.of("--now", "2026-01-31", "2026-01-31T12:00:00"),
        ]
        return [*given, Part("--chat"), *self.some(chat, 2)]

    def follow(self, several: bool = True) -> list[Part]:
        """Name a target, and at times a foil."""
        targets = self.chance.sample(TARGETS, self.chance.choice((1, 1, 2)) if several else 1)
        foil = self.of("--foil", "Rome", "zz") if self.chance.random() < 0.3 else []
        return [Part("-t", one) for one in targets] + foil

    def span(self) -> list[Part]:
        """Name a part of the prompt."""
        return [Part("--span", f"s={self.chance.choice(self.text.split())}")]

    def chains(self) -> list[Part]:
        """Name chains, in line or in files."""
        if self.chance.random() < 0.4:
            return self.file("--samplers", self.files.chain())
        return [Part("--samplers", one) for one in self.chance.sample(CHAINS, self.chance.choice((1, 1, 2)))]

    def walk(self) -> list[Part]:
        """Let the model write."""
        chain = self.chance.choice(CHAINS)
        named = (
            [Part("--samplers", chain), Part("--chain", chain)]
            if self.chance.random() < 0.5
            else self.chains()
        )
        return [Part("--generate", str(self.chance.choice((1, 2, 3)))), *named, *self.seed()]

    def against(self) -> list[Part]:
        """Move away from what follows a second prompt, also while writing."""
        more: list[Offer] = [lambda: self.of("--generate", 1, 3), lambda: self.of("--through", *SECOND[0])]
        return [*self.of("--against", *SECOND[1]), *self.of("--samplers", *SECOND[0]), *self.some(more, 1)]

    def amateur(self) -> list[Part]:
        """Move away from a second model, also while writing."""
        chains = ("contrastive=0.5", "contrastive=0.5,contrastive.share=0.02,top_k=3", "llama.cpp")
        more: list[Offer] = [lambda: self.of("--generate", 1, 3), lambda: self.of("--through", *chains)]
        return [*self.model("--amateur"), *self.of("--samplers", *chains), *self.some(more, 1)]

    def seed(self) -> list[Part]:
        """Set the seed."""
        return self.of("--seed", 0, 7, 2**31, 2**63 - 1)

    def patch(self) -> list[Part]:
        """Patch from the first text, which fits no longer prompt."""
        if self.chat or self.text != TEXTS[0]:
            return []
        kept = self.files.copied(f"{self.name}-kept.safetensors")
        return self.file("--patch", kept, self.chance.choice(("", "@1.2")))

    def changes(self, text: str | None) -> list[Offer]:
        """Offer interventions; a knockout only where the text is known."""
        part = ("0.0", "1.2", "mlp.0", "mlp.3", "L1H1")
        offers: list[Offer] = [
            lambda: (
                self.of("--ablate", *part)
                + self.some([lambda: self.of("--ablate-with", "zero", "resample")], 1)
            ),
            lambda: self.of("--scale", "1.2=0", "mlp.1=2.0", "0.3=-1", "mlp.2=1e30"),
            self.patch,
            lambda: [Part("--confirm"), Part("--heads")],
        ]
        if text:
            layers = self.chance.choice(("0", "1-2", "0-3"))
            word = self.chance.choice(text.split())
            offers.append(
                lambda: [Part("--knockout", f"{word}@{layers}"), *self.of("--knockout-from", "last", "later")]
            )
        return offers

    def beaming(self) -> list[Part]:
        """Say how a beam search ends."""
        return [*self.of("--length-penalty", "0", "1.5"), *self.of("--early-stopping", "no", "yes", "never")]

    def measured(self, text: str | None) -> list[Offer]:
        """Offer what a trace and a batch measure."""
        return [
            lambda: self.of("--position", "last", "0", "-1", "all", "0,1", "0-1"),
            self.chains,
            self.walk,
            lambda: self.of("--sinks", "auto", "none", "0", "0,1"),
            lambda: self.of("--lens", "raw", "auto"),
            lambda: self.file("--lens", self.files.copied(f"{self.name}-lens.safetensors")),
            lambda: [Part("--target-space", "exact")],
            lambda: [Part("--no-model-sampling")],
            lambda: self.of("--through", *CHAINS),
            self.against,
            self.amateur,
            lambda: self.of("--futures", "2", "5"),
            lambda: [Part("--patchscope")],
            lambda: [
                *self.of("--generate", 1, 3),
                *self.of("--paths", "greedy,sampled:3", "least-entropy:2"),
            ],
            lambda: self.of("--continue-with", " of the text", "", "\u00e9"),
            lambda: self.of("--repeat", "2", "3"),
            lambda: [*self.of("--generate", 1, 4), *self.of("--beams", 1, 3), *self.beaming()],
            lambda: [
                *self.of("--generate", 1, 4),
                *self.of("--grammar-texts", 1, 3),
                *self.of("--regex", "a|b", "[ab]*", "("),
            ],
            lambda: [*self.of("--along", "sentences", "lines", "3"), *self.of("--cue", " so", "\n\n", "x")],
            lambda: [*self.of("--generate", 1, 3), *self.of("--watch", "eos", "<|end|>", "a")],
            lambda: [Part("--heads")],
            lambda: self.of("--attention-head", "0.0", "3.3"),
            lambda: [Part("--tables", self.chance.choice(TABLES))],
            *self.changes(text),
        ]

    def printed(self, out: bool = True, json: bool = True) -> list[Part]:
        """Say what is printed and written."""
        kept: list[Offer] = (
            [lambda: self.of("-o", "new", "new/deep/er", "n\u00e9w \u202e", "x" * 200)] if out else []
        )
        more: list[Offer] = [lambda: [Part("--json")]] if json else []
        more += [lambda: [Part("-q")], *kept]
        return self.some([*more, lambda: self.file("--config", self.files.copied("config.yaml"))], 2)
