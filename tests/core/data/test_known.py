"""Nothing that happened later may be known."""

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from segue.core.data.canonical import CanonicalTables
from segue.core.data.known import known_at

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def kinds(shop: Any, tables: CanonicalTables) -> list[tuple[str, int, str]]:
    return sorted(
        (line["order_id"], line["line_no"], line["line_kind"]) for line in shop.rows(tables.order_items)
    )


def test_a_fact_at_the_very_moment_counts_and_a_later_one_does_not(shop: Any) -> None:
    shop.customer("a")
    shop.product("p")
    shop.order("on time", "a", "2026-03-01T12:00:00", ("p", 1, 5))
    shop.order("late", "a", "2026-03-01T12:00:00.000001", ("p", 1, 5))
    shop.event("a", "page_viewed", "2026-03-01T12:00:00")
    shop.event("a", "page_viewed", "2026-03-01T12:00:00.000001")
    known = known_at(shop.tables(), NOON)
    assert [order["order_id"] for order in shop.rows(known.orders)] == ["on time"]
    assert [line["order_id"] for line in shop.rows(known.order_items)] == ["on time"]
    assert len(shop.rows(known.events)) == 1


def test_a_sale_is_a_sale_until_it_is_cancelled(shop: Any) -> None:
    shop.customer("a")
    shop.product("p")
    shop.order("1", "a", "2026-03-01T10:00:00", ("p", 2, 5))
    shop.order("C1", "a", "2026-03-01T11:00:00", ("p", -2, 5), kind="cancellation")
    tables = shop.tables()
    before = known_at(tables, NOON - timedelta(hours=1, minutes=30))
    assert kinds(shop, before) == [("1", 1, "sale")]
    assert kinds(shop, known_at(tables, NOON)) == [("1", 1, "reversed"), ("C1", 1, "reversal")]


def test_knowing_twice_is_knowing_once(shop: Any) -> None:
    shop.customer("a")
    shop.product("p")
    shop.order("1", "a", "2026-03-01T10:00:00", ("p", 2, 5))
    shop.order("C1", "a", "2026-03-01T13:00:00", ("p", -2, 5), kind="cancellation")
    once = known_at(shop.tables(), NOON)
    assert kinds(shop, known_at(once, NOON)) == kinds(shop, once) == [("1", 1, "sale")]


documents = st.lists(
    st.tuples(
        st.sampled_from("abcde"), st.sampled_from("pq"), st.integers(1, 2), st.booleans(), st.integers(0, 5)
    ),
    max_size=60,
)


@given(documents=documents, hour=st.integers(0, 5))
@settings(max_examples=8, deadline=None)
def test_lines_are_what_they_would_be_if_the_data_ended_there(
    make_shop: Any, documents: Any, hour: int
) -> None:
    whole, ended = make_shop(), make_shop()
    as_of = NOON + timedelta(hours=hour)
    for made in (whole, ended):
        for product in "pq":
            made.product(product)
        for number, (contact, product, pieces, cancels, at) in enumerate(documents):
            if made is ended and at > hour:
                continue
            made.order(
                f"{number:02}",
                contact,
                (NOON + timedelta(hours=at)).isoformat(),
                (product, -pieces if cancels else pieces, 5),
                kind="cancellation" if cancels else "order",
            )
    assert kinds(whole, known_at(whole.tables(), as_of)) == kinds(ended, ended.tables())
