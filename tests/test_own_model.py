"""Tests of a model from outside the package: by a file, by an entry point, and with the contract."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pandas as pd
import pytest
import torch

from recbole_disent import load, registry
from recbole_disent.cli import main
from recbole_disent.config.config import Config
from recbole_disent.errors import UserError
from recbole_disent.leaderboard.compare import compare_plan
from recbole_disent.session import load_checkpoint, run
from recbole_disent.testing import ModelContract

EXAMPLES = Path(__file__).resolve().parent.parent / "docs" / "examples"
FILE = EXAMPLES / "my_model.py"
SMALL = {"hidden_size": 8, "train_batch_size": 8}


@pytest.fixture(autouse=True)
def no_registered_models(monkeypatch):
    """Empty the registry, because each test registers its own models."""
    monkeypatch.setattr(registry, "_registered", {})
    registry._from_entry_points.cache_clear()
    yield
    registry._from_entry_points.cache_clear()


@pytest.fixture
def entry_points(monkeypatch):
    """Return a function that replaces the entry points of all installed packages."""

    def replace(*values):
        points = [EntryPoint(value, value, registry.ENTRY_POINTS) for value in values]
        monkeypatch.setattr(registry, "entry_points", lambda group: points)
        registry._from_entry_points.cache_clear()

    return replace


def test_by_a_file_on_the_command_line(run_keys):
    words = [f"--{key}={value}" for key, value in {**run_keys, **SMALL, "model_file": FILE}.items()]
    assert main(["run", "--model=MyGRU", "--dataset=hostile", *words]) == 0
    (file,) = Path("saved").glob("MyGRU*.json")
    report = json.loads(file.read_text())
    assert report["model"] == "MyGRU"
    assert report["config"]["hidden_size"] == 8


def test_a_checkpoint_runs_no_file_that_the_user_does_not_name(run_keys):
    report = run("MyGRU", "hostile", config_dict={**run_keys, **SMALL, "model_file": str(FILE)})
    registry._registered.clear()
    with pytest.raises(UserError, match=r"is of a model of the file .*my_model\.py'; give that file"):
        load_checkpoint(report["checkpoint"])
    assert "MyGRU" not in registry.model_names()
    net, data = load_checkpoint(report["checkpoint"], {"model_file": str(FILE)})
    assert type(net).__name__ == "MyGRU"
    assert data.config["train_batch_size"] == 8


def test_a_bundle_runs_the_file_that_the_user_names(run_keys, tmp_path, capsys):
    pytest.importorskip("safetensors")
    path = run("MyGRU", "hostile", config_dict={**run_keys, **SMALL, "model_file": str(FILE)})["checkpoint"]
    rec = load(path, config_dict={"model_file": str(FILE)})
    out = str(rec.save(tmp_path / "own"))
    registry._registered.clear()
    with pytest.raises(
        UserError, match="its model 'MyGRU' is neither of this package nor of RecBole; give the"
    ):
        load(out)
    with pytest.raises(UserError, match="config_dict: got 'topk', but a bundle needs no data set and takes"):
        load(out, config_dict={"model_file": str(FILE), "topk": 5})
    again = load(out, config_dict={"model_file": str(FILE)})
    pd.testing.assert_frame_equal(again.recommend(k=3), rec.recommend(k=3))
    registry._registered.clear()
    words = ["--users", "all", "--k", "3", "--out", str(tmp_path / "x.csv"), "--quiet"]
    assert main(["recommend", out, *words]) == 2
    assert "give the Python file that defines the model as model_file" in capsys.readouterr().err
    assert main(["recommend", out, *words, f"--model_file={FILE}"]) == 0
    assert main(["recommend", out, *words, f"--model_file={FILE}", "--topk=5"]) == 2
    assert "got '--topk=5', which recommend does not know" in capsys.readouterr().err


def test_a_model_that_scores_in_its_own_way_is_used_as_it_was_tested(run_keys, tmp_path):
    file = tmp_path / "backwards.py"
    shutil.copy(FILE.with_suffix(".yaml"), tmp_path)
    file.write_text(
        FILE.read_text(encoding="utf-8")
        .replace("class MyGRU", "class Backwards").replace("super(MyGRU", "super(Backwards")
        .replace('"MyGRU"', '"Backwards"').replace(":MyGRU", ":Backwards")
        + "\n\ndef _turned(self, interaction):\n"
        "    return -super(Backwards, self).full_sort_predict(interaction)\n\n\n"
        "Backwards.full_sort_predict = _turned\n", encoding="utf-8",
    )  # fmt: skip
    keys = {"model_file": str(file)}
    path = run("Backwards", "hostile", config_dict={**run_keys, **SMALL, **keys})["checkpoint"]
    rec = load(path, config_dict=keys)
    rows = torch.tensor([1])
    scores = rec.encoder.scores(rec.encoder.batch(rec.catalogue.histories, rows, rows))[0]
    found = rec.recommend([rec.users[0]], k=3, filter_history=False)
    assert found["score"].tolist() == pytest.approx(scores[1:].topk(3).values.tolist())
    with pytest.raises(UserError, match="no inner products"):
        rec.item_vectors()


def test_the_file_alone_says_the_model(run_keys):
    config = Config(None, "hostile", config_dict={**run_keys, "model_file": str(FILE)})
    assert config["model"] == "MyGRU"


def test_by_a_file_in_a_plan(hostile, tmp_path):
    own = {"name": "MyGRU", "config": {**SMALL, "model_file": os.path.relpath(FILE)}}
    keys = {"epochs": 1, "MAX_ITEM_LIST_LENGTH": 7, "topk": [10]}
    plan = {"models": ["Pop", own], "datasets": ["hostile"], "data_path": str(hostile), "config": keys}
    assert compare_plan(plan, out=str(tmp_path / "out")) == 0
    report = (tmp_path / "out" / "report.md").read_text()
    assert report.count("| MyGRU | ") > 0
    assert "failed" not in report


def test_by_an_entry_point(run_keys, entry_points, monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    entry_points("my_model:SPEC")
    keys = {**run_keys, **SMALL}
    by_point = run("MyGRU", "hostile", config_dict=keys)
    entry_points()
    by_file = run("MyGRU", "hostile", config_dict={**keys, "model_file": str(FILE)})
    assert by_point["test_result"] == by_file["test_result"]


def test_its_keys_are_checked(run_keys):
    keys = {**run_keys, "model_file": str(FILE)}
    with pytest.raises(UserError, match="hidden_size: got 0, expected int in"):
        Config("MyGRU", "hostile", config_dict={**keys, "hidden_size": 0})
    with pytest.raises(UserError, match="did you mean 'hidden_size'"):
        Config("MyGRU", "hostile", config_dict={**keys, "hiden_size": 8})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SPEC = None", "defines no SPEC"),
        ("import nothing_of_that_name", "failed: ModuleNotFoundError: No module named"),
        ("{row}('SASRec', cls='x:SASRec')", "the name is taken"),
        ("{row}('Mine', cls='nothing_there:Mine')", "class 'nothing_there:Mine', which cannot be imported"),
        ("{row}('Mine', cls='collections:OrderedDict')", "names the class OrderedDict, expected"),
    ],
)
def test_a_faulty_file_is_one_sentence(run_keys, text, message, tmp_path):
    row = "from recbole_disent.specs import ModelSpec\nSPEC = ModelSpec"
    file = tmp_path / "faulty.py"
    file.write_text(text.format(row=row))
    with pytest.raises(UserError, match=message):
        Config("Mine", "hostile", config_dict={**run_keys, "model_file": str(file)})


@pytest.mark.parametrize(
    ("value", "message"),
    [("nothing_there:SPEC", "cannot be imported"), ("my_model:FILE", "cannot be imported"),
     ("my_model:Path", "expected a recbole_disent.specs.ModelSpec")],
)  # fmt: skip
def test_a_faulty_entry_point_is_one_sentence(entry_points, monkeypatch, value, message):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    entry_points(value)
    with pytest.raises(UserError, match=message):
        registry.require_model("MyGRU")


@pytest.mark.slow
def test_the_example_passes_the_public_contract_outside_of_this_repository(tmp_path):
    shutil.copytree(EXAMPLES, tmp_path / "mine")
    environment = {**os.environ, "PYTHONPATH": str(EXAMPLES.parent.parent)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    done = subprocess.run(
        command, cwd=tmp_path / "mine", env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout
    assert "passed" in done.stdout
    # Only the test of tables that are looked up by rows does not apply, because the example declares none.
    assert " 1 skipped" in done.stdout


def test_a_model_that_breaks_the_contract_fails_it(tmp_path, make_config):
    """The contract finds a model that wrongly takes the state behind the padding."""
    shutil.copytree(EXAMPLES, tmp_path / "mine")
    file = tmp_path / "mine" / "my_model.py"
    right = "self.gather_indexes(states, batch[self.ITEM_SEQ_LEN] - 1)[:, None]"
    assert right in file.read_text()
    file.write_text(file.read_text().replace(right, "states[:, -1:]"))

    class Broken(ModelContract):
        model = "MyGRU"
        model_file = str(file)

    with pytest.raises(AssertionError, match="Tensor-likes are not close"):
        Broken().test_padding_cannot_change_scores(make_config)
