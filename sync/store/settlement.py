"""Settling: an ESP's answers become done rows, baselines, seen states and rejections, all or none of them.

This is the one place where a baseline is written. Nothing here talks to the ESP or reads its codes.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import pyarrow as pa
import sqlalchemy as sa

from ...core.consent import ConsentState
from ...core.errors import StoreError
from ...core.model import ContactState, Operation, Outcome, OutcomeStatus
from .audit import Audit, of_run
from .baselines import confirm, end
from .database import Database, insert, insert_columns, remove
from .destinations import see, tell_ids, write_for
from .leases import Lease, check
from .outbox_row import STEP, OutboxRow
from .outbox_sealing import seal_changes
from .schema import microseconds, outbox, rejection, remote
from .sealing import Sealing

REJECTIONS: Final = pa.schema(
    [("contact_key", pa.int64()), ("operation", pa.string()), ("payload_hash", pa.binary())]
)

_THERE: Final = frozenset({OutcomeStatus.EXISTS, OutcomeStatus.MADE})
_AGAIN: Final = _THERE | {OutcomeStatus.DEFERRED, OutcomeStatus.UNKNOWN, OutcomeStatus.UNSENT}
_CONFIRMED: Final = frozenset({OutcomeStatus.APPLIED, OutcomeStatus.UNCHANGED})

# Writes of the contact itself: one that gets through ends the rejection of any other.
_WRITES: Final = frozenset({Operation.CREATE, Operation.UPDATE, Operation.READDRESS})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What became of one claimed row.

    `baseline` is the state that the ESP confirmed, for APPLIED, UNCHANGED and MADE alone. `remote_state` is what the
    address now is there, None when nothing was learnt. `stated_at` is the time of opting in that our own write
    brought there: the grant of who was made, or what a contact who moved there had; it is nobody's later word.
    `arrived` says that the contact had not been written at this address before. `vacated` is the key of an address
    that the contact no longer has there. `ended` are contacts whose baselines end, because this one has their address
    now. `not_before` is when a DEFERRED or UNKNOWN row may be claimed again, None for at once; `free` says that the
    try cost no attempt: the account was throttled.
    """

    row: OutboxRow
    outcome: Outcome
    baseline: ContactState | None = None
    remote_state: ConsentState | None = None
    stated_at: datetime | None = None
    arrived: bool = False
    vacated: int | None = None
    ended: tuple[int, ...] = ()
    not_before: datetime | None = None
    free: bool = False

    def __post_init__(self) -> None:
        if self.baseline is not None and self.outcome.status not in {*_CONFIRMED, OutcomeStatus.MADE}:
            raise ValueError(f"a baseline needs a confirmed outcome, not {self.outcome.status}")
        if self.outcome.status in _THERE and self.row.operation is not Operation.CREATE:
            raise ValueError(f"only a create can make or meet a contact, not {self.row.operation}")
        if self.outcome.status is OutcomeStatus.ACCEPTED:
            raise ValueError("what is accepted is not settled")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """A change that an ESP refused for good. `payload_hash` is the row hash of the state it aimed at."""

    contact_key: int
    operation: Operation
    payload_hash: bytes | None
    code: str
    reason: str
    first_at: datetime
    last_at: datetime
    run_id: str
    attempts: int


