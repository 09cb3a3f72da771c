"""Tombstones: who was erased is recognised in Python and in SQL, under any version of the key, and by nothing else."""

from datetime import datetime, timedelta

import duckdb
import pytest

from segue.sync.store import tombstones
from segue.sync.store.store import Store

from ...conftest import Clock


def put(store: Store, at: datetime, *, ids: list[str], addresses: list[str]) -> int:
    with store._database.write() as connection:
        return store.tombstones.put(connection, ids, addresses, at)


def erased_in_sql(store: Store) -> list[tuple[bool | None, ...]]:
    with duckdb.connect() as con:
        store.tombstones.install(con)
        return con.execute(
            "SELECT is_erased_contact(id), is_erased_address(email) FROM"
            " (VALUES ('c1', 'ada@shop.test'), ('c2', ' Ada@Shop.test '), ('ada@shop.test', 'c1'), (NULL, NULL)) t(id, email)"
        ).fetchall()


def test_python_and_sql_know_the_same_people(store: Store, clock: Clock) -> None:
    assert put(store, clock.now, ids=["c1"], addresses=["ada@shop.test"]) == 2
    assert erased_in_sql(store) == [(True, True), (False, True), (False, False), (None, None)]
    assert store.tombstones.erased_at(["c1"], []) == clock.now
    assert store.tombstones.erased_at([], ["ADA@shop.test"]) == clock.now
    assert store.tombstones.erased_at(["c2"], ["c1"]) is None


def test_without_a_tombstone_nobody_was_erased(store: Store) -> None:
    with duckdb.connect() as con:
        assert store.tombstones.install(con) is False
        assert con.execute("SELECT is_erased_contact('c1') OR is_erased_address('x')").fetchall() == [
            (False,)
        ]


def test_the_same_person_twice_keeps_the_first_tombstone(store: Store, clock: Clock) -> None:
    put(store, clock.now, ids=["c1"], addresses=[])
    assert put(store, clock.now + timedelta(days=1), ids=["c1"], addresses=[]) == 0
    assert store.tombstones.erased_at(["c1"], []) == clock.now


def test_a_tombstone_is_under_another_key_than_all_else(store: Store, clock: Clock) -> None:
    put(store, clock.now, ids=["c1"], addresses=["ada@shop.test"])
    ours = {store.keys.contact_key("c1"), store.keys.address_key("ada@shop.test")}
    kept = store.tombstones._hashes(tombstones.VERSION, ["c1"], ["ada@shop.test"])
    assert not ours & kept


def test_tombstones_of_an_older_key_are_still_recognised(
    store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, clock.now, ids=["c1"], addresses=[])
    monkeypatch.setattr(tombstones, "VERSION", 2)
    put(store, clock.now, ids=[], addresses=["ada@shop.test"])
    assert erased_in_sql(store)[0] == (True, True)
    assert store.tombstones.erased_at(["c1"], []) is not None
    assert store.tombstones.lift(["c1"], ["ada@shop.test"]) == 2
    assert store.tombstones.erased_at(["c1"], ["ada@shop.test"]) is None
