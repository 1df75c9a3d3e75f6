"""Noise in training clicks (DisentS2S, figure 4)."""

from __future__ import annotations

import numpy as np


def replace_clicks(items: np.ndarray, n_items: int, share: float, seed: int) -> np.ndarray:
    """Replace a share of clicks by other items, drawn uniformly.

    Args:
        items: int (n,), clicked items (ids >= 1) in a fixed order.
        n_items: items, padding included.
        share: of the clicks; round(share * n) of them are replaced, drawn without replacement.
        seed: of the draw; the same seed replaces nested sets as the share grows.

    Returns:
        int (n,), a new array. A replaced click never keeps its item (if there is another).
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, n_items]))
    order = rng.permutation(len(items))
    shift = rng.integers(1, max(n_items - 1, 2), size=len(items))
    chosen = order[: round(share * len(items))]
    result = items.copy()
    # 1 + (item - 1 + shift) mod (n_items - 1) is uniform over the other items.
    result[chosen] = 1 + (items[chosen] - 1 + shift[chosen]) % (n_items - 1)
    return result