class Settlements:
    """Stores outcomes, and gives the rejections that came of them."""

    def __init__(
        self, database: Database, sealing: Sealing, audit: Audit, clock: Callable[[], datetime]
    ) -> None:
        self._database = database
        self._sealing = sealing
        self._audit = audit
        self._clock = clock

    def settle(self, lease: Lease, run_id: str, settlements: Sequence[Settlement]) -> None:
        """Store what became of claimed rows, in one transaction.

        DEFERRED and UNKNOWN rows come again, one attempt older unless the try was free, and UNSENT ones as they were; a
        create whose contact is there comes again as an update; all others are gone. Raises StoreError, with nothing
        stored, when the lease went to another holder or a row was settled before.
        """
        now = self._clock()
        with self._database.write() as connection:
            check(connection, lease)
            _end_rows(connection, lease, settlements, self._sealing)
            confirm(
                connection,
                lease.destination,
                {each.row.contact_key: each.baseline for each in settlements if each.baseline is not None},
                self._sealing,
            )
            end(connection, lease.destination, [key for each in settlements for key in each.ended])
            _see(connection, lease.destination, settlements, now)
            _forget_rejections(connection, lease.destination, settlements)
            rejected = [each for each in settlements if _is(each, OutcomeStatus.REJECTED)]
            _reject(connection, lease.destination, run_id, rejected, now)
            self._tell(connection, lease, run_id, settlements)

    def doubt(
        self,
        lease: Lease,
        states: Mapping[int, ContactState],
        rows: Sequence[OutboxRow],
        stated: Mapping[int, datetime],
    ) -> None:
        """End rows whose fate nobody knows, and put their contacts' baselines in doubt, in one transaction.

        `stated` are the opt-in times, by address key, that creates among them may have stated.
        """
        with self._database.write() as connection:
            check(connection, lease)
            there = remote.c.destination == lease.destination
            for address_key, stated_at in stated.items():
                member = sa.update(remote).where(there, remote.c.address_key == address_key)
                connection.execute(member.values(stated_at=stated_at))
            # Whom a move in doubt brought where is asked at the ESP.
            written = [row for row in rows if row.operation in {Operation.CREATE, Operation.UPDATE}]
            write_for(connection, lease.destination, {row.address_key: row.contact_key for row in written})
            confirm(connection, lease.destination, states, self._sealing)
            connection.execute(sa.delete(outbox).where(outbox.c.id.in_([row.id for row in rows])))
            doubted = {"in doubt": [row.contact_key for row in rows]}
            self._audit.append(connection, "settled", destination=lease.destination, subjects=doubted)

    def stream_rejections(self, destination: str) -> Iterator[pa.RecordBatch]:
        """Give every rejection as batches of REJECTIONS, in no order."""
        query = sa.select(*(rejection.c[name] for name in REJECTIONS.names)).where(
            rejection.c.destination == destination
        )
        for rows in self._database.stream(query):
            yield pa.record_batch(
                [
                    pa.array(values, kind.type)
                    for values, kind in zip(zip(*rows, strict=True), REJECTIONS, strict=True)
                ],
                schema=REJECTIONS,
            )

    def rejections(self, destination: str, limit: int) -> list[Rejection]:
        """Give the newest rejections."""
        query = (
            sa.select(*(rejection.c[name] for name in Rejection.__slots__))
            .where(rejection.c.destination == destination)
            .order_by(rejection.c.last_at.desc(), rejection.c.contact_key, rejection.c.operation)
            .limit(limit)
        )
        with self._database.read() as connection:
            return [
                Rejection(**{**row, "operation": Operation(row["operation"])})
                for row in connection.execute(query).mappings()
            ]

    def rejection_counts(self, destination: str) -> list[tuple[str, str, int]]:
        """Give how many rejections there are by code and reason, the most frequent first."""
        number = sa.func.count()
        query = (
            sa.select(rejection.c.code, rejection.c.reason, number)
            .where(rejection.c.destination == destination)
            .group_by(rejection.c.code, rejection.c.reason)
            .order_by(number.desc(), rejection.c.code, rejection.c.reason)
        )
        with self._database.read() as connection:
            return [(code, reason, count) for code, reason, count in connection.execute(query)]

    def forgive(self, destination: str, *, code: str | None = None, contact_key: int | None = None) -> int:
        """Forget rejections, of a code or a contact if asked, so that they are tried again; give how many."""
        which = [rejection.c.destination == destination]
        if code is not None:
            which.append(rejection.c.code == code)
        if contact_key is not None:
            which.append(rejection.c.contact_key == contact_key)
        with self._database.write() as connection:
            forgiven = sa.delete(rejection).where(*which).returning(rejection.c.contact_key)
            keys = connection.execute(forgiven).scalars().all()
            if keys:
                self._audit.append(connection, "retried", destination=destination, subjects=keys)
            return len(keys)

    def restate(self, lease: Lease, states: Mapping[int, ContactState]) -> None:
        """Store what was seen at the destination as what it confirmed, in one transaction."""
        with self._database.write() as connection:
            check(connection, lease)
            confirm(connection, lease.destination, states, self._sealing)
            self._audit.append(connection, "restated", destination=lease.destination, subjects=states.keys())

    def _tell(
        self, connection: sa.Connection, lease: Lease, run_id: str, settlements: Sequence[Settlement]
    ) -> None:
        concerned: dict[str, list[int]] = {}
        for each in settlements:
            words = f"{each.row.operation.value} {each.outcome.status.value}"
            concerned.setdefault(words, []).append(each.row.contact_key)
        self._audit.append(
            connection, "settled", who=of_run(run_id), destination=lease.destination, subjects=concerned
        )


def _is(settlement: Settlement, status: OutcomeStatus) -> bool:
    return settlement.outcome.status is status


