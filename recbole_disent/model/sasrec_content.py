"""SASRec with content: the one-stream baseline of TSSR, as in UniSRec's ID + text variant.

Item vector = ID embedding + Linear(content vector); W.-C. Kang, J. McAuley, Self-Attentive
Sequential Recommendation, ICDM 2018, with cross-entropy over all items at every position.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from recbole.model.abstract_recommender import SequentialRecommender
from recbole.utils import InputType
from torch import Tensor

from recbole_disent.data.batch import WindowBatch
from recbole_disent.data.content import check as check_content
from recbole_disent.data.content import item_content
from recbole_disent.errors import UserError
from recbole_disent.model.content import content_embedding, scored_by_content
from recbole_disent.model.encoder import CausalEncoder, init_weights
from recbole_disent.model.functional import score_limit
from recbole_disent.model.next_item import next_item
from recbole_disent.model.packing import Packing


def check(config: Any) -> None:
    """Check the keys of a configuration of SASRecContent together.

    Raises:
        UserError: keys that do not fit together.
    """
    if config["content"]:
        check_content(config)
    elif config["score_by_content"]:
        raise UserError(f"score_by_content: got {config['score_by_content']} with content=False, expected 0")
    if config["hidden_size"] % config["n_heads"]:
        raise UserError(
            f"n_heads: got {config['n_heads']}, expected a divisor of hidden_size={config['hidden_size']}"
        )


class SASRecContent(SequentialRecommender):
    """SASRec whose items are known by id and by content.

    All configuration keys stand in ``properties/model/SASRecContent.yaml`` and ``properties/content.yaml``.
    """

    input_type = InputType.POINTWISE

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        width = config["hidden_size"]
        self.score_limit: int = score_limit(config)
        self.encoder = CausalEncoder(
            self.n_items,
            self.max_seq_length,
            width,
            config["inner_size"],
            config["n_layers"],
            config["n_heads"],
            config["hidden_dropout_prob"],
            config["attn_dropout_prob"],
            config["item_dropout_prob"],
            config["layer_norm_eps"],
            content_embedding(item_content(config, dataset), width, config) if config["content"] else None,
        )
        self.register_buffer("cold", scored_by_content(config, dataset), persistent=False)
        self.apply(partial(init_weights, std=config["initializer_range"]))

    def forward(self, item_seq: Tensor, item_seq_len: Tensor) -> Tensor:
        """State after the last item of each sequence: (B, L), (B,) -> float (B, D)."""
        return self.gather_indexes(self.encoder(item_seq), item_seq_len - 1)

    def calculate_loss(self, interaction: WindowBatch) -> Tensor:
        """Mean over the positions of all windows of the cross-entropy over all items."""
        items = interaction.items
        token = interaction.pairs()[2].to(items.device, non_blocking=True)
        packing = Packing(interaction.lengths - 1, items.device)
        states = self.encoder.packed(self.encoder.item_vectors(items[token]), packing)
        table = self.encoder.item_table()
        return next_item(states, items[token + 1], table, None, self.score_limit) / len(states)

    def _candidates(self) -> Tensor:
        """Vectors that items are scored by: those scored by content alone lack the ID embedding."""
        table = self.encoder.item_table()
        if self.cold is None:
            return table
        return torch.where(self.cold[:, None], table - self.encoder.item_embedding.weight, table)

    def predict(self, interaction: Any) -> Tensor:
        """Score of one item for each sequence: (B,)."""
        return self.score_candidates(interaction, interaction[self.ITEM_ID][:, None])[:, 0]

    def score_candidates(self, interaction: Any, candidates: Tensor) -> Tensor:
        """Scores of the candidates, int64 (B, C), of each sequence: float (B, C)."""
        state = self.forward(interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN])
        return torch.einsum("bcd,bd->bc", self._candidates()[candidates], state)

    def full_sort_predict(self, interaction: Any) -> Tensor:
        """Scores of all items, padding included: (B, n_items)."""
        state = self.forward(interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN])
        return state @ self._candidates().T
