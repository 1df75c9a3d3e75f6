"""Tests of tables of events: sources, columns, ids, cleaning and errors."""

from __future__ import annotations

import gzip
import json
import sys
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from recbole_disent.errors import UserError
from recbole_disent.tables import read_catalogue, read_events
from recbole_disent.tables.clean import duplicates, k_core
from recbole_disent.tables.columns import choose_columns, guess

pa = pytest.importorskip("pyarrow")

# An id with leading zeros, a comma, a quote, a blank, and other scripts.
ROWS = [("007", "a,b", 30), ("007", 'c"d', 10), ("Ünal", "青 い", 20), ("7", "a,b", 10)]
FRAME = pd.DataFrame(ROWS, columns=["userId", "movieId", "timestamp"])
TEXT = 'userId,movieId,timestamp\n007,"a,b",30\n007,"c""d",10\n\nÜnal,青 い,20\n7,"a,b",10\n'


def lines(frame: pd.DataFrame) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in frame.to_dict("records"))


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


def source(kind: str, folder: Path):
    """Return the table of FRAME in one of its formats."""
    if kind == "csv":
        return write(folder / "e.csv", TEXT)
    if kind == "csv with mark":
        return write(folder / "e.csv", b"\xef\xbb\xbf" + TEXT.replace("\n", "\r\n").encode())
    if kind == "csv semicolon":
        return write(folder / "e.csv", FRAME.to_csv(index=False, sep=";"))
    if kind == "csv.gz":
        return write(folder / "e.csv.gz", gzip.compress(TEXT.encode()))
    if kind == "tsv":
        return str(write(folder / "e.tsv", FRAME.to_csv(index=False, sep="\t")))
    if kind == "jsonl":
        return write(folder / "e.jsonl", lines(FRAME) + "\n")
    if kind == "json array":
        return write(folder / "e.json", json.dumps(FRAME.to_dict("records")))
    if kind == "parquet":
        FRAME.to_parquet(folder / "e.parquet")
        return folder / "e.parquet"
    if kind == "parquet parts":
        parts = folder / "parts"
        (parts / "_delta_log").mkdir(parents=True)
        write(parts / "_SUCCESS", "")
        write(parts / "_delta_log" / "x.parquet", "none")
        FRAME[:1].to_parquet(parts / "part-2.parquet")
        FRAME[1:].to_parquet(parts / "part-10.parquet")
        return parts
    if kind == "frame":
        return FRAME.set_index(np.array([5, 5, 1, 0]))
    if kind == "categories":
        return FRAME.astype({"userId": "category", "movieId": "string", "timestamp": "Int64"})
    if kind == "arrow":
        return pa.Table.from_pandas(FRAME)
    if kind == "polars":
        return pytest.importorskip("polars").DataFrame(FRAME.to_dict("list"))
    assert kind == "protocol"

    class Foreign:
        def __dataframe__(self, *args, **kwargs):
            return FRAME.__dataframe__(*args, **kwargs)

    return Foreign()


KINDS = ["csv", "csv with mark", "csv semicolon", "csv.gz", "tsv", "jsonl", "json array", "parquet",
         "parquet parts", "frame", "categories", "arrow", "polars", "protocol"]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_source_gives_the_same_events(kind, tmp_path):
    found = read_events(source(kind, tmp_path))
    frame = found.frame.astype({"user_id": object, "item_id": object})
    assert frame.to_numpy().tolist() == [list(row) for row in ROWS]
    assert frame["timestamp"].dtype == np.int64
    assert found.summary["guessed"] == ["user", "item", "time"]
    assert found.summary["columns"] == {"user": "userId", "item": "movieId", "time": "timestamp"}
    json.dumps(found.summary)


