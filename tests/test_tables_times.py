"""Tests that every format of the same times gives the same numbers in the same order."""

from __future__ import annotations

from datetime import date, datetime, timezone
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recbole_disent.data.times import unit_of
from recbole_disent.errors import UserError
from recbole_disent.tables import read_events
from recbole_disent.tables.times import parse_times

SECONDS = [881250949, 1714564800, 1714564801]
STAMPS = pd.to_datetime(pd.Series(SECONDS), unit="s")
AWARE = STAMPS.dt.tz_localize("UTC").dt.tz_convert("Asia/Tokyo")

PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # for a busy machine


def where(row: int) -> str:
    return f"row {row}"


def parse(values, missing: str = "error"):
    times, kept = parse_times(pd.Series(values), "ts", where, missing)
    assert times.values.dtype == np.int64
    return times, kept


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (SECONDS, "seconds"),
        (np.array(SECONDS, dtype=float), "seconds"),
        (np.array(SECONDS) * 1000, "milliseconds"),
        (np.array(SECONDS) * 1000.0, "milliseconds"),
        (np.array(SECONDS) * 10**6, "microseconds"),
        (np.array(SECONDS) * 10**9, "nanoseconds"),
        (pd.array(SECONDS, dtype="Int64"), "seconds"),
        ([str(s) for s in SECONDS], "seconds"),
        ([f"{s}.0" for s in SECONDS], "seconds"),
        ([f" {s}000" for s in SECONDS], "milliseconds"),
        (pd.Categorical(SECONDS), "seconds"),
        ([Decimal(s) for s in SECONDS], "seconds"),
        (STAMPS, "dates"),
        (STAMPS.astype("datetime64[ms]"), "dates"),
        (AWARE, "dates"),
        (STAMPS.astype(object), "dates"),
        (AWARE.astype(object), "dates"),
        ([datetime.fromtimestamp(s, timezone.utc) for s in SECONDS], "dates"),
        (STAMPS.astype(str), "dates"),
        (AWARE.map(lambda t: t.isoformat()), "dates"),
        (STAMPS.map(lambda t: t.isoformat() + "Z"), "dates"),
        (STAMPS.map(lambda t: f"{t} UTC"), "dates"),
        (pd.Categorical(STAMPS.astype(str)), "dates"),
    ],
)
def test_all_forms_give_the_same_seconds(values, found):
    times, kept = parse(values)
    assert times.values.tolist() == SECONDS
    assert (times.unit, times.found) == ("s", found)
    assert kept.all()


@pytest.mark.parametrize(
    ("values", "wanted", "unit"),
    [
        (["2024-05-01", "2024-05-02"], [1714521600, 1714608000], "s"),
        ([date(2024, 5, 1), date(2024, 5, 2)], [1714521600, 1714608000], "s"),
        (["2024-05-01 00:00:00.5", "2024-05-01"], [1714521600500, 1714521600000], "ms"),
        ([1714521600.25, 1714521601.0], [1714521600250, 1714521601000], "ms"),
        ([1714521600.123456, 1714521601.0], [1714521600123456, 1714521601000000], "us"),
        ([1714521600000, 1714521600001], [1714521600000, 1714521600001], "ms"),
        ([1714521600000000001, 1714521600000000000], [1714521600000000001, 1714521600000000000], "ns"),
        ([3, 1, 2], [3, 1, 2], "step"),
        ([0.5, 0.25, 0.5], [1, 0, 1], "rank"),
        ([0, 1714521600], [0, 1714521600], "s"),
    ],
)
def test_the_coarsest_exact_unit_is_taken(values, wanted, unit):
    times, _ = parse(values)
    assert (times.values.tolist(), times.unit) == (wanted, unit)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["2024-05-01", ""], "row 1: the time in column 'ts' is missing; .*missing_time=drop"),
        ([1.0, np.nan], "row 1: the time in column 'ts' is missing"),
        (
            ["2024-05-01", "01/02/2024"],
            "row 1: .* is '01/02/2024', expected a date of ISO 8601.* like '2024",
        ),
        (["1714521600.5", ""], "row 1: the time in column 'ts' is missing; .*missing_time=drop"),
        (["1714521600.5", "?"], "row 1: .* is '\\?', expected a number like '1714521600.5'"),
        (["NULL", "1714521600"], "row 0: .* is 'NULL', expected a number like '1714521600'; .*=drop"),
        (["2024-05-01", "now"], "row 1: .* is 'now', expected a date"),
        (["2024-05-01", "2024-13-01"], "row 1: .* is '2024-13-01', expected a date"),
        (["2024-05-01", "1714521600"], "row 1: .* is '1714521600', expected a date"),
        (["1714521600", "2024-05-01"], "row 1: .* is '2024-05-01', expected a number like '1714521600'"),
        ([1.0, np.inf], "row 1: .* is inf, expected a number"),
        ([1714521600, 1714521600000], "row 0: .* 1714521600, seconds by its size, .*row 1.* is milliseconds"),
        (["1" * 20, "1"], "row 0: .* too large for Unix nanoseconds"),
        ([True, False], "contains true and false, such as"),
        (["2024-05-01", 5], "row 1: column 'ts' \\(time\\) contains values of several types"),
        ([{"a": 1}, {"a": 2}], "contains nested records"),
        ([None, None], "row 0: the time in column 'ts' is missing"),
    ],
)
def test_faulty_times_get_one_sentence(values, message):
    with pytest.raises(UserError, match=message):
        parse(values)


