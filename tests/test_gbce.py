"""Tests of gBCE against its definition."""

from __future__ import annotations

import pytest
import torch

from recbole_disent.config.config import Config
from recbole_disent.errors import UserError
from recbole_disent.ops import gbce as module
from recbole_disent.ops.gbce import draw_negatives, gbce
from recbole_disent.session import build_data, build_model
from tests.conftest import write_inter
from tests.test_item_loss import (
    ITEMS,
    TARGETS,
    USERS,
    WIDTH,
    example,
    loss_of,
    plain_gbce,
    require_equal,
    vectors,
)


@pytest.mark.parametrize("limit", [1, 50, 10**6])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("t", [0.0, 0.75, 1.0])
def test_gbce_is_its_definition_with_gradients(monkeypatch, double, limit, bias, t):
    states, table, b = example(bias)
    net = loss_of(loss="gbce", gbce_t=t)
    net.limit = limit
    drawn: list[torch.Tensor] = []
    draw = draw_negatives
    monkeypatch.setattr(
        "recbole_disent.models.item_loss.draw_negatives", lambda *a: drawn.append(draw(*a)) or drawn[-1]
    )
    found = net(states, TARGETS, USERS, vectors(table, b))
    alpha = 4 / (ITEMS - 2)  # 39 items, of which one is the target
    beta = alpha * (t * (1 - 1 / alpha) + 1 / alpha)
    require_equal(found, plain_gbce(states, table, b, drawn[0], beta), states, table, b)


def test_gbce_of_a_single_item_is_refused(tmp_path):
    write_inter(tmp_path, "one", [(f"u{i % 5}", "i", 1, i) for i in range(30)])
    keys = {"data_path": str(tmp_path), "loss": "gbce", "topk": [1]}
    for model, more in (("SASRecContent", {"content": False}), ("SASRec", {"train_mode": "sequences"})):
        parts = build_data(Config(model, "one", config_dict={**keys, **more}))
        with pytest.raises(UserError, match="loss: got gbce, but the data have 1 item, expected at least 2"):
            build_model(parts)


def test_gbce_gradcheck(double):
    states, table, _ = example()
    negatives = torch.tensor([[1, 1, 2]] * len(TARGETS))

    def total(states, table):
        return gbce(states, TARGETS, negatives, ITEMS, lambda i: table[i], 0.3, 40)

    assert torch.autograd.gradcheck(total, (states, table))


def test_gbce_of_large_scores_is_finite():
    states, table, _ = example()
    found = loss_of(loss="gbce")(states * 1e4, TARGETS, USERS, vectors(table, None))
    assert found.isfinite()
    assert all(g.isfinite().all() for g in torch.autograd.grad(found, (states, table)))


def test_gbce_keeps_no_more_drawn_vectors_than_allowed(monkeypatch, double):
    states, table, _ = example()
    negatives = torch.randint(1, ITEMS, (len(TARGETS), 4))
    seen, multiply = [], torch.bmm
    monkeypatch.setattr(torch, "bmm", lambda a, b: seen.append(a.numel()) or multiply(a, b))
    gbce(states, TARGETS, negatives, ITEMS, lambda i: table[i], 0.3, 2 * 4 * WIDTH)
    assert max(seen) == 2 * 4 * WIDTH
    assert max(seen) < module._SLICE
