"""Which rows of the outbox wait, for a time or behind an earlier change of the same person, and when they are ready again.

Nothing here claims a row; `outbox` asks, inside its own transactions.
"""

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from ...core.model import Operation
from .database import KEYS_PER_QUERY, grouped
from .outbox_sealing import unseal_change
from .schema import READY, WAITING, outbox
from .sealing import Sealing

BEHIND: Final = datetime(9999, 1, 1, tzinfo=UTC)
"""The time of a row that waits behind another one."""


class _Person(NamedTuple):
    id: int
    rank: int
    operation: str
    contact_key: int
    address: str
    payload: str


_PERSON: Final = tuple(outbox.c[name] for name in _Person._fields)
_WAITS: Final = sa.select(
    sa.func.min(outbox.c.rank), sa.func.min(outbox.c.not_before), sa.func.max(outbox.c.not_before)
).where(outbox.c.destination == sa.bindparam("destination"), WAITING)


def wake(connection: sa.Connection, destination: str, now: datetime, sealing: Sealing) -> int | None:
    """Make ready what has waited long enough, and what waited behind others that are gone; give the lowest rank left.

    It may give a lower one, that has none left, but never None while any row waits.
    """
    lowest, first, last = connection.execute(_WAITS, {"destination": destination}).one()
    if lowest is None:
        return None
    here = sa.and_(outbox.c.destination == destination, WAITING)
    if first <= now:
        due = sa.select(outbox.c.id).where(here, outbox.c.not_before <= now).order_by(outbox.c.id)
        _make_ready(connection, connection.execute(due).scalars().all())
    if last == BEHIND:
        query = sa.select(*_PERSON).where(here, outbox.c.not_before == BEHIND).order_by(outbox.c.id)
        behind = list(_persons(connection, query, destination, sealing))
        highest = max(row.rank for row in behind)
        before: dict[int | str, int] = {}
        for condition in (READY, WAITING):
            for key, rank in people_of(connection, destination, highest, condition, sealing).items():
                before[key] = min(rank, before.get(key, rank))
        free = [
            row.id
            for row in behind
            if all(before.get(key, row.rank) >= row.rank for key in subjects_of(row.contact_key, row.address))
        ]
        _make_ready(connection, free)
    return int(lowest)


def _make_ready(connection: sa.Connection, ids: Sequence[int]) -> None:
    """Put rows at the end of their waves: by their old ids they would count as claimed."""
    kept = [column for column in outbox.columns if column.name not in {"id", "not_before"}]
    for group in grouped(ids, KEYS_PER_QUERY):
        these = outbox.c.id.in_(group)
        connection.execute(
            sa.insert(outbox).from_select(
                [column.name for column in kept], sa.select(*kept).where(these).order_by(outbox.c.id)
            )
        )
        connection.execute(sa.delete(outbox).where(these))


def people_of(
    connection: sa.Connection,
    destination: str,
    rank: int,
    condition: sa.ColumnElement[bool],
    sealing: Sealing,
) -> dict[int | str, int]:
    """Give whom rows of a lower rank are about: the contacts' keys and their addresses, and the lowest rank of each."""
    query = sa.select(*_PERSON).where(outbox.c.destination == destination, condition, outbox.c.rank < rank)
    people: dict[int | str, int] = {}
    for row in _persons(connection, query, destination, sealing):
        for key in (*subjects_of(row.contact_key, row.address), *_previous(row)):
            people[key] = min(row.rank, people.get(key, row.rank))
    return people


def subjects_of(contact_key: int, address: str) -> tuple[int | str, ...]:
    """Give by what two rows are of one person: the key, and the address in whatever case."""
    return contact_key, address.lower()


def _persons(
    connection: sa.Connection, query: sa.Select[*tuple[Any, ...]], destination: str, sealing: Sealing
) -> Iterator[_Person]:
    for row in connection.execute(query):
        person = _Person._make(row)
        if sealing.is_on:
            address, payload = unseal_change(
                sealing, destination, person.contact_key, person.address, person.payload
            )
            person = person._replace(address=address, payload=payload)
        yield person


def _previous(person: _Person) -> Iterator[str]:
    """Give the address that a row moves a contact away from."""
    if person.operation != Operation.READDRESS:
        return
    if address := json.loads(person.payload).get("previous_address"):
        yield address.lower()