@pytest.mark.parametrize(
    "values",
    [
        ["1714521600000000001", "", "soon", "1714521600000000003"],
        pd.array([1714521600000000001, None, None, 1714521600000000003], dtype="Int64"),
        ["2024-05-01T00:00:00.000000001", None, "01/02/2024", "2024-05-01T00:00:00.000000003"],
    ],
)
def test_rows_without_a_time_are_dropped_and_the_others_stay_exact(values):
    times, kept = parse(values, "drop")
    assert kept.tolist() == [True, False, False, True]
    assert times.values.tolist() == [1714521600000000001, 1714521600000000003]
    with pytest.raises(UserError, match="row 0: no time in column 'ts' can be read"):
        parse(["", "x"], "drop")
    with pytest.raises(UserError, match="missing_time: got 'skip', expected error or drop"):
        parse(["1"], "skip")


def test_a_column_without_a_readable_time_says_what_it_contains():
    expected = "can be read: got '01.01.2025 00:00', expected dates of ISO 8601 .*; convert .* by time=NAME$"
    with pytest.raises(UserError, match=expected):
        parse(["", "01.01.2025 00:00", "02.01.2025 00:00"], "drop")
    with pytest.raises(UserError, match="can be read, because it is empty; name another column by time=NAME"):
        parse([None, None], "drop")


def test_times_too_fine_for_a_float_keep_their_order():
    base = 1714521600 * 10**9
    frame = pd.DataFrame({"user": [1] * 3, "item": [1, 2, 3], "ts": [base + 900, base + 5, base + 1001]})
    found = read_events(frame)
    assert list(found.frame["item_id"]) == ["2", "1", "3"]
    assert found.frame["timestamp"].tolist() == [base // 1000, base // 1000, base // 1000 + 1]
    assert found.summary["time"]["unit"] == "us"
    assert "too fine for float64" in found.summary["notes"][-1]


@PATIENT
@given(st.lists(st.floats(1e8, 1e11, exclude_max=True), min_size=1, max_size=30))
def test_fractions_of_seconds_keep_their_order(values):
    times, _ = parse(values)
    rank = lambda v: np.unique(v, return_inverse=True)[1].tolist()  # noqa: E731
    # A float is finer than a nanosecond below 2^23 seconds only.
    assert rank(times.values) == rank(np.array(values))


UTC_TIMES = st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1), timezones=st.just(timezone.utc))


@PATIENT
@given(st.lists(UTC_TIMES, min_size=1, max_size=30))
def test_dates_are_read_exactly(values):
    texts, _ = parse([value.isoformat() for value in values])
    stamps, _ = parse(values)
    per_second = {"s": 1, "ms": 10**3, "us": 10**6}[texts.unit]
    start = datetime(1970, 1, 1, tzinfo=timezone.utc)
    for value, number in zip(values, texts.values.tolist(), strict=True):
        since = value - start
        micro = (since.days * 86400 + since.seconds) * 10**6 + since.microseconds
        assert micro == number * (10**6 // per_second)
    assert (stamps.values == texts.values).all()
    assert stamps.unit == texts.unit


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([202405010000, 202405010001, 202411251430], "dates written as digits (YYYYMMDDhhmm)"),
        (["20240501000000", "20240501000001", "20241125143059"], "dates written as digits (YYYYMMDDhhmmss)"),
    ],
)
def test_dates_written_as_digits_are_dates_and_not_milliseconds(values, found):
    times, _ = parse_times(pd.Series(values), "ts", str)
    assert times.found == found
    expected = pd.to_datetime(pd.Series(values).astype(str).str.ljust(14, "0"), format="%Y%m%d%H%M%S")
    assert (pd.to_datetime(times.values, unit=times.unit) == expected).all()


