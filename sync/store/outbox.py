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
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

import orjson
import pyarrow as pa
import sqlalchemy as sa

from ...core.model import Change, Operation
from .audit import Audit
from .database import (
    KEYS_PER_QUERY,
    ROWS_PER_TRANSACTION,
    Database,
    grouped,
    insert,
    insert_columns,
    parts,
    plain_among,
)
from .leases import Lease, check, lock
from .outbox_sealing import seal_changes, unseal_change
from .schema import IN_JOB, READY, TRIED, WAITING, outbox
from .schema import claim as claims
from .sealing import Sealing
from .waiting import BEHIND, people_of, subjects_of, wake

ITEMS: Final = pa.schema(
    [
        ("contact_key", pa.int64()),
        ("operation", pa.string()),
        ("group_key", pa.string()),  # the tag of an untag, else empty
        ("rank", pa.int32()),  # wave: a lower one is sent before a higher one
        ("address", pa.string()),
        ("address_key", pa.int64()),
        (
            "payload",
            pa.string(),
        ),  # JSON object: fields, tags, previous_address, each if any; the engine may add its own
        ("before_hash", pa.binary()),  # null: the plan saw no baseline
        ("desired_hash", pa.binary()),  # null: the change aims at no whole state (an opt-out)
    ]
)

STEP: Final = {operation.value: place for place, operation in enumerate(Operation)}
"""The order of sending within a wave."""

URGENT: Final = "urgent"
"""The plan id of what `Outbox.urge` put in: no plan's end takes it away."""

_OPERATIONS: Final = tuple(Operation)


class OutboxRow(NamedTuple):
    """One claimed row. Its id is good for one settlement. The last four are what a batch has in common."""

    id: int
    plan_id: str
    contact_key: int
    address: str
    address_key: int
    payload: str
    before_hash: bytes | None
    desired_hash: bytes | None
    attempts: int
    destination: str
    operation: Operation
    group_key: str
    rank: int

    def opened(self, sealing: Sealing) -> "OutboxRow":
        """Give a row as it was before it was stored."""
        address, payload = unseal_change(
            sealing, self.destination, self.contact_key, self.address, self.payload
        )
        return self._replace(address=address, payload=payload)

    def said(self) -> dict[str, Any]:
        """Read the payload."""
        said: dict[str, Any] = orjson.loads(self.payload)
        return said

    def change(self, said: Mapping[str, Any] | None = None) -> Change:
        """Give the row as a change, with no decision of the gate yet; `said` is its payload where that was read before."""
        if said is None:
            said = self.said()
        return Change(
            contact_key=self.contact_key,
            operation=self.operation,
            address=self.address,
            fields=said.get("fields", {}),
            tags=tuple(said.get("tags", ())),
            previous_address=said.get("previous_address"),
        )


# What the rows of a wave and group do not share.
_OWN: Final = OutboxRow._fields[: OutboxRow._fields.index("destination")]

