"""Which items a next item stands against in the seq2item loss of DisentS2S: the key ``negatives``."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from recbole_disent.errors import UserError
from recbole_disent.models.disents2s import losses
from recbole_disent.models.disents2s.pairs import Pairs
from recbole_disent.ops.intention_softmax import Columns, own_scores, weighted_logsumexp
from recbole_disent.parallel import process_group


def check(config: Any) -> None:
    """Check the keys of the seq2item softmax together.

    Raises:
        UserError: a correction of in-batch negatives for a softmax that has none, or the future's items one
            by one against a sample.
    """
    wanted, variant = config["negatives"], config["seq2seq_variant"]
    if config["softmax_learns"] == "lift" and resolve(config, 1) != "batch":
        raise UserError(
            f"softmax_learns: got lift with negatives={wanted}, expected auto or probability: only a softmax "
            "over the batch learns the lift (negatives=batch)"
        )
    if wanted == "sampled" and variant in ("all_items", "next_items"):
        raise UserError(
            f"negatives: got sampled with seq2seq_variant={variant}, expected all, batch or auto: the items "
            "of the future would not be in the sample"
        )


def resolve(config: Any, n_items: int) -> str:
    """Return ``all``, ``sampled`` or ``batch``: what ``negatives`` is, or what ``auto`` stands for.

    Args:
        config: a configuration.
        n_items: rows of the item table, padding included.
    """
    wanted: str = config["negatives"]
    if wanted != "auto":
        return wanted
    if config["valid_neg_sample_args"]["distribution"] == "popularity":
        return "batch"
    if n_items - 1 <= config["sampled_negatives"]:
        return "all"
    return "batch" if config["seq2seq_variant"] in ("all_items", "next_items") else "sampled"


def over_batch(
    pairs: Pairs,
    blocks: process_group.Blocks,
    groups: Tensor | None,
    log_popularity: Tensor | None,
    pooling: str,
    limit: int,
    weight: float | None,
) -> tuple[Tensor, Tensor | None]:
    """Sum of seq2item among the next items of the batch, and of its variants for items of the future.

    Args:
        pairs: of this process.
        blocks: how the global batch is divided.
        groups: int64 (P,) or None; see :func:`~recbole_disent.models.disents2s.losses.seq2item`.
        log_popularity: float (n_items,) or None; ln of each item's share, taken off its scores.
        pooling: ``logsumexp``, ``max`` or ``paper``; see :func:`.losses.seq2item`.
        limit: scores that may exist at a time.
        weight: of the second sum; None: there is none.

    Returns:
        Both sums, float (), the second with its weight.
    """
    # Columns of the score matrix: the next items of all processes. Rows: the own pasts.
    rows, targets = blocks.row_index(), blocks.gather(pairs.target_vectors)
    share = None if log_popularity is None else log_popularity[blocks.gather(pairs.targets)]
    item = losses.seq2item(pairs.past, targets, groups, share, limit, rows, pooling).sum()
    if weight is None:
        return item, None
    shares = None if log_popularity is None or share is None else (share, log_popularity[pairs.items])
    items, owner = pairs.item_vectors, pairs.owner
    rest = losses.future_items(pairs.past, targets, items, owner, groups, shares, limit, rows, pooling)
    return item, weight * rest.sum()


def over_items(
    pairs: Pairs, columns: Columns, pooling: str, limit: int, weight: float | None
) -> tuple[Tensor, Tensor | None]:
    """Sum of seq2item among *columns*, and of its variants for items of the future.

    loss_p = logsumexp over items i, k of h_i . phi_p^(k) / sqrt(D)
             - max over k of h_p . phi_p^(k) / sqrt(D)

    With *pooling* ``max`` the first term is the logsumexp over i of the max over k; with ``logsumexp`` the
    second is the logsumexp over k. An item of the future takes the place of the next item, among the
    same columns: variants (2) and (3) of the paper.

    Args:
        pairs: of this process.
        columns: the items of the softmax; with *weight* all items.
        pooling: ``logsumexp``, ``max`` or ``paper``; see :func:`.losses.seq2item`.
        limit: scores that may exist at a time.
        weight: of the second sum; None: there is none.

    Returns:
        Both sums, float (), the second with its weight. Their logsumexps are of the same scores, and the
        gradient of both is in the first sum: only the total of the two is to be used for training.
    """
    phi, best = pairs.past, pooling == "max"
    own = losses.pooled(own_scores(phi, columns.vectors[columns.own]), pooling).sum()
    if weight is None:
        return weighted_logsumexp(phi, columns, None, best, limit)[0] - own, None
    share = weight * pairs.owner.bincount(minlength=len(phi)).to(phi.dtype)
    total, values = weighted_logsumexp(phi, columns, 1 + share, best, limit)
    there = (share * values).sum()
    future = losses.pooled(own_scores(phi[pairs.owner], pairs.item_vectors), pooling).sum()
    return total - there - own, there - weight * future
