"""Penalties that keep the K intention vectors of a sequence apart and in use."""

from __future__ import annotations

import math

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


def imbalance(scores: Tensor) -> Tensor:
    """Kullback-Leibler divergence of the use of the K intentions from equal use.

    The use of intention k is the mean over the pairs of softmax_k of the scores of the next item:

        use_k = 1/P sum_p softmax_k(scores_p),    imbalance = -ln K - 1/K sum_k ln use_k

    Without this penalty, one intention can serve most targets. The pairs of its own targets choose the
    intention more and more often, as the experts in a mixture (Shazeer et al., ICLR 2017).

    Args:
        scores: float (P, K), scores of each pair's next item by the K intention vectors, P >= 1.

    Returns:
        float (), 0 for equal use.

    Example:
        >>> imbalance(torch.zeros(5, 4))
        tensor(0.)
    """
    use = torch.logsumexp(scores.log_softmax(1), 0) - math.log(len(scores))
    return -math.log(scores.shape[1]) - use.mean()
