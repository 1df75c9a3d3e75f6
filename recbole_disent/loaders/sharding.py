"""Division of each batch among several processes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from recbole.data.dataloader import TrainDataLoader
from recbole.data.interaction import Interaction

from recbole_disent.parallel import process_group

# Column of a shard of a batch: the index of each row in the global batch.
ROW_IN_BATCH = "row_in_batch"


def local_shard(batch: Interaction) -> Interaction:
    """Return this process's shard of a batch that all processes have, with the column ``row_in_batch``."""
    rows = process_group.local_slice(len(batch))
    shard = batch[rows]
    shard[ROW_IN_BATCH] = torch.arange(rows.start, rows.stop)
    return shard


def sharded(loader: TrainDataLoader) -> TrainDataLoader:
    """Change a loader so that it returns this process's shard of each batch.

    In a run of one process the loader stays unchanged. Negatives and masks are drawn for the whole batch,
    because the generators of numpy and Python must have the same state in all processes.
    """
    if not process_group.active() or getattr(loader, "shards_itself", False):
        return loader
    whole = loader.collate_fn
    negatives = getattr(loader, "neg_sample_args", {}).get("distribution", "none")
    drawn = negatives != "none" or loader.config["transform"] is not None

    def collate(index: Any) -> Interaction:
        index = np.asarray(index)
        if drawn:
            return local_shard(whole(index))
        rows = process_group.local_slice(len(index))
        if rows.start < rows.stop:
            batch = whole(index[rows])
        else:
            batch = whole(index[:1])[slice(0, 0)]
        batch[ROW_IN_BATCH] = torch.arange(rows.start, rows.stop)
        return batch

    loader.collate_fn = collate
    return loader
