"""Segments, groups and their history, build after build."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.core.config import Project, load_project
from segue.core.data.engine import connect
from segue.core.segments.membership import SegmentTables, evaluate

from .events import TIMELINE

ENGINE = connect()
FIRST = datetime(2024, 6, 1, tzinfo=UTC)
DAY = timedelta(days=1)
NOTHING_HAPPENED = ibis.memtable(pa.Table.from_pylist([], schema=TIMELINE))
SEGUE = """
project: shop
sources: {customers: [{path: customers.csv}]}
segments:
  big:
    where: spent >= 100
  some:
    where: spent >= 10
  few:
    where: spent >= 1000
    minimum_size: 2
  fans:
    where: in_segment('few')
groups:
  stage:
    segments: [few, big, some]
  other:
    segments: [some, big]
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return written(tmp_path_factory.mktemp("shop"), SEGUE)


def written(folder: Path, text: str) -> Project:
    (folder / "segue.yml").write_text(text, encoding="utf-8")
    return load_project(folder)


def people(**spent: int | None) -> ibis.Table:
    schema = pa.schema({"contact_id": pa.string(), "spent": pa.int64()})
    rows = [{"contact_id": who, "spent": amount} for who, amount in spent.items()]
    return ibis.memtable(pa.Table.from_pylist(rows, schema=schema))


def build(
    project: Project, at: datetime, previous: pa.Table | None = None, **spent: int | None
) -> SegmentTables:
    # Profiles live on the backend that the build runs on, as in a real one.
    profiles = ENGINE.create_table(ibis.util.gen_name("people"), people(**spent), temp=True)
    told = None if previous is None else ibis.memtable(previous)
    return evaluate(project, profiles, NOTHING_HAPPENED, at, told)


def rows(table: ibis.Table) -> list[tuple[Any, ...]]:
    return sorted(
        (tuple(row.values()) for row in ENGINE.to_pyarrow(table).to_pylist()),
        key=lambda row: tuple(map(str, row)),
    )


def history(tables: SegmentTables) -> pa.Table:
    return ENGINE.to_pyarrow(tables.memberships)


def of(table: pa.Table, segment: str) -> list[tuple[Any, ...]]:
    return sorted(
        (
            row["contact_id"],
            (row["entered_at"] - FIRST) // DAY,
            row["left_at"] and (row["left_at"] - FIRST) // DAY,
        )
        for row in table.to_pylist()
        if row["segment"] == segment
    )


def test_a_segment_below_its_minimum_size_is_left_out_and_said(project: Project) -> None:
    tables = build(project, FIRST, a=5000, b=200, c=50, d=5, e=None)
    assert rows(tables.segments) == [
        ("a", "big"),
        ("a", "fans"),
        ("a", "some"),
        ("b", "big"),
        ("b", "some"),
        ("c", "some"),
    ]
    assert tables.sizes == {"big": 2, "some": 3, "few": 1, "fans": 1}
    assert tables.too_small == ("few",)
    enough = build(project, FIRST, a=5000, b=5000)
    assert ("b", "few") in rows(enough.segments)
    assert enough.too_small == ()


def test_a_contact_is_in_the_first_segment_of_a_group_that_fits(project: Project) -> None:
    tables = build(project, FIRST, a=5000, b=5000, c=200, d=50, e=5)
    assert rows(tables.groups) == [
        ("a", "other", "some"),
        ("a", "stage", "few"),
        ("b", "other", "some"),
        ("b", "stage", "few"),
        ("c", "other", "some"),
        ("c", "stage", "big"),
        ("d", "other", "some"),
        ("d", "stage", "some"),
    ]


def test_a_group_says_nothing_rather_than_something_else_of_a_small_segment(project: Project) -> None:
    assert [row for row in rows(build(project, FIRST, a=5000, b=200).groups) if row[1] == "stage"] == [
        ("b", "stage", "big")
    ]


