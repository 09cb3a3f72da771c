"""Each trait is what its description says, at a moment, from what is known at that moment."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from segue.core.features.compute import FEATURES, compute, customer_traits
from segue.core.scores.rfm import RFM

NOON = datetime(2026, 3, 31, 12, tzinfo=UTC)


def ago(**length: float) -> str:
    return (NOON - timedelta(**length)).isoformat()


def computed(shop: Any, as_of: datetime = NOON, timezone: str = "UTC") -> Any:
    return shop.by_contact(compute(shop.tables(), as_of, timezone=timezone))


def test_there_are_at_least_forty_traits_each_described_once() -> None:
    names = [trait.name for trait in (*FEATURES, *RFM, *customer_traits())]
    assert len(FEATURES) >= 40
    assert len(set(names)) == len(names)
    assert all(trait.description and trait.description[0].isupper() for trait in FEATURES)
    assert all(not trait.description.endswith(".") for trait in FEATURES)


def test_the_columns_are_the_traits_with_their_types(shop: Any) -> None:
    from segue.core.data.staging import TRAIT_TYPES

    shop.customer("a")
    table = compute(shop.tables(), NOON)
    assert dict(table.schema()) == {
        "contact_id": table.schema()["contact_id"],
        **{trait.name: TRAIT_TYPES[trait.type] for trait in FEATURES},
    }
    # The types that come out, too: DuckDB sums to wider ones than Ibis thinks.
    found = shop.con.to_pyarrow(table)
    assert str(found.schema.field("items_count").type) == "int64"


def test_only_customers_are_contacts_and_each_is_one(shop: Any) -> None:
    shop.customer("a")
    shop.customer("b")
    shop.product("p")
    shop.order("1", "a", ago(days=1), ("p", 1, 5))
    shop.order("2", None, ago(days=1), ("p", 1, 5))
    shop.order("3", "nobody", ago(days=1), ("p", 1, 5))
    assert set(computed(shop)) == {"a", "b"}


@pytest.fixture
def one(shop: Any) -> Any:
    """Give a shop with one buyer, three orders, a return and a cancellation."""
    shop.customer("a", birth_date=date(1990, 4, 1), country=None, created_at=ago(days=400))
    shop.customer("b")
    shop.product("pan", "kitchen", name="Pan")
    shop.product("mug", "kitchen", name="Mug")
    shop.product("tea", "food", name="Tea")
    shop.product("odd", name="Odd")
    shop.product("post", is_merchandise=False)
    shop.order("1", "a", ago(days=100), ("pan", 1, 40), ("tea", 2, 5), ("post", 1, 4.9), country="DE")
    shop.order("2", "a", ago(days=40), ("mug", 4, 7.5), country="AT")
    shop.order("3", "a", ago(days=20), ("odd", 1, 12), ("tea", 4, 5), ("mug", 1, 0), country=None)
    shop.order("4", "a", ago(days=15), ("pan", 2, 40))
    shop.order("C4", "a", ago(days=14), ("pan", -2, 40), kind="cancellation", country="DE")
    shop.order("C2", "a", ago(days=5), ("mug", -1, 7.5), kind="cancellation")
    return shop


def test_money_and_pieces_follow_the_stated_rules(one: Any) -> None:
    buyer = computed(one)["a"]
    expected = {
        "orders_count": 3,  # the fourth was taken back whole
        "revenue": Decimal("104.5000"),  # 50 + 30 + 32, minus the mug that came back for 7.5; no postage
        "average_order_value": Decimal("37.3333"),
        "largest_order_value": Decimal(50),
        "average_item_price": Decimal("9.3333"),
        "items_count": 12,
        "average_items_per_order": 4.0,
        "products_count": 4,
        "categories_count": 2,
        "returned_items": 1,
        "returned_revenue": Decimal("7.5"),
        "return_rate": 1 / 12,
        "revenue_7d": Decimal("-7.5"),
        "revenue_30d": Decimal("24.5"),
        "revenue_90d": Decimal("54.5"),
        "revenue_180d": Decimal("104.5"),
        "orders_7d": 0,
        "orders_30d": 1,
        "orders_90d": 2,
        "orders_365d": 3,
    }
    assert {name: buyer[name] for name in expected} == expected


def test_dates_and_gaps_follow_the_stated_rules(one: Any) -> None:
    buyer = computed(one)["a"]
    expected = {
        "first_order_date": date(2025, 12, 21),
        "last_order_date": date(2026, 3, 11),
        "recency_days": 20,
        "tenure_days": 100,
        "mean_gap_days": 40.0,
        "median_gap_days": 40.0,
        "account_age_days": 400,
        "age_years": 35,
        "country": "DE",  # of the last document with one
    }
    assert {name: buyer[name] for name in expected} == expected
    assert buyer["sd_gap_days"] == pytest.approx(28.284271247)


def test_tastes_follow_the_stated_rules(one: Any) -> None:
    buyer = computed(one)["a"]
    expected = {
        "top_category": "kitchen",
        "top_category_share": 0.7,
        "second_category": "food",
        "second_category_share": 0.3,
        "top_categories": ["kitchen", "food"],
        "last_product_id": "tea",  # 20 against 12 for the odd one
        "last_product": "Tea",
        "last_category": "food",
    }
    assert {name: buyer[name] for name in expected} == expected


def test_who_never_ordered_has_zeros_for_sums_and_nothing_for_the_rest(one: Any) -> None:
    other = computed(one)["b"]
    zeros = {trait.name for trait in FEATURES if other[trait.name] == 0}
    assert zeros == {trait.name for trait in FEATURES if not trait.null_means}
    assert {trait.name for trait in FEATURES if other[trait.name] is None} == {
        trait.name for trait in FEATURES if trait.null_means
    }


def test_a_window_holds_its_end_and_not_its_beginning(shop: Any) -> None:
    shop.customer("edge")
    shop.customer("inside")
    shop.product("p", "c")
    for days in (7, 30, 90, 180, 365):
        shop.order(f"e{days}", "edge", ago(days=days), ("p", 1, 1))
        shop.order(f"i{days}", "inside", ago(days=days, microseconds=-1), ("p", 1, 1))
        if days <= 90:
            shop.event("edge", "product_viewed", ago(days=days), "p")
            shop.event("inside", "product_viewed", ago(days=days, microseconds=-1), "p")
    shop.order("now", "inside", NOON.isoformat(), ("p", 1, 1))
    found = computed(shop)
    windows = [f"orders_{days}d" for days in (7, 30, 90, 180, 365)]
    assert [found["edge"][name] for name in windows] == [0, 1, 2, 3, 4]
    assert [found["inside"][name] for name in windows] == [2, 3, 4, 5, 6]
    views = [f"views_{days}d" for days in (7, 30, 90)]
    assert [found["edge"][name] for name in views] == [0, 1, 2]
    assert [found["inside"][name] for name in views] == [1, 2, 3]


def test_not_in_the_last_days_and_recency_agree_to_the_microsecond(shop: Any) -> None:
    shop.customer("on", created_at=None)
    shop.customer("within")
    shop.product("p")
    shop.order("1", "on", ago(days=90), ("p", 1, 1))
    shop.order("2", "within", ago(days=90, microseconds=-1), ("p", 1, 1))
    found = computed(shop)
    assert (found["on"]["recency_days"], found["on"]["orders_90d"]) == (90, 0)
    assert (found["within"]["recency_days"], found["within"]["orders_90d"]) == (89, 1)


def test_hours_days_and_ages_are_those_of_the_shop(shop: Any) -> None:
    shop.customer("a", birth_date=date(2000, 4, 1))
    shop.product("p")
    shop.order("1", "a", "2026-03-28T23:30:00+00:00", ("p", 1, 1))  # 00:30 on Sunday in Berlin
    late = datetime(
        2026, 3, 31, 22, 30, tzinfo=UTC
    )  # half past midnight on 1 April in Berlin, since summer time
    utc, berlin = computed(shop, late)["a"], computed(shop, late, "Europe/Berlin")["a"]
    names = ("favourite_hour", "favourite_weekday", "last_order_date", "age_years")
    assert [utc[name] for name in names] == [23, "Saturday", date(2026, 3, 28), 25]
    assert [berlin[name] for name in names] == [0, "Sunday", date(2026, 3, 29), 26]


def test_ties_are_broken_as_stated(shop: Any) -> None:
    shop.customer("a")
    for product, category in (("z", "b"), ("y", "a"), ("x", "a"), ("w", "c")):
        shop.product(product, category)
    # Two orders on Mondays at nine, two on Wednesdays at eleven: the latest wins. Of two at once, the higher number is
    # the last, and of its two lines of one value the first.
    shop.order("1", "a", "2026-03-23T09:00:00", ("w", 1, 8))
    shop.order("2", "a", "2026-03-23T09:00:00", ("w", 1, 2))
    shop.order("4", "a", "2026-03-25T11:00:00", ("y", 1, 4), ("x", 1, 4))
    shop.order("3", "a", "2026-03-25T11:00:00", ("z", 1, 10), ("y", 1, 1), ("x", 1, 1))
    buyer = computed(shop)["a"]
    assert buyer["favourite_hour"] == 11
    assert buyer["favourite_weekday"] == "Wednesday"
    assert buyer["last_product_id"] == "y"
    # a, b and c are worth 10 each.
    assert buyer["top_categories"] == ["a", "b", "c"]


def test_counts_of_events_that_the_shop_does_not_record_are_unknown_and_not_zero(shop: Any) -> None:
    shop.customer("a")
    shop.customer("b")
    shop.event("a", "product_viewed", ago(days=1))
    found = computed(shop)
    counts = {
        who: [row[name] for name in ("views_7d", "opens_7d", "abandoned_carts_7d")]
        for who, row in found.items()
    }
    assert counts == {"a": [1, None, None], "b": [0, None, None]}


def test_a_cart_is_abandoned_after_24_hours_without_an_order(shop: Any) -> None:
    shop.product("p", "c")
    for who in ("open", "gone", "now", "late", "same"):
        shop.customer(who)
        shop.event(
            who,
            "cart_added",
            ago(hours=24) if who == "now" else ago(hours=23) if who == "open" else ago(days=3),
        )
    shop.order("1", "late", ago(days=2, microseconds=-1), ("p", 1, 1))  # a moment after the 24 hours
    shop.order("2", "same", ago(days=2), ("p", 1, 1))
    found = computed(shop)
    counts = {who: found[who]["abandoned_carts_7d"] for who in found}
    assert counts == {"open": 0, "gone": 1, "now": 1, "late": 1, "same": 0}


def test_the_top_category_looked_at_is_that_of_its_window(shop: Any) -> None:
    shop.customer("a")
    for product, category in (("p", "x"), ("q", "y"), ("r", "z")):
        shop.product(product, category)
    for days, product in ((1, "p"), (2, "q"), (20, "q"), (20, "r"), (21, "r"), (22, "r")):
        shop.event("a", "product_viewed", ago(days=days), product)
    shop.event("a", "cart_added", ago(days=40), "q")
    looker = computed(shop)["a"]
    assert [looker[f"viewed_category_{days}d"] for days in (7, 30, 90)] == ["x", "z", "z"]
    assert [looker[f"carted_category_{days}d"] for days in (7, 30, 90)] == [None, None, "y"]
    assert (looker["last_seen_days"], looker["views_30d"]) == (1, 6)


def test_nothing_that_happened_later_changes_any_trait(make_shop: Any) -> None:
    """Every fact after the moment is planted to move something: orders, cancellations of old orders, events."""
    as_of = NOON - timedelta(days=60)
    whole, ended = make_shop(), make_shop()
    whole.fill(NOON, seed=1)
    ended.fill(NOON, seed=1)
    for table, column in (("orders", "ordered_at"), ("events", "occurred_at")):
        ended._rows[table] = [row for row in ended._rows[table] if row[column] <= as_of]
    known = {row["order_id"] for row in ended._rows["orders"]}
    ended._rows["order_items"] = [row for row in ended._rows["order_items"] if row["order_id"] in known]
    assert len(known) < len(whole._rows["orders"])
    found, expected = computed(whole, as_of), computed(ended, as_of)
    for name in (trait.name for trait in FEATURES):
        assert {who: row[name] for who, row in found.items()} == {
            who: row[name] for who, row in expected.items()
        }, name


def test_the_order_of_rows_and_the_number_of_threads_change_nothing(make_shop: Any) -> None:
    results = []
    for threads, backwards in ((1, False), (2, True)):
        shop = make_shop()
        shop.fill(NOON, seed=2)
        if backwards:
            for rows in shop._rows.values():
                rows.reverse()
        shop.con.raw_sql(f"set threads = {threads}").fetchall()
        results.append(sorted(computed(shop).items()))
        shop.con.raw_sql("reset threads").fetchall()
    assert results[0] == results[1]
