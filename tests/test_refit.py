"""Tests of the key ``refit``: the choice of the epoch, training on both parts, and one test."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from recbole_disent import result_file
from recbole_disent.errors import UserError
from recbole_disent.leaderboard.worker import work
from recbole_disent.loaders.build import make_train_loader
from recbole_disent.session import build_data, load_checkpoint, run
from recbole_disent.training import checkpoint
from recbole_disent.training.steps import CountedLoader
from tests.conftest import scored_again

MODELS = [
    ("DisentS2S", {}),
    ("DisentS2S", {"seq2seq_variant": "latent", "negatives": "batch"}),
    ("TSSR", {"train_batch_size": 8}),
    ("SASRec", {"train_mode": "sequences"}),
    ("SASRec", {}),
    ("BERT4Rec", {"train_mode": "sequences", "train_batch_size": 8}),
    ("BPR", {}),
    ("Pop", {}),
    ("ItemKNN", {}),
]


@pytest.mark.parametrize(("model", "more"), MODELS)
def test_a_refit_takes_the_steps_of_the_best_epoch_and_is_tested_once(run_keys, model, more, monkeypatch):
    tested = []
    from recbole_disent.evaluation.evaluator import RankingEvaluator

    evaluate = RankingEvaluator.evaluate

    def watched(self, net, loader, show_progress):
        tested.append(loader.dataset.part)
        return evaluate(self, net, loader, show_progress)

    monkeypatch.setattr(RankingEvaluator, "evaluate", watched)
    plain = run(model, "hostile", config_dict={**run_keys, **more})
    validations = tested.count("valid")
    tested.clear()
    found = run(model, "hostile", config_dict={**run_keys, **more, "refit": True})
    assert tested == ["valid"] * validations + ["test"]
    assert plain["refit"] is None
    # The choice is the same; what is tested is another model.
    assert found["best_valid_result"] == plain["best_valid_result"]
    assert found["best_epoch"] == plain["best_epoch"]
    assert found["data_hash"] == plain["data_hash"]
    assert found["refit"]["rows"] == plain["rows"]["train"] + plain["rows"]["valid"]
    assert found["refit"]["steps"] > 0
    assert json.loads(Path(found["result_file"]).read_text())["refit"] == found["refit"]
    assert found["checkpoint"].endswith(".refit.pth")
    assert scored_again(found["checkpoint"]) == pytest.approx(found["test_result"])


def test_a_refit_records_the_candidates_of_the_choice_and_of_the_test(run_keys):
    keys = {**run_keys, "epochs": 1, "eval_mode": "uni8", "topk": [1, 5]}
    plain, again = (run("BPR", "hostile", config_dict={**keys, "refit": refit}) for refit in (False, True))
    assert plain["candidate_hashes"].keys() == {"valid", "test"}
    for key in ("candidate_hashes", "short_candidate_rows"):
        assert again[key] == plain[key]


def test_a_refit_trains_on_the_validation_items_and_on_no_test_item(make_config):
    for model in ("DisentS2S", "BPR"):
        data = build_data(make_config(model))
        train, valid, test = (loader._dataset for loader in data.loaders)
        both = data.train_with_validation()
        clicks = np.bincount(valid.inter_feat["item_id"].numpy(), minlength=train.item_num)
        np.testing.assert_array_equal(both.training_counts(), train.training_counts() + clicks)
        held_out = np.bincount(test.history[1], minlength=train.item_num) - both.training_counts()
        expected = np.bincount(test.inter_feat["item_id"].numpy(), minlength=train.item_num)
        assert (held_out >= expected).all()


def test_test_items_reach_nothing_in_a_refit(make_config):
    """Other test items give the same batches, popularity and loss."""
    found = []
    for changed in (False, True):
        data = build_data(make_config("DisentS2S", MAX_ITEM_LIST_LENGTH=30))
        test = data.loaders[2]._dataset
        if changed:
            rows = test.inter_feat.rows
            test.store.items[rows] = test.store.items[rows] % 29 + 1
        both = data.train_with_validation()
        batches = list(make_train_loader(data.config, both))
        assert sum(map(len, batches)) == len(both.inter_feat)
        found.append([both.training_counts(), *(batch.items.numpy() for batch in batches)])
    for before, after in zip(*found, strict=True):
        np.testing.assert_array_equal(before, after)


def test_futures_of_a_refit_end_with_the_validation_item(make_config):
    data = build_data(make_config("DisentS2S"))
    train, valid = (loader._dataset for loader in data.loaders[:2])
    both = data.train_with_validation()
    rows = valid.inter_feat.rows
    users = train.store.users[rows].long()
    assert torch.equal(both.train_end[users], rows + 1)
    assert torch.equal(train.train_end[users], rows)  # and without a refit before it


def test_what_a_refit_needs(run_keys, make_config):
    with pytest.raises(UserError, match="refit: got True, but the split has no validation part"):
        run(
            "BPR",
            "hostile",
            config_dict={**run_keys, "refit": True, "eval_args": {"split": {"LS": "test_only"}}},
        )
    with pytest.raises(UserError, match="refit: got True with saved=False"):
        run("BPR", "hostile", config_dict={**run_keys, "refit": True}, saved=False)
    found = run("BPR", "hostile", config_dict={**run_keys, "refit": True})
    with pytest.raises(UserError, match="is the checkpoint of a refit"):
        run("BPR", "hostile", config_dict={**run_keys, "refit": True, "resume_file": found["checkpoint"]})
    net, data = load_checkpoint(found["checkpoint"])
    assert data.config["refit"] is True
    assert not net.training


def test_a_counted_loader_ends_at_its_limit():
    counted = CountedLoader([1, 2, 3], 2)
    assert (list(counted), counted.steps, len(counted)) == ([1, 2], 2, 2)
    counted = CountedLoader([1, 2, 3])
    assert (list(counted), counted.steps, len(counted)) == ([1, 2, 3], 3, 3)


def test_a_worker_that_was_killed_after_its_refit_continues(run_keys, monkeypatch):
    keys = {key: value for key, value in run_keys.items() if key != "data_path"}
    spec = {"model": "BPR", "dataset": "hostile", "seed": 1, "trial": None, "config": {**keys, "refit": True}}
    options = {"paths": {"data_path": run_keys["data_path"]}, "candidate_dir": "c", "threads": 1, "gpu": None,
               "keep_checkpoints": False, "command": [], "files": "f", "code": "c"}  # fmt: skip
    whole = work(spec, options)
    with monkeypatch.context() as patch:
        patch.setattr(result_file, "write", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            work(spec, options)
    newest = max(Path("checkpoints").glob("*.refit.pth"))
    os.utime(newest, (2**31, 2**31))
    again = work(spec, options)
    assert again["resumed_from"] is not None
    assert (again["test_result"], again["refit"]) == (whole["test_result"], whole["refit"])


def test_a_checkpoint_without_its_number_of_steps_is_not_refitted(run_keys):
    path = run("BPR", "hostile", config_dict=run_keys)["checkpoint"]
    state = checkpoint.load(path)
    del state["steps"]
    checkpoint.save(path, state)
    with pytest.raises(UserError, match="does not hold the number of steps that refit repeats"):
        run("BPR", "hostile", config_dict={**run_keys, "refit": True, "resume_file": path})
    run("BPR", "hostile", config_dict={**run_keys, "resume_file": path})


def test_a_refit_without_validation_scores_is_refused(run_keys):
    with pytest.raises(
        UserError, match=r"refit: got True with eval_step=0, expected eval_step of at least 1"
    ):
        run("BPR", "hostile", config_dict={**run_keys, "refit": True, "eval_step": 0})
