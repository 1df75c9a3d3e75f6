"""Metrics beyond accuracy, in RecBole's register: intra-list diversity and repeat share."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from recbole.evaluator import register
from recbole.evaluator.base_metric import AbstractMetric
from recbole.utils import EvaluatorType
from scipy.sparse import csr_matrix
from scipy.sparse.linalg import svds
from torch import Tensor


class _ListMetric(AbstractMetric):
    metric_type = EvaluatorType.RANKING

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.topk: list[int] = config["topk"]

    def _at(self, name: str, values: np.ndarray) -> dict[str, float]:
        """Return name@k -> value for each cut-off, from float (max k,), the means over the queries."""
        return {f"{name}@{k}": round(float(values[k - 1]), self.decimal_place) for k in self.topk}


class IntraListDiversity(_ListMetric):
    """Mean of 1 - cosine over all pairs of items of a list; 0 for lists of one item.

    The vectors of items are the same for every model. They are left singular vectors of the training
    item x user matrix (:func:`cooccurrence_vectors`).
    """

    metric_need = ["rec.items", "data.item_vectors"]  # noqa: RUF012  (RecBole's name and type)

    def calculate_metric(self, dataobject: Any) -> dict[str, float]:
        """Return ``intralistdiversity@k`` for each cut-off."""
        items: Tensor = dataobject.get("rec.items")
        vectors: Tensor = dataobject.get("data.item_vectors")
        total = torch.zeros(items.shape[1], dtype=torch.float64)
        for part in items.split(1024):
            v = vectors[part]
            # |sum v|^2 = sum |v|^2 + 2 * sum over pairs of v.w
            square = (v * v).sum(-1).cumsum(1)
            total += ((v.cumsum(1) ** 2).sum(-1) - square).sum(0)
        k = np.arange(1, items.shape[1] + 1)
        pairs = np.maximum(k * (k - 1), 1)
        mean = 1.0 - total.numpy() / (len(items) * pairs)
        mean[0] = 0.0
        return self._at("intralistdiversity", mean)


class RepeatShare(_ListMetric):
    """Share of the items of a list that the user has met before."""

    metric_need = ["rec.repeats"]  # noqa: RUF012

    def calculate_metric(self, dataobject: Any) -> dict[str, float]:
        """Return ``repeatshare@k`` for each cut-off."""
        repeats = dataobject.get("rec.repeats").double().cumsum(1).mean(0).numpy()
        return self._at("repeatshare", repeats / np.arange(1, len(repeats) + 1))


def register_metrics() -> None:
    """Register these metrics with RecBole's configuration and evaluator. Idempotent."""
    for metric in (IntraListDiversity, RepeatShare):
        name = metric.__name__.lower()
        register.metrics_dict[name] = metric
        register.metric_information[name] = metric.metric_need
        register.metric_types[name] = metric.metric_type


def cooccurrence_vectors(users: np.ndarray, items: np.ndarray, n_users: int, n_items: int) -> Tensor:
    """Unit vectors of items from at most 32 singular vectors of the training clicks.

    Returns:
        float (n_items, d); items without a training click have the zero vector.
    """
    matrix = csr_matrix((np.ones(len(users)), (items, users)), shape=(n_items, n_users))
    rank = min(32, min(matrix.shape) - 2)
    if rank < 1:
        return torch.zeros(n_items, 1)
    start = np.random.default_rng(0).standard_normal(min(matrix.shape))
    left, values, _ = svds(matrix.astype(np.float64), k=rank, v0=start)
    # Rows without clicks are zero but for rounding errors, which division by their norm would enlarge.
    vectors = left * values * (matrix.getnnz(axis=1) > 0)[:, None]
    norm = np.linalg.norm(vectors, axis=1, keepdims=True)
    return torch.from_numpy((vectors / np.maximum(norm, 1e-12)).astype(np.float32))
