"""Tests that the fast operations equal torch's operations, including gradients."""

from __future__ import annotations

import pytest
import torch

from recbole_disent.ops import chunked_softmax as functional
from recbole_disent.ops.chunked_softmax import logsumexp_of_products, sum_of_logsumexp
from recbole_disent.ops.dropout import Dropout


@pytest.mark.parametrize("limit", [1, 17, 10**6])
@pytest.mark.parametrize("with_offset", [False, True])
@pytest.mark.parametrize(("fold", "columns_per_sample", "best"), [(1, 3, False), (3, 1, False), (3, 1, True)])
def test_logsumexp_of_products_equals_torch(limit, with_offset, fold, columns_per_sample, best):
    torch.manual_seed(0)
    samples = 5
    rows = torch.randn(samples * 3, 4, dtype=torch.float64, requires_grad=True)
    columns = torch.randn(samples * columns_per_sample, 4, dtype=torch.float64, requires_grad=True)
    offset = torch.randn(len(columns), dtype=torch.float64) if with_offset else None
    groups = torch.tensor([1, 1, 2, 3, 3])

    def plain(rows, columns):
        scores = rows @ columns.T * 0.5
        scores = scores if offset is None else scores - offset
        row = torch.arange(len(rows)) // 3
        column = torch.arange(len(columns)) // columns_per_sample
        blocked = (groups[row][:, None] == groups[column]) & (row[:, None] != column)
        scores = scores.masked_fill(blocked, -torch.inf).view(len(rows) // fold, fold, -1)
        return scores.amax(1).logsumexp(1) if best else scores.flatten(1).logsumexp(1)

    def fast(rows, columns):
        return logsumexp_of_products(rows, columns, 0.5, fold, offset, groups, limit, best=best)

    torch.testing.assert_close(fast(rows, columns), plain(rows, columns))
    weight = torch.randn(len(rows) // fold, dtype=torch.float64)
    for a, b in zip(
        torch.autograd.grad((fast(rows, columns) * weight).sum(), (rows, columns)),
        torch.autograd.grad((plain(rows, columns) * weight).sum(), (rows, columns)),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_sums_of_tiny_exponentials_keep_their_digits():
    """In single precision exp(-95) has fewer than four digits."""
    rows = torch.full((2, 1), -95.0, requires_grad=True)
    columns = torch.tensor([[1.0], [0.999], [1.001]])
    found = sum_of_logsumexp(rows, columns)
    expected = (rows.double() @ columns.double().T).logsumexp(1).sum()
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=0)
    gradients = (torch.autograd.grad(total, rows)[0] for total in (found, expected))
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=0)


@pytest.mark.parametrize("limit", [1, 100])
def test_a_sum_without_terms_is_minus_infinity_and_harmless(limit):
    rows = torch.randn(2, 4, requires_grad=True)
    columns = torch.randn(1, 4, requires_grad=True)
    total = logsumexp_of_products(rows, columns, 1.0, 1, None, torch.tensor([1]), limit, own=False)
    assert (total == -torch.inf).all()
    torch.logaddexp(total, rows.sum(1)).sum().backward()
    assert torch.equal(rows.grad, torch.ones(2, 4))
    assert torch.equal(columns.grad, torch.zeros(1, 4))


def test_own_columns_can_be_left_out():
    torch.manual_seed(0)
    rows, columns = torch.randn(6, 4).double(), torch.randn(3, 4).double()
    found = logsumexp_of_products(rows, columns, 1.0, 2, None, torch.arange(3), 7, own=False)
    for sample in range(3):
        others = columns[[c for c in range(3) if c != sample]]
        expected = (rows[2 * sample : 2 * sample + 2] @ others.T).flatten().logsumexp(0)
        torch.testing.assert_close(found[sample], expected)


@pytest.mark.parametrize("limit", [1, 40, 10**6])
@pytest.mark.parametrize("count", [0, 1, 70, 200])
@pytest.mark.parametrize("size", [1, 30, 1000])
def test_sum_of_logsumexp_equals_torch(monkeypatch, limit, count, size):
    monkeypatch.setattr(functional, "_SLICE", 64 * 13)  # slices of 64 rows
    torch.manual_seed(0)
    rows = torch.randn(count, 4, dtype=torch.float64, requires_grad=True)
    columns = torch.randn(13, 4, dtype=torch.float64, requires_grad=True)
    # exp() of some scores is infinite or 0 if the size is 1000.
    found = sum_of_logsumexp(rows * size, columns, limit)
    expected = (rows * size @ columns.T).logsumexp(1).sum()
    torch.testing.assert_close(found, expected)
    for a, b in zip(
        torch.autograd.grad(found * 0.3, (rows, columns)),
        torch.autograd.grad(expected * 0.3, (rows, columns)),
        strict=True,
    ):
        torch.testing.assert_close(a, b)
    with torch.no_grad():
        torch.testing.assert_close(sum_of_logsumexp(rows * size, columns, limit), expected)


def test_a_sum_of_logsumexp_never_has_more_scores_than_it_may(monkeypatch):
    seen = []
    multiply = torch.mm

    def counted(a, b, out):
        seen.append(out.numel())
        return multiply(a, b, out=out)

    monkeypatch.setattr(torch, "mm", counted)
    sum_of_logsumexp(torch.randn(50, 4), torch.randn(20, 4), 100)
    assert len(seen) == 10  # no gradient is made where none is wanted
    assert max(seen) == 100
    with torch.no_grad():
        sum_of_logsumexp(torch.randn(50, 4, requires_grad=True), torch.randn(20, 4), 100)
    assert len(seen) == 20
    sum_of_logsumexp(torch.randn(50, 4, requires_grad=True), torch.randn(20, 4), 100).backward()
    assert len(seen) == 40  # scores, and the gradient of the rows, of each slice
    assert max(seen) == 100


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_drops_its_share_and_keeps_the_mean(p):
    torch.manual_seed(0)
    layer = Dropout(p)
    x = torch.ones(100_003, requires_grad=True)
    y = layer(x)
    assert abs(float((y == 0).double().mean()) - p) < 0.01
    assert abs(float(y.detach().mean()) - 1) < 0.02
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())  # the same elements, the same scale
    assert not torch.equal(layer(x), y)
    torch.manual_seed(0)
    assert torch.equal(layer(x), y)
    assert torch.equal(layer.eval()(x), x)


def test_dropout_of_one_or_nothing():
    assert torch.isfinite(Dropout(0.9999)(torch.ones(10))).all()
    x = torch.ones(3)
    assert Dropout(0.0)(x) is x


def test_half_precision_vectors_are_summed_in_single_precision():
    torch.manual_seed(0)
    rows, columns = torch.randn(6, 8), torch.randn(5, 8)
    exact = (rows @ columns.T).logsumexp(1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = logsumexp_of_products(rows.bfloat16(), columns, 1.0)
        total = sum_of_logsumexp(rows.bfloat16(), columns)
    assert found.dtype == total.dtype == torch.float32
    torch.testing.assert_close(found, exact, atol=0.1, rtol=0.1)
    torch.testing.assert_close(total, exact.sum(), atol=0.3, rtol=0.1)


def test_the_best_of_too_many_rows_is_refused():
    rows, columns = torch.randn(257, 2), torch.randn(3, 2)
    assert logsumexp_of_products(rows, columns, 1.0, 257).shape == (1,)
    with pytest.raises(ValueError, match="fold: got 257 with best=True, expected at most 256"):
        logsumexp_of_products(rows, columns, 1.0, 257, best=True)
