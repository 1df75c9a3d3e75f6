"""End-to-end tests of runs: command line, result file, checkpoints and every baseline."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from recbole.data import create_dataset, data_preparation
from recbole.trainer import Trainer
from recbole.utils import init_seed

from recbole_disent import cli
from recbole_disent.data.interactions import InteractionDataset
from recbole_disent.errors import UserError
from recbole_disent.quick_start import objective_function
from recbole_disent.registry import get_model
from recbole_disent.session import build_data, load_checkpoint, run
from recbole_disent.training import checkpoint
from tests.conftest import hostile_keys, hostile_rows, scored_again, write_inter

ROOT = Path(__file__).resolve().parent.parent
BASELINES = ["SASRec", "BERT4Rec", "GRU4Rec", "Caser", "FPMC", "NARM", "CORE", "LightSANs",
             "Pop", "BPR", "NeuMF"]  # fmt: skip


def words(hostile, *more):
    """Return a command line for the data set ``hostile``; later words replace earlier words."""
    usual = ["--model=DisentS2S", "--dataset=hostile", f"--data_path={hostile}", "--epochs=2",
             "--topk=[1,5,10]", "--MAX_ITEM_LIST_LENGTH=7", "--show_progress=False"]  # fmt: skip
    return ["run", *{word.partition("=")[0]: word for word in [*usual, *more]}.values()]


# -- command line ----------------------------------------------------------------------


def test_run_writes_a_complete_result_file(hostile):
    more = ["--seq2seq_variant=latent", "--eval_mode=pop8", "--topk=[1,9]"]
    assert cli.main(words(hostile, "--model=DisentS2S", *more)) == 0
    (file,) = Path("saved").glob("*.json")
    found = json.loads(file.read_text())
    assert found["model"] == "DisentS2S"
    assert found["test_result"].keys() >= {"recall@1", "mrr@9"}
    assert found["seconds"].keys() == {"data", "train", "evaluation"}
    assert set(found["candidate_hashes"]) == {"valid", "test"}
    assert found["peak_memory_mb"]["cpu"] > 0
    assert found["versions"]["recbole"] == "1.2.1"
    assert found["config"]["n_intentions"] == 4
    assert found["rows"]["train"] > found["rows"]["test"] > 0
    assert Path(found["checkpoint"]).is_file()
    assert not list(Path("saved").rglob("*.tmp"))


def test_two_processes_meet_the_same_candidates_and_get_the_same_result(hostile, tmp_path):
    extra = ["--seq2seq_variant=latent", "--eval_mode=pop8", "--topk=[1,9]", "--epochs=1"]
    assert cli.main(words(hostile, *extra)) == 0
    other = tmp_path / "other"
    other.mkdir()
    script = [sys.executable, str(ROOT / "run_recbole_disent.py")]
    environment = {**os.environ, "PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "1"}
    command = [*script, *words(hostile, *extra)[1:]]
    subprocess.run(command, cwd=other, env=environment, check=True, capture_output=True)
    here, there = (json.loads(next(p.glob("*.json")).read_text()) for p in (Path("saved"), other / "saved"))
    for key in ("candidate_hashes", "data_hash", "test_result", "best_valid_result"):
        assert here[key] == there[key]


@pytest.mark.parametrize("model", BASELINES)
def test_every_baseline_runs_under_both_protocols(hostile, model):
    for mode in ("full", "uni8"):
        keys = {"data_path": str(hostile), "epochs": 1, "topk": [1, 9], "eval_mode": mode,
                "MAX_ITEM_LIST_LENGTH": 7, "show_progress": False}  # fmt: skip
        found = run(model, "hostile", config_dict=keys)
        assert scored_again(found["checkpoint"]) == found["test_result"]
        if mode == "uni8":  # nine candidates
            assert found["test_result"]["recall@9"] == 1 > found["test_result"]["recall@1"]
        assert found["data_hash"] == run("Pop", "hostile", config_dict=keys, saved=False)["data_hash"]


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--model=DisentS2"], "model 'DisentS2' is not known; did you mean 'DisentS2S'?"),
        (["--n_intention=4"], "did you mean 'n_intentions'?"),
        (["--seq2seq_lambda=1.5"], "seq2seq_lambda: got 1.5"),
        (["--n_intentions=0"], "n_intentions: got 0"),
        (["--model=FM"], "model 'FM' is not supported"),
        (["--model=S3Rec"], "model 'S3Rec' is not supported"),
        (["--topk=500"], "topk: got 500, expected at most"),
        (["--history_fields=['colour']"], "history_fields: got 'colour'"),
        (["--result_dir=/proc/none"], "output folders: "),
        (["--weight_decay=-1"], "weight_decay: got -1"),
        (["--field_separator=,"], "line 1: got"),
        (["--model=SASRecF"], "selected_features: got 'class', which is not a loaded column"),
        (["--model=GRU4Rec", "--learning_rate=1e30"], "training diverged: the loss is not a number"),
        (["--config_files=no.yaml"], "config file 'no.yaml'"),
    ],
)
def test_errors_are_one_sentence_and_exit_code_2(hostile, capsys, extra, message):
    assert cli.main(words(hostile, *extra)) == 2
    lines = [x for x in capsys.readouterr().err.splitlines() if not re.search("INFO|WARNING", x)]
    (error,) = [x for x in lines if x.startswith("recbole-disent: error: ")]
    assert lines[-1] == error  # one sentence, and nothing behind it
    assert message in error


def test_missing_data_set_says_where_and_how(capsys, tmp_path):
    assert cli.main(["run", "--model=Pop", "--dataset=nowhere", f"--data_path={tmp_path}"]) == 2
    error = capsys.readouterr().err
    assert f"no folder {tmp_path}/nowhere" in error
    assert "--data_path=FOLDER" in error
    (tmp_path / "nowhere").mkdir()
    assert cli.main(["run", "--model=Pop", "--dataset=nowhere", f"--data_path={tmp_path}"]) == 2
    assert "the file nowhere.inter is missing" in capsys.readouterr().err


def test_script_and_module_give_exit_code_2_without_traceback(tmp_path):
    script = [sys.executable, str(ROOT / "run_recbole_disent.py")]
    for extra in (["--model=nope"], ["--dataset=ml-100k", "nonsense"]):
        done = subprocess.run([*script, *extra], capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
        assert done.stderr.count("recbole-disent: error:") == 1


def test_a_download_is_unpacked_and_renamed(tmp_path, monkeypatch):
    import zipfile

    from recbole_disent.config.config import Config
    from recbole_disent.data.loading import create_dataset

    write_inter(tmp_path / "source", "archive", hostile_rows())
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as file:
        file.write(tmp_path / "source" / "archive" / "archive.inter", "archive.inter")
    address = (tmp_path / "archive.zip").as_uri()
    from recbole_disent.data.dataset import PartDataset

    monkeypatch.setattr(PartDataset, "_get_download_url", lambda *a, **k: address)
    keys = {"data_path": str(tmp_path / "new"), "topk": [1, 5, 10]}
    dataset = create_dataset(Config("DisentS2S", "epinions", config_dict=keys))
    assert dataset.inter_num == len(hostile_rows())
    assert (tmp_path / "new" / "epinions" / "epinions.inter").is_file()


# -- equal to RecBole ------------------------------------------------------------------


@pytest.mark.parametrize("model", ["SASRec", "GRU4Rec", "BERT4Rec", "Caser", "BPR"])
def test_training_equals_recboles_batch_for_batch(make_config, monkeypatch, model):
    """With the same seed, losses equal those of RecBole's data sets, loaders and trainer."""
    monkeypatch.setattr(InteractionDataset, "rows_kept", 1)  # as RecBole; this package keeps one more
    found = []
    for ours in (True, False):
        config = make_config(model, trim_batches=False, train_batch_size=16)
        init_seed(5, True)
        if ours:
            train = build_data(config).loaders[0]
        else:
            train = data_preparation(config, create_dataset(config))[0]
        init_seed(6, True)
        net = get_model(model)(config, train._dataset)
        trainer = Trainer(config, net)
        found.append([trainer._train_epoch(train, e) for e in range(2)])
    assert found[0] == found[1]


