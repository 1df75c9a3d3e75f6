"""Tests of resumed runs: what another key changes, what is refused, and the state besides the weights."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from recbole_disent.config.config import Config
from recbole_disent.errors import UserError
from recbole_disent.leaderboard.worker import work
from recbole_disent.registry import spec_of
from recbole_disent.session import build_data, run
from recbole_disent.training import checkpoint
from recbole_disent.tuning.study import Study


@pytest.mark.parametrize(
    ("model", "keys", "message"),
    [
        ("SASRec", {"eval_mode": "uni10"}, "eval_args mode of valid: got 'uni10', expected 'full'"),
        ("BPR", {"valid_metric": "MRR@10"}, "valid_metric: got 'mrr@10', expected 'ndcg@10'"),
        ("BPR", {"filter_history": False}, "filter_history: got False, expected None"),
        ("BPR", {"repeatable": True}, "repeatable: got True, expected False"),
        ("BPR", {"repeat_gate": True}, "repeat_gate: got True, expected False"),
        ("BPR", {"candidate_seed": 1}, "candidate_seed: got 1, expected 2020"),
        ("BPR", {"candidate_popularity": "all"}, "candidate_popularity: got 'all', expected 'train'"),
        ("BPR", {"score_dtype": "bfloat16"}, "score_dtype: got 'bfloat16', expected 'float32'"),
    ],
)
def test_another_validation_is_refused(make_keys, model, keys, message):
    path = run(config_dict=make_keys(model, epochs=1))["checkpoint"]
    with pytest.raises(UserError, match=re.escape(message)) as error:
        run(config_dict=make_keys(model, epochs=2, resume_file=path, **keys))
    assert f"'{path}' was computed; train again, or use the keys of the checkpoint" in str(error.value)


def test_the_test_part_and_further_metrics_may_change(make_keys):
    path = run(config_dict=make_keys("BPR", epochs=1, valid_metric="NDCG@10"))["checkpoint"]
    more: dict[str, Any] = {
        "eval_args": {"mode": {"valid": "full", "test": "uni10"}},
        "metrics": ["NDCG", "Precision"],
        "topk": [3, 10],
        "valid_metric": "ndcg@10",
    }
    resumed = run(config_dict=make_keys("BPR", epochs=2, resume_file=path, **more))
    assert resumed["resumed_from"] == 1
    assert "precision@3" in resumed["test_result"]


def test_a_checkpoint_without_the_mode_of_its_validation_is_damaged(make_keys):
    path = run(config_dict=make_keys("BPR", epochs=1))["checkpoint"]
    state = checkpoint.load(path)
    state["config"]["eval_args"] = "x"
    checkpoint.save(path, state)
    with pytest.raises(UserError, match=r"resume_file: '.*' is damaged"):
        run(config_dict=make_keys("BPR", epochs=2, resume_file=path))


SPARSE = {"negatives": "sampled", "sampled_negatives": 5, "item_optimizer": "sparse"}


@pytest.mark.parametrize(
    ("model", "keys"), [("SASRec", {}), ("DisentS2S", {"learner": "sgd"}), ("DisentS2S", SPARSE)]
)
def test_another_learning_rate_and_decay_have_an_effect(make_keys, model, keys):
    keys = {"learner": "adamw", "learning_rate": 0.001, "ema_decay": 0.0, **keys}
    path = run(config_dict=make_keys(model, epochs=1, **keys))["checkpoint"]
    begun = checkpoint.load(path)["state_dict"]
    later = {**keys, "learning_rate": 1e-30, "weight_decay": 0.25}
    run(config_dict=make_keys(model, epochs=2, eval_step=2, resume_file=path, **later))
    state = checkpoint.load(path)
    assert state["epoch"] == 1
    for name, value in state["state_dict"].items():
        if value.is_floating_point():
            torch.testing.assert_close(value, begun[name], rtol=0, atol=1e-20, msg=name)
    groups = state["optimizer"].get("dense", state["optimizer"])["param_groups"]
    assert {(group["lr"], group["weight_decay"]) for group in groups} >= {(1e-30, 0.25)}


@pytest.mark.parametrize(
    ("model", "keys"),
    [
        ("MultiVAE", {"total_anneal_steps": 20, "anneal_cap": 1.0}),
        ("MacridVAE", {"total_anneal_steps": 20, "anneal_cap": 1.0}),
        ("DiffRec", {"history_num_per_term": 2, "steps": 2, "noise_scale": 0.1, "reweight": True}),
        ("LDiffRec", {"history_num_per_term": 2, "steps": 2, "anneal_steps": 9, "vae_anneal_steps": 20}),
    ],
)
def test_a_resumed_run_goes_on_with_the_state_besides_the_weights(make_keys, model, keys):
    keys = {"stopping_step": 50, "train_batch_size": 8, "eval_step": 2, "learning_rate": 0.01, **keys}
    whole = run(config_dict=make_keys(model, epochs=4, **keys))
    path = run(config_dict=make_keys(model, epochs=2, **keys))["checkpoint"]
    state = checkpoint.load(path)
    assert state["epoch"] == 1
    assert state["other_parameter"].keys() == set(spec_of(model).training_state)
    resumed = run(config_dict=make_keys(model, epochs=4, resume_file=path, **keys))
    assert resumed["resumed_from"] == 2
    assert resumed["curves"] == whole["curves"]
    assert resumed["test_result"] == whole["test_result"]
    # Earlier versions did not store that state.
    missing = spec_of(model).training_state[0]
    del state["other_parameter"][missing]
    checkpoint.save(path, state)
    with pytest.raises(UserError, match=rf"resume_file: .* does not hold '{missing}', which changes in"):
        run(config_dict=make_keys(model, epochs=4, resume_file=path, **keys))


@pytest.mark.parametrize("model", ["LINE", "NCL"])
def test_models_whose_state_is_in_no_checkpoint_are_not_resumed(make_keys, model):
    Path("begun.pth").write_text("")
    with pytest.raises(UserError, match=rf"a run of {model} cannot be resumed, because a checkpoint does"):
        run(config_dict=make_keys(model, epochs=2, resume_file="begun.pth"))


def test_fewer_users_than_clusters_are_refused(make_keys):
    with pytest.raises(UserError, match=r"num_clusters: got 1000, expected at most 31, because"):
        run(config_dict=make_keys("NCL", epochs=1))
    keys = make_keys("NCL", epochs=1)
    keys["filter_inter_by_user_or_item"], keys["user_inter_num_interval"] = False, "[10,inf)"
    users = build_data(Config(config_dict={**keys, "model": "BPR"})).dataset.user_num
    assert users < 31
    with pytest.raises(UserError, match=rf"num_clusters: got 1000, expected at most {users}, because"):
        run(config_dict=keys)


def test_recvae_is_trained_again_and_not_resumed(make_keys, hostile):
    given = make_keys("RecVAE", epochs=1)
    path = run(config_dict=given)["checkpoint"]
    with pytest.raises(UserError, match=r"resume_file: got '.*', but a run of RecVAE cannot be resumed"):
        run(config_dict={**given, "resume_file": path})
    # A stopped run of a plan and a stopped trial begin again.
    spec = {"model": "RecVAE", "dataset": "hostile", "seed": 1, "trial": None, "config": {"epochs": 1}}
    options = {"paths": {"data_path": str(hostile)}, "candidate_dir": "candidates", "threads": 1, "gpu": None,
               "keep_checkpoints": True, "command": [], "files": "f", "code": "c"}  # fmt: skip
    assert [work(spec, options)["resumed_from"] for _ in range(2)] == [None, None]
    for model, expected in (("RecVAE", None), ("BPR", path)):
        study = Study(f"searches-{model}", model, "hostile", {}, {}, {"tool": "random"})
        assert study.config_of({}, "saved")["resume_file"] == expected