# Built once: putting a statement together for each claim costs more than running it.
_HERE: Final = outbox.c.destination == sa.bindparam("destination")
_FREE: Final = sa.and_(READY, ~IN_JOB)
_IN_WAVE: Final = sa.and_(
    _HERE, _FREE, outbox.c.rank == sa.bindparam("rank"), outbox.c.step == sa.bindparam("step")
)
_IN_GROUP: Final = sa.and_(_IN_WAVE, outbox.c.group_key == sa.bindparam("group_key"))
_NEXT_WAVE: Final = (
    sa.select(outbox.c.rank, outbox.c.step, outbox.c.group_key)
    .where(
        _HERE,
        _FREE,
        sa.tuple_(outbox.c.rank, outbox.c.step) > sa.tuple_(sa.bindparam("rank"), sa.bindparam("step")),
    )
    .order_by(outbox.c.rank, outbox.c.step, outbox.c.group_key, outbox.c.id)
    .limit(1)
)
_NEXT_GROUP: Final = (
    sa.select(outbox.c.group_key)
    .where(_IN_WAVE, outbox.c.group_key > sa.bindparam("group_key"))
    .order_by(outbox.c.group_key, outbox.c.id)
    .limit(1)
)
_NEXT_ROWS: Final = (
    sa.select(*(outbox.c[name] for name in _OWN))
    .where(_IN_GROUP, outbox.c.id > sa.bindparam("last_id"))
    .order_by(outbox.c.id)
    .limit(sa.bindparam("rows"))
)
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
        self, lease: Lease, sizes: Mapping[Operation, int], *, batches: int = 1
    ) -> list[list[OutboxRow]]:
        """Take the next batches of one wave and operation, each of one group, in order; none when none may be sent.

        `sizes` is the batch size by operation; operations that it lacks are left alone. Nothing is handed out while
        rows of an earlier rank are claimed, because they may come back; and nothing of a person, or for an address,
        that waits at an earlier rank. Raises StoreError when the lease went to another holder.
        """
        with self._database.write() as connection:
            check(connection, lease)
            known = connection.execute(_CLAIMS, {"destination": lease.destination}).all()
            if any(row.token != lease.token for row in known):
                _release(connection, lease)
            claiming = _Claiming(
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
            return claiming.take(sizes, batches)

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
                    place = (_OPERATIONS[step], group_key)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Claiming:
    """One claim at work, inside its transaction.

    `last_ids` is what this holder was handed by wave and group, `first_waiting` the lowest rank that waits.
    """

    connection: sa.Connection
    lease: Lease
    last_ids: Mapping[tuple[int, int, str], int]
    first_waiting: int | None
    sealing: Sealing

    def take(self, sizes: Mapping[Operation, int], batches: int) -> list[list[OutboxRow]]:
        """Find the first wave with ready rows and take its first batches."""
        after: dict[str, int] = {"rank": -(2**31), "step": -1}
        claimed: int | None = None  # the lowest rank that has claimed rows
        while wave := self._run(_NEXT_WAVE, **after).first():
            rank, step, group = wave
            size = sizes.get(_OPERATIONS[step])
            if size is not None:
                if claimed is not None and claimed < rank:
                    return []
                if taken := self._of_wave(rank, step, group, size, batches):
                    return taken
                still = self._run(_NEXT_WAVE, **after).first()
                if claimed is None and still is not None and (still.rank, still.step) == (rank, step):
                    claimed = rank
            after = {"rank": rank, "step": step}
        return []

    def _of_wave(self, rank: int, step: int, first: str, size: int, batches: int) -> list[list[OutboxRow]]:
        taken: list[list[OutboxRow]] = []
        waiting = (
            people_of(self.connection, self.lease.destination, rank, WAITING, self.sealing)
            if self.first_waiting is not None and self.first_waiting < rank
            else {}
        )
        group: str | None = first
        while group is not None and len(taken) < batches:
            rows = self._of_group(rank, step, group, size * (batches - len(taken)), waiting)
            taken += grouped(rows, size)
            if len(taken) < batches:
                group = self._run(_NEXT_GROUP, rank=rank, step=step, group_key=group).scalar()
        return taken

    def _of_group(
        self, rank: int, step: int, group: str, most: int, waiting: Mapping[int | str, int]
    ) -> list[OutboxRow]:
        destination, operation = self.lease.destination, _OPERATIONS[step]
        place = {"rank": rank, "step": step, "group_key": group}
        before = last_id = self.last_ids.get((rank, step, group), 0)
        taken: list[OutboxRow] = []
        behind: list[int] = []
        while len(taken) < most:
            found = self._run(_NEXT_ROWS, **place, last_id=last_id, rows=most - len(taken)).all()
            if not found:
                break
            last_id = found[-1].id
            # By place: a claim spends half of its time here, and twice that by name.
            rows = [OutboxRow._make((*row, destination, operation, group, rank)) for row in found]
            if self.sealing.is_on:
                rows = [row.opened(self.sealing) for row in rows]
            if waiting:
                behind += [
                    row.id
                    for row in rows
                    if not waiting.keys().isdisjoint(subjects_of(row.contact_key, row.address))
                ]
                rows = [
                    row
                    for row in rows
                    if waiting.keys().isdisjoint(subjects_of(row.contact_key, row.address))
                ]
            taken += rows
        if last_id > before:
            self.connection.execute(
                insert(self.connection, claims, on_conflict="replace"),
                {
                    "destination": self.lease.destination,
                    **place,
                    "last_id": last_id,
                    "token": self.lease.token,
                },
            )
        for ids in grouped(behind, KEYS_PER_QUERY):
            self.connection.execute(sa.update(outbox).where(outbox.c.id.in_(ids)).values(not_before=BEHIND))
        return taken

    def _run(
        self, statement: sa.Select[*tuple[Any, ...]], **values: object
    ) -> sa.CursorResult[*tuple[Any, ...]]:
        return self.connection.execute(statement, {"destination": self.lease.destination, **values})


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
