"""Rules that shops use, held against planted people; where windows end; and how often the timeline is read."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import ibis
import pyarrow as pa
import pytest
from ibis.backends.duckdb import Backend

from segue.core.data.engine import connect
from segue.core.segments.compile import flags
from segue.core.segments.language import parse

from .events import TIMELINE

NOW = datetime(2024, 6, 15, 12, 30, 15, 250_000, tzinfo=UTC)
TICK = timedelta(microseconds=1)
DAY = timedelta(days=1)

PROFILES = pa.schema(
    {
        "contact_id": pa.string(),
        "gender": pa.string(),
        "age_years": pa.int64(),
        "recency_days": pa.int64(),
        "revenue": pa.decimal128(18, 4),
        "birth_date": pa.date32(),
        "top_categories": pa.list_(pa.string()),
        "Select": pa.string(),
    }
)


@pytest.fixture(scope="module")
def engine() -> Backend:
    return connect()


def event(who: str, what: str, ago: timedelta, **more: Any) -> dict[str, Any]:
    return {"contact_id": who, "event_type": what, "occurred_at": NOW - ago, **more}


def person(who: str, **more: Any) -> dict[str, Any]:
    return {"contact_id": who, **more}


def chosen(
    engine: Backend, where: str, people: list[dict[str, Any]], events: list[dict[str, Any]]
) -> list[str]:
    profiles = ibis.memtable(pa.Table.from_pylist(people, schema=PROFILES))
    timeline = ibis.memtable(pa.Table.from_pylist(events, schema=TIMELINE))
    flagged = flags({"chosen": parse(where)}, profiles, timeline, NOW)
    rows = engine.to_pyarrow(flagged.table).to_pylist()
    return sorted(row["contact_id"] for row in rows if row[flagged.columns["chosen"]])


def test_women_aged_25_to_34_who_bought_athletic_wear_within_30_days(engine: Backend) -> None:
    people = [
        person("yes", gender="female", age_years=25),
        person("also", gender="female", age_years=34),
        person("older", gender="female", age_years=35),
        person("man", gender="male", age_years=30),
        person("unknown", age_years=30),
        person("late", gender="female", age_years=30),
        person("shoes", gender="female", age_years=30),
    ]
    bought = {"category": "athletic wear", "quantity": 1, "amount": Decimal(20)}
    events = [event(who["contact_id"], "product_bought", 29 * DAY, **bought) for who in people[:5]]
    events += [event("late", "product_bought", 31 * DAY, **bought)]
    events += [event("shoes", "product_bought", DAY, **{**bought, "category": "shoes"})]
    where = (
        "gender = 'female' and age_years between 25 and 34 "
        "and ever('product_bought', '30 days', category = 'athletic wear')"
    )
    assert chosen(engine, where, people, events) == ["also", "yes"]


def test_more_than_three_views_in_seven_days_without_a_purchase(engine: Backend) -> None:
    people = [person("four"), person("three"), person("bought"), person("long ago"), person("nothing")]
    events = [
        event(who, "product_viewed", timedelta(hours=n)) for who in ("four", "bought") for n in range(4)
    ]
    events += [event("three", "product_viewed", timedelta(hours=n)) for n in range(3)]
    events += [event("long ago", "product_viewed", 8 * DAY) for _ in range(9)]
    events += [event("bought", "order_placed", 6 * DAY), event("four", "order_placed", 8 * DAY)]
    where = "times('product_viewed', '7 days') > 3 and times('order_placed', '7 days') = 0"
    assert chosen(engine, where, people, events) == ["four"]


def test_last_purchase_long_ago_and_the_pricing_page_visited_lately(engine: Backend) -> None:
    people = [
        person(who, recency_days=days) for who, days in {"yes": 91, "ninety": 90, "no page": 91}.items()
    ]
    people += [person("never bought"), person("other page", recency_days=200)]
    events = [
        event(who, "page_viewed", DAY, url="/pricing?plan=2") for who in ("yes", "ninety", "never bought")
    ]
    events += [event("other page", "page_viewed", DAY, url="/about/pricing")]
    where = "recency_days > 90 and ever('page_viewed', '7 days', url like '/pricing%')"
    assert chosen(engine, where, people, events) == ["yes"]


@pytest.mark.parametrize(
    ("ordered_after", "carted_ago", "abandoned"),
    [
        (None, 25, True),
        (None, 24, True),  # the time for an answer ends now
        (None, 23, False),  # there still is time
        (1, 48, False),
        (24, 48, False),  # just in time
        (25, 48, True),
        (0, 48, False),  # at the same moment
        (-1, 48, True),  # an order before the cart answers nothing
    ],
)
def test_a_cart_without_an_order_in_24_hours(
    engine: Backend, ordered_after: int | None, carted_ago: int, abandoned: bool
) -> None:
    carted = timedelta(hours=carted_ago)
    events = [event("a", "cart_added", carted), event("b", "order_placed", carted - timedelta(hours=1))]
    if ordered_after is not None:
        events.append(event("a", "order_placed", carted - timedelta(hours=ordered_after)))
    where = "unanswered('cart_added', 'order_placed', '24 hours') >= 1"
    assert chosen(engine, where, [person("a"), person("b")], events) == (["a"] if abandoned else [])


def test_recency_and_a_list_trait(engine: Backend) -> None:
    people = [
        person("yes", recency_days=31, top_categories=["garden", "electronics"]),
        person("thirty", recency_days=30, top_categories=["electronics"]),
        person("garden", recency_days=31, top_categories=["garden"]),
        person("no list", recency_days=31),
        person("empty list", recency_days=31, top_categories=[]),
    ]
    assert chosen(engine, "recency_days > 30 and 'electronics' in top_categories", people, []) == ["yes"]
    assert chosen(engine, "'electronics' not in top_categories", people, []) == [
        "empty list",
        "garden",
        "no list",
    ]


@pytest.mark.parametrize(
    ("ago", "counts"),
    [(-TICK, False), (timedelta(0), True), (7 * DAY - TICK, True), (7 * DAY, False), (7 * DAY + TICK, False)],
)
def test_a_window_holds_its_end_and_not_its_beginning(engine: Backend, ago: timedelta, counts: bool) -> None:
    found = chosen(engine, "ever('page_viewed', '7 days')", [person("a")], [event("a", "page_viewed", ago)])
    assert found == (["a"] if counts else [])


def test_what_happens_after_as_of_does_not_exist(engine: Backend) -> None:
    later = [
        event("a", what, -DAY, category="x", product_id="p", quantity=2, amount=Decimal(9))
        for what in ("page_viewed", "product_bought", "order_placed", "cart_added")
    ]
    for where in (
        "ever('page_viewed')",
        "days_since('page_viewed') is not null",
        "total('order_placed') > 0",
        "pieces('product_bought') > 0",
        "distinct_products('product_bought') > 0",
        "distinct_categories('product_bought') > 0",
        "unanswered('cart_added', 'order_placed', '1 hour') > 0",
    ):
        assert chosen(engine, where, [person("a")], later) == [], where


def test_a_later_answer_does_not_change_what_was_true(engine: Backend) -> None:
    cart, answer = event("a", "cart_added", timedelta(hours=25)), event("a", "order_placed", -DAY)
    where = "unanswered('cart_added', 'order_placed', '24 hours') = 1"
    assert (
        chosen(engine, where, [person("a")], [cart])
        == chosen(engine, where, [person("a")], [cart, answer])
        == ["a"]
    )


@pytest.mark.parametrize(
    ("ago", "whole_days"), [(timedelta(0), 0), (DAY - TICK, 0), (DAY, 1), (91 * DAY, 91)]
)
def test_days_since_counts_whole_days(engine: Backend, ago: timedelta, whole_days: int) -> None:
    events = [event("a", "order_placed", ago), event("a", "order_placed", 400 * DAY)]
    assert chosen(engine, f"days_since('order_placed') = {whole_days}", [person("a")], events) == ["a"]


def test_missing_values_fit_no_statement_and_every_opposite(engine: Backend) -> None:
    people = [person("known", gender="female", recency_days=5), person("missing")]
    for where in ("gender = 'female'", "recency_days < 9", "gender in ('female')", "gender like 'f%'"):
        assert chosen(engine, where, people, []) == ["known"]
        assert chosen(engine, f"not {where}", people, []) == ["missing"]
    assert chosen(engine, "gender != 'female'", people, []) == ["missing"]
    assert chosen(engine, "gender not in ('male')", people, []) == ["known", "missing"]
    assert chosen(engine, "recency_days >= 9 or recency_days < 9", people, []) == ["known"]


def test_numbers_never_fail_a_build(engine: Backend) -> None:
    people = [
        person("a", recency_days=2**62, revenue=Decimal("12345678901234.5678")),
        person("b", recency_days=0),
    ]
    assert chosen(
        engine, "recency_days * recency_days * recency_days > 1 and revenue * 1000000 > 1", people, []
    ) == ["a"]
    assert chosen(engine, "1 / recency_days is null", people, []) == ["b"]
    assert chosen(engine, "revenue = 12345678901234.5", people, []) == []


def test_a_trait_may_have_any_name_and_capitals(engine: Backend) -> None:
    people = [person("a", Select="it's"), person("b", Select="its")]
    assert chosen(engine, "\"Select\" = 'it''s'", people, []) == ["a"]


def test_events_of_strangers_choose_nobody_and_people_without_events_are_kept(engine: Backend) -> None:
    events = [event("stranger", "page_viewed", DAY)]
    assert chosen(engine, "times('page_viewed') = 0", [person("a")], events) == ["a"]
    assert chosen(engine, "true", [person("a"), person("b")], []) == ["a", "b"]


def test_a_rule_of_hundreds_of_conditions_runs(engine: Backend) -> None:
    where = " or ".join(f"recency_days = {number}" for number in range(900))
    assert chosen(engine, where, [person("a", recency_days=899), person("b", recency_days=900)], []) == ["a"]


def test_references_look_at_rules_in_any_order(engine: Backend) -> None:
    profiles = ibis.memtable(
        pa.Table.from_pylist([person("a", recency_days=1), person("b", recency_days=9)], schema=PROFILES)
    )
    timeline = ibis.memtable(pa.Table.from_pylist([], schema=TIMELINE))
    rules = {
        "last": parse("in_segment('middle') and birth_date is null"),
        "middle": parse("not in_segment('first')"),
        "first": parse("recency_days > 5"),
    }
    flagged = flags(rules, profiles, timeline, NOW)
    rows = {row["contact_id"]: row for row in engine.to_pyarrow(flagged.table).to_pylist()}
    assert {name: rows["a"][column] for name, column in flagged.columns.items()} == {
        "last": True,
        "middle": True,
        "first": False,
    }


def test_dates_in_a_rule_are_days_and_moments(engine: Backend) -> None:
    people = [person("a", birth_date=date(1990, 5, 1)), person("b", birth_date=date(1990, 5, 2)), person("c")]
    assert chosen(engine, "birth_date = '1990-05-01'", people, []) == ["a"]
    assert chosen(engine, "birth_date <= '1990-05-01T23:59:59Z'", people, []) == ["a"]
    assert chosen(engine, "birth_date > date '1990-05-01'", people, []) == ["b"]
    assert chosen(engine, "days_since(birth_date) / 365.25 >= 34", people, []) == ["a", "b"]


def test_all_rules_together_read_the_timeline_once(engine: Backend) -> None:
    profiles = ibis.memtable(pa.Table.from_pylist([person("a")], schema=PROFILES))
    timeline = ibis.memtable(pa.Table.from_pylist([event("a", "page_viewed", DAY)], schema=TIMELINE))

    def query(rules: dict[str, str]) -> str:
        parsed = {name: parse(where) for name, where in rules.items()}
        return str(engine.compile(flags(parsed, profiles, timeline, NOW).table))

    rules = {
        f"s{number}": f"times('page_viewed', '7 days') > {number} and pieces('order_placed', '{number + 1} days') = 0"
        for number in range(8)
    } | {"again": "not ever('page_viewed', '1 week')"}
    assert query(rules).count(f'"{timeline.get_name()}"') == 1
    assert query(rules).count("'page_viewed'") == 2  # one prefilter, and one measure that nine rules share
    carts = {"carts": "unanswered('cart_added', 'order_placed', '24 hours') > 0"}
    # Looking for answers is a pass of its own, over the same reading.
    assert query(rules | carts).count(f'"{timeline.get_name()}"') == 1
