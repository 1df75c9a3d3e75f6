"""Tests of the files of users, sequences and items: what they hold, and what is refused."""

from __future__ import annotations

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
