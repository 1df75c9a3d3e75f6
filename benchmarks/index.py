"""Recall and speed of an approximate index, against exact scores of all items.

The vectors are drawn, since a trained table of a million items is not at hand.

* ``--vectors clustered`` is like trained tables: item = length * (centre + s), with one of 2000 centres from
  N(0, I) in all dimensions, s from N(0, I) in a subspace of 16 dimensions, and ln length from N(0, 0.25^2).
* ``--vectors random`` is the worst case: all items from N(0, I).

A user has K query vectors; each is 0.8 * (vector of a random item) + 0.3 * N(0, I).

The effort of the index is chosen on 500 users, as an export chooses it. Recall and speed are measured on 500
others, in turns with exact scoring by the code of the recommender, on one thread and in CPU time. The last
lines are ``recall=<share of the exact 10 best>`` and ``speed=<exact / index>``.
"""

from __future__ import annotations

import torch
from common import arguments, clock, table
from torch import Tensor

from recbole_disent.serving import approximate
from recbole_disent.serving.encode import pad_rows
from recbole_disent.serving.index import Index
from recbole_disent.serving.select import NEVER, top_items

BEST, USERS, ROUNDS = 10, 500, 5


def draw(kind: str, items: int, width: int, n_vectors: int) -> tuple[Tensor, Tensor]:
    """Item vectors, (items + 1, width) with the padding first, and query vectors, (2 * USERS, K, width)."""
    generator = torch.Generator().manual_seed(2020)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    if kind == "random":
        vectors = normal(items + 1, width)
    else:
        centres = normal(2000, width)
        basis = torch.linalg.qr(normal(width, 16))[0]
        centre = torch.randint(len(centres), (items + 1,), generator=generator)
        vectors = (normal(items + 1, 16) @ basis.T + centres[centre]) * (0.25 * normal(items + 1, 1)).exp()
    vectors[0] = 0
    near = torch.randint(1, items + 1, (2 * USERS * n_vectors,), generator=generator)
    queries = 0.8 * vectors[near] + 0.3 * normal(len(near), width)
    return vectors, queries.view(2 * USERS, n_vectors, width)


def exact(padded: Tensor, n_items: int, queries: Tensor, step: int) -> Tensor:
    """Exact 10 best items, as the recommender finds them: int64 (B, 10)."""
    found = []
    for part in queries.split(step):
        products = torch.mm(part.flatten(0, 1), padded.T).view(*part.shape[:2], -1)
        scores = products[:, 0] if part.shape[1] == 1 else products.amax(1)
        scores[:, 0] = NEVER
        scores[:, n_items:] = NEVER
        found.append(top_items(scores.contiguous(), BEST)[1])
    return torch.cat(found)


def main() -> None:
    args = arguments(__doc__, items=1_000_000, width=64, queries=4, kind="faiss", vectors="clustered")
    now = clock()
    vectors, queries = draw(args.vectors, args.items, args.width, args.queries)
    start = now()
    index = Index.build(args.kind, vectors)
    built = now() - start
    approximate.tune(index, vectors, queries[:USERS])
    padded, held_out = pad_rows(vectors), queries[USERS:]
    step = max(1, 64 // args.queries)
    seconds = {"exact": 0.0, args.kind: 0.0}
    same = 0
    for part in held_out.split(USERS // ROUNDS):
        start = now()
        wanted = exact(padded, len(vectors), part, step)
        seconds["exact"] += now() - start
        start = now()
        found = approximate.best_of(index, vectors, part, BEST, BEST).items
        seconds[args.kind] += now() - start
        same += int((found[:, :, None] == wanted[:, None]).any(2).sum())
    recall = same / (USERS * BEST)
    print(f"{args.items} items, width {args.width}, K = {args.queries}, {args.vectors} vectors, "
          f"{args.threads} thread(s); {args.kind} built in {built:.0f} s, effort {index.effort}")  # fmt: skip
    rows = [(name, time / USERS * 1e3, 1.0 if name == "exact" else recall) for name, time in seconds.items()]
    table(rows, ("", "ms a user", "recall of the exact 10 best"))
    print(f"recall={recall:.4f}")
    print(f"speed={seconds['exact'] / seconds[args.kind]:.1f}")


if __name__ == "__main__":
    main()
