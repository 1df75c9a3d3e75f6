"""RecBole's data set of general models, with the held-out rows of sequential models."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from recbole.data.interaction import Interaction, cat_interactions
from torch import Tensor

from recbole_disent.data.click_noise import replace_clicks
from recbole_disent.data.dataset import PartDataset
from recbole_disent.data.ordering import group_order, value_order
from recbole_disent.data.store import flatten_ranges


class InteractionDataset(PartDataset):
    """RecBole's Dataset for general models, with the same held-out rows as :class:`SequenceDataset`.

    The first interaction of a user is never a target of a sequential model, and the second interaction is
    needed for training. Therefore two rows of a user are never held out, where RecBole keeps one.
    """

    rows_kept = 2
    one_target_per_query = False
    # The begin and the end of each user's events in the earlier parts, and the items of these events.
    _earlier: tuple[Tensor, Tensor, Tensor] | None = None

    def _row_times(self) -> np.ndarray:
        return self._times

    def sort(self, by: Any, ascending: Any = True) -> None:
        """Sort the rows; a sort by time uses the same precision as the order of sequences."""
        if by == self.time_field and self._times is not None:
            order = value_order(self._times)
            self.inter_feat._reindex(torch.from_numpy(order))
            self._times = self._times[order]
        else:
            super().sort(by, ascending)

    def build(self) -> list[Any]:
        """Split into the training, validation and test part."""
        parts = super().build()
        sizes = [len(part.inter_feat) for part in parts]
        history = tuple(
            np.concatenate([part.inter_feat[field].numpy() for part in parts])
            for field in (self.uid_field, self.iid_field)
        )
        if self.benchmark_filename_list is not None and self._times is not None:
            # The events of a file are in the same order as in sequences.
            order = np.lexsort((self._times, np.repeat(np.arange(3), sizes)))
            history = tuple(side[order] for side in history)
        self._forget_times(parts)
        seen = np.arange(sum(sizes)) < sizes[0]
        if self.config["click_noise"]:
            self._corrupt(parts[0].inter_feat)
        for number, dataset in enumerate(parts):
            dataset.history, dataset.train_mask = history, seen
            dataset._earlier_parts = parts[:number]
        return parts

    def joined_with(self, valid: InteractionDataset) -> InteractionDataset:
        """Return this training part and a validation part as one training part."""
        both = self.copy(cat_interactions([self.inter_feat, valid.inter_feat]))
        both.train_mask = np.arange(len(self.train_mask)) < len(both.inter_feat)
        return both

    def earlier(self, index: np.ndarray) -> tuple[Tensor, Tensor]:
        """Return the events of the user of each row in earlier parts.

        See :meth:`SequenceDataset.earlier` for the arguments and the result.
        """
        if self._earlier is None:
            users = torch.cat([part.inter_feat[self.uid_field] for part in self._earlier_parts])
            items = torch.cat([part.inter_feat[self.iid_field] for part in self._earlier_parts])
            ends = users.bincount(minlength=self.user_num).cumsum(0)
            begins = torch.cat([ends.new_zeros(1), ends[:-1]])
            self._earlier = begins, ends, items[users.argsort(stable=True)]
        begins, ends, items = self._earlier
        wanted = self.inter_feat[self.uid_field][torch.from_numpy(index)]
        return flatten_ranges(begins[wanted], ends[wanted], items)

    def _corrupt(self, train: Interaction) -> None:
        """Replace the same clicks as :class:`SequenceDataset`, in the order of users and then of time."""
        order = group_order(train[self.uid_field].numpy())
        items = train[self.iid_field].numpy().copy()
        items[order] = replace_clicks(
            items[order], self.item_num, self.config["click_noise"], self.config["click_noise_seed"]
        )
        train[self.iid_field] = torch.from_numpy(items)
