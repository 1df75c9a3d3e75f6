"""What happens to a row of a table in the training steps that do not touch the row, in closed form.

Adam moves every row in every step, also a row whose gradient is zero: the moments decay, the row moves on by
its first moment, weight decay shrinks the row, and the average of the weights follows the row. All of this is
linear in the row's state after the last step s that touched it, with factors that depend on s and on the
current step t only. For a row w with the moments m and v and the average a, and u = m / (sqrt(v) + e(s)):

    m_t = beta1^(t - s) m_s,    v_t = beta2^(t - s) v_s
    w_t = keep w_s - move u_s
    a_t = stay a_s + follow w_s - follow_move u_s

In step i, with q = 1 - lr * weight_decay, r = beta1 / sqrt(beta2), c1(i) = 1 - beta1^i, c2(i) = 1 - beta2^i
and the decay d(i) of the average, the factors change by

    keep <- q keep,    move <- q move + lr r^(i - s) sqrt(c2(i)) / c1(i)
    stay <- d stay,    follow <- d follow + (1 - d) keep,    follow_move <- d follow_move + (1 - d) move

The only approximation is the constant eps of Adam. Dense Adam divides by sqrt(v_i) + eps sqrt(c2(i)); these
formulas divide by sqrt(beta2^(i - s)) (sqrt(v_s) + e(s)) with e(s) = eps sqrt(c2(s)), because the quotient
would not be linear otherwise. The relative difference of a move is below eps / sqrt(v_s / c2(s)) while the
move matters: r^(i - s) is 1e-7 after 155 steps with Adam's usual betas.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Factors(NamedTuple):
    """Factors of R rows, float (R, 1) each; the names are those of the module's formulas.

    ``smallest`` is e(s); ``first`` and ``second`` are the powers of beta1 and of beta2.
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
        self.lr, self.betas, self.eps = lr, betas, eps
        self.shrink = 1 - lr * weight_decay
        self._factors = torch.empty(len(Factors._fields), 256, dtype=torch.float64)
        self.restart(0)

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
        self._factors[:, place] = torch.tensor([1.0, 0, 1, 0, 0, self.smallest(), 1, 1], dtype=torch.float64)

    def smallest(self) -> float:
        """e(t) of the current step; that of step 1 before the first step."""
        return self.eps * (1 - self.betas[1] ** max(1, self.step)) ** 0.5

    def advance(self, average_decay: float | None) -> None:
        """Take one step without the rows.

        Args:
            average_decay: d of this step; None: there is no average.
        """
        beta1, beta2 = self.betas
        keep, move, stay, follow, follow_move, _, first, second = self._factors[
            :, : self.step - self.start + 1
        ]
        self.step += 1
        first *= beta1
        second *= beta2
        keep *= self.shrink
        bias = (1 - beta2**self.step) ** 0.5 / (1 - beta1**self.step)
        # Where beta2^gap underflows, beta1^gap is 0.
        ratio = first / second.sqrt().clamp_(min=1e-150)
        move.mul_(self.shrink).add_(ratio, alpha=self.lr * bias)
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
            self._cast = self._factors[:, : self.step - self.start + 1].to(last.device, dtype)
        return Factors(*self._cast.index_select(1, last - self.start).unsqueeze(2))
