"""Tests of the row-sparse Adam against loops in float64 and against torch's dense Adam."""

from __future__ import annotations

import copy
import gc
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from recbole_disent.errors import UserError
from recbole_disent.training import row_adam, row_gaps
from recbole_disent.training.averaging import WeightAverage
from recbole_disent.training.row_adam import RowAdam

ROWS, WIDTH, BETAS, EPS = 30, 3, (0.9, 0.999), 1e-8


def reference(
    w: np.ndarray, gradients: list[np.ndarray], lr: float, decay: float, mean: float, eps: float = EPS
) -> dict[str, np.ndarray]:
    """Dense AdamW with an average of the weights, row by row, from the formulas of the papers."""
    w = w.astype(float).copy()
    m, v, a = np.zeros_like(w), np.zeros_like(w), w.copy()
    for t, gradient in enumerate(gradients, 1):
        for i in range(len(w)):
            m[i] = BETAS[0] * m[i] + (1 - BETAS[0]) * gradient[i]
            v[i] = BETAS[1] * v[i] + (1 - BETAS[1]) * gradient[i] ** 2
            w[i] -= lr * decay * w[i]
            m_hat, v_hat = m[i] / (1 - BETAS[0] ** t), v[i] / (1 - BETAS[1] ** t)
            w[i] -= lr * m_hat / (np.sqrt(v_hat) + eps)
        d = min(mean, (1 + t) / (10 + t))
        a = d * a + (1 - d) * w
    return {"w": w, "m": m, "v": v, "a": a}


