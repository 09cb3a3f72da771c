"""Tombstones: the keyed hashes of contact ids and addresses that were erased, by which they are known if they come back.

Nothing here erases anybody. There is no way from a tombstone to a person, nor to what else the store holds.

Decisions. The hashes are of a key of their own, made from the contact key for this purpose: a tombstone cannot be joined
with a ledger line or an audit row. Each tombstone says which version of the key it is under. To rotate, raise VERSION:
new ones are made under the new key and old ones are recognised under the old, because what they are of is not known any
more and cannot be hashed anew.
"""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Final

import duckdb
import pyarrow as pa
import sqlalchemy as sa

from .audit import Audit
from .database import Database, among, insert_columns, remove
from .keys import ContactKeys
from .schema import instant_of, microseconds, tombstone

VERSION: Final = 1
"""Under which version of the key new tombstones are made."""

_TABLE: Final = "tombstones"


class Tombstones:
    """Makes tombstones, and tells who has one."""

    def __init__(
        self, database: Database, keys: ContactKeys, audit: Audit, clock: Callable[[], datetime]
    ) -> None:
        self._database = database
        self._keys = keys
        self._audit = audit
        self._clock = clock

    def put(
        self, connection: sa.Connection, contact_ids: Iterable[str], addresses: Iterable[str], at: datetime
    ) -> int:
        """Make tombstones in the caller's transaction; give how many are new."""
        columns = {"subject_key": sorted(self._hashes(VERSION, contact_ids, addresses))}
        same = {"key_version": VERSION, "erased_at": microseconds(at)}
        return insert_columns(connection, tombstone, columns, same, on_conflict="ignore")

    def erased_at(self, contact_ids: Iterable[str], addresses: Iterable[str]) -> datetime | None:
        """Give when any of these was erased last, None when none was."""
        who = list(contact_ids), list(addresses)
        found: list[int] = []
        with self._database.read() as connection:
            for version in self._versions(connection):
                query = sa.select(tombstone.c.subject_key, tombstone.c.erased_at).where(
                    tombstone.c.key_version == version
                )
                rows = among(connection, query, tombstone.c.subject_key, self._hashes(version, *who))
                found += [row.erased_at for row in rows]
        return instant_of(max(found)) if found else None

    def among(self, addresses: Iterable[str]) -> set[str]:
        """Give those of a few addresses that were erased."""
        found: set[str] = set()
        with self._database.read() as connection:
            for version in self._versions(connection):
                hashes = {self._key(version).address_key(each): each for each in addresses}
                query = sa.select(tombstone.c.subject_key).where(tombstone.c.key_version == version)
                found |= {hashes[row[0]] for row in among(connection, query, tombstone.c.subject_key, hashes)}
        return found

    def lift(self, contact_ids: Iterable[str], addresses: Iterable[str]) -> int:
        """Let who was erased come back, by a person's word; give how many tombstones that took away."""
        who = list(contact_ids), list(addresses)
        lifted = 0
        with self._database.write() as connection:
            for version in self._versions(connection):
                gone = sa.delete(tombstone).where(tombstone.c.key_version == version)
                lifted += remove(connection, gone, tombstone.c.subject_key, self._hashes(version, *who))
            if lifted:
                subjects = [
                    *map(self._keys.contact_key, who[0]),
                    *map(self._keys.address_key, who[1]),
                ]
                self._audit.append(connection, "tombstones lifted", subjects=subjects)
        return lifted

    def install(self, connection: duckdb.DuckDBPyConnection) -> bool:
        """Define `is_erased_contact(text)` and `is_erased_address(text)` on a connection; give whether anybody was."""
        query = sa.select(tombstone.c.key_version, tombstone.c.subject_key)
        with self._database.read() as store:
            rows = store.execute(query).all()
        versions, keys = zip(*rows, strict=True) if rows else ((), ())
        connection.register(
            "tombstone_rows",
            pa.table({"version": pa.array(versions, pa.int32()), "subject": pa.array(keys, pa.int64())}),
        )
        connection.execute(f"CREATE OR REPLACE TEMP TABLE {_TABLE} AS FROM tombstone_rows").fetchall()
        connection.unregister("tombstone_rows")
        for kind in ("contact", "address"):
            tests = [
                f"{self._key(version).sql('subject', 'address' if kind == 'address' else 'contact')}"
                f" IN (SELECT t.subject FROM {_TABLE} t WHERE t.version = {version})"
                for version in sorted(set(versions))
            ]
            connection.execute(
                f"CREATE OR REPLACE TEMP MACRO is_erased_{kind}(subject) AS ({' OR '.join(tests) or 'false'})"
            ).fetchall()
        return bool(rows)

    def _versions(self, connection: sa.Connection) -> list[int]:
        return list(connection.execute(sa.select(tombstone.c.key_version).distinct()).scalars())

    def _hashes(self, version: int, contact_ids: Iterable[str], addresses: Iterable[str]) -> set[int]:
        key = self._key(version)
        return {*map(key.contact_key, contact_ids), *map(key.address_key, addresses)}

    def _key(self, version: int) -> ContactKeys:
        return ContactKeys(self._keys.derived(f"tombstone {version}"))
