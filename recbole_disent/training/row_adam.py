"""Adam and AdamW for tables that a training step looks up by rows: a step costs only the rows it touches.

Dense Adam reads and writes a whole table in each step. Here a step updates the rows with a gradient. The
other rows are brought up to date when they are read or touched again, with the formulas of
:mod:`recbole_disent.training.row_gaps`. What equals dense Adam, up to rounding:

- the moments, with the decay beta^gap of the steps in between,
- the bias correction, which uses the number of all steps,
- decoupled weight decay (AdamW) and the moving average of the weights,
- the moves of a row while its gradient is zero, also in a lookup: the forward pass sees the moved row.

What differs: Adam's constant eps in the moves of untouched rows (see the formulas), and rounding. The weight
decay of Adam (not AdamW) changes the gradient of every row, so that no row is untouched; it is not supported.

A table is whole after :meth:`RowAdam.flush` only. The trainer flushes at the end of every epoch, before
evaluations and checkpoints, so that the digits of a run do not depend on when a checkpoint is written. A
table also flushes itself every 4,096 steps.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from recbole_disent.errors import UserError
from recbole_disent.parallel.process_group import DENSE_GRADIENT
from recbole_disent.training.row_gaps import RowGaps

# Rows that a flush updates at a time.
_FLUSHED = 2**16
# Steps after which a table is flushed, because the factors of a step are as many as the steps since then.
_STEPS = 4096


class _Table:
    """A table, its moments and its average, which are up to date at the rows' last steps.

    Args:
        embedding: module that looks up the table.
        gaps: factors of the untouched rows.
    """

    def __init__(self, embedding: nn.Embedding, gaps: RowGaps) -> None:
        self.weight, self.gaps = embedding.weight, gaps
        self.average: Tensor | None = None
        self.first, self.second = torch.zeros_like(self.weight.data), torch.zeros_like(self.weight.data)
        self.last = torch.zeros(len(self.weight), dtype=torch.long, device=self.weight.device)
        embedding.sparse = True  # the gradient consists of rows
        this = weakref.ref(self)  # the model may live longer than its optimiser

        def read(_: nn.Module, inputs: tuple[Tensor], found: Tensor) -> Tensor | None:
            table = this()
            return None if table is None else table.moved(inputs[0], found)

        embedding.register_forward_hook(read)

    def moved(self, ids: Tensor, found: Tensor) -> Tensor | None:
        """Rows that were looked up, as they are after the current step; None: they are up to date.

        Args:
            ids: int64, any shape.
            found: float (..., D), rows of the table; the result has their gradient.
        """
        if self.gaps.step == self.gaps.start:
            return None
        with torch.no_grad():
            flat, rows = ids.reshape(-1), found.detach().reshape(-1, found.shape[-1])
            factors = self.gaps.of(self.last.index_select(0, flat), rows.dtype)
            u = self.first.index_select(0, flat).div_(
                self.second.index_select(0, flat).sqrt_().add_(factors.smallest)
            )
            rows = (rows * factors.keep).sub_(u.mul_(factors.move)).view_as(found)
        return rows + (found - found.detach())

    def _up_to_date(self, ids: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Copies of rows, of their moments and of their average, as they are after the current step."""
        values, first, second = (
            part.index_select(0, ids) for part in (self.weight.data, self.first, self.second)
        )
        factors = self.gaps.of(self.last.index_select(0, ids), values.dtype)
        u = first / (second.sqrt().add_(factors.smallest))
        average = None
        if self.average is not None:
            average = self.average.index_select(0, ids).mul_(factors.stay)
            average.add_(values * factors.follow).sub_(u * factors.follow_move)
        values.mul_(factors.keep).sub_(u.mul_(factors.move))
        return values, first.mul_(factors.first), second.mul_(factors.second), average

    def _write(
        self, ids: Tensor, values: Tensor, first: Tensor, second: Tensor, average: Tensor | None, step: int
    ) -> None:
        parts = [(self.weight.data, values), (self.first, first), (self.second, second)]
        if self.average is not None and average is not None:
            parts.append((self.average, average))
        for whole, rows in parts:
            whole.index_copy_(0, ids, rows)
        self.last.index_fill_(0, ids, step)

    def step(self, gradient: Tensor | None, average_decay: float | None) -> None:
        """Update the rows of a coalesced sparse gradient; None: no row."""
        gaps = self.gaps
        if gradient is not None:
            step, (beta1, beta2) = gaps.step + 1, gaps.betas
            ids, rows = gradient.indices()[0], gradient.values()
            values, first, second, average = self._up_to_date(ids)
            first.lerp_(rows, 1 - beta1)
            second.mul_(beta2).addcmul_(rows, rows, value=1 - beta2)
            below = (second.sqrt() / (1 - beta2**step) ** 0.5).add_(gaps.eps)
            values.mul_(gaps.shrink).addcdiv_(first, below, value=-gaps.lr / (1 - beta1**step))
            if average is not None and average_decay is not None:
                average.lerp_(values, 1 - average_decay)
            self._write(ids, values, first, second, average, step)
        gaps.advance(average_decay)
        if gaps.step - gaps.start >= _STEPS:
            self.flush()

    def flush(self) -> None:
        """Bring all rows up to date."""
        if self.gaps.step == self.gaps.start:
            return
        for ids in torch.arange(len(self.weight), device=self.last.device).split(_FLUSHED):
            self._write(ids, *self._up_to_date(ids), self.gaps.step)
        self.gaps.restart(self.gaps.step)

    def state(self) -> dict[str, Any]:
        self.flush()
        return {"step": self.gaps.step, "exp_avg": self.first, "exp_avg_sq": self.second}

    def load(self, state: dict[str, Any]) -> None:
        shapes = {state[name].shape for name in ("exp_avg", "exp_avg_sq")}
        if shapes != {self.weight.shape} or type(state["step"]) is not int or state["step"] < 0:
            raise ValueError("the state does not fit the table")
        self.first.copy_(state["exp_avg"])
        self.second.copy_(state["exp_avg_sq"])
        self.last.fill_(state["step"])
        self.gaps.restart(state["step"])


