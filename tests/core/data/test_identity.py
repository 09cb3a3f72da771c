"""Customers with one address are one contact; what was merged is said and can be undone."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from segue.core.data.identity import KEEP_APART_FILE, Merge, keep_apart, kept_apart, report
from segue.core.errors import DataError

from .conftest import Folder, rows

CUSTOMERS = """contact_id,email,first_name,city,points,created_at,updated_at
c1,anna@x.de,Anna,,5,2018-01-01,2025-01-01
c2,ANNA@x.de ,,Ulm,,2019-01-01,2026-01-01
c3,anna@x.de,Änni,Bonn,7,,
c4,ben@x.de,Ben,,,,
c5,,Anna,,,,
c6,,Anna,,,,
"""
TABLES = {
    "customers": CUSTOMERS,
    "orders": "order_id,contact_id,ordered_at\no1,c1,2026-01-01\no2,c2,2026-01-02\no3,c4,2026-01-03\n",
    "events": "contact_id,event_type,occurred_at\nc3,page_viewed,2026-01-01\n",
    "consents": "contact_id,act,occurred_at,evidence\nc2,grant,2025-01-01,form\nc1,withdrawal,2026-01-01,\n",
}


def test_the_newest_survives_and_its_gaps_are_filled_from_the_others(folder: Folder) -> None:
    ingested = folder.ingest_csv(TABLES)
    assert rows(ingested.tables.customers, "contact_id", "email", "first_name", "city", "points") == [
        ("c2", "anna@x.de", "Anna", "Ulm", 5),
        ("c4", "ben@x.de", "Ben", None, None),
        ("c5", None, "Anna", None, None),
        ("c6", None, "Anna", None, None),
    ]
    created = ingested.tables.customers.filter(ingested.tables.customers.contact_id == "c2").created_at
    assert created.to_pyarrow().to_pylist() == [datetime(2019, 1, 1, tzinfo=UTC)]


def test_everything_that_names_a_merged_customer_is_pointed_to_the_survivor(folder: Folder) -> None:
    tables = folder.ingest_csv(TABLES).tables
    assert rows(tables.orders, "order_id", "contact_id") == [("o1", "c2"), ("o2", "c2"), ("o3", "c4")]
    assert rows(tables.events, "contact_id") == ["c2"]
    assert rows(tables.consents, "contact_id", "act") == [("c2", "grant"), ("c2", "withdrawal")]


def test_the_report_says_who_and_which_values_were_taken_over(folder: Folder) -> None:
    ingested = folder.ingest_csv(TABLES)
    assert list(report(ingested.identity)) == [
        Merge(contact_id="c1", survivor_id="c2", rule="same_email", merged_columns=("first_name", "points")),
        Merge(contact_id="c3", survivor_id="c2", rule="same_email", merged_columns=()),
    ]
    assert len(list(report(ingested.identity, limit=1))) == 1
    assert ingested.report.merged_contacts == 2


def test_the_oldest_survives_on_request(folder: Folder) -> None:
    ingested = folder.ingest_csv(TABLES, identity={"keep": "oldest"})
    first = rows(ingested.tables.customers, "contact_id", "first_name", "city", "points")[0]
    assert first == ("c1", "Anna", "Ulm", 5)
    assert [merge.contact_id for merge in report(ingested.identity)] == ["c2", "c3"]


def test_of_equally_old_ones_the_smaller_key_survives(folder: Folder) -> None:
    ingested = folder.ingest_csv({"customers": "contact_id,email\nb,x@x.de\na,x@x.de\n"})
    assert rows(ingested.tables.customers, "contact_id") == ["a"]


def test_nobody_is_merged_when_merge_on_is_empty(folder: Folder) -> None:
    ingested = folder.ingest_csv(TABLES, identity={"merge_on": []})
    assert len(rows(ingested.tables.customers, "contact_id")) == 6
    assert rows(ingested.identity, "contact_id") == []


def test_kept_apart_customers_both_stay_with_the_address_they_share(folder: Folder) -> None:
    assert keep_apart(folder.path, "c1")
    ingested = folder.ingest_csv(TABLES)
    assert rows(ingested.tables.customers, "contact_id", "email")[:2] == [
        ("c1", "anna@x.de"),
        ("c2", "anna@x.de"),
    ]
    assert rows(ingested.tables.orders, "order_id", "contact_id")[0] == ("o1", "c1")
    assert [merge.contact_id for merge in report(ingested.identity)] == ["c3"]


def test_the_undo_is_a_file_that_grows_by_one_line_each(tmp_path: Path) -> None:
    assert kept_apart(tmp_path) == frozenset()
    assert keep_apart(tmp_path, "c2")
    assert keep_apart(tmp_path, 'odd,"key"')
    assert not keep_apart(tmp_path, "c2")
    assert kept_apart(tmp_path) == {"c2", 'odd,"key"'}
    assert [path.name for path in tmp_path.iterdir()] == [KEEP_APART_FILE]


def test_a_broken_undo_file_is_an_error_and_never_ignored(tmp_path: Path) -> None:
    (tmp_path / KEEP_APART_FILE).write_text("c1\nc2\n")
    with pytest.raises(DataError, match='its first line must be "contact_id"'):
        kept_apart(tmp_path)
    with pytest.raises(DataError):
        keep_apart(tmp_path, "c3")
    assert (tmp_path / KEEP_APART_FILE).read_text() == "c1\nc2\n"
