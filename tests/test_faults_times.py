"""Tests of the order by time: exact times, dates, missing times and messages about them."""

from __future__ import annotations

import pytest

from recbole_disent.errors import UserError
from tests.faults import hash_of, load, sequences, small_rows, write

TIMED = "user_id:token\titem_id:token\ttimestamp:{}"
LOAD = {"inter": ["user_id", "item_id", "timestamp"]}


def timed(times, kind="float", name="small"):
    """Write the events a, b, c, ... of user u at the given times, and events of other users."""
    others = [(f"v{n}", item, n) for n in range(3) for item in "abcdef"]
    own = [("u", item, time) for item, time in zip("abcdef", times, strict=True)]
    if kind == "token":
        others = [(u, i, f"2020-01-0{n + 1}") for u, i, n in others]
    write(name, "inter", own + others, TIMED.format(kind))


def order_of(**keys):
    return "".join(sequences(load("SASRec", load_col=LOAD, **keys)[0])["u"])


@pytest.mark.parametrize("scale", [1, 10**3, 10**6])
def test_the_order_is_exact_in_every_unit(scale):
    timed([1_600_000_000 * scale + t for t in (5, 4, 3, 2, 1, 0)])
    assert order_of() == "fedcba"


def test_recboles_order_is_an_option_that_says_what_it_moves(caplog):
    timed([1_600_000_000 + t for t in (5, 4, 3, 2, 1, 0)])
    assert order_of(recbole_time=True) == "abcdef"  # one float32 for all: the order of the file
    assert "recbole_time: the positions of 6 events differ" in caplog.text
    caplog.clear()
    timed([5, 4, 3, 2, 1, 0], name="few")
    assert "".join(sequences(load("SASRec", "few", load_col=LOAD, recbole_time=True)[0])["u"]) == "fedcba"
    assert "recbole_time" not in caplog.text


def test_fractions_of_a_time_count():
    timed([0.3, 0.1 + 0.2, 0.29, 0.28, 0.27, 0.26])  # 0.1 + 0.2 is the next number after 0.3
    assert order_of() == "fedcab"


def test_dates_are_parsed():
    timed(["2021-05-31", "2021-05-30T23:59:59", "2021-05-30 23:59:58.5", "2021-05-31T01:30:00+02:00",
           "2020-12-01", "2019-01-01T00:00:00Z"], "token")  # fmt: skip
    assert order_of() == "fedcba"  # 01:30 in the zone +02:00 is 23:30 of the day before


def test_numbers_in_a_token_column_are_numbers():
    write("small", "inter", [("u", i, t) for i, t in zip("abcdef", (10, 9, 8, 7, 6, 5), strict=True)]
          + [("v", i, n) for n, i in enumerate("abcdef")], TIMED.format("token"))  # fmt: skip
    assert order_of() == "fedcba"


@pytest.mark.parametrize("bad", ["31.05.2021", "soon", "2021-02-30"])
def test_texts_that_are_no_times_are_named(bad):
    timed(["2021-05-31", "2021-05-30", bad, "2021-05-28", "2021-05-27", "2021-05-26"], "token")
    with pytest.raises(
        UserError, match=rf"small\.inter, line 4: timestamp: got '{bad}', expected a number or"
    ):
        load(load_col=LOAD)


@pytest.mark.parametrize("kind", ["float_seq", "token_seq"])
def test_a_time_is_no_sequence(kind):
    timed([1, 2, 3, 4, 5, 6], kind)
    with pytest.raises(UserError, match=rf"line 1: got 'timestamp:{kind}', expected 'timestamp:float'"):
        load(load_col=LOAD)


@pytest.mark.parametrize("missing", ["", "nan", "inf", "NA"])
def test_missing_times_are_refused_or_left_out(missing, caplog):
    timed([1, 2, missing, 4, 5, missing])
    with pytest.raises(
        UserError, match=r"line 4: timestamp: no time; complete or delete the 2 such lines, or"
    ):
        load(load_col=LOAD)
    dataset = load("SASRec", load_col=LOAD, missing_time="drop")[0]
    assert sequences(dataset)["u"] == list("abde")
    assert dataset.reading.dropped == {"missing_time": 2}
    assert "timestamp is missing in line 4, 7: 2 interactions were left out" in caplog.text


@pytest.mark.parametrize("model", ["SASRec", "Pop"])
def test_short_lines_are_refused_or_left_out(model):
    write("small", "inter", [*small_rows(), "u1\ti3\t4"])
    with pytest.raises(UserError, match=r"small\.inter, line 50: got 3 cells, expected 4 separated by '\\t'"):
        load(model)
    dataset = load(model, missing_time="drop")[0]
    assert dataset.reading.dropped == {"missing_time": 1}
    write("whole", "inter", small_rows())
    assert hash_of(model, missing_time="drop") == hash_of(model, "whole")


def test_a_short_line_that_has_its_time_stays_an_error():
    write(
        "small",
        "inter",
        [("u", "a", 1, 2), "u\tb\t1"],
        "user_id:token\titem_id:token\ttimestamp:float\tnote:token",
    )
    with pytest.raises(UserError, match="line 3: got 3 cells, expected 4"):
        load(load_col=LOAD, missing_time="drop")


def test_a_time_that_decides_cannot_be_left_out():
    write("small", "inter", small_rows())
    with pytest.raises(
        UserError, match=r"unload_col: got 'timestamp' for inter, which every run needs \(TIME_FIELD\)"
    ):
        load(load_col=None, unload_col={"inter": ["timestamp"]})


def test_duplicates_are_removed_in_the_order_of_the_file():
    rows = [("u", i, 5) for i in "abcdefghijklmnopqrst"] * 2 + [("v", i, 1) for i in "abcdef"]
    write("small", "inter", rows, TIMED.format("float"))
    assert order_of(rm_dup_inter="first") == "abcdefghijklmnopqrst"  # an unstable sort would mix equal times
