"""Tests of RecBole's causal models on whole sequences, against the loss of separate pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from recbole_disent.errors import UserError
from recbole_disent.leaderboard import plan
from recbole_disent.loaders.batch import WindowBatch
from recbole_disent.ops.dropout import Dropout
from recbole_disent.recbole.patches import anomaly_detection_unchanged
from recbole_disent.session import build_data, build_model, load_checkpoint, run
from recbole_disent.testing import ModelContract
from tests.conftest import feature_keys, scored_again, write_inter
from tests.model_lists import CAUSAL


def loss_and_gradients(net: Any, batches: list[Any]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Return the mean loss over all pairs of some batches, and its gradients."""
    pairs = sum(map(len, batches))
    # RecBole's own loss for RecBole's batches.
    kind = type(net) if isinstance(batches[0], WindowBatch) else type(net).__bases__[-1]
    loss = sum(kind.calculate_loss(net, batch) * (len(batch) / pairs) for batch in batches)
    net.zero_grad()
    loss.backward()
    return loss, {name: p.grad.clone() for name, p in net.named_parameters()}


@pytest.mark.parametrize("model", CAUSAL)
@pytest.mark.parametrize("memory", [256, 1])
def test_loss_and_gradients_are_those_of_the_pairs_one_by_one(make_config, model, memory):
    keys = {"MAX_ITEM_LIST_LENGTH": 24, "precision": "double", "train_batch_size": 30, **feature_keys(model)}
    data = build_data(make_config(model, train_mode="sequences", loss_chunk_mb=memory, **keys))
    net = build_model(data).eval()  # without dropout
    net._item_loss.limit = min(net._item_loss.limit, 1000 * memory)  # the data are small: make it slices
    windows = list(data.loaders[0])
    assert len(windows) > 1
    assert all(isinstance(batch, WindowBatch) for batch in windows)
    one_by_one = list(build_data(make_config(model, **keys)).loaders[0])
    torch.set_default_dtype(torch.float64)
    try:
        loss, gradients = loss_and_gradients(net, windows)
        expected, reference = loss_and_gradients(net, one_by_one)
    finally:
        torch.set_default_dtype(torch.float32)
    assert sum(map(len, windows)) == sum(map(len, one_by_one))
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=0)
    for name, gradient in reference.items():
        torch.testing.assert_close(gradients[name], gradient, rtol=1e-7, atol=1e-12, msg=name)


@pytest.mark.parametrize("model", ["SASRec", "GRU4Rec"])
def test_whole_sequences_have_the_fast_dropout_and_the_weights_of_recbole(make_config, model):
    found = {}
    for mode in ("pairs", "sequences"):
        net = build_model(build_data(make_config(model, train_mode=mode)))
        layers = [module for module in net.modules() if isinstance(module, nn.Dropout | Dropout)]
        found[mode] = {name: value.shape for name, value in net.state_dict().items()}
        assert layers
        assert {type(layer) for layer in layers} == {nn.Dropout if mode == "pairs" else Dropout}
        assert all(layer.p > 0 for layer in layers)
    assert found["pairs"] == found["sequences"]


def test_windows_of_long_sequences_hold_each_target_once(make_config):
    """Sequences with more than 7 inputs are cut, and windows are independent of each other."""
    data = build_data(make_config("SASRec", train_mode="sequences", train_batch_size=20, precision="double"))
    net = build_model(data).eval()
    table, terms, count = net.item_embedding.weight, [], 0
    torch.set_default_dtype(torch.float64)
    try:
        for batch in data.loaders[0]:
            rows = []
            for items in batch.items.split(batch.lengths.tolist()):
                assert len(items) <= 8
                for t in range(1, len(items)):
                    state = net.forward(items[None, :t], torch.tensor([t]))[0]
                    rows.append(torch.logsumexp(table @ state, 0) - table[items[t]] @ state)
            count += len(rows)
            terms.append((net.calculate_loss(batch), torch.stack(rows).mean()))
    finally:
        torch.set_default_dtype(torch.float32)
    assert count == len(data.loaders[0].dataset.inter_feat)
    for found, expected in terms:
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)


