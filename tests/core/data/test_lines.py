"""What each order line is, held against a slow bracket matcher that is easy to believe."""

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any

import ibis
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ibis.backends.duckdb import Backend

from segue.core.data.canonical import schema_of
from segue.core.data.engine import connect
from segue.core.data.lines import classify

START = datetime(2026, 1, 1, tzinfo=UTC)


def kinds(con: Backend, *documents: tuple[Any, ...], as_of: int | None = None) -> list[str]:
    """Classify one line per document: (hour, kind, contact, product, quantity, price); `fee` is no merchandise."""
    orders, items = [], []
    for number, (hour, kind, contact, product, quantity, price) in enumerate(documents):
        at = START + timedelta(hours=hour)
        orders.append({"order_id": f"{number:03}", "contact_id": contact, "ordered_at": at, "kind": kind})
        items.append(
            {
                "order_id": f"{number:03}",
                "line_no": 1,
                "product_id": product,
                "quantity": quantity,
                "unit_price": price,
            }
        )
    products = [{"product_id": name, "is_merchandise": name != "fee"} for name in ("p", "q", "fee")]

    def table(name: str, rows: list[dict[str, Any]]) -> ibis.Table:
        columns = list(rows[0])
        schema = ibis.schema({column: schema_of(name)[column] for column in columns})
        return ibis.memtable(pa.Table.from_pylist(rows)).cast(schema)

    made = classify(
        table("order_items", items),
        table("orders", orders),
        table("products", products),
        as_of=None if as_of is None else START + timedelta(hours=as_of),
    )
    return list(con.to_pyarrow(made.order_by("order_id"))["line_kind"].to_pylist())


@pytest.mark.parametrize(
    ("document", "kind"),
    [
        ((0, "order", "c", "p", 2, 1.0), "sale"),
        ((0, "order", None, "p", 2, 1.0), "sale"),
        ((0, "order", "c", "unknown", 2, 1.0), "sale"),
        ((0, "order", "c", "p", 2, 0.0), "free"),
        ((0, "order", "c", "fee", 2, 1.0), "fee"),
        ((0, "order", "c", "fee", -1, -5.0), "fee"),
        ((0, "cancellation", "c", "fee", -1, 5.0), "fee"),
        ((0, "order", "c", "p", -2, 0.0), "adjustment"),
        ((0, "order", "c", "p", 2, -1.0), "adjustment"),
        ((0, "adjustment", None, "p", 1, 9.0), "adjustment"),
        ((0, "cancellation", "c", "p", 2, 1.0), "adjustment"),
        ((0, "cancellation", "c", "p", -2, 1.0), "return"),
    ],
)
def test_a_line_by_itself(con: Backend, document: tuple[Any, ...], kind: str) -> None:
    assert kinds(con, document) == [kind]


SALE = (0, "order", "c", "p", 12, 1.0)
BACK = (5, "cancellation", "c", "p", -12, 1.0)


def test_a_whole_line_taken_back_is_reversed(con: Backend) -> None:
    assert kinds(con, SALE, BACK) == ["reversed", "reversal"]


@pytest.mark.parametrize(
    "other",
    [
        (5, "cancellation", "d", "p", -12, 1.0),
        (5, "cancellation", "c", "q", -12, 1.0),
        (5, "cancellation", "c", "p", -11, 1.0),
        (-1, "cancellation", "c", "p", -12, 1.0),
        (5, "cancellation", None, "p", -12, 1.0),
    ],
    ids=["another contact", "another product", "a part", "before the sale", "a guest"],
)
def test_anything_else_is_a_return(con: Backend, other: tuple[Any, ...]) -> None:
    assert kinds(con, SALE, other) == ["sale", "return"]


def test_the_latest_of_two_equal_sales_is_the_one_taken_back(con: Backend) -> None:
    assert kinds(con, SALE, (3, *SALE[1:]), BACK) == ["sale", "reversed", "reversal"]


def test_one_sale_is_taken_back_once(con: Backend) -> None:
    assert kinds(con, SALE, BACK, (6, *BACK[1:])) == ["reversed", "reversal", "return"]


def test_a_cancellation_of_the_same_minute_takes_back(con: Backend) -> None:
    assert kinds(con, (0, *BACK[1:]), SALE) == ["reversal", "reversed"]


def test_a_sale_cancelled_after_the_moment_of_the_build_is_still_a_sale(con: Backend) -> None:
    assert kinds(con, SALE, BACK, as_of=4)[0] == "sale"
    assert kinds(con, SALE, BACK, as_of=5)[0] == "reversed"


def slow_kinds(documents: list[tuple[Any, ...]]) -> list[str]:
    kinds = ["sale" if document[1] == "order" else "return" for document in documents]
    open_sales: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for place, (_, kind, contact, product, quantity, _) in sorted(
        enumerate(documents), key=lambda entry: (entry[1][0], entry[1][1] == "cancellation", entry[0])
    ):
        stack = open_sales[contact, product, abs(quantity)]
        if kind == "order":
            stack.append(place)
        elif stack:
            kinds[stack.pop()] = "reversed"
            kinds[place] = "reversal"
    return kinds


lines = st.builds(
    lambda hour, sold, contact, product, pieces: (
        hour, "order" if sold else "cancellation", contact, product, pieces if sold else -pieces, 1.0,
    ),
    st.integers(0, 9), st.booleans(), st.sampled_from("cd"), st.sampled_from("pq"), st.integers(1, 2),
)  # fmt: skip


@settings(max_examples=12, deadline=None)
@given(st.lists(lines, min_size=1, max_size=40))
def test_pairs_are_those_of_a_bracket_matcher(documents: list[tuple[Any, ...]]) -> None:
    connection = connect()
    assert kinds(connection, *documents) == slow_kinds(documents)
    connection.disconnect()
