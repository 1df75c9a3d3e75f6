"""Tests of what is said about a table: columns, times and data sets that are not used, read or kept."""

from __future__ import annotations

import logging
from pathlib import Path

import pandas as pd
import pytest

from recbole_disent import cli, run, tune
from recbole_disent.config.config import Config
from recbole_disent.errors import UserError
from recbole_disent.leaderboard import plots, report
from recbole_disent.tables import convert, prepare, read_catalogue
from recbole_disent.tables.events import read_events

TABLE = pd.DataFrame(
    {
        "price": [1.5] * 60,
        "timestamp_ms": [1_700_000_000_000 + n for n in range(60)],
        "article": [f"i{n * 7 % 10}" for n in range(60)],
        "customer id": [f"u{n % 6}" for n in range(60)],
    }
)


def test_columns_that_are_not_used_are_named():
    found = read_events(TABLE).summary
    assert found["columns"] == {"user": "customer id", "item": "article", "time": "timestamp_ms"}
    assert found["notes"][-1] == "columns that are not used: price"
    used = read_events(TABLE, rating="price").summary["notes"]
    assert not any("not used" in note for note in used)


@pytest.mark.parametrize(("time", "level"), [(None, logging.WARNING), (False, logging.INFO)])
def test_a_table_without_a_time_that_is_known_is_a_warning(caplog, time, level):
    caplog.set_level(logging.INFO)
    read_events(TABLE.rename(columns={"timestamp_ms": "moment"}), time=time)
    (said,) = [r for r in caplog.records if "there is no time column" in r.getMessage()]
    assert said.levelno == level
    assert "(the columns are price, moment, article, customer id; time=NAME names one)" in said.getMessage()


def test_a_data_set_that_is_replaced_is_named(tmp_path):
    first, second = (convert(TABLE, tmp_path / "shop")["notes"] for _ in range(2))
    assert not any("replaced" in note for note in first)
    assert second[-1] == f"the data set that was in {tmp_path / 'shop'} is replaced"


@pytest.mark.parametrize(
    ("times", "hint"),
    [
        (["07.03.2024 10:39", "08.03.2024 10:39"], "pandas.to_datetime"),
        (["2024-03-07 10:39", "08.03.2024 10:39"], "missing_time=drop"),
        (["2024-03-07 10:39", None], "missing_time=drop"),
        ([None, "08.03.2024 10:39"], "missing_time=drop"),
    ],
)
def test_the_hint_for_a_time_that_cannot_be_read_fits_the_column(times, hint):
    with pytest.raises(UserError) as caught:
        read_events(pd.DataFrame({"user": ["a", "b"], "item": ["x", "y"], "time": times}))
    hints = [text for text in ("pandas.to_datetime", "missing_time=drop") if text in str(caught.value)]
    assert hints == [hint]


@pytest.mark.parametrize(
    ("times", "missing", "unreadable", "first"),
    [
        (["2024-03-07", "", "8.3.2024", " ", "x"], 2, 2, "'8.3.2024' in column 'ts' (the DataFrame, row 2)"),
        (["1", None, "2", "x", "3"], 1, 1, "'x' in column 'ts' (the DataFrame, row 3)"),
        ([1.0, float("nan"), float("inf"), 2.0, 3.0], 1, 1, "inf in column 'ts' (the DataFrame, row 2)"),
        (pd.Categorical(["1", None, "", "x", "3"]), 2, 1, "'x' in column 'ts' (the DataFrame, row 3)"),
        ([1, 2, None, 3, 4], 1, 0, None),
    ],
)  # fmt: skip
def test_unreadable_times_are_not_counted_as_missing(caplog, times, missing, unreadable, first):
    table = pd.DataFrame({"user": list("aabbc"), "item": list("xyxyx"), "ts": times})
    summary = read_events(table, missing_time="drop").summary
    assert summary["dropped"]["missing_time"] == missing
    assert summary["dropped"]["unreadable_time"] == unreadable
    counts = f"{missing} missing time" + (f", {unreadable} unreadable time" if unreadable else "")
    assert summary["notes"][-1] == f"{missing + unreadable} of 5 rows are dropped ({counts})"
    warned = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warned) == bool(unreadable)
    if first is not None:
        expected = (
            f"some times cannot be read: {unreadable} of 5 rows are dropped for this, the first with {first}"
        )
        assert expected in warned[0]
        assert any(expected in note for note in summary["notes"])


def test_a_search_takes_a_table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    TABLE.to_csv("shop.csv", index=False)
    (tmp_path / "space.hyper").write_text("learning_rate choice [0.1, 0.01]\n")
    keys = {"data": "shop.csv", "epochs": 1, "show_progress": False, "topk": [2], "valid_metric": "NDCG@2"}
    study = tune("BPR", config_dict=keys, params_file="space.hyper", max_evals=2)
    assert [trial["status"] for trial in study.ranked()] == ["done", "done"]
    best = run(config_file_list=[f"{study.folder}/best.yaml"])
    assert best["best_valid_result"]["ndcg@2"] == study.best["score"]


