"""Tests that each documented key of RecBole has a row in properties/recbole_keys.yaml and a test."""

from __future__ import annotations

import ast
import logging
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import recbole
import torch
from recbole.config import Config as RecBoleConfig
from recbole.data import create_dataset as recbole_dataset
from recbole.data import data_preparation
from recbole.utils import argument_list, get_trainer

from recbole_disent.config import key_rules, key_tables
from recbole_disent.errors import UserError
from recbole_disent.recbole.patches import recbole_class
from recbole_disent.session import build_data, build_model, build_trainer, run
from recbole_disent.training.trainer import SafeTrainer
from tests.faults import KEYS, config, load, small_rows, small_run, write

ROWS = key_rules.recbole_keys()
# On the pages of RecBole's documentation, and neither in its lists of keys nor in its files of defaults.
_ON_PAGES = {"encoding", "neg_sampling", "training_neg_sample_num", "device", "single_spec", "local_rank",
             "offset"}  # fmt: skip
# Of this package: of RecBole's pages on several processes, and named by files.
_OURS = {"nproc", "world_size", "ip", "port", "group_offset"}


@pytest.fixture(autouse=True)
def small():
    write("small", "inter", small_rows())


# -- the table -------------------------------------------------------------------------


def documented():
    folder = Path(recbole.__file__).parent / "properties"
    files = [folder / "overall.yaml", folder / "dataset" / "sample.yaml"]
    found = {key for file in files for key in key_rules.load_yaml(file.read_text(encoding="utf-8"))}
    for name in ("general", "training", "evaluation", "dataset"):
        found |= set(getattr(argument_list, f"{name}_arguments"))
    return (found | _ON_PAGES) - _OURS


def test_every_documented_key_has_a_row():
    assert set(ROWS) == documented()


@pytest.mark.parametrize("key", ROWS)
def test_every_row_is_whole_and_its_test_exists(key):
    row = ROWS[key]
    assert set(row) == {"status", "scope", "test", "note"}
    assert row["status"] in ("works", "refused", "no_meaning")
    assert row["scope"] in key_rules.SCOPES
    assert len(row["note"]) > 10
    file, _, name = row["test"].partition("::")
    text = (Path(__file__).parent / f"{file}.py").read_text(encoding="utf-8")
    assert name in {node.name for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)}


_BY_KEY = ("test_faults_keys", "test_faults_columns")


@pytest.mark.parametrize("key", [key for key in ROWS if ROWS[key]["test"].partition("::")[0] in _BY_KEY])
def test_the_test_of_a_row_names_its_key(key):
    """The test of a row names the key, or runs over all rows with the status of the row."""
    file, _, name = ROWS[key]["test"].partition("::")
    tree = ast.parse((Path(__file__).parent / f"{file}.py").read_text(encoding="utf-8"))
    node = next(n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name == name)
    assert key in ast.unparse(node) or f"'{ROWS[key]['status']}'" in ast.unparse(node)


def test_the_table_has_every_key():
    table = key_tables.recbole_markdown()
    assert all(f"| `{key}` | " in table for key in ROWS)
    assert table in key_tables.page()


@pytest.mark.parametrize(
    "key", [key for key, row in ROWS.items() if row["status"] == "refused" and key != "valid_metric_bigger"]
)
def test_refused_keys_are_named_with_the_way_out(key):
    value = {"local_rank": 1, "offset": 1, "kg_reverse_r": True}.get(key, "other")
    with pytest.raises(UserError, match=f"'{key}' is not supported: ") as caught:
        config(**{key: value})
    assert ROWS[key]["note"] in str(caught.value)


def test_a_metric_says_by_itself_whether_more_is_better():
    with pytest.raises(UserError, match="valid_metric_bigger: got False, but NDCG@3 says it by itself"):
        config(valid_metric_bigger=False)
    assert config(valid_metric_bigger=True)["valid_metric_bigger"] is True
    errors = {"metrics": ["RMSE"], "valid_metric": "RMSE", "eval_mode": "labeled", "threshold": {"rating": 3}}
    assert config("BPR", **errors)["valid_metric_bigger"] is False


def test_keys_without_a_meaning_change_nothing():
    plain = small_run("BPR")
    for key, row in ROWS.items():
        if row["status"] == "no_meaning":
            found = small_run("BPR", **{key: "another"})
            for what in ("test_result", "data_hash"):
                assert found[what] == plain[what], key


# -- environment -----------------------------------------------------------------------


