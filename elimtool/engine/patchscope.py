"""Fill the table ``patchscope``: what the model says a position holds after each layer.

Beside every rank stand two others: that in the prompt as it is, and that where residuals of other text are
put in at the same layer. A word that the patched prompt likes anyway is not what the residual held.
"""

from __future__ import annotations

from functools import cached_property

import torch
from jaxtyping import Float, Int

from elimtool.engine.records import columns_of
from elimtool.lenses.corpus import shipped
from elimtool.lenses.patchscope import Patchscope, residuals_of
from elimtool.lenses.stream import cut_windows
from elimtool.metrics.columns import Columns
from elimtool.model.model import Model
from elimtool.model.view import Encoded

OTHERS = 5
"""Passages of other text whose residuals are put in as well."""
OTHER_TOKENS = 34
"""Tokens of each."""
DECODED = 3
"""Tokens that are written after the arrow."""


class PatchscopeReader:
    """Fills ``patchscope`` for one prompt after another.

    Args:
        model: The model, without interventions.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.scope = Patchscope(model)

    def tables(self, one: Encoded) -> dict[str, Columns]:
        """Read the probed positions of a prompt."""
        residuals = residuals_of(self.model, one.token_ids, one.positions)
        rows = [
            row
            for place, position in enumerate(one.positions)
            for row in self._at(one, position, residuals[:, place])
        ]
        return {"patchscope": columns_of(rows)}

    def _at(
        self, one: Encoded, position: int, residuals: Float[torch.Tensor, "layers width"]
    ) -> list[dict[str, object]]:
        puts = [(layer, residual) for layer, residual in enumerate(residuals, start=-1)]
        found = self.scope.after(puts)
        decoded = self.scope.greedy(puts, found, DECODED)
        source = self._repeated(one.token_ids[position])
        tokens = {source: True} | {
            target.token_id: False for target in one.targets if target.token_id != source
        }
        ids = torch.tensor(list(tokens))
        ranks, plain = _ranks(found, ids), _ranks(self._unpatched, ids)[0]
        others = torch.stack([_ranks(each, ids) for each in self._others]).double().quantile(0.5, dim=0)
        names = self.model.tokenizer.texts(ids.tolist())
        return [
            {
                "prompt_id": one.prompt_id,
                "position": position,
                "layer": layer,
                "token": names[at],
                "token_id": token,
                "is_source": is_source,
                "rank": int(ranks[layer + 1, at]),
                "prob": float(found[layer + 1, token].exp()),
                "rank_unpatched": int(plain[at]),
                "rank_control": float(others[layer + 1, at]),
                "decoded": decoded[layer + 1],
            }
            for layer, _ in puts
            for at, (token, is_source) in enumerate(tokens.items())
        ]

    def _repeated(self, token: int) -> int:
        """Return the token that repeats one after an arrow: with a space before it, where there is such."""
        text = self.model.tokenizer.texts([token])[0]
        if not text[:1].isalnum():
            return token
        spaced = self.model.tokenizer.continuation("->", f" {text}", special=False)
        return spaced[0] if len(spaced) == 1 else token

    @cached_property
    def _unpatched(self) -> Float[torch.Tensor, "1 vocab"]:
        return self.scope.after([None])

    @cached_property
    def _others(self) -> list[Float[torch.Tensor, "layers vocab"]]:
        """Outputs where residuals of other text are put in, layer by layer."""
        documents = shipped("held_out")
        some = documents[:: len(documents) // OTHERS][:OTHERS]
        found = []
        for document in some:
            ids = cut_windows(self.model, [document], OTHER_TOKENS, OTHER_TOKENS)[0]
            residuals = residuals_of(self.model, ids, [len(ids) - 1])[:, 0]
            found.append(self.scope.after(list(enumerate(residuals, start=-1))))
        return found


def _ranks(
    logprobs: Float[torch.Tensor, "rows vocab"], ids: Int[torch.Tensor, " k"]
) -> Int[torch.Tensor, "rows k"]:
    """Rank tokens in each row: 1 + the number of tokens that are more probable."""
    return torch.stack([(logprobs > logprobs[:, one, None]).sum(-1) + 1 for one in ids.tolist()], -1)
