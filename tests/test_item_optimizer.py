"""Tests of the key item_optimizer: runs with the row-sparse optimiser equal runs with the dense one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recbole_disent.errors import UserError
from recbole_disent.models.disents2s.model import DisentS2S
from recbole_disent.ops.intention_softmax import draw_items
from recbole_disent.parallel import process_group
from recbole_disent.session import build_data, build_model, build_trainer, run
from recbole_disent.testing.processes import in_processes
from recbole_disent.training import checkpoint
from recbole_disent.training.row_adam import RowAdam
from tests.conftest import scored_again

SAMPLED = {"negatives": "sampled", "sampled_negatives": 5, "train_batch_size": 16, "precision": "double"}
CASES = {
    "sampled": SAMPLED,
    "batch": {**SAMPLED, "negatives": "batch", "seq2seq_variant": "latent"},
    "items of the future": {**SAMPLED, "negatives": "batch", "seq2seq_variant": "next_items"},
    "pairs": {**SAMPLED, "train_mode": "pairs"},
    "content": {**SAMPLED, "content": True, "content_dim": 4},
    "decay": {**SAMPLED, "learner": "adamw", "item_weight_decay": 0.5, "weight_decay": 0.1},
    "average": {**SAMPLED, "ema_decay": 0.9, "learner": "adamw", "item_weight_decay": 0.5},
    "warm-up": {
        **SAMPLED,
        "learning_rate_warmup": 9,
        "ema_decay": 0.9,
        "learner": "adamw",
        "item_weight_decay": 0.5,
    },
    "clipped": {**SAMPLED, "clip_grad_norm": {"max_norm": 0.01}},
    "another model": {"model": "TSSR", "output": "linear", "train_batch_size": 4, "precision": "double"},
    "SASRec": {**SAMPLED, "model": "SASRec", "train_mode": "sequences"},
    "SASRec with gBCE": {
        "model": "SASRec",
        "train_mode": "sequences",
        "train_batch_size": 16,
        "precision": "double",
        "loss": "gbce",
        "gbce_negatives": 3,
    },
    "GRU4Rec": {**SAMPLED, "model": "GRU4Rec", "train_mode": "sequences"},
    "BERT4Rec": {**SAMPLED, "model": "BERT4Rec", "train_mode": "sequences", "chunked_softmax": True},
    "SASRecContent": {**SAMPLED, "model": "SASRecContent"},
    "TSSR": {**SAMPLED, "model": "TSSR", "output": "id", "train_batch_size": 4},
    "refit": {**SAMPLED, "refit": True, "ema_decay": 0.8},
}


@pytest.mark.parametrize("case", CASES)
def test_a_run_equals_a_dense_run(make_keys, case):
    keys = {"epochs": 4, "eval_step": 2, **CASES[case]}
    model = keys.pop("model", "DisentS2S")
    found = {
        kind: run(config_dict=make_keys(model, item_optimizer=kind, **keys)) for kind in ("dense", "sparse")
    }
    a, b = found["dense"], found["sparse"]
    np.testing.assert_allclose(b["curves"]["train_loss"], a["curves"]["train_loss"], rtol=1e-5)
    assert b["best_valid_result"] == pytest.approx(a["best_valid_result"], abs=1e-9)
    assert b["test_result"] == pytest.approx(a["test_result"], abs=1e-9)
    one, two = (checkpoint.load(result["checkpoint"]) for result in (a, b))
    # Clipped gradients are not far above eps.
    atol = 1e-4 if case == "clipped" else 3e-6
    for name, value in one["state_dict"].items():
        if value.is_floating_point():
            torch.testing.assert_close(
                two["state_dict"][name],
                value,
                rtol=0,
                atol=atol,
                msg=lambda text, name=name: f"{name}: {text}",
            )
    assert "rows" in two["optimizer"]
    assert scored_again(b["checkpoint"]) == b["test_result"]


def test_the_sparse_mode_is_not_the_dense_one_in_disguise(make_config):
    data = build_data(make_config(item_optimizer="sparse", **SAMPLED))
    net = build_model(data)
    trainer = build_trainer(data, net)
    assert isinstance(trainer.optimizer, RowAdam)
    sum(net.calculate_loss(next(iter(data.loaders[0])))).backward()
    gradient = net.encoder.item_embedding.weight.grad
    assert gradient.is_sparse
    assert 0 < len(gradient.coalesce().values()) < net.n_items - 1
    before = net.item_table().detach().clone()
    trainer.optimizer.step()
    moved = (net.item_table() != before).any(1).nonzero()[:, 0]
    assert moved.tolist() == gradient.coalesce().indices()[0].tolist()


@pytest.mark.parametrize("keys", [{}, {"ema_decay": 0.9, "learner": "adamw", "item_weight_decay": 0.5}])
def test_a_resumed_run_has_the_digits_of_the_whole_run(make_keys, keys):
    keys = {**SAMPLED, "item_optimizer": "sparse", "hidden_dropout_prob": 0.3, "precision": "single", **keys}
    whole = run(config_dict=make_keys(epochs=6, **keys))
    half = run(config_dict=make_keys(epochs=3, **keys))
    again = run(config_dict=make_keys(epochs=6, resume_file=half["checkpoint"], **keys))
    assert again["resumed_from"] > 0
    assert again["test_result"] == whole["test_result"]
    a, b = checkpoint.load(whole["checkpoint"]), checkpoint.load(again["checkpoint"])
    for name, value in a["state_dict"].items():
        assert torch.equal(value, b["state_dict"][name])
    for one, two in zip(a["optimizer"]["rows"], b["optimizer"]["rows"], strict=True):
        assert one["step"] == two["step"] > 0
        assert torch.equal(one["exp_avg"], two["exp_avg"])
        assert torch.equal(one["exp_avg_sq"], two["exp_avg_sq"])


def test_the_digits_do_not_depend_on_checkpoints(make_keys):
    keys = make_keys(epochs=3, item_optimizer="sparse", **SAMPLED)
    a, b = (run(config_dict=keys, saved=saved)["curves"] for saved in (True, False))
    assert a == b


@pytest.mark.parametrize(("first", "second"), [("dense", "sparse"), ("sparse", "dense")])
def test_resuming_with_the_other_kind_is_refused(make_keys, first, second):
    path = run(config_dict=make_keys(item_optimizer=first, **SAMPLED))["checkpoint"]
    message = f"item_optimizer: got {second}, expected {first}, as in checkpoint '{path}'"
    with pytest.raises(UserError, match=re.escape(message)):
        run(config_dict=make_keys(item_optimizer=second, resume_file=path, epochs=4, **SAMPLED))


@pytest.mark.parametrize(
    "damage",
    [
        lambda state: state["rows"][0].update(exp_avg=torch.zeros(1, 16)),
        lambda state: state["rows"][0].update(step="one"),
        lambda state: state["rows"].clear(),
        lambda state: state["dense"]["state"][0].update(exp_avg=torch.zeros(3, 3)),
    ],
)
def test_a_damaged_state_of_the_tables_is_refused(make_keys, damage):
    path = run(config_dict=make_keys(item_optimizer="sparse", **SAMPLED))["checkpoint"]
    state = checkpoint.load(path)
    damage(state["optimizer"])
    checkpoint.save(path, state)
    with pytest.raises(UserError, match=r"resume_file: '.*' is damaged"):
        run(config_dict=make_keys(item_optimizer="sparse", resume_file=path, epochs=4, **SAMPLED))


@pytest.mark.parametrize(
    ("model", "keys", "message"),
    [
        ("DisentS2S", {"negatives": "all"}, "a training step of DisentS2S reads whole tables"),
        ("BPR", {}, "a training step of BPR reads whole tables"),
        ("DisentS2S", {**SAMPLED, "learner": "sgd"}, "learner is sgd; expected learner=adam or adamw"),
        ("DisentS2S", {**SAMPLED, "weight_decay": 0.1}, "weight_decay is 0.1 with learner=adam"),
        ("DisentS2S", {**SAMPLED, "enable_scaler": True}, "enable_scaler is True"),
    ],
)
def test_what_the_sparse_mode_cannot_do_is_one_sentence(make_config, model, keys, message):
    data = build_data(make_config(model, item_optimizer="sparse", **keys))
    net = build_model(data)
    with pytest.raises(UserError, match=re.escape(f"item_optimizer: got sparse, but {message}")):
        build_trainer(data, net)
    data.config["item_optimizer"] = "auto"
    assert not isinstance(build_trainer(data, net).optimizer, RowAdam)


def test_auto_follows_the_number_of_rows_and_logs_it(make_config, caplog):
    data = build_data(make_config(**SAMPLED))
    caplog.set_level("INFO")
    net = build_model(data)
    assert net.row_tables() == {net.encoder.item_embedding: 16 * 2 + 5}
    assert not isinstance(build_trainer(data, net).optimizer, RowAdam)
    net.rows_of_a_step = net.n_items // 5
    assert isinstance(build_trainer(data, net).optimizer, RowAdam)
    assert f"about {net.rows_of_a_step} of the {net.n_items} rows" in caplog.text


def test_distinct_draws_are_uniform():
    torch.manual_seed(0)
    counts = np.zeros(41)
    for _ in range(3000):
        drawn = draw_items(42, 5, torch.device("cpu"))
        assert len(drawn) == len(drawn.unique()) == 5
        counts += np.bincount(drawn.numpy() - 1, minlength=41)
    expected = 3000 * 5 / 41
    assert np.abs(counts - expected).max() < 5 * np.sqrt(expected)
    assert sorted(draw_items(5, 9, torch.device("cpu")).tolist()) == [1, 2, 3, 4]


# -- several processes -----------------------------------------------------------------


def rows_of(rank_rows: list[list[int]]) -> Any:
    """Sum sparse gradients with the given rows; the gradient of a row of process r is r + 1."""
    mine = process_group.rank()
    table = torch.zeros(9, 2)
    ids = torch.tensor(rank_rows[mine], dtype=torch.long)
    gradient = torch.sparse_coo_tensor(ids[None], torch.full((len(ids), 2), mine + 1.0), (9, 2))
    found = process_group.sum_rows(table, gradient if mine else gradient.coalesce())
    nothing = process_group.sum_rows(table, None)
    return found.is_coalesced(), found.to_dense(), nothing


@pytest.mark.processes
def test_rows_of_all_processes_are_summed():
    expected = torch.zeros(9, 2)
    expected[[1, 4]] += 1
    for row in (4, 4, 8):
        expected[row] += 2
    for coalesced, found, nothing in in_processes(2, rows_of, [[1, 4], [4, 8, 4]]):
        assert coalesced
        assert nothing is None
        assert torch.equal(found, expected)


@pytest.mark.processes
@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "keys"),
    [
        ("DisentS2S", {**SAMPLED, "ema_decay": 0.9, "learner": "adamw", "item_weight_decay": 0.5}),
        # Some batches leave a process without pairs.
        ("DisentS2S", {**SAMPLED, "train_batch_size": 2, "clip_grad_norm": {"max_norm": 0.05}}),
        ("TSSR", {"output": "linear", "train_batch_size": 3, "precision": "double"}),
    ],
)
def test_two_processes_equal_one(run_keys, model, keys):
    keys = {**run_keys, **keys, "item_optimizer": "sparse", "hidden_dropout_prob": 0.0}
    found = {n: run(model, "hostile", config_dict={**keys, "nproc": n}) for n in (1, 2)}
    one, two = (checkpoint.load(found[n]["checkpoint"])["state_dict"] for n in (1, 2))
    assert found[2]["test_result"] == pytest.approx(found[1]["test_result"], abs=1e-9)
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-4, atol=1e-6, msg=name)
    assert Path(found[2]["checkpoint"]).is_file()


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_gradients_that_are_not_finite_get_a_sentence(make_keys, monkeypatch, kind):
    def loss(net, batch):
        return (net.disentanglement.prototypes.sum() * 0).sqrt()

    monkeypatch.setattr(DisentS2S, "calculate_loss", loss)
    clip = {"max_norm": 5.0, "error_if_nonfinite": True}
    with pytest.raises(UserError, match="training diverged: the norm of the gradients is not finite; lea"):
        run(config_dict=make_keys(item_optimizer=kind, clip_grad_norm=clip, **SAMPLED))
