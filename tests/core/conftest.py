"""A shop made by hand, a line of test at a time, as canonical tables."""

import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.types as ir
import pyarrow as pa
import pytest
from ibis.backends.duckdb import Backend

from segue.core.config import load_project
from segue.core.data.canonical import TABLES, CanonicalTables, LineKind, schema_of
from segue.core.data.engine import connect
from segue.core.data.lines import classify
from segue.core.personalize import build

PLANTED = Path(__file__).parents[2] / "examples" / "planted"


class Shop:
    """Rows of the canonical tables. Times without a zone are UTC."""

    def __init__(self, con: Backend) -> None:
        self.con = con
        self._rows: dict[str, list[dict[str, Any]]] = {table: [] for table in TABLES}

    def customer(self, contact_id: str, **columns: Any) -> None:
        self._add("customers", contact_id=contact_id, **columns)

    def product(self, product_id: str, category: str | None = None, **columns: Any) -> None:
        defaults = {"name": f"Product {product_id}", "is_merchandise": True, "price": Decimal(10)}
        self._add("products", product_id=product_id, category=category, **{**defaults, **columns})

    def order(
        self,
        order_id: str,
        contact_id: str | None,
        at: str,
        *lines: tuple[str, int, float],
        kind: str = "order",
        country: str | None = None,
    ) -> None:
        """Each line is (product, quantity, price)."""
        row = {"order_id": order_id, "contact_id": contact_id, "ordered_at": at, "kind": kind}
        self._add("orders", **row, country=country, currency="EUR")
        for number, (product, quantity, price) in enumerate(lines, start=1):
            self._add(
                "order_items",
                order_id=order_id,
                line_no=number,
                product_id=product,
                quantity=quantity,
                unit_price=Decimal(str(price)),
                line_kind=LineKind.SALE.value,
            )

    def event(self, contact_id: str, event_type: str, at: str, product_id: str | None = None) -> None:
        number = len(self._rows["events"])
        row = {"event_id": f"e{number}", "contact_id": contact_id, "event_type": event_type}
        self._add("events", **row, occurred_at=at, product_id=product_id)

    def fill(self, end: datetime, *, seed: int) -> None:
        """Fill the shop with people who do all sorts of things in the year before `end`, some at the same moment."""
        chance = random.Random(seed)
        people = [f"c{number}" for number in range(12)]
        products = [f"p{number}" for number in range(9)]

        def moment(days: int) -> str:
            length = timedelta(days=chance.randrange(days), hours=chance.choice([0, 7, 13]))
            return (end - length).isoformat()

        for person in people:
            self.customer(
                person,
                birth_date=date(1980, 1, 1) + timedelta(days=chance.randrange(9000)),
                country=chance.choice(["DE", None]),
                created_at=moment(1000),
            )
        for number, product in enumerate(products):
            self.product(product, chance.choice([None, "x", "y", "z"]), is_merchandise=number > 0)
        for number in range(120):
            back = chance.random() < 0.25
            lines = [
                (
                    chance.choice(products),
                    chance.randint(1, 2) * (-1 if back else 1),
                    chance.choice([0, 1.5, 2]),
                )
                for _ in range(chance.randint(1, 4))
            ]
            self.order(
                f"{number:03}",
                chance.choice([*people[:10], None]),
                moment(400),
                *lines,
                kind="cancellation" if back else "order",
                country=chance.choice(["DE", "AT", None]),
            )
        kinds = ["product_viewed", "cart_added", "email_opened", "email_clicked", "page_viewed"]
        for _ in range(200):
            self.event(
                chance.choice(people), chance.choice(kinds), moment(100), chance.choice([*products, None])
            )

    def _add(self, table: str, **row: Any) -> None:
        for name, value in row.items():
            if name.endswith("_at") and value is not None:
                moment = datetime.fromisoformat(value)
                row[name] = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        self._rows[table].append(row)

    def tables(self) -> CanonicalTables:
        """Give the tables, each line with the kind that `core.data.lines` says it is."""
        made: dict[str, ir.Table] = {}
        for name in TABLES:
            schema = schema_of(name)
            table = pa.Table.from_pylist(self._rows[name], schema=schema.to_pyarrow())
            made[name] = ibis.memtable(table, schema=schema)
        tables = CanonicalTables(**made)
        lines = classify(tables.order_items, tables.orders, tables.products)
        return replace(tables, order_items=lines.select(list(schema_of("order_items"))))

    def rows(self, table: ir.Table) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.con.to_pyarrow(table).to_pylist()
        return found

    def by_contact(self, table: ir.Table) -> dict[str, dict[str, Any]]:
        """Give the rows of a table with one row per contact."""
        rows = self.rows(table)
        found = {row["contact_id"]: row for row in rows}
        assert len(found) == len(rows)
        return found


@pytest.fixture(scope="session")
def engine() -> Iterator[Backend]:
    con = connect()
    yield con
    con.disconnect()


@pytest.fixture(scope="session")
def make_shop(engine: Backend) -> Callable[[], Shop]:
    """For tests that need several shops, as those of Hypothesis do."""
    return lambda: Shop(engine)


@pytest.fixture
def shop(make_shop: Callable[[], Shop]) -> Shop:
    return make_shop()


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The planted example, built once; whoever spoils it takes a copy."""
    folder = tmp_path_factory.mktemp("planted") / "project"
    shutil.copytree(PLANTED, folder, ignore=shutil.ignore_patterns(".segue"))
    project = load_project(folder)
    assert project.as_of is not None
    build(project, as_of=project.as_of, progress=lambda _what, _share: None)
    return folder