def test_another_encoding_has_to_be_named(tmp_path):
    path = write(tmp_path / "e.csv", TEXT.replace("青 い", "ö").encode("cp1252"))
    with pytest.raises(UserError, match=r"line 5: a byte is not utf-8 .*encoding='cp1252'"):
        read_events(path)
    assert read_events(path, encoding="cp1252").frame["item_id"][2] == "ö"
    with pytest.raises(UserError, match="encoding: got 'klingon'"):
        read_events(path, encoding="klingon")


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([1, 2], ["1", "2"]),
        (pd.array([2**62 + 1, 3], dtype="Int64"), [str(2**62 + 1), "3"]),
        (np.array([2**64 - 1, 0], dtype="uint64"), [str(2**64 - 1), "0"]),
        ([1.0, -0.0], ["1", "0"]),
        ([Decimal("7"), Decimal("1E+1")], ["7", "10"]),
        ([" a", "a "], [" a", "a "]),
        (pd.Categorical([5, 6]), ["5", "6"]),
    ],
)
def test_ids_become_text(values, wanted):
    frame = pd.DataFrame({"user": values, "item": ["x", "y"], "ts": [1, 2]})
    assert list(read_events(frame).frame["user_id"]) == wanted


def test_large_integers_with_missing_cells_stay_exact(tmp_path):
    table = pa.table({"user": ["a", "b", "c"], "item": [2**60 + 1, 2, 3], "ts": [2**60 + 1, None, 2**60 + 3]})
    found = read_events(table, missing_time="drop")
    assert list(found.frame["item_id"]) == [str(2**60 + 1), "3"]
    assert found.summary["dropped"]["missing_time"] == 1
    records = [{"user": "a", "item": 2**60 + 1, "rating": 1}, {"user": "b", "item": 7, "rating": None}]
    path = write(tmp_path / "e.jsonl", "".join(json.dumps(r) + "\n" for r in records))
    frame = read_events(path).frame
    assert list(frame["item_id"]) == [str(2**60 + 1), "7"]
    assert frame["rating"].isna().tolist() == [False, True]


GOOD = {"user": ["a", "b"], "item": ["x", "y"], "ts": [1, 2]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"user": ["a", None]}, "the DataFrame, row 1: the user is missing; expected an id in column 'user'"),
        ({"user": ["a", ""]}, "row 1: the user is missing"),
        ({"user": [np.nan, 1.0]}, "row 0: the user is missing"),
        ({"user": ["a", "  "]}, "row 1: .* the id is blank"),
        ({"user": ["a", "NULL"]}, "row 1: the user in column 'user' is 'NULL'; RecBole reads this text"),
        ({"user": ["a", "b\tc"]}, "row 1: .* an id cannot contain a tab"),
        ({"user": ["a", "b\nc"]}, "row 1: .* an id cannot contain a newline"),
        ({"user": ["a", '"b']}, "row 1: .* double quote at the beginning"),
        ({"item": [1.5, 2.0]}, "row 0: the item in column 'item' is 1.5; an id has to be a text or a whole"),
        ({"item": [2.0**53, 2.0]}, "row 0: .* below 2\\^53; store the id as text"),
        ({"item": ["a", 7]}, "row 1: column 'item' \\(item\\) contains 7, but 'a', a value of another type"),
        ({"item": [True, False]}, "column 'item' \\(item\\) contains true and false"),
        ({"item": [{"id": 1}, {"id": 2}]}, "column 'item' \\(item\\) contains nested.*flatten the records"),
        ({"item": [["a"], ["b"]]}, "column 'item' \\(item\\) contains lists.*one row for each element"),
        ({"item": [b"a", b"b"]}, "column 'item' \\(item\\) contains bytes.*decode"),
        ({"item": [3 + 1j, 4j]}, "column 'item' \\(item\\) contains values of an unsupported type"),
        ({"rating": [1.0, "many"]}, "row 1: the rating in column 'rating' is 'many', expected a number"),
        ({"rating": ["4", "4,5"]}, "row 1: the rating in column 'rating' is '4,5', expected a number"),
        ({"rating": [1.0, np.inf]}, "row 1: the rating in column 'rating' is inf, expected a number"),
        (
            {"user_id": ["a", "b"]},
            "the user could be any of the columns user, user_id; name the column, for example by user=",
        ),
        ({"date": [1, 2]}, "the time could be any of the columns ts, date; .*time=False for none"),
    ],
)
def test_faulty_cells_get_one_sentence(change, message):
    with pytest.raises(UserError, match=message) as caught:
        read_events(pd.DataFrame({**GOOD, **change}))
    assert "\n" not in str(caught.value)


