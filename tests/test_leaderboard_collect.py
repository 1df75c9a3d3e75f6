"""Tests of collecting results: rows, results that are left out, and results that cannot be compared."""

from __future__ import annotations

import json

import pytest

from recbole_disent.errors import UserError
from recbole_disent.leaderboard.collect import collect
from recbole_disent.leaderboard.tables import main_table, search_budget_table

OPTIONS = {"alpha": 0.05, "resamples": 100, "statistics_seed": 1, "seeds": [1, 2]}


def result(model="SASRec", kind="SEQUENTIAL", seed=1, mode="full", **more):
    """Return the content of a result file."""
    keys = {"MODEL_TYPE": kind, "eval_args": {"mode": {"valid": mode, "test": mode}}, "epochs": 3,
            "stopping_step": 2, "valid_metric": "NDCG@10"}  # fmt: skip
    return {"schema": 1, "model": model, "dataset": "d", "seed": seed, "test_result": {"ndcg@10": 0.5},
            "best_valid_score": 0.5, "valid_score_bigger": True, "data_hash": "h", "candidate_hashes": {},
            "best_valid_result": None, "best_epoch": 1, "versions": {"recbole_disent": "0.3.0"},
            "git_commit": None, "epochs_run": 3,
            "seconds": {"train": 1.0}, "peak_memory_mb": {"cpu": 1.0}, "parameters": 5,
            "config": {**keys, **more.pop("config", {})}, **more}  # fmt: skip


def write(folder, **files):
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))


def filters(value):
    return {"config": {"filter_history": value}}


@pytest.mark.parametrize(
    ("first", "second", "alike"),
    [
        ({}, {"model": "BPR", "kind": "GENERAL"}, False),  # the rule of RecBole: two
        (filters(False), {"model": "BPR", "kind": "GENERAL", **filters(None)}, False),
        (filters(True), {"model": "BPR", "kind": "GENERAL"}, True),
        (filters(False), {"model": "GRU4Rec"}, True),
        (filters(True), {"model": "GRU4Rec"}, False),
        ({"mode": "uni8"}, {"model": "BPR", "kind": "GENERAL", "mode": "uni8"}, True),  # no part of it
    ],
)
def test_one_rule_for_the_history_whatever_the_key_says(tmp_path, first, second, alike):
    write(tmp_path, a=result(**first), b=result(**second))
    if alike:
        assert len(collect(tmp_path).groups[0].filled) == 2
    else:
        with pytest.raises(UserError, match=r"runs differ in filter_history \(False, True\)"):
            collect(tmp_path)


@pytest.mark.parametrize(
    ("key", "other", "told"),
    [("repeat_gate", True, "False, True"), ("score_dtype", "bfloat16", "bfloat16, float32")],
)
def test_runs_that_rank_in_different_ways_are_not_compared(tmp_path, key, other, told):
    # The first file is from a version that lacks the key.
    write(tmp_path, a=result(), b=result(model="GRU4Rec", config={key: other}))
    with pytest.raises(UserError, match=rf"runs differ in {key} \({told}\) and cannot be compared"):
        collect(tmp_path)


def test_runs_with_and_without_a_refit_are_not_compared(tmp_path):
    again = {"refit": {"steps": 9, "epochs": 2, "rows": 30}}
    write(tmp_path, a=result(**again), b=result("GRU4Rec", **again))
    assert len(collect(tmp_path).groups[0].filled) == 2
    write(tmp_path, b=result("GRU4Rec", refit=None))
    with pytest.raises(UserError, match="d, full: some runs were refitted with the validation part and oth"):
        collect(tmp_path)


def test_files_that_are_no_tested_run_are_left_out(tmp_path):
    study = {"id": "a", "number": 0, "values": {}, "score": 0.5, "test_result": {"ndcg@10": 0.5}}
    write(
        tmp_path, run=result(), trial=result(seed=2, test_result=None), study=study, other=[1], more={"a": 1}
    )
    (group,) = collect(tmp_path).groups
    (row,) = group.rows
    assert row.seeds == [1]
    (tmp_path / "run.json").unlink()
    with pytest.raises(UserError, match="expected a folder with result files"):
        collect(tmp_path)


def plan_folder(folder, found, searches=()):
    cell = {"label": "SASRec", "dataset": "d", "protocol": "full", "sweep": None}
    runs = [{**cell, "seed": seed, "id": f"r{seed}"} for seed in OPTIONS["seeds"]]
    write(folder, plan={"runs": runs, "trials": [], "searches": list(searches), "sweep": None,
                        "options": OPTIONS, "command": []})  # fmt: skip
    for run, content in zip(runs, found, strict=True):
        (folder / "runs" / run["id"]).mkdir(parents=True)
        write(folder / "runs" / run["id"], result=content)


def test_a_run_of_a_plan_without_a_test_result_is_told(tmp_path):
    plan_folder(tmp_path, [result(), result(seed=2, test_result=None)])
    (row,) = collect(tmp_path).groups[0].rows
    assert row.seeds == [1]
    assert row.errors == {2: "the result file has no test result; --redo repeats the run"}


