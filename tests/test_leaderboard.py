"""End-to-end tests of comparisons: real runs, the report, and a kill at any time."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from recbole_disent import cli
from recbole_disent.errors import UserError
from recbole_disent.leaderboard import report
from recbole_disent.leaderboard.collect import collect
from recbole_disent.leaderboard.plan import make_plan
from tests.test_leaderboard_plan import TINY, given  # noqa: F401  (a fixture)


def compare(plan: dict, *words: str) -> int:
    Path("plan.yaml").write_text(yaml.safe_dump(plan))
    return cli.main(["compare", "plan.yaml", "--out=out", *words])


def results(folder: str = "out") -> dict[str, dict]:
    found = {
        file.parent.name: json.loads(file.read_text()) for file in Path(folder).glob("runs/*/result.json")
    }
    assert found
    return found


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Folder of a finished plan with two models, one of them with a search, two seeds and two values."""
    from tests.conftest import hostile_rows, write_inter

    folder = tmp_path_factory.mktemp("finished")
    write_inter(folder / "data", "hostile", hostile_rows())
    plan = {
        "models": [{"name": "BPR", "trials": 2}, "Pop"],
        "datasets": ["hostile"], "seeds": [2, 1], "protocols": ["uni8"], "search_epochs": 2,
        "sweep": {"click_noise": [0.0, 0.5]}, "data_path": "data", "parallel": 2, "resamples": 200,
        "config": {**TINY, "topk": [1, 5, 9]},
    }  # fmt: skip
    (folder / "plan.yaml").write_text(yaml.safe_dump(plan))
    before = os.getcwd()
    os.chdir(folder)
    try:
        assert cli.main(["compare", "plan.yaml", "--out=out"]) == 0
    finally:
        os.chdir(before)
    return folder


def test_the_search_looks_at_the_validation_part_only(finished):
    plan = json.loads((finished / "out/plan.json").read_text())
    stored = results(str(finished / "out"))
    trials = [stored[t["id"]] for t in plan["trials"]]
    assert len(trials) == 2
    assert all(t["test_result"] is None for t in trials)
    assert not any((finished / "out/runs" / t["id"] / "per_user.npz").exists() for t in plan["trials"])
    assert all(t["config"]["epochs"] == 2 and t["seed"] == 2020 for t in trials)
    (search,) = plan["searches"]
    best = max(range(2), key=lambda i: trials[i]["best_valid_score"])
    assert search["chosen"]["trial"] == best
    assert search["space"] == {"learning_rate": "0.01 | 0.005 | 0.001 | 0.0005 | 0.0001"}
    for row in plan["runs"]:
        found = json.loads((finished / "out/runs" / row["id"] / "result.json").read_text())
        if row["label"] == "BPR":
            assert found["config"]["learning_rate"] == trials[best]["config"]["learning_rate"]
        assert found["config"]["click_noise"] == row["sweep"]
        assert found["config"]["epochs"] == 1


def test_the_runs_share_data_that_were_prepared_before(finished):
    assert len(list((finished / "out/prepared").glob("hostile-*"))) == 4  # two types, two click_noise
    logs = [log.read_text() for log in (finished / "out/runs").glob("*/log.txt")]
    assert all(log.count("the prepared data in") == 1 for log in logs)


def test_a_finished_run_leaves_result_ranks_and_log_only(finished):
    plan = json.loads((finished / "out/plan.json").read_text())
    for row in plan["runs"]:
        names = {file.name for file in (finished / "out/runs" / row["id"]).iterdir()}
        assert names == {".lock", "config.yaml", "log.txt", "per_user.npz", "result.json", "status.json"}
    assert len(list((finished / "out/candidates").glob("*.npz"))) == 2
    text = "".join(file.read_text() for file in (finished / "out/runs").glob("*/result.json"))
    assert str(finished) not in text


