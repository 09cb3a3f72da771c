"""Events and orders on one timeline: what counts as placed, bought and cancelled."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, cast

import ibis
import pyarrow as pa
import pytest

from segue.core.data.canonical import TABLES, CanonicalTables, LineKind, schema_of
from segue.core.data.engine import connect
from segue.core.data.timeline import timeline
from segue.core.segments.rule import EVENT_COLUMNS, KNOWN_EVENTS, columns_of

NOON = datetime(2024, 6, 1, 12, tzinfo=UTC)


def told(**tables: list[dict[str, Any]]) -> list[dict[str, Any]]:
    given = {
        name: ibis.memtable(pa.Table.from_pylist(tables.get(name, []), schema=schema_of(name).to_pyarrow()))
        for name in TABLES
    }
    happened = timeline(CanonicalTables(**given)).order_by("event_type", "amount")
    return cast("list[dict[str, Any]]", connect().to_pyarrow(happened).to_pylist())


def order(key: str, who: str | None, kind: str = "order") -> dict[str, Any]:
    return {"order_id": key, "contact_id": who, "ordered_at": NOON, "kind": kind}


def line(key: str, product: str, quantity: int, price: str, kind: LineKind) -> dict[str, Any]:
    return {
        "order_id": key,
        "line_no": 1,
        "product_id": product,
        "quantity": quantity,
        "unit_price": Decimal(price),
        "line_kind": kind.value,
    }


def product(key: str, category: str | None) -> dict[str, Any]:
    return {"product_id": key, "category": category, "is_merchandise": True}


def test_an_order_is_placed_once_and_bought_line_by_line() -> None:
    happened = told(
        products=[product("mug", "kitchen"), product("hat", None)],
        orders=[order("1", "ann")],
        order_items=[
            line("1", "mug", 3, "2.50", LineKind.SALE),
            line("1", "hat", 1, "10", LineKind.SALE),
            line("1", "post", 1, "4", LineKind.FEE),
            line("1", "pen", 9, "0", LineKind.FREE),
        ],
    )
    assert [
        (e["event_type"], e["product_id"], e["category"], e["quantity"], e["amount"]) for e in happened
    ] == [
        ("order_placed", None, None, 4, Decimal("17.5")),
        ("product_bought", "mug", "kitchen", 3, Decimal("7.5")),
        ("product_bought", "hat", None, 1, Decimal(10)),
    ]
    assert {(event["contact_id"], event["occurred_at"]) for event in happened} == {("ann", NOON)}


@pytest.mark.parametrize("kind", sorted(set(LineKind) - {LineKind.SALE}))
def test_an_order_without_a_sale_was_not_placed(kind: LineKind) -> None:
    assert told(orders=[order("1", "ann")], order_items=[line("1", "mug", 1, "2", kind)]) == []


def test_a_cancellation_tells_what_was_given_back_in_positive_numbers() -> None:
    happened = told(
        orders=[order("C1", "ann", "cancellation"), order("A1", "ann", "adjustment")],
        order_items=[
            line("C1", "mug", -3, "2.50", LineKind.REVERSAL),
            line("C1", "hat", -1, "10", LineKind.RETURN),
            line("C1", "post", -1, "4", LineKind.FEE),
            line("A1", "mug", -5, "1", LineKind.ADJUSTMENT),
        ],
    )
    assert [(e["event_type"], e["quantity"], e["amount"]) for e in happened] == [
        ("order_cancelled", 4, Decimal("17.5"))
    ]


def test_orders_of_guests_are_nobodys() -> None:
    assert told(orders=[order("1", None)], order_items=[line("1", "mug", 1, "2", LineKind.SALE)]) == []


def test_events_get_their_products_category_and_are_never_lost() -> None:
    view = {"contact_id": "ann", "event_type": "product_viewed", "occurred_at": NOON}
    happened = told(
        products=[product("mug", "kitchen")],
        events=[
            {**view, "event_id": "1", "product_id": "mug"},
            {**view, "event_id": "2", "product_id": "unknown"},
            {**view, "event_id": "3", "url": "/pricing", "campaign_id": "may"},
        ],
    )
    assert sorted((e["product_id"] or "", e["category"], e["url"], e["campaign_id"]) for e in happened) == [
        ("", None, "/pricing", "may"),
        ("mug", "kitchen", None, None),
        ("unknown", None, None, None),
    ]


def test_columns_of_events_are_those_of_the_timeline() -> None:
    empty = {name: ibis.memtable(schema_of(name).to_pyarrow().empty_table()) for name in TABLES}
    columns = timeline(CanonicalTables(**empty)).columns
    assert set(columns) == {"contact_id", "event_type"} | {column.name for column in EVENT_COLUMNS}
    assert all(columns_of(event) < set(columns) for event in KNOWN_EVENTS)