def test_a_damaged_plan_is_named(tmp_path):
    plan_folder(tmp_path, [result(), result(seed=2)])
    plan = json.loads((tmp_path / "plan.json").read_text())
    del plan["runs"][1]["sweep"]
    write(tmp_path, plan=plan)
    with pytest.raises(UserError, match=r"plan\.json: runs, number 1: the key 'sweep' is missing"):
        collect(tmp_path)


def test_a_model_whose_trials_all_broke_stays_in_the_report(tmp_path):
    search = {"label": "BPR", "dataset": "d", "trials": 4, "broken": 4, "epochs": None, "chosen": None,
              "space": {"learning_rate": "0.1 | 0.2"}}  # fmt: skip
    # In the second group nothing else has a result, either.
    searches = [{**search, "protocol": "full"}, {**search, "protocol": "uni8"}]
    plan_folder(tmp_path, [result(), result(seed=2)], searches)
    found = collect(tmp_path)
    group, alone = found.groups
    assert [row.label for row in group.filled] == ["SASRec"]
    assert not alone.filled
    notes = main_table(group, ["ndcg@10"], OPTIONS).notes
    assert [f"Not in the table: BPR, seed {s}: all 4 trials of its search are broken." for s in (1, 2)] == [
        note for note in notes if "BPR" in note
    ]
    rows = [[cell.text for cell in row] for row in search_budget_table(found).rows]
    broken = [
        "BPR",
        "4 (4 broken)",
        "-",
        "-",
        "-",
        "none, because every trial is broken",
        "learning_rate: 0.1 | 0.2",
    ]
    assert rows == [
        [
            "d, full",
            "SASRec",
            "none",
            "-",
            "3",
            "3 validations without improvement of NDCG@10",
            "as given",
            "-",
        ],
        ["d, full", *broken],
        ["d, uni8", *broken],
    ]


def test_results_with_other_settings_are_no_seeds_of_one_row(tmp_path):
    def setting(seed, **keys):
        return result("BPR", "GENERAL", seed, config=keys)

    write(tmp_path, a=setting(1, learning_rate=0.1, gpu_id="0"), b=setting(2, learning_rate=0.01, gpu_id="1"))
    with pytest.raises(
        UserError, match=r"the results of BPR differ in learning_rate \(0.01, 0.1\); .* --by learning_rate"
    ):
        collect(tmp_path)
    found = collect(tmp_path, by=["learning_rate"]).groups[0].rows
    assert [(row.label, row.seeds) for row in found] == [
        ("BPR learning_rate=0.1", [1]), ("BPR learning_rate=0.01", [2])]  # fmt: skip
    # Where a run was executed and which metrics it reports are no settings, and a new key is none either.
    write(tmp_path, b=setting(2, learning_rate=0.1, gpu_id="1", topk=[1], a_new_key=1))
    assert [row.seeds for row in collect(tmp_path).groups[0].rows] == [[1, 2]]


def test_keys_of_rows_that_no_result_has_are_refused(tmp_path):
    write(tmp_path, a=result(config={"learning_rate": 0.1}))
    with pytest.raises(
        UserError, match=r"--by: no result has the key 'learnin_rate'; did you mean 'learning_rate'\?"
    ):
        collect(tmp_path, by=["learnin_rate"])


def test_two_results_of_a_seed_are_named_with_a_way_out_that_works(tmp_path):
    rate = {"learning_rate": 0.1}
    write(tmp_path, a=result(config=rate), b=result(config={**rate, "gpu_id": "1", "topk": [3]}))
    both = r"report: '.*a\.json' and '.*b\.json' are both results of SASRec, seed 1; "
    with pytest.raises(UserError, match=f"{both}their settings are the same, so remove one of the two files"):
        collect(tmp_path)
    write(tmp_path, b=result(config={"learning_rate": 0.2}))
    with pytest.raises(UserError, match=f"{both}they differ in learning_rate; .* such as --by learning_rate"):
        collect(tmp_path)
    assert len(collect(tmp_path, by=["learning_rate"]).groups[0].rows) == 2


def test_seeds_with_other_item_content_are_no_row(tmp_path):
    write(tmp_path, a=result(seed=1, content_hash="x"), b=result(seed=2, content_hash="x"))
    assert len(collect(tmp_path).groups[0].filled) == 1
    write(tmp_path, b=result(seed=2, content_hash="y"))
    with pytest.raises(UserError, match="the runs of SASRec differ in content_hash"):
        collect(tmp_path)


def test_runs_on_several_devices_are_told_apart(tmp_path):
    on = {device: {"config": {"device": device}} for device in ("cpu", "cuda")}
    write(tmp_path, a=result(**on["cpu"]), b=result(seed=2, **on["cuda"]), c=result("GRU4Rec", **on["cuda"]))
    table = main_table(collect(tmp_path).groups[0], ["ndcg@10"], OPTIONS)
    assert table.head[-1] == "device"
    assert sorted(row[-1].text for row in table.rows) == ["cpu, cuda", "cuda"]
    write(tmp_path, a=result(**on["cuda"]))
    assert "device" not in main_table(collect(tmp_path).groups[0], ["ndcg@10"], OPTIONS).head