# -- models and keys -------------------------------------------------------------------


def test_double_precision_ends_with_the_run_and_refuses_models_that_are_single(make_config, hostile):
    keys = {"data_path": str(hostile), "epochs": 1, "topk": [3], "valid_metric": "NDCG@3",
            "show_progress": False, "precision": "double"}  # fmt: skip
    report = run("BERT4Rec", "hostile", config_dict={**keys, "MAX_ITEM_LIST_LENGTH": 7})
    model, _ = load_checkpoint(report["checkpoint"])
    assert model.item_embedding.weight.dtype == torch.float64
    with pytest.raises(UserError, match="precision: got double, but LightGCN creates numbers in single"):
        run("LightGCN", "hostile", config_dict=keys)
    assert torch.get_default_dtype() == torch.float32


def test_runs_of_one_second_do_not_share_files(make_keys):
    paths = {run(config_dict=make_keys("Pop"))[key] for key in ("checkpoint", "result_file") for _ in "ab"}
    assert len(paths) == 4


@pytest.mark.parametrize("model", ["LightGCN", "ItemKNN", "EASE", "MultiVAE"])
def test_other_general_models(make_keys, model):
    assert run(config_dict=make_keys(model, epochs=1))["test_result"]


def test_models_with_item_features(make_keys, hostile):
    items = "".join(f"i{n}\tc{n % 3} d{n % 2}\n" for n in range(30))
    (hostile / "hostile" / "hostile.item").write_text("item_id:token\tclass:token_seq\n" + items)
    load = {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "class"]}
    for model in ("SASRecF", "GRU4RecF", "FDSA"):
        keys = make_keys(model, epochs=1, load_col=load, selected_features=["class"])
        found = run(config_dict=keys)
        assert found["test_result"] == scored_again(found["checkpoint"])