def test_only_last_windows(make_config):
    """With at most 7 inputs, a user has the last 7 targets of the training part."""
    data = build_data(
        make_config("SASRec", train_mode="sequences", train_windows="last", train_batch_size=20)
    )
    loader, train = data.loaders[0], data.loaders[0].dataset
    store, stops = train.store, train.train_end
    expected = [
        (user, stop - min(8, stop - begin), stop)
        for user, (begin, stop) in enumerate(zip(store.offsets.tolist(), stops.tolist(), strict=False))
        if stop - begin >= 2
    ]
    assert any(stop - store.offsets[user] > 8 for user, _, stop in expected)
    found = [
        (int(user), items.tolist())
        for batch in loader
        for user, items in zip(batch.users, batch.items.split(batch.lengths.tolist()), strict=True)
    ]
    assert sorted(found) == [(user, store.items[begin:stop].tolist()) for user, begin, stop in expected]
    assert len(list(loader)) <= len(loader) < 2 * len(list(loader))


@pytest.mark.parametrize("model", ["SASRec", "GRU4Rec"])
def test_logit_adjustment_raises_scores_by_the_share_of_training_clicks(make_config, model):
    data = build_data(
        make_config(model, train_mode="sequences", softmax_learns="lift", MAX_ITEM_LIST_LENGTH=24)
    )
    net = build_model(data).eval()
    train = data.loaders[0].dataset
    counts = np.zeros(net.n_items)
    for begin, stop in zip(train.store.offsets[1:-1], train.train_end[1:], strict=True):
        np.add.at(counts, train.store.items[begin:stop], 1)
    held_out = np.bincount(train.store.items, minlength=net.n_items) - counts
    assert held_out.sum() > 40  # clicks that must not be counted
    log_popularity = torch.from_numpy(np.log(counts.clip(1) / counts.clip(1).sum())).float()
    table = net.item_embedding.weight
    for batch in data.loaders[0]:
        rows = []
        for items in batch.items.split(batch.lengths.tolist()):
            for t in range(1, len(items)):
                scores = table @ net.forward(items[None, :t], torch.tensor([t]))[0] + log_popularity
                rows.append(torch.logsumexp(scores, 0) - scores[items[t]])
        torch.testing.assert_close(net.calculate_loss(batch), torch.stack(rows).mean(), rtol=1e-5, atol=0)


def test_logit_adjustment_learns_the_rise_over_popularity(run_keys):
    """On clicks without a dependence on histories, scores learn ln p(item) or, as a lift, a constant."""
    rng = np.random.default_rng(0)
    weights = 0.8 ** np.arange(20)
    clicks = rng.choice(20, p=weights / weights.sum(), size=(100, 12))
    rows = [(f"u{u}", f"i{item}", 1, t) for u, items in enumerate(clicks) for t, item in enumerate(items)]
    write_inter(Path(run_keys["data_path"]), "weighted", rows)
    keys = {
        **run_keys,
        "epochs": 12,
        "train_mode": "sequences",
        "train_batch_size": 64,
        "learning_rate": 0.01,
    }

    def slope(**given: Any) -> float:
        """Return the slope of the scores over ln p(item)."""
        report = run("GRU4Rec", "weighted", config_dict={**keys, **given})
        net, data = load_checkpoint(report["checkpoint"])
        test = data.loaders[2].dataset
        scores = net.full_sort_predict(test[np.arange(len(test))]).view(-1, net.n_items)[:, 1:]
        return float(np.polyfit(np.log(test.training_counts()[1:]), scores.mean(0).detach(), 1)[0])

    assert slope(softmax_learns="auto") > 0.7  # all items are ranked
    by_popularity = {"eval_args": {"mode": "pop9"}}
    assert slope(**by_popularity) > 0.7
    assert abs(slope(softmax_learns="auto", **by_popularity)) < 0.3


def recboles_sasrec() -> type[Any]:
    with anomaly_detection_unchanged():
        from recbole.model.sequential_recommender import SASRec

        return SASRec


