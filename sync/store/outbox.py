"""The outbox: changes that are to be sent, claimed in batches until `settlement.Settlements` ends them.

What a change says, and whether it may still be sent, is decided elsewhere.

A row is there as long as it is not settled. It is ready, or it waits: for a time, or behind an earlier change of the
same person that waits itself. Of a wave's ready rows, those up to the last id that was handed out are claimed: a claim
is one number a wave and group and not a mark on each row, because writing each row once more costs more than putting
it in did. So ids only grow, and a row that comes again comes under a new id, at the end of its wave; whoever settles
it by the old one is refused. A killed run leaves its claims behind; the next holder's `release_claims` ends them, which
is safe because every write may be repeated after the gate.

A claim is durable before anything of it is sent: what was claimed and not settled may have happened, and `in_doubt`
gives it to whoever plans next.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import pyarrow as pa
import sqlalchemy as sa

from ...core.model import Operation
from .audit import Audit
from .claiming import Claiming
from .database import (
    KEYS_PER_QUERY,
    ROWS_PER_TRANSACTION,
    Database,
    grouped,
    insert_columns,
    parts,
    plain_among,
)
from .leases import Lease, check, lock
from .outbox_row import ITEMS, OPERATIONS, STEP, URGENT, OutboxRow
from .outbox_sealing import seal_changes
from .schema import IN_JOB, READY, TRIED, WAITING, outbox
from .schema import claim as claims
from .sealing import Sealing
from .waiting import BEHIND, wake

_CLAIMS: Final = sa.select(claims).where(claims.c.destination == sa.bindparam("destination"))
_SAME_PLACE: Final = sa.and_(
    *(claims.c[name] == outbox.c[name] for name in ("destination", "rank", "step", "group_key")),
    outbox.c.id <= claims.c.last_id,
)
_CLAIMED: Final = sa.and_(READY, sa.exists().where(_SAME_PLACE))


class Outbox:
    """Takes changes in and hands them out; `settlement.Settlements` ends them."""

    def __init__(
        self, database: Database, sealing: Sealing, audit: Audit, clock: Callable[[], datetime]
    ) -> None:
        self._database = database
        self._sealing = sealing
        self._audit = audit
        self._clock = clock

    def enqueue(
        self,
        plan_id: str,
        destination: str,
        batches: pa.Table | pa.RecordBatchReader | Iterable[pa.RecordBatch],
    ) -> int:
        """Put in a plan's changes, given as ITEMS columns, in grouped transactions; give how many.

        They take the place of what is there of that plan, so that a call that was killed can be made again.
        """
        self._drop(sa.and_(outbox.c.plan_id == plan_id, outbox.c.destination == destination, ~IN_JOB))
        same = {"plan_id": plan_id, "destination": destination, "attempts": 0}
        count = 0
        for batch in parts(batches):
            columns = {name: batch.column(name).to_pylist() for name in ITEMS.names}
            columns["step"] = [STEP[operation] for operation in columns["operation"]]
            with self._database.write() as connection:
                lock(connection, destination)
                sealed = seal_changes(self._sealing, destination, columns)
                count += insert_columns(connection, outbox, sealed, same, on_conflict=None)
        return count

    def urge(self, destination: str, rows: Iterable[tuple[int, str, int]]) -> int:
        """Put in opt-outs, as (contact key, address, address key), that go before all else; give how many were new.

        Any process may, while another one holds the lease. One that is there and not claimed yet stays one.
        """
        given = {(contact_key, address_key): address for contact_key, address, address_key in rows}
        operation = Operation.OPT_OUT.value
        same = {
            "plan_id": URGENT,
            "destination": destination,
            "operation": operation,
            "step": STEP[operation],
            "group_key": "",
            "rank": 0,
            "attempts": 0,
        }
        unclaimed = sa.and_(READY, outbox.c.rank == 0, outbox.c.step == STEP[operation], ~_CLAIMED)
        with self._database.write() as connection:
            lock(connection, destination)
            for condition in (unclaimed, WAITING):
                there = sa.select(outbox.c.contact_key, outbox.c.address_key).where(
                    outbox.c.destination == destination, condition, outbox.c.plan_id == URGENT
                )
                for row in connection.execute(there):
                    given.pop((row.contact_key, row.address_key), None)
            columns: dict[str, Sequence[object]] = {
                "contact_key": [contact_key for contact_key, _ in given],
                "address_key": [address_key for _, address_key in given],
                "address": list(given.values()),
                "payload": ["{}"] * len(given),
            }
            if given:
                urged = {operation: [contact_key for contact_key, _ in given]}
                self._audit.append(connection, "urged", destination=destination, subjects=urged)
            sealed = seal_changes(self._sealing, destination, columns)
            return insert_columns(connection, outbox, sealed, same, on_conflict=None)

    def urged(self, destination: str) -> set[tuple[int, int]]:
        """Give who is opted out by what `urge` put in and is still there, as (contact key, address key)."""
        there = sa.select(outbox.c.contact_key, outbox.c.address_key).where(
            outbox.c.destination == destination,
            outbox.c.rank == 0,
            outbox.c.step == STEP[Operation.OPT_OUT.value],
            outbox.c.plan_id == URGENT,
        )
        with self._database.read() as connection:
            return {(row.contact_key, row.address_key) for row in connection.execute(there)}

    def urgent(self, destination: str, limit: int) -> list[OutboxRow]:
        """Give opt-outs that `urge` put in and whose time has come, whoever holds the lease or has claimed them."""
        first = sa.and_(outbox.c.destination == destination, outbox.c.plan_id == URGENT, outbox.c.rank == 0)
        due = sa.and_(WAITING, outbox.c.not_before <= self._clock())
        return [row for state in (READY, due) for row in self._rows(first, state, limit=limit)]

    def claim(
        self,
        lease: Lease,
        sizes: Mapping[Operation, int],
        *,
        batches: int = 1,
        up_to: int | None = None,
    ) -> list[list[OutboxRow]]:
        """Take the next batches of one wave and operation, each of one group, in order; none when none may be sent.

        `sizes` is the batch size by operation; operations that it lacks are left alone. Nothing is handed out while
        rows of an earlier rank are claimed, because they may come back; and nothing of a person, or for an address,
        that waits at an earlier rank; nor of ranks above `up_to`. Raises StoreError when the lease went to another holder.
        """
        with self._database.write() as connection:
            check(connection, lease)
            known = connection.execute(_CLAIMS, {"destination": lease.destination}).all()
            if any(row.token != lease.token for row in known):
                _release(connection, lease)
            claiming = Claiming(
                connection=connection,
                lease=lease,
                last_ids={
                    (row.rank, row.step, row.group_key): row.last_id
                    for row in known
                    if row.token == lease.token
                },
                first_waiting=wake(connection, lease.destination, self._clock(), self._sealing),
                sealing=self._sealing,
            )
            return claiming.take(sizes, batches, up_to)

    def next_due(self, destination: str) -> datetime | None:
        """Give when the earliest row that waits for its time may be claimed, None when none waits."""
        query = sa.select(sa.func.min(outbox.c.not_before)).where(
            outbox.c.destination == destination, WAITING, outbox.c.not_before < BEHIND
        )
        with self._database.read() as connection:
            return connection.execute(query).scalar()

    def release_claims(self, lease: Lease) -> int:
        """Make the rows that earlier holders left claimed ready again, as attempted; give how many."""
        with self._database.write() as connection:
            check(connection, lease)
            return _release(connection, lease)

    def in_doubt(self, lease: Lease, limit: int) -> list[OutboxRow]:
        """Give changes that were handed out and never settled for good, in the order of sending.

        Each may have been sent, or not; one that the ESP said it did not take is not among them. Nor are opt-outs,
        which are always sent again, and what is in a job, which can be asked.
        """
        self.release_claims(lease)
        return self._rows(
            outbox.c.destination == lease.destination,
            TRIED,
            ~IN_JOB,
            outbox.c.operation != Operation.OPT_OUT.value,
            limit=limit,
        )

    def note_jobs(self, jobs: Mapping[str, Collection[int]]) -> None:
        """Remember which jobs took which claimed rows, by id, before anything is asked of them."""
        with self._database.write() as connection:
            for job, ids in jobs.items():
                for group in grouped(sorted(ids), KEYS_PER_QUERY):
                    connection.execute(sa.update(outbox).where(outbox.c.id.in_(group)).values(job=job))

    def in_jobs(self, lease: Lease) -> dict[str, list[OutboxRow]]:
        """Give the changes that jobs of earlier runs took, by job, in the order in which they were sent."""
        self.release_claims(lease)
        query = (
            sa.select(outbox.c.job)
            .where(outbox.c.destination == lease.destination, IN_JOB)
            .distinct()
            .order_by(outbox.c.job)
        )
        with self._database.read() as connection:
            jobs = connection.execute(query).scalars().all()
        here = outbox.c.destination == lease.destination
        return {job: self._rows(here, IN_JOB, outbox.c.job == job) for job in jobs}

    def hasten(self, destination: str, address_keys: Collection[int]) -> None:
        """Let opt-outs at these addresses wait no longer: whoever was just being made is there."""
        waits = sa.and_(
            outbox.c.destination == destination, WAITING, outbox.c.operation == Operation.OPT_OUT.value
        )
        now = self._clock()
        with self._database.write() as connection:
            for group in grouped(sorted(address_keys), KEYS_PER_QUERY):
                these = sa.and_(waits, outbox.c.address_key.in_(group))
                connection.execute(sa.update(outbox).where(these).values(not_before=now))

    def awaited(self, destination: str) -> set[int]:
        """Give contact keys and address keys of what jobs took, or was accepted, and is not settled yet."""
        there = sa.select(outbox.c.contact_key, outbox.c.address_key).where(
            outbox.c.destination == destination, IN_JOB
        )
        with self._database.read() as connection:
            return {key for row in connection.execute(there) for key in row}

    def arrivals_at(self, destination: str, address_keys: Collection[int]) -> list[OutboxRow]:
        """Give the rows that may just be making somebody at these addresses, or moving them there, or have done so.

        What was never handed out is not among them: it passes the gate first.
        """
        arriving = {Operation.CREATE.value, Operation.READDRESS.value}
        claimed = (
            sa.select(outbox.c.id, outbox.c.operation, outbox.c.address_key)
            .join(claims, _SAME_PLACE)
            .where(claims.c.destination == destination, READY)
        )
        tried = sa.select(outbox.c.id, outbox.c.operation).where(outbox.c.destination == destination, TRIED)
        with self._database.read() as connection:
            wanted = set(address_keys)
            found: list[Sequence[Any]] = [
                (row.id, row.operation) for row in connection.execute(claimed) if row.address_key in wanted
            ]
            found += plain_among(connection, tried, outbox.c.address_key, address_keys)
        ids = {number for number, operation in found if operation in arriving}
        return self._rows(outbox.c.id.in_(ids)) if ids else []

    def arriving(self, destination: str) -> list[int]:
        """Give every address at which a row may just be making somebody, as `arrivals_at` does."""
        arrives = outbox.c.operation.in_([Operation.CREATE.value, Operation.READDRESS.value])
        claimed = (
            sa.select(outbox.c.address_key)
            .join(claims, _SAME_PLACE)
            .where(claims.c.destination == destination, READY, arrives)
        )
        tried = sa.select(outbox.c.address_key).where(outbox.c.destination == destination, TRIED, arrives)
        with self._database.read() as connection:
            return [key for query in (claimed, tried) for key in connection.scalars(query)]

    def pending_counts(self, destination: str) -> dict[tuple[Operation, str], int]:
        """Give how many rows are to be sent, by operation and group: not those claimed, but those that wait."""
        counts: dict[tuple[Operation, str], int] = {}
        count = sa.select(outbox.c.step, outbox.c.group_key, sa.func.count()).group_by(
            outbox.c.step, outbox.c.group_key
        )
        with self._database.read() as connection:
            for sign, query in (
                (1, count.where(outbox.c.destination == destination, READY)),
                (1, count.where(outbox.c.destination == destination, WAITING)),
                (-1, count.where(claims.c.destination == destination, READY, _SAME_PLACE)),
            ):
                for step, group_key, number in connection.execute(query):
                    place = (OPERATIONS[step], group_key)
                    counts[place] = counts.get(place, 0) + sign * number
        return {place: number for place, number in counts.items() if number}

    def discard(self, plan_id: str) -> None:
        """Remove a plan's rows, in grouped transactions; claimed ones, and those in jobs, stay until they are settled."""
        self._drop(sa.and_(outbox.c.plan_id == plan_id, ~_CLAIMED, ~IN_JOB))

    def _rows(self, *conditions: sa.ColumnElement[bool], limit: int | None = None) -> list[OutboxRow]:
        query = (
            sa.select(*(outbox.c[name] for name in OutboxRow._fields))
            .where(*conditions)
            .order_by(outbox.c.rank, outbox.c.step, outbox.c.id)
            .limit(limit)
        )
        with self._database.read() as connection:
            rows = [
                OutboxRow(**{**row, "operation": Operation(row["operation"])})
                for row in connection.execute(query).mappings()
            ]
        return [row.opened(self._sealing) for row in rows] if self._sealing.is_on else rows

    def _drop(self, condition: sa.ColumnElement[bool]) -> None:
        last_id = 0
        while True:
            rows = sa.and_(condition, outbox.c.id > last_id)
            some = sa.select(outbox.c.id).where(rows).order_by(outbox.c.id).limit(ROWS_PER_TRANSACTION)
            with self._database.write() as connection:
                ids = connection.execute(some).scalars().all()
                if not ids:
                    return
                last_id = ids[-1]
                connection.execute(sa.delete(outbox).where(rows, outbox.c.id <= last_id))


def _release(connection: sa.Connection, lease: Lease) -> int:
    """End the claims of earlier holders: what they claimed and is still there has one attempt more."""
    earlier = sa.and_(claims.c.destination == lease.destination, claims.c.token != lease.token)
    released = 0
    for claim in connection.execute(sa.select(claims).where(earlier)).mappings().all():
        place = (outbox.c[name] == claim[name] for name in ("destination", "rank", "step", "group_key"))
        released += connection.execute(
            sa.update(outbox)
            .where(*place, READY, outbox.c.id <= claim["last_id"])
            .values(attempts=outbox.c.attempts + 1)
        ).rowcount
    connection.execute(sa.delete(claims).where(earlier))
    return released