class RowAdam(torch.optim.Optimizer):
    """Dense Adam for most parameters, and the same steps for tables at the rows that have a gradient.

    The embeddings of *tables* get ``sparse=True`` and a forward hook, which brings the rows of each lookup up
    to date. The training step must read the tables through these modules only.

    Args:
        dense: ``Adam`` or ``AdamW`` with the other parameters; its defaults hold for the tables.
        tables: embedding -> options of the table (``lr``, ``weight_decay``), which replace the defaults.
        clip: arguments of ``torch.nn.utils.clip_grad_norm_``, which clips all gradients before a step; None:
            gradients are not clipped.

    Raises:
        UserError: weight decay that is part of the gradient.

    Example:
        >>> items = torch.nn.Embedding(1_000_000, 64)
        >>> layer = torch.nn.Linear(64, 64)
        >>> optimizer = RowAdam(torch.optim.Adam(layer.parameters(), lr=0.001), {items: {"lr": 0.01}})
    """

    def __init__(
        self,
        dense: torch.optim.Adam,
        tables: dict[nn.Embedding, dict[str, Any]],
        clip: dict[str, Any] | None = None,
    ) -> None:
        groups = [{"params": [table.weight], **options} for table, options in tables.items()]
        super().__init__(groups, {key: dense.defaults[key] for key in ("lr", "betas", "eps", "weight_decay")})
        self.tables: list[_Table] = []
        for table, group in zip(tables, self.param_groups, strict=True):
            if group["weight_decay"] and not isinstance(dense, torch.optim.AdamW):
                raise UserError(
                    f"weight_decay: got {group['weight_decay']} with item_optimizer=sparse and learner=adam, "
                    "whose weight decay changes every row of a table in every step; expected learner=adamw, "
                    "weight_decay=0 or item_optimizer=dense"
                )
            gaps = RowGaps(group["lr"], group["betas"], group["eps"], group["weight_decay"])
            self.tables.append(_Table(table, gaps))
        self.dense, self.clip = dense, clip
        self._row_groups = self.param_groups
        self.param_groups = [*dense.param_groups, *self._row_groups]
        self.state = dense.state
        self._next_decay: Callable[[], float] | None = None

    @property
    def row_parameters(self) -> list[Tensor]:
        """The tables."""
        return [table.weight for table in self.tables]

    def keep_average(self, averages: list[Tensor], next_decay: Callable[[], float]) -> None:
        """Update averages of the tables in each step.

        Args:
            averages: float (rows, D), one for each table, changed in place.
            next_decay: function that returns the decay of the average in the next step.
        """
        self._next_decay = next_decay
        for table, average in zip(self.tables, averages, strict=True):
            table.average = average

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Take a step with the gradients of all parameters.

        Raises:
            UserError: a table has a dense gradient, because the loss reads the whole table.
        """
        gradients = []
        for table in self.tables:
            gradient = table.weight.grad
            if gradient is not None and not gradient.is_sparse:
                raise UserError(DENSE_GRADIENT)
            gradients.append(None if gradient is None else gradient.coalesce())
        if self.clip is not None:
            self._clip(gradients, **self.clip)
        self.dense.step()
        for table, group in zip(self.tables, self._row_groups, strict=True):
            table.gaps.set_rate(group["lr"], group["weight_decay"])
        decay = None if self._next_decay is None else self._next_decay()
        for table, gradient in zip(self.tables, gradients, strict=True):
            table.step(gradient, decay)

    def _clip(self, gradients: list[Tensor | None], **options: Any) -> None:
        found: list[Tensor] = [p for group in self.dense.param_groups for p in group["params"]]
        for gradient in gradients:
            if gradient is not None and len(gradient.values()):
                rows = nn.Parameter(torch.empty_like(gradient.values()))
                rows.grad = gradient.values()  # scaled in place
                found.append(rows)
        nn.utils.clip_grad_norm_(found, **options)

    def flush(self) -> None:
        """Bring all rows of the tables, their moments and their averages up to date."""
        with torch.no_grad():
            for table in self.tables:
                table.flush()

    def state_dict(self) -> dict[str, Any]:
        """State of the dense optimiser and of the tables, after a flush."""
        with torch.no_grad():
            return {"dense": self.dense.state_dict(), "rows": [table.state() for table in self.tables]}

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from the value of :meth:`state_dict`.

        Raises:
            ValueError: the state belongs to other tables.
        """
        self.dense.load_state_dict(state_dict["dense"])
        self.param_groups = [*self.dense.param_groups, *self._row_groups]
        self.state = self.dense.state
        for table, state in zip(self.tables, state_dict["rows"], strict=True):
            table.load(state)
