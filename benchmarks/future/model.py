r"""DisentS2S with other losses on the future than the one of the paper, to find one that raises the accuracy.

The program of this package runs the model of this file::

    recbole-disent run --model_file=benchmarks/future/model.py --model=FutureLosses --dataset=ml-100k \
        --future_loss=reverse

The keys are in ``model.yaml``. ``results/future`` has what was found. The losses are for the training
on whole sequences, ``seq2item`` over all items or over a sample of them, and a single process.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_disent.content.matrix import Content
from recbole_disent.loaders.batch import WindowBatch
from recbole_disent.models.disents2s import losses, negatives
from recbole_disent.models.disents2s.model import DisentS2S
from recbole_disent.models.disents2s.pairs import Pairs
from recbole_disent.ops.intention_softmax import Columns, own_scores, weighted_logsumexp
from recbole_disent.parallel import process_group
from recbole_disent.specs import SPECS

SPEC = replace(
    SPECS["DisentS2S"],
    name="FutureLosses",
    cls=f"{__name__}:FutureLosses",
    choose_preset=None,
    properties=(*SPECS["DisentS2S"].properties, str(Path(__file__).resolve().with_suffix(".yaml"))),
)


class FutureLosses(DisentS2S):
    """DisentS2S whose loss on the future is the one that the key ``future_loss`` names."""

    def __init__(self, config: Any, dataset: Any, content: Content | None = None) -> None:
        super().__init__(config, dataset, content)
        width = config["hidden_size"]
        self.future_loss: str = config["future_loss"]
        self.future_weight: float = config["future_weight"]
        self.future_start: int = config["future_start"]
        self.hardness: float = config["future_hardness"]
        self.reach: float = config["future_reach"]
        if self.future_loss == "predicted":
            self.predictor = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))

    @property
    def future_cut(self) -> int | None:
        """All items of a future, if they are soft targets."""
        return self.max_seq_length if self.future_loss == "soft" else None

    def calculate_loss(self, interaction: WindowBatch) -> tuple[Tensor, ...]:
        """seq2item, and the loss on the future multiplied by its weight."""
        self.steps += 1
        kind = self.future_loss
        count = len(interaction)
        every = kind in ("reverse", "hindsight")
        drawn = torch.arange(count) if every else torch.randperm(count)[: self.seq2seq_samples].sort().values
        pairs = self.pairs_of_windows(interaction, None if kind in ("none", "soft") else drawn)
        blocks = process_group.Blocks(count, self.log_popularity.device)
        found = self._separation(pairs, blocks) if self.n_intentions > 1 else pairs.past.new_zeros(())
        weight = self.future_weight * float(int(self.steps) > self.future_start)
        if every:
            window, _, last = interaction.pairs()
            item, rest = self._both_ways(pairs, interaction.items[last.to(pairs.past.device)], window)
        else:
            columns = self._columns(pairs, blocks)
            item = self._seq2item(pairs, columns)
            rest = pairs.past.new_zeros(())
            if kind == "soft":
                rest = self._soft(pairs, columns)
            elif kind in ("hard", "predicted"):
                rest = self._latent(pairs, len(drawn)) * count / len(drawn)
        return (item + found) / count, weight * rest / count

    def _seq2item(self, pairs: Pairs, columns: Columns) -> Tensor:
        """Sum of the losses of the pairs, float ()."""
        return negatives.over_items(pairs, columns, self.pooling, self.max_scores, None)[0]

    def _both_ways(self, pairs: Pairs, previous: Tensor, window: Tensor) -> tuple[Tensor, Tensor]:
        """seq2item, and the same in reverse: the reversed future predicts the last item of the past.

        With ``hindsight``, the past also learns the distribution over items that the reversed future of the
        next pair has, whose last item is the item after the target. The target is what this future predicts.

        Args:
            pairs: P pairs, each with its future.
            previous: int64 (P,), the last item of each past.
            window: int64 (P,) on the CPU, the window of each pair; the pairs of a window are in order.
        """
        assert pairs.future is not None
        targets = torch.cat([pairs.targets, previous])
        users = torch.cat([pairs.users, pairs.users])
        blocks = process_group.Blocks(len(targets), targets.device)
        columns = self._columns(replace(pairs, targets=targets, users=users), blocks)
        count = len(pairs.past)
        ahead, back = (
            columns._replace(own=columns.own[part], certain=_certain(columns, part))
            for part in (slice(0, count), slice(count, None))
        )
        rest = self._seq2item(replace(pairs, past=pairs.future), back)
        if self.future_loss == "hindsight":
            same = (window[1:] == window[:-1]).nonzero()[:, 0].to(targets.device)
            with torch.no_grad():
                teacher = self._log_shares(pairs.future[same + 1], columns).exp()
            rest = rest - (teacher * self._log_shares(pairs.past[same], columns)).sum()
        return self._seq2item(pairs, ahead), rest

    def _log_shares(self, phi: Tensor, columns: Columns) -> Tensor:
        """ln of the share of each column in the softmax over the columns: (P, K, D) -> (P, C)."""
        scores = (phi @ columns.vectors.T * self.scale).logsumexp(1)
        if columns.log_inclusion is not None:
            scores = scores - columns.log_inclusion
        return scores.log_softmax(1)

    def _soft(self, pairs: Pairs, columns: Columns) -> Tensor:
        """The items after the target as soft targets, whose weights fall by e in ``future_reach`` items."""
        owner = pairs.owner
        first = torch.searchsorted(owner, owner)
        ahead = torch.arange(len(owner), device=owner.device) - first
        share = torch.exp(-ahead.to(pairs.past) / self.reach) * (ahead > 0)
        each = pairs.past.new_zeros(len(pairs.past)).index_add_(0, owner, share)
        total = weighted_logsumexp(pairs.past, columns, each, self.pooling == "max", self.max_scores)[0]
        own = losses.pooled(own_scores(pairs.past[owner], pairs.item_vectors), self.pooling)
        return total - (share * own).sum()

    def _latent(self, pairs: Pairs, count: int) -> Tensor:
        """The contrast of the paper with hard negatives, or the distance to the future without negatives."""
        assert pairs.future is not None
        assert pairs.sample is not None
        past, future = pairs.past[pairs.sample], pairs.future
        if self.future_loss == "predicted":
            guess = F.normalize(self.predictor(past), dim=-1)
            return (1 - (guess * F.normalize(future.detach(), dim=-1)).sum(-1)).sum()
        users = pairs.users[pairs.sample].repeat_interleave(self.n_intentions)
        values = hard_seq2seq(past, future, users, self.hardness)
        return (values * losses.trusted_mask(values, self.trusted_share)).sum()


def hard_seq2seq(past: Tensor, future: Tensor, groups: Tensor, hardness: float) -> Tensor:
    """seq2seq whose negatives have weights that grow with their scores (Robinson et al., ICLR 2021).

    A negative with the score s has the weight exp(h s), divided by the mean of these weights.

    Args:
        past, future: float (P, K, D).
        groups: int64 (P K,); rows of a group are not each other's negatives.
        hardness: h >= 0; 0 gives the contrast of the paper without the other intentions of the own future.

    Returns:
        float (P, K).
    """
    scores = past.flatten(0, 1) @ future.flatten(0, 1).T * past.shape[-1] ** -0.5
    others = groups[:, None] != groups

    def over_negatives(values: Tensor) -> Tensor:
        return values.masked_fill(~others, float("-inf")).logsumexp(1)

    mean = over_negatives(hardness * scores) - others.sum(1).log()
    total = over_negatives((1 + hardness) * scores) - mean
    own = scores.diagonal()
    return (torch.logaddexp(total, own) - own).view(past.shape[:2])


def _certain(columns: Columns, part: slice) -> Tensor | None:
    """The rows of ``certain`` for a part of the pairs, which are counted from the start of the part."""
    if columns.certain is None:
        return None
    begin, end, _ = part.indices(len(columns.own))
    first, last = torch.searchsorted(columns.certain[0], torch.tensor([begin, end]).to(columns.certain))
    pair, column = columns.certain[:, first:last]
    return torch.stack([pair - begin, column])
