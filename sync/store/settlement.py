"""Settling: an ESP's answers become done rows, baselines, seen states and rejections, all or none of them.

This is the one place where a baseline is written. Nothing here talks to the ESP or reads its codes.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import pyarrow as pa
import sqlalchemy as sa

from ...core.consent import ConsentState
from ...core.errors import StoreError
from ...core.model import ContactState, Operation, Outcome, OutcomeStatus
from .baselines import confirm, end
from .database import Database, insert
from .destinations import see
from .leases import Lease, check
from .outbox import STEP, OutboxRow
from .schema import CLAIMED, outbox, rejection, remote

REJECTIONS: Final = pa.schema(
    [("contact_key", pa.int64()), ("operation", pa.string()), ("payload_hash", pa.binary())]
)

_AGAIN: Final = frozenset({OutcomeStatus.DEFERRED, OutcomeStatus.UNKNOWN})
_CONFIRMED: Final = frozenset({OutcomeStatus.APPLIED, OutcomeStatus.UNCHANGED})

# Writes of the contact itself: one that gets through ends the rejection of any other.
_WRITES: Final = frozenset({Operation.CREATE, Operation.UPDATE, Operation.READDRESS})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What became of one claimed row.

    `baseline` is the state that the ESP confirmed, for APPLIED and UNCHANGED alone. `remote_state` is what the address
    now is there, None when nothing was learnt. `vacated` is the key of an address that the contact no longer has
    there. `ended` are contacts whose baselines end, because this one has their address now. `not_before` is when a DEFERRED or UNKNOWN row may be claimed again, None for at once.
    """

    row: OutboxRow
    outcome: Outcome
    baseline: ContactState | None = None
    remote_state: ConsentState | None = None
    vacated: int | None = None
    ended: tuple[int, ...] = ()
    not_before: datetime | None = None

    def __post_init__(self) -> None:
        if self.baseline is not None and self.outcome.status not in _CONFIRMED:
            raise ValueError(f"a baseline needs a confirmed outcome, not {self.outcome.status}")
        if self.outcome.status is OutcomeStatus.EXISTS and self.row.operation is not Operation.CREATE:
            raise ValueError(f"only a create can meet a contact that exists, not {self.row.operation}")


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

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    def settle(self, lease: Lease, run_id: str, settlements: Sequence[Settlement]) -> None:
        """Store what became of claimed rows, in one transaction.

        DEFERRED and UNKNOWN rows become pending again, one attempt older; a create that EXISTS becomes a pending
        update; an ACCEPTED row stays claimed until its job says more; all others are done. Raises StoreError, with
        nothing stored, when the lease went to another holder or a row is not claimed under it.
        """
        now = self._clock()
        with self._database.write() as connection:
            check(connection, lease)
            self._end_rows(connection, lease, settlements)
            _convert(connection, [each.row for each in settlements if _is(each, OutcomeStatus.EXISTS)], now)
            confirm(
                connection,
                lease.destination,
                {each.row.contact_key: each.baseline for each in settlements if each.baseline is not None},
            )
            end(connection, lease.destination, [key for each in settlements for key in each.ended])
            _see(connection, lease.destination, settlements, now)
            _forget_rejections(connection, lease.destination, settlements)
            rejected = [each for each in settlements if _is(each, OutcomeStatus.REJECTED)]
            _reject(connection, lease.destination, run_id, rejected, now)

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

    def _end_rows(self, connection: sa.Connection, lease: Lease, settlements: Sequence[Settlement]) -> None:
        groups: dict[tuple[OutcomeStatus, str, datetime | None], list[int]] = {}
        for each in settlements:
            if not _is(each, OutcomeStatus.ACCEPTED):
                place = (each.outcome.status, each.outcome.code, each.not_before)
                groups.setdefault(place, []).append(each.row.id)
        for (status, code, not_before), ids in groups.items():
            values: dict[str, Any] = {"code": code, "claim_token": None}
            if status in _AGAIN:
                values |= {"status": "pending", "attempts": outbox.c.attempts + 1, "not_before": not_before}
            else:
                values |= {"status": "done", "outcome": status.value, "address": None, "payload": None}
            ended = connection.execute(
                sa.update(outbox)
                .where(outbox.c.id.in_(ids), CLAIMED, outbox.c.claim_token == lease.token)
                .values(values)
            ).rowcount
            if ended != len(ids):
                raise StoreError(
                    f'destination "{lease.destination}": {len(ids) - ended} of {len(ids)} outcomes are of changes '
                    "that this run no longer holds. Nothing of this batch was stored; run again."
                )


def _is(settlement: Settlement, status: OutcomeStatus) -> bool:
    return settlement.outcome.status is status


def _convert(connection: sa.Connection, rows: Sequence[OutboxRow], now: datetime) -> None:
    """Put updates in the place of creates that met a contact that exists."""
    if not rows:
        return
    update = Operation.UPDATE.value
    connection.execute(
        insert(connection, outbox, on_conflict="ignore"),
        [
            {
                "plan_id": row.plan_id,
                "destination": row.destination,
                "contact_key": row.contact_key,
                "operation": update,
                "step": STEP[update],
                "group_key": row.group_key,
                "rank": row.rank,
                "address": row.address,
                "address_key": row.address_key,
                "payload": row.payload,
                "before_hash": row.before_hash,
                "desired_hash": row.desired_hash,
                "status": "pending",
                "attempts": 0,
                "created_at": now,
            }
            for row in rows
        ],
    )


def _see(
    connection: sa.Connection, destination: str, settlements: Sequence[Settlement], now: datetime
) -> None:
    vacated = [each.vacated for each in settlements if each.vacated is not None]
    if vacated:
        connection.execute(
            sa.delete(remote).where(remote.c.destination == destination, remote.c.address_key.in_(vacated))
        )
    seen = {each.row.address_key: each.remote_state for each in settlements if each.remote_state is not None}
    see(connection, destination, seen, now)


def _forget_rejections(
    connection: sa.Connection, destination: str, settlements: Sequence[Settlement]
) -> None:
    through: dict[frozenset[Operation], list[int]] = {}
    for each in settlements:
        if each.outcome.status in _CONFIRMED:
            operation = each.row.operation
            operations = _WRITES if operation in _WRITES else frozenset({operation})
            through.setdefault(operations, []).append(each.row.contact_key)
    for operations, keys in through.items():
        connection.execute(
            sa.delete(rejection).where(
                rejection.c.destination == destination,
                rejection.c.contact_key.in_(keys),
                rejection.c.operation.in_([operation.value for operation in operations]),
            )
        )


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
