"""Tests of the figures about intentions, on constructed cases and of a run."""

from __future__ import annotations

import math

import pytest
import torch

from recbole_disent.evaluation import intentions
from recbole_disent.evaluation.intentions import describe, entropy_of_use, mean_cosine, shared_share
from recbole_disent.models.disents2s.separation import excess_cosine, imbalance
from recbole_disent.session import load_checkpoint, run


def clusters(users=40, size=12):
    """Return user vectors along two axes, and a table of items with one cluster along each axis."""
    torch.manual_seed(0)
    table = torch.zeros(2 * size + 1, 2)
    table[1 : size + 1, 0] = torch.rand(size) + 1
    table[size + 1 :, 1] = torch.rand(size) + 1
    return torch.eye(2).repeat(users, 1, 1), table


def test_planted_intentions_differ():
    phi, table = clusters()
    targets = torch.tensor([1, 2, 3, 20]).repeat(10)
    found = describe(phi, targets, table)
    assert found["sequences"] == 40
    assert found["cosine"] == 0
    assert found["won"] == [0.75, 0.25]
    assert found["entropy"] == pytest.approx(-(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25)))
    assert found["overlap"] == 0
    # The whole list is made of both.
    assert sum(found["overlap_with_all"]) == pytest.approx(1)


def test_collapsed_intentions_do_not():
    phi, table = clusters()
    phi = torch.randn(40, 1, 2) * torch.tensor([1.0, 1.5, 2.0])[:, None]  # of different lengths
    found = describe(phi, torch.ones(40, dtype=torch.long), table)
    assert found["cosine"] == pytest.approx(1)
    assert found["overlap"] == 1
    assert found["overlap_with_all"][2] > 0.4
    phi = torch.randn(40, 1, 2).expand(-1, 3, -1)
    found = describe(phi, torch.ones(40, dtype=torch.long), table)
    assert found["won"] == [1, 0, 0]
    assert found["entropy"] == 0
    assert found["overlap_with_all"] == [1, 1, 1]


def test_the_padding_item_is_in_no_list():
    phi, table = clusters(users=1)
    table[0] = 100
    found = describe(phi, torch.tensor([1]), table, top=100)  # all items
    assert found["overlap"] == 1
    table[0] = 0
    assert describe(phi, torch.tensor([1]), table, top=100) == found


def test_slices_change_nothing(monkeypatch):
    torch.manual_seed(0)
    phi, table = torch.randn(7, 3, 4), torch.randn(20, 4)
    targets = torch.randint(1, 20, (7,))
    whole = describe(phi, targets, table, top=5)
    monkeypatch.setattr(intentions, "_SCORES", 130)
    sliced = describe(phi, targets, table, top=5)
    assert sliced["won"] == whole["won"]
    assert sliced["overlap"] == pytest.approx(whole["overlap"])
    assert sliced["overlap_with_all"] == pytest.approx(whole["overlap_with_all"])


def test_opposite_vectors_and_uses():
    assert mean_cosine(torch.tensor([[[1.0, 0], [-2, 0]], [[0, 1.0], [3, 0]]])) == -0.5
    assert entropy_of_use([1.0, 0.0, 0.0]) == 0
    assert entropy_of_use([0.25] * 4) == 1
    lists = torch.tensor([[1, 2], [2, 1], [3, 1]])
    assert shared_share(lists[0], lists).tolist() == [1, 1, 0.5]


def test_what_cannot_be_described_is_refused():
    table = torch.randn(3, 2)
    with pytest.raises(ValueError, match="phi: got 0 sequences, 2 intentions"):
        describe(torch.randn(0, 2, 2), torch.zeros(0, dtype=torch.long), table)
    with pytest.raises(ValueError, match="phi: got 4 sequences, 1 intentions"):
        describe(torch.randn(4, 1, 2), torch.ones(4, dtype=torch.long), table)


def test_a_run_measures_its_intentions_on_the_validation_part(run_keys):
    report = run("DisentS2S", "hostile", config_dict={**run_keys, "epochs": 1})
    net, data = load_checkpoint(report["checkpoint"])
    valid, test = (intentions.of_model(net, loader) for loader in data.loaders[1:])
    assert report["intentions"]["cosine"] == pytest.approx(valid["cosine"], rel=1e-4)
    assert report["intentions"]["cosine"] != pytest.approx(test["cosine"], rel=1e-2)


@pytest.mark.parametrize(
    "call", [{"test": False}, {"config_dict": {"eval_args": {"split": {"LS": "valid_only"}}}}]
)
def test_intentions_without_a_test_are_those_of_the_kept_epoch(run_keys, call):
    keys = {**run_keys, "epochs": 6, "stopping_step": 6, "learning_rate": 0.3, "ema_decay": 0.0}
    report = run("DisentS2S", "hostile", **{**call, "config_dict": {**keys, **call.get("config_dict", {})}})
    assert report["best_epoch"] < 5
    net, data = load_checkpoint(report["checkpoint"])
    kept = intentions.of_model(net, data.loaders[1])
    assert report["intentions"]["cosine"] == pytest.approx(kept["cosine"], rel=1e-4)


def test_excess_of_the_cosine():
    phi = torch.tensor([[[1.0, 0], [2, 0], [0, 3]], [[1, 0], [-1, 0], [0, 1]]], dtype=torch.float64)
    assert excess_cosine(phi, 0.4).tolist() == pytest.approx([0.36 / 3, 0])
    assert excess_cosine(phi, -1.0).tolist() == pytest.approx([(4 + 1 + 1) / 3, (0 + 1 + 1) / 3])
    assert excess_cosine(phi[:, :1], 0.0).tolist() == [0, 0]
    phi = torch.randn(4, 3, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda phi: excess_cosine(phi, -0.5), phi)


def test_imbalance_is_the_divergence_of_the_mean_use_from_equal_use():
    scores = torch.tensor([[0.0, 3.0], [2.0, 0.0], [1.0, 1.0]], dtype=torch.float64)
    use = scores.softmax(1).mean(0)
    equal = torch.full((2,), 0.5, dtype=torch.float64)
    assert imbalance(scores).item() == pytest.approx((equal * (equal / use).log()).sum().item())
    # Pairs with opposite choices are balanced, and no use of an intention costs a finite amount.
    assert imbalance(torch.tensor([[0.0, 9.0], [9.0, 0.0]])).item() == pytest.approx(0, abs=1e-6)
    assert imbalance(torch.tensor([[0.0, 900.0]])).item() == pytest.approx(450 - math.log(2))
    scores.requires_grad_()
    assert torch.autograd.gradcheck(imbalance, scores)
