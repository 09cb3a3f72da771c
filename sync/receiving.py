"""Works off what an ESP posted: who left is believed at once, and everything else is a hint to look.

A message's departure ends in the very function that a pull's does. What is not a departure proves nothing by itself, and
may be old: its contact is read back, so that only the ESP's present state and its own time of opting in count. That makes
messages that come twice, late or in another order harmless.

Believing asks no account, so that who left anywhere counts while every account is down; reading back does, and is of no
hurry. A hint rests before it is followed: what our own writes set off is known by then, and costs no request.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import structlog

from ..connectors.webhooks import MalformedError, Webhooks
from ..core.consent import MAILABLE
from ..core.errors import DestinationError, SegueError
from ..core.model import InboundEvent, RemoteContact
from .inbound.fanout import fan_out
from .inbound.observing import People, observe
from .jobs import Clock, Job
from .store.audit import acting
from .store.inbox import WaitingMessage
from .store.store import Store
from .unforeseen import bug_of, is_interrupt

_LOG = structlog.get_logger(__name__)

ROWS: Final = 500
"""How many messages are worked off together."""
HINTS: Final = 20
"""How many hints are followed together: each may cost a request."""
_REST: Final = timedelta(seconds=10)
_COARSE: Final = timedelta(seconds=1)  # ESPs tell whole seconds
_TRIES: Final = 12
_FIRST_WAIT, _LONGEST_WAIT = timedelta(seconds=5), timedelta(minutes=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """What it takes to believe the messages of one destination; everyone who left is told to all of `destinations`."""

    store: Store
    destination: str
    webhooks: Webhooks
    people: People
    destinations: Sequence[str]
    clock: Clock

    @acting("webhook")
    def believe(self) -> int:
        """Work off the messages that wait, at most ROWS, up to what must be asked; give how many there were.

        Killed at any point, the same messages are worked off again. What cannot be read is given up, with a reason that
        quotes nothing. A message over which we fall keeps no other one waiting.
        """
        rows = self.store.inbox.take(self.destination, ROWS)
        if not rows:
            return 0
        try:
            self._believe(rows)
        except SegueError:
            raise
        except Exception as error:
            if is_interrupt(error):
                raise
            self._one_by_one(rows)
        return len(rows)

    def _one_by_one(self, rows: Sequence[WaitingMessage]) -> None:
        for row in rows:
            try:
                self._believe([row])
            except SegueError:
                raise
            except Exception as error:  # noqa: BLE001 - whatever it is, the next message must not wait for it
                _put_off(self.store, self.destination, [row], bug_of(error), now=self.clock())

    def _believe(self, rows: Sequence[WaitingMessage]) -> None:
        read: list[tuple[WaitingMessage, Sequence[InboundEvent]]] = []
        for row in rows:
            try:
                read.append((row, self.webhooks.read(row.body, row.content_type)))
            except MalformedError as error:
                self.store.inbox.give_up([row.id], problem=error.message)
        events = [event for _, events in read for event in events]
        known = _Known.of(self.store, self.destination, events)
        departures = [event for event in events if event.state is not None]
        now = self.clock()
        for page in _pages(departures, now):
            observe(self.store, self.destination, page, people=self.people, now=now, run_id=None)
        sure = {event.address for event in departures if not known.is_open(event)}
        urged = fan_out(self.store, self.destinations, self.people, sure)
        hints = [row.id for row, events in read if any(known.is_open(event) for event in events)]
        # Last of all: what is done here is never looked at again.
        self.store.inbox.set_aside(hints, until=now + _REST)
        self.store.inbox.finish([row.id for row, _ in read if row.id not in hints])
        _LOG.info(
            "webhooks_believed",
            destination=self.destination,
            messages=len(rows),
            departures=len(departures),
            hints=len(hints),
            urged=dict(urged),
        )


@acting("webhook")
def follow_hints(job: Job, webhooks: Webhooks) -> int:
    """Look at the contacts of hints that have rested, a few at a time; give how many hints there were.

    While the account does not answer, they wait, longer each time.
    """
    rows = job.store.inbox.hints(job.destination, HINTS)
    if not rows:
        return 0
    read = [(row, webhooks.read(row.body, row.content_type)) for row in rows]
    events = [event for _, events in read for event in events]
    known = _Known.of(job.store, job.destination, events)
    departed = {event.address for event in events if event.state is not None}
    asked = departed | {event.address for event in events if known.is_open(event)}
    destinations = list(job.project.destinations)
    try:
        found = [each for each in job.connector.read(sorted(asked)) if each is not None]
    except DestinationError as error:
        # That somebody came back is not to be had now; that they left was said.
        fan_out(job.store, destinations, job.people, departed)
        _put_off(job.store, job.destination, rows, error, now=job.clock())
        raise
    if found:
        observe(job.store, job.destination, found, people=job.people, now=job.clock(), run_id=None)
    urged = fan_out(job.store, destinations, job.people, asked)
    job.store.inbox.finish([row.id for row in rows])
    _LOG.info(
        "webhooks_asked", destination=job.destination, messages=len(rows), asked=len(asked), urged=dict(urged)
    )
    return len(rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """Who was known to be mailed before these messages, and since when, by address."""

    mailed_since: Mapping[str, datetime] = field(repr=False)

    @classmethod
    def of(cls, store: Store, destination: str, events: Iterable[InboundEvent]) -> "_Known":
        keys = {event.address: store.keys.address_key(event.address) for event in events}
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
