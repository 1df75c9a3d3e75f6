"""Exponential moving average of a model's weights over the training steps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


class WeightAverage:
    """Averages of a model's parameters, which evaluation and checkpoints use instead of the last values.

    After training step t (from 1 on): average <- d * average + (1 - d) * value with
    d = min(decay, (1 + t) / (10 + t)), so that the first weights soon lose their influence. Training
    itself does not change. Buffers, such as running statistics, are not averaged.

    Args:
        model: model whose parameters are averaged; their current values are the first averages.
        decay: in (0, 1).
    """

    def __init__(self, model: torch.nn.Module, decay: float) -> None:
        self._parameters = dict(model.named_parameters())
        self._decay = decay
        self.restart()

    @torch.no_grad()
    def restart(self, steps: int = 0) -> None:
        """Use the model's current weights as the averages after *steps* steps."""
        self._steps = steps
        self._average = [p.clone() for p in self._parameters.values()]

    @torch.no_grad()
    def update(self, *_: Any) -> None:
        """Update the averages after a step of the optimiser, which calls this hook."""
        self._steps += 1
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
        torch._foreach_lerp_(self._average, list(self._parameters.values()), 1 - decay)

    @contextmanager
    def in_model(self) -> Iterator[None]:
        """Put the averages into the model for the duration of a block."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        values = [p.clone() for p in self._parameters.values()]
        torch._foreach_copy_(list(self._parameters.values()), self._average)
        torch._foreach_copy_(self._average, values)

    def state(self) -> dict[str, Any]:
        """The number of steps and the weights' own values, while the averages are in the model."""
        return {"steps": self._steps, "values": dict(zip(self._parameters, self._average, strict=True))}
