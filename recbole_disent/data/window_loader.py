"""Whole training sequences in batches of users, for models with a contrast between users."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from recbole_disent.data.dataloader import WindowLoader, require_sequences


class UserLoader(WindowLoader):
    """Windows as of :class:`WindowLoader`, a fixed number of them in a batch.

    A user has one window, unless the training sequence is longer than L + 1 items. Of such a
    one ``train_windows: last`` keeps the last window only.
    """

    def __len__(self) -> int:
        """Batches of an epoch; with windows at drawn offsets it may have a few more."""
        pairs, length = self._stops - self._begins - 1, self._dataset.max_item_list_len
        windows = len(pairs) if self._keeps_last else int(((pairs + length - 1) // length).sum())
        return max(1, math.ceil(windows / self.step))

    @property
    def _keeps_last(self) -> bool:
        return self.config["train_windows"] == "last"

    def _batch_of(self, pairs: Tensor) -> Tensor:
        return torch.arange(len(pairs)) // self.step

    def _windows(self) -> tuple[Tensor, Tensor, Tensor]:
        if not self._keeps_last:
            return super()._windows()
        lasts = self._stops - 1
        return self._users, torch.maximum(self._begins, lasts - self._dataset.max_item_list_len), lasts


def build_user_loader(config: Any, dataset: Any, sampler: Any) -> UserLoader:
    """Return the loader of models that learn from whole sequences of users."""
    require_sequences(config["model"], dataset)
    return UserLoader(config, dataset, sampler, shuffle=config["shuffle"])
