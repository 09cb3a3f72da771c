"""The outbox: changes that are to be sent, claimed in batches and settled with what became of them.

What a change says, and whether it may still be sent, is decided elsewhere.

A row is pending, then claimed by the holder of the destination's lease, then done. A killed run leaves claimed rows;
the next holder's `release_claims` makes them pending again, which is safe because every write may be repeated after
the gate. Done rows stay until their plan is discarded, so that enqueueing the same plan again adds nothing; what they
said about a person is blanked at once.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import pyarrow as pa
import sqlalchemy as sa

from ...core.consent import ConsentState
from ...core.model import Change, Grant, Operation
from .database import ROWS_PER_TRANSACTION, Database, insert_columns, parts
from .leases import Lease, check
from .schema import CLAIMED, READY, WAITING, microseconds, outbox

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


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxRow:
    """One claimed row."""

    id: int
    plan_id: str
    destination: str
    contact_key: int
    operation: Operation
    group_key: str
    rank: int
    address: str
    address_key: int
    payload: str
    before_hash: bytes | None
    desired_hash: bytes | None
    attempts: int

    def change(self, *, consent: ConsentState | None = None, grant: Grant | None = None) -> Change:
        """Give the row as a change, with what the gate decided just now."""
        said = json.loads(self.payload)
        return Change(
            contact_key=self.contact_key,
            operation=self.operation,
            address=self.address,
            fields=said.get("fields", {}),
            tags=tuple(said.get("tags", ())),
            previous_address=said.get("previous_address"),
            consent=consent,
            grant=grant,
        )


class Outbox:
    """Takes changes in and hands them out; `settlement.Settlements` ends them."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    def enqueue(
        self,
        plan_id: str,
        destination: str,
        batches: pa.Table | pa.RecordBatchReader | Iterable[pa.RecordBatch],
    ) -> int:
        """Add changes given as ITEMS columns, in grouped transactions; give how many were new.

        The same call again adds what is missing and nothing twice.
        """
        new = 0
        for batch in parts(batches):
            columns = {name: batch.column(name).to_pylist() for name in ITEMS.names}
            columns["step"] = [STEP[operation] for operation in columns["operation"]]
            same = {
                "plan_id": plan_id,
                "destination": destination,
                "status": "pending",
                "attempts": 0,
                "created_at": microseconds(self._clock()),
            }
            with self._database.write() as connection:
                new += insert_columns(connection, outbox, columns, same, on_conflict="ignore")
        return new

    def claim(self, lease: Lease, sizes: Mapping[Operation, int]) -> list[OutboxRow]:
        """Take the next batch: rows of one wave, one operation and one group, in order; empty when none may be sent.

        `sizes` is the batch size by operation; operations that it lacks are left alone. Raises StoreError when the
        lease went to another holder.
        """
        here = outbox.c.destination == lease.destination
        # What is left out, not what is wanted: an IN makes SQLite sort all rows instead of walking the index.
        left_out = [STEP[operation] for operation in Operation if operation not in sizes]
        wanted = [outbox.c.step.not_in(left_out)] if left_out else []
        with self._database.write() as connection:
            check(connection, lease)
            connection.execute(
                sa.update(outbox)
                .where(here, WAITING, outbox.c.not_before <= self._clock())
                .values(not_before=None)
            )
            head = connection.execute(
                sa.select(outbox.c.rank, outbox.c.step, outbox.c.operation, outbox.c.group_key)
                .where(here, READY, *wanted)
                .order_by(outbox.c.rank, outbox.c.step, outbox.c.group_key, outbox.c.id)
                .limit(1)
            ).first()
            if head is None:
                return []
            next_ids = (
                sa.select(outbox.c.id)
                .where(
                    here,
                    READY,
                    outbox.c.rank == head.rank,
                    outbox.c.step == head.step,
                    outbox.c.group_key == head.group_key,
                )
                .order_by(outbox.c.id)
                .limit(sizes[Operation(head.operation)])
            )
            claimed = connection.execute(
                sa.update(outbox)
                .where(outbox.c.id.in_(next_ids))
                .values(status="claimed", claim_token=lease.token)
                .returning(*(outbox.c[name] for name in OutboxRow.__slots__))
            ).all()
        operation = Operation(head.operation)
        names = OutboxRow.__slots__
        return [
            OutboxRow(**{**dict(zip(names, row, strict=True)), "operation": operation})
            for row in sorted(claimed, key=lambda row: row.id)  # RETURNING promises no order
        ]

    def release_claims(self, lease: Lease) -> int:
        """Make the rows that earlier holders left claimed pending again, as attempted; give how many."""
        with self._database.write() as connection:
            check(connection, lease)
            return connection.execute(
                sa.update(outbox)
                .where(
                    outbox.c.destination == lease.destination, CLAIMED, outbox.c.claim_token != lease.token
                )
                .values(status="pending", claim_token=None, attempts=outbox.c.attempts + 1)
            ).rowcount

    def pending_counts(self, destination: str) -> dict[tuple[Operation, str], int]:
        """Give how many rows wait to be sent, by operation and group, those that wait for their time included."""
        counts: dict[tuple[Operation, str], int] = {}
        with self._database.read() as connection:
            for condition in (READY, WAITING):  # apart, because each has its own index
                query = (
                    sa.select(outbox.c.operation, outbox.c.group_key, sa.func.count())
                    .where(outbox.c.destination == destination, condition)
                    .group_by(outbox.c.operation, outbox.c.group_key)
                )
                for operation, group_key, count in connection.execute(query):
                    place = (Operation(operation), group_key)
                    counts[place] = counts.get(place, 0) + count
        return counts

    def discard(self, plan_id: str) -> None:
        """Remove a plan's rows, in grouped transactions; claimed ones stay until they are settled or released."""
        some = (
            sa.select(outbox.c.id)
            .where(outbox.c.plan_id == plan_id, outbox.c.status != "claimed")
            .limit(ROWS_PER_TRANSACTION)
        )
        while True:
            with self._database.write() as connection:
                if connection.execute(sa.delete(outbox).where(outbox.c.id.in_(some))).rowcount == 0:
                    return
