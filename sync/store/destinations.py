"""What is known of a destination besides baselines: its contacts' consent as last seen, what we made there, cursors.

Nothing here decides what a state means; `core.consent` does.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Final, Literal

import pyarrow as pa
import sqlalchemy as sa

from ...core.consent import ConsentState
from .columns import stream_columns
from .database import ROWS_PER_TRANSACTION, Database, grouped, insert, insert_columns, plain_among
from .schema import cursor, instant_of, microseconds, owned, remote

REMOTE: Final = pa.schema([("address_key", pa.int64()), ("state", pa.string())])

OwnedKind = Literal["field", "tag"]


class Destinations:
    """Remembers per destination which addresses it has, which fields and tags are ours, and how far reading came."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    def record_remote(
        self,
        destination: str,
        rows: Iterable[tuple[int, ConsentState]],
        stated: Mapping[int, datetime] = MappingProxyType({}),
    ) -> None:
        """Store (address key, state) pairs as the ESP shows them now; a later one of the same address counts.

        `stated` are opt-in times, by address key, that are no word of whoever has the address now.
        """
        for group in grouped(rows, ROWS_PER_TRANSACTION):
            with self._database.write() as connection:
                see(connection, destination, dict(group), self._clock(), stated)

    def forget_remote(self, destination: str, address_keys: Iterable[int]) -> None:
        """Forget addresses that a destination no longer has."""
        with self._database.write() as connection:
            connection.execute(
                sa.delete(remote).where(
                    remote.c.destination == destination, remote.c.address_key.in_(list(address_keys))
                )
            )

    def stream_remote(self, destination: str) -> Iterator[pa.RecordBatch]:
        """Give every address seen at a destination as batches of REMOTE."""
        return stream_columns(
            self._database,
            [remote.c.address_key, remote.c.state],
            remote.c.address_key,
            remote.c.destination == destination,
            schema=REMOTE,
        )

    def states(self, destination: str, address_keys: Iterable[int]) -> dict[int, ConsentState]:
        """Give the state of a batch of addresses as the ESP showed it last; those never seen there are absent."""
        query = sa.select(remote.c.address_key, remote.c.state).where(remote.c.destination == destination)
        with self._database.read() as connection:
            return {
                key: ConsentState(state)
                for key, state in plain_among(connection, query, remote.c.address_key, address_keys)
            }

    def stated(self, destination: str, address_keys: Iterable[int]) -> dict[int, datetime]:
        """Give the opt-in times that came with our own writes, of a batch of addresses: see `Settlement.stated_at`."""
        query = sa.select(remote.c.address_key, remote.c.stated_at).where(
            remote.c.destination == destination, remote.c.stated_at.is_not(None)
        )
        with self._database.read() as connection:
            return {
                key: instant_of(stated_at)
                for key, stated_at in plain_among(connection, query, remote.c.address_key, address_keys)
            }

    def own(self, destination: str, kind: OwnedKind, names: Mapping[str, str | None]) -> None:
        """Remember fields or tags that we made, by name, with the ESP's id where it has one."""
        if not names:
            return
        now = self._clock()
        rows = [
            {"destination": destination, "kind": kind, "name": name, "remote_id": remote_id, "made_at": now}
            for name, remote_id in names.items()
        ]
        with self._database.write() as connection:
            connection.execute(insert(connection, owned, on_conflict="replace"), rows)

    def owned(self, destination: str, kind: OwnedKind) -> dict[str, str | None]:
        """Give the fields or tags that are ours: name to the ESP's id."""
        query = sa.select(owned.c.name, owned.c.remote_id).where(
            owned.c.destination == destination, owned.c.kind == kind
        )
        with self._database.read() as connection:
            return {row.name: row.remote_id for row in connection.execute(query)}

    def disown(self, destination: str, kind: OwnedKind, names: Iterable[str]) -> None:
        """Forget fields or tags of ours that somebody deleted."""
        with self._database.write() as connection:
            connection.execute(
                sa.delete(owned).where(
                    owned.c.destination == destination, owned.c.kind == kind, owned.c.name.in_(list(names))
                )
            )

    def cursor(self, destination: str, name: str) -> str | None:
        """Give how far a reading came, None before the first."""
        query = sa.select(cursor.c.value).where(cursor.c.destination == destination, cursor.c.name == name)
        with self._database.read() as connection:
            return connection.execute(query).scalar()

    def set_cursor(self, destination: str, name: str, value: str) -> None:
        """Remember how far a reading came: only after all of it is stored."""
        row = {"destination": destination, "name": name, "value": value}
        with self._database.write() as connection:
            connection.execute(insert(connection, cursor, on_conflict="replace"), row)


def see(
    connection: sa.Connection,
    destination: str,
    states: Mapping[int, ConsentState],
    seen_at: datetime,
    stated: Mapping[int, datetime] = MappingProxyType({}),
) -> None:
    """Store states by address key, as part of the caller's transaction, and for some an opt-in time that we stated.

    What was stated before stays where nothing is.
    """
    same = {"destination": destination, "seen_at": microseconds(seen_at)}
    for keys in (sorted(states.keys() - stated.keys()), sorted(states.keys() & stated.keys())):
        columns: dict[str, list[object]] = {
            "address_key": list(keys),
            "state": [states[key].value for key in keys],
        }
        if not stated.keys().isdisjoint(keys):
            columns["stated_at"] = [microseconds(stated[key]) for key in keys]
        insert_columns(connection, remote, columns, same, on_conflict="replace")
