"""RecBole's Pop, which counts every training click."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch


def adapt(config: Any, model_class: Any) -> type[Any]:
    """Return Pop with a ranking that depends on the training clicks only."""
    return _counting_every_click(model_class)


@cache
def _counting_every_click(model_class: type[Any]) -> type[Any]:
    """Return RecBole's Pop with corrected counts.

    RecBole's Pop counts an item once per batch, even if several rows have the item, and it counts
    sampled negatives. Its ranking therefore depends on the batches and on the seed.
    """
    if model_class.__module__ != "recbole.model.general_recommender.pop":
        return model_class

    class Pop(model_class):
        __doc__ = model_class.__doc__

        def __init__(self, config: Any, dataset: Any) -> None:
            super().__init__(config, dataset)
            self.label = config["LABEL_FIELD"]

        def calculate_loss(self, interaction: Any) -> torch.Tensor:
            """Count the clicked items of a batch; the loss is 0, float (1,)."""
            items = interaction[self.ITEM_ID]
            if self.label in interaction:
                items = items[interaction[self.label] > 0]
            self.item_cnt.index_add_(0, items, torch.ones_like(items)[:, None])
            self.max_cnt = self.item_cnt.max(0)[0]
            return torch.nn.Parameter(torch.zeros(1)).to(self.device)

    return Pop
