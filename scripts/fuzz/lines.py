"""Make command lines: sound ones, and such with one fault or two."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from damage import damage
from options import Offer, Options, Part
from words import CHAINS, OF_PROMPT, OF_RUN, PAIRS, QUERIES, TARGETS, WORDS

FAULTS = (0, 0, 0, 0, 1, 1, 1, 1, 1, 2)
"""How many faults an input has; one of these at random."""


class Lines(Options):
    """Makes the parts of one sound command line; a method for each command."""

    def trace(self) -> list[Part]:
        """A prompt, what to follow, what to measure."""
        more = [*self.measured(self.text), self.span, lambda: [Part("--ablate-each")]]
        more.append(lambda: self.of("--save-activations", "kept", "kept.safetensors"))
        follow = self.follow() if self.chance.random() < 0.8 else []
        return self.prompt() + follow + self.some(more, 3) + self.loading() + self.printed()

    def batch(self) -> list[Part]:
        """A prompt file, a directory, what to measure."""
        more: list[Offer] = [
            *self.measured(None),
            lambda: self.of("--shard-size", 1, 2, 256),
            lambda: self.of("--batch-size", 1, 3),
            lambda: self.of("--max-errors", 0, 3, "50%"),
            lambda: self.of("--shard", "0/1", "1/2"),
            lambda: [Part("--dedupe")],
            lambda: self.of("-t", *TARGETS),
        ]
        out = Part("-o", self.chance.choice(("new", "n\u00e9w x", "deep/er")))
        given = self.file("", self.files.prompts())
        return [*given, out, *self.some(more, 3), *self.loading(), *self.printed(False)]

    def check(self) -> list[Part]:
        """A check file, and a model or a run."""
        more: list[Offer] = [
            lambda: [Part("--strict")],
            lambda: [Part("--junit", "new.xml")],
            lambda: self.of("--batch-size", 1, 2),
            lambda: self.of("--explain", "c0", "c1"),
            lambda: self.of("--only", "c*", "*"),
            lambda: [Part(self.chance.choice(("--update", "--update-new")))],
        ]
        given = self.file("", self.files.checks())
        if self.chance.random() < 0.3:
            run = self.file("--run", self.files.copied("run"))
            against = self.file("--against", self.files.copied("run")) if self.chance.random() < 0.4 else []
            return given + run + against + self.some(more[:2], 1) + self.printed(False)
        if self.chance.random() < 0.4:
            given += self.file("--baseline", self.files.copied("baseline.json"))
        return given + self.some(more, 2) + self.model() + self.printed(json=False)

    def compare(self) -> list[Part]:
        """Two runs, models, chains or prompts, or a saved comparison."""
        f, seeds = self.files, self.seeds
        read: list[Offer] = [self.seed, lambda: self.of("--position", "last", "-1")]
        pair = self.chance.choice(PAIRS)
        prompts: list[Offer] = [
            lambda: [Part("--injection")],
            lambda: self.of("--continue", 1, 2),
            lambda: self.of("--controls", 0, 3),
            lambda: self.of("--concept", "a=a, b", "x=Paris", "y= the,a"),
            lambda: [Part("--paraphrase", "A B C D")],
            self.chains,
            lambda: self.of("--lens", "raw"),
            lambda: self.of("--sinks", "none", "0"),
        ]
        drafted: list[Offer] = [
            lambda: self.of("--draft-chain", "greedy", "probabilistic", *CHAINS),
            lambda: self.of("--tokens", 1, 3),
            self.chains,
        ]
        forms: list[Offer] = [
            lambda: self.file("", f.copied("run")) + self.file("", f.copied("run")) + self.some(read, 1),
            lambda: self.file("", f.copied("batch")) + self.file("", f.copied("batch")) + self.some(read, 1),
            lambda: [*self.file("", f.copied("run")), Part("--samplers", "hf"), Part("--samplers", "vllm")],
            lambda: self.file("", f.copied("comparison")),
            lambda: self.file("", f.prompts()) + self.model() + self.model(),
            lambda: (
                [
                    *self.file("", f.prompts()),
                    Part("-m", str(seeds / "model")),
                    Part("--dtype", "float32"),
                    Part("--dtype", "bfloat16"),
                ]
            ),
            lambda: (
                self.file("", f.prompts())
                + self.model()
                + [Part("--samplers", one) for one in self.chance.sample(CHAINS, 2)]
            ),
            lambda: (
                self.file("", f.prompts())
                + self.model()
                + self.model()
                + [Part("--speculative"), *self.some(drafted, 2)]
            ),
        ]
        forms += [
            lambda: (
                [Part("--prompt", one) for one in pair] + self.follow() + self.some(prompts, 2) + self.model()
            )
        ] * 5
        return self.chance.choice(forms)() + self.printed()

    def attribute(self) -> list[Part]:
        """A prompt and a target, by some methods."""
        methods = (
            "leave-one-out",
            "leave-one-out-masked",
            "knockout",
            "knockout-later",
            "gradient-x-input",
            "integrated-gradients",
            "contextcite",
            "all",
        )
        more: list[Offer] = [
            lambda: self.of("--method", *methods),
            lambda: self.of("--method", *methods),
            lambda: self.of("--units", "auto", "tokens", "sentences"),
            lambda: self.of("--windows", 1, 3),
            lambda: self.of("--ablations", 16, 20),
            lambda: self.of("--steps", 1, 8),
            lambda: self.of("--at", "last", "-1", "written:1", "2"),
            lambda: self.of("--chain", *CHAINS),
            lambda: self.of("--sinks", "none", "0"),
            self.span,
            self.seed,
        ]
        model = self.model() + self.some([lambda: self.of("--dtype", "float32", "float64")], 1)
        if self.chance.random() < 0.2:
            given = self.file("--prompts", self.files.prompts()) + self.of("-t", *TARGETS)
            return given + self.some(more[:6], 2) + model + self.printed()
        return self.prompt() + self.follow() + self.some(more, 3) + model + self.printed()

    def locate(self) -> list[Part]:
        """A clean prompt and a corrupt one, or noise."""
        clean, corrupt = self.chance.choice(PAIRS)
        given = [Part("", clean)] if self.chance.random() < 0.8 else self.file("-f", self.files.text(clean))
        other = (
            [Part("--corrupt", corrupt)]
            if self.chance.random() < 0.7
            else [Part("--noise", clean.split()[1])]
        )
        more: list[Offer] = [
            lambda: self.of("--sites", "residual", "attention", "mlp,head", "all"),
            lambda: [Part("--fine")],
            lambda: [Part("--target-space", "exact")],
            lambda: [Part("--chat")],
            self.seed,
        ]
        return (
            given + other + self.follow(several=False) + self.some(more, 2) + self.loading() + self.printed()
        )

    def report(self) -> list[Part]:
        """A run or a comparison, as a page or a picture."""
        found = self.chance.choice(("run", "run", "batch", "comparison", "attributed", "located"))
        given = self.file("", self.files.copied(found))
        if found == "run" and self.chance.random() < 0.6:
            name = self.chance.choice((*OF_RUN, *OF_PROMPT))
            kind = self.chance.choice(("png", "svg", "pdf"))
            which = [] if name in OF_RUN else [*self.of("--prompt", "one", "two")]
            return [*given, Part("--figure", name), *which, Part("-o", f"new.{kind}")]
        if found == "comparison" and self.chance.random() < 0.6:
            return [*given, *self.of("--figure", "outcomes"), *self.of("-o", "new.png", "new.svg")]
        return given + self.some(
            [lambda: self.of("-o", "new.html", "x" * 200, "x" * 300, "n\u00e9w"), lambda: [Part("-q")]], 2
        )

    def lens_fit(self) -> list[Part]:
        """Texts or those that are shipped, and a file."""
        texts = self.file("", self.files.text()) + self.some([lambda: self.file("", self.files.text())], 1)
        more: list[Offer] = [lambda: self.of("--tokens", 200, 400), lambda: self.of("--window", 34, 64)]
        return [
            *texts,
            Part("-o", "new.safetensors"),
            *self.some(more, 2),
            *self.loading(),
            *self.some([lambda: [Part("-q")]], 1),
        ]

    def lens_eval(self) -> list[Part]:
        """Texts, and a lens or none."""
        lens: list[Offer] = [
            lambda: self.file("--lens", self.files.copied(f"{self.name}-lens.safetensors")),
            lambda: [Part("--lens", "raw")],
        ]
        more: list[Offer] = [
            lambda: self.of("--samples", 1, 16, 64),
            lambda: self.of("--window", 34, 64),
            *lens[:1],
        ]
        dtype = self.some([lambda: self.of("--dtype", "float32", "bfloat16")], 1)
        shipped = [Part("-m", str(self.seeds / self.name))]
        return (
            self.file("", self.files.text())
            + self.some(more, 3)
            + shipped
            + dtype
            + self.some([lambda: [Part("--json")]], 1)
        )

    def _of_tokens(self) -> list[Part]:
        """What every question on tokens is asked with."""
        more: list[Offer] = [
            lambda: self.of("--in", "unembed", "embed"),
            lambda: self.of("--top", 1, 5),
            lambda: self.file("--lens", self.files.copied(f"{self.name}-lens.safetensors")),
        ]
        model = [Part("-m", str(self.seeds / self.name))]
        return [*self.some(more, 2), *model, *self.as_json()]

    def lens_near(self) -> list[Part]:
        """A word, or a layer of a prompt."""
        if self.chance.random() < 0.6:
            fold = self.some([lambda: [Part("--fold")]], 1)
            return [*self.of("", "x", "a", " Paris", "."), *fold, *self._of_tokens()]
        model = [Part("-m", str(self.seeds / self.name))]
        return [Part("--prompt", self.text), *self.of("--layer", -1, 0, 1), *model, *self.as_json()]

    def lens_analogy(self) -> list[Part]:
        """Three words, at times further pairs."""
        words = [part for _ in range(3) for part in self.of("", "x", "y", "z", "a")]
        return [*words, *self.some([lambda: self.of("--pair", "b,c", "x,y")], 1), *self._of_tokens()]

    def lens_axis(self) -> list[Part]:
        """A channel, or words."""
        if self.chance.random() < 0.5:
            given = self.of("", 0, 3, 7)
        else:
            given = [Part("", "x"), Part("", "y"), *self.some([lambda: self.of("", "a", "b")], 1)]
        return [*given, *self.of("--tokens", 128, 200), *self._of_tokens()]

    def as_json(self) -> list[Part]:
        """Nothing, or as JSON."""
        return self.some([lambda: [Part("--json")]], 1)

    def models_pull(self) -> list[Part]:
        """A model that is there, or one that cannot be fetched without a network."""
        return [*self.model(""), Part("--no-lens"), *self.some([lambda: [Part("-q")]], 1)]

    def models_verify(self) -> list[Part]:
        """A model."""
        return self.model("") + self.some(
            [lambda: [Part("--json")], lambda: [Part("-q")], lambda: [Part("--dtype", "float32")]], 2
        )

    def run_status(self) -> list[Part]:
        """A run."""
        found = self.chance.choice(("run", "batch", "batch", "slice", "comparison"))
        return self.file("", self.files.copied(found)) + self.as_json()

    def run_show(self) -> list[Part]:
        """A run, a table, some rows and columns."""
        found = self.file("", self.files.copied(self.chance.choice(("run", "run", "batch", "comparison"))))
        table = self.chance.choice(("lens", "survival", "sampling", "verdicts", ""))
        if not table or self.chance.random() < 0.2:
            return found + self.as_json()
        more: list[Offer] = [
            lambda: self.of("--where", "position>=0", "prompt_id=one", "prompt_id=zzz", "position<1"),
            lambda: self.of("--columns", "prompt_id", "prompt_id,position"),
            lambda: self.of("--limit", 0, 1, 10**9),
        ]
        return [*found, Part("", table), *self.some(more, 2), *self.as_json()]

    def run_merge(self) -> list[Part]:
        """The two halves of a batch."""
        halves = self.file("", self.files.copied("slice")) + self.file("", self.files.copied("other"))
        return [*halves, Part("-o", "new"), *self.some([lambda: [Part("-q")]], 1)]

    def query(self) -> list[Part]:
        """SQL over one or two runs."""
        asked = self.chance.choice(QUERIES)
        found = [
            self.files.copied(self.chance.choice(("run", "batch"))) for _ in range(self.chance.choice((1, 2)))
        ]
        return [Part("", asked), *(part for one in found for part in self.file("", one)), *self.as_json()]

    def audit(self) -> list[Part]:
        """A suite with groups, a run of it, or a run without any."""
        own: list[Offer] = [lambda: self.of("--reference", "one", "two"), lambda: self.of("--match", 0, 2.5)]
        if self.chance.random() < 0.4:
            run = self.file("", self.files.copied(self.chance.choice(("groups", "groups", "batch"))))
            return [*run, *self.some([*own, self.seed], 2), *self.printed(False)]
        suite = self.file("", self.files.copied("groups.yaml"))
        more = [*own, self.chains, lambda: self.of("--ablate", "mlp.1", "0.0")]
        return [*suite, *self.some(more, 3), *self.loading(), *self.printed()]

    def sweep(self) -> list[Part]:
        """A suite of wordings, one run, or two as a factor."""
        own: list[Offer] = [
            lambda: self.of("--outcome", "survives", "logprob", "rank", "margin:min_p", "margin:top_p"),
            lambda: self.of("--chain", *CHAINS[:3]),
        ]
        if self.chance.random() < 0.4:
            runs = ["grid", *self.chance.choice(((), ("grid",), ("run",)))]
            given = [part for one in runs for part in self.file("", self.files.copied(one))]
            return [*given, *self.some([*own, self.seed], 2), *self.printed(False)]
        suite = self.file("", self.files.copied("grid.yaml"))
        more = [*own, self.chains, lambda: self.of("--concept", "a=a, b", "x=Paris", "y= the,a")]
        if self.chance.random() < 0.2:
            more += [lambda: self.of("--seeds", 2, 3), lambda: self.of("--generate", 2, 3)]
        elif self.chance.random() < 0.2:
            more.append(lambda: self.of("--budget", 20, 40))
        return [*suite, *self.some(more, 3), *self.loading(), *self.printed()]

    def coverage(self) -> list[Part]:
        """Minimal pairs, prompts with targets, or a run of either, and at times a taxonomy."""
        taxonomy: Offer = lambda: self.file("--taxonomy", self.files.copied("taxonomy.yaml"))  # noqa: E731
        if self.chance.random() < 0.4:
            run = self.file("", self.files.copied(self.chance.choice(("pairs", "pairs", "run"))))
            return [*run, *self.some([taxonomy, self.seed], 2), *self.printed(False)]
        given = self.files.copied("pairs.jsonl") if self.chance.random() < 0.7 else self.files.prompts()
        more = [taxonomy, self.chains, lambda: self.of("--rule", "lm-eval", "no-prefix", "continuation")]
        return [*self.file("", given), *self.some(more, 3), *self.loading(), *self.printed()]

    def map(self) -> list[Part]:
        """A model, a directory, text of its own."""
        more: list[Offer] = [
            lambda: self.of("--only", "roles"),
            lambda: self.of("--passages", 12, 40),
            lambda: self.of("--shard-size", 4, 99),
        ]
        model = self.file("", self.files.copied("model"))
        return [
            *model,
            Part("-o", "new"),
            *self.some(more, 2),
            *self.of("--tokens", 64),
            *self.printed(False),
        ]

    def export(self) -> list[Part]:
        """A run as training examples."""
        more: list[Offer] = [
            lambda: self.of("--outcomes", "outranked", "late_eliminated,never_surfaced"),
            lambda: [Part(self.chance.choice(("--with-sampler", "--allow-partial")))],
            lambda: self.of("--per-template", 0, 1, 8),
            lambda: self.of("--hold-out", 0, 0.5),
            self.seed,
        ]
        run = self.file("", self.files.copied(self.chance.choice(("run", "batch"))))
        return [*run, *self.of("--format", "sft", "dpo", "kto"), Part("-o", "new.jsonl"), *self.some(more, 2)]

    def explore(self) -> list[Part]:
        """A run, a comparison or neither, and what the page offers."""
        opened = self.chance.choice(("run", "batch", "comparison", ""))
        more: list[Offer] = [
            lambda: self.of("--lens", "raw", "auto"),
            lambda: self.of("--amateur", self.seeds / "model"),
            lambda: self.of("--token", "abcdefghijklmnop"),
            self.patch,
        ]
        given = self.file("", self.files.copied(opened)) if opened else []
        return [*given, Part("--no-browser"), *self.some(more, 2), *self.loading()]

    def samplers_show(self) -> list[Part]:
        """A stage, an engine or a chain."""
        if self.chance.random() < 0.5:
            return self.file("", self.files.chain()) + self.as_json()
        return [Part("", self.chance.choice((*CHAINS, "top_p", "xtc", "penalties"))), *self.as_json()]

    def samplers_explain(self) -> list[Part]:
        """An engine or a chain."""
        if self.chance.random() < 0.5:
            return self.file("", self.files.chain()) + self.as_json()
        return [Part("", self.chance.choice(CHAINS)), *self.as_json()]


MAKERS = {
    "trace": Lines.trace,
    "attribute": Lines.attribute,
    "batch": Lines.batch,
    "check": Lines.check,
    "compare": Lines.compare,
    "locate": Lines.locate,
    "report": Lines.report,
    "lens fit": Lines.lens_fit,
    "lens eval": Lines.lens_eval,
    "lens near": Lines.lens_near,
    "lens analogy": Lines.lens_analogy,
    "lens axis": Lines.lens_axis,
    "models list": Lines.as_json,
    "models pull": Lines.models_pull,
    "models verify": Lines.models_verify,
    "run status": Lines.run_status,
    "run show": Lines.run_show,
    "run merge": Lines.run_merge,
    "query": Lines.query,
    "audit": Lines.audit,
    "coverage": Lines.coverage,
    "sweep": Lines.sweep,
    "map": Lines.map,
    "export": Lines.export,
    "doctor": Lines.as_json,
    "explore": Lines.explore,
    "samplers list": Lines.as_json,
    "samplers show": Lines.samplers_show,
    "samplers explain": Lines.samplers_explain,
}
"""What makes a command's parts; a command that is not here gets words at random."""