def test_the_report_says_what_the_results_say(finished):
    with (finished / "out/report.csv").open() as file:
        cells = list(csv.DictReader(file))
    accuracy = [c for c in cells if c["table"] == "hostile, uni8: accuracy"]
    rows: dict[str, dict[str, str]] = {}
    for cell in accuracy:
        rows.setdefault(cell["row"], {})[cell["column"]] = cell["text"]
    assert [(r["model"], r["click_noise"]) for r in rows.values()] == [
        ("BPR", "0.0"), ("Pop", "0.0"), ("BPR", "0.5"), ("Pop", "0.5")]  # fmt: skip
    plan = json.loads((finished / "out/plan.json").read_text())
    for row in rows.values():
        values = [
            json.loads((finished / "out/runs" / r["id"] / "result.json").read_text())["test_result"]["ndcg@5"]
            for r in plan["runs"] if (r["label"], str(r["sweep"])) == (row["model"], row["click_noise"])
        ]  # fmt: skip
        assert row["ndcg@5"] == f"{np.mean(values):.4f} ± {np.std(values, ddof=1):.4f}"
        assert row["trials"] == ("2" if row["model"] == "BPR" else "none")
    assert any(c["table"] == "hostile, uni8: share kept" for c in cells)
    markdown = (finished / "out/report.md").read_text()
    digest = next(run for run in results(str(finished / "out")).values() if run["test_result"])
    tables = markdown.split("## ")[1:]
    for table in tables[:-1]:  # the last one is about the care, not about results
        assert f"Data {digest['data_hash']}; candidates: test {digest['candidate_hashes']['test']}" in table
    assert "Command: recbole-disent" in markdown
    assert "learning_rate: 0.01 \\| 0.005" in markdown


def test_a_report_is_made_again_from_the_files_alone(finished, tmp_path):
    shutil.copytree(finished / "out", tmp_path / "copy")
    old = {file.name: file.read_bytes() for file in (tmp_path / "copy").glob("report.*")}
    for name in old:
        (tmp_path / "copy" / name).unlink()
    assert cli.main(["report", str(tmp_path / "copy"), "--out", str(tmp_path / "new")]) == 0
    for name in ("report.md", "report.csv", "report.tex"):
        assert (tmp_path / "new" / name).read_bytes() == old[name]


def test_a_compacted_plan_gives_the_same_report(finished, tmp_path, capsys):
    shutil.copytree(finished / "out", tmp_path / "out")
    old = {file: file.read_bytes() for file in (tmp_path / "out").rglob("*") if is_of_report(file)}
    assert {".md", ".csv", ".tex", ".html"} <= {file.suffix for file in old}
    before = len(list((tmp_path / "out").rglob("*")))
    assert cli.main(["compact", str(tmp_path / "out"), "--delete"]) == 0
    for file in old:
        file.unlink()
    names = {file.name for file in (tmp_path / "out").iterdir() if file.is_file()}
    assert names == {"runs.csv", "ranks.npz"}
    assert len(list((tmp_path / "out").rglob("*"))) < before / 10
    assert cli.main(["report", str(tmp_path / "out")]) == 0
    assert {file: file.read_bytes() for file in (tmp_path / "out").rglob("*") if is_of_report(file)} == old
    # New runs would hide what is kept.
    capsys.readouterr()
    assert cli.main(["compare", str(finished / "plan.yaml"), f"--out={tmp_path / 'out'}",
                     f"--data_path={finished / 'data'}"]) == 2  # fmt: skip
    assert "has the compacted results of a plan (runs.csv)" in capsys.readouterr().err


def is_of_report(file: Path) -> bool:
    return file.name.startswith("report.") or file.suffix == ".svg"


def test_latex_and_page_have_every_table(finished):
    tex, page = (finished / "out/report.tex").read_text(), (finished / "out/report.html").read_text()
    tables = re.findall(r"^## (.*)$", (finished / "out/report.md").read_text(), re.MULTILINE)
    assert tex.count(r"\begin{table}") == page.count("<table>") == len(tables)
    assert tex.count(r"\toprule") == tex.count(r"\bottomrule") == len(tables)
    assert not re.search(r"(?<!\\)[%&_#](?!.*\\\\)", tex.replace("% needs", "").split(r"\toprule")[0])
    # Nothing is fetched.
    assert not re.search(r"""(?:src|href)=["'](?!#)""", page)
    assert "@import" not in page


