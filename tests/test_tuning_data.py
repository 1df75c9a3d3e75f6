"""Tests of a search whose data change: trials of different data are not ranked together."""

from __future__ import annotations

import pytest

from recbole_disent import tune
from recbole_disent.config.search_space import read_space
from recbole_disent.errors import UserError
from recbole_disent.tuning.study import Study


@pytest.fixture
def study(tmp_path):
    (tmp_path / "space.hyper").write_text("learning_rate choice [0.1, 0.01, 0.001]\n")
    space = read_space(str(tmp_path / "space.hyper"))
    return lambda: Study(str(tmp_path / "out"), "BPR", "d", {}, space, {"tool": "random"})


def test_trials_of_different_data_are_not_ranked_together(study):
    study().add(0, {"learning_rate": 0.1}, status="done", score=0.5, bigger=True, data_hash="one")
    failed = {"status": "failed", "score": None, "bigger": True, "error": "no"}
    found = study()
    found.add(1, {"learning_rate": 0.01}, **failed)
    with pytest.raises(
        UserError,
        match=r"output '.*out' has trials of other data \(data hash one, here two\), whose scores cannot be "
        r"compared; give another --output",
    ):
        found.add(2, {"learning_rate": 0.001}, status="done", score=0.6, bigger=True, data_hash="two")
    assert [trial["score"] for trial in study().ranked()] == [0.5, None]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"eval_step": 0}, "eval_step: got 0, expected at least 1, because a search compares validation"),
        (
            {"checkpoint_dir": "mine"},
            "checkpoint_dir: got 'mine', but the search sets this key for each trial",
        ),
    ],
)
def test_keys_that_a_search_cannot_use_are_refused(hostile, keys, message):
    given = {"data_path": str(hostile), "epochs": 1, "show_progress": False, **keys}
    with pytest.raises(UserError, match=message):
        tune("BPR", "hostile", config_dict=given, max_evals=1)
