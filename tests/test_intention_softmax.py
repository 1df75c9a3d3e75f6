"""Tests that the softmax for K intention vectors equals its definition, including gradients."""

from __future__ import annotations

import math

import pytest
import torch

from recbole_disent.ops import intention_softmax as full
from recbole_disent.ops.intention_softmax import Columns, weighted_logsumexp
from recbole_disent.parallel import process_group


def example(pairs=5, intentions=3, items=7, width=4, sampled=False):
    torch.manual_seed(0)
    phi = torch.randn(pairs, intentions, width, dtype=torch.float64, requires_grad=True)
    vectors = torch.randn(items, width, dtype=torch.float64, requires_grad=True)
    own = torch.randint(items, (pairs,))
    return phi, vectors, own, torch.rand(items, dtype=torch.float64).log() if sampled else None


def columns_of(vectors, own, inclusion):
    """The own column of each pair is certain, and the first one of all pairs but the last."""
    kept = {(p, int(c)) for p, c in enumerate(own)} | {(p, 0) for p in range(len(own) - 1)}
    return Columns(vectors, own, inclusion, torch.tensor(sorted(kept)).T.contiguous())


def plain(phi, vectors, own, log_inclusion, weights, best):
    """Return the loss from loops over the items."""
    total = 0
    for p in range(len(phi)):
        terms = []
        for i, h in enumerate(vectors):
            scores = torch.stack([h @ v / 2 for v in phi[p]])  # width 4
            scores = scores.max() if best else scores.logsumexp(0)
            kept = log_inclusion is None or i == own[p] or (i == 0 and p < len(phi) - 1)
            terms.append(scores if kept else scores - log_inclusion[i])
        total = total + weights[p] * torch.stack(terms).logsumexp(0)
    return total


@pytest.mark.parametrize("limit", [1, 50, 10**6])
@pytest.mark.parametrize("best", [False, True])
@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize("intentions", [1, 3])
def test_it_equals_its_definition_with_gradients(monkeypatch, limit, best, sampled, intentions):
    monkeypatch.setattr(full, "_ROWS", 1)
    phi, vectors, own, inclusion = example(intentions=intentions, sampled=sampled)
    weights = torch.rand(5, dtype=torch.float64)
    found, values = weighted_logsumexp(phi, columns_of(vectors, own, inclusion), weights, best, limit)
    expected = plain(phi, vectors, own, inclusion, weights, best)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close((values * weights).sum(), expected)
    for a, b in zip(
        torch.autograd.grad(found * 0.3, (phi, vectors)),
        torch.autograd.grad(expected * 0.3, (phi, vectors)),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("best", [False, True])
@pytest.mark.parametrize("sampled", [False, True])
def test_gradcheck(best, sampled):
    phi, vectors, own, inclusion = example(sampled=sampled)
    assert torch.autograd.gradcheck(
        lambda phi, vectors: weighted_logsumexp(phi, columns_of(vectors, own, inclusion), best=best)[0],
        (phi, vectors),
    )


def test_large_scores_do_not_overflow():
    phi, vectors, own, _ = example()
    found, _ = weighted_logsumexp(phi * 1e4, Columns(vectors, own))
    assert found.isfinite()
    assert all(g.isfinite().all() for g in torch.autograd.grad(found, (phi, vectors)))


def test_no_pairs_give_nothing_and_a_gradient():
    phi, vectors, own, _ = example(pairs=0)
    found, values = weighted_logsumexp(phi, Columns(vectors, own))
    found.backward()
    assert found == 0
    assert values.shape == (0,)
    assert not vectors.grad.any()


def test_there_are_never_more_scores_than_allowed(monkeypatch):
    seen, multiply = [], torch.mm

    def counted(a, b, out):
        seen.append(out.numel())
        return multiply(a, b, out=out)

    monkeypatch.setattr(torch, "mm", counted)
    phi, vectors, own, _ = example(pairs=50, intentions=4, items=20)
    for wanted in (False, True):
        seen.clear()
        with torch.set_grad_enabled(wanted):
            weighted_logsumexp(phi, Columns(vectors, own), limit=400)
        assert len(seen) == 10 * (1 + wanted)  # no gradient where none is wanted
        assert max(seen) == 400


def test_half_precision_vectors_are_summed_in_single_precision():
    phi, vectors, own, _ = example()
    exact, _ = weighted_logsumexp(phi, Columns(vectors, own))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, _ = weighted_logsumexp(phi.bfloat16(), Columns(vectors.float(), own))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, exact.float(), atol=0.1, rtol=0.02)


