"""Who was erased stays out of a build, however the data names them, and the quarantine says which rows these are."""

from datetime import UTC, datetime
from pathlib import Path

import duckdb

from segue.core.config import load_project
from segue.core.personalize import build
from segue.core.snapshot import Snapshot

YML = """\
project: small
sources:
  customers: [{path: customers.csv}]
  products: [{path: products.csv}]
  orders: [{path: orders.csv}]
  order_items: [{path: items.csv}]
  events: [{path: events.csv}]
  consents: [{path: consents.csv}]
quality: {max_rejected_share: 0}
"""
FILES = {
    "customers.csv": "contact_id,email\nada,ada@shop.test\nbob,bob@shop.test\nold,  ADA@Shop.test \nidn,x@bücher.de\n",
    "products.csv": "product_id,name,price\np,Pen,1.00\n",
    "orders.csv": "order_id,contact_id,ordered_at\n1,ada,2026-01-01\n2,bob,2026-01-01\n3,old,2026-01-01\n",
    "items.csv": "order_id,line_no,product_id,quantity,unit_price\n1,1,p,1,1.00\n2,1,p,1,1.00\n3,1,p,1,1.00\n",
    "events.csv": "event_id,contact_id,event_type,occurred_at\n1,ada,page_viewed,2026-01-01\n2,bob,page_viewed,2026-01-01\n",
    "consents.csv": (
        "contact_id,email,act,occurred_at,evidence\n"
        'ada,,grant,2026-01-01,"{""form"": ""a""}"\n,ada@shop.test,grant,2026-01-01,"{""form"": ""a""}"\n'
        'bob,,grant,2026-01-01,"{""form"": ""a""}"\n'
    ),
}


def erased(*, ids: tuple[str, ...] = (), addresses: tuple[str, ...] = ()) -> object:
    def install(con: duckdb.DuckDBPyConnection) -> bool:
        for kind, values in (("contact", ids), ("address", addresses)):
            listed = ", ".join(f"'{value}'" for value in values) or "NULL"
            con.execute(
                f"CREATE TEMP MACRO is_erased_{kind}(x) AS coalesce(x IN ({listed}), false)"
            ).fetchall()
        return bool(ids or addresses)

    return install


def built(folder: Path, **who: tuple[str, ...]) -> Snapshot:
    (folder / "segue.yml").write_text(YML)
    for name, text in FILES.items():
        (folder / name).write_text(text, encoding="utf-8")
    return build(
        load_project(folder),
        as_of=datetime(2026, 3, 1, tzinfo=UTC),
        progress=lambda *_: None,
        erased=erased(**who),  # type: ignore[arg-type]
    )


def ids(snapshot: Snapshot, table: str, column: str) -> set[str]:
    with duckdb.connect() as con:
        return {each for (each,) in con.execute(f"SELECT {column} FROM '{snapshot.table(table)}'").fetchall()}


def listed(snapshot: Snapshot) -> set[tuple[str, int]]:
    with duckdb.connect() as con:
        query = f"SELECT table_name, row_number FROM '{snapshot.table('quarantine')}' WHERE rule = 'erased'"
        return set(con.execute(query).fetchall())


def test_an_erased_address_takes_all_who_have_it_and_what_names_them(tmp_path: Path) -> None:
    snapshot = built(tmp_path, addresses=("ada@shop.test",))
    assert ids(snapshot, "customers", "contact_id") == {"bob", "idn"}
    assert ids(snapshot, "profiles", "contact_id") == {"bob", "idn"}
    assert ids(snapshot, "orders", "order_id") == {"2"}
    assert ids(snapshot, "order_items", "order_id") == {"2"}
    assert ids(snapshot, "events", "contact_id") == {"bob"}
    assert ids(snapshot, "consents", "contact_id") == {"bob"}
    assert listed(snapshot) == {
        ("customers", 1),
        ("customers", 3),
        ("orders", 1),
        ("orders", 3),
        ("order_items", 1),
        ("order_items", 3),
        ("events", 1),
        ("consents", 1),
        ("consents", 2),
    }


def test_an_erased_contact_id_is_enough(tmp_path: Path) -> None:
    snapshot = built(tmp_path, ids=("bob",))
    assert ids(snapshot, "customers", "contact_id") >= {"idn"}
    for table in ("customers", "orders", "events", "consents"):
        assert "bob" not in ids(snapshot, table, "contact_id")


def test_an_address_is_compared_as_a_build_spells_it(tmp_path: Path) -> None:
    snapshot = built(tmp_path, addresses=("x@xn--bcher-kva.de",))
    assert "idn" not in ids(snapshot, "customers", "contact_id")


def test_where_nobody_was_erased_nothing_is_left_out(tmp_path: Path) -> None:
    snapshot = built(tmp_path)
    assert listed(snapshot) == set()
    assert ids(snapshot, "orders", "order_id") == {"1", "2", "3"}
