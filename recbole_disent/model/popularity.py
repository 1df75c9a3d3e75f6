"""How popular items are in the training part, for softmaxes that take it into account."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def log_share(dataset: Any) -> Tensor:
    """Return ln of each item's share of the training clicks, float (n_items,).

    An item without a training click, and the padding item, count as if clicked once.
    """
    counts = dataset.training_counts().clip(min=1)
    return torch.from_numpy(counts / counts.sum()).log().to(torch.get_default_dtype())


def logit_adjustment(config: Any, dataset: Any) -> Tensor | None:
    """Return what ``logit_adjustment`` adds to the scores of the items, float (n_items,) or None."""
    return log_share(dataset) if is_wanted(config["logit_adjustment"], config, popular=True) else None


def is_wanted(setting: str, config: Any, popular: bool) -> bool:
    """Whether a correction for popularity is wanted.

    Args:
        setting: ``always``, ``never``, or ``auto``.
        config: a configuration.
        popular: ``auto`` wants it where the candidates of the validation part are drawn by their
            popularity; False: where they are not.
    """
    if setting == "auto":
        return popular == (config["valid_neg_sample_args"]["distribution"] == "popularity")
    return setting == "always"