def _end_rows(
    connection: sa.Connection, lease: Lease, settlements: Sequence[Settlement], sealing: Sealing
) -> None:
    """Take settled rows out of the outbox, and put in anew what comes again."""
    here = sa.delete(outbox).where(outbox.c.destination == lease.destination)
    found = remove(connection, here, outbox.c.id, (each.row.id for each in settlements))
    if found != len(settlements):
        raise StoreError(
            f'destination "{lease.destination}": {len(settlements) - found} of {len(settlements)} outcomes are of changes '
            "that this run no longer holds. Nothing of this batch was stored; run again."
        )
    again = [_again(each) for each in settlements if each.outcome.status in _AGAIN]
    if again:
        columns = {name: [row[name] for row in again] for name in again[0]}
        sealed = seal_changes(sealing, lease.destination, columns)
        insert_columns(connection, outbox, sealed, {"destination": lease.destination}, on_conflict=None)


def _again(settlement: Settlement) -> dict[str, object]:
    """Give the outbox row that a settled one comes back as: as it was, but that a create whose contact is there is an update."""
    row, status = settlement.row, settlement.outcome.status
    operation = Operation.UPDATE if status in _THERE else row.operation
    free = settlement.free or status in _THERE or status is OutcomeStatus.UNSENT
    not_before = settlement.not_before
    return {
        "plan_id": row.plan_id,
        "contact_key": row.contact_key,
        "operation": operation.value,
        "step": STEP[operation],
        "group_key": row.group_key,
        "rank": row.rank,
        "address": row.address,
        "address_key": row.address_key,
        "payload": row.payload,
        "before_hash": row.before_hash,
        "desired_hash": row.desired_hash,
        "attempts": row.attempts + (not free),
        "not_before": None if not_before is None else microseconds(not_before),
        "job": settlement.outcome.job or None,
    }


def _see(
    connection: sa.Connection, destination: str, settlements: Sequence[Settlement], now: datetime
) -> None:
    vacated = [each.vacated for each in settlements if each.vacated is not None]
    if vacated:
        connection.execute(
            sa.delete(remote).where(remote.c.destination == destination, remote.c.address_key.in_(vacated))
        )
    seen = {each.row.address_key: each.remote_state for each in settlements if each.remote_state is not None}
    stated = {each.row.address_key: microseconds(each.stated_at) for each in settlements if each.stated_at}
    arrived = {each.row.address_key: each.row.contact_key for each in settlements if each.arrived}
    ids = {each.row.address_key: each.outcome.record_id for each in settlements if each.outcome.record_id}
    see(connection, destination, seen, now, stated_at=stated, written_for=arrived, record_id=ids)
    write_for(connection, destination, {key: arrived[key] for key in arrived.keys() - seen.keys()})
    tell_ids(connection, destination, {key: ids[key] for key in ids.keys() - seen.keys()})


def _forget_rejections(
    connection: sa.Connection, destination: str, settlements: Sequence[Settlement]
) -> None:
    here = rejection.c.destination == destination
    if connection.execute(sa.select(rejection.c.contact_key).where(here).limit(1)).first() is None:
        return
    through: dict[frozenset[Operation], list[int]] = {}
    for each in settlements:
        if each.outcome.status in _CONFIRMED:
            operation = each.row.operation
            operations = _WRITES if operation in _WRITES else frozenset({operation})
            through.setdefault(operations, []).append(each.row.contact_key)
    for operations, keys in through.items():
        # No IN: `remove` has room for one, that of the keys.
        those = sa.or_(*(rejection.c.operation == operation.value for operation in operations))
        remove(connection, sa.delete(rejection).where(here, those), rejection.c.contact_key, keys)


def _reject(
    connection: sa.Connection,
    destination: str,
    run_id: str,
    settlements: Sequence[Settlement],
    now: datetime,
) -> None:
    """Keep refusals; the same payload refused again is one rejection, one attempt older."""
    if not settlements:
        return
    keys = [each.row.contact_key for each in settlements]
    query = sa.select(rejection).where(
        rejection.c.destination == destination, rejection.c.contact_key.in_(keys)
    )
    before = {(row.contact_key, row.operation): row for row in connection.execute(query)}
    rows = []
    for each in settlements:
        row, held = each.row, before.get((each.row.contact_key, each.row.operation.value))
        if held is not None and held.payload_hash != row.desired_hash:
            held = None
        rows.append(
            {
                "destination": destination,
                "contact_key": row.contact_key,
                "operation": row.operation.value,
                "payload_hash": row.desired_hash,
                "code": each.outcome.code,
                "reason": each.outcome.reason,
                "first_at": held.first_at if held else now,
                "last_at": now,
                "run_id": run_id,
                "attempts": held.attempts + 1 if held else 1,
            }
        )
    connection.execute(insert(connection, rejection, on_conflict="replace"), rows)