def batches(steps: int, seed: int = 0, rows: int = 4) -> list[torch.Tensor]:
    """Rows of each step; small numbers are frequent, 0 is padding, and some steps touch no row."""
    generator = torch.Generator().manual_seed(seed)
    found = [(torch.rand(rows, generator=generator) ** 3 * ROWS).long() for _ in range(steps)]
    found[steps // 2] = found[steps // 2][:0]
    return found


class Net(nn.Module):
    """A table and a layer; the loss of a batch of rows is not linear in the rows."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table, self.layer = nn.Embedding(ROWS, WIDTH, padding_idx=0), nn.Linear(WIDTH, 2)

    def loss(self, ids: torch.Tensor, number: int) -> torch.Tensor:
        wave = torch.sin(self.layer(self.table(ids)) + number)
        return wave.sum() * 0.1 + self.table(ids.flip(0)[:1]).pow(2).sum() * 0.01


def trained(
    optimizer_of: Any, steps: int, mean: float | None = None, flush_every: int = 0, clip: Any = None
) -> tuple[Net, Any, WeightAverage | None, list[float], list[torch.Tensor]]:
    net = Net().double()
    average = WeightAverage(net, mean) if mean else None
    optimizer = optimizer_of(net)
    if isinstance(optimizer, RowAdam) and average:
        optimizer.keep_average(average.leave_to_others(optimizer.row_parameters), average.next_decay)
    if average:
        optimizer.register_step_post_hook(average.update)
    values, gradients = [], []
    for number, ids in enumerate(batches(steps)):
        optimizer.zero_grad()
        loss = net.loss(ids, number)
        values.append(loss.item())
        loss.backward()
        if clip and not isinstance(optimizer, RowAdam):
            nn.utils.clip_grad_norm_(net.parameters(), **clip)
        found = net.table.weight.grad
        gradients.append(found.to_dense().clone() if found.is_sparse else found.clone())
        optimizer.step()
        if flush_every and number % flush_every == 0:
            optimizer.flush()
    if isinstance(optimizer, RowAdam):
        optimizer.flush()
    return net, optimizer, average, values, gradients


def dense(lr: float, decay: float) -> Any:
    def make(net: Net) -> torch.optim.Optimizer:
        groups = [
            {"params": net.layer.parameters()},
            {"params": net.table.parameters(), "weight_decay": decay},
        ]
        return torch.optim.AdamW(groups, lr=lr, weight_decay=0.01, eps=1e-30)

    return make


def sparse(lr: float, decay: float, clip: Any = None) -> Any:
    def make(net: Net) -> RowAdam:
        rest = torch.optim.AdamW(net.layer.parameters(), lr=lr, weight_decay=0.01, eps=1e-30)
        return RowAdam(rest, {net.table: {"weight_decay": decay}}, clip)

    return make


@pytest.mark.parametrize("flush_every", [0, 1, 7])
@pytest.mark.parametrize(("lr", "decay"), [(0.01, 0.0), (0.05, 2.0)])
@pytest.mark.parametrize("mean", [None, 0.6, 0.99])
def test_equal_to_dense_adam(lr, decay, mean, flush_every):
    """With eps -> 0 nothing differs: losses, weights, moments and averages, whenever the table is flushed."""
    a, one, mean_a, losses_a, _ = trained(dense(lr, decay), 300, mean)
    b, two, mean_b, losses_b, _ = trained(sparse(lr, decay), 300, mean, flush_every)
    np.testing.assert_allclose(losses_b, losses_a, rtol=1e-9, atol=1e-12)
    assert np.ptp(losses_a[-20:]) > 1e-3
    state = two.state_dict()["rows"][0]
    expected = one.state[a.table.weight]
    assert state["step"] == 300
    torch.testing.assert_close(state["exp_avg"], expected["exp_avg"], rtol=1e-9, atol=1e-14)
    torch.testing.assert_close(state["exp_avg_sq"], expected["exp_avg_sq"], rtol=1e-9, atol=1e-14)
    torch.testing.assert_close(b.table.weight, a.table.weight, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(b.layer.weight, a.layer.weight, rtol=1e-9, atol=1e-11)
    assert b.table.weight[0].eq(0).all()
    if mean:
        with mean_a.in_model(), mean_b.in_model():
            torch.testing.assert_close(b.table.weight, a.table.weight, rtol=1e-9, atol=1e-11)
            torch.testing.assert_close(b.layer.weight, a.layer.weight, rtol=1e-9, atol=1e-11)


def test_the_factors_of_a_long_epoch_stay_few(monkeypatch):
    one, _, mean_one, expected, _ = trained(dense(0.05, 2.0), 300, 0.9)
    monkeypatch.setattr(row_adam, "_STEPS", 16)
    two, optimizer, mean_two, losses, _ = trained(sparse(0.05, 2.0), 300, 0.9)
    np.testing.assert_allclose(losses, expected, rtol=1e-9, atol=1e-12)
    with mean_one.in_model(), mean_two.in_model():
        torch.testing.assert_close(two.table.weight, one.table.weight, rtol=1e-9, atol=1e-11)
    gaps = optimizer.tables[0].gaps
    for step in range(301, 333):
        optimizer.step()
        assert (gaps.start, gaps.step) == (300 + (step - 300) // 16 * 16, step)


@pytest.mark.parametrize(("lr", "decay", "mean"), [(0.01, 0.0, 0.5), (0.03, 3.0, 0.98)])
def test_equal_to_the_formulas(lr, decay, mean):
    start = Net().double().table.weight.detach().numpy().copy()
    net, optimizer, average, _, gradients = trained(sparse(lr, decay), 120, mean)
    expected = reference(start, [g.numpy() for g in gradients], lr, decay, mean, 1e-30)
    state = optimizer.state_dict()["rows"][0]
    for name, found in (
        ("w", net.table.weight.detach()),
        ("m", state["exp_avg"]),
        ("v", state["exp_avg_sq"]),
    ):
        np.testing.assert_allclose(found.numpy(), expected[name], rtol=1e-9, atol=1e-13, err_msg=name)
    with average.in_model():
        np.testing.assert_allclose(net.table.weight.detach().numpy(), expected["a"], rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("eps", [1e-8, 1e-3])
def test_the_effect_of_eps_is_bounded_as_stated(eps):
    """A row that was touched once, with a gradient far above and near eps."""
    for size in (1.0, 100 * eps, eps):
        table = nn.Embedding(2, 1).double()
        start = table.weight.detach().numpy().copy()
        optimizer = RowAdam(torch.optim.Adam([nn.Parameter(torch.zeros(1))], lr=0.1, eps=eps), {table: {}})
        gradients = [np.zeros((2, 1)) for _ in range(400)]
        gradients[5][1] = size
        for number in range(400):
            optimizer.zero_grad()
            if number == 5:
                (table(torch.tensor([1])) * size).sum().backward()
            optimizer.step()
        optimizer.flush()
        w = reference(start, gradients, 0.1, 0.0, 0.0, eps)["w"]
        v_hat = (1 - BETAS[1]) * size**2 / (1 - BETAS[1] ** 6)
        moved = abs(w[1, 0] - start[1, 0])
        assert moved > 0.1
        assert abs(table.weight[1, 0].item() - w[1, 0]) <= eps / np.sqrt(v_hat) * moved


def test_factors_are_sums_over_the_steps():
    """Each factor, written as a sum, for all pairs of a last step and a current step."""
    lr, decay, d = 0.2, 0.5, 0.9
    gaps = row_gaps.RowGaps(lr, BETAS, 1e-3, decay)
    for _ in range(4):
        gaps.advance(d)
    gaps.restart(4)
    q, r = 1 - lr * decay, BETAS[0] / BETAS[1] ** 0.5
    for t in range(4, 320):  # more than the first size of the arrays
        last = torch.arange(4, t + 1)
        found = gaps.of(last, torch.float64)
        for s in {4, (4 + t) // 2, t}:
            steps = np.arange(s + 1, t + 1)
            speed = lr * r ** (steps - s) * np.sqrt(1 - BETAS[1] ** steps) / (1 - BETAS[0] ** steps)
            move = [np.sum(q ** (i - steps[: i - s]) * speed[: i - s]) for i in steps]
            each = 1e-3 * np.sqrt((1 - BETAS[1] ** steps) / BETAS[1] ** (steps - s))
            mean_eps = np.average(each, weights=speed * q ** (t - steps)) if s < t else 1.0
            weight = (1 - d) * d ** (t - steps)
            expected = row_gaps.Factors(
                q ** (t - s), move[-1] if move else 0.0, d ** (t - s),
                np.sum(weight * q ** (steps - s)), np.sum(weight * np.array(move)),
                mean_eps, BETAS[0] ** (t - s), BETAS[1] ** (t - s),
            )  # fmt: skip
            for name, a, b in zip(found._fields, found, expected, strict=True):
                assert a[s - 4, 0].item() == pytest.approx(b, rel=1e-9, abs=1e-300), (name, s, t)
        gaps.advance(d)


def test_a_gap_longer_than_any_float_is_finite():
    gaps = row_gaps.RowGaps(0.1, (0.5, 0.6), 1e-8, 0.0)
    for _ in range(2500):
        gaps.advance(0.5)
    for name, factor in zip(
        row_gaps.Factors._fields, gaps.of(torch.tensor([0, 1]), torch.float32), strict=True
    ):
        assert factor.isfinite().all(), name


@pytest.mark.parametrize("norm_type", [2, 1, "inf"])
def test_clipping_equals_clipping_of_dense_gradients(norm_type):
    clip = {"max_norm": 0.05, "norm_type": norm_type}
    a, _, _, losses_a, gradients = trained(dense(0.01, 0.0), 100, clip=clip)
    b, _, _, losses_b, _ = trained(sparse(0.01, 0.0, clip), 100)
    np.testing.assert_allclose(losses_b, losses_a, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(b.table.weight, a.table.weight, rtol=1e-9, atol=1e-11)
    plain = trained(dense(0.01, 0.0), 100)[-1]
    assert any(not torch.allclose(x, y) for x, y in zip(gradients, plain, strict=True))


def test_a_state_continues_with_the_same_digits():
    net, optimizer, *_ = trained(sparse(0.01, 1.0), 21)
    state = copy.deepcopy(optimizer.state_dict())
    again = Net().double()
    again.load_state_dict(net.state_dict())
    other = sparse(0.01, 1.0)(again)
    other.load_state_dict(state)
    before = net.table.weight.detach().clone()
    for each, steps in ((net, optimizer), (again, other)):
        for number, ids in enumerate(batches(20, seed=1)):
            steps.zero_grad()
            each.loss(ids, number).backward()
            steps.step()
        steps.flush()
    assert torch.equal(again.table.weight, net.table.weight)
    assert torch.equal(again.layer.weight, net.layer.weight)
    assert not torch.equal(net.table.weight, before)


def test_a_whole_table_in_the_loss_is_refused():
    net = Net()
    optimizer = sparse(0.01, 0.0)(net)
    net.table.weight.sum().backward()
    with pytest.raises(UserError, match="the loss of the model reads a whole table"):
        optimizer.step()


def test_weight_decay_in_the_gradient_is_refused():
    net = Net()
    rest = torch.optim.Adam(net.layer.parameters(), weight_decay=0.1)
    with pytest.raises(UserError, match=r"weight_decay: got 0\.1 with item_optimizer=sparse"):
        RowAdam(rest, {net.table: {}})


def test_a_model_outlives_its_optimiser():
    net, optimizer, *_ = trained(sparse(0.01, 0.0), 20)
    expected = F.embedding(torch.arange(ROWS), net.table.weight)
    del optimizer
    gc.collect()
    assert torch.equal(net.table(torch.arange(ROWS)), expected)