def test_features_have_to_be_loaded(make_keys):
    load = {"inter": ["user_id", "item_id", "timestamp"]}
    message = "selected_features: got 'tags', which is not a loaded column of the items; load the column"
    with pytest.raises(UserError, match=message):
        run(config_dict=make_keys("SASRecF", load_col=load, selected_features=["tags"]))


def test_labels_are_evaluated_where_there_are_any(make_keys):
    keys = make_keys("BPR", epochs=1, eval_mode="labeled", metrics=["AUC"], valid_metric="AUC")
    with pytest.raises(UserError, match="got labeled, but the interactions have no column 'label'"):
        run(config_dict=keys)
    keys["load_col"] = {"inter": ["user_id", "item_id", "rating", "timestamp"]}
    assert 0 < run(config_dict={**keys, "threshold": {"rating": 3}})["test_result"]["auc"] < 1


def test_bucketing_is_ignored_where_it_cannot_be(make_keys):
    for model in ("BPR", "Caser"):
        assert run(config_dict=make_keys(model, bucket_batches=True, epochs=1))["test_result"]


def test_default_cut_offs_fit_small_data_sets(make_keys, caplog):
    caplog.set_level("INFO")
    keys = make_keys()
    del keys["topk"]
    found = run(config_dict=keys)
    assert set(found["config"]["topk"]) == {1, 5, 10, 20}
    assert "topk: 50 left out of the default, because the data have 30 items" in caplog.text
    with pytest.raises(UserError, match="topk: got 40, expected at most 30"):
        run(config_dict={**keys, "topk": [10, 40]})


