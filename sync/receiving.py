"""Works off what an ESP posted: who left is believed at once, and everything else is a hint to look.

A message's departure ends in the very function that a pull's does. What is not a departure proves nothing by itself, and
may be old: its contact is read back, so that only the ESP's present state and its own time of opting in count. That makes
messages that come twice, late or in another order harmless.

Believing asks no account, so that who left anywhere counts while every account is down; reading back does, and is of no
hurry. A hint rests before it is followed: what our own writes set off is known by then, and costs no request.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

import structlog

from ..connectors.webhooks import MalformedError, Webhooks
from ..core.consent import MAILABLE
from ..core.errors import DestinationError, RejectedBatchError, SegueError
from ..core.model import InboundEvent, RemoteContact
from .inbound.fanout import fan_out
from .inbound.observing import People, observe
from .inbound.whereabouts import addresses_at
from .jobs import Clock, Job
from .store.inbox import WaitingMessage
from .store.store import Store
from .unforeseen import bug_of, is_interrupt, of_machine

_LOG = structlog.get_logger(__name__)

ROWS: Final = 500
"""How many messages are worked off together."""
HINTS: Final = 20
"""How many hints are followed together: each may cost a request."""
_REST: Final = timedelta(seconds=10)
_COARSE: Final = timedelta(seconds=1)  # ESPs tell whole seconds
_TRIES: Final = 20  # over six hours
_FIRST_WAIT, _LONGEST_WAIT = timedelta(seconds=5), timedelta(minutes=30)


def believe(
    store: Store,
    destination: str,
    webhooks: Webhooks,
    *,
    people: People,
    destinations: Sequence[str],
    clock: Clock,
) -> int:
    """Work off the messages that wait, at most ROWS, up to what must be asked; give how many there were.

    Everyone who left is told to all of `destinations`. Killed at any point, the same messages are worked off again.
    What cannot be read is given up, with a reason that quotes nothing.
    """

    def work(rows: Sequence[WaitingMessage]) -> None:
        read = _read(store, destination, webhooks, rows, people)
        events = [event for _, events in read for event in events]
        known = _Known.of(store, destination, events)
        departures = [event for event in events if event.state is not None and event.address]
        now = clock()
        for page in _pages(departures, now):
            observe(store, destination, page, people=people, now=now, run_id=None, told=True)
        sure = {event.address for event in departures if not known.is_open(event)}
        urged = fan_out(store, destinations, people, sure)
        hints = [row.id for row, events in read if any(known.is_open(event) for event in events)]
        # Last of all: what is done here is never looked at again.
        store.inbox.set_aside(hints, until=now + _REST)
        store.inbox.finish([row.id for row, _ in read if row.id not in hints])
        _LOG.info(
            "webhooks_believed",
            destination=destination,
            messages=len(rows),
            departures=len(departures),
            hints=len(hints),
            urged=dict(urged),
        )

    rows = store.inbox.take(destination, ROWS)
    _work_off(rows, work, lambda row, error: _put_off(store, destination, [row], error, now=clock()))
    return len(rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """How many hints were followed, and whether one said that somebody moved: where to is for a pull to see."""

    hints: int
    moved: bool


def follow_hints(job: Job, webhooks: Webhooks) -> Followed:
    """Look at the contacts of hints that have rested, a few at a time.

    While the account does not answer, they wait, longer each time.
    """
    store, destination = job.store, job.destination
    destinations = list(job.project.destinations)
    moved = False

    def work(rows: Sequence[WaitingMessage]) -> None:
        nonlocal moved
        read = _read(store, destination, webhooks, rows, job.people)
        events = [event for _, events in read for event in events]
        known = _Known.of(store, destination, events)
        departed = {event.address for event in events if event.state is not None and event.address}
        asked = departed | {event.address for event in events if event.address and known.is_open(event)}
        try:
            found = [each for each in job.connector.read(sorted(asked)) if each is not None]
        except DestinationError as error:
            if isinstance(error, RejectedBatchError) and len(rows) > 1:
                raise  # about one of them: each is asked for by itself
            # That somebody came back is not to be had now; that they left was said.
            fan_out(store, destinations, job.people, departed)
            _put_off(store, destination, rows, error, now=job.clock())
            if isinstance(error, RejectedBatchError):
                return
            raise
        if found:
            observe(store, destination, found, people=job.people, now=job.clock(), run_id=None)
        urged = fan_out(store, destinations, job.people, asked)
        store.inbox.finish([row.id for row, _ in read])
        # Nor is it known here who a record is that no pull has shown.
        moved |= any(event.previous_address or not event.address for event in events)
        _LOG.info(
            "webhooks_asked",
            destination=destination,
            messages=len(rows),
            asked=len(asked),
            urged=dict(urged),
        )

    rows = store.inbox.hints(destination, HINTS)
    _work_off(rows, work, lambda row, error: _put_off(store, destination, [row], error, now=job.clock()))
    return Followed(hints=len(rows), moved=moved)


def _work_off(
    rows: Sequence[WaitingMessage],
    work: Callable[[Sequence[WaitingMessage]], None],
    put_off: Callable[[WaitingMessage, SegueError], None],
) -> None:
    """Work messages off together. One over which we fall is put off, and keeps no other one waiting.

    Raises what is no message's fault.
    """
    groups = deque([rows] if rows else [])
    while groups:
        group = groups.popleft()
        try:
            work(group)
        except RejectedBatchError:
            groups.extend([row] for row in group)  # never of one: that one is put off
        except SegueError:
            raise
        except Exception as error:
            if is_interrupt(error):
                raise
            if lacking := of_machine(error):
                raise lacking from error
            if len(group) == 1:
                put_off(group[0], bug_of(error))
            else:
                groups.extend([row] for row in group)


def _read(
    store: Store, destination: str, webhooks: Webhooks, rows: Sequence[WaitingMessage], people: People
) -> list[tuple[WaitingMessage, Sequence[InboundEvent]]]:
    """Read messages, and give up those that nobody can read. Events that name a record get its address, if known."""
    read: list[tuple[WaitingMessage, Sequence[InboundEvent]]] = []
    for row in rows:
        try:
            read.append((row, webhooks.read(row.body, row.content_type)))
        except MalformedError as error:
            store.inbox.give_up([row.id], problem=error.message)
    records = {event.record_id for _, events in read for event in events if not event.address}
    if not records:
        return read
    keys = store.destinations.at_records(destination, records)
    texts = addresses_at(store, destination, people, list(keys.values()))
    known = {record: texts[key] for record, key in keys.items() if key in texts}
    return [
        (row, [replace(event, address=event.address or known.get(event.record_id, "")) for event in events])
        for row, events in read
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """Who was known to be mailed before these messages, and since when, by address."""

    mailed_since: Mapping[str, datetime] = field(repr=False)

    @classmethod
    def of(cls, store: Store, destination: str, events: Iterable[InboundEvent]) -> "_Known":
        keys = {event.address: store.keys.address_key(event.address) for event in events if event.address}
        states = store.destinations.states(destination, keys.values())
        looks = store.destinations.opt_ins(destination, keys.values())
        return cls(
            mailed_since={
                address: looks[key].looked_at
                for address, key in keys.items()
                if key in looks and states.get(key) in MAILABLE
            }
        )

    def is_open(self, event: InboundEvent) -> bool:
        """Whether only the ESP can tell what an event comes to.

        A departure speaks for itself, unless it is older than a look that found them there: they may have come back.
        Of anything else there is nothing to learn where such a look is newer: it is the echo of our own write.
        """
        if not event.address:
            return True
        looked_at = self.mailed_since.get(event.address)
        if event.state is not None:
            return looked_at is not None and event.occurred_at < looked_at
        return looked_at is None or looked_at < event.occurred_at + _COARSE


def _pages(departures: Sequence[InboundEvent], now: datetime) -> Iterator[list[RemoteContact]]:
    """Give departures so that no page names an address twice: who unsubscribed and complained did both.

    Nobody left later than we hear of it: a clock that is ahead would outrank whatever they say until then.
    """
    page: dict[str, RemoteContact] = {}
    for event in departures:
        if event.address.lower() in page:
            yield list(page.values())
            page = {}
        if event.state is not None:
            page[event.address.lower()] = RemoteContact(
                address=event.address,
                state=event.state,
                status=event.status,
                changed_at=min(event.occurred_at, now),
            )
    if page:
        yield list(page.values())


def _put_off(
    store: Store, destination: str, rows: Sequence[WaitingMessage], error: SegueError, *, now: datetime
) -> None:
    again: dict[int, list[int]] = {}
    for row in rows:
        again.setdefault(row.attempts, []).append(row.id)
    for attempts, ids in again.items():
        if attempts + 1 >= _TRIES:
            store.inbox.give_up(ids, problem=error.message)
        else:
            wait = min(_FIRST_WAIT * 2**attempts, _LONGEST_WAIT)
            store.inbox.put_off(ids, until=now + wait, problem=error.message)
    _LOG.warning("webhooks_put_off", destination=destination, messages=len(rows), why=error.message)
