"""DisentS2S: J. Ma et al., Disentangled Self-Supervision in Sequential Recommenders, KDD 2020."""

from __future__ import annotations

from logging import getLogger
from typing import Any

import torch
from torch import Tensor, nn

from recbole_disent.content.matrix import Content
from recbole_disent.loaders.batch import WindowBatch
from recbole_disent.loaders.sharding import ROW_IN_BATCH
from recbole_disent.models.base import VectorRecommender
from recbole_disent.models.causal_encoder import CausalEncoder, init_weights
from recbole_disent.models.content_embedding import content_embedding
from recbole_disent.models.disents2s import losses, negatives
from recbole_disent.models.disents2s.disentanglement import FUTURE, PAST, Disentanglement
from recbole_disent.models.disents2s.pairs import Pairs
from recbole_disent.models.disents2s.separation import excess_cosine, imbalance
from recbole_disent.models.popularity import learns_lift, log_popularity
from recbole_disent.ops.chunked_softmax import max_scores
from recbole_disent.ops.intention_softmax import Columns, all_items, own_scores, sample
from recbole_disent.ops.jagged import JaggedBatch
from recbole_disent.parallel import process_group


class DisentS2S(VectorRecommender):
    """Learns to predict the next item and, in latent space, a user's whole future for each intention.

    All configuration keys are in ``properties/model/DisentS2S.yaml``.
    """

    # With several processes, each returns its part of the sum that is the loss of the global batch
    # (recbole_disent/parallel/process_group.py).
    cross_rank_negatives = True

    def __init__(self, config: Any, dataset: Any, content: Content | None = None) -> None:
        super().__init__(config, dataset)
        width, length, eps = config["hidden_size"], self.max_seq_length, config["layer_norm_eps"]
        self.n_intentions: int = config["n_intentions"]
        self.chosen = negatives.choices(config, self.n_items)
        self.negatives: str = self.chosen["negatives"]
        self.variant: str = self.chosen["seq2seq_variant"]
        if self.variant == "none" != config["seq2seq_variant"]:
            getLogger().info(
                f"seq2seq_variant: auto is none with negatives={self.negatives}, so the model does not learn "
                "from the future, and keys such as seq2seq_weight have no effect; set seq2seq_variant=latent "
                "for the loss of the paper"
            )
        self.trusted_share: float = config["seq2seq_lambda"]
        self.seq2seq_weight: float = config["seq2seq_weight"]
        self.seq2seq_samples: int = config["seq2seq_samples"]
        self.mask_same_user: bool = config["mask_same_user"]
        self.item_options = {"lr": config["learning_rate"] * config["item_lr_multiplier"]}  # of the optimiser
        if config["item_weight_decay"]:
            self.item_options["weight_decay"] = config["item_weight_decay"]
        self.pooling: str = config["intention_pooling"]
        self.cosine_limit: float = config["intention_cosine"]
        self.balance: float = config["intention_balance"]
        self.next_items: int = config["next_items"]
        self.max_scores: int = max_scores(config)
        self.scale = width**-0.5
        self.sampled_negatives: int = config["sampled_negatives"]
        self.rows_of_a_step = negatives.rows_of_a_step(config, self.negatives)
        # The next items of a batch are drawn in proportion to popularity. Without a correction, the scores
        # learn the lift.
        self.corrects_popularity = not learns_lift(config)
        self.register_buffer("log_popularity", log_popularity(dataset), persistent=False)
        self.warmup: int = config["seq2seq_warmup"]
        self.warm = self.warmup == 0
        # A buffer, so that a checkpoint holds it and a resumed run does not warm up again.
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.encoder = CausalEncoder(
            self.n_items,
            length,
            width,
            config["inner_size"],
            config["n_layers"],
            1,  # head
            config["hidden_dropout_prob"],
            config["attn_dropout_prob"],
            config["item_dropout_prob"],
            eps,
            None if content is None else content_embedding(content, width),
        )
        self.disentanglement = Disentanglement(
            width, self.n_intentions, length, eps, config["last_item_weight"]
        )
        self.initializer_range: float = config["initializer_range"]
        self.apply(self._init_weights)

    def _init_weights(self, module: nn.Module) -> None:
        std = self.initializer_range
        init_weights(module, std)
        if isinstance(module, Disentanglement):
            nn.init.normal_(module.prototypes, std=std)
            nn.init.normal_(module.position, std=std)
            nn.init.zeros_(module.query_bias)
            # The biases are as large as the sum over positions, which is 1/K of a state. Smaller biases
            # leave the K vectors almost equal, and larger biases dominate the sum. Past and future start
            # with equal biases.
            nn.init.normal_(module.bias[PAST], std=1 / self.n_intentions)
            module.bias.data[FUTURE] = module.bias.data[PAST]

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups for the optimiser; the item embeddings and the projection of content have a larger step."""
        items, content = self.encoder.item_embedding.weight, self.encoder.content
        projection = [] if content is None else [*content.linear.parameters()]
        apart = {id(p) for p in [items, *projection]}
        return [
            {"params": [p for p in self.parameters() if id(p) not in apart]},
            {"params": [items], **self.item_options},
            {"params": projection, "lr": self.item_options["lr"]},
        ]

    def row_tables(self) -> dict[nn.Embedding, int]:
        """The item embeddings, unless the softmax is over all items."""
        return {} if self.negatives == "all" else {self.encoder.item_embedding: self.rows_of_a_step}

    # -- encoding ----------------------------------------------------------------------

    @property
    def latent(self) -> bool:
        """Whether the seq2seq loss in latent space is in use."""
        return self.variant == "latent" and self.trusted_share > 0 and self.seq2seq_weight > 0

    @property
    def future_cut(self) -> int | None:
        """Number of items of a future that are reconstructed one by one; None without such a loss."""
        cuts = {"all_items": self.max_seq_length, "next_items": self.next_items}
        return cuts.get(self.variant) if self.seq2seq_weight > 0 else None

    def intentions(self, item_seq: Tensor, item_seq_len: Tensor, side: int = PAST) -> Tensor:
        """Intention vectors of sequences.

        Args:
            item_seq: int64 (B, L), left-aligned item ids, 0 is padding.
            item_seq_len: int64 (B,), number of items of each sequence, >= 1.
            side: PAST (the default) or FUTURE.

        Returns:
            phi, float (B, K, D).
        """
        return self.disentanglement(self.encoder(item_seq), item_seq_len, side)

    def forward(self, item_seq: Tensor, item_seq_len: Tensor) -> Tensor:
        """Intention vectors of pasts, as in :meth:`intentions`."""
        return self.intentions(item_seq, item_seq_len)

    def pairs_one_by_one(self, batch: Any, sample: Tensor | None) -> Pairs:
        """Encode each pair separately, as the paper does; the reference for :meth:`pairs_of_windows`.

        Args:
            batch: an Interaction with the past, the reversed future and the next item.
            sample: int64 (S,) on the CPU, the pairs whose future is encoded, or None.
        """
        past = self.intentions(batch[self.ITEM_SEQ], batch[self.ITEM_SEQ_LEN], PAST)
        reversed_future = batch["future_" + self.ITEM_SEQ]
        future_length = batch["future_" + self.ITEM_SEQ_LEN]
        future = None
        if sample is not None:
            sample = sample.to(past.device, non_blocking=True)
            future = self.intentions(reversed_future[sample], future_length[sample], FUTURE)
        rank = (
            future_length[:, None] - 1 - torch.arange(reversed_future.shape[1], device=future_length.device)
        )  # 0 for the item right after the past
        owner, place = ((rank >= 0) & (rank < (self.future_cut or 0))).nonzero(as_tuple=True)
        items = self.encoder.embed_items(reversed_future[owner, place])
        targets = batch[self.POS_ITEM_ID]
        embedded = self.encoder.embed_items(targets)
        users = batch[self.USER_ID]
        return Pairs(
            past, future, sample, targets, embedded, users, reversed_future[owner, place], items, owner
        )

    def pairs_of_windows(self, batch: WindowBatch, sample: Tensor | None) -> Pairs:
        """Encode all pairs of each window with one pass over the window and one pass over its reverse.

        The pass over the reverse covers only the futures of *sample*.

        Args:
            batch: windows.
            sample: int64 (S,) on the CPU, the pairs whose future is encoded, or None.
        """
        if not len(batch.lengths):
            return self._no_pairs(sample)
        device = batch.items.device
        counts = batch.counts
        window, nth, last = batch.pairs()
        table = self.encoder.embed_items(batch.items)
        # The sequences to encode are each window up to its last pair, and the reversed window from its
        # last item through the longest future that *sample* needs.
        starts = batch.lengths.cumsum(0) - batch.lengths
        length = batch.before + batch.furthest() + 1
        begin, step = starts, torch.ones_like(counts)
        if sample is not None:
            here, reach = window[sample], (counts + batch.after)[window[sample]] - nth[sample]
            longest = torch.zeros_like(counts).scatter_reduce_(0, here, reach, "amax")
            asked = longest > 0
            begin = torch.cat([begin, (starts + batch.lengths - 1)[asked]])
            length = torch.cat([length, longest[asked]])
            step = torch.cat([step, -torch.ones_like(longest[asked])])
        length, order = length.sort(stable=True)
        jagged = JaggedBatch(length, device)
        token = torch.repeat_interleave(begin[order] - step[order] * jagged.starts, length)
        token += torch.repeat_interleave(step[order], length) * torch.arange(len(token))
        sums = self._prefix_sums(table, token, jagged)
        start = torch.empty_like(order).index_copy_(0, order, jagged.starts)  # of each sequence
        ends = (start[window] + batch.before[window] + nth).to(device, non_blocking=True)
        past, future = self.disentanglement.from_prefix_sums(sums.index_select(0, ends), PAST), None
        if sample is not None:
            ends = start[len(counts) + asked.cumsum(0)[here] - 1] + reach - 1
            sums = sums.index_select(0, ends.to(device, non_blocking=True))
            future = self.disentanglement.from_prefix_sums(sums, FUTURE)
            sample = sample.to(device, non_blocking=True)
        cut = torch.clamp((counts + batch.after)[window] - nth, max=self.future_cut or 0)
        owner = torch.repeat_interleave(torch.arange(len(last)), cut)
        ahead = torch.arange(len(owner)) - (cut.cumsum(0) - cut)[owner] + 1
        following, rest, owner, window = (
            t.to(device, non_blocking=True) for t in (last + 1, last[owner] + ahead, owner, window)
        )
        return Pairs(
            past,
            future,
            sample,
            batch.items[following],
            table.index_select(0, following),
            batch.users[window],
            batch.items[rest],
            table.index_select(0, rest),
            owner,
        )

    def _prefix_sums(self, table: Tensor, token: Tensor, jagged: JaggedBatch) -> Tensor:
        embedded = table.index_select(0, token.to(table.device, non_blocking=True))
        return self.disentanglement.prefix_sums(self.encoder.packed(embedded, jagged), jagged)

    def _no_pairs(self, sample: Tensor | None) -> Pairs:
        """The pairs of a process that got no window: empty tensors that have a gradient."""
        none = torch.zeros(0, dtype=torch.long, device=self.log_popularity.device)
        vectors = self.encoder.item_embedding(none)
        past = vectors[:, None].expand(0, self.n_intentions, -1)
        future, sample = (None, None) if sample is None else (past, none)
        return Pairs(past, future, sample, none, vectors, none, none, vectors, none)

    def _sample(self, total: int, number: Tensor | None) -> Tensor | None:
        """Choose the pairs that enter the seq2seq contrast, at random if there are too many pairs.

        Args:
            total: number of pairs of the global batch.
            number: int64 (P,), the numbers in the global batch of this process's pairs; None: this
                process has all pairs.

        Returns:
            int64 (S,), the chosen pairs among those of this process, on the CPU because shapes depend on
            them; None without a latent loss.
        """
        if not self.latent:
            return None
        drawn = total > self.seq2seq_samples
        chosen = torch.randperm(total)[: self.seq2seq_samples] if drawn else torch.arange(total)
        if number is None:
            return chosen
        if drawn:
            chosen = process_group.from_first(chosen.to(number.device))
        return torch.isin(number, chosen.to(number.device)).nonzero()[:, 0].cpu()

    # -- RecBole's interface -----------------------------------------------------------

    def calculate_loss(self, interaction: Any) -> tuple[Tensor, ...]:
        """Losses of a batch, (seq2item,) or (seq2item, seq2seq), which the trainer adds.

        The paper sums over the batch. Here both sums are divided by the number of pairs P, which
        keeps their ratio. If only S < P pairs, drawn at random, enter the seq2seq contrast, its sum
        is scaled by P / S.
        """
        if isinstance(interaction, WindowBatch):
            encode, count, number = self.pairs_of_windows, len(interaction), interaction.number
        else:
            encode, count = self.pairs_one_by_one, len(interaction[self.USER_ID])
            number = interaction[ROW_IN_BATCH] if process_group.active() else None
        blocks = process_group.Blocks(count, self.log_popularity.device)
        pairs = encode(interaction, self._sample(blocks.total, number))
        weight = self._future_weight() if self.latent or self.future_cut is not None else 0.0
        rest_weight = None if self.future_cut is None else weight
        if self.negatives == "batch":
            groups = self._groups(blocks, pairs.users)
            share = self.log_popularity if self.corrects_popularity else None
            item, rest = negatives.over_batch(
                pairs, blocks, groups, share, self.pooling, self.max_scores, rest_weight
            )
        else:
            columns = self._columns(pairs, blocks)
            item, rest = negatives.over_items(pairs, columns, self.pooling, self.max_scores, rest_weight)
        if self.n_intentions > 1:
            item = item + self._separation(pairs, blocks)
        item_loss = item / blocks.total
        if rest is not None:
            return item_loss, rest / blocks.total
        if pairs.sample is None or pairs.future is None:
            return (item_loss,)
        past = pairs.past.index_select(0, pairs.sample)
        blocks = process_group.Blocks(len(past), past.device)
        groups = self._groups(blocks, pairs.users[pairs.sample])
        futures, row_index = blocks.gather(pairs.future), blocks.row_index()
        values = losses.seq2seq(past, futures, groups, self.max_scores, row_index)
        trusted = losses.trusted_mask(values, self.trusted_share, blocks.gather(values.detach()))
        return item_loss, weight * (values * trusted).sum() / blocks.total

    def _separation(self, pairs: Pairs, blocks: process_group.Blocks) -> Tensor:
        """This process's part of the penalties on intention vectors that are alike or unused, float ()."""
        found = pairs.past.new_zeros(())
        if self.cosine_limit < 1:
            found = found + excess_cosine(pairs.past, self.cosine_limit).sum()
        if self.balance:
            # The penalty moves the intention vectors only, and not the items.
            scores = blocks.gather(own_scores(pairs.past, pairs.target_vectors.detach()))
            found = found + self.balance * len(pairs.past) * imbalance(scores)
        return found

    def _columns(self, pairs: Pairs, blocks: process_group.Blocks) -> Columns:
        """The items of a softmax over all items, or over a sample of them that all processes share."""
        if self.negatives == "all":
            return all_items(self.encoder.item_table(), pairs.targets)
        number, vectors_of = self.sampled_negatives, self.encoder.embed_items
        return sample(
            self.n_items, number, pairs.targets, pairs.users, blocks, self.log_popularity, vectors_of
        )

    def _groups(self, blocks: process_group.Blocks, users: Tensor) -> Tensor | None:
        """Groups of all pairs, int64 (P,): pairs of one group are not each other's negatives.

        The group of a pair is its user. In a batch of a single user each pair is its own group, because
        pairs without any negative would teach nothing. None: all pairs are negatives.
        """
        if not self.mask_same_user:
            return None
        groups = blocks.gather(users)
        # torch.where makes the choice on the device, so the program need not wait for a GPU.
        alone = torch.arange(len(groups), device=groups.device)
        return torch.where((groups != groups[:1]).any(), groups, alone)

    def _future_weight(self) -> float:
        """``seq2seq_weight``, after a linear increase over the first ``seq2seq_warmup`` training steps."""
        if not self.training:
            return self.seq2seq_weight
        self.steps += 1
        if not self.warm:
            done = int(self.steps)  # this waits for a GPU
            self.warm = done >= self.warmup
            return self.seq2seq_weight * min(1.0, done / self.warmup)
        return self.seq2seq_weight

    def score_items(self, phi: Tensor, items: Tensor) -> Tensor:
        """max over k of h . phi^(k) / sqrt(D).

        Args:
            phi: float (B, K, D).
            items: float (B, C, D), embeddings of C candidates of each sequence.

        Returns:
            float (B, C).
        """
        return (phi @ items.transpose(1, 2)).amax(1) * self.scale

    def item_table(self) -> Tensor:
        """Embeddings h of all items, padding included: float (n_items, D)."""
        return self.encoder.item_table()

    def query_vectors(self, interaction: Any) -> Tensor:
        """Intention vectors of the pasts of a batch, divided by sqrt(D): float (B, K, D)."""
        return self.intentions(interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN]) * self.scale

    def intention_weights(self, interaction: Any) -> tuple[Tensor, Tensor]:
        """How much each item of a history contributes to each intention.

        Returns:
            p(k|i), float (B, L, K), rows sum to 1, and the weight of each item, float (B, L), which sums to
            1 over the items of a history and is 0 for padding. The weight is p(i), or (p(i) + w [i = t]) /
            (1 + w) with w = ``last_item_weight`` and the last item t.
        """
        z = self.encoder(interaction[self.ITEM_SEQ])
        weights = self.disentanglement.weights(z, interaction[self.ITEM_SEQ_LEN])
        return self.disentanglement.cluster(z), weights / (1 + self.disentanglement.last_item_weight)

    def score_candidates(self, interaction: Any, candidates: Tensor) -> Tensor:
        """Scores of the candidates, int64 (B, C), of each sequence: float (B, C)."""
        phi = self.intentions(interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN])
        return self.score_items(phi, self.encoder.embed_items(candidates))