def line(command: Any, words: Sequence[str], chance: random.Random, seeds: Path) -> tuple[list[str], int]:
    """Make the words of a command line, and say how many faults it has.

    Args:
        command: Typer's own record of the command, for options that no sound line has.
        words: The command's name.
        chance: What everything is drawn from.
        seeds: Folder of whole files.
    """
    lines = Lines(chance, seeds)
    maker = MAKERS.get(" ".join(words))
    parts = maker(lines) if maker else []
    faults = chance.choice(FAULTS) if maker else 2
    for _ in range(faults):
        _spoil(parts, command, lines)
    found = [*words, *(word for part in parts for word in part.words)]
    return [one.replace("\0", "0") for one in found], faults


def _spoil(parts: list[Part], command: Any, lines: Lines) -> None:
    """Put one fault into a command line: in a file, a value, an option too many or one that is missing."""
    chance = lines.chance
    there = [part for part in parts if part.file is not None and part.file.exists()]
    valued = [part for part in parts if part.value is not None]
    way = chance.random()
    if there and way < 0.55:
        damage(chance.choice(there).file, chance)
    elif valued and way < 0.8:
        chance.choice(valued).value = chance.choice(WORDS)
    elif parts and way < 0.85:
        parts.remove(chance.choice(parts))
    elif parts and way < 0.9:
        parts.append(chance.choice(parts))
    else:
        one = chance.choice([param for param in command.params if param.param_type_name == "option"])
        flag = chance.choice([*one.opts, *one.secondary_opts])
        parts.append(Part(flag, None if one.is_flag else chance.choice(WORDS)))