def test_milliseconds_that_are_no_dates_stay_milliseconds():
    times, _ = parse_times(pd.Series([202405010000, 202499990000]), "ts", str)
    assert times.found == "milliseconds"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1700000000, -62169984000], r"row 1: .* is -62169984000, which is before the year 1"),
        ([1700000000000, -62169984000000], r"row 1: .*, which is before the year 1"),
        (pd.Series([1, 99999999999999999999], dtype=object), "row 1: .* too large for Unix nanoseconds"),
    ],
)
def test_times_that_no_calendar_has_are_refused(values, message):
    with pytest.raises(UserError, match=message):
        parse(values)


def test_a_named_index_is_a_column():
    frame = pd.DataFrame({"user": ["a", "a", "b"], "item": ["x", "y", "x"], "timestamp": [3, 1, 2]})
    found = read_events(frame.set_index("timestamp"))
    assert found.summary["columns"]["time"] == "timestamp"
    assert found.frame.equals(read_events(frame).frame)
    # A level with the name of a column is that column, as groupby leaves it.
    assert read_events(frame.set_index("timestamp", drop=False)).frame.equals(found.frame)
    assert read_events(frame.set_index(["user", frame.index], drop=False)).frame.equals(found.frame)


def test_a_number_of_many_digits_is_one_sentence(tmp_path):
    for text in ('{"user": 1, "item": ' + "9" * 5000 + "}\n", '[{"user": 1, "item": ' + "9" * 5000 + "}]"):
        (tmp_path / "e.jsonl").write_text(text)
        with pytest.raises(UserError, match=r"e\.jsonl"):
            read_events(tmp_path / "e.jsonl")


def test_duplicates_are_found_by_exact_times():
    first = 1700000000000000001
    stamps = [first + 1, first, first, first + 5, first + 4]
    frame = pd.DataFrame({"user": [*"abbaa"], "item": ["x"] * 5, "timestamp": stamps})
    found = read_events(frame, dedupe="exact")
    assert found.summary["dropped"]["duplicates"] == 1
    assert found.frame["user_id"].tolist() == ["b", "a", "a", "a"]


def test_small_numbers_among_unix_times_are_counted():
    assert parse([-1, 0, 1700000000000])[0].found == "milliseconds (2 of them before 1973)"
    assert parse([-(10**9), 1700000000])[0].found == "seconds (1 of them before 1973)"
    assert parse([1700000000000, 1700000000001])[0].found == "milliseconds"
    # Numbers below zero have a unit too: times before 1967.
    assert parse([-(10**9), -(2 * 10**9)])[0].found == "seconds (2 of them before 1973)"


@pytest.mark.parametrize(("unit", "size"), [("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)])
def test_the_report_of_a_data_set_and_of_a_table_find_the_same_unit(unit, size):
    """At the limits too, except in nanoseconds, which end in the year 2262."""
    for second in (10**8, 1_700_000_000, 9_000_000_000 if unit == "ns" else 10**11 - 1):
        time = second * size + (size > 1)  # no whole number of a coarser unit
        assert parse([time] * 2)[0].unit == unit
        assert unit_of(float(time), float(time)) == unit


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        (["NULL", "-", "1714521600", "2024-05-01", "1714521601"], [1714521600, 1714521601]),
        (["NULL", "2024-05-01", "1714521601"], [1714521600]),
        (["1714521600.5", "", "1714521601"], [1714521600500, 1714521601000]),
        (pd.array([1714521600.5, None, 1714521601], dtype="Float64"), [1714521600500, 1714521601000]),
        (pd.Series([1714521600.5, pd.NA, 1714521601.0], dtype=object), [1714521600500, 1714521601000]),
    ],
)
def test_rows_without_a_time_are_dropped_wherever_they_are(values, wanted):
    assert parse(values, "drop")[0].values.tolist() == wanted
