"""Loaders: RecBole's for its models, windows of sequences for DisentS2S, held-out rows for all."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from recbole.data.dataloader import TrainDataLoader
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_disent.data.batch import WindowBatch
from recbole_disent.data.rows import SequenceRows

# A batch of windows is encoded in groups whose longest window is at most this many times
# the shortest, so that less than half of what the encoder computes is padding.
_GROUP_RATIO = 2
# A bucket holds this many batches' worth of rows, drawn at random, then sorted by length.
_BUCKET_BATCHES = 50


class BucketedTrainDataLoader(TrainDataLoader):
    """RecBole's training loader with histories of like length in a batch.

    Each epoch shuffles all rows, cuts them into buckets of 50 batches, sorts a bucket by
    length and shuffles the batches: every row is seen once an epoch, in other company.
    """

    def __iter__(self) -> Iterator[Interaction]:
        for index in self._epoch():
            yield self.collate_fn(index)

    def _epoch(self) -> list[np.ndarray]:
        rows: SequenceRows = self._dataset.inter_feat
        lengths = rows[rows.length_field].numpy()
        order = torch.randperm(len(rows), generator=self.generator).numpy()
        bucket = np.arange(len(order)) // (_BUCKET_BATCHES * self.step)
        order = order[np.lexsort((lengths[order], bucket))]
        batches = [order[i : i + self.step] for i in range(0, len(order), self.step)]
        shuffled = torch.randperm(len(batches), generator=self.generator).tolist()
        return [batches[i] for i in shuffled]


class PairLoader(TrainDataLoader):
    """Pairs one by one: RecBole's rows plus the reversed future of each (KDD 2020, section 3.3).

    A future ends with the user's last training item.
    """

    def collate_fn(self, index: Any) -> Interaction:
        """Gather a batch; adds ``future_<item list>`` and ``future_<length>``."""
        batch = super().collate_fn(index)
        dataset, rows = self._dataset, self._dataset.inter_feat
        ends = rows.rows[torch.as_tensor(np.asarray(index))]
        stops = dataset.train_stops[batch[dataset.uid_field]]
        items, lengths = dataset.store.futures(dataset.iid_field, ends, stops, rows.max_length)
        name = dataset.iid_field + self.config["LIST_SUFFIX"]
        batch["future_" + name] = items[:, : max(int(lengths.max()), 1)]
        batch["future_" + rows.length_field] = lengths
        return batch


class WindowLoader(TrainDataLoader):
    """Whole training sequences: each target of the training part once an epoch.

    A sequence of up to L + 1 items (L inputs and the last target) is one window. A longer
    one is cut into windows that share one item, at an offset drawn anew in each epoch; the
    positions of a window start at 0, a past does not reach beyond its window's first item
    and a future ends with its window's last.
    """

    def _init_batch_size_and_step(self) -> None:
        super()._init_batch_size_and_step()
        stops = self._dataset.train_stops
        begins = self._dataset.store.offsets[:-1]
        users = (stops - begins >= 2).nonzero()[:, 0]
        self._users, self._begins, self._stops = users, begins[users], stops[users]
        self._n_pairs = int((self._stops - self._begins - 1).sum())

    def __len__(self) -> int:
        return max(1, math.ceil(self._n_pairs / self.step))

    def __iter__(self) -> Iterator[WindowBatch]:
        users, firsts, lasts = self._windows()
        order = torch.randperm(len(users), generator=self.generator)
        users, firsts, lasts = users[order], firsts[order], lasts[order]
        pairs = (lasts - firsts).cumsum(0)
        batch = (pairs - 1) // self.step  # of the window's last pair
        cuts = (batch[1:] != batch[:-1]).nonzero()[:, 0] + 1
        bounds = [0, *cuts.tolist(), len(users)]
        for begin, end in zip(bounds, bounds[1:], strict=False):
            yield self._collate(users[begin:end], firsts[begin:end], lasts[begin:end])

    def _windows(self) -> tuple[Tensor, Tensor, Tensor]:
        """User, first and last position of each window of an epoch."""
        length = self._dataset.max_item_list_len
        pairs = self._stops - self._begins - 1
        # A window of L pairs more or less: with an offset the first one is shorter.
        offset = torch.randint(length, pairs.shape, generator=self.generator)
        offset = torch.where(pairs > length, offset, torch.zeros_like(offset))
        counts = (pairs + offset + length - 1) // length
        owner = torch.repeat_interleave(torch.arange(len(pairs)), counts)
        place = torch.arange(len(owner)) - (counts.cumsum(0) - counts)[owner]
        firsts = (place * length - offset[owner]).clamp(min=0)
        lasts = torch.minimum((place + 1) * length - offset[owner], pairs[owner])
        return self._users[owner], self._begins[owner] + firsts, self._begins[owner] + lasts

    def _collate(self, users: Tensor, firsts: Tensor, lasts: Tensor) -> WindowBatch:
        lengths, order = (lasts - firsts + 1).sort()
        users, lasts = users[order], lasts[order]
        store, field = self._dataset.store, self._dataset.iid_field
        items, counts, owners = [], [], []
        begin = 0
        while begin < len(lengths):
            limit = lengths[begin] * _GROUP_RATIO
            end = int(torch.searchsorted(lengths, limit, right=True))
            part = lengths[begin:end]
            items.append(store.histories(field, lasts[begin:end] + 1, part, int(part[-1])))
            counts.append(part)
            owners.append(users[begin:end])
            begin = end
        return WindowBatch(items, counts, owners)


def build_train_loader(config: Any, dataset: Any, sampler: Any) -> TrainDataLoader:
    """Return the loader for one of RecBole's models that it trains with its TrainDataLoader."""
    bucket = config["bucket_batches"] and dataset.trim
    loader = BucketedTrainDataLoader if bucket else TrainDataLoader
    return loader(config, dataset, sampler, shuffle=config["shuffle"])


