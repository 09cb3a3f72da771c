"""Every spelling that a real export has, and those that must not be guessed."""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import ibis
import ibis.expr.datatypes as dt
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ibis.backends.duckdb import Backend

from segue.core.data import casting
from segue.core.data.canonical import MONEY, TIMESTAMP
from segue.core.data.engine import connect

BROKEN = "broken"


def read(
    con: Backend, values: list[Any], to: dt.DataType, type_: pa.DataType | None = None, **how: Any
) -> list[Any]:
    """Cast each value; BROKEN stands for one that is found not to be of the type."""
    table = ibis.memtable(pa.table({"value": pa.array(values, type_), "place": range(len(values))}))
    made = casting.cast(table.value, to, **how)
    broken = ibis.literal(False) if made.broken is None else made.broken
    result = con.to_pyarrow(
        table.select("place", value=made.value, broken=broken).order_by("place")
    ).to_pylist()
    assert all(row["value"] is None for row in result if row["broken"])
    return [BROKEN if row["broken"] else row["value"] for row in result]


@pytest.mark.parametrize(
    ("text", "decimal", "value"),
    [
        ("12", ".", "12"),
        ("12.50", ".", "12.5"),
        ("1,234.50", ".", "1234.5"),
        ("1 234.50", ".", "1234.5"),
        ("1\u202f234.50", ".", "1234.5"),
        ("1'234.50", ".", "1234.5"),
        ("£12.50", ".", "12.5"),
        ("EUR 12.50", ".", "12.5"),
        ("12.50 €", ".", "12.5"),
        ("-3", ".", "-3"),
        ("\u22123", ".", "-3"),
        ("3-", ".", "-3"),
        ("(3.00)", ".", "-3"),
        (".5", ".", "0.5"),
        ("1e-1", ".", "0.1"),
        ("1.23456", ".", "1.2346"),
        ("12,50", ",", "12.5"),
        ("1.234,50", ",", "1234.5"),
        ("1.234", ",", "1234"),
        ("1 234,50 €", ",", "1234.5"),
        ("12,50", ".", None),  # a comma that does not group thousands
        ("12.50", ",", None),
        ("1,2345", ".", None),
        ("1.234,50", ".", None),
        ("12345678901234567890", ".", None),
        ("twelve", ".", None),
        ("1.2.3", ".", None),
        ("--3", ".", None),
    ],
)
def test_a_number_is_read_in_every_spelling_and_never_guessed(
    con: Backend, text: str, decimal: str, value: str | None
) -> None:
    assert read(con, [text], MONEY, decimal=decimal) == [BROKEN if value is None else Decimal(value)]


def test_a_quantity_with_a_fraction_is_not_rounded(con: Backend) -> None:
    assert read(con, ["3", "3.0", "3.5", "1,000", "x"], dt.int64) == [3, 3, BROKEN, 1000, BROKEN]
    assert read(con, [3.0, 3.5], dt.int64) == [3, BROKEN]


def test_a_gap_of_pandas_is_empty_and_infinity_is_broken(con: Backend) -> None:
    assert read(con, [1.5, float("nan"), float("inf"), None], MONEY) == [Decimal("1.5"), None, BROKEN, None]


def test_a_key_that_pandas_made_a_number_is_a_key_again(con: Backend) -> None:
    assert read(con, [17850.0, None], dt.string) == ["17850", None]


def test_padding_of_every_kind_is_trimmed_and_nothing_left_is_null(con: Backend) -> None:
    assert read(con, [" a\u00a0", "\ufeffb", "\u200b", "", " \t"], dt.string) == ["a", "b", None, None, None]


