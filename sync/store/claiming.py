"""One claim at work: which batches of the outbox are next, taken in the order of their waves.

What may not be handed out yet, and how a claim is kept, is said in `outbox`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from ...core.model import Operation
from .database import KEYS_PER_QUERY, grouped, insert
from .leases import Lease
from .outbox_row import OPERATIONS, OutboxRow
from .schema import IN_JOB, READY, WAITING, outbox
from .schema import claim as claims
from .sealing import Sealing
from .waiting import BEHIND, people_of, subjects_of

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Claiming:
    """One claim at work, inside its transaction.

    `last_ids` is what this holder was handed by wave and group, `first_waiting` the lowest rank that waits.
    """

    connection: sa.Connection
    lease: Lease
    last_ids: Mapping[tuple[int, int, str], int]
    first_waiting: int | None
    sealing: Sealing

    def take(self, sizes: Mapping[Operation, int], batches: int, up_to: int | None) -> list[list[OutboxRow]]:
        """Find the first wave with ready rows and take its first batches."""
        after: dict[str, int] = {"rank": -(2**31), "step": -1}
        claimed: int | None = None  # the lowest rank that has claimed rows
        while wave := self._run(_NEXT_WAVE, **after).first():
            rank, step, group = wave
            if up_to is not None and rank > up_to:
                return []
            size = sizes.get(OPERATIONS[step])
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
        destination, operation = self.lease.destination, OPERATIONS[step]
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
