"""Set a model up to measure: resolve the options of a run for it, once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from elimtool.engine.against import other_rows
from elimtool.engine.chains import chain_for, refuse_confusable
from elimtool.engine.concepts import pieces, read_concepts
from elimtool.engine.generated import generated_tables
from elimtool.engine.intake import encode, encode_all, ids_of, refuse_duplicates
from elimtool.engine.options import TraceOptions
from elimtool.engine.plugins import definitions, stated
from elimtool.engine.records import manifest
from elimtool.engine.reference import ensure_reference
from elimtool.engine.requests import REQUESTS
from elimtool.engine.requests.request import Fill, Request
from elimtool.engine.stops import watched_ids
from elimtool.engine.walk import walk, written_for
from elimtool.errors import ElimError
from elimtool.lenses.find import open_lens
from elimtool.lenses.ridge import RidgeLens
from elimtool.metrics.columns import Columns
from elimtool.metrics.metric import Settings
from elimtool.model.endings import Endings, continues
from elimtool.model.entailment import Entailment
from elimtool.model.interventions import Component, Knockout, Patch
from elimtool.model.loading import load_model
from elimtool.model.model import Model
from elimtool.model.prefix import Keys
from elimtool.model.scores import Suspect
from elimtool.model.view import Encoded
from elimtool.numerics import kernels
from elimtool.prompts.prompt import Prompt
from elimtool.run.columns import Table
from elimtool.run.schema import TABLES
from elimtool.run.selection import ALWAYS, FITTED, MIXED, WRITTEN, refuse_dense, refuse_unfitted
from elimtool.samplers import Chain
from elimtool.samplers.combine import needed_rows

if TYPE_CHECKING:
    from elimtool.run.manifest import Manifest

_SCORES = frozenset({"survival"})
"""What is filled of a text of which only the scores of its tokens are wanted."""


def second_model(model: Model, name: str) -> Model:
    """Load the model that stages move away from, as the first is.

    Raises:
        ElimError: It cannot be loaded.
    """
    dtype, device = str(model.dtype).removeprefix("torch."), str(model.device)
    return load_model(name, dtype=dtype, device=device)


class Session:
    """A model with its lens, sampler chains and metric settings; trace, batch, check and compare share it.

    Args:
        model: The model, without interventions.
        options: What to measure.
        compiled: Whether to compile loops over the vocabulary; ``None`` decides by the size of each job.
        amateur: The second model that the options name, where it is loaded already.

    Attributes:
        lens: Lens for layers before the last.
        settings: Settings shared by the metrics.
        kept: Tables that the run keeps.
        measured: Tables that passes and walks fill: those kept, and those that kept ones are derived from.
        brought: Metrics that are not elimtool's own, by the tables that they fill.
        judge: Says which samples mean the same; ``None`` for those that are equal.
        amateur: The second model, whose output stages move away from; ``None`` for none.
        watched: Tokens that are followed through what is generated.

    Raises:
        ElimError: A chain, lens, token to watch, table or intervention does not fit the model.
    """

    def __init__(
        self,
        model: Model,
        options: TraceOptions,
        *,
        compiled: bool | None = None,
        amateur: Model | None = None,
    ) -> None:
        self.model = model
        self.options = options
        self.brought = options.brought  # first, as names of stages and lenses may be known by it alone
        self.judge = None if options.nli is None else Entailment(options.nli)
        self.lens, self._lens = open_lens(options.lens, model)
        reference = self.lens.reference if isinstance(self.lens, RidgeLens) else None
        if reference is None:
            refuse_unfitted(options.tables, model.name)
        if options.tables and not model.has_experts:
            refuse_dense(options.tables, model.name, model.unread_experts)
        chains = tuple(
            chain_for(model, spec, options.model_sampling, options.grammar) for spec in options.samplers
        )
        refuse_confusable(chains)
        selection = options.selection()
        needed = needed_rows(one for chain in chains for one in chain.stages)
        self.amateur = None if options.amateur is None else amateur or second_model(model, options.amateur)
        self.settings = Settings(
            chains,
            options.single_heads,
            selection.measured,
            reference,
            compiled is True,
            attention_of=options.chosen_heads,
            longest=options.longest,
            dropping=options.dropping,
            depth=model.n_layers,
            brought=tuple(dict.fromkeys(self.brought.values())),
            concepts=read_concepts(
                model, options.named_concepts, None if reference is None else reference.prior
            ),
            against=other_rows(model, self.lens, needed, options.against, self.amateur),
        )
        self._decide = compiled is None and model.device.type == "cpu"  # elsewhere they serve samplers alone
        without = frozenset() if reference is not None else FITTED
        without |= frozenset() if model.has_experts else MIXED
        self.kept = selection.kept - without
        self.measured = selection.measured - without - {ALWAYS}
        self.watched = watched_ids(model, options.watch)
        self._walked: dict[str, Mapping[str, Columns]] = {}
        if options.roles is not None:
            options.roles.check(model.hashes()["weights_sha256"], model.name)
        for intervention in options.interventions:
            intervention.check(model)
        for layer, head in options.chosen_heads:
            Component(layer, head).check(model, "attention_of")

    def _weaker(self) -> dict[str, Any]:
        """Describe the second model, if there is one."""
        one = self.amateur
        return {} if one is None else {"amateur": {"model": one.name, **one.hashes()}}

    def priors_of(self, token_ids: Sequence[int] | None) -> list[float] | None:
        """Look up the logarithm of p_0 of tokens (nats); ``None`` without tokens or without a fitted lens."""
        reference = self.settings.reference
        return None if reference is None or token_ids is None else reference.prior[list(token_ids)].tolist()

    @cached_property
    def under(self) -> Model | None:
        """The model under the interventions; ``None`` without any.

        Cached and made late: some interventions need activations on reference text, which take a while.
        """
        changes = self.options.interventions
        if not changes:
            return None
        needed = any(each.needs_reference for each in changes)
        return self.model.intervened(changes, ensure_reference(self.model) if needed else None)

    @cached_property
    def definitions(self) -> dict[str, Table]:
        """Definitions of all tables that passes may fill, those of plugins too."""
        return {**TABLES, **definitions(self.brought)}

    def settings_for(self, one: Encoded) -> Settings:
        """Return what is measured of a prompt: of a text that is scored perhaps its tokens' scores alone."""
        if one.prompt.scored is None or not self.options.scores_only:
            return self.settings
        return replace(self.settings, tables=_SCORES, chains=(), brought=(), output_only=True)

    @property
    def walk_chain(self) -> Chain:
        """The chain to generate with."""
        return self.settings.chains[self.options.walked]

    def encode(self, prompt: Prompt) -> Encoded:
        """Tokenise a prompt, with what the model writes if that is to be read; check the interventions.

        Raises:
            ElimError: The prompt cannot be used.
        """
        options = self.options
        found = (
            written_for(
                *(self.model, prompt, options.position, options.generate, self.walk_chain),
                *(self.seed_of(prompt), self.watched, self.settings.against),
            )
            if options.reads_written
            else None
        )
        if found is None:
            return encode(self.model, prompt, options)
        plain, steps = found
        one = encode(self.model, prompt, options, tuple(step.token for step in steps))
        plain = replace(plain, prompt_id=one.prompt_id)
        self._walked[one.prompt_id] = generated_tables(self, plain, steps, prompt, self.seed_of(prompt))
        return one

    def attempt_all(
        self, prompts: Sequence[Prompt], suspect: Suspect | None = None
    ) -> list[Encoded | Exception]:
        """Tokenise prompts and check that the interventions fit; an error takes an unusable one's place.

        Args:
            prompts: The prompts.
            suspect: Told of errors that no prompt explains.
        """
        if not self.options.reads_written:
            return encode_all(self.model, prompts, self.options, suspect=suspect)
        found: list[Encoded | Exception] = []
        for prompt in prompts:
            try:
                found.append(self.encode(prompt))
            except Exception as error:  # given back: the caller raises it, or makes it the prompt's row
                found.append(error)
        return found

    def walked(self, one: Encoded) -> Mapping[str, Columns]:
        """Return the tables of a prompt's walk, if there is one: made now, or when the prompt was encoded."""
        options = self.options
        if options.reads_written or not options.generate or self.measured.isdisjoint(WRITTEN):
            return self._walked.pop(one.prompt_id, {})
        seed, against = self.seed_of(one.prompt), self.settings.against
        steps = walk(self.model, one, self.walk_chain, options.generate, seed, self.watched, against)
        return generated_tables(self, one, steps, one.prompt, seed)

    def seed_of(self, prompt: Prompt) -> int:
        """Return the seed of what is written after a prompt."""
        return self.options.seed + (prompt.design.seed or 0)

    def goes_on(self, some: Sequence[Encoded]) -> bool:
        """Tell whether tables beside the passes read other endings of these prompts."""
        longest = max(len(one.token_ids) for one in some)
        reads = any(one.reads_endings for one in self._requests)
        return reads and continues(self.model, longest)

    def beside(
        self, one: Encoded, lacking: dict[str, list[str]] | None = None, kept: Keys | None = None
    ) -> Mapping[str, Columns]:
        """Fill the tables of a prompt that take passes of their own: generated text, targets, survivors.

        Args:
            one: The prompt.
            lacking: Gets, by prompt, why tables cannot be filled: of a file, one prompt that is too long for
                one of them keeps all others. ``None`` raises the first error.
            kept: Its keys and values, if its pass has kept them.
        """
        endings = Endings(self.model, one.token_ids, kept)
        found: dict[str, Columns] = {}
        why = []
        for name, fill in self._beside.items():
            try:
                found |= fill(one, endings)
            except ElimError as error:
                if lacking is None:
                    raise
                why.append(f"{name}: {error}")
        if lacking is not None:
            lacking[one.prompt_id] = why
        return found

    @property
    def _requests(self) -> list[Request]:
        """What is asked for beside what every trace fills."""
        return [one for one in REQUESTS if not self.measured.isdisjoint(one.tables)]

    @cached_property
    def _beside(self) -> dict[str, Fill]:
        """What fills the tables beside the passes, by the name of the first of them."""
        asked = ((one.tables[0], one.filler(self)) for one in self._requests)
        return {
            "walk": lambda one, _: self.walked(one),
            **{name: fill for name, fill in asked if fill is not None},
        }

    def encode_all(self, prompts: Sequence[Prompt]) -> list[Encoded | ElimError]:
        """Tokenise prompts; an unusable one raises its error or is replaced by it (``options.errors``).

        Raises:
            ElimError: A prompt cannot be used, or two have the same id.
        """
        found: list[Encoded | ElimError] = []
        for one in self.attempt_all(prompts):
            if isinstance(one, Exception) and (
                self.options.errors == "raise" or not isinstance(one, ElimError)
            ):
                raise one
            found.append(one)
        refuse_duplicates(ids_of(found))
        return found

    def prepare(self, encoded: Sequence[Encoded]) -> None:
        """Decide whether a job is large enough for compiled loops, unless the caller has decided."""
        if self._decide:
            rows = sum(len(one.positions) for one in encoded)
            worth = kernels.worth(self.model.vocab, rows * (self.model.n_layers + 1))
            self.settings = replace(self.settings, compiled=worth)

    def manifest(self, started: str, encoded: Sequence[Encoded] = (), **facts: Any) -> Manifest:
        """Describe the run for ``run.json``.

        Args:
            started: When the run began.
            encoded: Its prompts, for the interventions' notes on each.
            facts: Entries of ``config`` to add to the options or to replace one.
        """
        config = {
            **self.options.stated(),
            "lens": self._lens,
            "compiled": self.settings.compiled,
            **self._concepts(),
            **self._changes(encoded),
            **self._weaker(),
            **facts,
        }
        plugins = stated(self.brought, self.lens, self.settings.chains)
        return manifest(self.model, config, self.settings.chains, started, encoded, plugins)

    def _concepts(self) -> dict[str, Any]:
        """Name the tokens that concepts are followed by, and the words that are none."""
        named = self.options.named_concepts
        if not named:
            return {}
        spell = self.model.tokenizer.texts
        return {
            "concept_tokens": {one.name: spell(list(one.ids)) for one in self.settings.concepts},
            "concept_pieces": {name: pieces(self.model, words) for name, words in named.items()},
        }

    def _changes(self, encoded: Sequence[Encoded]) -> dict[str, Any]:
        """List the interventions in canonical form, the data that they put in, and their notes."""
        changes = self.options.interventions
        facts: dict[str, Any] = {"interventions": [str(each) for each in changes]}
        if self.under is None:
            return facts
        notes = [(one.prompt_id, each.note(one)) for each in changes for one in encoded]
        others = sorted(set(range(self.model.n_layers)) - set(self.model.attending))
        if others and any(isinstance(each, Knockout) for each in changes):
            where = ", ".join(map(str, others))
            said = f"layers {where} have no attention weights: what passes there is not cut"
            notes += [(one.prompt_id, said) for one in encoded]
        return {
            **facts,
            "intervention_notes": [f"{prompt_id}: {note}" for prompt_id, note in notes if note],
            "patched": {each.file: each.sha256() for each in changes if isinstance(each, Patch)},
            "reference": None if self.under.reference is None else dict(self.under.reference.facts),
        }
