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
        self._average = [p.detach().clone() for p in self._parameters.values()]
        self._steps = 0
        self._elsewhere: list[torch.Tensor] = []

    @torch.no_grad()
    def restart(self, steps: int = 0) -> None:
        """Use the model's current weights as the averages after *steps* steps."""
        self._steps = steps
        torch._foreach_copy_(self._average, list(self._parameters.values()))

    def next_decay(self) -> float:
        """Return d of the next step."""
        return min(self._decay, (2 + self._steps) / (11 + self._steps))

    def leave_to_others(self, parameters: list[torch.Tensor]) -> list[torch.Tensor]:
        """Return the averages of *parameters*, which the caller updates in place in each step from now on."""
        self._elsewhere = parameters
        pairs = list(zip(self._parameters.values(), self._average, strict=True))
        return [average for wanted in parameters for p, average in pairs if p is wanted]

    @torch.no_grad()
    def update(self, *_: Any) -> None:
        """Update the averages after a step of the optimiser, which calls this hook."""
        decay = self.next_decay()
        self._steps += 1
        left = {id(p) for p in self._elsewhere}
        pairs = zip(self._average, self._parameters.values(), strict=True)
        own = [(average, p) for average, p in pairs if id(p) not in left]
        torch._foreach_lerp_([average for average, _ in own], [p for _, p in own], 1 - decay)

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
