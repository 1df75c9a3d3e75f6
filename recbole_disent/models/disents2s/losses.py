"""Losses of DisentS2S as pure functions of tensors (KDD 2020, sections 3.3 and 3.4).

There are P pairs (past, future, next item) and K intentions; vectors have the width D. Every loss
returns one value per sample, and the caller sums or averages the values.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from recbole_disent.ops.chunked_softmax import logsumexp_of_products


def seq2item(
    phi: Tensor,
    targets: Tensor,
    groups: Tensor | None = None,
    log_popularity: Tensor | None = None,
    limit: int = 2**26,
    row_index: Tensor | None = None,
    pooling: str = "paper",
) -> Tensor:
    """Negative logarithm of the next item's share among the next items of the batch.

    loss_p = logsumexp over q, k of h_q . phi_p^(k) / sqrt(D)
             - max over k of h_p . phi_p^(k) / sqrt(D)

    With *pooling* ``max``, the first term is the logsumexp over q of the max over k. With ``logsumexp``,
    the second term is the logsumexp over k.

    Args:
        phi: float (P, K, D), intention vectors of the pasts.
        targets: float (P, D), embedding h of each pair's next item.
        groups: int64 (P,) or None; pairs of one group are not each other's negatives.
        log_popularity: float (P,) or None; ln of each next item's share of the training clicks, which is
            subtracted from the item's scores. The next items of a batch are drawn in proportion to
            popularity; without this correction the model learns p(item | sequence) / p(item).
        limit: largest number of scores in memory at a time.
        row_index: int64 (p,) or None; *phi* then has these p of the P pairs only, (p, K, D).
        pooling: ``paper``, ``max`` or ``logsumexp``.

    Returns:
        float (P,), or (p,).
    """
    _, intentions, width = phi.shape
    scale = width**-0.5
    total = logsumexp_of_products(
        phi.flatten(0, 1),
        targets,
        scale,
        intentions,
        log_popularity,
        groups,
        limit,
        row_index=row_index,
        best=pooling == "max",
    )
    own = pooled(torch.einsum("pkd,pd->pk", phi, _at(targets, row_index)) * scale, pooling)
    return total - (own if log_popularity is None else own - _at(log_popularity, row_index))


def pooled(scores: Tensor, pooling: str) -> Tensor:
    """Pool an item's K scores for the numerator, (..., K) -> (...): their logsumexp or their maximum."""
    return scores.logsumexp(-1) if pooling == "logsumexp" else scores.amax(-1)


def _at(values: Tensor, row_index: Tensor | None) -> Tensor:
    return values if row_index is None else values[row_index]


def seq2seq(
    past: Tensor,
    future: Tensor,
    groups: Tensor | None = None,
    limit: int = 2**26,
    row_index: Tensor | None = None,
) -> Tensor:
    """Negative logarithm of the own future's share among the futures of the batch, for each intention.

    loss_pk = logsumexp over q, k' of phi_q^(k')(future) . phi_p^(k)(past) / sqrt(D)
              - phi_p^(k)(future) . phi_p^(k)(past) / sqrt(D)

    Args:
        past: float (P, K, D), intention vectors of the pasts.
        future: float (P, K, D), intention vectors of the reversed futures.
        groups: int64 (P,) or None; pairs of one group are not each other's negatives.
        limit: largest number of scores in memory at a time.
        row_index: int64 (p,) or None; *past* then has these p of the P pairs only, (p, K, D).

    Returns:
        float (P, K), or (p, K).
    """
    scale = past.shape[-1] ** -0.5
    total = logsumexp_of_products(
        past.flatten(0, 1), future.flatten(0, 1), scale, groups=groups, limit=limit, row_index=row_index
    )
    own = (past * _at(future, row_index)).sum(-1) * scale
    return total.view_as(own) - own


def trusted_mask(losses: Tensor, share: float, everywhere: Tensor | None = None) -> Tensor:
    """Mask of the trusted samples, whose losses are at most the ceil(share * n)-th smallest loss.

    No gradient flows through the threshold.

    Args:
        losses: float, any shape, n values.
        share: lambda in [0, 1]; 0 trusts none, 1 trusts all.
        everywhere: float, the n values of the global batch, of which *losses* are a part; None: *losses*
            are the global batch.

    Returns:
        bool, shape of *losses*.
    """
    values = losses.detach()
    everywhere = values if everywhere is None else everywhere.detach()
    # 0.28 * 25 is 7.000000000000001 in floating point: the ceiling must not become 8.
    keep = math.ceil(share * everywhere.numel() - 1e-9)
    if keep <= 0:
        return torch.zeros_like(losses, dtype=torch.bool)
    return values <= everywhere.flatten().kthvalue(keep).values


def future_items(
    phi: Tensor,
    targets: Tensor,
    items: Tensor,
    owner: Tensor,
    groups: Tensor | None = None,
    log_popularity: tuple[Tensor, Tensor] | None = None,
    limit: int = 2**26,
    row_index: Tensor | None = None,
    pooling: str = "paper",
) -> Tensor:
    """seq2item for single items of the future: variants (2) and (3) of the paper.

    For an item f of the future of pair p, f replaces the next item of p. The next items of the other
    pairs of the batch remain the negatives:

    loss_f = ln( sum over q != p, k of exp(h_q . phi_p^(k) / sqrt(D))
                 + sum over k of exp(f . phi_p^(k) / sqrt(D)) )
             - max over k of f . phi_p^(k) / sqrt(D)

    With *pooling* ``max``, a max over k replaces each sum over k. With ``logsumexp``, a logsumexp
    replaces each max.

    Args:
        phi: float (P, K, D).
        targets: float (P, D), next items.
        items: float (F, D), embeddings of the future items.
        owner: int64 (F,), row of *phi* of each future item.
        groups: int64 (P,) or None; pairs of one group are not each other's negatives.
        log_popularity: the corrections of *targets*, float (P,), and of *items*, float (F,), as in
            :func:`seq2item`; or None.
        limit: largest number of scores in memory at a time.
        row_index: int64 (p,) or None; *phi* then has these p of the P pairs only, (p, K, D).
        pooling: ``paper``, ``max`` or ``logsumexp``.

    Returns:
        float (F,).
    """
    _, intentions, width = phi.shape
    scale = width**-0.5
    if groups is None:
        groups = torch.arange(len(targets), device=phi.device)
    others = logsumexp_of_products(
        phi.flatten(0, 1),
        targets,
        scale,
        intentions,
        None if log_popularity is None else log_popularity[0],
        groups,
        limit,
        own=False,
        row_index=row_index,
        best=pooling == "max",
    )
    mine = torch.einsum("fkd,fd->fk", phi[owner], items) * scale
    if log_popularity is not None:
        mine = mine - log_popularity[1][:, None]
    above, below = pooled(mine, pooling), mine.amax(-1) if pooling == "max" else mine.logsumexp(-1)
    return torch.logaddexp(others[owner], below) - above
