"""Slow float64 references of DisentS2S's equations, written as plain loops from the paper."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def norm(x: Tensor, layer: torch.nn.LayerNorm) -> Tensor:
    """Return LayerNorm of one vector."""
    mean = sum(x) / len(x)
    variance = sum((v - mean) ** 2 for v in x) / len(x)
    return (x - mean) / torch.sqrt(variance + layer.eps) * layer.weight + layer.bias


def softmax(values: list[Tensor]) -> list[Tensor]:
    total = sum(torch.exp(v) for v in values)
    return [torch.exp(v) / total for v in values]


def encoder(net, items: list[int]) -> list[Tensor]:
    """Return z_1 .. z_t of a sequence, computed position by position in causal blocks with one head."""
    width = net.item_embedding.weight.shape[1]
    x = [
        norm(net.item_embedding.weight[item] + net.position_embedding.weight[i], net.input_norm)
        for i, item in enumerate(items)
    ]
    for block in net.blocks:
        qkv = [block.qkv.weight @ v + block.qkv.bias for v in x]
        query = [v[:width] for v in qkv]
        key = [v[width : 2 * width] for v in qkv]
        value = [v[2 * width :] for v in qkv]
        y = []
        for i in range(len(x)):
            weights = softmax([query[i] @ key[j] / math.sqrt(width) for j in range(i + 1)])
            mixed = sum(w * v for w, v in zip(weights, value, strict=False))
            y.append(norm(x[i] + block.out.weight @ mixed + block.out.bias, block.attn_norm))
        x = []
        for v in y:
            inner = block.inner.weight @ v + block.inner.bias
            inner = inner * 0.5 * (1 + torch.erf(inner / math.sqrt(2)))
            x.append(norm(v + block.outer.weight @ inner + block.outer.bias, block.ffn_norm))
    return x


def disentangle(layer, z: list[Tensor], side: int) -> list[Tensor]:
    """Return phi^(1) .. phi^(K) of a sequence."""
    width, t = len(z[0]), len(z)
    intentions = len(layer.prototypes)
    root = math.sqrt(width)
    prototypes = [norm(layer.prototypes[k], layer.prototype_norm) for k in range(intentions)]
    p_k = [softmax([norm(v, layer.state_norm) @ c / root for c in prototypes]) for v in z]
    keys = []
    for i in range(t):
        raw = norm(layer.position[i] + z[i], layer.key_norm)
        keys.append(raw + torch.relu(layer.key_layer.weight @ raw + layer.key_layer.bias))
    query = norm(layer.position[t - 1] + z[t - 1] + layer.query_bias, layer.query_norm)
    p_i = softmax([k @ query / root for k in keys])
    p_i[-1] = p_i[-1] + layer.last_item_weight  # not in the paper
    return [
        norm(
            layer.bias[side][k] + sum(p_k[i][k] * p_i[i] * z[i] for i in range(t)),
            layer.output_norm,
        )
        for k in range(intentions)
    ]


def _rivals(u: int, users: list[int]) -> list[int]:
    """Return the indices of the pair u and of the pairs of other users."""
    return [q for q in range(len(users)) if q == u or users[q] != users[u]]


def seq2item(
    phi: list[list[Tensor]],
    h: list[Tensor],
    scores: str,
    users: list[int],
    rivals: list[Tensor] | None = None,
) -> list[Tensor]:
    """Return the loss over the next items of the batch, or over *rivals*, which include the target."""
    losses = []
    for u, vectors in enumerate(phi):
        best = _above(h[u], vectors, scores)
        others = [h[q] for q in _rivals(u, users)] if rivals is None else rivals
        total = sum(_exponentials(item, vectors, scores) for item in others)
        losses.append(-torch.log(best / total))
    return losses


def _exponentials(item: Tensor, vectors: list[Tensor], scores: str) -> Tensor:
    """Return the sum or the maximum of the K exponentials of an item, for the denominator."""
    found = [torch.exp(item @ v / math.sqrt(len(item))) for v in vectors]
    return max(found, key=float) if scores == "max" else sum(found)


def _above(item: Tensor, vectors: list[Tensor], scores: str) -> Tensor:
    """Return the sum or the maximum of the K exponentials of an item, for the numerator."""
    found = [torch.exp(item @ v / math.sqrt(len(item))) for v in vectors]
    return sum(found) if scores == "logsumexp" else max(found, key=float)


def seq2seq(past: list[list[Tensor]], future: list[list[Tensor]], users: list[int]) -> list[list[Tensor]]:
    root = math.sqrt(len(past[0][0]))
    losses = []
    for u, vectors in enumerate(past):
        row = []
        for k, v in enumerate(vectors):
            own = torch.exp(future[u][k] @ v / root)
            total = sum(torch.exp(w @ v / root) for q in _rivals(u, users) for w in future[q])
            row.append(-torch.log(own / total))
        losses.append(row)
    return losses


def trusted(losses: list[list[Tensor]], numerator: int, denominator: int) -> Tensor:
    """Return the sum of the samples up to the ceil(lambda n)-th smallest; lambda is a fraction."""
    flat = sorted(float(v) for row in losses for v in row)
    keep = -(-numerator * len(flat) // denominator)
    if keep == 0:
        return torch.zeros(())
    return sum(v for row in losses for v in row if float(v) <= flat[keep - 1])


def future_items(
    phi,
    h,
    futures: list[list[Tensor]],
    scores: str,
    users: list[int],
    rivals: list[Tensor] | None = None,
) -> Tensor:
    """Return the loss of variants (2) and (3), which predict each item of each future."""
    if rivals is not None:
        owners = [(f, vectors) for vectors, items in zip(phi, futures, strict=True) for f in items]
        found = [seq2item([vectors], [f], scores, [0], rivals)[0] for f, vectors in owners]
        return sum(found, torch.zeros((), dtype=h[0].dtype))
    total = torch.zeros((), dtype=h[0].dtype)
    for u, vectors in enumerate(phi):
        for f in futures[u]:
            others = sum(_exponentials(h[q], vectors, scores) for q in _rivals(u, users) if q != u)
            own = _exponentials(f, vectors, scores)
            total = total - torch.log(_above(f, vectors, scores) / (others + own))
    return total
