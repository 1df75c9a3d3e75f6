"""Scores of a model for all items or for candidates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_disent.errors import UserError
from recbole_disent.registry import resolve, spec_of

# Pairs (user, item) that a model without full_sort_predict scores at once.
_PAIRS = 2**18


class Scorer:
    """Scores of one model.

    Args:
        model: a RecBole model. Candidates are scored by ``score_candidates(batch, candidates)`` if the
            model has this method, else by ``full_sort_predict``, else by ``predict`` on every pair.
        dataset: any part, for the features of items.
        device: device of the model.

    Attributes:
        vectors: result of :func:`item_vectors`, for a full ranking in tiles; None: no such ranking.
        largest: float (), greatest absolute value of the item table of *vectors*; None: not known.
    """

    def __init__(self, model: Any, dataset: Any, device: torch.device) -> None:
        self.model, self.dataset, self.device = model, dataset, device
        self.n_items: int = dataset.item_num
        self._sorts_all = True
        self.vectors: tuple[Tensor, Callable[[Any], Tensor]] | None = None
        self.largest: Tensor | None = None

    def all_items(self, batch: Interaction) -> Tensor:
        """Scores of all items, padding included: float (B, n_items), a new tensor."""
        scores = self._full_sort(batch)
        if scores is None:
            every = torch.arange(self.n_items, device=self.device).expand(len(batch), -1)
            scores = self._one_by_one(batch, every)
        return checked(scores)

    def candidates(self, batch: Interaction, candidates: Tensor) -> Tensor:
        """Scores of candidates, int64 (B, C) -> float (B, C); a candidate 0 stands for none and gets -inf."""
        candidates = candidates.to(self.device)
        if hasattr(self.model, "score_candidates"):
            scores = self.model.score_candidates(batch.to(self.device), candidates)
        else:
            everything = self._full_sort(batch)
            if everything is not None:
                scores = everything.gather(1, candidates)
            else:
                scores = self._one_by_one(batch, candidates)
        return checked(scores).masked_fill(candidates == 0, float("-inf"))

    def _full_sort(self, batch: Interaction) -> Tensor | None:
        if self._sorts_all:
            try:
                return self.model.full_sort_predict(batch.to(self.device)).view(-1, self.n_items)
            except NotImplementedError:
                self._sorts_all = False
        return None

    def _one_by_one(self, batch: Interaction, candidates: Tensor) -> Tensor:
        """``predict`` on every pair, in slices."""
        rows, columns = candidates.shape
        step = max(1, _PAIRS // columns)
        found = []
        for begin in range(0, rows, step):
            part = candidates[begin : begin + step]
            pairs = batch[slice(begin, begin + step)].to(self.device).repeat_interleave(columns)
            items = Interaction({self.dataset.iid_field: part.flatten().cpu()})
            pairs.update(self.dataset.join(items).to(self.device))
            found.append(self.model.predict(pairs).view(-1, columns))
        return torch.cat(found)


def item_vectors(model: Any, name: str) -> tuple[Tensor, Callable[[Any], Tensor]] | None:
    """Return what makes the scores of a model inner products.

    Args:
        model: a model in evaluation mode.
        name: value of the configuration key ``model``.

    Returns:
        The item table, float (n_items, D), and a function batch -> query vectors, float (B, K, D); None for
        a model whose scores are not known to be the best of K inner products.
    """
    score = getattr(type(model), "full_sort_predict", None)
    if score is None or "full_sort_predict" in vars(model):
        return None
    with torch.no_grad():
        try:
            if hasattr(model, "query_vectors"):
                # A subclass from elsewhere may score in another way.
                ours = score.__module__.startswith("recbole_disent.")
                return (model.item_table(), model.query_vectors) if ours else None
            path = spec_of(name).vectors
            if path and score.__module__.startswith("recbole."):
                table, queries = resolve(path)(model)
                return table, queries
        except NotImplementedError:
            pass
    return None


def checked(scores: Tensor) -> Tensor:
    """Return scores after checking that they are numbers.

    Raises:
        UserError: a score is NaN.
    """
    if scores.numel() and scores.amax().isnan():  # amax of a NaN is NaN
        raise UserError(
            "the model gave scores that are not numbers (NaN), because its training diverged; lower "
            "learning_rate"
        )
    return scores