def test_columns_can_be_any_metric_of_the_results(finished, tmp_path):
    for metrics in (["itemcoverage@5"], ["averagepopularity@5", "mrr@9"]):
        report.write(finished / "out", metrics=metrics, out=tmp_path, say=lambda line: None)
        text = (tmp_path / "report.md").read_text()
        assert f"| model | click_noise | {' | '.join(metrics)} |" in text
        assert ("mrr@9 by history length" in text) == ("mrr@9" in metrics)


def test_missing_and_broken_runs_are_told(finished, tmp_path):
    shutil.copytree(finished / "out", tmp_path / "copy")
    plan = json.loads((tmp_path / "copy/plan.json").read_text())
    broken, missing = plan["runs"][0], plan["runs"][1]
    for row in (broken, missing):
        (tmp_path / "copy/runs" / row["id"] / "result.json").unlink()
    status = {"state": "broken", "error": "it was too hot"}
    (tmp_path / "copy/runs" / broken["id"] / "status.json").write_text(json.dumps(status))
    (tmp_path / "copy/runs" / missing["id"] / "status.json").unlink()
    report.write(tmp_path / "copy", say=lambda line: None)
    text = (tmp_path / "copy/report.md").read_text()
    assert "Not in the table: BPR at 0.0, seed 2: it was too hot." in text
    assert "Not in the table: Pop at 0.0, seed 2: not run yet." in text
    assert "| 1 (1 missing) |" in text


@pytest.mark.parametrize("what", ["data_hash", "candidate_hashes"])
def test_results_that_cannot_be_compared_are_refused(finished, tmp_path, what):
    shutil.copytree(finished / "out", tmp_path / "copy")
    plan = json.loads((tmp_path / "copy/plan.json").read_text())
    file = tmp_path / "copy/runs" / plan["runs"][0]["id"] / "result.json"
    found = json.loads(file.read_text())
    found[what] = "other" if what == "data_hash" else dict.fromkeys(found[what] or ("test",), "other")
    file.write_text(json.dumps(found))
    with pytest.raises(UserError, match=f"hostile, uni8: the runs differ in {what}"):
        collect(tmp_path / "copy")


def test_a_damaged_file_of_ranks_is_one_sentence(finished, tmp_path):
    shutil.copytree(finished / "out", tmp_path / "copy")
    next((tmp_path / "copy/runs").glob("*/per_user.npz")).write_bytes(b"no zip")
    with pytest.raises(UserError, match=r"per_user.npz: expected a file of ranks .*; delete the folder"):
        collect(tmp_path / "copy")


# -- folders of plain result files -----------------------------------------------------


@pytest.fixture
def plain(finished, tmp_path):
    """Folder with only the result files of two models and two seeds."""
    plan = json.loads((finished / "out/plan.json").read_text())
    (tmp_path / "plain").mkdir()
    for row in plan["runs"]:
        if row["sweep"] == 0.0:
            file = finished / "out/runs" / row["id"] / "result.json"
            shutil.copy(file, tmp_path / f"plain/{row['label']}-{row['seed']}.json")
    return tmp_path / "plain"


def test_result_files_without_a_plan(plain, tmp_path, capsys):
    assert cli.main(["report", str(plain), "--metrics", "recall@5", "ndcg@5", "--out", str(tmp_path)]) == 0
    text = (tmp_path / "report.md").read_text()
    assert "| model | recall@5 | ndcg@5 | seeds |" in text
    stored = [json.loads((plain / f"BPR-{seed}.json").read_text())["test_result"] for seed in (1, 2)]
    means = [np.mean([found[metric] for found in stored]) for metric in ("recall@5", "ndcg@5")]
    (row,) = re.findall(r"^\| BPR \| (\S+) ± \S+ \| (\S+) ± \S+ \| 1, 2 \|", text, re.MULTILINE)
    assert row == tuple(f"{mean:.4f}" for mean in means)
    assert "Rows without stored ranks of users have no tests." in text
    assert "comparisons" not in text
    other = json.loads((plain / "BPR-1.json").read_text())
    other["config"]["embedding_size"] = 3
    (plain / "b.json").write_text(json.dumps(other))
    assert cli.main(["report", str(plain)]) == 2
    assert "of BPR, seed 1; they differ in embedding_size; name the keys that" in capsys.readouterr().err
    assert cli.main(["report", str(plain), "--by", "embedding_size"]) == 0
    assert "| BPR embedding_size=3 |" in (plain / "report.md").read_text()