def test_without_the_key_the_class_is_recboles(make_config):
    assert make_config("SASRec").model_class is recboles_sasrec()
    assert make_config("SASRec", train_mode="sequences").model_class is not recboles_sasrec()


def test_a_class_in_place_of_its_name(run_keys):
    keys = {**run_keys, "train_mode": "sequences", "epochs": 1}
    by_class = run(recboles_sasrec(), "hostile", config_dict=keys)
    assert by_class["test_result"] == run("SASRec", "hostile", config_dict=keys)["test_result"]
    own = type("SASRec", (recboles_sasrec(),), {"__module__": "mine"})
    with pytest.raises(UserError, match="sequences for the class SASRec of mine, expected pairs"):
        run(own, "hostile", config_dict=keys)


class TestSASRecOnSequences(ModelContract):
    model = "SASRec"
    keys: ClassVar[dict[str, Any]] = {"train_mode": "sequences", "train_batch_size": 30}


class TestGRU4RecOnSequences(ModelContract):
    model = "GRU4Rec"
    keys: ClassVar[dict[str, Any]] = {"train_mode": "sequences", "train_batch_size": 30}


@pytest.mark.parametrize("model", ["SASRecF", "FDSA"])
def test_a_model_with_features_runs_and_comes_back(run_keys, model):
    keys = {**run_keys, **feature_keys(model), "train_mode": "sequences", "train_batch_size": 20}
    report = run(model, "hostile", config_dict=keys)
    assert scored_again(report["checkpoint"]) == report["test_result"]


def test_it_learns(run_keys):
    """The next item is the item number after the last item, which the model learns in some epochs."""
    rows = [(f"u{u}", f"i{(u + t) % 12}", 1, t) for u in range(60) for t in range(9)]
    write_inter(Path(run_keys["data_path"]), "ring", rows)
    keys = {**run_keys, "epochs": 40, "train_mode": "sequences", "train_batch_size": 64,
            "learning_rate": 0.01, "hidden_dropout_prob": 0.0, "attn_dropout_prob": 0.0}  # fmt: skip
    assert run("SASRec", "ring", config_dict=keys)["test_result"]["recall@1"] > 0.9


@pytest.mark.parametrize(
    ("model", "keys", "message"),
    [
        (
            "SASRec",
            {"train_mode": "sequences", "loss_type": "BPR"},
            r"loss_type: got 'BPR' with train_mode=sequences",
        ),
        ("GRU4Rec", {"train_windows": "last"}, r"train_windows: got last with train_mode=pairs, expected"),
        (
            "SASRec",
            {"softmax_learns": "auto"},
            r"softmax_learns: got auto with train_mode=pairs, expected",
        ),
        ("SASRec", {"train_mode": "both"}, r"train_mode: got 'both', expected one of sequences, pairs"),
        ("Caser", {"train_mode": "sequences"}, r"train_mode: Caser has only one training mode; .*SASRec"),
    ],
)
def test_keys(make_config, model, keys, message):
    with pytest.raises(UserError, match=message):
        make_config(model, **keys)


@pytest.mark.parametrize(
    ("model", "switch", "others"),
    [
        ("SASRec", {"train_mode": "sequences"}, [{"train_windows": "last"}, {"softmax_learns": "lift"}]),
        ("BERT4Rec", {"chunked_softmax": True}, [{"softmax_learns": "lift"}, {"train_mode": "sequences"}]),
        ("Caser", {"chunked_softmax": True}, [{"softmax_learns": "lift"}]),
    ],
)
def test_keys_that_decide_a_result_name_a_run_and_others_do_not(run_keys, model, switch, others):
    def names(**keys: Any) -> list[str]:
        config = {k: v for k, v in run_keys.items() if k != "show_progress"}
        given = {"models": [model], "datasets": ["hostile"], "seeds": [1], "protocols": ["full"],
                "config": {**config, **keys}, "out": "out"}  # fmt: skip
        return [r.id for r in plan.make_plan(given).runs()]

    named = names()
    assert names(**switch) != named
    assert names(loss_chunk_mb=100) == named  # its scope is speed
    for keys in others:
        assert names(**switch, **keys) != names(**switch)
