"""What is known of a destination besides baselines: its contacts' consent as last seen, what we made there, cursors.

Nothing here decides what a state means; `core.consent` does.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

import pyarrow as pa
import sqlalchemy as sa

from ...core.consent import ConsentState
from ...core.model import RemoteContact
from .audit import Audit
from .columns import stream_columns
from .database import ROWS_PER_TRANSACTION, Database, grouped, insert, insert_columns, plain_among
from .schema import cursor, instant_of, microseconds, owned, remote

REMOTE: Final = pa.schema([("address_key", pa.int64()), ("state", pa.string())])
MEMBERS: Final = REMOTE.append(pa.field("written_for", pa.int64()))

OwnedKind = Literal["field", "tag"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OptIns:
    """Times of opting in at one address: as the ESP showed it last, and as it came with our own write.

    `looked_at` is when we learnt last how the address stands there.
    """

    seen: datetime | None
    stated: datetime | None
    looked_at: datetime

    def is_news(self, opted_in_at: datetime) -> bool:
        """Whether an opt-in that the ESP shows is another one than we know of; it may keep whole seconds."""
        if self.seen is None and self.stated is None:  # nobody noted it at the time
            return opted_in_at >= self.looked_at.replace(microsecond=0)
        return opted_in_at != self.seen


class Destinations:
    """Remembers per destination which addresses it has, which fields and tags are ours, and how far reading came."""

    def __init__(self, database: Database, audit: Audit, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._audit = audit
        self._clock = clock

    def record_remote(self, destination: str, contacts: Mapping[int, RemoteContact]) -> None:
        """Store contacts, by address key, as the ESP shows them now."""
        for group in grouped(contacts.items(), ROWS_PER_TRANSACTION):
            with self._database.write() as connection:
                states = {key: contact.state for key, contact in group}
                times = {key: microseconds(each.opted_in_at) for key, each in group if each.opted_in_at}
                ids = {key: contact.record_id for key, contact in group if contact.record_id}
                see(connection, destination, states, self._clock(), opted_in_at=times, record_id=ids)

    def record_moved(
        self, destination: str, contact_key: int, address_key: int, contact: RemoteContact
    ) -> None:
        """Store what a move turns out to have brought to an address, and for whom."""
        stated_at = contact.opted_in_at
        with self._database.write() as connection:
            see(
                connection,
                destination,
                {address_key: contact.state},
                self._clock(),
                stated_at={address_key: microseconds(stated_at)} if stated_at else {},
                written_for={address_key: contact_key},
                record_id={address_key: contact.record_id} if contact.record_id else {},
            )

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
        return self._stream(destination, REMOTE)

    def stream_members(self, destination: str) -> Iterator[pa.RecordBatch]:
        """Give every address seen at a destination as batches of MEMBERS: also whom we wrote there last."""
        return self._stream(destination, MEMBERS)

    def _stream(self, destination: str, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        return stream_columns(
            self._database,
            [remote.c[name] for name in schema.names],
            remote.c.address_key,
            remote.c.destination == destination,
            schema=schema,
        )

    def states(self, destination: str, address_keys: Iterable[int]) -> dict[int, ConsentState]:
        """Give the state of a batch of addresses as the ESP showed it last; those never seen there are absent."""
        query = sa.select(remote.c.address_key, remote.c.state).where(remote.c.destination == destination)
        with self._database.read() as connection:
            return {
                key: ConsentState(state)
                for key, state in plain_among(connection, query, remote.c.address_key, address_keys)
            }

    def opt_ins(self, destination: str, address_keys: Iterable[int]) -> dict[int, OptIns]:
        """Give the times of opting in that are known, of a batch of addresses; those never seen there are absent."""
        query = sa.select(
            remote.c.address_key, remote.c.opted_in_at, remote.c.stated_at, remote.c.seen_at
        ).where(remote.c.destination == destination)
        with self._database.read() as connection:
            return {
                key: OptIns(
                    seen=seen and instant_of(seen),
                    stated=stated and instant_of(stated),
                    looked_at=instant_of(looked_at),
                )
                for key, seen, stated, looked_at in plain_among(
                    connection, query, remote.c.address_key, address_keys
                )
            }

    def record_ids(self, destination: str, address_keys: Iterable[int]) -> dict[int, str]:
        """Give the ESP's own ids of the contacts at a batch of addresses, as far as they were told."""
        query = sa.select(remote.c.address_key, remote.c.record_id).where(
            remote.c.destination == destination, remote.c.record_id.is_not(None)
        )
        with self._database.read() as connection:
            found = plain_among(connection, query, remote.c.address_key, address_keys)
            return {row[0]: row[1] for row in found}

    def at_records(self, destination: str, record_ids: Iterable[str]) -> dict[str, int]:
        """Give the address keys under which a batch of the ESP's own ids were told last."""
        query = sa.select(remote.c.record_id, remote.c.address_key).where(
            remote.c.destination == destination, remote.c.record_id.in_(list(record_ids))
        )
        with self._database.read() as connection:
            return {row.record_id: row.address_key for row in connection.execute(query)}

    def written_for(self, destination: str, address_keys: Iterable[int]) -> dict[int, int]:
        """Give the keys of the contacts that we wrote last at a batch of addresses; where we wrote nobody, none."""
        query = sa.select(remote.c.address_key, remote.c.written_for).where(
            remote.c.destination == destination, remote.c.written_for.is_not(None)
        )
        with self._database.read() as connection:
            found = plain_among(connection, query, remote.c.address_key, address_keys)
            return {row[0]: row[1] for row in found}

    def tell_written_for(self, destination: str, contact_keys: Mapping[int, int]) -> None:
        """Store for whom addresses were written, by address key, where a store of an earlier schema does not say."""
        with self._database.write() as connection:
            write_for(connection, destination, contact_keys, remote.c.written_for.is_(None))

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
            detail = {"kind": kind, "names": sorted(names)}
            self._audit.append(connection, "made ours", destination=destination, detail=detail)

    def owned(self, destination: str, kind: OwnedKind) -> dict[str, str | None]:
        """Give the fields or tags that are ours: name to the ESP's id."""
        query = sa.select(owned.c.name, owned.c.remote_id).where(
            owned.c.destination == destination, owned.c.kind == kind
        )
        with self._database.read() as connection:
            return {row.name: row.remote_id for row in connection.execute(query)}

    def disown(self, destination: str, kind: OwnedKind, names: Iterable[str]) -> None:
        """Forget fields or tags of ours that somebody deleted."""
        gone = sorted(names)
        with self._database.write() as connection:
            connection.execute(
                sa.delete(owned).where(
                    owned.c.destination == destination, owned.c.kind == kind, owned.c.name.in_(gone)
                )
            )
            if gone:
                detail = {"kind": kind, "names": gone}
                self._audit.append(connection, "no longer ours", destination=destination, detail=detail)

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
    **more: Mapping[int, int] | Mapping[int, str],
) -> None:
    """Store states by address key, as part of the caller's transaction.

    `more` are further columns, as they are stored, of those who have them; of all others these stay as they are.
    """
    same = {"destination": destination, "seen_at": microseconds(seen_at)}
    alike: dict[tuple[str, ...], list[int]] = {}
    for key in sorted(states):
        alike.setdefault(tuple(name for name, values in more.items() if key in values), []).append(key)
    for names, keys in alike.items():
        columns: dict[str, list[object]] = {
            "address_key": [*keys],
            "state": [states[key].value for key in keys],
        }
        columns |= {name: [more[name][key] for key in keys] for name in names}
        insert_columns(connection, remote, columns, same, on_conflict="replace")


def write_for(
    connection: sa.Connection,
    destination: str,
    contact_keys: Mapping[int, int],
    *conditions: sa.ColumnElement[bool],
) -> None:
    """Store for whom addresses that are there were written last, by address key, in the caller's transaction."""
    _tell(connection, destination, remote.c.written_for, contact_keys, *conditions)


def tell_ids(connection: sa.Connection, destination: str, record_ids: Mapping[int, str]) -> None:
    """Store the ESP's own ids of contacts at addresses that are there, by address key, in the caller's transaction."""
    _tell(connection, destination, remote.c.record_id, record_ids)


def _tell(
    connection: sa.Connection,
    destination: str,
    column: sa.Column[Any],
    values: Mapping[int, object],
    *conditions: sa.ColumnElement[bool],
) -> None:
    if values:
        member = (remote.c.destination == destination, remote.c.address_key == sa.bindparam("told_at"))
        connection.execute(
            sa.update(remote).where(*member, *conditions).values({column: sa.bindparam("told")}),
            [{"told_at": key, "told": values[key]} for key in sorted(values)],
        )