def test_lines_of_files_are_named(tmp_path):
    path = write(tmp_path / "e.csv", 'user,item,ts\n"a\nb",x,1\n\nc,,2\n')
    with pytest.raises(UserError, match=r"e\.csv, line 5: the item is missing"):
        read_events(path, user="ts", time=False)
    path = write(tmp_path / "e.jsonl", '\n{"user": 1, "item": 2}\n{"user": 3}\n')
    with pytest.raises(UserError, match=r"e\.jsonl, line 3: the item is missing"):
        read_events(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("e.csv", "", "the file is empty"),
        ("e.csv", "user,item\n", "the table has 0 rows"),
        ("e.csv", "user,item\na,b\n", "the table has 1 row below"),
        ("e.csv", "user,user,item\na,b,c\n", "line 1: the column 'user' occurs 2 times"),
        ("e.csv", "user,item\na,b\nc,d,e\n", "line 3: got 3 cells, expected 2"),
        ("e.csv", "user,item,ts\na,b,1\nc,d\n", "line 3: got 2 cells, expected 3"),
        ("e.csv", 'user,item\na,b\nc,"d\ne,f\n', "line 3: the quotes are wrong"),
        ("e.csv", 'user,item\na,b\n"c"d,e\n', "line 3: the quotes are wrong"),
        (
            "e.csv",
            "196,242\n186,302\n",
            "the column of the user cannot be guessed .the columns are 196, 242",
        ),
        ("e.csv.gz", "user,item\na,b\n", "the file cannot be read"),
        ("e.jsonl", "", "the file is empty"),
        ("e.jsonl", '{"user": 1, "item": 2}\n{"user": 1,\n', "line 2: got '.*, expected a JSON object"),
        ("e.jsonl", '{"user": 1, "item": 2}\n[1, 2]\n', "line 2: got \\[1, 2\\], expected a JSON object"),
        ("e.jsonl", '{"user": {"id": 1}, "item": 2}\n' * 2, "column 'user' \\(user\\) contains nested"),
        ("e.jsonl", '{"user": "a", "item": "\\ud800"}\n' * 2, "line 1: .* not valid Unicode"),
        ("e.json", "[1, 2]", "record 1: got 1, expected an object"),
        ("e.json", "[]", "the array is empty"),
        ("e.csv", "user,item\na,b\nc\0,d\n", "line 3: got a NUL character"),
        ("e.json", "[{]", "the file is not valid JSON"),
        ("e.parquet", "user,item\na,b\n", "the file is not a Parquet file or is damaged"),
        ("e.xlsx", "x", "ends with '.xlsx', expected one of .csv"),
    ],
)
def test_faulty_files_get_one_sentence(name, content, message, tmp_path):
    with pytest.raises(UserError, match=message) as caught:
        read_events(write(tmp_path / name, content))
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


BAD_STREAM = gzip.compress(b"")[:10] + b"\xff" * 20  # after the header of gzip, no stream of zlib


@pytest.mark.parametrize("name", ["e.csv.gz", "e.jsonl.gz"])
@pytest.mark.parametrize("damage", ["no gzip", "truncated", "at the start", "further on", "undecodable"])
def test_damaged_gzip_files_get_one_sentence(name, damage, tmp_path):
    rows = {
        "e.csv.gz": "user,item\n" + "a,b\n" * 50_000,
        "e.jsonl.gz": '{"user": "a", "item": "b"}\n' * 9_000,
    }
    text = rows[name].encode()
    content = {
        "no gzip": text,
        "truncated": gzip.compress(text)[:-20],
        "at the start": BAD_STREAM,
        "further on": gzip.compress(text) + BAD_STREAM,
        "undecodable": gzip.compress(text + b"\xff") + BAD_STREAM,
    }[damage]
    with pytest.raises(UserError, match=r"the file cannot be read \(.*\); copy the file again, or") as caught:
        read_events(write(tmp_path / name, content))
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_faulty_sources_get_one_sentence(tmp_path):
    write(tmp_path / "events.csv", TEXT)
    with pytest.raises(UserError, match=r"no file .*event\.csv; did you mean 'events\.csv'"):
        read_events(tmp_path / "event.csv")
    with pytest.raises(UserError, match=r"no file in this folder ends with \.parquet"):
        read_events(tmp_path)
    with pytest.raises(UserError, match="data: got an object of type int"):
        read_events(7)
    with pytest.raises(UserError, match="the column names have 2 levels"):
        read_events(pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("a", "b"), ("a", "c")])))
    with pytest.raises(UserError, match="the column 'user' occurs 2 times"):
        read_events(pd.DataFrame([[1, 2, 3]] * 2, columns=["user", "user", "item"]))
    FRAME.to_parquet(tmp_path / "a.parquet")
    FRAME[["userId"]].to_parquet(tmp_path / "b.parquet")
    with pytest.raises(UserError, match=r"b\.parquet: the columns differ .* in movieId, timestamp"):
        read_events(tmp_path)
    FRAME.assign(userId=[1, 2, 3, 4]).to_parquet(tmp_path / "b.parquet")
    with pytest.raises(UserError, match=r"b\.parquet: the columns have the types userId: int64"):
        read_events(tmp_path)
    nested = pa.table({"user": [{"id": 1}, {"id": 2}], "item": [1, 2]})
    with pytest.raises(UserError, match=r"column 'user' \(user\) contains nested records"):
        read_events(nested)


