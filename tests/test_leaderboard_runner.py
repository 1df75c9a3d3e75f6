"""Tests of executing runs: skipping, failing, retrying and stopping, most without real training."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from recbole_disent import compare, session
from recbole_disent.errors import UserError
from recbole_disent.leaderboard.identity import code_digest
from recbole_disent.leaderboard.plan import make_plan
from recbole_disent.leaderboard.runner import Runner, duration
from recbole_disent.leaderboard.states import alone, read_json, state_of
from tests.test_leaderboard_plan import TINY, given  # noqa: F401  (a fixture)

# Does what the worker does, but for the training: what it is told to do stands in "state".
FAKE = """
import json, os, sys, time, yaml
os.chdir(sys.argv[1])
options = json.loads(sys.argv[2])
spec = yaml.safe_load(open("config.yaml"))
open("calls", "a").write("x")
with open("../../events", "a") as events:
    events.write(f"start {time.time()}\\n")
what = spec["config"].get("state", "")
print("options", json.dumps(options), os.environ["OMP_NUM_THREADS"])
if what == "WARNING":
    print("error: learning_rate: too large, they say", file=sys.stderr)
    sys.exit(2)
if what == "ERROR":
    os.kill(os.getpid(), 9)
if what == "CRITICAL":
    time.sleep(60)
time.sleep(0.3)
with open("../../events", "a") as events:
    events.write(f"end {time.time()}\\n")
result = {"config": {"valid_metric": "NDCG@5"}, "best_valid_result": {"ndcg@5": 0.5}, "test_result": None,
          "data": {"items": 7}, "files": options["files"]}
