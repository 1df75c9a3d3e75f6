"""Tests of the states of runs: results of other files are never shown as results of the files of today."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from recbole_disent.errors import UserError
from recbole_disent.leaderboard import identity
from recbole_disent.leaderboard.compare import _choose, execute
from recbole_disent.leaderboard.inputs import contents
from recbole_disent.leaderboard.plan import make_plan
from recbole_disent.leaderboard.runner import Runner
from recbole_disent.leaderboard.states import read_json, state_of
from tests.conftest import write_inter
from tests.test_leaderboard_plan import TINY, given  # noqa: F401  (a fixture)
from tests.test_leaderboard_runner import calls, make_runner  # noqa: F401  (a fixture)


def change_data(keys, kind="inter"):
    """Add a line to a file of the data set."""
    (file,) = Path(keys["data_path"]).glob(f"*/hostile.{kind}")
    with file.open("a", encoding="utf-8") as text:
        text.write(file.read_text(encoding="utf-8").splitlines()[-1] + "\n")


def test_files_of_items_count_for_runs_that_read_them(given):  # noqa: F811
    models = ["SASRec", "SASRecContent", {"name": "DisentS2S", "config": {"content": True}}]
    read_all = {"name": "SASRec", "label": "columns", "config": {"load_col": None}}
    plan = make_plan({**given, "models": [*models, read_all], "seeds": [1]})
    before = [contents(run.files) for run in plan.runs()]
    change_data(given, "item")
    after = [contents(run.files) for run in plan.runs()]
    assert [a != b for a, b in zip(before, after, strict=True)] == [False, True, True, True]


def test_results_of_other_files_are_refused_or_repeated(given, make_runner):  # noqa: F811
    runner, runs, _ = make_runner()
    runner.execute(runs[:2])
    change_data(given)
    again, runs, lines = make_runner()
    with pytest.raises(
        UserError,
        match=r"out: '.*out' has results, such as DisentS2S, hostile, full, seed 1, of other files than "
        r"those in '.*data' \(2 results\); repeat these runs with --redo, or give another --out",
    ):
        again.execute(runs)
    assert calls(again, runs[:2]) == [1, 1]
    assert not again.folder(runs[2]).exists()
    again.execute(runs, redo=True)
    assert "2 results were made from other files; these runs are repeated" in lines
    assert read_json(again.folder(runs[0]) / "result.json")["files"] == contents(runs[0].files)
    again, runs, _ = make_runner()
    again.execute(runs)
    assert calls(again, runs) == [1] * 4


def test_results_that_do_not_name_their_files_are_kept(given, make_runner):  # noqa: F811
    """An earlier version wrote them; the report still compares their data_hash."""
    runner, runs, _ = make_runner()
    runner.execute(runs[:1])
    file = runner.folder(runs[0]) / "result.json"
    file.write_text(json.dumps({k: v for k, v in read_json(file).items() if k != "files"}))
    change_data(given)
    runner.execute(runs[:1])
    assert calls(runner, runs[:1]) == [1]


@pytest.mark.parametrize("state", ["WARNING", "stopped"])
def test_runs_that_are_not_done_start_again_with_other_files(given, make_runner, state):  # noqa: F811
    runner, runs, _ = make_runner(state if state == "WARNING" else None)
    runner.execute(runs[:1])
    folder = runner.folder(runs[0])
    if state == "stopped":
        (folder / "result.json").unlink()
        status = read_json(folder / "status.json")
        (folder / "status.json").write_text(json.dumps({**status, "state": "stopped"}))
    (folder / "checkpoint of the old files").write_text("")
    again, runs, lines = make_runner(state if state == "WARNING" else None)
    if state == "WARNING":
        again.execute(runs[:1])
        assert calls(again, runs[:1]) == [1]  # broken, and the files are the same
    change_data(given)
    again.execute(runs[:1])
    assert "1 runs that were not done began with other files; they start again" in lines
    assert calls(again, runs[:1]) == [1]
    assert not (folder / "checkpoint of the old files").exists()
    assert state_of(folder)["state"] == ("broken" if state == "WARNING" else "done")


@pytest.mark.parametrize("state", ["stopped", "running", "broken"])
def test_a_run_that_other_code_began_starts_again(given, make_runner, monkeypatch, state):  # noqa: F811
    runner, runs, _ = make_runner()
    runner.execute(runs[:1])
    folder = runner.folder(runs[0])
    (folder / "result.json").unlink()
    status = read_json(folder / "status.json")
    assert status["code"] == identity.code_digest()
    (folder / "status.json").write_text(json.dumps({**status, "state": state, "error": "time limit"}))
    (folder / "checkpoint").write_text("")
    again, runs, lines = make_runner()
    again.execute(runs[:1], retry=True)  # the same code goes on
    assert (folder / "checkpoint").exists()
    (folder / "result.json").unlink()
    (folder / "status.json").write_text(
        json.dumps({**status, "state": state, "code": "before", "error": "e"})
    )
    if state == "broken":
        again.execute(runs[:1])
        assert (folder / "checkpoint").exists()  # it is not repeated
    again.execute(runs[:1], retry=state == "broken")
    assert not (folder / "checkpoint").exists()
    told = "1 runs that were not done were begun by another version of the code; they start again"
    assert lines.count(told) == 1
    options = json.loads(
        (folder / "log.txt").read_text().splitlines()[0].partition(" ")[2].rpartition(" ")[0]
    )
    assert options["code"] == identity.code_digest()


def test_a_data_set_has_one_folder(given, tmp_path, make_runner):  # noqa: F811
    write_inter(tmp_path / "other", "hostile", [("u", "i", 3, 1)])
    protocols = {
        "old": {"eval_mode": "full"},
        "new": {"eval_mode": "full", "data_path": str(tmp_path / "other")},
    }
    runner, runs, _ = make_runner(protocols=protocols)
    with pytest.raises(
        UserError, match=r"data_path: the runs on hostile have '.*data' and '.*other', expected one folder"
    ):
        runner.execute(runs)
    assert not list(runner.out.glob("runs/*/calls"))


def test_relative_paths_follow_the_working_directory(given, tmp_path, monkeypatch):  # noqa: F811
    found = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_inter(tmp_path / name / "data", "hostile", [("u", "i", 3, 1)])
        monkeypatch.chdir(tmp_path / name)
        found += [run.data_path for run in make_plan({**given, "data_path": "data"}).runs()[:1]]
    assert found == [str(tmp_path / name / "data") for name in ("one", "two")]


def test_changed_content_can_be_repeated(given, tmp_path):  # noqa: F811
    """What the message of the report names as the way out is one."""
    path, out = tmp_path / "vectors.npz", tmp_path / "out"
    items = sorted({line.split("\t")[1] for line in _lines(given)})
    config = {**TINY, "content_source": "file", "content_file": str(path), "content_file_unknown": "ignore"}
    plan = {"models": ["SASRecContent"], "datasets": ["hostile"], "data_path": given["data_path"],
            "config": config, "out": str(out), "parallel": 1}  # fmt: skip
    found = []
    for seeds, redo in (([1], False), ([1, 2], False), ([1, 2], True)):
        np.savez(path, ids=np.array(items), vectors=np.eye(len(items), 3 + len(seeds), dtype=np.float32))
        try:
            execute({**plan, "seeds": seeds}, [], redo=redo, say=found.append)
        except UserError as error:
            found.append(str(error))
    assert sum("of other files than those in" in line for line in found) == 1
    hashes = {read_json(file)["content_hash"] for file in out.glob("runs/*/result.json")}
    assert len(hashes) == 1
    assert len(list(out.glob("runs/*/result.json"))) == 2


def _lines(keys):
    (file,) = Path(keys["data_path"]).glob("*/hostile.inter")
    return file.read_text(encoding="utf-8").splitlines()[1:]


def test_contents_follow_files_folders_and_missing_files(tmp_path):
    (tmp_path / "folder" / "inside").mkdir(parents=True)
    files = {"a": str(tmp_path / "a"), "folder": str(tmp_path / "folder")}
    seen = [contents(files)]
    for path, text in (("a", ""), ("a", "x"), ("folder/inside/b", "x"), ("folder/b", "x"), ("a", "yz")):
        (tmp_path / path).write_text(text)
        seen.append(contents(files))
    assert len(set(seen)) == len(seen)
    assert contents(files) == seen[-1]


def test_trials_of_different_data_are_not_compared(given, tmp_path):  # noqa: F811
    plan = make_plan({**given, "models": ["BPR"], "trials": 2, "out": str(tmp_path / "out")})
    runner = Runner(plan, [])
    for trial, data in zip(plan.trials(), ("one", "two"), strict=True):
        runner.folder(trial).mkdir(parents=True)
        result = {"config": {"epochs": 1}, "best_valid_score": 0.5, "valid_score_bigger": True,
                  "data_hash": data}  # fmt: skip
        (runner.folder(trial) / "result.json").write_text(json.dumps(result))
    with pytest.raises(
        UserError,
        match=r"plan, BPR, hostile, full: the trials were made from different data \(BPR, .*, seed "
        r"2020, trial 0: one; .* trial 1: two\); --redo repeats them",
    ):
        _choose(plan, runner, plan.trials())
