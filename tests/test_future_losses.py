"""Other losses on the future (benchmarks/future) against slow references in float64."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from recbole_disent import registry
from recbole_disent.data.dataset import SequenceDataset
from recbole_disent.models.disents2s.disentanglement import FUTURE, PAST
from tests import reference
from tests.windows import windows

FILE = Path(__file__).resolve().parent.parent / "benchmarks" / "future" / "model.py"
SEQUENCES = [[3, 1, 4, 1, 5, 9], [2, 6], [5, 3, 5], [8, 9, 7, 9]]


@pytest.fixture(autouse=True)
def no_registered_models(monkeypatch):
    monkeypatch.setattr(registry, "_registered", {})


@pytest.fixture
def build(make_config):
    def build(kind, **keys):
        usual = {
            "hidden_size": 6, "inner_size": 5, "n_intentions": 2, "hidden_dropout_prob": 0.0,
            "negatives": "all", "initializer_range": 0.4, "intention_cosine": 1.0, "intention_balance": 0.0,
            "future_weight": 0.5,
        }  # fmt: skip
        given = {**usual, **keys, "model_file": str(FILE), "future_loss": kind}
        config = make_config("FutureLosses", **given)
        torch.manual_seed(1)
        cls = registry.model_class(config)
        return cls(config, SequenceDataset(config).build()[0]).double()

    return build


def encoded(model, items, side):
    return reference.disentangle(model.disentanglement, reference.encoder(model.encoder, items), side)


def every_pair():
    return [(s, t) for s in SEQUENCES for t in range(1, len(s))]


def over_all_items(model, phi, targets):
    table = model.encoder.item_embedding.weight
    return reference.seq2item(phi, [table[i] for i in targets], "logsumexp", [], list(table[1:]))


def log_shares(model, vectors):
    table = model.encoder.item_embedding.weight[1:]
    found = [sum(torch.exp(item @ v / math.sqrt(6)) for v in vectors) for item in table]
    return torch.stack(found).log() - torch.stack(found).sum().log()


def slow(model, kind):
    pairs = every_pair()
    past = [encoded(model, s[:t], PAST) for s, t in pairs]
    item = sum(over_all_items(model, past, [s[t] for s, t in pairs]))
    if kind == "none":
        rest = torch.zeros(())
    elif kind == "soft":
        rest = sum(
            math.exp(-(place - t) / 2) * over_all_items(model, [past[i]], [s[place]])[0]
            for i, (s, t) in enumerate(pairs)
            for place in range(t + 1, len(s))
        )
    else:
        future = [encoded(model, s[t:][::-1], FUTURE) for s, t in pairs]
        rest = sum(over_all_items(model, future, [s[t - 1] for s, t in pairs]))
        if kind == "hindsight":
            for i, (s, t) in enumerate(pairs):
                if t + 1 < len(s):  # the future after the target
                    teacher = log_shares(model, encoded(model, s[t + 1 :][::-1], FUTURE)).exp().detach()
                    rest = rest - (teacher * log_shares(model, past[i])).sum()
    return (item + model.future_weight * rest) / len(pairs)


@pytest.mark.parametrize("kind", ["none", "soft", "reverse", "hindsight"])
def test_the_loss_and_its_gradient_are_those_of_the_reference(build, kind):
    model = build(kind, future_reach=2.0)
    quick = sum(model.calculate_loss(windows(SEQUENCES)))
    slowly = slow(model, kind)
    assert float(quick.detach()) == pytest.approx(float(slowly.detach()), rel=1e-9)
    weights = [p for name, p in model.named_parameters() if "position" not in name]
    found = torch.autograd.grad(quick, weights, allow_unused=True)
    wanted = torch.autograd.grad(slowly, weights, allow_unused=True)
    for one, other in zip(found, wanted, strict=True):
        if other is not None:
            torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-9)


def test_hard_negatives_weigh_more(build):
    model = build("hard")
    cls = type(model)
    hard_seq2seq = registry.resolve(f"{cls.__module__}:hard_seq2seq")
    past, future = torch.randn(2, 5, 2, 6, dtype=torch.float64)
    groups = torch.tensor([0, 0, 1, 1, 2]).repeat_interleave(2)
    for hardness in (0.0, 1.5):
        found = hard_seq2seq(past, future, groups, hardness).flatten()
        for row, vector in enumerate(past.flatten(0, 1)):
            scores = [w @ vector / math.sqrt(6) for w in future.flatten(0, 1)]
            others = [s for s, group in zip(scores, groups, strict=True) if group != groups[row]]
            mean = sum(torch.exp(hardness * s) for s in others) / len(others)
            total = sum(torch.exp(hardness * s) / mean * torch.exp(s) for s in others)
            own = torch.exp(scores[row])
            assert float(found[row]) == pytest.approx(float(-torch.log(own / (own + total))))


def test_no_gradient_flows_into_a_predicted_future(build):
    model = build("predicted", seq2seq_samples=4)
    rest = model.calculate_loss(windows(SEQUENCES))[1]
    assert float(rest.detach()) > 0
    rest.backward()
    bias = model.disentanglement.bias.grad
    assert bias[PAST].abs().sum() > 0
    assert bias[FUTURE].abs().sum() == 0


@pytest.mark.parametrize("kind", ["none", "hard", "predicted", "reverse", "hindsight"])
def test_a_sample_of_the_items_and_a_late_start(build, kind):
    model = build(kind, negatives="sampled", sampled_negatives=4, future_start=1, n_intentions=2)
    first, second = (model.calculate_loss(windows(SEQUENCES))[1].detach() for _ in range(2))
    assert float(first) == 0
    assert (float(second) > 0) == (kind != "none")
