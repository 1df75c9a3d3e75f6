"""Tests of tuning: proposals, trials, RecBole's HyperTuning and Ray."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from recbole_disent import cli
from recbole_disent.config.search_space import read_space
from recbole_disent.errors import UserError
from recbole_disent.quick_start import objective_function
from recbole_disent.session import run
from recbole_disent.tuning import proposals, trials
from recbole_disent.tuning import tune as command
from recbole_disent.tuning.study import Study, trial_id

ROOT = Path(__file__).resolve().parent.parent
SPACE = "learning_rate loguniform -7,-4\nhidden_size choice [8, 16]\nn_layers quniform 1,2,1\n"
FINITE = "hidden_size choice [8, 16]\nn_layers choice [1, 2]\n"


@pytest.fixture
def keys(hostile):
    return {"data_path": str(hostile), "epochs": 1, "topk": [1, 5, 10], "MAX_ITEM_LIST_LENGTH": 7,
            "show_progress": False}  # fmt: skip


@pytest.fixture
def space_file(tmp_path):
    def write(text):
        (tmp_path / "a.hyper").write_text(text)
        return str(tmp_path / "a.hyper")

    return write


@pytest.fixture
def counted(monkeypatch):
    """Return the trials that were executed."""
    ran = []

    def counting(**given):
        ran.append(given["config_dict"])
        return run(**given)

    monkeypatch.setattr(trials, "run", counting)
    return ran


# -- proposals -------------------------------------------------------------------------


def loss_of(values):
    return (np.log(values["learning_rate"]) + 5) ** 2 + values["n_layers"]


@pytest.mark.parametrize(
    ("tool", "algo"), [("random", "random"), ("hyperopt", "random"), ("hyperopt", "bayes")]
)
def test_proposals_are_a_function_of_seed_and_results(space_file, tool, algo):
    if tool == "hyperopt":
        pytest.importorskip("hyperopt")
    space = read_space(space_file(SPACE))

    def asked(seed, n=30):
        proposer = proposals.make(space, tool, algo, seed)
        found = []
        for i in range(n):
            found.append(proposer.ask())
            proposer.tell(None if i == 3 else loss_of(found[-1]))
        return found

    assert asked(1) == asked(1) != asked(2)
    assert {v["n_layers"] for v in asked(1)} == {1, 2}
    assert all(isinstance(v["n_layers"], int) and v["hidden_size"] in (8, 16) for v in asked(1))


def test_bayes_learns_from_the_scores(space_file):
    """Late proposals of TPE are better than random ones, so each loss reaches TPE with its values."""
    pytest.importorskip("hyperopt")
    space = read_space(space_file(SPACE))
    late = {}
    for algo in ("random", "bayes"):
        proposer = proposals.make(space, "hyperopt", algo, 5)
        losses = []
        for _ in range(60):
            losses.append(loss_of(proposer.ask()))
            proposer.tell(losses[-1])
        late[algo] = np.mean(losses[30:])
    assert late["bayes"] < 0.75 * late["random"]


def test_exhaustive_meets_every_combination_once(space_file):
    proposer = proposals.make(read_space(space_file(FINITE)), "random", "exhaustive", 1)
    found = []
    while (values := proposer.ask()) is not None:
        found.append((values["hidden_size"], values["n_layers"]))
    assert sorted(found) == [(8, 1), (8, 2), (16, 1), (16, 2)]


def test_trial_id_does_not_depend_on_the_order_of_keys():
    assert trial_id({"a": 1, "b": [2]}) == trial_id({"b": [2], "a": 1}) != trial_id({"a": 1, "b": [3]})


# -- the command -----------------------------------------------------------------------


@pytest.mark.parametrize("model", ["DisentS2S", "SASRec"])
@pytest.mark.parametrize(
    ("tool", "algo"),
    [("random", "random"), ("hyperopt", "exhaustive"), ("hyperopt", "random"), ("hyperopt", "bayes")],
)
def test_tune_finds_and_writes_the_best(keys, space_file, model, tool, algo, counted):
    if tool == "hyperopt":
        pytest.importorskip("hyperopt")
    file = space_file(FINITE if algo == "exhaustive" else SPACE)
    evals = {"exhaustive": 100}.get(algo, 3)
    words = ["tune", f"--model={model}", "--dataset=hostile", f"--params_file={file}", f"--tool={tool}",
             f"--algo={algo}", f"--max_evals={evals}", "--output=out",
             *(f"--{key}={value}" for key, value in keys.items())]  # fmt: skip
    if model == "SASRec":
        words.append("--n_heads=2")
    assert cli.main(words) == 0
    files = [json.loads(p.read_text()) for p in Path("out").glob("*.json") if p.name != "study.json"]
    assert len(files) == len(counted) == (4 if algo == "exhaustive" else 3)
    with open("out/trials.csv") as file:
        rows = list(csv.DictReader(file))
    best = max(files, key=lambda t: t["score"])
    assert float(rows[0]["valid score"]) == best["score"]
    assert all(row["status"] == "done" for row in rows)
    # The best configuration is one that `run` takes, and gives the score again.
    report = run(config_file_list=["out/best.yaml"])
    assert report["best_valid_score"] == best["score"]
    assert report["test_result"] == best["test_result"]
    assert not list(Path("out").rglob("*.pth"))
    # The same command again makes no trial.
    assert cli.main(words) == 0
    assert len(counted) == len(files)


@pytest.mark.parametrize("algo", ["random", "bayes"])
def test_a_search_that_was_stopped_equals_one_that_was_not(keys, space_file, counted, algo):
    tool = "hyperopt" if algo == "bayes" else "random"
    if tool == "hyperopt":
        pytest.importorskip("hyperopt")
    given = {"params_file": space_file(SPACE), "tool": tool, "algo": algo}

    def search(output, n):
        return command.tune("DisentS2S", "hostile", config_dict=keys, max_evals=n, output=output, **given)

    whole = search("whole", 4)
    first = search("parts", 2)
    assert len(counted) == 6
    second = search("parts", 4)
    assert len(counted) == 8
    assert set(first.trials) < set(second.trials) == set(whole.trials)
    for name, trial in whole.trials.items():
        assert trial["score"] == second.trials[name]["score"]
    assert Path("whole/best.yaml").read_text() == Path("parts/best.yaml").read_text()


@pytest.mark.slow
def test_a_killed_search_goes_on(keys, space_file, tmp_path):
    """After SIGKILL at any time, finished trials are kept and the others run once."""
    keys.pop("epochs")
    words = ["tune", "--model=DisentS2S", "--dataset=hostile", f"--params_file={space_file(SPACE)}",
             "--max_evals=6", "--output=out", "--epochs=3",
             *(f"--{key}={value}" for key, value in keys.items())]  # fmt: skip
    script = "import sys; from recbole_disent.cli import main; sys.exit(main(sys.argv[1:]))"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    times = {}
    for kill_after in (1, 2, None):
        process = subprocess.Popen([sys.executable, "-c", script, *words], env=environment, cwd=tmp_path,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
        start, before = time.monotonic(), len(times)
        while process.poll() is None and time.monotonic() - start < 240:
            done = [p for p in tmp_path.glob("out/*.json") if p.name != "study.json"]
            if kill_after is not None and len(done) >= before + kill_after:
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.02)
        process.wait(timeout=60)
        done = [p for p in tmp_path.glob("out/*.json") if p.name != "study.json"]
        for path in done:
            json.loads(path.read_text())  # complete
            stamp = path.stat().st_mtime_ns
            assert times.setdefault(path.name, stamp) == stamp  # and not made again
    assert process.returncode == 0
    assert len(times) == 6
    assert (tmp_path / "out" / "best.yaml").is_file()


def test_a_trial_goes_on_from_its_checkpoint(keys, space_file, monkeypatch):
    """A stopped trial continues and gives the result of a trial without a stop."""
    study = command.tune("DisentS2S", "hostile", config_dict={**keys, "epochs": 4}, max_evals=1,
                         output="whole", params_file=space_file(SPACE))  # fmt: skip

    def dies(epoch, score):
        if epoch == 1:
            raise KeyboardInterrupt

    real = trials.run
    monkeypatch.setattr(trials, "run", lambda **given: real(**{**given, "on_epoch": dies}))
    again = {"config_dict": {**keys, "epochs": 4}, "max_evals": 1, "output": "parts",
             "params_file": space_file(SPACE)}  # fmt: skip
    with pytest.raises(KeyboardInterrupt):
        command.tune("DisentS2S", "hostile", **again)
    resumed = []
    monkeypatch.setattr(
        trials, "run", lambda **g: resumed.append(g["config_dict"]["resume_file"]) or real(**g)
    )
    second = command.tune("DisentS2S", "hostile", **again)
    assert resumed[0] is not None
    assert second.best["score"] == study.best["score"]


def test_a_trial_that_fails_does_not_end_the_search(keys, space_file, monkeypatch):
    file = space_file("learning_rate choice [1e30, 0.001]\n")
    given = {**keys, "epochs": 3}
    study = command.tune("GRU4Rec", "hostile", config_dict=given, algo="exhaustive", params_file=file)
    assert sorted(t["status"] for t in study.trials.values()) == ["done", "failed"]
    assert study.best["values"] == {"learning_rate": 0.001}
    assert "training diverged" in study.ranked()[1]["error"]
    assert Path("tuning/GRU4Rec-hostile/trials.md").is_file()
    asked = []
    real = trials.run
    monkeypatch.setattr(
        trials, "run", lambda **g: asked.append(g["config_dict"]["learning_rate"]) or real(**g)
    )
    command.tune("GRU4Rec", "hostile", config_dict=given, algo="exhaustive", params_file=file)
    assert asked == [1e30]  # failed trials run again, because the cause may be gone; finished trials do not


def test_a_given_key_is_not_searched(keys, space_file):
    file = space_file("learning_rate choice [0.01, 0.02]\nn_layers choice [1, 2]\n")
    given = {**keys, "epochs": 1, "n_layers": 1}
    study = command.tune("DisentS2S", "hostile", config_dict=given, algo="exhaustive", params_file=file)
    assert sorted(t["values"]["learning_rate"] for t in study.trials.values()) == [0.01, 0.02]
    assert study.given["n_layers"] == 1
    assert all(set(t["values"]) == {"learning_rate"} for t in study.trials.values())


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--tool=grid"], "tool: got 'grid', expected one of random, hyperopt, ray"),
        (["--algo=bayes"], "algo: got 'bayes' with tool 'random', expected tool hyperopt"),
        (["--algo=best"], "algo: got 'best', expected one of exhaustive, random, bayes"),
        (["--max_evals=0"], "max_evals: got 0"),
        (["--params_file=none.hyper"], "search space 'none.hyper': no such file"),
        (["--params_file=bad.hyper"], "bad.hyper, line 1: the key 'n_layer' is known neither to RecBole nor"),
        (["--n_layer=3"], "did you mean 'n_layers'?"),
        (["--per_user_file=u.npz"], "per_user_file: got 'u.npz', but the search sets this key"),
        (["--params_file=one.hyper", "--n_layers=1"], "tune: every key of the search space is given"),
    ],
)
def test_wrong_commands_get_one_sentence(keys, capsys, extra, message):
    Path("bad.hyper").write_text("n_layer choice [1]\n")
    Path("one.hyper").write_text("n_layers choice [1, 2]\n")
    words = ["tune", "--model=DisentS2S", "--dataset=hostile", "--max_evals=1",
             *(f"--{key}={value}" for key, value in keys.items()), *extra]  # fmt: skip
    assert cli.main(words) == 2
    assert message in capsys.readouterr().err


def test_another_search_in_the_same_folder_is_refused(keys, space_file):
    given = {"config_dict": keys, "output": "out", "max_evals": 1}
    command.tune("DisentS2S", "hostile", params_file=space_file(FINITE), **given)
    with pytest.raises(UserError, match="output 'out' holds another search: got space"):
        command.tune("DisentS2S", "hostile", params_file=space_file(SPACE), **given)
    Path("out/0123456789ab.json").write_text("{")
    with pytest.raises(UserError, match=r"0123456789ab\.json: expected a trial"):
        command.tune("DisentS2S", "hostile", params_file=space_file(FINITE), **given)


def test_missing_libraries_name_the_extra(keys, monkeypatch):
    monkeypatch.setitem(sys.modules, "hyperopt", None)
    with pytest.raises(UserError, match=r"pip install 'recbole_disent\[tune\]'"):
        command.tune("DisentS2S", "hostile", config_dict=keys, tool="hyperopt")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(
        UserError, match=r"tool 'ray' needs the package (ray|pyarrow).*recbole_disent\[tune\]"
    ):
        command.tune("DisentS2S", "hostile", config_dict=keys, tool="ray")


def study_of(scores, space_file, bigger=True):
    space = read_space(space_file(SPACE))
    study = Study("plots", "DisentS2S", "hostile", {}, space, {"tool": "random"})
    rng = np.random.default_rng(0)
    for number, score in enumerate(scores):
        values = {
            "learning_rate": float(rng.uniform(1e-3, 1e-2)),
            "hidden_size": 8,
            "n_layers": 1 + number % 2,
        }
        study.add(number, values, status="failed" if score is None else "done", score=score, bigger=bigger,
                  error="no")  # fmt: skip
    return study


def test_the_plot_is_the_same_bytes_each_time(space_file):
    pytest.importorskip("matplotlib")
    from recbole_disent.tuning.plot import plot

    study = study_of([0.1, None, 0.3, 0.2], space_file)
    first = Path(plot(study)).read_bytes()
    assert Path(plot(study)).read_bytes() == first
    assert b"<svg" in first
    plot(study_of([0.5], space_file))  # one trial: axes without a width


def test_without_matplotlib_one_sentence(space_file, monkeypatch, caplog):
    from recbole_disent.tuning.plot import plot

    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert plot(study_of([0.1], space_file)) is None
    assert "pip install 'recbole_disent[plots]'" in caplog.text


def test_smaller_is_better_where_the_metric_says_so(space_file):
    study = study_of([0.3, 0.1, 0.2], space_file, bigger=False)
    assert [t["score"] for t in study.ranked()] == [0.1, 0.2, 0.3]


# -- RecBole's HyperTuning -------------------------------------------------------------


@pytest.mark.parametrize("algo", ["exhaustive", "random", "bayes"])
def test_recboles_hypertuning_works_with_our_objective(keys, space_file, algo, tmp_path, monkeypatch):
    pytest.importorskip("hyperopt")
    from recbole.trainer import HyperTuning

    config = tmp_path / "fixed.yaml"
    lines = {**keys, "model": "DisentS2S", "dataset": "hostile"}
    config.write_text("".join(f"{key}: {json.dumps(value)}\n" for key, value in lines.items()))
    monkeypatch.setattr("webbrowser.open", lambda *a, **k: True)
    tuning = HyperTuning(
        objective_function,
        params_file=space_file("# a comment of words\n" + FINITE),
        fixed_config_file_list=[str(config)],
        algo=algo,
        max_evals=3,
        display_file=str(tmp_path / "plot.html"),
    )
    tuning.run()
    tuning.export_result(output_file=str(tmp_path / "hyper.result"))
    assert len(tuning.params2result) == 4 if algo == "exhaustive" else 1 <= len(tuning.params2result) <= 3
    assert tuning.best_score == max(r["best_valid_score"] for r in tuning.params2result.values())
    assert "Test result" in (tmp_path / "hyper.result").read_text()
    assert (tmp_path / "plot.html").is_file()


def test_recboles_reader_runs_no_code(space_file):
    pytest.importorskip("hyperopt")
    from recbole.trainer import HyperTuning

    with pytest.raises(UserError, match="expected a list of values"):
        HyperTuning(objective_function, params_file=space_file("a choice [print('x')]\n"))


# -- Ray -------------------------------------------------------------------------------


@pytest.mark.ray
def test_ray_stops_bad_trials_early_and_goes_on(keys, space_file, counted):
    ray = pytest.importorskip("ray")
    file = space_file("learning_rate choice [0.01, 1e-9, 1e30]\n")
    # One trial at a time, as ASHA may stop either of two; weights with which the learning trial is ahead.
    given = {"config_dict": {**keys, "epochs": 6, "initializer_range": 0.1}, "tool": "ray", "output": "out",
             "algo": "exhaustive", "grace_epochs": 1, "reduction_factor": 2, "params_file": file}  # fmt: skip
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        first = command.tune("DisentS2S", "hostile", max_evals=2, **given)
    finally:
        ray.shutdown()
    found = {t["values"]["learning_rate"]: t for t in first.trials.values()}
    assert (found[0.01]["status"], found[0.01]["epochs"]) == ("done", 6)
    assert found[1e-9]["status"] == "stopped"
    assert found[1e-9]["epochs"] in (1, 2, 4)  # where ASHA looks
    stamps = {name: Path(f"out/{name}.json").stat().st_mtime_ns for name in first.trials}
    study = command.tune("DisentS2S", "hostile", max_evals=3, **given)
    assert len(study.trials) == 3
    assert stamps == {name: Path(f"out/{name}.json").stat().st_mtime_ns for name in stamps}
    status = {t["values"]["learning_rate"]: t["status"] for t in study.trials.values()}
    assert status[1e30] == "failed"
    assert status[0.01] == "done"
    assert study.best["values"]["learning_rate"] == 0.01
    assert study.best["test_result"].keys() >= {"recall@10"}
    assert counted == []  # all were run by workers
