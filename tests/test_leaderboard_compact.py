"""Tests of the compact form of results: it keeps all content of a report and detects damage."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from recbole_disent.errors import UserError
from recbole_disent.leaderboard import archive, report
from recbole_disent.leaderboard.compact import compact
from recbole_disent.leaderboard.stored import read_folders

OPTIONS = {"seeds": [1, 2], "resamples": 100, "config": {"epochs": 3}, "metrics": ["recall@5", "ndcg@5"]}
USERS = 40
STORED = sorted((Path(__file__).resolve().parent.parent / "results").glob("*/runs.csv"))


def quiet(line: str) -> None:
    """Ignore a line."""


def result(rng: np.random.Generator, ranks: np.ndarray, **more) -> dict:
    """Return the content of a result file with metrics at the cut-offs 5 and 10."""
    config = {"MODEL_TYPE": "SEQUENTIAL", "eval_args": {"mode": {"valid": "uni99", "test": "uni99"}},
              "epochs": 3, "stopping_step": 2, "valid_metric": "NDCG@10", "device": "cpu",
             "repeat_gate": True, "score_dtype": "bfloat16",
              "filter_history": None}  # fmt: skip
    tested = {"recall@5": float(np.mean(ranks <= 5)), "recall@10": float(np.mean(ranks <= 10)),
              "ndcg@5": rng.random(), "itemcoverage@50": 1 / 3}  # fmt: skip
    return {"schema": 1, "model": "BPR", "dataset": "d", "seed": 1, "test_result": tested,
            "best_valid_result": {"ndcg@10": 0.1}, "best_valid_score": 0.1, "valid_score_bigger": True,
            "best_epoch": 1, "epochs_run": 5, "seconds": {"train": 1.25, "evaluation": 0.1}, "parameters": 5,
            "peak_memory_mb": {"cpu": 100.5}, "processes": 1, "data_hash": "h", "content_hash": None,
            "candidate_hashes": {"test": "t", "valid": "v"}, "git_commit": None, "threads": 1,
            "versions": {"recbole_disent": "0.2.0", "ray": None}, "code": "c", "config": config,
            "refit": {"epochs": 2}, "intentions": {"cosine": 0.25, "entropy": 0.9, "won": [0.5, 0.3, 0.2]},
            **more}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    """Folder of a plan with two labels, two seeds, one broken run and one trial."""
    rng = np.random.default_rng(1)
    place = tmp_path / "out"
    runs = []
    cell = {"model": "BPR", "dataset": "d", "protocol": "uni99", "sweep": None, "trial": None}
    for label, seed in [("BPR", 1), ('a, "b"', 1), ("BPR", 2), ('a, "b"', 2)]:
        runs.append({"id": f"r{len(runs)}", "label": label, "seed": seed, **cell})
    trial = {**runs[0], "id": "t0", "trial": 0, "seed": 2020}
    search = {"label": "BPR", "dataset": "d", "protocol": "uni99", "trials": 1, "broken": 0, "epochs": 2,
              "chosen": {"trial": 0, "keys": {"b": 1, "a": 2e-7}, "valid": 0.1},
              "space": {"b": "1 | 2"}}  # fmt: skip
    plan = {"schema": 1, "command": ["x"], "options": OPTIONS, "labels": ["BPR"], "sweep": None,
            "searches": [search], "runs": runs, "trials": [trial]}  # fmt: skip
    place.mkdir()
    (place / "plan.json").write_text(json.dumps(plan))
    for entry in [*runs, trial]:
        run = place / "runs" / entry["id"]
        run.mkdir(parents=True)
        (run / "config.yaml").write_text("config: {epochs: 3, data_path: here, k: 1.0e-05}\n")
        if entry["id"] == "r3":
            (run / "status.json").write_text(
                json.dumps({"state": "broken", "error": "it was, say,\ntoo hot"})
            )
            continue
        ranks = rng.integers(1, 101, USERS)
        tested = {} if entry["trial"] is None else {"test_result": None}
        (run / "result.json").write_text(json.dumps(result(rng, ranks, seed=entry["seed"], **tested)))
        if entry["trial"] is None:
            users = np.arange(2, USERS + 2)
            np.savez_compressed(run / "per_user.npz", user=users, rank=ranks, history=users % 7 + 300,
                                popularity=users % 5)  # fmt: skip
    return place


def reports(place, out) -> dict[str, bytes]:
    report.write(place, out=out, say=quiet)
    return {str(file.relative_to(out)): file.read_bytes() for file in out.rglob("*.*")}


def test_the_report_is_the_same_byte_for_byte(folder, tmp_path):
    old = reports(folder, tmp_path / "old")
    compact(folder, delete=True, say=quiet)
    assert not (folder / "runs").exists()
    assert reports(folder, tmp_path / "new") == old
    text = old["report.md"].decode()
    assert "too hot" in text
    assert "comparisons" in text
    assert " 3 of 3 + 2 refit |" in text
    assert "| BPR | 3 | 0.2500 ± 0.0000 | 0.9000 ± 0.0000 | 0.2000 ± 0.0000 | 0.5000 ± 0.0000 |" in text
    assert "b=1; a=2e-07" in text


def change_results(folder, **keys):
    """Change keys of the configuration in some result files; r0: {key: value}."""
    for name, changed in keys.items():
        file = folder / "runs" / name / "result.json"
        found = json.loads(file.read_text())
        mode = {"mode": {"valid": "full", "test": "full"}}
        file.write_text(json.dumps({**found, "config": {**found["config"], "eval_args": mode, **changed}}))


def test_the_rule_for_the_history_is_kept(folder, tmp_path):
    """A general model that may recommend the history beside a sequential model, which does so."""
    repeats = {"MODEL_TYPE": "GENERAL", "repeatable": True}
    change_results(folder, r0=repeats, r1={}, r2=repeats)
    old = reports(folder, tmp_path / "old")
    compact(folder, delete=True, say=quiet)
    assert reports(folder, tmp_path / "new") == old


def test_results_without_a_report_are_not_deleted(folder):
    change_results(folder, r0={}, r1={"MODEL_TYPE": "GENERAL"}, r2={})
    with pytest.raises(UserError, match="the runs differ in filter_history"):
        compact(folder, delete=True, say=quiet)
    assert (folder / "plan.json").is_file()
    assert (folder / "runs" / "r1" / "result.json").is_file()


def test_an_archive_of_an_earlier_version_lacks_a_column(folder):
    compact(folder, say=quiet)
    file = folder / "runs.csv"
    first, _, rest = file.read_text().partition("\n")
    rows = list(csv.DictReader(io.StringIO(rest)))
    text = io.StringIO()
    out = csv.DictWriter(text, [n for n in rows[0] if n != "repeatable"], extrasaction="ignore")
    out.writeheader()
    out.writerows(rows)
    file.write_text(f"{first}\n{text.getvalue()}")
    assert "repeatable" not in archive.read(folder).results["r0"]["config"]


def test_results_outside_the_plan_are_not_deleted(folder):
    """The last compare had fewer models than a compare before, or fewer trials."""
    plan = json.loads((folder / "plan.json").read_text())
    left = [run for run in plan["runs"] if run["label"] == "BPR"]
    (folder / "plan.json").write_text(json.dumps({**plan, "runs": left}))
    with pytest.raises(
        UserError,
        match=r"--delete would delete 1 results that are not in the plan of the last compare, such as "
        r"'.*r1.*'; repeat compare with all models, move them, or leave --delete out",
    ):
        compact(folder, delete=True, say=quiet)
    assert (folder / "runs" / "r1" / "result.json").is_file()
    assert not (folder / "runs.csv").exists()
    compact(folder, say=quiet)
    shutil.rmtree(folder / "runs" / "r1")
    compact(folder, delete=True, say=quiet)
    assert not (folder / "runs").exists()


def test_what_a_result_file_says_is_kept(folder):
    before = read_folders(folder)
    compact(folder, say=quiet)
    after = archive.read(folder)
    assert after.plan == before.plan
    assert (after.runs, after.trials, after.errors) == (before.runs, before.trials, before.errors)
    for name, found in before.results.items():
        expected = {k: v for k, v in found.items() if k != "schema"}
        assert after.results[name] == expected
    assert after.given["r0"] == {"k": 1e-5}  # what the whole plan shares stands in the plan
    assert after.users.keys() == before.users.keys()
    for name, users in before.users.items():
        for about in ("user", "history", "popularity"):
            assert np.array_equal(after.users[name][about], users[about])
        # recall@10 has the largest cut-off: itemcoverage@50 is no metric of ranks.
        assert np.array_equal(after.users[name]["rank"], np.minimum(users["rank"], 11))


def test_without_ranks_there_are_no_tests_over_users(folder, tmp_path):
    compact(folder, say=quiet)
    compact(folder, delete=True, with_ranks=False, say=quiet)
    assert not (folder / "ranks.npz").exists()
    text = reports(folder, tmp_path / "new")["report.md"].decode()
    assert "Rows without stored ranks of users have no tests." in text
    assert "comparisons" not in text


def test_the_same_results_give_the_same_bytes(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    for place in (folder, tmp_path / "copy"):
        compact(place, say=quiet)
    for name in ("runs.csv", "ranks.npz"):
        assert (folder / name).read_bytes() == (tmp_path / "copy" / name).read_bytes()


def test_checkpoints_are_not_deleted(folder):
    (folder / "runs/r0/checkpoints").mkdir()
    (folder / "runs/r0/checkpoints/model.pth").write_bytes(b"weights")
    with pytest.raises(UserError, match=r"would delete the checkpoint '.*model.pth'; move it, or leave"):
        compact(folder, delete=True, say=quiet)
    assert (folder / "runs/r1/result.json").is_file()


def test_runs_without_a_result_are_told(folder):
    said = []
    compact(folder, say=said.append)
    assert said[0] == "1 of 5 runs and trials have no result"


def change(text: str, line: int, old: str, new: str) -> str:
    lines = text.split("\n")
    assert old in lines[line - 1]
    lines[line - 1] = lines[line - 1].replace(old, new, 1)
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda t: t[50:], r"runs.csv, line 1: got .*, expected '#' and the plan as JSON"),
        (lambda t: "", r"runs.csv, line 1: got '', expected '#'"),
        (lambda t: change(t, 1, '"searches"', '"x"'), r"runs.csv, line 1: got"),
        (lambda t: change(t, 1, '"schema": 1', '"schema": 9'), r"line 1: got schema 9, expected 1"),
        (lambda t: change(t, 2, "parameters,", ""), r"line 2: the column 'parameters' is missing"),
        (lambda t: change(t, 2, "test:recall@5", "more"), r"line 2: the column 'more' is unknown"),
        (lambda t: change(t, 2, "test:recall@5", "test:recall@10"), r"'test:recall@10' appears twice"),
        (lambda t: change(t, 3, ",1.25,", ",1.2.5,"), r"line 3: train_seconds: got '1.2.5', expected a num"),
        (lambda t: change(t, 4, ",1.25,", ",,"), r"line 4: train_seconds: got '', expected a number"),
        (lambda t: change(t, 3, ",true,", ",yes,"), r"line 3: valid_score_bigger: got 'yes', expected true"),
        (lambda t: change(t, 3, "uni99", "uni99,"), r"line 3: got \d+ cells, expected \d+"),
        (lambda t: change(t, 3, '"{', '"'), r"line 3: refit: got .*, expected JSON"),
        (lambda t: change(t, 3, "BPR", '"B"PR'), r"line 3: expected CSV"),
        (lambda t: t[: t.index("\nr2,") + 1], r"runs.csv: got 2 runs and trials, but line 1 says 5"),
        (lambda t: t + t.split("\n")[2] + "\n", r"line 9: the run r0 of BPR appears twice"),
    ],
)  # fmt: skip
def test_a_damaged_table_is_one_sentence(folder, damage, message):
    compact(folder, delete=True, say=quiet)
    file = folder / "runs.csv"
    file.write_text(damage(file.read_text()))
    with pytest.raises(UserError, match=message) as caught:
        archive.read(folder)
    assert "restore the file, or compact the run folders again" in str(caught.value) or "schema" in message
    assert "\n" not in str(caught.value)


def test_a_file_of_a_version_without_a_column_is_read(folder):
    compact(folder, delete=True, say=quiet)
    file = folder / "runs.csv"
    whole = archive.read(folder)
    first, *rows = file.read_text().split("\n", 1)
    rows = list(csv.reader(io.StringIO(rows[0])))
    place = rows[0].index("refit")
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(row[:place] + row[place + 1 :] for row in rows)
    file.write_text(f"{first}\n{text.getvalue()}")
    older = archive.read(folder)
    for name, found in whole.results.items():
        assert found.pop("refit") == {"epochs": 2}
        assert older.results[name] == found


def test_damaged_or_missing_ranks_are_one_sentence(folder):
    compact(folder, delete=True, say=quiet)
    file = folder / "ranks.npz"
    content = file.read_bytes()
    file.write_bytes(content[:100] + b"x" + content[101:])
    with pytest.raises(UserError, match=r"ranks.npz: got the digest \w+, expected \w+ \(line 1"):
        archive.read(folder)
    file.unlink()
    with pytest.raises(
        UserError, match=r"ranks.npz: No such file or directory, but runs.csv names this file"
    ):
        archive.read(folder)


@pytest.mark.parametrize("damage", ["no zip", "objects", "shape", "lacking"])
def test_ranks_that_are_none_are_one_sentence_whatever_the_digest_says(folder, damage):
    """Nothing in a foreign file is unpickled, even with the right digest."""
    compact(folder, delete=True, say=quiet)
    with np.load(folder / "ranks.npz") as stored:
        arrays = dict(stored)
    if damage == "objects":
        arrays["rank_0"] = np.array([{}], dtype=object)
    elif damage == "shape":
        arrays["rank_0"] = arrays["rank_0"][1:]
    elif damage == "lacking":
        del arrays["history_0"]
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    made = b"no zip" if damage == "no zip" else content.getvalue()
    text = (folder / "runs.csv").read_text()
    old = json.loads(text.partition("\n")[0][1:])["ranks"]
    (folder / "runs.csv").write_text(text.replace(old, archive._digest(made), 1))
    (folder / "ranks.npz").write_bytes(made)
    with pytest.raises(UserError, match=r"ranks.npz: expected a file of ranks \(.*\); restore the file"):
        archive.read(folder)


# -- the results of this project -------------------------------------------------------


@pytest.mark.parametrize("file", STORED, ids=lambda file: file.parent.name)
def test_stored_results_have_every_run_of_their_plan(file):
    found = archive.read(file.parent)
    assert not found.errors
    options = found.plan["options"]
    values = [value for values in (options["sweep"] or {"none": [None]}).values() for value in values]
    expected = (len(found.plan["labels"]) * len(options["seeds"]) * len(values)
                * len(options["datasets"]) * len(options["protocols"]))  # fmt: skip
    assert len(found.runs) == expected
    assert len(found.trials) == sum(search["trials"] for search in found.plan["searches"])
    assert found.users.keys() in (set(), {entry["id"] for entry in found.runs})


@pytest.mark.parametrize("name", ["modes-longer", "toys-intentions"])
def test_a_stored_report_is_made_again(name, tmp_path):
    pytest.importorskip("matplotlib", reason="without the extra plots a report has one more line")
    (file,) = [file for file in STORED if file.parent.name == name]
    report.write(file.parent, out=tmp_path, say=quiet)
    assert (tmp_path / "report.md").read_bytes() == (file.parent / "report.md").read_bytes()


def test_a_report_with_another_reference(tmp_path):
    """Every comparison in the documentation has a command that shows it."""
    (stored,) = [file.parent for file in STORED if file.parent.name == "toys-candidates"]
    report.write(stored, out=tmp_path, reference="GRU4Rec", say=quiet)
    rows = [line.split(" | ") for line in (tmp_path / "report.md").read_text().splitlines()]
    compared = {(row[0].strip("| "), row[1]) for row in rows if len(row) == 9 and row[2] == "ndcg@10"}
    assert compared == {("GRU4Rec", other) for other in ("SASRec", "DisentS2S", "DisentS2S (1)")}
    with pytest.raises(UserError, match="--reference: got 'GRU', expected one of SASRec, DisentS2S"):
        report.write(stored, out=tmp_path, reference="GRU", say=quiet)