@pytest.mark.parametrize("given", ["parquet", "arrow"])
def test_without_pyarrow_one_sentence_has_the_line_to_type(given, tmp_path, monkeypatch):
    table = source(given, tmp_path)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match="needs pyarrow; install it by: pip install pyarrow"):
        read_events(table)


def test_csv_does_not_need_pyarrow(tmp_path, monkeypatch):
    path = source("csv", tmp_path)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert len(read_events(path).frame) == 4


@pytest.mark.parametrize(
    ("columns", "wanted"),
    [
        ("userId movieId rating timestamp", "userId movieId timestamp rating"),
        ("timestamp visitorid event itemid transactionid", "visitorid itemid timestamp"),
        ("t_dat customer_id article_id price sales_channel_id", "customer_id article_id t_dat"),
        (
            "event_time event_type product_id category_id user_id user_session",
            "user_id product_id event_time",
        ),
        ("reviewerID asin overall unixReviewTime reviewTime", "reviewerID asin unixReviewTime overall"),
        ("review_id user_id business_id stars date text", "user_id business_id date stars"),
        ("Session ID,ITEM-ID,Date", "Session ID,ITEM-ID,Date"),
    ],
)
def test_names_of_known_data_sets_are_guessed(columns, wanted):
    split = "," if "," in columns else " "
    none = dict.fromkeys(("user", "item", "time", "rating"))
    found, guessed = choose_columns(columns.split(split), none, "t")
    assert list(found.values()) == wanted.split(split)
    assert guessed == list(found)


def test_choosing_columns():
    assert guess(["unit", "userid"], "user") == ["userid"]
    columns = ["user", "user_id", "item", "date", "ts"]
    found, guessed = choose_columns(columns, {"user": "user_id", "time": False}, "t")
    assert found == {"user": "user_id", "item": "item"}
    assert guessed == ["item"]
    found, _ = choose_columns(["0", "1"], {"user": 0, "item": 1}, "t")
    assert found == {"user": "0", "item": "1"}
    with pytest.raises(UserError, match="user: got 'usr', but t has no such column; did you mean 'user'"):
        choose_columns(columns, {"user": "usr"}, "t")
    with pytest.raises(UserError, match="'item' cannot be both"):
        choose_columns(columns, {"user": "item", "item": "item", "time": "ts"}, "t")


def test_file_order_stands_in_for_a_time():
    found = read_events(pd.DataFrame({"user": [1, 1, 2], "item": [3, 4, 3]}))
    assert found.frame["timestamp"].tolist() == [0, 1, 2]
    assert "the order of the rows is the order of the events" in found.summary["notes"][1]
    with pytest.raises(UserError, match="dedupe: got 'exact', which needs a time"):
        read_events(pd.DataFrame({"user": [1, 1, 2], "item": [3, 4, 3]}), dedupe="exact")


def test_dedupe():
    users, items = np.array([0, 1, 0, 0, 0, 0]), np.array([5, 5, 5, 6, 5, 5])
    times = np.array([1, 1, 1, 2, 3, 0])
    assert duplicates(users, items, times, None).tolist() == [False] * 6
    assert duplicates(users, items, times, "exact").tolist() == [False, False, True, False, False, False]
    # By time, user 0 has 5 (row 5), 5 (row 0), 5 (row 2), 6, 5.
    assert duplicates(users, items, times, "consecutive").tolist() == [True, False, True, False, False, False]
    with pytest.raises(UserError, match="dedupe: got 'all', expected exact, consecutive"):
        duplicates(users, items, times, "all")