def build_disents2s_loader(config: Any, dataset: Any, sampler: Any) -> TrainDataLoader:
    """Return the loader for ``train_mode``."""
    loader = WindowLoader if config["train_mode"] == "sequences" else PairLoader
    return loader(config, dataset, sampler, shuffle=config["shuffle"])


class HeldOutLoader:
    """The held-out rows of a part, in chunks that keep the memory limit.

    RecBole's trainer and tools find ``dataset``, ``_dataset`` and ``len()`` as on their own
    loaders. Iterating gives (row numbers, batch) with rows sorted by the length of their
    history where that is known, so that trimmed batches are short.

    Args:
        config: ``eval_batch_size`` and ``eval_memory_mb`` bound a chunk.
        dataset: a part.
        transform: RecBole's batch transform of the model.
        score_width: scores of one row, for the memory limit.
    """

    def __init__(self, config: Any, dataset: Any, transform: Any, score_width: int) -> None:
        self.config, self.dataset, self._dataset, self.transform = config, dataset, dataset, transform
        # Scores, their ranks' comparisons and a top-k copy live at the same time.
        rows = config["eval_memory_mb"] * 2**20 // (12 * max(score_width, 1))
        self.step = int(max(1, min(config["eval_batch_size"], rows)))

    def __len__(self) -> int:
        return math.ceil(len(self.dataset.inter_feat) / self.step)

    def __bool__(self) -> bool:
        return len(self.dataset.inter_feat) > 0

    def __iter__(self) -> Iterator[tuple[np.ndarray, Interaction]]:
        rows = self.dataset.inter_feat
        order = np.arange(len(rows))
        if isinstance(rows, SequenceRows):
            order = np.argsort(rows[rows.length_field].numpy(), kind="stable")
        for begin in range(0, len(order), self.step):
            index = order[begin : begin + self.step]
            yield index, self.transform(self.dataset, self.dataset[index])