@pytest.mark.parametrize(
    ("text", "hour"),
    [
        ("2011-12-09T12:50:00Z", "2011-12-09T12:50:00"),
        ("2011-12-09 12:50", "2011-12-09T12:50:00"),
        ("2011-07-09 12:50", "2011-07-09T11:50:00"),  # summer time in London
        ("2011-12-09T12:50:00.123456789+02:00", "2011-12-09T10:50:00.123456"),
        ("2011-12-09T12:50:00,5+0200", "2011-12-09T10:50:00.500000"),
        ("2011-12-09T12:50:00-05", "2011-12-09T17:50:00"),
        ("2011-12-09 12:50:00 UTC", "2011-12-09T12:50:00"),
        ("2011-12-09t12:50:00z", "2011-12-09T12:50:00"),
        ("20111209T125000Z", "2011-12-09T12:50:00"),
        ("20111209", "2011-12-09T00:00:00"),
        ("2011-12-09", "2011-12-09T00:00:00"),
        ("9.12.2011 12:50", "2011-12-09T12:50:00"),
        ("31.12.2011", "2011-12-31T00:00:00"),
        ("2011-03-27 01:30", "2011-03-27T01:30:00"),  # never shown by a clock in London
        ("2011-10-30 01:30", "2011-10-30T01:30:00"),  # shown twice: the later one, in winter time
        ("03/04/2011", None),
        ("2011-02-30", None),
        ("2011-13-01T00:00:00Z", None),
        ("2011-12-09T25:00:00Z", None),
        ("1323388800", None),
        ("yesterday", None),
    ],
)
def test_a_time_is_iso_8601_and_local_without_a_zone(con: Backend, text: str, hour: str | None) -> None:
    expected = BROKEN if hour is None else datetime.fromisoformat(hour).replace(tzinfo=UTC)
    assert read(con, [text], TIMESTAMP, timezone="Europe/London") == [expected]


def test_native_times_without_a_zone_are_local(con: Backend) -> None:
    noon = datetime(2011, 7, 9, 12)  # noqa: DTZ001 - no zone is what is tested
    assert read(con, [noon], TIMESTAMP, timezone="Europe/London") == [datetime(2011, 7, 9, 11, tzinfo=UTC)]
    aware = pa.timestamp("us", tz="America/New_York")
    assert read(con, [noon.replace(tzinfo=UTC)], TIMESTAMP, aware, timezone="Europe/London") == [
        noon.replace(tzinfo=UTC)
    ]
    assert read(con, [date(2011, 7, 9)], TIMESTAMP, timezone="Europe/London") == [
        datetime(2011, 7, 8, 23, tzinfo=UTC)
    ]


def test_a_day_is_that_of_the_shop(con: Backend) -> None:
    assert read(con, ["2011-12-09T23:30:00", "31.12.1980", "1980-13-01"], dt.date) == [
        date(2011, 12, 9),
        date(1980, 12, 31),
        BROKEN,
    ]
    late = datetime(2011, 7, 9, 23, 30, tzinfo=UTC)
    assert read(con, [late], dt.date, timezone="Europe/London") == [date(2011, 7, 10)]


def test_truth_is_read_in_the_languages_of_exports(con: Backend) -> None:
    assert read(con, ["ja", "Nein", "TRUE", "0", "oui", "maybe", ""], dt.boolean) == [
        True, False, True, False, True, BROKEN, None,
    ]  # fmt: skip
    assert read(con, [1, 0, 2], dt.boolean) == [True, False, BROKEN]


def test_lists_survive_from_json_from_arrow_and_from_texts(con: Backend) -> None:
    texts = dt.Array(dt.string)
    assert read(con, ['["a", "b", null, 1]', "a|b; c", "one", "[broken", ""], texts) == [
        ["a", "b", "1"], ["a", "b", "c"], ["one"], BROKEN, None,
    ]  # fmt: skip
    assert read(con, [["a", " "], [], None], texts) == [["a"], [], None]
    assert read(con, [[1, 2]], texts) == [["1", "2"]]


def test_what_stands_there_is_described_and_never_shown(con: Backend) -> None:
    table = ibis.memtable(
        pa.table({"value": ["anna@shop.example", "-5", "31.12.2011", "Müller", "[1]", "x"]})
    )
    kinds = con.to_pyarrow(table.select(kind=casting.value_class(table.value)))["kind"].to_pylist()
    assert kinds == [
        "text with @", "negative whole number", "date, not ISO 8601", "text with letters beyond ASCII", "list or object", "text",
    ]  # fmt: skip


@settings(max_examples=10, deadline=None)
@given(
    st.lists(st.decimals(-(10**9), 10**9, places=4, allow_nan=False), min_size=1, max_size=50),
    st.sampled_from([".", ","]),
)
def test_a_number_written_in_either_way_reads_back(numbers: list[Decimal], decimal: str) -> None:
    swap = str.maketrans(".,", ",." if decimal == "," else ".,")
    connection = connect()
    assert (
        read(connection, [f"{number:,.4f}".translate(swap) for number in numbers], MONEY, decimal=decimal)
        == numbers
    )
    connection.disconnect()