def test_k_core_goes_on_until_nothing_changes():
    rng = np.random.default_rng(0)
    users, items = rng.integers(0, 60, 400), rng.integers(0, 80, 400)
    kept, rounds = k_core(users, items, 5, 4)
    left = np.ones(400, dtype=bool)
    for _ in range(400):
        for ids, least in ((users, 5), (items, 4)):
            left &= np.array([(ids[left] == one).sum() >= least for one in ids])
    assert rounds > 2
    assert kept.any()
    assert (kept == left).all()
    with pytest.raises(UserError, match="min_item: got -1"):
        k_core(users, items, 0, -1)


def test_what_is_dropped_is_counted():
    frame = pd.DataFrame({"user": [1, 1, 1, 2], "item": [5, 6, 5, 5], "ts": ["1", "2", "1", ""]})
    found = read_events(frame, min_user=2, dedupe="exact", missing_time="drop")
    counts = {"missing_time": 1, "unreadable_time": 0, "duplicates": 1, "too_few": 0, "rounds": 0}
    assert found.summary["dropped"] == counts
    assert found.summary["notes"][-1] == "2 of 4 rows are dropped (1 missing time, 1 duplicates)"
    assert (found.summary["events"], found.summary["users"], found.summary["items"]) == (2, 1, 2)
    assert list(found.frame["item_id"].cat.categories) == ["5", "6"]
    with pytest.raises(UserError, match="no event is left with min_user=9 and min_item=0"):
        read_events(FRAME, min_user=9)


def test_catalogue_columns_have_types(tmp_path):
    text = "sku,Name: x,price,code,empty,rating\n1,Chair,2.5,007,,5\n2,,,12,,\n"
    frame, summary = read_catalogue(write(tmp_path / "c.csv", text), like="sku")
    names = ["item_id", "Name_ x:token_seq", "price:float", "code:token_seq", "item_rating:float"]
    assert list(frame) == names
    assert frame["item_id"].tolist() == ["1", "2"]
    assert frame["price:float"].tolist()[0] == 2.5
    assert np.isnan(frame["price:float"].iloc[1])
    assert frame["code:token_seq"].tolist() == ["007", "12"]
    assert summary["columns"]["rating"] == "item_rating:float"
    assert any("empty" in note for note in summary["notes"])
    table = pa.table({
        "id": [1, 2], "tags": [["Sci Fi", "Old"], None], "v": [[0.5, 1.0], [2.0]], "new": [True, None],
        "n": ["1", "2"], "price": [Decimal("2.50"), None],
    })  # fmt: skip
    frame, _ = read_catalogue(table)
    assert list(frame) == ["item_id", "tags:token_seq", "v:float_seq", "new:token_seq", "n:token_seq",
                           "price:float"]  # fmt: skip
    assert frame.iloc[0].tolist() == ["1", "Sci_Fi Old", "0.5 1.0", "True", "1", 2.5]
    assert frame.iloc[1].tolist()[:5] == ["2", "", "2.0", "", "2"]


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        ({"item": [1, 1], "a": ["x", "y"]}, "row 1: the item '1' has other values than in .*, row 0; keep"),
        ({"item": [1, 2], "a": [{"b": 1}, None]}, "row 0: column 'a' of the items contains nested records"),
        ({"item": [1, 2], "a": [[["b"]], []]}, "row 0: column 'a' of the items contains lists of lists"),
        ({"item": [1, 2], "a": ["b", 2]}, "column 'a' of the items contains values of several types"),
        ({"code": [1, 2]}, "the column of the item ids cannot be guessed .*; rename it to .*\\(movieId\\)"),
        ({"item": [1, 2], "sku": [1, 2]}, "the column of the item ids could be any of item, sku"),
        ({"item": []}, "the table is empty"),
    ],
)
def test_faulty_catalogues_get_one_sentence(frame, message):
    with pytest.raises(UserError, match=message):
        read_catalogue(pd.DataFrame(frame), like="movieId")
