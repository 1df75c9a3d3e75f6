"""Time of single operations with random numbers, of which docs/design-decisions.md speaks.

* A training step of causal attention, forward and backward, in this package and in torch.
* The scores of a ranking in three number formats. int8 is shown with and without the conversion of its sums
  to float32, which a ranking needs.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from common import arguments, clock, table
from torch import Tensor
from torch.nn import functional as F

from recbole_disent.ops.causal_attention import causal_attention


def milliseconds(rows: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Return the shortest of *repeats* times of each row; the rows take turns."""
    now = clock()
    found = dict.fromkeys(rows, float("inf"))
    for _ in range(repeats + 1):
        for name, work in rows.items():
            start = now()
            work()
            found[name] = min(found[name], 1000 * (now() - start))
    return found


def attention(length: int, sequences: int) -> dict[str, Callable[[], object]]:
    """Forward and backward passes over *sequences* sequences, one head of width 32."""
    parts = [torch.randn(sequences, 1, length, 32, requires_grad=True) for _ in range(3)]

    def step(attend: Callable[[Tensor, Tensor, Tensor], Tensor]) -> object:
        return torch.autograd.grad(attend(*parts).sum(), parts)

    def ours(dropout: float) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
        return lambda *parts: causal_attention(*parts, dropout=dropout, training=True)

    return {
        "torch": lambda: step(lambda *parts: F.scaled_dot_product_attention(*parts, is_causal=True)),
        "this package": lambda: step(ours(0.0)),
        "this package, dropout 0.2": lambda: step(ours(0.2)),
    }


def scores(users: int, items: int) -> dict[str, Callable[[], object]]:
    """Products of *users* and *items* vectors of width 64."""
    left, right = torch.randn(users, 64), torch.randn(items, 64)
    half = left.bfloat16(), right.bfloat16()
    short = left.clamp(-3, 3).mul(40).to(torch.int8), right.clamp(-3, 3).mul(40).to(torch.int8)
    return {
        "float32": lambda: left @ right.T,
        "bfloat16": lambda: half[0] @ half[1].T,
        "int8": lambda: torch._int_mm(short[0], short[1].T),
        "int8, sums as float32": lambda: torch._int_mm(short[0], short[1].T).float(),
    }


def main() -> None:
    """Print both tables."""
    args = arguments(__doc__ or "", length=200, sequences=256, users=256, items=54_542, repeats=10)
    found = milliseconds(attention(args.length, args.sequences), args.repeats)
    print(f"{args.sequences} sequences of {args.length} items, {args.threads} thread(s)")
    table(list(found.items()), ("attention, forward and backward", "ms"))
    found = milliseconds(scores(args.users, args.items), args.repeats)
    print(f"\n{args.users} users and {args.items} items, {args.threads} thread(s)")
    table(list(found.items()), ("scores", "ms"))


if __name__ == "__main__":
    main()
