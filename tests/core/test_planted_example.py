"""The hand-made example gives the answers that its README writes down."""

import re
from pathlib import Path
from typing import Any

import pytest

from segue.core.snapshot import Snapshot, current

EXAMPLE = Path(__file__).parents[2] / "examples" / "planted"


@pytest.fixture(scope="module")
def snapshot(planted: Path) -> Snapshot:
    return current(planted / ".segue")


@pytest.fixture(scope="module")
def query(snapshot: Snapshot) -> Any:
    con = snapshot.connect()
    yield lambda sql: con.raw_sql(sql).fetchall()
    con.disconnect()


def written(*columns: str) -> list[list[str]]:
    """Read the rows of the README's table that has these columns."""
    text = (EXAMPLE / "README.md").read_text(encoding="utf-8")
    head = re.escape("| " + " | ".join(columns) + " |")
    table = re.search(rf"^{head}\n\|[-| ]+\|\n((?:\|.*\|\n)+)", text, re.MULTILINE)
    assert table is not None
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[1].splitlines()]


def test_segments_have_exactly_the_members_that_the_readme_says(query: Any) -> None:
    expected = {
        (segment, member) for segment, members in written("Segment", "Members") for member in members.split()
    }
    assert len(expected) > 25
    assert set(query("select segment, contact_id from segments")) == expected


def test_traits_have_the_values_that_the_readme_says(query: Any) -> None:
    rows = written("Contact", "Trait", "Value", "Why")
    assert len(rows) > 10
    for contact, trait, value, _ in rows:
        ((found,),) = query(f"select {trait}::varchar from profiles where contact_id = '{contact}'")
        assert (contact, trait, found) == (contact, trait, value)


def test_each_contact_is_in_the_first_segment_of_the_group_that_fits(query: Any) -> None:
    found = query(
        "select segment, string_agg(contact_id, ' ' order by contact_id) from groups group by 1 order by 1"
    )
    assert found == [
        ("abandoned_cart", "cora tina uwe"),
        ("browsers", "bert lena"),
        ("never_bought", "dirk jana mara olga sven wilma"),
        ("pricing_visitors", "paul"),
    ]


def test_a_segment_below_its_minimum_is_left_out_and_said(snapshot: Snapshot) -> None:
    (swiss,) = [segment for segment in snapshot.manifest["segments"] if segment["name"] == "swiss"]
    assert (swiss["size"], swiss["is_too_small"]) == (1, True)
    assert any("swiss" in warning for warning in snapshot.manifest["warnings"])


def test_what_cannot_be_sold_is_offered_to_nobody(query: Any) -> None:
    assert query("select * from recommendations where product_id in ('tracksuit', 'shipping')") == []
    assert query("select product_id from recommendations where contact_id = 'anna' order by slot") == [
        ("shorts",),
        ("shoes",),
    ]


def test_unknown_stock_is_said(snapshot: Snapshot) -> None:
    assert any("Stock is known for 9 of 10" in warning for warning in snapshot.manifest["warnings"])


def test_every_table_of_a_snapshot_is_there_with_one_profile_per_customer(
    snapshot: Snapshot, query: Any
) -> None:
    assert set(snapshot.tables) == {
        *("customers", "products", "orders", "order_items", "events", "consents", "quarantine", "identity"),
        *("profiles", "segments", "groups", "memberships", "recommendations"),
    }
    assert query("select count(*), count(distinct contact_id) from profiles") == [(30, 30)]
    columns = [name for name, *_ in query("describe profiles")]
    assert columns == [trait.name for trait in snapshot.traits]
    assert query("select interests from profiles where contact_id = 'alma'") == [(["cooking", "reading"],)]
