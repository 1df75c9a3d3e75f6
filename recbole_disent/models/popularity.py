"""Popularity of items in the training part, for softmaxes that use it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def log_popularity(dataset: Any) -> Tensor:
    """Return ln of each item's share of the training clicks, float (n_items,).

    An item without a training click counts as clicked once, and so does the padding item.
    """
    counts = dataset.training_counts().clip(min=1)
    return torch.from_numpy(counts / counts.sum()).log().to(torch.get_default_dtype())


def learns_lift(config: Any) -> bool:
    """Whether scores learn ln p(item | sequence) / p(item), according to the key ``softmax_learns``.

    This lift ranks candidates well that are drawn in proportion to popularity. A ranking of all items
    needs p(item | sequence). ``auto`` decides by the candidates of the validation part.
    """
    wanted = config["softmax_learns"]
    if wanted == "auto":
        return config["valid_neg_sample_args"]["distribution"] == "popularity"
    return wanted == "lift"


def scored_by_content(config: Any, dataset: Any) -> Tensor | None:
    """Mask of the items with fewer than ``score_by_content`` training clicks, bool (n_items,); None for 0."""
    if not config["score_by_content"]:
        return None
    cold = torch.from_numpy(dataset.training_counts() < config["score_by_content"])
    cold[0] = False  # padding
    return cold
