"""Noise in training clicks, as in figure 4 of the DisentS2S paper."""

from __future__ import annotations

import numpy as np


def replace_clicks(items: np.ndarray, n_items: int, share: float, seed: int) -> np.ndarray:
    """Replace a share of the clicks by other items, which are drawn uniformly.

    Args:
        items: int (n,), clicked items (ids >= 1) in a fixed order.
        n_items: number of items, including padding.
        share: fraction of the clicks to replace; round(share * n) clicks are drawn without replacement.
        seed: seed of the draw. For the same seed, a larger share replaces a superset of the clicks.

    Returns:
        int (n,), a new array. A replaced click gets a different item, unless there is only one item.
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, n_items]))
    order = rng.permutation(len(items))
    shift = rng.integers(1, max(n_items - 1, 2), size=len(items))
    chosen = order[: round(share * len(items))]
    result = items.copy()
    # 1 + (item - 1 + shift) mod (n_items - 1) is uniform over the other items.
    result[chosen] = 1 + (items[chosen] - 1 + shift[chosen]) % (n_items - 1)
    return result