def test_a_comparison_says_how_to_use_a_table(capsys):
    assert cli.main(["compare", "--models", "Pop", "--data=shop.csv"]) == 2
    assert "make one by 'recbole-disent convert FILE data/NAME', then give" in capsys.readouterr().err


def test_a_report_says_why_it_has_no_plots(make_keys, monkeypatch):
    def missing():
        raise UserError(plots.MISSING)

    folder = Path(run(config_dict=make_keys("Pop"))["result_file"]).parent
    monkeypatch.setattr(plots, "require", missing)
    said = []
    report.write(folder, say=said.append)
    assert said[-1] == plots.MISSING


def test_two_columns_of_ratings_leave_a_way_out_for_a_run(tmp_path):
    table = TABLE.assign(rating=1, stars=2)
    with pytest.raises(
        UserError, match=r"rating=rating, or rating=False for none \(a run has no such key: conv"
    ):
        read_events(table)


def test_a_column_may_be_named_by_a_number(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    TABLE.rename(columns={"customer id": "0", "article": "1"}).to_csv("shop.csv", index=False)
    words = ["--data=shop.csv", "--user=0", "--item=1"]
    config = Config("Pop", cmd_args=words)
    assert (config["user"], config["item"]) == ("0", "1")


def test_a_text_beside_numbers_is_the_fault(tmp_path):
    path = tmp_path / "e.jsonl"
    for ratings, line in ((('"3"', "4"), 1), (("4", '"3"'), 2)):
        rows = [f'{{"user": "u{n}", "item": "a", "time": {n}, "rating": {r}}}' for n, r in enumerate(ratings)]
        path.write_text("\n".join(rows) + "\n")
        with pytest.raises(
            UserError, match=f"line {line}: the rating in column 'rating' is '3', expected a n"
        ):
            read_events(path)


def test_differing_rows_of_an_item_are_named_by_their_lines(tmp_path):
    path = tmp_path / "items.csv"
    path.write_text("item,name\na,x\nb,y\na,z\n")
    with pytest.raises(
        UserError, match=r"line 4: the item 'a' has other values than in .*items.csv, line 2;"
    ):
        read_catalogue(path)


def test_the_working_directory_can_become_a_data_set(tmp_path, monkeypatch):
    folder = tmp_path / "at"
    folder.mkdir()
    monkeypatch.chdir(folder)
    assert convert(TABLE, ".")["files"] == [str(folder / "at.inter")]
    assert [path.name for path in folder.iterdir()] == ["at.inter"]


def test_a_table_that_changes_while_it_is_read_is_refused(tmp_path, monkeypatch):
    path, real = tmp_path / "shop.csv", read_events
    TABLE.to_csv(path, index=False)

    def late(*args, **options):
        TABLE[:30].to_csv(path, index=False)
        return real(*args, **options)

    monkeypatch.setattr("recbole_disent.tables.cache.read_events", late)
    with pytest.raises(UserError, match=r"shop.csv: a file of the tables changed while it was read"):
        prepare(path, cache_folder=tmp_path / "tables")
    assert not (tmp_path / "tables").exists()


def test_the_summary_of_a_table_in_memory_is_its_own(tmp_path):
    options = {"dedupe": "exact", "cache_folder": tmp_path}
    _, first, _ = prepare(TABLE, **options)
    _, second, summary = prepare(pd.concat([TABLE, TABLE]), **options)
    assert (summary["rows"], summary["dropped"]["duplicates"], summary["events"]) == (120, 60, 60)
    assert first != second
    assert prepare(TABLE, **options)[1:2] == (first,)


@pytest.mark.parametrize(("name", "text"), [("t.jsonl", "%s\n%s\n"), ("t.json", "[%s, %s]")])
def test_a_json_object_with_a_repeated_key_is_refused(tmp_path, name, text):
    rows = ('{"user": "a", "item": "x"}', '{"user": "b", "user": "c", "item": "x"}')
    (tmp_path / name).write_text(text % rows)
    with pytest.raises(UserError, match=r"the key 'user' appears twice in an object; give each key once"):
        read_events(tmp_path / name)


@pytest.mark.parametrize("cell", ["inf", "-Infinity", "1e400"])
def test_a_number_that_is_not_finite_does_not_get_into_a_table(tmp_path, cell):
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "shop.inter").write_text(
        f"user_id:token\titem_id:token\trating:float\nu\ti\t1\nu\tj\t{cell}\n"
    )
    with pytest.raises(UserError, match=rf"shop\.inter, line 3: rating is '{cell}', expected a number"):
        convert(tmp_path / "shop", tmp_path / "shop.jsonl")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("rating", "the rating in column 'rating' is 1000.*, expected a number"),
        ("ts", "which is too large for"),
    ],
)
def test_a_whole_number_that_no_float_holds_is_one_sentence(tmp_path, name, message):
    rows = [f'{{"user": "a", "item": "x", "{name}": {number}}}' for number in (7, 10**400, 8)]
    (tmp_path / "t.jsonl").write_text("\n".join(rows))
    with pytest.raises(UserError, match=rf"t\.jsonl, line 2: .*{message}"):
        read_events(tmp_path / "t.jsonl")
