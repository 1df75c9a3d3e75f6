"""SASRec with content: the one-stream baseline of TSSR, as in UniSRec's ID + text variant.

The vector of an item is ID embedding + Linear(content vector). The loss is the cross-entropy over all
items at every position. SASRec: W.-C. Kang, J. McAuley, Self-Attentive Sequential Recommendation, ICDM 2018.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from recbole_disent.content.matrix import Content
from recbole_disent.loaders.batch import WindowBatch
from recbole_disent.models.base import VectorRecommender
from recbole_disent.models.causal_encoder import CausalEncoder, init_weights
from recbole_disent.models.content_embedding import content_embedding
from recbole_disent.models.item_loss import ItemLoss, ItemVectors
from recbole_disent.models.popularity import scored_by_content
from recbole_disent.ops.jagged import JaggedBatch


class SASRecContent(VectorRecommender):
    """SASRec whose item vectors combine an ID embedding and content.

    All configuration keys are in ``properties/model/SASRecContent.yaml`` and ``properties/content.yaml``.
    """

    def __init__(self, config: Any, dataset: Any, content: Content | None = None) -> None:
        super().__init__(config, dataset)
        width = config["hidden_size"]
        self.item_loss = ItemLoss(config, dataset)
        self.chosen = self.item_loss.chosen
        self.cross_rank_negatives = self.item_loss.draws
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
            None if content is None else content_embedding(content, width),
        )
        self.register_buffer("cold", scored_by_content(config, dataset), persistent=False)
        self.apply(partial(init_weights, std=config["initializer_range"]))

    def row_tables(self) -> dict[nn.Embedding, int]:
        """The ID embeddings, if the loss draws items."""
        return {self.encoder.item_embedding: self.item_loss.rows_of_a_step} if self.item_loss.draws else {}

    def forward(self, item_seq: Tensor, item_seq_len: Tensor) -> Tensor:
        """State after the last item of each sequence: (B, L), (B,) -> float (B, D)."""
        return self.gather_indexes(self.encoder(item_seq), item_seq_len - 1)

    def calculate_loss(self, interaction: WindowBatch) -> Tensor:
        """Mean over the positions of all windows of the loss of the next item."""
        items = interaction.items
        window, _, token = (part.to(items.device, non_blocking=True) for part in interaction.pairs())
        encoder = self.encoder
        if len(interaction.lengths):
            jagged = JaggedBatch(interaction.lengths - 1, items.device)
            states = encoder.packed(encoder.embed_items(items[token]), jagged)
        else:  # a process without a window takes part in the draws of the others
            states = encoder.item_embedding.weight.new_zeros(0, encoder.item_embedding.weight.shape[1])
        vectors = ItemVectors(encoder.item_table, encoder.embed_items)
        users, rows = interaction.users[window], interaction.number
        return self.item_loss(states, items[token + 1], users, vectors, rows)

    def item_table(self) -> Tensor:
        """Vectors of all items for scoring, without the ID embedding for items scored by content alone."""
        table = self.encoder.item_table()
        if self.cold is None:
            return table
        return torch.where(self.cold[:, None], table - self.encoder.item_embedding.weight, table)

    def query_vectors(self, interaction: Any) -> Tensor:
        """State after the last item of each sequence: float (B, 1, D)."""
        return self.forward(interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN])[:, None]
