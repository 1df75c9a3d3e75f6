"""How popular items are in the training part, for softmaxes that take it into account."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def log_popularity(dataset: Any) -> Tensor:
    """Return ln of each item's share of the training clicks, float (n_items,).

    An item without a training click, and the padding item, count as if clicked once.
    """
    counts = dataset.training_counts().clip(min=1)
    return torch.from_numpy(counts / counts.sum()).log().to(torch.get_default_dtype())


def learns_lift(config: Any) -> bool:
    """Whether scores are to learn ln p(item | sequence) / p(item), by the key ``softmax_learns``.

    The lift is the right order for candidates that are drawn by popularity; for a ranking of all
    items it is p(item | sequence). ``auto`` decides by the candidates of the validation part.
    """
    wanted = config["softmax_learns"]
    if wanted == "auto":
        return config["valid_neg_sample_args"]["distribution"] == "popularity"
    return wanted == "lift"


def scored_by_content(config: Any, dataset: Any) -> Tensor | None:
    """Mask of the items with fewer than ``score_by_content`` training clicks, or None: bool (n_items,)."""
    if not config["score_by_content"]:
        return None
    cold = torch.from_numpy(dataset.training_counts() < config["score_by_content"])
    cold[0] = False  # padding
    return cold
