"""Measures of how much the K intention vectors of a model differ, as pure functions of tensors.

The K vectors of a model can be almost equal. Accuracy does not show this fault; these measures show it.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

# Largest number of scores in memory at a time.
_SCORES = 2**24


def mean_cosine(phi: Tensor) -> float:
    """Mean cosine of two different intention vectors of a sequence, over all pairs and sequences.

    Args:
        phi: float (B, K, D), B >= 1, K >= 2.

    Returns:
        1 if the K vectors of each sequence point in one direction, 0 if they are orthogonal.

    Example:
        >>> mean_cosine(torch.eye(2)[None])
        0.0
    """
    unit = F.normalize(phi.double(), dim=-1)
    first, second = _pairs(phi.shape[1])
    return float((unit[:, first] * unit[:, second]).sum(-1).mean())


def _pairs(n: int) -> tuple[Tensor, Tensor]:
    first, second = torch.triu_indices(n, n, 1)
    return first, second


def shares_won(scores: Tensor) -> list[float]:
    """Share of the items for which each intention has the best score; the first of equal scores wins.

    Args:
        scores: float (B, K), scores of one item of each sequence, such as the next item.

    Example:
        >>> shares_won(torch.tensor([[2.0, 1.0], [3.0, 1.0], [0.0, 1.0], [5.0, 1.0]]))
        [0.75, 0.25]
    """
    counts = scores.argmax(1).bincount(minlength=scores.shape[1])
    return [int(count) / len(scores) for count in counts]


def entropy_of_use(shares: list[float]) -> float:
    """Entropy of shares that sum to 1, divided by ln K.

    Args:
        shares: K >= 2 shares.

    Returns:
        1 if all intentions are used equally often, 0 if only one intention is used.

    Example:
        >>> entropy_of_use([0.5, 0.5, 0.0, 0.0])
        0.5
    """
    return -sum(share * math.log(share) for share in shares if share > 0) / math.log(len(shares))


def shared_share(first: Tensor, second: Tensor) -> Tensor:
    """Share of the items that two lists have in common, whatever the order of the items.

    Args:
        first, second: int64 (..., n), lists without repeated items.

    Returns:
        float64 (...).

    Example:
        >>> shared_share(torch.tensor([1, 2, 3, 4]), torch.tensor([4, 9, 1, 8])).item()
        0.5
    """
    return (first[..., :, None] == second[..., None, :]).any(-1).double().mean(-1)


def describe(phi: Tensor, targets: Tensor, table: Tensor, top: int = 10) -> dict[str, Any]:
    """Return all measures of the intentions of a model.

    Args:
        phi: float (B, K, D), B >= 1, K >= 2, intention vectors of B sequences.
        targets: int64 (B,), the next item of each sequence, >= 1.
        table: float (n_items, D), item embeddings; row 0 belongs to the padding item.
        top: length of a list; all items if there are fewer items.

    Returns:
        ``sequences``: B. ``cosine``: see :func:`mean_cosine`. ``won``: share of the targets won by each
        intention. ``entropy``: see :func:`entropy_of_use`. ``overlap``: mean share of the items that the
        top lists of two intentions have in common. ``overlap_with_all``: for each intention, the mean
        share of its top list that is also in the list of the best scores over all intentions.

    Raises:
        ValueError: there is no sequence, or there are fewer than two intentions.
    """
    count, intentions, _ = phi.shape
    if count == 0 or intentions < 2:
        raise ValueError(f"phi: got {count} sequences, {intentions} intentions, expected at least 1 and 2")
    top = min(top, len(table) - 1)
    first, second = _pairs(intentions)
    step = max(1, _SCORES // (intentions * len(table)))
    won, pairwise, with_all = [], [], []
    for begin in range(0, count, step):
        part, target = phi[begin : begin + step], targets[begin : begin + step]
        scores = part @ table.T
        won.append(scores[torch.arange(len(part), device=phi.device), :, target])
        lists = scores[:, :, 1:].topk(top).indices
        whole = scores[:, :, 1:].amax(1).topk(top).indices
        pairwise.append(shared_share(lists[:, first], lists[:, second]).mean(1))
        with_all.append(shared_share(lists, whole[:, None]))
    shares = shares_won(torch.cat(won))
    return {
        "sequences": count,
        "cosine": mean_cosine(phi),
        "won": shares,
        "entropy": entropy_of_use(shares),
        "overlap": float(torch.cat(pairwise).mean()),
        "overlap_with_all": torch.cat(with_all).mean(0).tolist(),
    }


# Above this mean cosine the K vectors are almost one vector.
_COLLAPSED = 0.9


def of_model(model: Any, loader: Any) -> dict[str, Any] | None:
    """Return the measures of a trained model on a part; None for a model without several query vectors.

    Args:
        model: a model with the interface of :class:`~recbole_disent.models.base.VectorRecommender`.
        loader: the held-out rows of a part, such as the validation part.
    """
    if not (hasattr(model, "query_vectors") and hasattr(model, "item_table") and hasattr(loader, "chunks")):
        return None
    phi, targets = [], []
    model.eval()
    with torch.no_grad():
        for _, queries in loader.chunks(0, 1):
            try:
                phi.append(model.query_vectors(queries.batch.to(model.device)))
            except NotImplementedError:  # scores that are not inner products
                return None
            targets.append(queries.positives.to(model.device))
            if phi[-1].shape[1] < 2:
                return None
        if not phi:
            return None
        return describe(torch.cat(phi), torch.cat(targets), model.item_table())


def warning_of(figures: dict[str, Any]) -> str | None:
    """Return a warning if the K vectors of a model hardly differ, and None otherwise."""
    if figures["cosine"] <= _COLLAPSED:
        return None
    return (
        f"the {len(figures['won'])} intention vectors of a sequence hardly differ (mean cosine "
        f"{figures['cosine']:.2f}): the model works like a model with a single intention"
    )