json.dump(result, open("result.json", "w"))
"""


@pytest.fixture
def make_runner(given, tmp_path):  # noqa: F811
    """Return a function (**keys) -> Runner without real training, its runs, and the lines that it prints."""
    fake = tmp_path / "fake.py"
    fake.write_text(FAKE)

    def make(state=None, **more):
        config = {**TINY, **({} if state is None else {"state": state})}
        plan = make_plan({**given, "config": config, "out": str(tmp_path / "out"), "parallel": 1, **more})
        lines = []
        found = Runner(plan, ["a", "command"], lines.append, [sys.executable, str(fake)])
        return found, plan.runs(), lines

    return make


def calls(runner, runs):
    return [len((runner.folder(run) / "calls").read_text()) for run in runs]


def test_done_runs_are_skipped(make_runner):
    runner, runs, lines = make_runner()
    runner.execute(runs)
    assert [state_of(runner.folder(run))["state"] for run in runs] == ["done"] * 4
    assert [line.split("]")[0] for line in lines] == ["[1/4", "[2/4", "[3/4", "[4/4"]
    assert "DisentS2S, hostile, full, seed 1: valid ndcg@5 0.5000 in 0:0" in lines[0]
    assert "about 0:0" in lines[0]
    assert "left" not in lines[-1]
    again, runs, lines = make_runner()
    again.execute(runs)
    assert calls(again, runs) == [1] * 4
    assert lines == ["4 results were made by another version of the code; --redo repeats these runs"]


def test_time_left_counts_epochs(make_runner):
    """The runs after short trials are expected to take as much time per epoch as the trials."""
    runner, runs, lines = make_runner()
    long = [replace(run, epochs=1000) for run in runs]
    trial = replace(runs[0], trial=0, id="trial", epochs=1)
    runner.execute([trial], later=long)
    (seconds,) = runner._rates[None]
    assert lines[0].endswith(f"; about {duration(4000 * seconds)} left if no run stops early")


def test_a_metric_that_the_data_are_too_small_for_is_refused_after_the_first_run(make_runner):
    runner, runs, _ = make_runner(metrics=["ndcg@5", "recall@5"])
    with pytest.raises(UserError, match="got 'recall@5', which the results on hostile do not have, because "
                       r"the data have 7 items .*they have ndcg@5"):  # fmt: skip
        runner.execute(runs)
    assert [runner.folder(run).exists() for run in runs] == [True, False, False, False]
    assert state_of(runner.folder(runs[0]))["state"] == "done"


def test_a_swept_value_may_be_a_list(make_runner):
    config = {key: value for key, value in TINY.items() if key != "topk"}
    sweep = {"topk": [[5], [3, 5]]}
    runner, runs, lines = make_runner(models=["Pop"], seeds=[1], config=config, sweep=sweep)
    runner.execute(runs)
    assert [state_of(runner.folder(run))["state"] for run in runs] == ["done"] * 2
    assert "Pop at [5], hostile" in lines[0]
    assert "left" in lines[0]


def test_results_of_other_code_are_made_anew_on_demand(make_runner):
    runner, runs, _ = make_runner()
    runner.execute(runs[:2])
    folder = runner.folder(runs[0])
    result = read_json(folder / "result.json")
    (folder / "result.json").write_text(json.dumps({**result, "code": code_digest()}))
    again, runs, lines = make_runner()
    again.execute(runs[:2], redo=True)
    assert lines[0] == "1 results were made by another version of the code; these runs are repeated"
    assert read_json(again.folder(runs[0]) / "result.json")["code"] == code_digest()
    assert (folder / "calls").read_text() == "x"
    assert "code" not in read_json(again.folder(runs[1]) / "result.json")


@pytest.mark.parametrize(
    ("state", "error"),
    [
        ("WARNING", "learning_rate: too large, they say"),
        ("ERROR", r"ended by SIGKILL \(memory\?\); last line"),
    ],
)
def test_broken_runs_are_kept_with_their_error_and_tried_again_on_demand(make_runner, state, error):
    runner, runs, lines = make_runner(state)
    runner.execute(runs[:1])
    found = state_of(runner.folder(runs[0]))
    assert found["state"] == "broken"
    assert re.search(error, found["error"])
    assert "broken: " in lines[0]
    again, runs, _ = make_runner(state)
    again.execute(runs[:1])
    assert calls(again, runs[:1]) == [1]
    again.execute(runs[:1], retry=True)
    assert calls(again, runs[:1]) == [2]


def test_one_broken_run_does_not_stop_the_others(make_runner):
    models = [{"name": "DisentS2S", "config": {"state": "WARNING"}}, "Pop"]
    runner, runs, _ = make_runner(models=models)
    # "state" is RecBole's log level: no part of the name, so the broken one needs a name of its own.
    runner.execute(runs)
    assert [state_of(runner.folder(run))["state"] for run in runs] == ["broken", "done"] * 2


def test_a_run_over_its_time_limit_is_ended(make_runner):
    runner, runs, lines = make_runner("CRITICAL", time_limit=0.02)
    begin = time.monotonic()
    runner.execute(runs[:1])
    assert time.monotonic() - begin < 15
    assert state_of(runner.folder(runs[0]))["error"] == "time limit: not done after 0.02 minutes"
    assert "broken: time limit" in lines[0]


@pytest.mark.parametrize("parallel", [1, 2])
def test_no_more_runs_at_a_time_than_said(make_runner, parallel, tmp_path):
    runner, runs, _ = make_runner(parallel=parallel, seeds=[1, 2, 3])
    runner.execute(runs)
    events = [line.split() for line in (tmp_path / "out" / "events").read_text().splitlines()]
    at_a_time, most = 0, 0
    for what, _ in sorted(events, key=lambda e: float(e[1])):
        at_a_time += 1 if what == "start" else -1
        most = max(most, at_a_time)
    assert most == parallel


def test_threads_and_the_data_folder_reach_the_run(make_runner, given):  # noqa: F811
    runner, runs, _ = make_runner(threads=2)
    runner.execute(runs[:1])
    line = (runner.folder(runs[0]) / "log.txt").read_text().split("options ")[1]
    assert line.endswith(" 2\n")
    options = json.loads(line[: line.rindex("}") + 1])
    prepared = os.path.abspath(runner.folder(runs[0]).parent.parent / "prepared")
    assert options["paths"] == {"data_path": os.path.abspath(given["data_path"]), "prepared_dir": prepared}
    assert options["threads"] == 2


def test_files_of_a_plan_are_found_from_another_folder(make_runner, monkeypatch, tmp_path):
    (tmp_path / "encoder").mkdir()
    content = {"content_source": ["file", "encoder"], "content_file": "v.npz"}
    models = [{"name": "SASRecContent", "label": e, "config": {**content, "content_encoder": e}}
              for e in ("encoder", "published")]  # fmt: skip
    monkeypatch.chdir(tmp_path)
    runner, runs, _ = make_runner(models=models, seeds=[1])
    runner.execute(runs)
    names = [run.id for run in runs]
    for run, encoder in zip(runs, (str(tmp_path / "encoder"), None), strict=True):
        text = (runner.folder(run) / "log.txt").read_text().split("options ")[1]
        paths = json.loads(text[: text.rindex("}") + 1])["paths"]
        assert paths["content_file"] == str(tmp_path / "v.npz")
        assert paths.get("content_encoder") == encoder
    # Where the command works is no part of a run's name.
    (tmp_path / "other/encoder").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "other")
    assert [run.id for run in make_runner(models=models, seeds=[1])[1]] == names


@pytest.mark.parametrize("trial", [None, 3])
def test_what_the_worker_asks_of_a_run(tmp_path, monkeypatch, trial):
    from recbole_disent.leaderboard.worker import work

    asked = {}

    def stand_in(model, dataset, config_dict, test, ranks_file):
        asked.update(config_dict, test=test, ranks_file=ranks_file)
        return {"config": dict(config_dict)}

    monkeypatch.setattr(session, "run", stand_in)
    monkeypatch.chdir(tmp_path)
    spec = {"model": "M", "dataset": "d", "seed": 1, "trial": trial, "config": {"content_file": "v.npz"}}
    options = {"paths": {"data_path": "/data", "content_file": "/work/v.npz"}, "candidate_dir": "c",
               "threads": 1, "gpu": None, "keep_checkpoints": False, "command": [], "files": "f",
               "code": "c"}  # fmt: skip
    found = work(spec, options)
    assert asked["test"] == (trial is None)
    assert (asked["data_path"], asked["content_file"]) == ("/data", "/work/v.npz")
    assert asked["ranks_file"] == "per_user.npz"  # not the user's key: passed over where it cannot be made
    assert "per_user_file" not in asked
    assert found["config"]["content_file"] == "v.npz"
    assert found["config"]["data_path"] is None


def test_gpus_are_given_out_in_turn(make_runner):
    runner, runs, _ = make_runner(parallel=2)
    runner.gpus = ["4", "7"]
    runner.execute(runs)
    found = [json.loads(log[: log.rindex("}") + 1])["gpu"] for run in runs
             if (log := (runner.folder(run) / "log.txt").read_text().split("options ")[1])]  # fmt: skip
    assert set(found) == {"4", "7"}


def test_equal_runs_are_done_once(make_runner):
    models = ["Pop", {"name": "Pop", "label": "the same"}]
    runner, runs, _ = make_runner(models=models)
    runner.execute(runs)
    assert len(list((runner.out / "runs").iterdir())) == 2
    assert calls(runner, runs) == [1] * 4


def test_a_second_command_is_kept_out(tmp_path, monkeypatch):
    plan = {"models": ["Pop"], "datasets": ["ml-100k"], "seeds": [1], "out": str(tmp_path)}
    with alone(tmp_path), pytest.raises(UserError, match="another compare uses"):
        compare(plan)
    assert not (tmp_path / ".lock").exists()
    with alone(tmp_path):
        (tmp_path / ".lock").unlink()  # as a command that has just ended does
        with alone(tmp_path):
            assert (tmp_path / ".lock").exists()
    with monkeypatch.context() as patch:  # the other command ends between the opening and the lock
        patch.setattr("fcntl.flock", lambda *_: (tmp_path / ".lock").unlink())
        with pytest.raises(UserError, match="another compare uses"), alone(tmp_path):
            pass
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"out: '.*file': "):
        compare({**plan, "out": str(tmp_path / "file")})


def test_a_damaged_status_is_one_sentence(tmp_path):
    (tmp_path / "status.json").write_text("{")
    with pytest.raises(
        UserError, match=r"status.json: expected JSON .*; delete the file and repeat the command"
    ):
        state_of(tmp_path)


@pytest.mark.parametrize(("seconds", "text"), [(3, "0:03"), (62.6, "1:03"), (3601, "1:00:01")])
def test_durations(seconds, text):
    assert duration(seconds) == text


# -- stopping --------------------------------------------------------------------------

STOPPED = """
import os
import sys
from recbole_disent.leaderboard.plan import make_plan, read_plan
from recbole_disent.leaderboard.runner import Runner, Stopped
plan = make_plan(read_plan("plan.yaml"))
try:
    fake = [sys.executable, os.path.abspath("fake.py")]
    Runner(plan, [], lambda line: print(line, flush=True), fake).execute(plan.runs())
except Stopped as error:
    print("stopped by", error)
"""


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] != "Z"
    except OSError:
        return False


def children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in found.read_text().split()]


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds child processes in /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_children_too(given, tmp_path, number):  # noqa: F811
    config = {**TINY, "state": "CRITICAL"}
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump({**given, "config": config, "parallel": 2}))
    (tmp_path / "fake.py").write_text(FAKE)
    (tmp_path / "main.py").write_text(STOPPED)
    process = subprocess.Popen([sys.executable, "main.py"], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    deadline = time.time() + 120
    runs = tmp_path / "leaderboard" / "runs"
    while len(list(runs.glob("*/calls"))) < 2 and time.time() < deadline:
        time.sleep(0.1)
    pids = children(process.pid)
    assert len(pids) == 2
    process.send_signal(number)
    out, _ = process.communicate(timeout=60)
    assert out == f"stopped by {signal.Signals(number).name}\n"
    assert not any(map(alive, pids))
    states = [state_of(folder)["state"] for folder in runs.iterdir()]
    assert states == ["stopped"] * 2
