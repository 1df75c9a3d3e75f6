"""The interface of this package's models: items and sequences are vectors, scores are inner products."""

from __future__ import annotations

from typing import Any

import torch
from recbole.model.abstract_recommender import SequentialRecommender
from recbole.utils import InputType
from torch import Tensor, nn


class VectorRecommender(SequentialRecommender):
    """A sequential model that scores an item by the best of K inner products.

    score(item | sequence) = max over k of item_table()[item] . query_vectors(sequence)[k]

    A subclass implements :meth:`item_table`, :meth:`query_vectors` and ``calculate_loss``. This class
    implements RecBole's scoring methods with the two sets of vectors.
    """

    input_type = InputType.POINTWISE

    def item_table(self) -> Tensor:
        """Vectors of all items, padding included: float (n_items, D)."""
        raise NotImplementedError

    def query_vectors(self, interaction: Any) -> Tensor:
        """Vectors of the sequences of a batch: float (B, K, D)."""
        raise NotImplementedError

    def row_tables(self) -> dict[nn.Embedding, int]:
        """Tables that a training step of this configuration looks up by rows, never as a whole.

        The step must look up the rows through the module. The key ``item_optimizer`` can then update only the
        rows of a step.

        Returns:
            embedding -> about how many rows a step looks up; no table by default.
        """
        return {}

    def full_sort_predict(self, interaction: Any) -> Tensor:
        """Scores of all items, padding included: float (B, n_items)."""
        queries, table = self.query_vectors(interaction), self.item_table().T
        best = queries[:, 0] @ table
        for k in range(1, queries.shape[1]):
            best = torch.maximum(best, queries[:, k] @ table)
        return best

    def score_candidates(self, interaction: Any, candidates: Tensor) -> Tensor:
        """Scores of the candidates of each sequence.

        Args:
            interaction: B sequences.
            candidates: int64 (B, C), item ids.

        Returns:
            float (B, C).
        """
        items = self.item_table()[candidates]
        return (self.query_vectors(interaction) @ items.transpose(1, 2)).amax(1)

    def predict(self, interaction: Any) -> Tensor:
        """Score of one item for each sequence: float (B,)."""
        return self.score_candidates(interaction, interaction[self.ITEM_ID][:, None])[:, 0]
