"""The dirt of the real data, counted by the ingest and, independently, by plain SQL on the files."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
from ibis.backends.duckdb import Backend

from segue.core.config import load_project
from segue.core.data.engine import connect
from segue.core.data.ingest import Ingested, check_sources, ingest

from .conftest import rows

DATA = Path(__file__).parents[3] / "../shared/data/online_retail"
pytestmark = pytest.mark.skipif(
    not DATA.exists(), reason="the Online Retail files are not beside the checkout"
)

PROJECT = """
project: online_retail
as_of: 2011-12-10T00:00:00Z
timezone: Europe/London
currency: GBP
country: GB
sources:
  customers:
    - path: {data}/customers.parquet
      columns: {{contact_id: customer_id}}
  products:
    - path: {data}/products.parquet
      columns: {{name: description, category: derived_category, price: list_price}}
  orders:
    - path: {data}/orders.parquet
      columns: {{contact_id: customer_id}}
  order_items:
    - path: {data}/order_items.parquet
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Ingested, Backend]]:
    folder = tmp_path_factory.mktemp("online_retail")
    (folder / "segue.yml").write_text(PROJECT.format(data=DATA.resolve()))
    project = load_project(folder)
    assert check_sources(project) == []
    connection = connect()
    yield ingest(project, connection), connection
    connection.disconnect()


@pytest.fixture(scope="module")
def files() -> Iterator[duckdb.DuckDBPyConnection]:
    connection = duckdb.connect()
    for name in ("customers", "products", "orders", "order_items"):
        connection.execute(f"create view {name} as select * from '{DATA / name}.parquet'").fetchall()
    connection.execute(
        "create view lines as select *, row_number() over (partition by order_id, product_id, quantity, unit_price "
        "order by line_no) as copy from order_items join orders using (order_id) join products using (product_id)"
    ).fetchall()
    yield connection
    connection.close()


def one(connection: duckdb.DuckDBPyConnection, query: str) -> Any:
    (row,) = connection.execute(query).fetchall()
    return row[0] if len(row) == 1 else row


def test_every_line_is_read_and_all_but_the_repeated_ones_are_kept(
    shop: tuple[Ingested, Backend], files: duckdb.DuckDBPyConnection
) -> None:
    ingested, connection = shop
    lines = next(source for source in ingested.report.sources if source.table_name == "order_items")
    assert lines.rows_read == one(files, "select count(*) from order_items") == 541_909
    # 5,268 in the original, which also compares description and time; these files have one description per product.
    assert lines.rows_left_out == one(files, "select count(*) from lines where copy > 1") == 5_271
    assert one(connection.con, "select count(*) from order_items") == 541_909 - 5_271
    assert one(connection.con, "select count(*) from orders") == 25_900
    assert one(connection.con, "select count(*) from customers") == 4_372
    assert one(connection.con, "select count(*) from products") == 3_958


def test_guests_keep_their_orders(shop: tuple[Ingested, Backend], files: duckdb.DuckDBPyConnection) -> None:
    connection = shop[1]
    assert one(files, "select count(*) from lines where customer_id is null") == 135_080
    guests = "select count(*) from order_items join orders using (order_id) where contact_id is null"
    assert one(connection.con, guests) == one(
        files, "select count(*) from lines where customer_id is null and copy = 1"
    )
    assert one(connection.con, "select count(*) from orders where contact_id is null") == 3_710


def test_each_kind_of_line_is_counted_as_plain_sql_counts_it(
    shop: tuple[Ingested, Backend], files: duckdb.DuckDBPyConnection
) -> None:
    counted = dict(shop[1].con.execute("select line_kind, count(*) from order_items group by 1").fetchall())
    fees, oddities, free = one(
        files,
        """
        select count(*) filter (not is_merchandise),
               count(*) filter (is_merchandise and (unit_price < 0 or kind = 'adjustment'
                                or (kind = 'cancellation') <> (quantity < 0))),
               count(*) filter (is_merchandise and unit_price = 0 and quantity > 0 and kind = 'order')
        from lines where copy = 1
        """,
    )
    assert counted == {
        "sale": 519_684,
        "reversed": 2_817,
        "reversal": 2_817,
        "return": 5_851,
        "fee": fees,
        "adjustment": oddities,
        "free": free,
    }
    assert (fees, oddities, free) == (3_112, 1_218, 1_139)
    cancelled = "select count(*) from lines where copy = 1 and is_merchandise and kind = 'cancellation' and quantity < 0"
    assert counted["reversal"] + counted["return"] == one(files, cancelled)


def test_no_sale_is_negative_free_or_a_fee(shop: tuple[Ingested, Backend]) -> None:
    wrong = """
        select count(*) from order_items join orders using (order_id) join products using (product_id)
        where line_kind in ('sale', 'reversed') and not (quantity > 0 and unit_price > 0 and kind = 'order' and is_merchandise)
    """
    assert one(shop[1].con, wrong) == 0


def test_the_two_giant_orders_are_reversed(shop: tuple[Ingested, Backend]) -> None:
    giants = "select order_id, quantity, line_kind from order_items where abs(quantity) > 70000 order by 1"
    assert shop[1].con.execute(giants).fetchall() == [
        ("541431", 74_215, "reversed"),
        ("581483", 80_995, "reversed"),
        ("C541433", -74_215, "reversal"),
        ("C581484", -80_995, "reversal"),
    ]


def test_times_are_the_shops_own(shop: tuple[Ingested, Backend], files: duckdb.DuckDBPyConnection) -> None:
    """In July London is an hour ahead of UTC."""
    local = one(files, "select cast(min(ordered_at) as text) from orders where ordered_at >= '2011-07-04'")
    instant = one(
        shop[1].con,
        "select cast(min(ordered_at) as text) from orders where ordered_at >= '2011-07-03T23:00:00Z'",
    )
    assert (local, instant) == ("2011-07-04 10:17:00", "2011-07-04 09:17:00+00")


def test_countries_have_codes_but_for_those_that_are_none(shop: tuple[Ingested, Backend]) -> None:
    ingested, connection = shop
    assert {row[:3] for row in rows(ingested.quarantine, "table_name", "rule", "effect")} == {
        ("customers", "unknown_country", "value left out"),
        ("orders", "unknown_country", "value left out"),
        ("order_items", "exact_duplicate_line", "row left out"),
    }
    assert one(connection.con, "select count(*) from customers where country is null") == 5
    assert one(connection.con, "select count(*) from customers where country = 'JE'") == 9


def test_further_columns_are_traits(shop: tuple[Ingested, Backend]) -> None:
    assert [(trait.name, trait.type.value) for trait in shop[0].extra_traits] == [
        ("first_seen_at", "timestamp"),
        ("last_seen_at", "timestamp"),
        ("n_documents", "integer"),
    ]
