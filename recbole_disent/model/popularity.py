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


def is_wanted(config: Any, key: str, popular: bool) -> bool:
    """Whether a correction for popularity is wanted: ``always``, ``never``, or ``auto``.

    Args:
        config: a configuration.
        key: of the correction.
        popular: ``auto`` wants it where the candidates of the validation part are drawn by their
            popularity; False: where they are not.
    """
    if config[key] == "auto":
        return popular == (config["valid_neg_sample_args"]["distribution"] == "popularity")
    return config[key] == "always"
