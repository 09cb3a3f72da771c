"""Empties a destination's outbox: claims batches, keeps several of them under way, and stores what became of each.

Batches pass the gate at the moment they are sent, on threads of their own; outcome, baseline and seen state are stored
in one transaction each, on this one. A run that is killed leaves claimed rows behind, and nothing that matters only
in memory.

Order. Waves go one after the other, because a member moves away before somebody takes its address, and properties come
before the tags that set off an automation; within a wave no two batches share a contact. Opt-outs overtake everything,
also those that another process puts in meanwhile: each claim asks for them first.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from time import monotonic, sleep
from typing import Any, Final

import structlog

from ...connectors.base import Connector
from ...connectors.transport import Transport
from ...core.errors import DestinationError, RetryableError, SegueError
from ...core.model import Capabilities, ContactState, Operation, OutcomeStatus
from ...core.regimes import ConsentConfig
from ..inbound.observing import People, observe
from ..store.leases import Lease
from ..store.outbox_row import OutboxRow
from ..store.settlement import Settlement
from ..store.store import Store
from ..telemetry.tracing import span
from .courier import Courier, Delivery
from .meaning import NEXT_RUN, named

_LOG = structlog.get_logger(__name__)

# An account that serves nothing for so long, trouble after trouble, is left to the next run.
_PATIENCE: Final = 120.0
_PATIENCE_THROTTLED: Final = (
    900.0  # one that only says to slow down is better served by waiting than by a new run
)
_SEPARATE: Final = frozenset({Operation.CREATE, Operation.UPDATE})  # no two batches of a wave share a contact
_ARRIVES: Final = frozenset({Operation.CREATE, Operation.READDRESS})
_FIRST: Final = frozenset({Operation.OPT_OUT, Operation.CREATE})
_ROOM: Final = 1.1  # so many times what the last request held are claimed for the next
_LOOK: Final = 1.0  # seconds between two looks at what others put in or forbade

Progress = Callable[[str, float], None]
Permitted = Callable[["Tally"], Collection[Operation]]


@dataclass(slots=True, kw_only=True)
class Tally:
    """What became of the changes of one run, counted once each; `again` counts what was sent more than once."""

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)  # (operation, status)
    codes: Counter[tuple[str, str, str]] = field(default_factory=Counter)  # (status, code, sentence)
    again: int = 0
    stale: int = 0

    def count(self, status: OutcomeStatus) -> int:
        """Give how many changes ended so."""
        return sum(number for (_, known), number in self.outcomes.items() if known == status)

    def add(self, settlement: Settlement, *, last: bool) -> None:
        """Count one settlement, or that this change is tried again within the run."""
        if settlement.outcome.status is OutcomeStatus.UNSENT:
            return
        if not last:
            self.again += 1
            return
        outcome = settlement.outcome
        self.outcomes[settlement.row.operation.value, outcome.status.value] += 1
        if outcome.reason:
            self.codes[outcome.status.value, outcome.code, outcome.reason] += 1

    def report(self) -> dict[str, Any]:
        """Give the run report's part as plain JSON."""
        by_operation: dict[str, dict[str, int]] = {}
        for (operation, status), number in sorted(self.outcomes.items()):
            by_operation.setdefault(operation, {})[status] = number
        return {
            "outcomes": by_operation,
            "reasons": [
                {"status": status, "code": code, "reason": reason, "count": number}
                for (status, code, reason), number in self.codes.most_common()
            ],
            "again": self.again,
            "stale": self.stale,
        }


def deliver(  # noqa: PLR0913  # each is a part of the world that a delivery touches
    connector: Connector,
    store: Store,
    lease: Lease,
    *,
    people: People,
    double_opt_in: bool,
    regimes: ConsentConfig,
    run_id: str,
    clock: Callable[[], datetime],
    progress: Progress,
    tally: Tally,
    permitted: Permitted,
) -> None:
    """Send what waits in the outbox of the lease's destination, counting into `tally`.

    `permitted` is asked before each claim which operations may go on, and raises to stop. Whatever stops it, what is
    under way is brought home and stored first. Raises DestinationError when the account or the network fails; what
    was not sent waits for the next run.
    """
    store.outbox.release_claims(lease)
    office = _Office(
        courier=Courier(
            connector,
            store,
            lease.destination,
            double_opt_in=double_opt_in,
            regimes=regimes,
            run_id=run_id,
            clock=clock,
        ),
        capabilities=connector.capabilities,
        sizes=dict(connector.capabilities.batch_sizes),
        transport=connector.transport,
        store=store,
        lease=lease,
        people=people,
        run_id=run_id,
        clock=clock,
        progress=progress,
        tally=tally,
        permitted=permitted,
        waiting=max(1, sum(store.outbox.pending_counts(lease.destination).values())),
    )
    with ThreadPoolExecutor(connector.capabilities.concurrency + 1, thread_name_prefix="courier") as pool:
        try:
            office.run(pool)
        finally:
            office.courier.polling.stop()


