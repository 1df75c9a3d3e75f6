"""The negatives of the seq2item loss of DisentS2S, and the keys whose `auto` follows the evaluation."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from recbole_disent.errors import UserError
from recbole_disent.models import item_loss
from recbole_disent.models.disents2s import losses
from recbole_disent.models.disents2s.pairs import Pairs
from recbole_disent.ops.intention_softmax import Columns, own_scores, weighted_logsumexp
from recbole_disent.parallel import process_group

# Training steps with a smaller learning rate, with the negatives `batch`.
_WARMUP = 500


def check(config: Any) -> None:
    """Check the keys of the seq2item softmax together.

    Raises:
        UserError: ``softmax_learns: lift`` without in-batch negatives, or sampled negatives for single items
            of the future.
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
    """Return ``all``, ``sampled`` or ``batch``: the value of ``negatives``, or the choice of ``auto``.

    Args:
        config: a configuration.
        n_items: rows of the item table, padding included.
    """
    wanted: str = config["negatives"]
    if wanted != "auto":
        return wanted
    if config["valid_neg_sample_args"]["distribution"] == "popularity":
        return "batch"
    found = item_loss.resolve(config, n_items)
    singles = config["seq2seq_variant"] in ("all_items", "next_items")
    return "batch" if found == "sampled" and singles else found


def choices(config: Any, n_items: int) -> dict[str, Any]:
    """Return ``negatives``, ``seq2seq_variant`` and ``learning_rate_warmup`` without auto and null.

    Args:
        config: a configuration.
        n_items: rows of the item table, padding included.
    """
    kind = resolve(config, n_items)
    variant, warmup = config["seq2seq_variant"], config["learning_rate_warmup"]
    if variant == "auto":
        variant = "latent" if kind == "batch" else "none"
    if warmup is None:
        warmup = _WARMUP if kind == "batch" else 0
    return {"negatives": kind, "seq2seq_variant": variant, "learning_rate_warmup": warmup}


def rows_of_a_step(config: Any, kind: str) -> int:
    """Return about how many items a training step looks up, with repeats.

    Args:
        config: a configuration.
        kind: ``sampled`` or ``batch``.
    """
    each = 2 if config["train_mode"] == "sequences" else 2 * config["MAX_ITEM_LIST_LENGTH"]
    return config["train_batch_size"] * each + (config["sampled_negatives"] if kind == "sampled" else 0)


def over_batch(
    pairs: Pairs,
    blocks: process_group.Blocks,
    groups: Tensor | None,
    log_popularity: Tensor | None,
    pooling: str,
    limit: int,
    weight: float | None,
) -> tuple[Tensor, Tensor | None]:
    """Sums of seq2item and of its variant for items of the future, with in-batch negatives.

    Args:
        pairs: pairs of this process.
        blocks: how the global batch is divided.
        groups: int64 (P,) or None; see :func:`~recbole_disent.models.disents2s.losses.seq2item`.
        log_popularity: float (n_items,) or None; ln of each item's share, subtracted from its scores.
        pooling: ``logsumexp``, ``max`` or ``paper``; see :func:`.losses.seq2item`.
        limit: largest number of scores in memory at a time.
        weight: weight of the second sum; None: there is no second sum.

    Returns:
        Both sums, float (), the second multiplied by *weight*.
    """
    # The score matrix has a column per next item of all processes and a row per past of this process.
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
    """Sums of seq2item and of its variant for items of the future, with the negatives *columns*.

    loss_p = logsumexp over items i, k of h_i . phi_p^(k) / sqrt(D)
             - max over k of h_p . phi_p^(k) / sqrt(D)

    With *pooling* ``max``, the first term is the logsumexp over i of the max over k. With ``logsumexp``, the
    second term is the logsumexp over k. In the second sum, an item of the future replaces the next item,
    with the same columns: variants (2) and (3) of the paper.

    Args:
        pairs: pairs of this process.
        columns: the items of the softmax, which are all items if there is a *weight*.
        pooling: ``logsumexp``, ``max`` or ``paper``; see :func:`.losses.seq2item`.
        limit: largest number of scores in memory at a time.
        weight: weight of the second sum; None: there is no second sum.

    Returns:
        Both sums, float (), the second multiplied by *weight*. Both use the logsumexps of the same scores,
        and the first sum has the gradient of these logsumexps for both. Train on the total of the two
        sums only.
    """
    phi, best = pairs.past, pooling == "max"
    own = losses.pooled(own_scores(phi, columns.vectors[columns.own]), pooling).sum()
    if weight is None:
        return weighted_logsumexp(phi, columns, None, best, limit)[0] - own, None
    # The same as bincount, which would wait for a GPU to know the largest number.
    owner = pairs.owner
    counts = owner.new_zeros(len(phi)).index_add_(0, owner, owner.new_ones(len(owner)))
    share = weight * counts.to(phi.dtype)
    total, values = weighted_logsumexp(phi, columns, 1 + share, best, limit)
    there = (share * values).sum()
    future = losses.pooled(own_scores(phi[pairs.owner], pairs.item_vectors), pooling).sum()
    return total - there - own, there - weight * future
