"""Tests of the sampled softmax and of gBCE: definitions, gradients, draws, and the models that use them."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from recbole_disent.errors import UserError
from recbole_disent.models.item_loss import ItemLoss, ItemVectors, resolve
from recbole_disent.ops import intention_softmax
from recbole_disent.ops.gbce import distinct, draw_negatives, power
from recbole_disent.ops.intention_softmax import draw_items
from recbole_disent.session import build_data, build_model, run
from recbole_disent.testing import ModelContract
from tests.conftest import write_inter

ITEMS, WIDTH = 40, 5
TARGETS = torch.tensor([7, 7, 3, 12, 39, 1])
USERS = torch.tensor([1, 2, 1, 3, 3, 2])


def data(items: int = ITEMS) -> Any:
    """A training part with some clicks of each item."""
    counts = torch.arange(items).remainder(9).numpy()
    return SimpleNamespace(item_num=items, training_counts=lambda: counts.copy())


def loss_of(**keys: Any) -> ItemLoss:
    given = {
        "loss": "softmax",
        "negatives": "auto",
        "sampled_negatives": 10,
        "gbce_negatives": 4,
        "gbce_t": 0.75,
        "loss_chunk_mb": 1,
        "train_batch_size": 2,
        "MAX_ITEM_LIST_LENGTH": 5,
        "softmax_learns": None,
        "valid_neg_sample_args": {"distribution": "none"},
    }
    return ItemLoss({**given, **keys}, data())


def example(bias: bool = False, positions: int = len(TARGETS)) -> tuple[torch.Tensor, nn.Parameter, Any]:
    """States, item table and biases; scores are far from 0."""
    torch.manual_seed(0)
    states = torch.randn(positions, WIDTH, requires_grad=True)
    table = nn.Parameter(torch.randn(ITEMS, WIDTH))
    return states, table, nn.Parameter(torch.randn(ITEMS)) if bias else None


def vectors(table: nn.Parameter, bias: Any, seen: list[Any] | None = None) -> ItemVectors:
    def of(items: torch.Tensor) -> torch.Tensor:
        if seen is not None:
            seen.append(items)
        return nn.functional.embedding(items, table)

    return ItemVectors(lambda: table, of, bias)


def require_equal(found: torch.Tensor, expected: torch.Tensor, *leaves: Any) -> None:
    """Compare two losses and their gradients."""
    torch.testing.assert_close(found, expected)
    leaves = [leaf for leaf in leaves if leaf is not None]
    for a, b in zip(torch.autograd.grad(found, leaves), torch.autograd.grad(expected, leaves), strict=True):
        torch.testing.assert_close(a, b)


# -- sampled softmax -------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 100, 10**6])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("lift", [False, True])
def test_sampled_softmax_is_its_definition_with_gradients(double, limit, bias, lift):
    states, table, b = example(bias)
    net = loss_of(negatives="sampled", softmax_learns="lift" if lift else None)
    net.limit = limit
    seen: list[torch.Tensor] = []
    found = net(states, TARGETS, USERS, vectors(table, b, seen))
    sample = seen[0].tolist()
    assert set(TARGETS.tolist()) <= set(sample)
    counts = data().training_counts().clip(min=1)
    share = [n / counts.sum() for n in counts]
    terms = []
    for p, target in enumerate(TARGETS.tolist()):
        mine = {t for t, u in zip(TARGETS.tolist(), USERS.tolist(), strict=True) if u == USERS[p]}
        scores = {}
        for i in sample:
            scores[i] = table[i] @ states[p]
            scores[i] = scores[i] + (0 if b is None else b[i]) + (math.log(share[i]) if lift else 0)
        total = 0
        for i in sample:
            drawn = 1 - (1 - 10 / (ITEMS - 1)) * (1 - share[i]) ** len(TARGETS)
            total = total + scores[i].exp() / (1 if i in mine else drawn)
        terms.append(total.log() - scores[target])
    require_equal(found, torch.stack(terms).mean(), states, table, b)


@pytest.mark.parametrize("bias", [False, True])
def test_with_all_items_drawn_the_loss_is_the_full_softmax(double, bias):
    states, table, b = example(bias)
    found = loss_of(negatives="sampled", sampled_negatives=ITEMS - 1)(
        states, TARGETS, USERS, vectors(table, b)
    )
    expected = loss_of(negatives="all")(states, TARGETS, USERS, vectors(table, b))
    require_equal(found, expected, states, table, b)
    scores = states @ table.T + (0 if b is None else b)
    scores = scores[:, 1:]
    torch.testing.assert_close(found, nn.functional.cross_entropy(scores, TARGETS - 1))


def test_the_expected_loss_approaches_the_full_softmax(double):
    """The loss is the logarithm of an unbiased sum: its mean is too small, by less with more draws."""
    states, table, _ = example()
    # All next items of one user: they are certain, so that the random draws decide alone.
    users = torch.ones_like(USERS)
    with torch.no_grad():
        full = loss_of(negatives="all")(states, TARGETS, users, vectors(table, None))
        gaps = []
        for number in (2, 10, 37):
            net = loss_of(negatives="sampled", sampled_negatives=number)
            net.shares = torch.full((ITEMS,), -30.0)  # no item of the batch by its popularity
            draws = [net(states, TARGETS, users, vectors(table, None)) for _ in range(1500)]
            gaps.append(float(full - torch.stack(draws).mean()))
    assert gaps[0] > 2 * gaps[1] > 4 * gaps[2]
    assert abs(gaps[2]) < 0.02


def test_only_drawn_items_are_looked_up_and_changed(double):
    states, table, _ = example()
    for net in (loss_of(negatives="sampled"), loss_of(loss="gbce")):
        seen: list[torch.Tensor] = []
        items = vectors(table, None, seen)._replace(table=lambda: pytest.fail("the whole table was read"))
        table.grad = None
        net(states, TARGETS, USERS, items).backward()
        assert len(seen) == 1
        assert torch.equal(seen[0], seen[0].unique())
        assert 0 not in seen[0]
        assert len(seen[0]) < ITEMS - 1
        touched = table.grad.abs().sum(1).nonzero()[:, 0]
        assert touched.tolist() == seen[0].tolist()


@pytest.mark.parametrize("items", [1000, 60, 11, 5])
def test_drawn_items_are_distinct_and_equally_likely(items):
    torch.manual_seed(0)
    counts = torch.zeros(items)
    for _ in range(3000):
        drawn = draw_items(items, 10, torch.device("cpu"))
        assert len(drawn) == len(drawn.unique()) == min(10, items - 1)
        counts[drawn] += 1
    assert counts[0] == 0
    expected = 3000 * min(10, items - 1) / (items - 1)
    assert ((counts[1:] - expected).abs() <= 5 * expected**0.5).all()


def test_too_few_distinct_draws_are_replaced_by_a_permutation(monkeypatch):
    monkeypatch.setattr(torch, "randint", lambda low, high, size, device: torch.ones(size).long())
    assert len(draw_items(1000, 10, torch.device("cpu")).unique()) == 10


@pytest.mark.parametrize(
    ("negatives", "items", "expected"),
    [("auto", 11, "all"), ("auto", 12, "sampled"), ("all", 12, "all"), ("sampled", 3, "sampled"),
     (None, 10**6, "all")],
)  # fmt: skip
def test_auto_samples_where_there_are_more_items_than_draws(negatives, items, expected):
    assert resolve({"negatives": negatives, "sampled_negatives": 10}, items) == expected


# -- gBCE ------------------------------------------------------------------------------


def plain_gbce(states, table, b, negatives, beta):
    terms = []
    for p, target in enumerate(TARGETS.tolist()):

        def score(i, p=p):
            return table[i] @ states[p] + (0 if b is None else b[i])

        term = -beta * torch.log(1 / (1 + torch.exp(-score(target))))
        for i in negatives[p].tolist():
            term = term - torch.log(1 - 1 / (1 + torch.exp(-score(i))))
        terms.append(term / (1 + negatives.shape[1]))
    return torch.stack(terms).mean()


def test_power_is_one_without_calibration_and_the_share_with_full_calibration():
    assert power(256, 1025, 0.0) == 1
    assert power(256, 1025, 1.0) == 0.25
    assert power(256, 1025, 0.75) == pytest.approx(0.75 * 0.25 + 0.25)
    assert power(256, 100, 0.75) == 1  # more negatives than items


def test_negatives_are_equally_likely_and_never_the_target():
    targets = torch.tensor([1, 3, 5]).repeat(2000)
    drawn = draw_negatives(targets, 8, 6, None, len(targets), torch.tensor([3]))
    for target in (1, 3, 5):
        counts = drawn[targets == target].flatten().bincount(minlength=6)
        assert counts[[0, target]].tolist() == [0, 0]
        others = counts[[i for i in range(1, 6) if i != target]]
        assert ((others - 4000).abs() < 300).all()


def test_the_parts_of_a_batch_have_the_negatives_of_the_batch():
    targets, seed = torch.randint(1, 50, (30,)), torch.tensor([5])
    whole = draw_negatives(targets, 4, 50, None, 30, seed)
    rows = torch.tensor([7, 2, 29])
    assert torch.equal(draw_negatives(targets[rows], 4, 50, rows, 30, seed), whole[rows])


def test_distinct_items_and_their_places():
    items = torch.tensor([[4, 1], [4, 7]])
    found, place = distinct(items, 9)
    assert found.tolist() == [1, 4, 7]
    assert torch.equal(found[place], items)


# -- models ----------------------------------------------------------------------------

MODELS = [
    ("SASRec", {"train_mode": "sequences"}),
    ("SASRec", {"train_mode": "sequences", "softmax_learns": "lift"}),
    ("GRU4Rec", {"train_mode": "sequences"}),
    ("BERT4Rec", {"chunked_softmax": True, "train_mode": "sequences", "MAX_ITEM_LIST_LENGTH": 10}),
    ("BERT4Rec", {"chunked_softmax": True, "MAX_ITEM_LIST_LENGTH": 10}),
    ("SASRecContent", {"content_dim": 4}),
    ("TSSR", {"content_dim": 4, "residual_init": 0.5, "output": "linear"}),
    ("TSSR", {"content_dim": 4, "residual_init": 0.5, "output": "id"}),
    ("TSSR", {"content_dim": 4, "residual_init": 0.5, "output": "both"}),
]


def first_step(make_config: Any, model: str, keys: dict[str, Any]) -> tuple[Any, torch.Tensor, Any]:
    """Model, loss of the first batch, and its gradients."""
    prepared = build_data(make_config(model, **{"precision": "double", "train_batch_size": 20, **keys}))
    net = build_model(prepared).eval().double()
    loss_part = net.item_loss if hasattr(net, "item_loss") else net._item_loss
    loss_part.padding = False
    torch.manual_seed(1)
    loss = net.calculate_loss(next(iter(prepared.loaders[0])))
    loss = sum(loss) if isinstance(loss, tuple) else loss
    loss.backward()
    return loss_part, loss, {name: p.grad for name, p in net.named_parameters()}


@pytest.mark.parametrize(("model", "keys"), MODELS)
def test_a_model_with_all_items_in_its_sample_has_the_loss_of_the_full_softmax(
    make_config, double, model, keys
):
    full, expected, reference = first_step(make_config, model, {**keys, "negatives": "all"})
    sampled, found, gradients = first_step(make_config, model, {**keys, "negatives": "sampled"})
    assert (full.kind, sampled.kind) == ("all", "sampled")
    torch.testing.assert_close(found, expected)
    for name, gradient in reference.items():
        torch.testing.assert_close(gradients[name], gradient, msg=name)


@pytest.mark.parametrize(("model", "keys"), [case for case in MODELS if "softmax_learns" not in case[1]])
@pytest.mark.parametrize("more", [{"negatives": "sampled", "sampled_negatives": 5}, {"loss": "gbce"}])
def test_the_same_seed_draws_the_same_items(make_config, double, model, keys, more):
    _, loss, gradients = first_step(make_config, model, {**keys, **more})
    _, again, others = first_step(make_config, model, {**keys, **more})
    assert loss.isfinite()
    assert torch.equal(loss, again)
    for name, gradient in gradients.items():
        assert torch.equal(gradient, others[name])
    _, full, _ = first_step(make_config, model, {**keys, "negatives": "all"})
    assert loss != full


@pytest.mark.parametrize(
    "more",
    [
        {"negatives": "sampled", "sampled_negatives": 3, "learning_rate": 0.01},
        {"loss": "gbce", "gbce_negatives": 8, "learning_rate": 0.003},
    ],
)
def test_it_learns(run_keys, more):
    """The next item is the item number after the last item."""
    rows = [(f"u{u}", f"i{(u + t) % 12}", 1, t) for u in range(60) for t in range(9)]
    write_inter(Path(run_keys["data_path"]), "ring", rows)
    keys = {**run_keys, "epochs": 40, "train_mode": "sequences", "train_batch_size": 64,
            "hidden_dropout_prob": 0.0, "attn_dropout_prob": 0.0, **more}  # fmt: skip
    report = run("SASRec", "ring", config_dict=keys)
    assert report["test_result"]["recall@1"] > 0.9
    assert run("SASRec", "ring", config_dict=keys)["test_result"] == report["test_result"]


class TestSASRecWithSampledSoftmax(ModelContract):
    model = "SASRec"
    keys: ClassVar[dict[str, Any]] = {
        "train_mode": "sequences", "train_batch_size": 30, "negatives": "sampled", "sampled_negatives": 8,
    }  # fmt: skip


class TestSASRecContentWithGBCE(ModelContract):
    model = "SASRecContent"
    keys: ClassVar[dict[str, Any]] = {"loss": "gbce", "gbce_negatives": 8, "content_dim": 4}


@pytest.mark.parametrize(
    ("model", "keys", "message"),
    [
        ("SASRec", {"negatives": "sampled"}, "negatives: got sampled with train_mode=pairs, expected"),
        ("SASRec", {"loss": "gbce"}, "loss: got gbce with train_mode=pairs, expected train_mode=sequences"),
        ("BERT4Rec", {"loss": "gbce"}, "loss: got gbce with chunked_softmax=False, expected"),
        (
            "BERT4Rec",
            {"negatives": "all"},
            "negatives: got all with chunked_softmax=False, expected chunked_softmax=True",
        ),
        (
            "SASRecContent",
            {"loss": "gbce", "negatives": "sampled"},
            "negatives: got sampled with loss=gbce, expected auto",
        ),
        ("TSSR", {"loss": "gbce", "negatives": "all"}, "negatives: got all with loss=gbce, expected auto"),
        (
            "GRU4Rec",
            {"train_mode": "sequences", "loss": "gbce", "softmax_learns": "lift"},
            "softmax_learns: got lift with loss=gbce, expected probability",
        ),
        ("TSSR", {"negatives": "batch"}, "negatives: got 'batch', expected one of auto, all, sampled"),
        ("SASRec", {"gbce_t": 1.5}, r"gbce_t: got 1.5, expected float in \[0, 1\]"),
    ],
)  # fmt: skip
def test_keys(make_config, model, keys, message):
    with pytest.raises(UserError, match=message):
        make_config(model, **keys)


def test_a_sample_of_processes_is_drawn_by_the_first(monkeypatch, double):
    """All processes get the random items of process 0."""
    asked: list[torch.Tensor] = []
    monkeypatch.setattr(
        intention_softmax.process_group, "from_first", lambda value: asked.append(value) or value
    )
    states, table, _ = example()
    loss_of(negatives="sampled")(states, TARGETS, USERS, vectors(table, None))
    assert len(asked[0]) == 10
    loss_of(loss="gbce")(states, TARGETS, USERS, vectors(table, None))
    assert asked[1].shape == (1,)


def test_a_sample_that_auto_chose_is_said(caplog):
    caplog.set_level("INFO")
    assert loss_of(sampled_negatives=ITEMS - 2).chosen == {"negatives": "sampled"}
    assert f"negatives: auto is sampled, because there are {ITEMS - 1} items" in caplog.text
    caplog.clear()
    assert loss_of(sampled_negatives=ITEMS - 1).chosen == {"negatives": "all"}
    assert loss_of(negatives="sampled").chosen == {"negatives": "sampled"}
    assert caplog.text == ""
