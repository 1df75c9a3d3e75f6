"""TSSR: M. Cheng et al., Empowering Sequential Recommendation from Collaborative Signals and
Semantic Relatedness, arXiv 2403.07623."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_disent.content.matrix import Content
from recbole_disent.loaders.batch import WindowBatch
from recbole_disent.models.base import VectorRecommender
from recbole_disent.models.causal_encoder import init_weights
from recbole_disent.models.content_embedding import content_embedding
from recbole_disent.models.item_loss import ItemLoss, ItemVectors
from recbole_disent.models.popularity import scored_by_content
from recbole_disent.models.tssr import losses
from recbole_disent.models.tssr.encoder import BlockSizes, States, TwoStreamEncoder
from recbole_disent.ops.chunked_softmax import max_scores
from recbole_disent.ops.jagged import JaggedBatch
from recbole_disent.parallel import process_group


class Positions(NamedTuple):
    """The P positions of a batch that have a next item, and its W windows.

    Attributes:
        states: float (P, D) each, as :class:`States`.
        targets: int64 (P,), next items.
        places: int64 (P,), position in the window.
        window: int64 (P,), window of each position.
        mean_by_id, mean_by_content: float (W, D), mean over a window's positions, or None.
        users: int64 (W,), user of each window.
    """

    states: States
    targets: Tensor
    places: Tensor
    window: Tensor
    mean_by_id: Tensor | None
    mean_by_content: Tensor | None
    users: Tensor


class TSSR(VectorRecommender):
    """Learns from item ids and from content in two streams, which contrastive losses align.

    All configuration keys are in ``properties/model/TSSR.yaml`` and ``properties/content.yaml``.
    """

    # With several processes, each returns its part of the sum that is the loss of the global batch
    # (recbole_disent/parallel/process_group.py).
    cross_rank_negatives = True

    def __init__(self, config: Any, dataset: Any, content: Content | None = None) -> None:
        super().__init__(config, dataset)
        width = config["hidden_size"]
        self.streams, self.output = config["streams"], config["output"]
        both = self.streams == "both"
        self.user_weight: float = config["user_weight"] if both else 0.0
        self.item_weight: float = config["item_weight"] if both else 0.0
        self.temperature: float = config["temperature"]
        self.max_scores: int = max_scores(config)
        self.item_loss = ItemLoss(config, dataset)
        self.chosen = self.item_loss.chosen
        # The content stream alone has no ID embedding, unless the output layer uses it.
        has_ids = self.streams != "content" or self.output != "linear"
        self.item_embedding = nn.Embedding(self.n_items, width, padding_idx=0) if has_ids else None
        self.content = None
        if self.streams != "id":
            assert content is not None, "the streams with content need content"
            self.content = content_embedding(content, width)
        sizes = BlockSizes(
            width,
            config["inner_size"],
            config["n_heads"],
            config["residual_init"],
            config["hidden_dropout_prob"],
            config["attn_dropout_prob"],
            config["layer_norm_eps"],
        )
        self.encoder = TwoStreamEncoder(
            sizes,
            self.max_seq_length,
            config["n_layers"],
            config["n_cross_layers"],
            self.streams,
            config["gate"],
        )
        self.prediction = nn.Linear(width, self.n_items) if self.output == "linear" else None
        self.apply(partial(init_weights, std=config["initializer_range"]))
        self.register_buffer("cold", scored_by_content(config, dataset), persistent=False)

    def row_tables(self) -> dict[nn.Embedding, int]:
        """The ID embeddings, if the loss draws items or the prediction has a layer of its own."""
        if self.item_embedding is None or (self.prediction is None and not self.item_loss.draws):
            return {}
        return {self.item_embedding: self.item_loss.rows_of_a_step}

    # -- encoding ----------------------------------------------------------------------

    def _embed(self, items: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """e^id and e^con; None for a stream that the model does not have."""
        by_content = self.content(items) if self.content is not None else None
        # With the content stream alone, the ID embedding is used for the output only.
        if self.item_embedding is None or self.streams == "content":
            return None, by_content
        return self.item_embedding(items), by_content

    def encode(self, item_seq: Tensor) -> States:
        """States of sequences.

        Args:
            item_seq: int64 (B, L), left-aligned item ids, 0 is padding.
        """
        return self.encoder(*self._embed(item_seq))

    def forward(self, item_seq: Tensor, item_seq_len: Tensor) -> Tensor:
        """F at the last item of each sequence: float (B, D)."""
        return self.gather_indexes(self.encode(item_seq).joined, item_seq_len - 1)

    def positions(self, batch: WindowBatch) -> Positions:
        """Encode windows without their last items: one position for each next item."""
        device = batch.items.device
        if not len(batch.lengths):
            return self._no_positions(device)
        counts = batch.lengths - 1
        window, _, token = (part.to(device, non_blocking=True) for part in batch.pairs())
        jagged = JaggedBatch(counts, device)
        states = self.encoder(*self._embed(batch.items[token]), jagged)
        share = (1 / counts).to(device, states.joined.dtype, non_blocking=True)[:, None]

        def mean(x: Tensor | None) -> Tensor | None:
            return None if x is None else x.new_zeros(len(counts), x.shape[1]).index_add(0, window, x) * share

        targets = batch.items[token + 1]
        means = mean(states.by_id), mean(states.by_content)
        return Positions(states, targets, jagged.position, window, *means, batch.users)

    def _no_positions(self, device: torch.device) -> Positions:
        """The positions of a process that got no window: empty tensors that have a gradient."""
        weight = self.encoder.position_embedding.weight
        vectors = process_group.empty_with_grad(weight.new_zeros(0, weight.shape[1]), weight)
        by_id = None if self.streams == "content" else vectors
        by_content = None if self.streams == "id" else vectors
        none = torch.zeros(0, dtype=torch.long, device=device)
        return Positions(States(by_id, by_content, vectors), none, none, none, by_id, by_content, none)

    # -- RecBole's interface -----------------------------------------------------------

    def calculate_loss(self, interaction: WindowBatch) -> tuple[Tensor, ...]:
        """Losses of a batch, which the trainer adds: next item, user contrast and item contrast.

        A contrast without a weight is left out. The next-item loss and the item contrast are means over
        positions. The user contrast is a mean over windows; a user has one window, unless the training
        sequence is longer than the maximum length.
        """
        found = self.positions(interaction)
        states, targets, limit = found.states, found.targets, self.max_scores
        positions = process_group.Blocks(len(targets), targets.device)
        users, rows = found.users[found.window], interaction.number
        terms = [self.item_loss(states.joined, targets, users, self._output(), rows, positions)]
        if self.user_weight:
            windows = process_group.Blocks(len(found.users), targets.device)
            users = windows.gather(found.users)
            assert found.mean_by_id is not None
            assert found.mean_by_content is not None
            a, b = windows.gather(found.mean_by_id), windows.gather(found.mean_by_content)
            both = [losses.user_contrast(x, y, self.temperature, users, limit) for x, y in ((b, a), (a, b))]
            terms.append(self.user_weight * torch.stack([*map(windows.own_sum, both)]).sum() / windows.total)
        if self.item_weight:
            by_id, by_content = self._embed(targets)
            places, items = positions.gather(found.places), positions.gather(targets)
            both = [
                losses.item_contrast(positions.gather(state), positions.gather(nexts), places, items, limit)  # type: ignore[arg-type]
                for state, nexts in ((states.by_content, by_id), (states.by_id, by_content))
            ]
            terms.append(
                self.item_weight * torch.stack([*map(positions.own_sum, both)]).sum() / positions.total
            )
        return tuple(terms)

    def _output(self) -> ItemVectors:
        """Vectors and biases of items for the prediction."""
        if self.prediction is not None:
            weight = self.prediction.weight
            return ItemVectors(lambda: weight, lambda items: F.embedding(items, weight), self.prediction.bias)
        ids, content = self.item_embedding, self.content
        assert ids is not None
        if self.output == "both":
            assert content is not None
            return ItemVectors(
                lambda: ids.weight + content.table(), lambda items: ids(items) + content(items)
            )
        return ItemVectors(lambda: ids.weight, ids)

    def item_table(self) -> Tensor:
        """Vectors of all items for scoring, padding included: float (n_items, D), or D + 1 with a bias.

        Raises:
            NotImplementedError: with ``score_by_content``, scores are not inner products.
        """
        if self.cold is not None:
            raise NotImplementedError("score_by_content: scores are not inner products")
        output = self._output()
        table, bias = output.table(), output.bias
        return table if bias is None else torch.cat([table, bias[:, None]], 1)

    def query_vectors(self, interaction: Any) -> Tensor:
        """F at the last item of each sequence, followed by a 1 for a bias: float (B, 1, D or D + 1).

        Raises:
            NotImplementedError: with ``score_by_content``, scores are not inner products.
        """
        if self.cold is not None:
            raise NotImplementedError("score_by_content: scores are not inner products")
        state = self.forward(interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN])
        if self.prediction is not None:
            state = torch.cat([state, torch.ones_like(state[:, :1])], 1)
        return state[:, None]

    def score_candidates(self, interaction: Any, candidates: Tensor) -> Tensor:
        """Scores of the candidates, int64 (B, C), of each sequence: float (B, C)."""
        if self.cold is not None:
            return self.full_sort_predict(interaction).gather(1, candidates)
        return super().score_candidates(interaction, candidates)

    def full_sort_predict(self, interaction: Any) -> Tensor:
        """Scores of all items, padding included: (B, n_items)."""
        if self.cold is None:
            return super().full_sort_predict(interaction)
        states = self.encode(interaction[self.ITEM_SEQ])
        last = interaction[self.ITEM_SEQ_LEN] - 1
        output = self._output()
        table, bias = output.table(), output.bias
        scores = self.gather_indexes(states.joined, last) @ table.T
        if bias is not None:
            scores = scores + bias
        assert self.content is not None
        content = self.content.table()
        # With ``both``, the state is trained on sums that include the content; otherwise, the item-grained
        # contrast trains F_id against the content of next items.
        state = states.joined if self.output == "both" else states.by_id
        assert state is not None
        by_content = self.gather_indexes(state, last) @ content.T
        return torch.where(self.cold, _on_the_scale_of(scores, by_content, ~self.cold), scores)


def _on_the_scale_of(scores: Tensor, others: Tensor, known: Tensor) -> Tensor:
    """Shift and scale *others* to the mean and deviation of *scores* over the known items, row by row.

    Args:
        scores, others: float (B, n_items).
        known: bool (n_items,), items that both score; the padding item is ignored.
    """
    known = known.clone()
    known[0] = False
    if not known.any():
        return others
    mean, deviation = [], []
    for values in (scores[:, known], others[:, known]):
        mean.append(values.mean(1, keepdim=True))
        deviation.append(values.std(1, correction=0, keepdim=True).clamp(min=1e-12))
    return mean[0] + (others - mean[1]) * (deviation[0] / deviation[1])