def test_a_metric_that_results_lack_is_one_sentence(plain, capsys):
    assert cli.main(["report", str(plain), "--metrics", "ndgc@5"]) == 2
    message = "got 'ndgc@5', which not every result of hostile, uni8 has; did you mean 'ndcg@5'?"
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["report", "nowhere"], "got 'nowhere', expected a folder"),
        (["report", "."], r"got '.', expected a folder with result files \(\*.json\), plan.json"),
        (["compact", "."], r"compact: '.' has no plan.json; give the folder"),
        (["compact", ".", "--nonsense=1"], "got '--nonsense=1', which compact does not know"),
        (["report", ".", "--nonsense=1"], "got '--nonsense=1', which report does not know"),
        (["compare", "--models=Pop", "--seeds=1,x"], "--seeds: got '1,x', expected numbers such as 1,2,3"),
        (["compare", "--models=Pop", "nonsense=2", "more"], r"plan 'nonsense=2': No such file"),
        (["compare", "--models=Pop", "--epochs=2", "--topk"], "got '--topk', expected --key=value"),
        (["paper", "nosie"], "the experiment 'nosie' is unknown"),
        (["paper", "noise"], "plan: datasets: got an empty value"),
    ],
)
def test_wrong_commands_are_one_sentence(words, message, capsys):
    assert cli.main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("recbole-disent: error: ")
    assert re.search(message, line)


# -- plots and the page ----------------------------------------------------------------


def test_plots_are_the_same_bytes_each_time(finished, tmp_path):
    pytest.importorskip("matplotlib", reason="the extra plots is not installed")
    for name in ("one", "two"):
        report.write(finished / "out", out=tmp_path / name, say=lambda line: None)
    first = {file.name: file.read_bytes() for file in (tmp_path / "one/plots").iterdir()}
    assert {"hostile-uni8-curve.svg", "hostile-uni8-kept.svg"} == set(first)
    assert first == {file.name: file.read_bytes() for file in (tmp_path / "two/plots").iterdir()}
    page = (tmp_path / "one/report.html").read_text()
    assert page.count("<figure>") == 2
    assert page == (tmp_path / "two/report.html").read_text()


