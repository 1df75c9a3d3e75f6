"""Cross-entropy of the next item over a sample of the items, with a correction for the sampling."""

from __future__ import annotations

from torch import Tensor

from recbole_disent.ops.intention_softmax import Columns, weighted_logsumexp


def sampled_softmax(states: Tensor, columns: Columns, limit: int) -> Tensor:
    """Sum over positions of ln sum_i exp(w_i . F - ln q_i) - w_y . F.

    The sum runs over the columns. q_i is the probability that item i is among the columns, and it is 1 for
    items that are certain to be there. On average over many samples, the sum of the exponentials is
    therefore the sum over all items (logQ correction: Y. Bengio, J.-S. Senecal, Adaptive importance
    sampling to accelerate training of a neural probabilistic language model, IEEE Transactions on Neural
    Networks 2008). With all items as columns, the loss is the softmax over all items.

    Args:
        states: float (P, D), F at each position that is not padding.
        columns: C items; see :func:`recbole_disent.ops.intention_softmax.sample`.
        limit: largest number of scores in memory at a time.

    Returns:
        float ().
    """
    own = (states * columns.vectors.index_select(0, columns.own)).sum()
    return weighted_logsumexp(states[:, None], columns, limit=limit, scale=1.0)[0] - own
