"""Tests of tables as data sets: the cache, conversions, and equality with atomic files."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pandas as pd
import pytest
import recbole

from recbole_disent.errors import UserError
from recbole_disent.quick_start import run
from recbole_disent.tables import convert, from_atomic, prepare

ML = Path(recbole.__file__).parent / "dataset_example"
CSV = "user,item,ts\n" + "".join(f"{u},{i},{10 * u + i}\n" for u in range(3) for i in range(4))


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "my events.csv"
    path.write_text(CSV, encoding="utf-8")
    return path


def test_a_second_call_uses_the_same_folder(table, tmp_path, monkeypatch):
    path, name, summary = prepare(table, min_user=2)
    assert path == "dataset/tables"
    assert name.startswith("my-events-")
    assert not summary["reused"]
    assert sorted(os.listdir(Path(path) / name)) == [f"{name}.inter", "summary.json"]
    assert not [file for file in os.listdir(path) if file.endswith(".tmp")]
    monkeypatch.setattr("recbole_disent.tables.cache.read_events", None)  # not called again
    again = prepare(table, min_user=2)
    assert again == (path, name, {**summary, "reused": True})


@pytest.mark.parametrize("change", ["content", "argument", "catalogue", "items of the catalogue"])
def test_what_changed_makes_another_folder(change, table, tmp_path):
    items = tmp_path / "items.csv"
    items.write_text("item,title\n0,a\n1,b\n", encoding="utf-8")
    with_items = change == "items of the catalogue"
    first = prepare(table, items if with_items else None)
    if change == "content":
        table.write_text(CSV + "9,9,9\n", encoding="utf-8")
        second = prepare(table)
    elif change == "argument":
        second = prepare(table, min_item=1)
    elif change == "catalogue":
        second = prepare(table, items)
    else:
        items.write_text("item,title\n0,a\n1,c\n", encoding="utf-8")
        second = prepare(table, items)
    assert second[1] != first[1]
    assert not second[2]["reused"]


def test_frames_are_told_apart_by_their_content(table):
    frame = pd.read_csv(table)
    _, name, summary = prepare(frame)
    assert (name.startswith("table-"), summary["reused"]) == (True, False)
    assert prepare(frame.copy())[1:] == (name, {**summary, "reused": True})
    frame.loc[0, "item"] = 3
    assert prepare(frame)[1] != name


@pytest.mark.parametrize("damage", ["no summary", "cut file", "no file", "broken summary"])
def test_a_half_written_folder_is_not_used(damage, table):
    path, name, _ = prepare(table)
    folder = Path(path) / name
    whole = (folder / f"{name}.inter").read_bytes()
    if damage == "no summary":
        (folder / "summary.json").unlink()
    elif damage == "broken summary":
        (folder / "summary.json").write_text('{"sizes":', encoding="utf-8")
    elif damage == "cut file":
        (folder / f"{name}.inter").write_bytes(whole[:20])
    else:
        (folder / f"{name}.inter").unlink()
    assert prepare(table)[1:] == (name, prepare(table)[2] | {"reused": False})
    assert (folder / f"{name}.inter").read_bytes() == whole


def test_a_failure_leaves_no_folder(table, monkeypatch):
    def fail(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("recbole_disent.tables.cache.write_text", fail)
    with pytest.raises(KeyboardInterrupt):
        prepare(table)
    assert os.listdir("dataset/tables") == []


def test_a_catalogue_becomes_the_item_file(table, tmp_path):
    items = pd.DataFrame({"item": [0, 1, 9], "title": ["a\nb", "Ü", "NA"], "price": [1.5, None, 2]})
    path, name, summary = prepare(table, items)
    text = (Path(path) / name / f"{name}.item").read_text(encoding="utf-8")
    assert text == "item_id:token\ttitle:token_seq\tprice:float\n0\ta b\t1.5\n1\tÜ\t\n9\t NA\t2.0\n"
    about = summary["catalogue"]
    assert (about["items_without_row"], about["rows_without_event"], about["texts_changed"]) == (2, 1, 1)
    json.dumps(summary)
    with pytest.raises(UserError, match=r"no item of the events is in column 'item', .* such as 'x'"):
        prepare(table, pd.DataFrame({"item": ["x"], "title": ["y"]}))


def test_faulty_arguments_get_one_sentence(table, tmp_path):
    with pytest.raises(UserError, match="data: got None"):
        prepare(None)
    with pytest.raises(UserError, match="items: there is no file"):
        prepare(table, tmp_path / "none.csv")
    with pytest.raises(UserError, match="user: got 'usr'"):
        prepare(table, user="usr")
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(UserError, match=r"cache_folder: .* cannot be written to"):
        prepare(table, cache_folder=tmp_path / "file")


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_conversion_there_and_back(ending, table, tmp_path):
    if ending == ".parquet":
        pytest.importorskip("pyarrow")
    items = pd.DataFrame({"item": [0, 1], "title": ["a, b", 'c"d'], "price": [1.5, 0.1]})
    done = convert(table, tmp_path / "data" / "shop", items=items)
    assert [Path(file).name for file in done["files"]] == ["shop.item", "shop.inter"]
    assert done["events"] == 12
    done = convert(tmp_path / "data" / "shop", tmp_path / f"shop{ending}")
    assert [Path(file).name for file in done["files"]] == [f"shop{ending}", f"shop-items{ending}"]
    assert (done["events"], done["items"]) == (12, 2)
    events, catalogue = (Path(file) for file in done["files"])
    content = events.read_bytes()
    for lost, kept in ((None, events), (events, catalogue)):  # neither file is replaced
        if lost:
            lost.unlink()
        with pytest.raises(UserError, match=rf"out: the file '{kept}' is there already; give another name"):
            convert(tmp_path / "data" / "shop", events)
    events.write_bytes(content)
    convert(events, tmp_path / "back" / "shop", items=catalogue)
    for kind in ("inter", "item"):
        files = [tmp_path / folder / "shop" / f"shop.{kind}" for folder in ("data", "back")]
        assert files[0].read_bytes() == files[1].read_bytes()


def test_faulty_conversions_get_one_sentence(table, tmp_path):
    items = pd.DataFrame({"item": ["x"], "title": ["y"]})
    with pytest.raises(UserError, match=r"no item of the events is in column 'item', .* such as 'x'"):
        convert(table, tmp_path / "shop", items=items)
    assert not (tmp_path / "shop").exists()
    convert(table, tmp_path / "shop")
    with pytest.raises(UserError, match=r"source: there is no file or folder .*shp; did you mean 'shop'\?"):
        convert(tmp_path / "shp", tmp_path / "back.csv")
    Path("empty").mkdir()
    with pytest.raises(
        UserError, match=r"^source: the folder empty has no file empty.inter, expected a data"
    ):
        convert("empty", "back.csv")
    with pytest.raises(UserError, match=r"^source: there is no file or folder a/b; give the path of a table"):
        convert("a/b", tmp_path / "back.csv")
    with pytest.raises(UserError, match=r"out: got .*shop.xls', expected a file that ends with .csv"):
        convert(tmp_path / "shop", tmp_path / "shop.xls")
    with pytest.raises(UserError, match="min_user: the option has no effect"):
        convert(tmp_path / "shop" / "shop.inter", tmp_path / "a.csv", min_user=5)
    with pytest.raises(UserError, match=r"out: got .*shop.inter', expected the folder of the data set"):
        convert(table, tmp_path / "shop" / "shop.inter")


def movielens(kind: str, folder: Path):
    """Return ML-100K in another format."""
    if kind in ("csv", "jsonl", "parquet"):
        convert(ML / "ml-100k", folder / f"m.{kind}")
        return folder / f"m.{kind}"
    events = from_atomic(ML, "ml-100k")[0].astype({"user_id": int, "item_id": int})
    dates = pd.to_datetime(events["timestamp"], unit="s")
    if kind == "dates in csv":
        events.assign(timestamp=dates).to_csv(folder / "m.csv", index=False)
        return folder / "m.csv"
    return events.assign(timestamp=dates.dt.tz_localize("UTC")) if kind == "frame of dates" else events


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    os.chdir(tmp_path_factory.mktemp("reference"))
    return trained("ml-100k", str(ML))


def trained(name: str, path: str | None) -> dict:
    keys = {
        "epochs": 1, "load_col": {"inter": ["user_id", "item_id", "rating", "timestamp"]}, "data_path": path,
        "show_progress": False,
    }  # fmt: skip
    return run("BPR", name, config_dict=keys, saved=False)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "frame", "dates in csv", "frame of dates"])
def test_movielens_in_any_form_gives_the_result_of_the_atomic_files(kind, reference, tmp_path):
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    path, name, summary = prepare(movielens(kind, tmp_path))
    assert summary["columns"]["rating"] == "rating"
    assert (Path(path) / name / f"{name}.inter").read_bytes() == (
        ML / "ml-100k" / "ml-100k.inter"
    ).read_bytes()
    found = trained(name, path)
    for key in ("data_hash", "test_result", "best_valid_result", "rows"):
        assert found[key] == reference[key]
