"""Division of each batch, or of the users, among several processes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from recbole.data.dataloader import TrainDataLoader
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_disent.data.store import SequenceStore
from recbole_disent.errors import UserError
from recbole_disent.parallel import process_group

# Column of a shard of a batch: the index of each row in the global batch.
ROW_IN_BATCH = "row_in_batch"


def own_users(store: SequenceStore, users: Tensor) -> Tensor:
    """Return which users are those of this process with the key ``divide_users``: bool, as *users*.

    The users of a process are a contiguous range, so that their events are a part of the mapped arrays.

    Args:
        store: store of all events.
        users: int64, internal user ids.
    """
    bounds = store.user_bounds(process_group.world())
    rank = process_group.rank()
    return (users >= bounds[rank]) & (users < bounds[rank + 1])


def check_divide_users(config: Any, loader: TrainDataLoader) -> None:
    """Check that a training loader can divide the users among processes, if the key asks for it.

    Raises:
        UserError: the loader cannot.
    """
    if config["divide_users"] and not getattr(loader, "divides_users", False):
        raise UserError(
            f"divide_users: got True, but {config['model']} does not train on windows of whole sequences, "
            "whose users can be divided among processes; leave divide_users out, or set "
            "train_mode=sequences if the model has it"
        )


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