@dataclass(slots=True, kw_only=True)
class _Office:
    """Keeps couriers busy, and books what they bring back. One thread.

    `held` are batches that are claimed, and not to be sent before others are back. `width` is how many are under way
    at once: the first goes alone, so that a wrong key or a lost field shows once and tags are made once. `sizes` are those of
    batches, smaller where a request had no room for so many.
    """

    courier: Courier
    capabilities: Capabilities
    sizes: dict[Operation, int]
    transport: Transport
    store: Store
    lease: Lease
    people: People
    run_id: str
    clock: Callable[[], datetime]
    progress: Progress
    tally: Tally
    permitted: Permitted
    waiting: int
    done: int = 0
    width: int = 1
    held: list[list[OutboxRow]] = field(default_factory=list)
    under_way: dict[Future[Delivery], list[OutboxRow]] = field(default_factory=dict)
    unserved_since: float | None = None
    troubled: bool = False
    error: BaseException | None = None

    def run(self, pool: ThreadPoolExecutor) -> None:
        """Work until nothing is left that this run can do, or something stops it."""
        while True:
            looked_at = self.clock()
            if self.error is None:
                try:
                    self._dispatch(pool)
                except SegueError as error:
                    self.error = error
            if self.error is not None:
                self.courier.polling.stop()
            if self.under_way:
                done, _ = wait(self.under_way, timeout=_LOOK, return_when=FIRST_COMPLETED)
                for home in self._booked_together(done):
                    self._book(home)
            elif self.error is not None:
                raise self.error
            elif not self._pause(looked_at):
                return

    def _dispatch(self, pool: ThreadPoolExecutor) -> None:
        """Claim what there is room for, and send off what need not wait for others."""
        allowed = self.permitted(self.tally)
        sizes = {operation: size for operation, size in self.sizes.items() if operation in allowed}
        self.width = min(self.width, self.transport.places)
        room = self.width - len(self.under_way) - len(self.held)
        if self.capabilities.makes_first and self._has(Operation.CREATE):
            # What follows fills whole requests once everybody is there.
            sizes = {name: size for name, size in sizes.items() if name in _FIRST}
        if room <= 0 and self.capabilities.jobs and not self._has(Operation.OPT_OUT):
            # A job may take minutes, and no opt-out waits for that.
            sizes = {name: size for name, size in sizes.items() if name is Operation.OPT_OUT}
            room = 1
        if room > 0 and sizes:
            # What a job took may come back, and goes before what is of a later wave.
            at_work = max((rows[0].rank for rows in (*self.under_way.values(), *self.held)), default=None)
            self.held += self.store.outbox.claim(self.lease, sizes, batches=room, up_to=at_work)
        self.held.sort(key=lambda rows: rows[0].rank)
        while self.held and self.held[0][0].operation in allowed and self._may_go(self.held[0]):
            rows = self.held.pop(0)
            # In this context, so that what is logged and traced there is known as this run's.
            future = pool.submit(copy_context().run, self._carry, rows, troubled=self.troubled)
            self.under_way[future] = rows

    def _carry(self, rows: Sequence[OutboxRow], *, troubled: bool) -> Delivery:
        started = monotonic()
        with span("batch", operation=rows[0].operation.value, changes=len(rows)):
            delivery = self.courier.carry(rows, troubled=troubled)
        return replace(delivery, seconds=monotonic() - started)

    def _has(self, operation: Operation) -> bool:
        return any(rows[0].operation is operation for rows in (*self.under_way.values(), *self.held))

    def _may_go(self, rows: Sequence[OutboxRow]) -> bool:
        """Whether a batch need not wait: for an earlier wave, or for another one with the same contact or address."""
        others = list(self.under_way.values())
        if rows[0].operation is Operation.OPT_OUT:
            # It waits for nobody but whoever could overtake it: a create or a move that is just being sent.
            return not _meet(rows, [other for other in others if other[0].operation in _ARRIVES])
        if any(other[0].rank != rows[0].rank for other in others):
            return False
        # Where all tags are one value, a batch that takes one off would put back what another is just taking off.
        return not (
            self.capabilities.tags_as_one and rows[0].operation is Operation.UNTAG and _meet(rows, others)
        )

    def _booked_together(self, done: Iterable[Future[Delivery]]) -> list[list[tuple[Operation, Delivery]]]:
        """Take couriers in who are back, and group what one transaction may store.

        Plain writes of one wave share no contact. What else is under way at the same time may: a tag is taken off
        what another batch left, and an opt-out waits for few.
        """
        together: list[tuple[Operation, Delivery]] = []
        homes = [together]
        for future in done:
            operation = self.under_way.pop(future)[0].operation
            if (bug := future.exception()) is not None:
                self.error = bug  # a mistake of ours: its rows stay claimed, and nothing else is as loud
            elif operation in _SEPARATE:
                together.append((operation, future.result()))
            else:
                homes.append([(operation, future.result())])
        return [home for home in homes if home]

    def _book(self, home: Sequence[tuple[Operation, Delivery]]) -> None:
        """Store what couriers brought back: who was seen first, because they may have left."""
        settlements = [each for _, delivery in home for each in delivery.settlements]
        seen = [each.outcome.seen for each in settlements if each.outcome.seen is not None]
        # Who left while they moved said so at the former address, which somebody else may have next.
        seen += [
            replace(each.outcome.seen, address=former)
            for each in settlements
            if each.outcome.seen is not None and (former := each.row.change().previous_address)
        ]
        if seen:
            observe(
                self.store,
                self.lease.destination,
                seen,
                people=self.people,
                now=self.clock(),
                run_id=self.run_id,
            )
        if names := named(settlements):
            self.store.pulled.name(self.lease.destination, names)
        self.store.settlements.settle(self.lease, self.run_id, self._afresh(settlements))
        soon = self.clock() + NEXT_RUN / 2
        for operation, delivery in home:
            _LOG.info(
                "batch_settled",
                operation=operation.value,
                outcomes=Counter(each.outcome.status.value for each in delivery.settlements),
                milliseconds=round(delivery.seconds * 1000),
            )
            for each in delivery.settlements:
                last = each.not_before is None or each.not_before > soon
                self.tally.add(each, last=last)
                self.done += last and each.outcome.status is not OutcomeStatus.UNSENT
            self._learn(delivery)
            self._fit(operation, delivery)
            self.progress(operation.value, min(1.0, self.done / self.waiting))

    def _afresh(self, settlements: Sequence[Settlement]) -> list[Settlement]:
        """Take tags off what is confirmed by now: a batch of another tag may have been booked since the courier looked."""
        untagged = {each.row.contact_key for each in settlements if each.row.operation is Operation.UNTAG}
        held = self.store.baselines.payloads(self.lease.destination, untagged) if untagged else {}
        return [
            replace(each, baseline=each.row.change().confirmed_on(ContactState.parse(text)))
            if each.baseline and (text := held.get(each.row.contact_key))
            else each
            for each in settlements
        ]

    def _learn(self, delivery: Delivery) -> None:
        """Judge the account by how it served a batch."""
        now = monotonic()
        match delivery.error:
            case None:
                self.unserved_since, self.troubled = None, False
                self.width *= 2
            case RetryableError() as error:
                self.unserved_since = self.unserved_since or now
                self.troubled = self.troubled or not error.throttled
                patience = _PATIENCE_THROTTLED if error.throttled else _PATIENCE
                if now - self.unserved_since > patience:
                    self.error = self.error or error
            case DestinationError() as error:
                self.error = self.error or error

    def _fit(self, operation: Operation, delivery: Delivery) -> None:
        """Claim about as many as a request has room for: who has none goes back to the outbox, and comes again.

        Where one was refused with the whole request, the others found no room for that reason alone.
        """
        count, told = len(delivery.settlements), [each.outcome.status for each in delivery.settlements]
        left = told.count(OutcomeStatus.UNSENT)
        if left and OutcomeStatus.REJECTED not in told:
            self.sizes[operation] = max(1, int((count - left) * _ROOM))
        elif count == self.sizes[operation]:
            self.sizes[operation] = min(self.capabilities.batch_sizes[operation], 2 * count)

    def _pause(self, looked_at: datetime) -> bool:
        """Wait a moment for what was put off, and say whether there is something to wait for in this run.

        What was due when we looked and was not handed out is forbidden.
        """
        due = self.store.outbox.next_due(self.lease.destination)
        now = self.clock()
        if due is None or due <= looked_at or due > now + NEXT_RUN / 2:
            return False
        sleep(min(_LOOK, max(0.0, (due - now) / timedelta(seconds=1))))
        return True


def _meet(rows: Sequence[OutboxRow], others: Iterable[Sequence[OutboxRow]]) -> bool:
    """Whether a batch shares a contact or an address with one of others."""
    people = {key for row in rows for key in (row.contact_key, row.address_key)}
    return any(row.contact_key in people or row.address_key in people for other in others for row in other)
