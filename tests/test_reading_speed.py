"""The fast ways of reading and ordering give the same as pandas, numpy and RecBole."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas._libs.parsers import STR_NA_VALUES
from recbole.data.dataset import Dataset

from recbole_disent import waiting
from recbole_disent.data import arrow_reading
from recbole_disent.data.atomic_files import check_header, read_file
from recbole_disent.data.filtering import FilteredDataset
from recbole_disent.data.ids import shared_ids
from recbole_disent.data.ordering import count_distinct, group_order, time_order, value_order
from recbole_disent.data.report import describe
from recbole_disent.errors import UserError
from tests import faults

HEAD = "user_id:token\titem_id:token\ttimestamp:float"
PARTS = st.sampled_from(
    ["a", "b7", "NA", "é", "\t", "\n", "\r", "\0", " ", "1", "2.5", "1e3", "-7", "inf", "x", '"', "\\",
     "12345678901234567", "\u2028", "", "+1", "0x1", "1_0", "N/A"]
)  # fmt: skip
NUMBERS = ["1", "-0", "1.", ".5", " 1", "1 ", "+1", "1e5", "1E-5", "12345678901234567", "0.1", "1e-400",
           "00012", "123456789.123456789", "1e400", "inf", "nan", "0x10", "1_0", "1,5", "٣",
           "1d5"]  # fmt: skip


def both_ways(path, separator="\t", encoding=None):
    """Return what the fast reader and pandas make of a file; pandas may give the sentence of an error."""
    header = check_header(str(path), separator, encoding)
    plain = arrow_reading.read_plain(str(path), header, header, separator, encoding)
    try:
        return plain, read_file(str(path), header, header, separator, " ", encoding).frame
    except UserError as error:
        return plain, str(error)


def require_same(plain, frame):
    if plain is None:
        return
    assert not isinstance(frame, str), f"the fast reader accepts a file with the fault: {frame}"
    for name in frame:
        assert plain[name].tolist() == frame[name].tolist(), name


@settings(max_examples=300, deadline=None)
@given(st.lists(st.lists(PARTS, min_size=1, max_size=9).map("".join), max_size=4), st.booleans())
def test_the_fast_reader_agrees_with_pandas_or_leaves_the_file(tmp_path_factory, lines, ended):
    path = tmp_path_factory.mktemp("drawn") / "x.inter"
    path.write_bytes("\n".join([HEAD, "u\ti\t3", *lines]).encode() + b"\n" * ended)
    require_same(*both_ways(path))


@pytest.mark.parametrize("number", NUMBERS)
def test_numbers_are_the_same_to_the_last_bit(tmp_path, number):
    path = tmp_path / "x.inter"
    path.write_text(f"{HEAD}\nu\ti\t{number}\nv\ti\t3\n", encoding="utf-8")
    require_same(*both_ways(path))


def test_a_plain_file_takes_the_fast_way(tmp_path):
    pytest.importorskip("pyarrow")
    path = tmp_path / "x.inter"
    path.write_text(f'\ufeff{HEAD}\nü\t"a b\t3\nv\ti\t1.5', encoding="utf-8")
    plain, frame = both_ways(path)
    assert plain is not None
    assert [str(kind) for kind in plain.dtypes] == ["category", "category", "float64"]
    require_same(plain, frame)


def test_the_list_of_missing_cells_is_that_of_pandas():
    assert set(arrow_reading.MISSING) == STR_NA_VALUES


def test_data_are_the_same_without_pyarrow(monkeypatch):
    rows = [row for row in faults.small_rows() if row[1] != "i5"]
    faults.write("small", "inter", rows)
    faults.write("small", "item", [(f"i{n}", n) for n in range(1, 9)], "item_id:token\tprice:float")
    keys = {"load_col": {**faults.LOAD, "item": ["item_id", "price"]}, "item_inter_num_interval": "[3,inf)"}
    found = []
    for model in ("SASRec", "BPR"):
        for installed in (True, False):
            with monkeypatch.context() as patched:
                if not installed:
                    patched.setitem(sys.modules, "pyarrow", None)
                dataset, parts = faults.load(model, **keys)
            found.append((faults.data_hash(parts), describe(dataset, parts), dataset.item_feat.numpy()))
    for with_it, without in (found[:2], found[2:]):
        assert with_it[:2] == without[:2]
        for name, column in with_it[2].items():
            np.testing.assert_array_equal(column, without[2][name])


@settings(deadline=None)
@given(st.lists(st.integers(0, 9)))
def test_groups_keep_their_order(keys):
    keys = np.array(keys, dtype=np.int64)
    np.testing.assert_array_equal(group_order(keys), np.argsort(keys, kind="stable"))
    assert count_distinct(keys) == len(set(keys.tolist()))


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [0.0, -0.0, 1.0, 1.5, -3.0, 7e4, 7e4 + 1, 2.0**40, 2.0**62, 1e300, -(2.0**53), np.inf]
        )
    )
)
def test_orders_by_value_and_by_time_are_those_of_numpy(values):
    values = np.array(values, dtype=np.float64)
    users = np.arange(len(values)) * 7 % 3
    with np.errstate(over="ignore"):
        single = values.astype(np.float32)
    for numbers in (values, single, np.clip(values, -(2**40), 2**40).astype(np.int64)):
        np.testing.assert_array_equal(value_order(numbers), np.argsort(numbers, kind="stable"))
        np.testing.assert_array_equal(time_order(users, numbers), np.lexsort((numbers, users)))


TOKENS = st.lists(st.sampled_from(["a", "b", "c", "NaN", "d"]), min_size=1, max_size=12)


@settings(deadline=None)
@given(TOKENS, TOKENS, st.booleans())
def test_ids_are_recboles(first, second, categories):
    kind = "category" if categories else object
    columns = [pd.Series(first, dtype=object).astype(kind), pd.Series(second, dtype=object)]
    codes, tokens = pd.factorize(np.array([*first, *second], dtype=object))
    ids, names = shared_ids(columns)
    assert np.concatenate(ids).tolist() == (codes + 1).tolist()
    assert names.tolist() == ["[PAD]", *tokens]


class Filtered(FilteredDataset):
    """Only the state that the filter by numbers of interactions needs."""

    def __init__(self, frames, intervals):
        self.inter_feat, self.user_feat, self.item_feat = (f if f is None else f.copy() for f in frames)
        self.uid_field, self.iid_field = "user_id", "item_id"
        self.config = dict(
            zip(("user_inter_num_interval", "item_inter_num_interval"), intervals, strict=True)
        )
        self.logger = Silent()


class Silent:
    """A logger that logs nothing."""

    def debug(self, text):
        """Ignore a text."""

    warning = debug


INTERVALS = st.sampled_from(
    [None, "[0,inf)", "[2,inf)", "(2,4]", "[3,3];[5,9)", "[5,6];[1,2]", "(0,3)", "[1,2]"]
)
IDS = st.sampled_from("abcdef")


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(IDS, IDS), min_size=1, max_size=40),
    st.sets(IDS) | st.none(),
    st.sets(IDS) | st.none(),
    st.tuples(INTERVALS, INTERVALS),
)
def test_the_filter_by_numbers_of_interactions_is_recboles(events, users, items, intervals):
    events = pd.DataFrame(events, columns=["user_id", "item_id"], dtype=object)
    features = [
        None if ids is None else pd.DataFrame({name: pd.Series(sorted(ids), dtype=object)})
        for name, ids in (("user_id", users), ("item_id", items))
    ]
    ours, theirs = (Filtered([events, *features], intervals) for _ in range(2))
    ours.inter_feat = ours.inter_feat.astype("category")
    ours._filter_by_inter_num()
    Dataset._filter_by_inter_num(theirs)
    for name in ("inter_feat", "user_feat", "item_feat"):
        mine, expected = getattr(ours, name), getattr(theirs, name)
        if expected is not None:
            assert Counter(mine.index) == Counter(expected.index), name
            assert mine.astype(object).to_numpy().tolist() == expected.to_numpy().tolist()


# -- waiting of threads --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_variables", "expected"),
    [
        ({}, "PASSIVE 0"),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE None"),
        ({"GOMP_SPINCOUNT": "100"}, "None 100"),
    ],
)
def test_the_command_line_waits_passively_unless_the_user_chose(given_variables, expected):
    program = """
import os, sys
from recbole_disent.cli import main
main(["report", "nowhere"])
print(os.environ.get("OMP_WAIT_POLICY"), os.environ.get("GOMP_SPINCOUNT"))
"""
    root = Path(__file__).resolve().parents[1]
    environment = {k: v for k, v in os.environ.items() if k not in waiting._PASSIVE}
    environment |= {"PYTHONPATH": str(root), **given_variables}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == expected, done.stderr