def test_environment_keys(tmp_path, caplog, capfd):
    given = {**KEYS, "data_path": str(tmp_path), "checkpoint_dir": "here", "seed": 5}
    first = run("BPR", "small", config_dict=given)
    assert Path(first["checkpoint"]).parent.name == "here"
    again, other = (small_run("BPR", seed=seed, epochs=3) for seed in (5, 6))
    assert again["best_valid_result"] == small_run("BPR", seed=5, epochs=3)["best_valid_result"]
    weights = [build_model(build_data(config("BPR", seed=s))).item_embedding.weight for s in (5, 5, 6)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert other["seed"] == 6
    for reproducibility in (True, False):
        small_run("BPR", reproducibility=reproducibility)
        assert torch.backends.cudnn.deterministic is reproducibility
    for use_gpu, gpu_id in ((False, "0"), (True, "")):
        settings = config(use_gpu=use_gpu, gpu_id=gpu_id)
        assert settings["gpu_id"] == ""
        assert settings["device"] == torch.device("cpu")
    assert config(use_gpu=True, gpu_id="0,1")["gpu_id"] == "0,1"
    capfd.readouterr()
    for show_progress in (False, True):
        small_run("BPR", show_progress=show_progress)
        assert ("Train" in capfd.readouterr().err) is show_progress
    with pytest.raises(UserError, match=r"no folder .*elsewhere"):
        load("BPR", data_path="elsewhere")
    root = logging.getLogger()
    levels = root.level, [h.level for h in root.handlers]
    for handler in root.handlers[:]:
        root.removeHandler(handler)
    try:
        small_run("BPR", state="ERROR")
        assert root.level == logging.ERROR
    finally:
        root.setLevel(levels[0])


def test_the_log_of_weights_and_biases(monkeypatch):
    told = {}
    fake = types.ModuleType("wandb")
    fake.run = None

    def init(project, config):
        told.update(project=project)
        fake.run = types.SimpleNamespace(summary=told)

    fake.init = init
    fake.log = lambda metrics, **options: told.update(metrics)
    fake.define_metric = lambda *args, **options: None
    monkeypatch.setitem(sys.modules, "wandb", fake)
    small_run("BPR", log_wandb=True, wandb_project="mine")
    assert told["project"] == "mine"
    assert any(name.startswith("eval/") for name in told)
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match="wandb"):
        small_run("BPR", log_wandb=True)


# -- training --------------------------------------------------------------------------


def test_training_keys_reach_the_trainer(caplog):
    given = {"epochs": 3, "train_batch_size": 6, "learner": "sgd", "learning_rate": 0.25,
             "weight_decay": 0.125, "clip_grad_norm": {"max_norm": 0.5}, "loss_decimal_place": 2,
             "enable_scaler": True, "worker": 1, "shuffle": False}  # fmt: skip
    data = build_data(config("BPR", **given))
    trainer = build_trainer(data, build_model(data))
    group = trainer.optimizer.param_groups[0]
    assert type(trainer.optimizer) is torch.optim.SGD
    assert (group["lr"], group["weight_decay"]) == (0.25, 0.125)
    assert (trainer.epochs, trainer.clip_grad_norm, trainer.enable_scaler) == (
        3, {"max_norm": 0.5}, torch.cuda.is_available())  # fmt: skip
    loader = data.loaders[0]
    assert (loader.step, loader.num_workers) == (6, 1)
    loader.num_workers = 0
    users = [[batch["user_id"].tolist() for batch in loader] for _ in range(2)]
    assert users[0] == users[1] == [data.loaders[0]._dataset.inter_feat["user_id"][n : n + 6].tolist()
                                    for n in range(0, 32, 6)]  # fmt: skip
    mixed = build_data(config("BPR", shuffle=True))
    rows = [torch.cat([batch["user_id"] for batch in mixed.loaders[0]]).tolist() for _ in range(2)]
    assert rows[0] != rows[1]
    for enable_amp in (True, False):
        assert build_trainer(mixed, build_model(mixed)).enable_amp is False
        settings = build_data(config("BPR", enable_amp=enable_amp))
        assert build_trainer(settings, build_model(settings)).enable_amp is enable_amp
    assert small_run("BPR", epochs=3, stopping_step=9)["epochs_run"] == 3
    caplog.set_level(logging.INFO)
    small_run("BPR", loss_decimal_place=2)
    line = next(r.message for r in caplog.records if "train loss" in r.message)
    assert len(line.split("train loss")[1].split(".")[1].rstrip("]\x1b[0m")) <= 2


def test_validation_comes_every_eval_step_epochs_and_stops_the_training(monkeypatch):
    seen = []
    found = run("BPR", "small", config_dict={**KEYS, "epochs": 4, "eval_step": 2}, saved=False,
                on_epoch=lambda epoch, score: seen.append(epoch))  # fmt: skip
    assert seen == [1, 3]
    assert found["epochs_run"] == 4
    never = small_run("BPR", epochs=2, eval_step=0)
    assert never["best_valid_result"] is None
    # A score that gets worse and worse: the first validation and two more.
    scores = iter(np.linspace(0.9, 0.1, 9))
    monkeypatch.setattr(SafeTrainer, "_valid_epoch", lambda *args, **options: (next(scores), {"ndcg@3": 0.5}))
    assert small_run("BPR", epochs=9, stopping_step=1)["epochs_run"] == 3
    scores = iter(np.linspace(0.9, 0.1, 9))
    assert small_run("BPR", epochs=9, eval_step=2, stopping_step=1)["epochs_run"] == 2 + 2 * 2


