"""A linear rise of the learning rate over the first training steps."""

from __future__ import annotations

from typing import Any

import torch


class WarmUp:
    """Raises the learning rates of an optimiser over the first steps: rate(t) = rate * min(1, t / T).

    Adam's first steps are as large as the learning rate in every weight, whatever the gradient is. A
    transformer with LayerNorm after each sub-layer can lose what its initial weights tell about the items in
    these steps (Xiong et al., ICML 2020, "On Layer Normalization in the Transformer Architecture").

    Args:
        optimizer: optimiser whose groups have the final learning rates.
        steps: T, at least 1.

    Example:
        >>> layer = torch.nn.Linear(2, 1)
        >>> optimizer = torch.optim.Adam(layer.parameters(), lr=0.01)
        >>> warm_up = WarmUp(optimizer, 4)
        >>> layer(torch.ones(2)).sum().backward()
        >>> optimizer.step()
        >>> optimizer.param_groups[0]["lr"]
        0.0025
    """

    def __init__(self, optimizer: torch.optim.Optimizer, steps: int) -> None:
        self._rates: list[float] = [group["lr"] for group in optimizer.param_groups]
        self._steps, self._taken = steps, 0
        optimizer.register_step_pre_hook(self._before)

    def begin(self, taken: int, steps_of_epoch: int) -> None:
        """Begin or resume a training.

        Args:
            taken: steps that the training took already.
            steps_of_epoch: largest T, so that small data reach the final rate.
        """
        self._taken, self._steps = taken, max(1, min(self._steps, steps_of_epoch))

    def _before(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        if self._taken > self._steps:
            return
        self._taken += 1
        share = min(1.0, self._taken / self._steps)
        for group, rate in zip(optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * share
