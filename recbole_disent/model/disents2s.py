"""DisentS2S: J. Ma et al., Disentangled Self-Supervision in Sequential Recommenders, KDD 2020."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from recbole.model.abstract_recommender import SequentialRecommender
from recbole.utils import InputType
from torch import Tensor, nn

from recbole_disent import distributed
from recbole_disent.data.batch import ROW_IN_BATCH, WindowBatch
from recbole_disent.model import losses
from recbole_disent.model.disentanglement import FUTURE, PAST, Disentanglement
from recbole_disent.model.encoder import CausalEncoder


@dataclass
class Pairs:
    """The encoded pairs (u, t) of a batch; P pairs, F future items.

    Attributes:
        past, future: float (P, K, D), intention vectors; ``future`` is None where no
            latent loss asks for it.
        targets: int64 (P,), next items.
        users: int64 (P,).
        items, owner: int64 (F,), items of the futures and the pair of each; empty unless a
            variant reconstructs them.
        number: int64 (P,) or None; where the pairs are one process's share of a global batch,
            the number of each in it.
    """

    past: Tensor
    future: Tensor | None
    targets: Tensor
    users: Tensor
    items: Tensor
    owner: Tensor
    number: Tensor | None = None


def _corrects_popularity(config: Any) -> bool:
    wanted = config["popularity_correction"]
    if wanted == "auto":
        return config["valid_neg_sample_args"]["distribution"] != "popularity"
    return wanted == "always"


class DisentS2S(SequentialRecommender):
    """Learns the next item and, in latent space, the whole future of a user, per intention.

    All configuration keys stand in ``properties/model/DisentS2S.yaml``.
    """

    input_type = InputType.POINTWISE
    # Of several processes each returns its part of the sum that is the loss of the global batch
    # (recbole_disent/distributed.py).
    shares_batch = True

    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        width, length, eps = config["hidden_size"], self.max_seq_length, config["layer_norm_eps"]
        self.n_intentions: int = config["n_intentions"]
        self.variant: str = config["seq2seq_variant"]
        self.trusted_share: float = config["seq2seq_lambda"]
        self.seq2seq_weight: float = config["seq2seq_weight"]
        self.seq2seq_samples: int = config["seq2seq_samples"]
        self.mask_same_user: bool = config["same_user_negatives"] == "mask"
        self.next_items: int = config["next_items"]
        self.score_limit: int = config["score_memory_mb"] * 2**20 // 4
        self.scale = width**-0.5
        self.corrects_popularity = _corrects_popularity(config)
        counts = dataset.training_counts().clip(min=1)
        share = torch.from_numpy(counts / counts.sum()).log().float()
        self.register_buffer("log_share", share, persistent=False)
        self.warmup: int = config["seq2seq_warmup"]
        # Part of the checkpoint, so that a resumed run does not warm up again.
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.encoder = CausalEncoder(
            self.n_items,
            length,
            width,
            config["inner_size"],
            config["n_layers"],
            config["hidden_dropout_prob"],
            config["attn_dropout_prob"],
            eps,
        )
        self.disentanglement = Disentanglement(width, self.n_intentions, length, eps)
        self.initializer_range: float = config["initializer_range"]
        self.apply(self._init_weights)

    def _init_weights(self, module: nn.Module) -> None:
        std = self.initializer_range
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=std)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
        if isinstance(module, nn.Embedding) and module.padding_idx is not None:
            nn.init.zeros_(module.weight[module.padding_idx])
        if isinstance(module, Disentanglement):
            nn.init.normal_(module.prototypes, std=std)
            nn.init.normal_(module.position, std=std)
            nn.init.zeros_(module.query_bias)
            # The sum over positions is 1/K of a state: random biases would drown it at first.
            nn.init.zeros_(module.bias)

    # -- encoding ----------------------------------------------------------------------

    @property
    def latent(self) -> bool:
        """Whether the seq2seq loss in latent space is in use."""
        return self.variant == "latent" and self.trusted_share > 0 and self.seq2seq_weight > 0

    @property
    def future_cut(self) -> int | None:
        """How many items of a future are reconstructed one by one; None: no such loss."""
        cuts = {"all_items": self.max_seq_length, "next_items": self.next_items}
        return cuts.get(self.variant) if self.seq2seq_weight > 0 else None

    def intentions(self, item_seq: Tensor, item_seq_len: Tensor, side: int = PAST) -> Tensor:
        """Intention vectors of sequences.

        Args:
            item_seq: int64 (B, L), left-aligned item ids, 0 is padding.
            item_seq_len: int64 (B,), items of each sequence, >= 1.
            side: PAST (the default) or FUTURE.

        Returns:
            phi, float (B, K, D).
        """
        return self.disentanglement(self.encoder(item_seq), item_seq_len, side)

    def forward(self, item_seq: Tensor, item_seq_len: Tensor) -> Tensor:
        """The same as :meth:`intentions` of a past."""
        return self.intentions(item_seq, item_seq_len)

    def pairs_one_by_one(self, batch: Any) -> Pairs:
        """Encode pairs by themselves: the paper's way and the reference for the other one.

        Args:
            batch: an Interaction with the past, the reversed future and the next item.
        """
        past = self.intentions(batch[self.ITEM_SEQ], batch[self.ITEM_SEQ_LEN], PAST)
        reversed_future = batch["future_" + self.ITEM_SEQ]
        future_length = batch["future_" + self.ITEM_SEQ_LEN]
        future = None
        if self.latent:
            future = self.intentions(reversed_future, future_length, FUTURE)
        rank = (
            future_length[:, None] - 1 - torch.arange(reversed_future.shape[1], device=future_length.device)
        )  # 0 for the item right after the past
        owner, place = ((rank >= 0) & (rank < (self.future_cut or 0))).nonzero(as_tuple=True)
        items = reversed_future[owner, place]
        users = batch[self.USER_ID]
        number = batch[ROW_IN_BATCH] if distributed.active() else None
        return Pairs(past, future, batch[self.POS_ITEM_ID], users, items, owner, number)

    def pairs_of_windows(self, batch: WindowBatch) -> Pairs:
        """Encode all pairs of each window: one pass over it and one over its reverse."""
        groups = [
            self._pairs_of_group(*part) for part in zip(batch.items, batch.lengths, batch.users, strict=True)
        ]
        if not groups:
            return self._no_pairs(batch.pairs)
        first = 0
        for group in groups:
            group.owner += first
            first += len(group.targets)
        futures = [group.future for group in groups if group.future is not None]
        return Pairs(
            torch.cat([group.past for group in groups]),
            torch.cat(futures) if futures else None,
            torch.cat([group.targets for group in groups]),
            torch.cat([group.users for group in groups]),
            torch.cat([group.items for group in groups]),
            torch.cat([group.owner for group in groups]),
            batch.pairs,
        )

    def _no_pairs(self, number: Tensor | None) -> Pairs:
        """The share of a process that got no window: empty, and yet with a gradient."""
        weight = self.encoder.item_embedding.weight
        past = distributed.attached(weight.new_zeros(0, self.n_intentions, weight.shape[1]), weight)
        none = torch.zeros(0, dtype=torch.long, device=weight.device)
        return Pairs(past, past if self.latent else None, none, none, none, none, number)

    def _pairs_of_group(self, items: Tensor, lengths: Tensor, users: Tensor) -> Pairs:
        width = items.shape[1]
        place = torch.arange(width, device=items.device)
        # Pair (b, t) has the items 0..t as its past and t+1.. as its future.
        owner, last = (place[:-1] < lengths[:, None] - 1).nonzero(as_tuple=True)
        past = self.disentanglement.prefixes(self.encoder(items[:, :-1]), PAST)[owner, last]
        future = None
        if self.latent:
            mirror = (lengths[:, None] - 1 - place).clamp(min=0)
            backward = items.gather(1, mirror)[:, :-1]
            phi = self.disentanglement.prefixes(self.encoder(backward), FUTURE)
            future = phi[owner, lengths[owner] - 2 - last]
        cut = self.future_cut or 0
        ahead = place[None] - last[:, None]  # 1 for the next item
        pair, column = ((ahead >= 1) & (ahead <= cut) & (place[None] < lengths[owner, None])).nonzero(
            as_tuple=True
        )
        rest = items[owner[pair], column]
        return Pairs(past, future, items[owner, last + 1], users[owner], rest, pair)

    # -- RecBole's interface -----------------------------------------------------------

    def calculate_loss(self, interaction: Any) -> tuple[Tensor, ...]:
        """Losses of a batch: (seq2item,) or (seq2item, seq2seq), to be added.

        The paper sums over the batch; both sums are divided by the number of pairs P here,
        which keeps their ratio. Where only S < P pairs, drawn at random, enter the seq2seq
        contrast, its sum is scaled by P / S.
        """
        if isinstance(interaction, WindowBatch):
            pairs = self.pairs_of_windows(interaction)
        else:
            pairs = self.pairs_one_by_one(interaction)
        # Columns of the score matrix: the next items of all processes. Rows: the own pasts.
        blocks = distributed.Blocks(len(pairs.targets), pairs.targets.device)
        place = blocks.place()
        targets = blocks.gather(self.encoder.item_embedding(pairs.targets))
        groups = blocks.gather(pairs.users) if self.mask_same_user else None
        weight = self._future_weight()
        share = self.log_share[blocks.gather(pairs.targets)] if self.corrects_popularity else None
        values = losses.seq2item(pairs.past, targets, groups, share, self.score_limit, place)
        item_loss = values.sum() / blocks.total
        if self.future_cut is not None:
            items = self.encoder.item_embedding(pairs.items)
            shares = None if share is None else (share, self.log_share[pairs.items])
            rest = losses.future_items(
                pairs.past, targets, items, pairs.owner, groups, shares, self.score_limit, place
            ).sum()
            return item_loss, weight * rest / blocks.total
        if pairs.future is None:
            return (item_loss,)
        return item_loss, weight * self._latent_loss(pairs, blocks.total)

    def _future_weight(self) -> float:
        """``seq2seq_weight``, reached linearly over the first ``seq2seq_warmup`` training steps."""
        if not self.training or not self.warmup:
            return self.seq2seq_weight
        self.steps += 1
        return self.seq2seq_weight * min(1.0, int(self.steps) / self.warmup)

    def _latent_loss(self, pairs: Pairs, total: int) -> Tensor:
        """Sum of the trusted samples over their number; *total* pairs are in the global batch."""
        past, future, users = pairs.past, pairs.future, pairs.users
        assert future is not None
        if total > self.seq2seq_samples:
            chosen = torch.randperm(total, device=past.device)[: self.seq2seq_samples]
            chosen = distributed.from_first(chosen)
            if pairs.number is not None:  # those of the global batch that are here
                chosen = torch.isin(pairs.number, chosen).nonzero()[:, 0]
            past, future, users = past[chosen], future[chosen], users[chosen]
        blocks = distributed.Blocks(len(past), past.device)
        groups = blocks.gather(users) if self.mask_same_user else None
        values = losses.seq2seq(past, blocks.gather(future), groups, self.score_limit, blocks.place())
        trusted = losses.confident(values, self.trusted_share, blocks.gather(values.detach()))
        return (values * trusted).sum() / blocks.total

    def score_items(self, phi: Tensor, items: Tensor) -> Tensor:
        """max over k of h . phi^(k) / sqrt(D).

        Args:
            phi: float (B, K, D).
            items: float (B, C, D), embeddings of C candidates of each sequence.

        Returns:
            float (B, C).
        """
        return (phi @ items.transpose(1, 2)).amax(1) * self.scale

    def predict(self, interaction: Any) -> Tensor:
        """Score of one item for each sequence: (B,)."""
        return self.score_candidates(interaction, interaction[self.ITEM_ID][:, None])[:, 0]

    def score_candidates(self, interaction: Any, candidates: Tensor) -> Tensor:
        """Scores of the candidates, int64 (B, C), of each sequence: float (B, C)."""
        phi = self.intentions(interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN])
        return self.score_items(phi, self.encoder.item_embedding(candidates))

    def full_sort_predict(self, interaction: Any) -> Tensor:
        """Scores of all items, padding included: (B, n_items)."""
        phi = self.intentions(interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN])
        table = self.encoder.item_embedding.weight.T
        best = phi[:, 0] @ table
        for k in range(1, self.n_intentions):
            best = torch.maximum(best, phi[:, k] @ table)
        return best * self.scale