def test_without_matplotlib_there_are_all_tables_and_a_sentence(finished, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    report.write(finished / "out", out=tmp_path, say=lambda line: None)
    sentence = "This report has no plots, because matplotlib is missing: pip install 'recbole_disent[plots]'."
    assert sentence in (tmp_path / "report.md").read_text()
    assert "recbole_disent[plots]" in (tmp_path / "report.html").read_text()
    assert not (tmp_path / "plots").exists()
    text = (finished / "out/report.md").read_text()
    assert text.count("\n## ") == (tmp_path / "report.md").read_text().count("\n## ")


def chromium(*words: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium on this machine")
    usual = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
             "--disable-background-networking", "--disable-component-update", "--disable-sync",
             f"--user-data-dir={Path('browser').absolute()}"]  # fmt: skip
    return subprocess.run([program, *usual, *words], capture_output=True, text=True, timeout=120)


@pytest.mark.slow
def test_the_page_sorts_in_a_browser(finished):
    page = (finished / "out/report.html").read_text()
    script = """<script>
        var t = document.querySelector('table');
        var n = [...t.tHead.rows[0].cells].map(c => c.textContent).indexOf('ndcg@5');
        t.tHead.rows[0].cells[n].querySelector('button').click();
        document.title = 'sorted ' + [...t.tBodies[0].rows].map(r => r.cells[n].dataset.value).join(' ');
        </script></body>"""
    Path("sorted.html").write_text(page.replace("</body>", script))
    done = chromium("--dump-dom", Path("sorted.html").absolute().as_uri())
    assert done.returncode == 0, done.stderr
    values = [float(v) for v in re.search(r"<title>sorted ([^<]*)</title>", done.stdout)[1].split()]
    assert len(values) == 4
    assert values == sorted(values, reverse=True)


# -- stopped, killed, repeated ---------------------------------------------------------


@pytest.mark.slow
def test_one_and_two_runs_at_a_time_give_the_same_metrics(given):  # noqa: F811
    plan = {**given, "models": ["DisentS2S", "BPR"], "config": {**TINY, "epochs": 3}, "seeds": [1]}
    found = []
    for parallel in ("1", "2"):
        shutil.rmtree("out", ignore_errors=True)
        assert compare(plan, f"--parallel={parallel}") == 0
        ranks = {f.parent.name: np.load(f)["rank"].tolist() for f in Path("out").glob("runs/*/per_user.npz")}
        found.append(({k: v["test_result"] for k, v in results().items()}, ranks))
    assert found[0] == found[1]


@pytest.mark.slow
def test_a_run_killed_half_way_goes_on_and_ends_as_it_would_have(given):  # noqa: F811
    config = {**TINY, "epochs": 60, "stopping_step": 60, "learning_rate": 0.001}
    plan = {**given, "models": ["DisentS2S"], "seeds": [3], "config": config}
    Path("plan.yaml").write_text(yaml.safe_dump(plan))
    command = [sys.executable, "-m", "recbole_disent.cli", "compare", "plan.yaml", "--out=out"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    deadline = time.time() + 240
    while not list(Path("out").glob("runs/*/checkpoints/*.pth")) and time.time() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)  # not even the runner can tidy up
    process.wait()
    (status,) = Path("out").glob("runs/*/status.json")
    assert json.loads(status.read_text())["state"] == "running"
    time.sleep(1.5)
    assert not list(Path("out").glob("runs/*/result.json"))  # the orphan has ended
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    (resumed,) = results().values()
    assert resumed["resumed_from"] is not None
    subprocess.run([*command[:-1], "--out=whole"], check=True, stdout=subprocess.DEVNULL)
    (whole,) = results("whole").values()
    assert whole["resumed_from"] is None
    assert resumed["test_result"] == whole["test_result"]
    assert resumed["best_epoch"] == whole["best_epoch"]
    second = subprocess.run(command, check=True, capture_output=True, text=True)
    assert [line for line in second.stdout.splitlines() if "seed" in line] == []  # nothing is run


@pytest.mark.slow
def test_an_unreadable_checkpoint_is_left_behind(given):  # noqa: F811
    plan = {**given, "models": ["BPR"], "seeds": [1]}
    (one,) = make_plan(plan).runs()
    place = Path("out/runs") / one.id / "checkpoints"
    place.mkdir(parents=True)
    (place / "half.pth").write_bytes(b"half of it")
    assert compare(plan) == 0
    assert results()[one.id]["resumed_from"] is None


@pytest.mark.slow
@pytest.mark.parametrize("model", ["NeuMF", "FPMC", "GRU4Rec", "Caser", "SASRec", "BERT4Rec"])
def test_a_baseline_of_the_papers_resumes(hostile, model):
    from recbole_disent.leaderboard.worker import work

    spec = {"model": model, "dataset": "hostile", "seed": 1, "trial": None, "config": dict(TINY)}
    options = {"paths": {"data_path": str(hostile)}, "candidate_dir": "candidates", "threads": 1, "gpu": None,
               "keep_checkpoints": True, "command": [], "files": "f", "code": "c"}  # fmt: skip
    first = work(spec, options)
    longer = {**spec, "config": {**TINY, "epochs": 2}}
    second = work(longer, options)
    assert first["resumed_from"] is None
    assert second["resumed_from"] == 1
    assert second["epochs_run"] == 2
