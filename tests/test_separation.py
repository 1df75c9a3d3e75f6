"""Tests of the penalties of DisentS2S on intentions that are alike or not in use, in the loss of a batch."""

from __future__ import annotations

import math

import pytest
import torch

from tests.test_disents2s import SEQUENCES, build
from tests.windows import windows


@pytest.mark.parametrize("negatives", ["all", "batch"])
def test_intentions_that_are_too_alike_cost_their_excess(make_config, negatives):
    batch = windows(SEQUENCES)
    free, bound = (build(make_config, negatives=negatives, intention_cosine=limit) for limit in (1.0, -0.2))
    past = bound.pairs_of_windows(batch, None).past
    expected = 0
    for vectors in past:
        excess = [
            max(0.0, float(torch.cosine_similarity(vectors[j], vectors[k], 0)) + 0.2) ** 2
            for j in range(3)
            for k in range(j)
        ]
        expected += sum(excess) / len(excess) / len(past)
    found, without = bound.calculate_loss(batch)[0], free.calculate_loss(batch)[0]
    assert (found - without).item() == pytest.approx(expected)
    assert expected > 0
    assert build(make_config, n_intentions=1, negatives=negatives).calculate_loss(batch)[0].isfinite()


@pytest.mark.parametrize("negatives", ["all", "sampled", "batch"])
def test_intentions_that_are_not_in_use_cost_their_divergence(make_config, negatives):
    batch = windows(SEQUENCES)
    torch.manual_seed(0)
    # The last item makes the intentions of these untrained models alike, and the penalty small.
    keys = {"negatives": negatives, "last_item_weight": 0.0}
    free, bound = (build(make_config, **keys, intention_balance=w) for w in (0.0, 0.7))
    pairs = bound.pairs_of_windows(batch, None)
    use = [0.0] * 3
    for past, target in zip(pairs.past, pairs.target_vectors, strict=True):
        powers = [math.exp(float(past[k] @ target) / math.sqrt(6)) for k in range(3)]
        for k in range(3):
            use[k] += powers[k] / sum(powers) / len(pairs.past)
    assert sum(use) == pytest.approx(1)
    expected = 0.7 * sum(math.log(1 / 3 / share) / 3 for share in use)
    losses = []
    for model in (bound, free):
        torch.manual_seed(2)  # of the sampled negatives
        losses.append(model.calculate_loss(batch)[0])
    assert (losses[0] - losses[1]).item() == pytest.approx(expected)
    assert expected > 1e-3
    # The penalty moves no item: the items have the gradient of the loss without it.
    items = [
        torch.autograd.grad(loss, model.encoder.item_embedding.weight, retain_graph=True)[0][10:]
        for loss, model in zip(losses, (bound, free), strict=True)
    ]  # no sequence contains the items from 10 on
    torch.testing.assert_close(items[0], items[1])
