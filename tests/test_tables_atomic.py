"""Tests that every reader of the package reads written atomic files correctly."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import recbole
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from recbole_disent.data import text_files
from recbole_disent.data.atomic_files import check_header, read_file
from recbole_disent.data.item_file import read_items
from recbole_disent.errors import UserError
from recbole_disent.tables import convert, from_atomic, read_catalogue, to_atomic
from recbole_disent.tables import read_events as read_table
from recbole_disent.tables.atomic import TYPES
from recbole_disent.tables.cells import MISSING_TEXTS, id_fault

ML = Path(recbole.__file__).parent / "dataset_example"

TEXTS = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(
    ["007", "0x1", "1e5", "a,b", 'a"b', "a\u2028b", "\x85", "\ufeffa", " a ", "-0", "a\vb", "#", "\\", "=1+1"]
)
IDS = TEXTS.filter(lambda text: id_fault(text) is None)
# Also on a busy machine.
PATIENT = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
NUMBERS = st.floats(allow_nan=True, allow_infinity=False)


@PATIENT
@given(st.lists(st.tuples(IDS, IDS, NUMBERS, st.integers(-(2**53), 2**53)), min_size=1, max_size=8))
def test_events_come_back_and_the_package_reads_the_same(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("atomic")
    events = pd.DataFrame(rows, columns=["user_id", "item_id", "rating", "timestamp"])
    events = events.astype({"user_id": object, "item_id": object, "rating": "float64"})
    to_atomic(events, None, folder, "x")
    found, items = from_atomic(folder, "x")
    assert items is None
    assert_frame_equal(found, events)
    path = str(folder / "x" / "x.inter")
    header = check_header(path, "\t", "utf-8")
    read = read_file(path, header, header, "\t", " ", "utf-8").frame
    assert (
        read[["user_id", "item_id"]].to_numpy().tolist() == events[["user_id", "item_id"]].to_numpy().tolist()
    )
    assert (read["timestamp"] == events["timestamp"]).all()


CLEAN = TEXTS.filter(lambda text: not set(text) & set("\t\n\r\0"))


@PATIENT
@given(st.dictionaries(IDS, st.tuples(CLEAN, NUMBERS), min_size=1, max_size=8))
def test_items_come_back_and_the_package_reads_the_same(tmp_path_factory, cells):
    folder = tmp_path_factory.mktemp("atomic")
    rows = [(item, title, price) for item, (title, price) in cells.items()]
    items = pd.DataFrame(rows, columns=["item_id", "title", "price"])
    items = items.astype({"item_id": object, "title": object, "price": "float64"})
    events = pd.DataFrame({"user_id": ["u"], "item_id": ["i"], "timestamp": [1]})
    assert to_atomic(events, items, folder, "x")["texts_changed"] == 0
    assert_frame_equal(from_atomic(folder, "x")[1], items)
    read = read_items(str(folder / "x" / "x.item"), "item_id", ["title"], "\t", "utf-8", "content_fields")
    assert list(read.cells) == list(cells)
    for key, (title,) in read.cells.items():
        assert title.lstrip(" ") == cells[key][0].lstrip(" ")
    # RecBole's call of pandas, without the ids: a text is never missing, cut or joined to the next.
    raw = pd.read_csv(
        folder / "x" / "x.item", sep="\t", usecols=["title:token_seq"], dtype=str, engine="python"
    )
    assert raw["title:token_seq"].fillna("").str.split(" ").map(lambda t: list(filter(None, t))).tolist() == [
        list(filter(None, text.split(" "))) for text, _ in cells.values()
    ]


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl"])
def test_quotes_in_atomic_files_are_characters(tmp_path, ending):
    ids = [("u0", '"x'), ("u1", "i1"), ("u2", 'y"'), ('"u3', '"z"'), ('u"4', '""'), ("u5", '"')]
    text = "user_id:token\titem_id:token\n" + "".join(f"{user}\t{item}\n" for user, item in ids)
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "x.inter").write_text(text, encoding="utf-8")
    convert(tmp_path / "x", tmp_path / f"out.{ending}")
    if ending == "jsonl":
        found = pd.read_json(tmp_path / "out.jsonl", lines=True)
    else:
        found = pd.read_csv(tmp_path / f"out.{ending}", sep="," if ending == "csv" else "\t")
    path = str(tmp_path / "x" / "x.inter")
    header = check_header(path, "\t", "utf-8")
    read = read_file(path, header, header, "\t", " ", "utf-8").frame
    assert found.to_numpy().tolist() == read.to_numpy().tolist() == [list(row) for row in ids]
    # RecBole would read some of these ids differently, so that they are not written again.
    with pytest.raises(UserError, match="column 'user_id' is '\"u3'; RecBole reads a double quote at"):
        convert(tmp_path / f"out.{ending}", tmp_path / "again")


KINDS = ["csv", "tsv", "jsonl", *(["parquet"] if find_spec("pyarrow") else [])]


@PATIENT
@given(st.lists(st.tuples(IDS, IDS), min_size=2, max_size=8), st.sampled_from(KINDS))
def test_ids_of_files_come_through_as_written(tmp_path_factory, rows, kind):
    path = tmp_path_factory.mktemp("table") / f"x.{kind}"
    frame = pd.DataFrame(rows, columns=["user", "item"])
    if kind == "jsonl":
        frame.to_json(path, orient="records", lines=True)
    elif kind == "parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False, sep="," if kind == "csv" else "\t")
    found = read_table(path).frame
    assert list(zip(found["user_id"], found["item_id"], strict=True)) == rows


def test_movielens_gives_the_same_bytes_again(tmp_path):
    to_atomic(*from_atomic(ML, "ml-100k", types=True), tmp_path, "ml-100k")
    for kind in ("inter", "item"):
        name = Path("ml-100k") / f"ml-100k.{kind}"
        assert (tmp_path / name).read_bytes() == (ML / name).read_bytes()
    events, items = from_atomic(ML, "ml-100k")
    assert list(events.dtypes) == [object, object, np.int64, np.int64]
    assert items["movie_title"].iloc[0] == "Toy Story"


def test_missing_texts_are_those_of_pandas(tmp_path):
    candidates = [*MISSING_TEXTS, "NIL", "none", "Null", "N.A.", "nA"]
    path = tmp_path / "x.tsv"
    path.write_text("a\tb\n" + "".join(f"{text}\t1\n" for text in candidates), encoding="utf-8")
    found = pd.read_csv(path, sep="\t", dtype=str)["a"].isna()
    assert {t for t, missing in zip(candidates, found, strict=True) if missing} == MISSING_TEXTS


EVENTS = pd.DataFrame({"user_id": ["u"], "item_id": ["i"], "timestamp": [1]})


def test_texts_are_changed_where_the_format_cannot_hold_them_and_counted(tmp_path):
    texts = ["a\tb\r\nc", "\ud800x", "plain", '"quoted"', "NA"]
    items = pd.DataFrame({"item_id": list("abcde"), "title": pd.Series(texts, dtype=object)})
    assert to_atomic(EVENTS, items, tmp_path, "x")["texts_changed"] == 2
    found = from_atomic(tmp_path, "x")[1]["title"].tolist()
    assert found == ["a b  c", " x", "plain", '"quoted"', "NA"]


def test_a_column_may_say_its_type(tmp_path):
    items = pd.DataFrame(
        {"item_id": ["a"], "year:token": [1995], "tags": ["b c"], "v:float_seq": ["1.0 2.0"]}
    )
    to_atomic(EVENTS.assign(device=["phone"], amount=[0.1]), items, tmp_path, "x")
    head = (tmp_path / "x" / "x.item").read_text(encoding="utf-8").split("\n")[0]
    assert head == "item_id:token\tyear:token\ttags:token_seq\tv:float_seq"
    text = (tmp_path / "x" / "x.inter").read_text(encoding="utf-8")
    assert text == (
        "user_id:token\titem_id:token\ttimestamp:float\tdevice:token\tamount:float\nu\ti\t1\tphone\t0.1\n"
    )
    assert {name.rpartition(":")[2] for name in from_atomic(tmp_path, "x", types=True)[1]} <= set(TYPES)


@pytest.mark.parametrize(
    ("events", "items", "message"),
    [
        (
            EVENTS.assign(user_id=["a\tb"]),
            None,
            "events, row 0: user_id is 'a\\\\tb'; an id cannot contain a tab",
        ),
        (EVENTS.assign(user_id=[None]), None, "events, row 0: user_id is missing"),
        (EVENTS.assign(item_id=[""]), None, "events, row 0: item_id is ''; the id is blank"),
        (EVENTS.assign(device=["NA"]), None, "events, row 0: device is 'NA'; RecBole reads this text"),
        (EVENTS[["user_id"]], None, "events: got the columns user_id.*, expected 'item_id'"),
        (EVENTS[:0], None, "events: the table is empty"),
        (EVENTS.assign(timestamp=[np.inf]), None, "timestamp is inf, expected a finite number"),
        (EVENTS.assign(timestamp=[pd.Timestamp(0)]), None, "column 'timestamp' holds datetime values"),
        (EVENTS.rename(columns={"timestamp": "a:b"}), None, "the column name 'a:b' is empty or has a colon"),
        (EVENTS, pd.DataFrame({"item_id": ["a", "a"]}), "items, row 1: the item 'a' is a duplicate"),
        (EVENTS, pd.DataFrame({"item_id": ["a"], "x": [["b"]]}), "items: column 'x' holds list values"),
    ],
)
def test_frames_that_cannot_be_written_leave_no_file(events, items, message, tmp_path):
    with pytest.raises(UserError, match=message):
        to_atomic(events, items, tmp_path, "x")
    assert not list(tmp_path.rglob("*.*"))


def test_old_items_are_not_taken_for_new_ones(tmp_path):
    to_atomic(EVENTS, pd.DataFrame({"item_id": ["i"], "a": [1]}), tmp_path, "x")
    with pytest.raises(UserError, match=r"x\.item: the file exists, and a run would read it"):
        to_atomic(EVENTS, None, tmp_path, "x")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no file x.inter"),
        ("user_id\titem_id\na\tb\n", "x.inter, line 1: got 'user_id', expected a header"),
        ("a:token\ta:token\nb\tc\n", "line 1: the column 'a' occurs 2 times"),
        ("user_id:token\tn:float\na\t1\nb\tx\n", "x.inter, line 3: n is 'x', expected a number"),
    ],
)
def test_faulty_atomic_files_get_one_sentence(content, message, tmp_path):
    (tmp_path / "x").mkdir()
    if content is not None:
        (tmp_path / "x" / "x.inter").write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        from_atomic(tmp_path, "x")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("1\t2\t3\t9\n1\t4\t5\t9\n", "line 2: got 4 cells, expected 3 as in the header"),
        ("1\t2\t3\n1\t4\n", "line 3: got 2 cells, expected 3"),
        ("1\t2\t3\n\n1\t4\t5\n", "line 3: got 0 cells, expected 3"),
        ("1\t2\ta\rb\n", "line 2: .* a carriage return within the line"),
    ],
)
def test_lines_with_another_number_of_cells_are_refused(tmp_path, lines, message):
    (tmp_path / "x").mkdir()
    header = "user_id:token\titem_id:token\tnote:token\n"
    (tmp_path / "x" / "x.inter").write_bytes((header + lines).encode())
    with pytest.raises(UserError, match=rf"x\.inter.*{message}"):
        from_atomic(tmp_path, "x")


@pytest.mark.parametrize("end", ["", "\n", "\n\n\n", "\r\n\r\n"])
def test_empty_lines_at_the_end_are_no_rows(tmp_path, end):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "x.inter").write_bytes(b"user_id:token\titem_id:token\n1\t2" + end.encode())
    (tmp_path / "x" / "x.item").write_bytes(b"item_id:token\n2" + end.encode())
    events, items = from_atomic(tmp_path, "x")
    assert events.to_numpy().tolist() == [["1", "2"]]
    assert items.to_numpy().tolist() == [["2"]]


def test_a_folder_with_the_name_of_the_result_is_refused(tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "x.inter").write_text("user_id:token\titem_id:token\n1\t2\n")
    (tmp_path / "x.csv").mkdir()
    with pytest.raises(UserError, match=r"'.*x\.csv' is a folder, expected the name of a file"):
        convert(tmp_path / "x", tmp_path / "x.csv")


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([[0, 2.5], [1.0, 2]], ("float_seq", ["0.0 2.5", "1.0 2.0"])),
        ([[0, 2], [1, 2]], ("token_seq", ["0 2", "1 2"])),
        ([["x", float("nan")], [None, "y"]], ("token_seq", ["x", "y"])),
        ([["x", pd.NA], ["y"]], ("token_seq", ["x", "y"])),
        ([[1, float("nan")], [2]], ("token_seq", ["1", "2"])),
        ([[True, 1.5], [False]], ("token_seq", ["True 1.5", "False"])),
    ],
)
def test_lists_of_numbers_are_vectors_if_one_has_a_fraction(rows, expected):
    frame = pd.DataFrame({"item": ["a", "b"], "v": rows})
    found = read_catalogue(frame)[0]
    assert (found.columns[1].rpartition(":")[2], found.iloc[:, 1].tolist()) == expected


def test_a_blank_price_is_no_text(tmp_path):
    (tmp_path / "i.csv").write_text("item,price\na,1.5\nb, \nc, 2\n")
    found = read_catalogue(tmp_path / "i.csv")[0]
    assert found.columns[1] == "price:float"
    np.testing.assert_array_equal(found.iloc[:, 1], [1.5, np.nan, 2.0])
    (tmp_path / "i.csv").write_text("item,price\na, \nb,  \n")
    assert read_catalogue(tmp_path / "i.csv")[0].shape == (2, 1)


def test_messages_name_the_faulty_row(tmp_path, monkeypatch):
    lists = pd.DataFrame({"item": ["a", "b"], "v": [[1.0], [float("nan")]]})
    with pytest.raises(UserError, match=r"row 1: column 'v' .* a list with NaN"):
        read_catalogue(lists)
    events = pd.DataFrame({"user": [1, 1], "item": [1, 2], "rating": pd.Series([1, "x"], dtype=object)})
    with pytest.raises(UserError, match=r"row 1: the rating in column 'rating' is 'x', expected a number"):
        read_table(events)
    good = "user,item\n" + "1,2\n" * 40000
    monkeypatch.setattr(
        text_files, "_CHUNK", 999
    )  # the fault is in a later chunk, which begins within a character
    (tmp_path / "e.csv").write_bytes(
        good.encode("utf-16") + b"\x00\xd8\x00\x00" + "1,2\n".encode("utf-16-le")
    )
    with pytest.raises(UserError, match=r"e\.csv, line 40002: a byte is not utf-16"):
        read_table(tmp_path / "e.csv", encoding="utf-16")
