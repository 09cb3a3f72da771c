"""Popular products: what may be offered, to whom, in which order, and why."""

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from segue.core.features.compute import compute
from segue.core.recommend.base import RECOMMENDATIONS
from segue.core.recommend.popular import PopularInCategory

NOON = datetime(2026, 3, 31, 12, tzinfo=UTC)


def ago(**length: float) -> str:
    return (NOON - timedelta(**length)).isoformat()


def offers(
    shop: Any, *, slots: int = 3, days: int = 30, as_of: datetime = NOON
) -> dict[str, list[tuple[str, str]]]:
    """Give (product, reason) by slot for each contact."""
    tables = shop.tables()
    recommender = PopularInCategory(window=timedelta(days=days))
    table = recommender.recommend(tables, compute(tables, as_of), as_of, slots)
    assert table.schema() == RECOMMENDATIONS
    found = defaultdict(list)
    for row in sorted(shop.rows(table), key=lambda row: (row["contact_id"], row["slot"])):
        found[row["contact_id"]].append((row["product_id"], row["reason"]))
        assert row["slot"] == len(found[row["contact_id"]])
    return found


def test_the_favourite_category_comes_first_and_popular_overall_fills_up(shop: Any) -> None:
    shop.customer("a")
    for product, category in (
        ("a1", "art_prints"),
        ("a2", "art_prints"),
        ("a3", "art_prints"),
        ("t1", "toys"),
    ):
        shop.product(product, category)
    shop.order("1", "a", ago(days=200), ("a1", 1, 5))
    shop.order("2", None, ago(days=1), ("a1", 1, 5), ("a2", 1, 5), ("a3", 5, 5), ("t1", 9, 5))
    shop.order("3", None, ago(days=2), ("a2", 1, 5), ("t1", 1, 5))
    shop.order("4", None, ago(days=3), ("t1", 1, 5))
    assert offers(shop)["a"] == [
        ("a2", "Popular in art prints this month"),
        ("a3", "Popular in art prints this month"),
        ("t1", "Popular this month"),
    ]


def test_popular_is_orders_then_pieces_then_key(shop: Any) -> None:
    shop.customer("new")
    for product in "zyxw":
        shop.product(product, "c")
    shop.order("1", None, ago(days=1), ("z", 1, 5), ("y", 2, 5), ("x", 2, 5), ("w", 1, 5))
    shop.order("2", None, ago(days=2), ("w", 1, 5))
    assert [product for product, _ in offers(shop, slots=4)["new"]] == ["w", "x", "y", "z"]


def test_only_sales_within_the_window_count(shop: Any) -> None:
    shop.customer("new")
    for product in ("edge", "in", "late", "undone"):
        shop.product(product, "c")
    shop.customer("b")
    shop.order("1", None, ago(days=30), ("edge", 9, 5))
    shop.order("2", None, ago(days=30, microseconds=-1), ("in", 1, 5))
    shop.order("3", None, ago(days=-1), ("late", 9, 5))
    shop.order("4", "b", ago(days=3), ("undone", 9, 5))
    shop.order("C4", "b", ago(days=2), ("undone", -9, 5), kind="cancellation")
    assert offers(shop)["new"] == [("in", "Popular this month")]


def test_what_cannot_or_need_not_be_bought_is_never_offered(shop: Any) -> None:
    shop.customer("a")
    shop.product("owned", "c")
    shop.product("sold out", "c", in_stock=False)
    shop.product("nameless", "c", name=None)
    shop.product("blank", "c", name="  ")
    shop.product("fee", "c", is_merchandise=False)
    shop.product("good", "c")
    shop.product("stocked", "c", in_stock=True)
    everything = [(product, 2, 5) for product in ("owned", "sold out", "nameless", "blank", "fee", "good")]
    shop.order("1", None, ago(days=1), *everything, ("stocked", 1, 5))
    shop.order("2", "a", ago(days=300), ("owned", 1, 5))
    assert [product for product, _ in offers(shop, slots=9)["a"]] == ["good", "stocked"]


def test_a_contact_who_never_bought_gets_the_category_looked_at_most(shop: Any) -> None:
    shop.customer("looker")
    shop.product("p", "toys")
    shop.product("q", "books")
    shop.event("looker", "product_viewed", ago(days=60), "p")
    shop.order("1", None, ago(days=1), ("p", 1, 5), ("q", 5, 5))
    assert offers(shop)["looker"] == [("p", "Popular in toys this month"), ("q", "Popular this month")]


def test_the_reason_names_the_window(shop: Any) -> None:
    shop.customer("a")
    shop.product("p")
    shop.order("1", None, ago(hours=1), ("p", 1, 5))
    said = {days: offers(shop, days=days)["a"][0][1] for days in (1, 7, 14, 365)}
    assert said == {
        1: "Popular today",
        7: "Popular this week",
        14: "Popular in the last 14 days",
        365: "Popular this year",
    }


@pytest.mark.parametrize(
    ("stock", "said"),
    [([None, None], "no product"), ([True, None], "1 of 2 products"), ([True, False], None)],
)
def test_unknown_stock_is_said(shop: Any, stock: Any, said: Any) -> None:
    for number, known in enumerate(stock):
        shop.product(f"p{number}", in_stock=known)
    shop.product("fee", is_merchandise=False)
    caveats = PopularInCategory().caveats(shop.tables())
    assert [said in caveat for caveat in caveats] == ([] if said is None else [True])


@pytest.mark.parametrize("seed", [3, 4])
def test_it_equals_a_plain_search_through_all_products(make_shop: Any, seed: int) -> None:
    """The places that a contact meets are cut short on purpose; nobody may get less for it."""
    shop = make_shop()
    shop.fill(NOON, seed=seed)
    found = offers(shop, slots=4, days=90)
    tables = shop.tables()
    profiles = shop.by_contact(compute(tables, NOON))
    orders = {row["order_id"]: row for row in shop.rows(tables.orders)}
    products = {row["product_id"]: row for row in shop.rows(tables.products)}
    owned: dict[str, set[str]] = defaultdict(set)
    in_orders: dict[str, set[str]] = defaultdict(set)
    pieces: dict[str, int] = defaultdict(int)
    for line in shop.rows(tables.order_items):
        order = orders[line["order_id"]]
        if line["line_kind"] != "sale":
            continue
        owned[order["contact_id"]].add(line["product_id"])
        if order["ordered_at"] > NOON - timedelta(days=90) and products[line["product_id"]]["is_merchandise"]:
            in_orders[line["product_id"]].add(line["order_id"])
            pieces[line["product_id"]] += line["quantity"]
    ranked = sorted(in_orders, key=lambda product: (-len(in_orders[product]), -pieces[product], product))
    for who, profile in profiles.items():
        favourite = profile["top_category"] or profile["viewed_category_90d"]
        free = [product for product in ranked if product not in owned[who]]
        first = [product for product in free if favourite and products[product]["category"] == favourite]
        expected = [*first, *(product for product in free if product not in first)][:4]
        assert [product for product, _ in found[who]] == expected, who
