"""What happens to a row of a table in the training steps that do not touch the row, in closed form.

Adam moves every row in every step, also a row whose gradient is zero: the moments decay, the row moves on by
its first moment, weight decay shrinks the row, and the average of the weights follows the row. All of this is
linear in the row's state after the last step s that touched it, with factors that depend on s and on the
current step t only. For a row w with the moments m and v and the average a, and u = m / (sqrt(v) + e):

    m_t = beta1^(t - s) m_s,    v_t = beta2^(t - s) v_s
    w_t = keep w_s - move u_s
    a_t = stay a_s + follow w_s - follow_move u_s

In step i, with q = 1 - lr * weight_decay, r = beta1 / sqrt(beta2), c1(i) = 1 - beta1^i, c2(i) = 1 - beta2^i
and the decay d(i) of the average, the factors change by

    keep <- q keep,    move <- q move + lr g(i),    g(i) = r^(i - s) sqrt(c2(i)) / c1(i)
    stay <- d stay,    follow <- d follow + (1 - d) keep,    follow_move <- d follow_move + (1 - d) move

The only approximation is the constant eps of Adam. In step i, dense Adam moves a row by
lr g(i) m_s / (sqrt(v_s) + e_i) with e_i = eps sqrt(c2(i) / beta2^(i - s)). These formulas replace e_i by e,
the mean of the e_i with the weights of the moves, because the moves would not be linear in u otherwise. The
relative difference of a move is of the order of (e / sqrt(v_s))^2 times the relative variance of the e_i. In
the average it is of the order of e / sqrt(v_s) times their relative deviation. The deviation is about 1 %
after the first thousands of steps, because g(i) is below 1e-6 after 150 steps with Adam's usual betas, so
that later e_i do not matter.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Factors(NamedTuple):
    """Factors of R rows, float (R, 1) each; the names are those of the module's formulas.

    ``smallest`` is e; ``first`` and ``second`` are the powers of beta1 and of beta2.
    """

    keep: Tensor
    move: Tensor
    stay: Tensor
    follow: Tensor
    follow_move: Tensor
    smallest: Tensor
    first: Tensor
    second: Tensor


class RowGaps:
    """The factors for every possible last step s since the last flush, updated in each training step.

    Args:
        lr: step size.
        betas: decays of both moments.
        eps: constant of Adam.
        weight_decay: decoupled weight decay.

    Attributes:
        start: step of the last flush, after which all rows were up to date.
        step: current step t.
    """

    def __init__(self, lr: float, betas: tuple[float, float], eps: float, weight_decay: float) -> None:
        self.betas, self.eps = betas, eps
        self.set_rate(lr, weight_decay)
        self._factors = torch.empty(len(Factors._fields), 256, dtype=torch.float64)
        self.restart(0)

    def set_rate(self, lr: float, weight_decay: float) -> None:
        """Set the step size and the weight decay of the next steps; the past steps keep theirs."""
        self.lr, self.shrink = lr, 1 - lr * weight_decay

    def restart(self, step: int) -> None:
        """Declare all rows up to date after *step* steps."""
        self.start = self.step = step
        self._cast: Tensor | None = None
        self._begin()

    def _begin(self) -> None:
        """Add the factors of rows that the current step touched."""
        place = self.step - self.start
        if place == self._factors.shape[1]:
            self._factors = torch.cat([self._factors, torch.empty_like(self._factors)], 1)
        self._factors[:, place] = torch.tensor([1.0, 0, 1, 0, 0, 0, 1, 1], dtype=torch.float64)

    def advance(self, average_decay: float | None) -> None:
        """Take one step without the rows.

        Args:
            average_decay: d of this step; None: there is no average.
        """
        beta1, beta2 = self.betas
        keep, move, stay, follow, follow_move, smallest, first, second = self._factors[
            :, : self.step - self.start + 1
        ]
        self.step += 1
        first *= beta1
        second *= beta2
        keep *= self.shrink
        bias = (1 - beta2**self.step) ** 0.5 / (1 - beta1**self.step)
        # Where beta2^gap underflows, beta1^gap is 0.
        root = second.sqrt().clamp_(min=1e-150)
        move.mul_(self.shrink).add_(first / root, alpha=self.lr * bias)
        # The sum of the e_i with their weights, which `of` divides by the sum of the weights.
        part = self.eps * (1 - beta2**self.step) ** 0.5
        smallest.mul_(self.shrink).add_(first / root**2, alpha=self.lr * bias * part)
        if average_decay is not None:
            stay *= average_decay
            follow.mul_(average_decay).add_(keep, alpha=1 - average_decay)
            follow_move.mul_(average_decay).add_(move, alpha=1 - average_decay)
        self._cast = None
        self._begin()

    def of(self, last: Tensor, dtype: torch.dtype) -> Factors:
        """Factors of rows.

        Args:
            last: int64 (R,), last step that touched each row.
            dtype: dtype of the factors.
        """
        if self._cast is None or self._cast.dtype != dtype:
            factors = self._factors[:, : self.step - self.start + 1].clone()
            move, smallest = factors[1], factors[5]
            smallest.copy_(torch.where(move > 0, smallest / move, 1.0))  # without a move, u has no effect
            self._cast = factors.to(last.device, dtype)
        return Factors(*self._cast.index_select(1, last - self.start).unsqueeze(2))