def test_equal_vectors_share_the_gradient_of_one():
    phi, vectors, own, _ = example(intentions=1)
    one, _ = weighted_logsumexp(phi, Columns(vectors, own))
    three, _ = weighted_logsumexp(phi.expand(-1, 3, -1), Columns(vectors, own), best=True)
    torch.testing.assert_close(three, one)
    for a, b in zip(
        torch.autograd.grad(three, (phi, vectors)), torch.autograd.grad(one, (phi, vectors)), strict=True
    ):
        torch.testing.assert_close(a, b)


def test_the_padding_item_is_no_column():
    table = torch.randn(4, 2)
    columns = full.all_items(table, torch.tensor([1, 3]))
    assert torch.equal(columns.vectors, table[1:])
    assert columns.own.tolist() == [0, 2]
    assert columns.log_inclusion is None


def sample(number, targets, users, items=50):
    """A sample whose vectors are the items' ids."""
    share = torch.full((items,), 1 / (items - 1)).log()
    blocks = process_group.Blocks(len(targets), targets.device)
    return full.sample(items, number, targets, users, blocks, share, lambda ids: ids[:, None].double())


@pytest.mark.parametrize("number", [0, 5, 1000])
def test_a_sample_has_the_next_items_and_no_padding(number):
    targets = torch.tensor([7, 7, 3])
    vectors, own, inclusion, certain = sample(number, targets, torch.tensor([1, 2, 1]))
    items = vectors[:, 0].long()
    # Each pair has the next items of its user for certain.
    kept = [(p, int(items[c])) for p, c in certain.T.tolist()]
    assert kept == [(0, 3), (0, 7), (1, 7), (2, 3), (2, 7)]
    assert {3, 7} <= set(items.tolist()) <= set(range(1, 50))
    assert torch.equal(items, items.unique())
    assert torch.equal(items[own], targets)
    assert (inclusion <= 0).all()
    if number == 1000:  # more than there are: all of them, for certain
        assert len(items) == 49
        assert torch.equal(inclusion, torch.zeros(49))


def test_a_sample_estimates_the_sum_over_all_items():
    """The corrected sum over a sample equals the sum over all other items, on average over many samples."""
    torch.manual_seed(0)
    items, rest = 30, 5
    share = torch.rand(items, dtype=torch.float64).softmax(0)
    share[0] = 0
    share = share / share.sum()
    scores = torch.randn(items, dtype=torch.float64).exp()
    own, totals = 4, []
    blocks = process_group.Blocks(rest, share.device)  # the own next item is one more
    for _ in range(4000):
        targets = torch.multinomial(share, rest, replacement=True)
        users = torch.arange(rest)
        found, _, inclusion, _ = full.sample(items, 5, targets, users, blocks, share.log(), lambda ids: ids)
        others = found != own
        totals.append((scores[found] / inclusion.exp())[others].sum())
    expected = scores[1:].sum() - scores[own]
    assert torch.stack(totals).mean().item() == pytest.approx(expected.item(), rel=0.02)


@pytest.mark.parametrize("drawn", [1.0, 0.5, 1e-4, 1e-6, 1e-8])
def test_the_inclusion_probability_of_a_rare_item_keeps_its_digits(drawn):
    share = torch.tensor([0.3, 1e-4, 1e-9, 0.0, 1.0])
    exact = (1 - (1 - share.double()) ** 512 * (1 - drawn)).log()
    exact[3] = math.log(drawn)  # an item without clicks is drawn at random only
    logarithms = share.log()
    logarithms[4] = 1e-7  # all clicks, rounded up
    found = full.log_inclusion(logarithms, 512, drawn)
    torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=1e-5)
