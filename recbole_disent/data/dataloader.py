"""Loaders: RecBole's for its models, pairs one by one for DisentS2S, held-out rows for all."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from recbole.data.dataloader import TrainDataLoader
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_disent import distributed
from recbole_disent.data.batch import ROW_IN_BATCH, own_rows
from recbole_disent.data.rows import SequenceRows
from recbole_disent.data.window_loader import WindowLoader, build_window_loader, require_sequences

# A bucket holds this many batches' worth of rows, drawn at random, then sorted by length.
_BUCKET_BATCHES = 50


class BucketedTrainDataLoader(TrainDataLoader):
    """RecBole's training loader with histories of like length in a batch.

    Each epoch shuffles all rows, cuts them into buckets of 50 batches, sorts a bucket by
    length and shuffles the batches: every row is seen once an epoch, in other company.
    Batches are made in this process; RecBole's ``worker`` is not used.
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


def shared(loader: TrainDataLoader) -> TrainDataLoader:
    """Let a loader give this process's share of each batch; alone: all of it.

    Negatives and masks are drawn for the whole batch, as numpy's and Python's generators must
    stay the same in every process.
    """
    if not distributed.active() or isinstance(loader, WindowLoader):
        return loader
    whole = loader.collate_fn
    negatives = getattr(loader, "neg_sample_args", {}).get("distribution", "none")
    drawn = negatives != "none" or loader.config["transform"] is not None

    def collate(index: Any) -> Interaction:
        index = np.asarray(index)
        if drawn:
            return own_rows(whole(index))
        mine = distributed.share(len(index))
        if mine.start < mine.stop:
            batch = whole(index[mine])
        else:
            batch = whole(index[:1])[slice(0, 0)]
        batch[ROW_IN_BATCH] = torch.arange(mine.start, mine.stop)
        return batch

    loader.collate_fn = collate
    return loader


def build_train_loader(config: Any, dataset: Any, sampler: Any) -> TrainDataLoader:
    """Return the loader for one of RecBole's models that it trains with its TrainDataLoader."""
    lazy = isinstance(dataset.inter_feat, SequenceRows)
    # Masked models average over the masks of a batch; a bucket of one-item histories has none that count.
    bucket = config["bucket_batches"] and dataset.trim and lazy and config["transform"] != "mask_itemseq"
    loader = BucketedTrainDataLoader if bucket else TrainDataLoader
    return loader(config, dataset, sampler, shuffle=config["shuffle"])


def build_disents2s_loader(config: Any, dataset: Any, sampler: Any) -> TrainDataLoader:
    """Return the loader for ``train_mode``."""
    if config["train_mode"] == "sequences":
        return build_window_loader(config, dataset, sampler)
    require_sequences("DisentS2S", dataset)
    return PairLoader(config, dataset, sampler, shuffle=config["shuffle"])


@dataclass
class Queries:
    """A chunk of rankings to make: Q queries, E >= Q held-out items.

    Attributes:
        number: int64 (Q,), number of each query among all of the part.
        rows: int64 (Q,), a row of the part that stands for each query.
        batch: what the model scores, of length Q.
        owner: int64 (E,), query of each held-out item.
        positives: int64 (E,), the held-out items.
    """

    number: np.ndarray
    rows: np.ndarray
    batch: Interaction
    owner: Tensor
    positives: Tensor


class HeldOutLoader:
    """The held-out rows of a part as queries, in chunks that keep the memory limit.

    Each row is a query with one held-out item; a general model that ranks all items has one
    query per user with all the user's held-out items, as in RecBole. Queries come sorted by
    the length of their history, so that trimmed batches are short.

    RecBole's trainer finds ``dataset``, ``_dataset`` and ``len()`` as on its own loaders.

    Args:
        config: ``eval_batch_size`` and ``eval_memory_mb`` bound a chunk.
        dataset: a part.
        transform: RecBole's batch transform of the model.
        full: whether all items are ranked.
    """

    def __init__(self, config: Any, dataset: Any, transform: Any, full: bool) -> None:
        self.config, self.dataset, self._dataset, self.transform = (
            config,
            dataset,
            dataset,
            transform,
        )
        self.full = full
        # Scores and a copy of those with ties live at the same time, or scores and two sorts of them.
        copies = 3 if dataset.row_is_query or not full else 7
        bytes_each = copies * (8 if config["precision"] == "double" else 4)
        limit = config["eval_memory_mb"] * 2**20 // (bytes_each * dataset.item_num)
        self.step = int(max(1, min(config["eval_batch_size"], limit)))
        feat = dataset.inter_feat
        if dataset.row_is_query:
            keys = feat[dataset.item_list_length_field].numpy()
        else:
            keys = feat[dataset.uid_field].numpy()
        self._order = np.argsort(keys, kind="stable")
        new = np.ones(len(keys), dtype=bool)
        if full and not dataset.row_is_query:
            new[1:] = np.diff(keys[self._order]) != 0
        self._bounds = np.append(np.flatnonzero(new), len(keys))

    @property
    def n_queries(self) -> int:
        """Number of queries."""
        return len(self._bounds) - 1

    def __len__(self) -> int:
        return math.ceil(self.n_queries / self.step)

    def __bool__(self) -> bool:
        return self.n_queries > 0

    def __iter__(self) -> Iterator[Queries]:
        return (queries for _, queries in self.chunks(0, 1))

    def chunks(self, first: int, every: int) -> Iterator[tuple[int, Queries]]:
        """Yield the chunks number *first*, *first* + *every*, ... with their numbers."""
        items = self.dataset.inter_feat[self.dataset.iid_field]
        # A transform draws from generators that must stay the same in every process (BERT4Rec).
        drawn = self.config["transform"] is not None
        for chunk in range(len(self)):
            if chunk % every != first and not drawn:
                continue
            begin = chunk * self.step
            bounds = self._bounds[begin : begin + self.step + 1]
            held = self._order[bounds[0] : bounds[-1]]
            owner = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
            rows = self._order[bounds[:-1]]
            # Ties are broken by query number, which must not depend on the chunks.
            number = rows if self.dataset.row_is_query else np.arange(begin, begin + len(rows))
            batch = self.transform(self.dataset, self.dataset[rows])
            held_items = items[torch.from_numpy(held)]
            if chunk % every == first:
                yield chunk, Queries(number, rows, batch, torch.from_numpy(owner), held_items)
