"""Tests of searches that would mislead: spaces, and folders with other files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from recbole_disent.config.search_space import read_space
from recbole_disent.errors import UserError
from recbole_disent.files import locked
from recbole_disent.tuning import trials
from recbole_disent.tuning.study import Study
from recbole_disent.tuning.tune import tune


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            'valid_metric choice ["NDCG@1", "Recall@5"]',
            "valid_metric says what is measured, and the scores of",
        ),
        ("filter_history choice [True, False]", "filter_history says what is measured"),
        ("refit choice [True, False]", "refit says what is measured"),
        ("seed choice [1, 2]", "the search sets seed for each trial itself; take it out of the search space"),
        ('result_dir choice ["a", "b"]', "the search sets result_dir for each trial itself"),
    ],
)
def test_a_space_has_no_keys_that_make_a_trial_the_best_one(run_keys, tmp_path, line, message):
    file = tmp_path / "a.hyper"
    file.write_text(f"learning_rate choice [0.01, 0.1]\n{line}\n")
    with pytest.raises(UserError, match=rf"a\.hyper, line 2: {message}"):
        tune("BPR", "hostile", config_dict=run_keys, params_file=str(file), max_evals=2, output="out")
    assert not (tmp_path / "out").exists()


def test_two_searches_do_not_share_a_folder(run_keys, tmp_path, monkeypatch):
    given = {"config_dict": run_keys, "max_evals": 1, "output": "out"}
    with (
        locked(tmp_path / "out" / ".lock", "output", ""),
        pytest.raises(UserError, match="output: another search uses 'out'; wait until it ends, or"),
    ):
        tune("BPR", "hostile", **given)
    seen = []
    real = trials.run
    monkeypatch.setattr(trials, "run", lambda **g: seen.append(Path("out/.lock").exists()) or real(**g))
    tune("BPR", "hostile", **given)
    assert seen == [True]
    assert not Path("out/.lock").exists()


def test_a_failure_does_not_replace_a_finished_trial(tmp_path):
    (tmp_path / "a.hyper").write_text("learning_rate choice [0.01, 0.1]\n")
    one, two = (Study("out", "BPR", "d", {}, read_space(tmp_path / "a.hyper"), {}) for _ in range(2))
    values = {"learning_rate": 0.1}
    done = one.add(0, values, status="done", score=0.5, bigger=True)
    assert two.add(0, values, status="failed", score=None, bigger=True, error="no checkpoint") == done
    assert two.best == json.loads(Path(f"out/{done['id']}.json").read_text()) == done
    again = two.add(0, values, status="done", score=0.6, bigger=True)
    assert two.best == again


def test_a_file_that_is_no_trial_is_named(run_keys):
    Path("out").mkdir()
    Path("out/x.json").write_text(json.dumps({"schema": 1, "model": "BPR"}))
    with pytest.raises(UserError, match=r"x\.json: expected a trial .*'bigger' is missing.*; remove"):
        tune("BPR", "hostile", config_dict=run_keys, max_evals=1, output="out")


def test_a_search_takes_paths(run_keys):
    keys = {**run_keys, "data_path": Path(run_keys["data_path"])}
    study = tune("BPR", "hostile", config_dict=keys, max_evals=1, output="out")
    assert study.given["data_path"] == run_keys["data_path"]
    assert study.best["status"] == "done"
