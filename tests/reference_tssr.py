"""Slow float64 references of TSSR's equations, written as plain loops from the paper."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tests.reference import norm, softmax


def block(net, x: list[Tensor], source: list[Tensor] | None = None) -> list[Tensor]:
    """Return the output of one block; position i attends to the source up to position i."""
    width, heads = len(x[0]), net.heads
    size = width // heads
    source = x if source is None else source
    query = [net.query.weight @ v + net.query.bias for v in x]
    both = [net.key_value.weight @ v + net.key_value.bias for v in source]
    found = []
    for i, v in enumerate(x):
        mixed = []
        for h in range(heads):
            part = slice(h * size, (h + 1) * size)
            keys = [b[:width][part] for b in both[: i + 1]]
            values = [b[width:][part] for b in both[: i + 1]]
            weights = softmax([query[i][part] @ k / math.sqrt(size) for k in keys])
            mixed.append(sum(w * value for w, value in zip(weights, values, strict=True)))
        attended = net.out.weight @ torch.cat(mixed) + net.out.bias
        v = norm(v + net.attn_scale * attended, net.attn_norm)
        inner = net.inner.weight @ v + net.inner.bias
        inner = inner * 0.5 * (1 + torch.erf(inner / math.sqrt(2)))
        found.append(norm(v + net.ffn_scale * (net.outer.weight @ inner + net.outer.bias), net.ffn_norm))
    return found


def stack(net, x: list[Tensor], source: list[Tensor] | None = None) -> list[Tensor]:
    for one in net.blocks:
        x = block(one, x, source)
    return x


def gate(net, a: Tensor, b: Tensor) -> Tensor:
    if net.kind == "none":
        return 0.5 * a + 0.5 * b
    mixed = net.linear.weight @ torch.cat([a, b]) + net.linear.bias
    if net.kind == "concat":
        return mixed
    share = 1 / (1 + torch.exp(-mixed))
    return share * a + (1 - share) * b


def encode(model, items: list[int]) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Return F_id, F_con and F of a sequence, with both streams."""
    net = model.encoder
    position = net.position_embedding.weight
    by_id = [model.item_embedding.weight[item] + position[i] for i, item in enumerate(items)]
    by_content = [content(model, item) + position[i] for i, item in enumerate(items)]
    by_id, by_content = stack(net.id_stack, by_id), stack(net.content_stack, by_content)
    first, second = by_id, by_content
    if net.id_cross is not None:
        first = stack(net.id_cross, by_id, by_content)
        second = stack(net.content_cross, by_content, by_id)
    return by_id, by_content, [gate(net.gate, a, b) for a, b in zip(first, second, strict=True)]


def content(model, item: int) -> Tensor:
    layer = model.content.linear
    return layer.weight @ model.content.matrix[item] + layer.bias


def next_item(state: Tensor, target: int, table: Tensor, bias: Tensor | None) -> Tensor:
    scores = [table[i] @ state + (0 if bias is None else bias[i]) for i in range(1, len(table))]
    return -torch.log(softmax(scores)[target - 1])


def cosine(a: Tensor, b: Tensor) -> Tensor:
    return a @ b / (torch.sqrt(a @ a) * torch.sqrt(b @ b))


def user_contrast(
    rows: list[Tensor], columns: list[Tensor], temperature: float, users: list[int]
) -> list[Tensor]:
    losses = []
    for u, row in enumerate(rows):
        kept = [v for v in range(len(columns)) if v == u or users[v] != users[u]]
        shares = softmax([cosine(row, columns[v]) / temperature for v in kept])
        losses.append(-torch.log(shares[kept.index(u)]))
    return losses


def item_contrast(
    states: list[list[Tensor]], nexts: list[list[Tensor]], items: list[list[int]]
) -> list[list[Tensor]]:
    """Return the terms for each position of each sequence; the sequences can have different lengths."""
    losses = []
    for u, mine in enumerate(states):
        row = []
        for j, state in enumerate(mine):
            total = torch.exp(state @ nexts[u][j])
            for v in range(len(states)):
                if v != u and j < len(states[v]) and items[v][j] != items[u][j]:
                    total = total + torch.exp(state @ nexts[v][j])
            row.append(-torch.log(torch.exp(state @ nexts[u][j]) / total))
        losses.append(row)
    return losses


def total_loss(model, sequences: list[list[int]], users: list[int]) -> Tensor:
    """Return the sum of the loss terms for whole training sequences; each term is a mean."""
    encoded = [encode(model, s[:-1]) for s in sequences]
    output = model._output()
    table, bias = output.table(), output.bias
    items = [s[1:] for s in sequences]
    positions = sum(map(len, items))
    loss = sum(
        next_item(state, target, table, bias)
        for (_, _, joined), targets in zip(encoded, items, strict=True)
        for state, target in zip(joined, targets, strict=True)
    ) / positions  # fmt: skip
    means = [[sum(e[k]) / len(e[k]) for e in encoded] for k in (0, 1)]
    if model.user_weight:
        terms = user_contrast(means[1], means[0], model.temperature, users)
        terms += user_contrast(means[0], means[1], model.temperature, users)
        loss = loss + model.user_weight * sum(terms) / len(sequences)
    if model.item_weight:
        by_id = [[model.item_embedding.weight[i] for i in row] for row in items]
        by_content = [[content(model, i) for i in row] for row in items]
        terms = item_contrast([e[1] for e in encoded], by_id, items)
        terms += item_contrast([e[0] for e in encoded], by_content, items)
        loss = loss + model.item_weight * sum(v for row in terms for v in row) / positions
    return loss