def test_history_is_kept_of_small_segments_too(project: Project) -> None:
    assert of(history(build(project, FIRST, a=5000)), "few") == [("a", 0, None)]


def test_entering_staying_leaving_and_coming_back(project: Project) -> None:
    told = history(build(project, FIRST, a=100, b=100, c=1))
    assert of(told, "big") == [("a", 0, None), ("b", 0, None)]
    told = history(build(project, FIRST + DAY, told, a=100, b=1, c=100))
    assert of(told, "big") == [("a", 0, None), ("b", 0, 1), ("c", 1, None)]
    told = history(build(project, FIRST + 2 * DAY, told, a=100, b=100, c=100))
    assert of(told, "big") == [("a", 0, None), ("b", 0, 1), ("b", 2, None), ("c", 1, None)]


def test_a_segment_that_is_no_longer_defined_is_left(project: Project, tmp_path: Path) -> None:
    told = history(build(project, FIRST, a=100))
    fewer = written(
        tmp_path,
        SEGUE.replace("  big:\n    where: spent >= 100\n", "").replace("big, ", "").replace(", big", ""),
    )
    told = history(build(fewer, FIRST + DAY, told, a=100))
    assert of(told, "big") == [("a", 0, 1)]
    assert of(told, "some") == [("a", 0, None)]


def test_a_contact_that_is_gone_leaves_no_history(project: Project) -> None:
    told = history(build(project, FIRST, a=100, b=100))
    assert of(history(build(project, FIRST + DAY, told, b=100)), "big") == [("b", 0, None)]


def test_a_build_for_an_earlier_day_tells_the_history_of_that_day(project: Project) -> None:
    told = history(build(project, FIRST, a=100, b=1))
    told = history(build(project, FIRST + 4 * DAY, told, a=1, b=100))
    assert of(told, "big") == [("a", 0, 4), ("b", 4, None)]
    told = history(build(project, FIRST + 2 * DAY, told, a=100, b=1))
    assert of(told, "big") == [("a", 0, None)]


def test_a_changed_rule_at_the_same_moment_leaves_no_entry_of_no_length(project: Project) -> None:
    told = history(build(project, FIRST, a=100))
    assert of(history(build(project, FIRST, told, a=1)), "big") == []


spendings = st.fixed_dictionaries({who: st.sampled_from([None, 1, 10, 100, 1000]) for who in "ab"})


@settings(max_examples=10, deadline=None, database=None, derandomize=True)
@given(days=st.lists(st.tuples(st.integers(0, 5), spendings), min_size=1, max_size=4))
def test_history_agrees_with_today_and_an_equal_build_changes_nothing(
    project: Project, days: list[tuple[int, dict[str, int | None]]]
) -> None:
    told = None
    for day, spent in days:
        tables = build(project, FIRST + day * DAY, told, **spent)
        told = history(tables)
        again = build(project, FIRST + day * DAY, told, **spent)
        assert rows(again.memberships) == rows(tables.memberships)
        assert (rows(again.segments), rows(again.groups)) == (rows(tables.segments), rows(tables.groups))
        entries = told.to_pylist()
        now_in = [(row["contact_id"], row["segment"]) for row in entries if row["left_at"] is None]
        assert len(now_in) == len(set(now_in))
        assert set(now_in) >= set(rows(tables.segments))
        assert sum(tables.sizes.values()) == len(now_in)
        assert all(row["left_at"] is None or row["entered_at"] < row["left_at"] for row in entries)


def test_a_project_without_segments_or_groups_has_empty_tables(tmp_path: Path) -> None:
    project = written(tmp_path, SEGUE.partition("segments:")[0])
    tables = build(project, FIRST, a=100)
    assert (rows(tables.segments), rows(tables.groups), rows(tables.memberships)) == ([], [], [])
    assert ENGINE.to_pyarrow(tables.groups).column_names == ["contact_id", "group_name", "segment"]
    assert tables.sizes == {}