@pytest.mark.slow
def test_sigkill_in_training_leaves_a_checkpoint_that_resumes(hostile, tmp_path):
    script = [sys.executable, str(ROOT / "run_recbole_disent.py")]
    endless = words(hostile, "--epochs=100000", "--stopping_step=100000", "--learning_rate=1e-9")[1:]
    process = subprocess.Popen(
        [*script, *endless], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.time() + 120
    while not list((tmp_path / "saved").glob("*.pth")) and time.time() < deadline:
        time.sleep(0.05)
    time.sleep(1.0)  # checkpoints are written all the time: some writes are under way
    process.send_signal(signal.SIGKILL)
    process.wait()
    (file,) = (tmp_path / "saved").glob("*.pth")
    epoch = checkpoint.load(str(file))["epoch"]
    assert not list((tmp_path / "saved").glob("*.json"))
    resume = words(hostile, f"--resume_file={file}", f"--epochs={epoch + 3}")[1:]
    done = subprocess.run([*script, *resume], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (result,) = (tmp_path / "saved").glob("*.json")
    found = json.loads(result.read_text())
    assert found["resumed_from"] == epoch + 1
    assert found["epochs_run"] == epoch + 3


# -- for tuning ------------------------------------------------------------------------


def test_objective_function_gives_what_hypertuning_reads(make_keys):
    found = objective_function(make_keys(), saved=False)
    assert set(found) == {
        "model", "best_valid_score", "valid_score_bigger", "best_valid_result", "test_result"}  # fmt: skip


@pytest.mark.parametrize("right", [True, False])
@pytest.mark.parametrize("model", ["NeuMF", "SASRec"])
def test_value_metrics_go_through_recboles_loader(make_keys, monkeypatch, model, right):
    """A model that returns the label of each row as its score, or the opposite label."""
    monkeypatch.setattr(
        get_model(model), "predict", lambda self, rows: rows["label"] if right else 1 - rows["label"]
    )
    keys = {"metrics": ["AUC", "LogLoss"], "valid_metric": "AUC", "eval_mode": "uni3", "epochs": 1}
    found = run(config_dict=make_keys(model, **keys))["test_result"]
    assert found["auc"] == right
    assert (found["logloss"] < 0.01) == right


def test_model_class_of_ones_own(make_keys):
    class Mine(get_model("SASRec")):
        pass

    keys = make_keys("SASRec")
    keys.pop("model")
    with pytest.raises(UserError, match="loss_type"):
        run(Mine, config_dict=keys)  # it has no properties file: its keys must be given
    own = {"n_layers": 1, "n_heads": 1, "hidden_size": 8, "inner_size": 8, "hidden_act": "gelu",
           "hidden_dropout_prob": 0.1, "attn_dropout_prob": 0.1, "layer_norm_eps": 1e-12,
           "initializer_range": 0.02, "loss_type": "CE", "train_neg_sample_args": None}  # fmt: skip
    assert run(Mine, config_dict={**keys, **own}, saved=False)["model"] == "Mine"


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_goes_away_ends_nothing(tmp_path, unbuffered):
    """The test simulates ``recbole-disent paper | head -1``."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "recbole_disent.cli", "paper"]
    env = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=env)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_file_of_a_data_set_is_not_unpickled(hostile, tmp_path):
    class Evil:
        def __reduce__(self):
            return open, (str(tmp_path / "ran"), "w")

    keys = {**hostile_keys(hostile), "n_cate": 2, "epochs": 1}
    with pytest.raises(UserError, match=r"n_cate: got 2, which needs item vectors in .*item_emb\.npy"):
        run("LDiffRec", "hostile", config_dict=keys)
    np.save(hostile / "hostile" / "item_emb.npy", np.array([Evil()], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match="Object arrays cannot be loaded"):
        run("LDiffRec", "hostile", config_dict=keys)
    assert not (tmp_path / "ran").exists()
