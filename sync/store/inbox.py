"""The inbox: what ESPs posted, kept until it is worked off, and its names for a while after, so that each counts once.

What a message says is the connector's to read, and what follows from it is decided elsewhere.

Decisions. A message is durable before it is acknowledged; many that arrive together share one transaction, because a
commit costs the same for one row as for hundreds. A row that is done keeps its name and loses its body, which holds
personal data; the name stays longer than any sender repeats itself.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import sqlalchemy as sa

from .database import ROWS_PER_TRANSACTION, Database, insert_columns
from .schema import inbox, microseconds
from .sealing import Sealing

KEPT: Final = timedelta(days=7)
"""How long the names of messages that are done stay: senders give up within hours."""

_WAITING, _HINT, _DONE, _DEAD = "waiting", "hint", "done", "dead"


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message as it came. `name` tells it from all others of its destination, however often it is sent."""

    destination: str
    name: str
    content_type: str
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingMessage:
    """A message that is to be worked off. `attempts` counts how often that failed."""

    id: int
    content_type: str
    body: bytes
    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxCounts:
    """How an inbox stands. `oldest_at` is when the message that waits longest came, None when none does."""

    waiting: int
    dead: int
    oldest_at: datetime | None


class Inbox:
    """Takes messages in and hands them out until they are done or given up. Any process may do either."""

    def __init__(self, database: Database, sealing: Sealing, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._sealing = sealing
        self._clock = clock

    def put(self, messages: Sequence[Message]) -> int:
        """Store messages in one durable transaction; give how many were not known before."""
        names = [hashlib.sha256(each.name.encode()).digest()[:16] for each in messages]
        columns: dict[str, Sequence[object]] = {
            "destination": [each.destination for each in messages],
            "name_hash": names,
            "content_type": [each.content_type for each in messages],
            "body": [
                self._sealing.seal(each.body, inbox.name, each.destination, name.hex())
                for each, name in zip(messages, names, strict=True)
            ],
        }
        same = {"received_at": microseconds(self._clock()), "status": _WAITING, "attempts": 0}
        with self._database.write() as connection:
            return insert_columns(connection, inbox, columns, same, on_conflict="ignore")

    def take(self, destination: str, limit: int) -> list[WaitingMessage]:
        """Give the messages that wait and are due, oldest first; whoever is killed over them finds them again."""
        return self._due(destination, _WAITING, limit)

    def hints(self, destination: str, limit: int) -> list[WaitingMessage]:
        """Give the messages that `set_aside` put off, once they are due, oldest first."""
        return self._due(destination, _HINT, limit)

    def _due(self, destination: str, status: str, limit: int) -> list[WaitingMessage]:
        columns = (inbox.c[name] for name in WaitingMessage.__slots__)
        due = sa.or_(inbox.c.not_before.is_(None), inbox.c.not_before <= self._clock())
        found = sa.select(inbox.c.name_hash, *columns).where(_of(destination, status), due)
        with self._database.read() as connection:
            rows = connection.execute(found.order_by(inbox.c.id).limit(limit)).mappings().all()
        messages = []
        for row in rows:
            said = {name: row[name] for name in WaitingMessage.__slots__}
            said["body"] = self._sealing.unseal(row["body"], inbox.name, destination, row["name_hash"].hex())
            messages.append(WaitingMessage(**said))
        return messages

    def set_aside(self, ids: Sequence[int], *, until: datetime) -> None:
        """Have messages wait as hints: what they say for sure is known, and the account has to tell the rest."""
        if ids:
            with self._database.write() as connection:
                hint = {"status": _HINT, "not_before": until}
                connection.execute(sa.update(inbox).where(_open(ids)).values(hint))

    def finish(self, ids: Sequence[int]) -> None:
        """Call messages done: their names stay for KEPT, what they said does not."""
        if ids:
            done = {"status": _DONE, "body": b"", "not_before": None, "problem": None}
            with self._database.write() as connection:
                connection.execute(sa.update(inbox).where(inbox.c.id.in_(ids)).values(done))

    def put_off(self, ids: Sequence[int], *, until: datetime, problem: str) -> None:
        """Have messages wait for another try. `problem` is a sentence without personal data."""
        later = {"not_before": until, "problem": problem, "attempts": inbox.c.attempts + 1}
        with self._database.write() as connection:
            connection.execute(sa.update(inbox).where(_open(ids)).values(later))

    def give_up(self, ids: Sequence[int], *, problem: str) -> None:
        """Lay messages aside, with what they said, until somebody looks at them."""
        dead = {"status": _DEAD, "not_before": None, "problem": problem, "attempts": inbox.c.attempts + 1}
        with self._database.write() as connection:
            connection.execute(sa.update(inbox).where(_open(ids)).values(dead))

    def revive(self, destination: str) -> int:
        """Let the messages that were given up be tried again; give how many."""
        with self._database.write() as connection:
            dead = _of(destination, _DEAD)
            again = sa.update(inbox).where(dead).values(status=_WAITING, attempts=0, problem=None)
            return connection.execute(again).rowcount

    def counts(self, destination: str) -> InboxCounts:
        """Count what waits and what was given up."""
        query = (
            sa.select(inbox.c.status, sa.func.count(), sa.func.min(inbox.c.received_at))
            .where(inbox.c.destination == destination, inbox.c.status != _DONE)
            .group_by(inbox.c.status)
        )
        with self._database.read() as connection:
            found = {status: (number, oldest) for status, number, oldest in connection.execute(query)}
        dead, _ = found.pop(_DEAD, (0, None))
        return InboxCounts(
            waiting=sum(number for number, _ in found.values()),
            dead=dead,
            oldest_at=min((oldest for _, oldest in found.values()), default=None),
        )

    def problems(self, destination: str) -> dict[str, int]:
        """Give why messages were given up, and how many each."""
        query = (
            sa.select(inbox.c.problem, sa.func.count())
            .where(_of(destination, _DEAD))
            .group_by(inbox.c.problem)
        )
        with self._database.read() as connection:
            return {row[0]: row[1] for row in connection.execute(query)}

    def forget(self) -> int:
        """Drop the names of messages that were done longer than KEPT ago, a transaction at a time; give how many."""
        before, dropped = self._clock() - KEPT, 0
        old = (
            sa.select(inbox.c.id)
            .where(inbox.c.status == _DONE, inbox.c.received_at < before)
            .limit(ROWS_PER_TRANSACTION)
        )
        while True:
            with self._database.write() as connection:
                count = connection.execute(sa.delete(inbox).where(inbox.c.id.in_(old))).rowcount
            dropped += count
            if count < ROWS_PER_TRANSACTION:
                return dropped


def _open(ids: Sequence[int]) -> sa.ColumnElement[bool]:
    """Choose what is not done: another process may have finished it since it was taken, and emptied it."""
    return sa.and_(inbox.c.id.in_(ids), inbox.c.status.in_((_WAITING, _HINT)))


def _of(destination: str, status: str) -> sa.ColumnElement[bool]:
    return sa.and_(inbox.c.destination == destination, inbox.c.status == status)
