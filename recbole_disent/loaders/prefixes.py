"""Training loaders of prefixes of sequences: RecBole's rows, optionally in buckets or with futures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from recbole.data.dataloader import TrainDataLoader
from recbole.data.interaction import Interaction

from recbole_disent import registry
from recbole_disent.data.lazy_interaction import LazyInteraction
from recbole_disent.loaders.windows import require_sequences

# Number of batches in a bucket. The rows of a bucket are drawn at random and then sorted by length.
_BUCKET_BATCHES = 50


class BucketedTrainDataLoader(TrainDataLoader):
    """RecBole's training loader with histories of similar length in each batch.

    At each epoch the loader shuffles all rows, cuts them into buckets of 50 batches, sorts each bucket by
    length and shuffles the batches. An epoch therefore contains every row once, and the batches differ
    from epoch to epoch. The batches are made in this process; RecBole's key ``worker`` has no effect.
    """

    def __iter__(self) -> Iterator[Interaction]:
        for index in self._epoch():
            yield self.collate_fn(index)

    def _epoch(self) -> list[np.ndarray]:
        rows: LazyInteraction = self._dataset.inter_feat
        lengths = rows[rows.length_field].numpy()
        order = torch.randperm(len(rows), generator=self.generator).numpy()
        bucket = np.arange(len(order)) // (_BUCKET_BATCHES * self.step)
        order = order[np.lexsort((lengths[order], bucket))]
        batches = [order[i : i + self.step] for i in range(0, len(order), self.step)]
        shuffled = torch.randperm(len(batches), generator=self.generator).tolist()
        return [batches[i] for i in shuffled]


class PairLoader(TrainDataLoader):
    """Loader of pairs (past, future): RecBole's rows, each with its reversed future.

    The pairs are those of section 3.3 of the KDD 2020 paper. A future ends with the user's last
    training item.
    """

    def collate_fn(self, index: Any) -> Interaction:
        """Return a batch that has the additional columns ``future_<item list>`` and ``future_<length>``."""
        batch = super().collate_fn(index)
        dataset, rows = self._dataset, self._dataset.inter_feat
        ends = rows.rows[torch.as_tensor(np.asarray(index))]
        stops = dataset.train_end[batch[dataset.uid_field]]
        items, lengths = dataset.store.futures(dataset.iid_field, ends, stops, rows.max_length)
        name = dataset.iid_field + self.config["LIST_SUFFIX"]
        batch["future_" + name] = items[:, : max(int(lengths.max()), 1)]
        batch["future_" + rows.length_field] = lengths
        return batch


def build_train_loader(config: Any, dataset: Any, sampler: Any) -> TrainDataLoader:
    """Return the loader for a model of RecBole that RecBole trains with its TrainDataLoader."""
    lazy = isinstance(dataset.inter_feat, LazyInteraction)
    bucketable = registry.spec_of(config["model"]).bucketable
    bucket = config["bucket_batches"] and dataset.trim and lazy and bucketable
    loader = BucketedTrainDataLoader if bucket else TrainDataLoader
    return loader(config, dataset, sampler, shuffle=config["shuffle"])


def build_pair_loader(config: Any, dataset: Any, sampler: Any) -> PairLoader:
    """Return the loader of pairs (past, future), in which each pair is encoded separately."""
    require_sequences(config["model"], dataset)
    return PairLoader(config, dataset, sampler, shuffle=config["shuffle"])
