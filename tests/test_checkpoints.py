"""Tests of checkpoints: resuming, loading, and damaged, hostile or foreign files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from recbole_disent import load
from recbole_disent.errors import UserError
from recbole_disent.files import write_atomically
from recbole_disent.session import load_checkpoint, run
from recbole_disent.training import checkpoint
from tests.conftest import hostile_rows, scored_again, write_inter


def test_resume_goes_on_as_the_first_run_would_have(make_keys):
    whole = run(config_dict=make_keys(epochs=6))
    half = run(config_dict=make_keys(epochs=3, stopping_step=50))
    path = half["checkpoint"]
    start = checkpoint.load(path)["epoch"] + 1
    resumed = run(config_dict=make_keys(epochs=6, resume_file=path))
    assert resumed["resumed_from"] == start
    assert resumed["epochs_run"] == whole["epochs_run"] == 6
    assert resumed["seconds"]["train"] > 0
    assert resumed["best_valid_result"] == whole["best_valid_result"]
    assert resumed["test_result"] == whole["test_result"]
    a, b = checkpoint.load(whole["checkpoint"]), checkpoint.load(resumed["checkpoint"])
    for name, value in a["state_dict"].items():
        assert torch.equal(value, b["state_dict"][name])


def test_resume_warns_on_a_changed_configuration(make_keys, caplog):
    first = run(config_dict=make_keys())
    run(config_dict=make_keys(resume_file=first["checkpoint"], learning_rate=0.5, epochs=3))
    assert "resume: learning_rate is 0.5, was 0.002" in caplog.text


def test_resume_does_not_warn_of_keys_younger_than_the_checkpoint(make_keys, caplog):
    path = run(config_dict=make_keys("BERT4Rec"))["checkpoint"]
    state = checkpoint.load(path)
    del state["config"]["chunked_softmax"], state["config"]["ema_decay"]
    checkpoint.save(path, state)
    run(config_dict=make_keys("BERT4Rec", resume_file=path, epochs=3))
    assert "resume: " not in caplog.text


def test_resume_after_the_last_epoch_keeps_the_checkpoint(make_keys):
    keys = {"epochs": 1, "eval_mode": "uni10"}
    first = run(config_dict=make_keys(**keys))
    before = Path(first["checkpoint"]).read_bytes()
    again = run(config_dict=make_keys(**keys, resume_file=first["checkpoint"]))
    assert Path(first["checkpoint"]).read_bytes() == before
    assert again["test_result"] == first["test_result"]
    assert again["candidate_hashes"] == first["candidate_hashes"]
    assert set(first["candidate_hashes"]) == {"valid", "test"}


@pytest.mark.parametrize("model", ["DisentS2S", "Pop", "ItemKNN"])
def test_load_checkpoint_gives_the_scores_back(make_keys, model):
    first = run(config_dict=make_keys(model))
    assert scored_again(first["checkpoint"]) == first["test_result"]


def test_a_checkpoint_outlives_a_change_of_defaults(make_keys):
    """The test removes keys, as if their values had been the defaults when the checkpoint was made."""
    path = run(config_dict=make_keys("TSSR", epochs=1, output="linear", n_layers=2))["checkpoint"]
    state = checkpoint.load(path)
    del state["given"]["output"], state["given"]["n_layers"]
    checkpoint.save(path, state)
    net, data = load_checkpoint(path)
    assert net.prediction is not None
    assert data.config["n_layers"] == 2
    assert load_checkpoint(path, {"hidden_dropout_prob": 0.25})[1].config["hidden_dropout_prob"] == 0.25


def test_resuming_with_another_shape_or_learner_is_one_sentence(make_keys):
    path = run(config_dict=make_keys())["checkpoint"]
    for keys in ({"hidden_size": 8}, {"learner": "sgd"}):
        with pytest.raises(UserError, match="checkpoint"):
            run(config_dict=make_keys(resume_file=path, epochs=4, **keys))


@pytest.mark.parametrize(
    "damage",
    [
        lambda state: state.pop("optimizer"),
        lambda state: state["optimizer"]["state"][0].update(exp_avg=torch.zeros(3, 3)),
        lambda state: state["optimizer"].update(param_groups=[]),
        lambda state: state["random"].update(torch=torch.zeros(5, dtype=torch.uint8)),
        lambda state: state["random"].update(python="x"),
        lambda state: state["random"].pop("loader"),
        lambda state: state.update(epoch="three"),
        lambda state: state.pop("seconds"),
    ],
)
def test_a_checkpoint_with_damaged_progress_is_refused_before_the_training(make_keys, damage):
    path = run(config_dict=make_keys())["checkpoint"]
    state = checkpoint.load(path)
    damage(state)
    checkpoint.save(path, state)
    before = Path(path).read_bytes()
    with pytest.raises(UserError, match=r"resume_file: '.*' is damaged: the progress, the optimiser or") as e:
        run(config_dict=make_keys(resume_file=path, epochs=4))
    assert "or another version of recbole_disent wrote it" in str(e.value)
    assert Path(path).read_bytes() == before


def test_checkpoints_of_others_are_refused(make_keys, hostile):
    first = run(config_dict=make_keys())
    with pytest.raises(UserError, match="belongs to the model DisentS2S, expected SASRec"):
        run(config_dict=make_keys("SASRec", resume_file=first["checkpoint"]))
    write_inter(hostile, "hostile", hostile_rows(9))
    with pytest.raises(UserError, match="was trained on other data or another split"):
        load_checkpoint(first["checkpoint"])


class Evil:
    def __reduce__(self):
        return (os.mkdir, ("executed",))


@pytest.mark.parametrize("content", ["evil", "half", "empty", "text"])
def test_damaged_and_hostile_checkpoints_are_not_executed(make_keys, content):
    path = Path("x.pth")
    if content == "evil":
        torch.save({"state_dict": Evil()}, path)
    else:
        whole = Path(run(config_dict=make_keys(epochs=1))["checkpoint"]).read_bytes()
        path.write_bytes({"half": whole[: len(whole) // 2], "empty": b"", "text": b"hello"}[content])
    with pytest.raises(UserError, match="is not a checkpoint of this package"):
        checkpoint.load(str(path))
    assert not Path("executed").exists()


@pytest.mark.parametrize(("part", "value"), [(1, 2**20), (1, -5), (2, 2**20)])
def test_a_sparse_matrix_with_indices_outside_of_it_is_refused(make_keys, part, value):
    path = run(config_dict=make_keys("ItemKNN"))["checkpoint"]
    state = checkpoint.load(path)
    matrix = state["other_parameter"]["pred_mat"]
    next(v for v in matrix.values() if len(v) == 3)[part][1] = value
    checkpoint.save(path, state)
    with pytest.raises(UserError, match="the checkpoint does not fit the model"):
        load_checkpoint(path)


def test_only_data_can_be_stored():
    with pytest.raises(TypeError, match=r"state\['a'\]\[0\]: a Evil cannot be stored"):
        checkpoint.plain({"a": [Evil()]})


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "r.json"
    path.write_text("old")
    with pytest.raises(RuntimeError), write_atomically(str(path)) as file:
        file.write(b"new")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_checkpoint_does_not_say_where_files_are_written(make_keys, tmp_path):
    victim = tmp_path / "victim"
    (victim / ".ssh").mkdir(parents=True)
    os.utime(victim / ".ssh", (0, 0))
    path = run(config_dict=make_keys("BPR", epochs=1))["checkpoint"]
    state = checkpoint.load(path)
    places = ("prepared_dir", "candidate_dir", "result_dir", "checkpoint_dir", "per_user_file")
    state["given"] |= dict.fromkeys(places, str(victim)) | {"log_wandb": True}
    checkpoint.save(path, state)
    assert len(load(path).recommend("all", k=1))
    assert [f.name for f in victim.rglob("*")] == [".ssh"]
