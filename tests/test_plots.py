"""Tests of the curves in a result file, of `recbole-disent plot` and of progress bars."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from recbole_disent import cli, pictures
from recbole_disent.errors import UserError
from recbole_disent.plots import _labels, _metrics, plot
from recbole_disent.registry import get_model
from recbole_disent.session import run
from recbole_disent.training import checkpoint
from recbole_disent.tuning import tune as command

RUN = {"topk": [1, 5], "valid_metric": "NDCG@5", "MAX_ITEM_LIST_LENGTH": 7, "show_progress": False}


@pytest.fixture
def keys(hostile):
    return {"data_path": str(hostile), **RUN, "epochs": 4, "eval_step": 2}


def result(name="one.json", **more):
    """Write a result file with two epochs, and return its path."""
    found = {
        "model": "A", "dataset": "d", "seed": 1, "config": {"valid_metric": "NDCG@5"}, "best_epoch": 1,
        "curves": {"epoch": [0, 1], "train_loss": [2.0, 1.5], "valid_score": [None, 0.25]},
        "test_result": {"ndcg@5": 0.2, "ndcg@1": 0.1, "averagepopularity@5": 900.0}, **more,
    }  # fmt: skip
    Path(name).write_text(json.dumps(found))
    return name


# -- the curves of a run ---------------------------------------------------------------


def test_the_curves_are_the_losses_and_scores_of_the_log(keys, caplog):
    caplog.set_level("INFO")
    found = run("SASRec", "hostile", config_dict=keys)
    curves = json.loads(Path(found["result_file"]).read_text())["curves"]
    assert curves == found["curves"]
    assert curves["epoch"] == [0, 1, 2, 3]
    plain = re.sub(r"\x1b\[[\d;]*m", "", caplog.text)
    logged = [float(x) for x in re.findall(r"train loss: ([\d.]+)", plain)]
    assert curves["train_loss"] == pytest.approx(logged, abs=1e-4)
    assert [score is None for score in curves["valid_score"]] == [True, False, True, False]
    scores = [float(x) for x in re.findall(r"valid_score: ([\d.]+)", plain)]
    assert curves["valid_score"][1::2] == pytest.approx(scores, abs=1e-6)
    assert found["best_valid_score"] == curves["valid_score"][found["best_epoch"]]


def test_a_resumed_run_keeps_the_curves_of_its_first_part(keys):
    keys |= {"eval_step": 1, "stopping_step": 99}
    whole = run("BPR", "hostile", config_dict=keys)
    first = run("BPR", "hostile", config_dict={**keys, "epochs": 2})
    assert first["best_epoch"] == 1  # otherwise the second epoch is trained again, and the test shows less
    state = checkpoint.load(first["checkpoint"])
    resumed = run("BPR", "hostile", config_dict={**keys, "resume_file": first["checkpoint"]})
    assert resumed["resumed_from"] == 2
    assert resumed["curves"] == whole["curves"]
    # A checkpoint of an older version has no curves: they begin with the resumed epoch.
    del state["curves"]
    checkpoint.save("old.pth", state)
    later = run("BPR", "hostile", config_dict={**keys, "resume_file": "old.pth"})
    assert later["curves"]["epoch"] == [2, 3]


def test_a_refit_keeps_the_curves_of_the_first_training(keys):
    keys |= {"eval_step": 1, "epochs": 2}
    plain = run("BPR", "hostile", config_dict=keys)
    assert run("BPR", "hostile", config_dict={**keys, "refit": True})["curves"] == plain["curves"]


def test_several_losses_are_a_list(keys, monkeypatch):
    plain = run("BPR", "hostile", config_dict=keys)["curves"]["train_loss"]
    model = get_model("BPR")
    loss_of = model.calculate_loss
    monkeypatch.setattr(
        model, "calculate_loss", lambda *given: (0.75 * loss_of(*given), 0.25 * loss_of(*given))
    )
    parts = run("BPR", "hostile", config_dict=keys)["curves"]["train_loss"]
    assert [len(part) for part in parts] == [2] * 4
    assert [part[0] for part in parts] == pytest.approx([0.75 * x for x in plain], rel=1e-4)


# -- the picture -----------------------------------------------------------------------


def test_the_command_draws_results_of_runs(keys, capsys):
    pytest.importorskip("matplotlib")
    files = [run(model, "hostile", config_dict=keys)["result_file"] for model in ("BPR", "Pop")]
    for kind, head in (("svg", b"<?xml"), ("png", b"\x89PNG")):
        assert cli.main(["plot", *files, "--out", f"new/curves.{kind}"]) == 0
        assert f"plot: new/curves.{kind}" in capsys.readouterr().out
        content = Path(f"new/curves.{kind}").read_bytes()
        assert content.startswith(head)
        plot(files, f"again.{kind}")
        assert Path(f"again.{kind}").read_bytes() == content
    plot(files[:1], "other.svg")
    assert Path("other.svg").read_bytes() != Path("again.svg").read_bytes()


def axes_of(monkeypatch, files):
    """Return the axes of a picture."""
    seen = []
    made = pictures.picture

    def keep(draw, *args, **options):
        return made(lambda figure: (draw(figure), seen.extend(figure.axes)), *args, **options)

    monkeypatch.setattr(pictures, "picture", keep)
    plot(files, "x.svg")
    return seen


def test_what_is_drawn(monkeypatch):
    pytest.importorskip("matplotlib")
    losses, scores, tests = axes_of(monkeypatch, [result(), result("two.json", model="B$x$ 'inf'")])
    assert [line.get_xydata().tolist() for line in losses.lines] == [[[0, 2], [1, 1.5]]] * 2
    assert scores.lines[0].get_xydata().tolist() == [[1, 0.25]]
    assert scores.get_ylabel() == "ndcg@5 (validation)"
    assert [bar.get_width() for bar in tests.patches] == [0.2, 0.2]  # ndcg@1 and popularity are not drawn
    assert [text.get_text() for text in tests.get_yticklabels()] == ["ndcg@5"]


def test_parts_of_a_loss_and_missing_parts(monkeypatch):
    pytest.importorskip("matplotlib")
    curves = {"epoch": [0, 1], "train_loss": [[2.0, 1.0], [1.0, "inf"]], "valid_score": [None, None]}
    (losses,) = axes_of(monkeypatch, [result(curves=curves, test_result=None)])
    assert [line.get_ydata()[0] for line in losses.lines] == [3.0, 2.0, 1.0]
    nothing = {"epoch": [], "train_loss": [], "valid_score": []}
    with pytest.raises(UserError, match="nothing to draw"):
        plot([result(curves=nothing, test_result=None)], "x.svg")


def test_labels_differ():
    files = [Path("a.json"), Path("b.json"), Path("c.json")]
    one = {"model": "M", "dataset": "d", "seed": 1}
    assert _labels([one], files[:1]) == ["M"]
    assert _labels([one, {**one, "seed": 2}], files[:2]) == ["M, seed 1", "M, seed 2"]
    assert _labels([one, one, {**one, "dataset": "e"}], files) == ["M, d (a)", "M, d (b)", "M, e"]
    assert _labels([one, one], [Path("x/a.json"), Path("y/a.json")]) == ["M (a) 1", "M (a) 2"]


def test_metrics_of_the_bars():
    auc = {"test_result": {"auc": 0.5, "logloss": 0.7}, "config": {"valid_metric": "AUC"}}
    assert _metrics([auc]) == ["auc", "logloss"]
    assert _metrics([{"test_result": None, "config": {"valid_metric": "AUC"}}]) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "'bad.json' is not JSON"),
        ("[1]", "holds a list, expected the result file"),
        ("{}", "has no key 'model' of the type str"),
        ('{"test_result": {}}', "has no key 'curves', because an older version wrote it"),
        ({"curves": {"epoch": [0]}}, "expected the lists epoch, train_loss, valid_score of equal length"),
        ({"curves": {"epoch": [0], "train_loss": ["x"], "valid_score": [None]}}, "expected numbers"),
        ({"test_result": [1]}, "expected numbers"),
    ],
)
def test_a_bad_file_gets_a_sentence(text, message, capsys):
    pytest.importorskip("matplotlib")
    result("bad.json", **text) if isinstance(text, dict) else Path("bad.json").write_text(text)
    assert cli.main(["plot", "bad.json", "--out=x.svg"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("recbole-disent: error: plot: 'bad.json'")
    assert message in line
    assert not Path("x.svg").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none.json", "--out=x.svg"], "'none.json' cannot be read (No such file or directory)"),
        (["one.json", "--out=x.pdf"], "out: got 'x.pdf', expected a file that ends with .svg or .png"),
        (["one.json", "--out=x.svg", "--epochs=1"], "got '--epochs=1', which plot does not know"),
    ],
)
def test_bad_arguments_get_a_sentence(words, message, capsys):
    pytest.importorskip("matplotlib")
    result()
    assert cli.main(["plot", *words]) == 2
    assert message in capsys.readouterr().err


def test_without_matplotlib_one_sentence(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert cli.main(["plot", result(), "--out=x.svg"]) == 2
    assert "plot needs the package matplotlib: pip install 'recbole_disent[plots]'" in capsys.readouterr().err


# -- progress bars ---------------------------------------------------------------------


@pytest.mark.parametrize("show", [True, False])
def test_evaluation_shows_its_progress(keys, capfd, show):
    run("BPR", "hostile", config_dict={**keys, "show_progress": show, "state": "ERROR", "epochs": 1,
                                       "eval_step": 1, "eval_batch_size": 4})  # fmt: skip
    err = capfd.readouterr().err
    assert ("Evaluate (valid)" in err) is show
    assert ("Evaluate (test)" in err) is show
    assert ("100%" in err) is show


@pytest.mark.parametrize("show", [True, False])
def test_a_search_shows_its_progress(keys, capfd, show, tmp_path):
    (tmp_path / "a.hyper").write_text("embedding_size choice [4, 8]\n")
    search = {**keys, "epochs": 1, "eval_step": 1, "show_progress": show, "state": "ERROR"}
    for trials, bar in ((1, "0/1"), (2, "1/2")):  # the first trial of the second search is done already
        command.tune("BPR", "hostile", config_dict=search, params_file=str(tmp_path / "a.hyper"),
                     tool="random", algo="exhaustive", max_evals=trials, output="study")  # fmt: skip
        err = capfd.readouterr().err
        assert ("trials:" in err) is show
        assert (f"| {bar} [" in err) is show
        assert "Train" not in err


def test_parts_of_a_loss_that_begin_later_are_drawn(tmp_path):
    curves = {"epoch": [0, 1, 2], "train_loss": [[2.0, 1.0], [1.5, 1.0, 0.5], [1.0, 1.0, 0.5]],
              "valid_score": [None, 0.25, 0.3]}  # fmt: skip
    assert plot([result(curves=curves)], tmp_path / "o.svg").read_text().count("part 3") == 1


def test_results_without_a_common_metric_are_said_to_be(tmp_path, caplog):
    other = result("two.json", test_result={"recall@20": 0.5})
    assert "test result" not in plot([result(), other], tmp_path / "o.svg").read_text()
    assert "the results have no test metric in common, so their tests are left out" in caplog.text
