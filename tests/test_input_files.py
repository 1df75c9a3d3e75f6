"""Tests of the files of users, sequences and items: what they hold, and what is refused."""

from __future__ import annotations

import re
from decimal import Decimal

import pytest

from recbole_disent.errors import UserError
from recbole_disent.serving import input_files

READERS = {
    "user": lambda path: list(input_files.users(path)),
    "sequence,item": lambda path: list(input_files.sequences(path)),
    "user,item": lambda path: input_files.items(path, "user"),
    "item": lambda path: input_files.items(path, "user"),
}


@pytest.mark.parametrize("columns", READERS)
def test_more_cells_than_columns_are_refused(tmp_path, columns):
    row = ",".join("1" for _ in columns.split(","))
    (tmp_path / "f.csv").write_text(f"{columns}\n{row}\n{row},391\n")
    with pytest.raises(UserError, match=r"f.csv, line 3: more cells than the header has; put ids that"):
        READERS[columns](tmp_path / "f.csv")


@pytest.mark.parametrize("columns", [name for name in READERS if name != "item"])
def test_a_column_that_is_there_twice_is_refused(tmp_path, columns):
    last = columns.split(",")[-1]
    row = ",".join("1" for _ in columns.split(","))
    (tmp_path / "f.csv").write_text(f"{columns},{last}\n{row},2\n")
    with pytest.raises(UserError, match=f"f.csv, line 1: 2 columns are named '{last}', expected one"):
        READERS[columns](tmp_path / "f.csv")


def test_an_id_in_quotes_may_have_a_comma(tmp_path):
    (tmp_path / "f.csv").write_text('user,item\n196,"386,391"\n')
    assert input_files.items(tmp_path / "f.csv", "user").values.tolist() == [["196", "386,391"]]


def test_a_byte_order_mark_is_no_part_of_an_item(tmp_path):
    for name, text in (
        ("s.txt", "i1 i2\n"),
        ("s.jsonl", '["i1", "i2"]\n'),
        ("s.csv", "sequence,item\n0,i1\n0,i2"),
    ):
        (tmp_path / name).write_text(text, encoding="utf-8-sig")
        assert list(input_files.sequences(tmp_path / name)) == [("0", ["i1", "i2"])]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"id": "s1", "items": ["i1"]}', "expected .*, got the keys ['id', 'items']"),
        ('{"sequence": "s1"}', "expected .*, got the keys ['sequence']"),
        ("{}", "expected .*, got the keys []"),
        ('{"items": ["i1"], "items": ["i2"]}', "expected .*, got the keys ['items', 'items']"),
        ('{"sequence": null, "items": ["i1"]}', "the sequence has the name None, expected a text"),
        ('{"sequence": "", "items": ["i1"]}', "the sequence has the name '', expected a text"),
        ('{"sequence": ["s"], "items": ["i1"]}', "the sequence has the name ['s'], expected a text"),
        ('{"sequence": true, "items": ["i1"]}', "the sequence has the name True, expected a text"),
        ('{"sequence": "\\ud800", "items": ["i1"]}', r"the sequence has the name '\ud800', expected a text"),
        ('["i1", true]', "got the item True, expected a text or a whole number"),
        ('["i1", ""]', "got the item '', expected a text or a whole number"),
        ('["i1", {"items": 1}]', "got the item (('items', 1),), expected a text or a whole number"),
        ('["\\udc00"]', r"got the item '\udc00', expected a text or a whole number"),
        ("[" * 100_000, "expected .*, but this is no JSON"),
        ("i1 i2", "expected .*, but this is no JSON"),
        ("3", "expected .*"),
    ],
)
def test_lines_of_json_that_are_no_sequence_are_refused(tmp_path, line, message):
    (tmp_path / "s.jsonl").write_text(f'["i1"]\n{line}\n', encoding="utf-8")
    pattern = re.escape(f"s.jsonl, line 2: {message}").replace(re.escape(".*"), ".*")
    with pytest.raises(UserError, match=pattern):
        list(input_files.sequences(tmp_path / "s.jsonl"))


@pytest.mark.parametrize("name", ["s.txt", "s.jsonl"])
def test_a_file_that_is_not_in_utf8_is_refused(tmp_path, name):
    (tmp_path / name).write_bytes('["i1"]\n["é"]\n'.encode("latin-1"))
    with pytest.raises(UserError, match=f"{name}, line 2: it is not in UTF-8; save the file in UTF-8"):
        list(input_files.sequences(tmp_path / name))


def test_parquet_files_without_ids_of_users_are_refused(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path, text = tmp_path / "u.parquet", arrow.array(["u1", "u2"])
    values = {"binary": b"u1", "bool": True, "decimal128": Decimal("1.5"), "list": ["u1"], "null": None}
    for kind, value in values.items():
        parquet.write_table(arrow.table({"user": [value]}), path)
        with pytest.raises(
            UserError, match=f"column 'user' has the type {kind}.*, expected text or whole num"
        ):
            list(input_files.users(path))
    parquet.write_table(arrow.Table.from_arrays([text, text], ["user", "user"]), path)
    with pytest.raises(UserError, match="its columns are user, user, expected one 'user'"):
        list(input_files.users(path))
    for column in (text, text.dictionary_encode(), text.cast(arrow.large_string())):
        parquet.write_table(arrow.table({"user": column}), path)
        assert list(input_files.users(path)) == ["u1", "u2"]
    whole = path.read_bytes()
    for content in (b"", b"user\nu1\n", whole[:-20], whole[:4] + bytes(20) + whole[24:]):
        path.write_bytes(content)
        with pytest.raises(
            UserError, match=r"u.parquet: is damaged or no Parquet file \(.*\); write it again"
        ):
            list(input_files.users(path))
