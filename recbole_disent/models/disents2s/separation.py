"""A penalty that keeps the K intention vectors of a sequence apart."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def excess_cosine(phi: Tensor, limit: float) -> Tensor:
    """Mean over the pairs of intentions j < k of max(0, cos(phi^(j), phi^(k)) - limit)^2.

    Without this penalty, one vector serves all targets. The K vectors of a sequence come from the same
    states, and a softmax of the best or of the summed K scores does not make the vectors differ.

    Args:
        phi: float (P, K, D), K >= 1.
        limit: largest cosine of two vectors that has no penalty.

    Returns:
        float (P,); 0 for a single intention.

    Example:
        >>> excess_cosine(torch.tensor([[[1.0, 0.0], [3.0, 0.0]]]), 0.5)
        tensor([0.2500])
    """
    intentions = phi.shape[1]
    if intentions == 1:
        return phi.new_zeros(len(phi))
    first, second = torch.triu_indices(intentions, intentions, 1, device=phi.device)
    unit = F.normalize(phi, dim=-1)
    cosine = (unit[:, first] * unit[:, second]).sum(-1)
    return (cosine - limit).clamp(min=0).square().mean(-1)