def test_require_pow_reaches_the_models_that_read_it():
    for require_pow in (True, False):
        assert build_model(build_data(config("LightGCN", require_pow=require_pow))).require_pow is require_pow


def test_a_transform_changes_batches_and_needs_its_keys():
    data = build_data(config("SASRec", transform="inverse_itemseq", train_mode="pairs"))
    batch = next(iter(data.loaders[0]))
    length = int(batch["item_length"][0])
    assert batch["Inverse_item_id_list"][0, -length:].tolist() == batch["item_id_list"][0, :length].tolist()
    for name, missing in (
        ("mask_itemseq", "mask_ratio"),
        ("crop_itemseq", "eta"),
        ("reorder_itemseq", "beta"),
    ):
        with pytest.raises(UserError, match=f"transform: {name} needs {missing}.*; set .* --{missing}="):
            config("GRU4Rec", transform=name)
    for name in ("user_defined", "mirror"):
        with pytest.raises(UserError, match=f"transform: got '{name}', expected one of mask_itemseq"):
            config("GRU4Rec", transform=name)
    with pytest.raises(UserError, match="inverse_itemseq changes item sequences, and BPR does not use"):
        config("BPR", transform="inverse_itemseq")
    cropped = build_data(config("GRU4Rec", transform="crop_itemseq", eta=0.5))
    batch = next(iter(cropped.loaders[0]))
    assert torch.equal(batch["Crop_item_id_listitem_length"], batch["item_length"] // 2)


# -- evaluation ------------------------------------------------------------------------


def test_evaluation_keys_shape_the_result():
    keys = {"metrics": ["Hit", "MAP"], "topk": [2, 4], "valid_metric": "MAP@4", "metric_decimal_place": 2}
    found = small_run("BPR", eval_batch_size=3, **keys)
    assert set(found["test_result"]) == {"hit@2", "hit@4", "map@2", "map@4"}
    assert found["best_valid_score"] == found["best_valid_result"]["map@4"]
    assert all(round(value, 2) == value for value in found["test_result"].values())
    assert build_data(config("BPR", eval_batch_size=3)).loaders[2].step == 3
    whole = small_run(
        "BPR", metrics=["Hit", "MAP"], topk=[2, 4], valid_metric="MAP@4", metric_decimal_place=2
    )
    assert whole["test_result"] == found["test_result"]


@pytest.mark.parametrize("repeatable", [True, False])
def test_repeatable_general_models_may_recommend_the_history(repeatable):
    """Metrics equal those of RecBole's loaders and trainer, with the items of ItemKNN."""
    rng = np.random.default_rng(3)
    rows = [(f"u{n % 40}", f"i{rng.integers(30)}", 1, n) for n in range(800)]
    write("wide", "inter", rows)
    protocol = {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full"}
    metrics = {"metrics": ["Recall", "MRR"], "topk": [3, 10], "valid_metric": "MRR@10"}
    settings = {**KEYS, **metrics, "repeatable": repeatable, "k": 10, "eval_args": protocol}
    ours = run("ItemKNN", "wide", config_dict=settings, saved=False)["test_result"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["test"])
        theirs = RecBoleConfig("ItemKNN", "wide", config_dict=dict(settings))
    train, _, test = data_preparation(theirs, recbole_dataset(theirs))
    model = recbole_class("ItemKNN")(theirs, train.dataset)
    trainer = get_trainer(theirs["MODEL_TYPE"], "ItemKNN")(theirs, model)
    expected = trainer.evaluate(test, load_best_model=False)
    assert ours == dict(expected)
    history = run("ItemKNN", "wide", config_dict={**settings, "filter_history": not repeatable}, saved=False)
    assert history["test_result"] == ours
    other = run("ItemKNN", "wide", config_dict={**settings, "repeatable": not repeatable}, saved=False)
    assert other["test_result"] != ours


def test_sequential_models_are_repeatable():
    with pytest.raises(UserError, match="repeatable"):
        config("SASRec", repeatable=False)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"seed": 2**32}, r"seed: got 4294967296, expected at most 2\^32 - 1"),
        ({"data_path": 2024}, r"^data_path: got 2024, expected the path of a folder, such as './2024'"),
        ({"checkpoint_dir": 5}, r"^checkpoint_dir: got 5, expected the path of a folder"),
        ({"learner": "sparse_adam"}, r"learner: got 'sparse_adam', expected one of adam, adamw, sgd"),
    ],
)
def test_values_that_no_run_can_use_are_named(keys, message):
    with pytest.raises(UserError, match=message):
        config("BPR", **keys)
