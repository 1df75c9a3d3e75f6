"""One process's share of each batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from recbole.data.dataloader import TrainDataLoader
from recbole.data.interaction import Interaction

from recbole_disent.parallel import process_group

# Column of one process's share of a batch: the number of each row in the global batch.
ROW_IN_BATCH = "row_in_batch"


def local_shard(batch: Interaction) -> Interaction:
    """This process's share of a batch that all processes have, its rows numbered."""
    mine = process_group.local_slice(len(batch))
    own = batch[mine]
    own[ROW_IN_BATCH] = torch.arange(mine.start, mine.stop)
    return own


def sharded(loader: TrainDataLoader) -> TrainDataLoader:
    """Let a loader give this process's share of each batch; alone: all of it.

    Negatives and masks are drawn for the whole batch, as numpy's and Python's generators must
    stay the same in every process.
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
        mine = process_group.local_slice(len(index))
        if mine.start < mine.stop:
            batch = whole(index[mine])
        else:
            batch = whole(index[:1])[slice(0, 0)]
        batch[ROW_IN_BATCH] = torch.arange(mine.start, mine.stop)
        return batch

    loader.collate_fn = collate
    return loader
