"""Works off what an ESP posted: who left is believed at once, and everything else is a hint to look.

A message's departure ends in the very function that a pull's does. What is not a departure proves nothing by itself, and
may be old: its contact is read back, so that only the ESP's present state and its own time of opting in count. That makes
messages that come twice, late or in another order harmless.
"""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Final

import structlog

from ..connectors.webhooks import MalformedError, Webhooks
from ..core.consent import LEFT
from ..core.errors import DestinationError
from ..core.model import InboundEvent, RemoteContact
from .inbound import observe
from .jobs import Job
from .store.inbox import WaitingMessage

_LOG = structlog.get_logger(__name__)

ROWS: Final = 500
"""How many messages are worked off together."""
_TRIES: Final = 12
_FIRST_WAIT, _LONGEST_WAIT = timedelta(seconds=5), timedelta(minutes=30)


def work_off(job: Job, webhooks: Webhooks) -> set[str]:
    """Work off the messages that wait for one destination, at most ROWS; give the addresses of who left.

    Killed at any point, the same messages are worked off again. What cannot be read is given up, with a reason that
    quotes nothing; while the account does not answer, its messages wait, longer each time.
    """
    rows = job.store.inbox.take(job.destination, ROWS)
    read: list[tuple[WaitingMessage, Sequence[InboundEvent]]] = []
    for row in rows:
        try:
            read.append((row, webhooks.read(row.body, row.content_type)))
        except MalformedError as error:
            job.store.inbox.give_up([row.id], problem=error.message)
    departures = [event for _, events in read for event in events if event.state is not None]
    late = _late(job, departures)
    believed = [
        RemoteContact(
            address=event.address, state=event.state, status=event.status, changed_at=event.occurred_at
        )
        for event in departures
        if event.state is not None
    ]
    _look(job, believed)
    left = {contact.address for contact in believed}
    unsure = [
        (row, {event.address for event in events if event.state is None or event.address in late})
        for row, events in read
    ]
    job.store.inbox.finish([row.id for row, asked in unsure if not asked])
    if hints := [(row, asked) for row, asked in unsure if asked]:
        left |= _read_back(job, [row for row, _ in hints], set[str]().union(*(asked for _, asked in hints)))
    return left


def _late(job: Job, departures: Sequence[InboundEvent]) -> set[str]:
    """Give the addresses of departures that are older than what is known there: they may have come back since."""
    keys = {job.store.keys.address_key(event.address): event for event in departures}
    known = job.store.destinations.opt_ins(job.destination, keys)
    states = job.store.destinations.states(job.destination, keys)
    return {
        event.address
        for key, event in keys.items()
        if key in known and states.get(key) not in LEFT and event.occurred_at < known[key].looked_at
    }


def _read_back(job: Job, rows: Sequence[WaitingMessage], addresses: Iterable[str]) -> set[str]:
    """Look at contacts as the ESP shows them now; give the addresses of those who have left."""
    try:
        found = [each for each in job.connector.read(sorted(addresses)) if each is not None]
    except DestinationError as error:
        _put_off(job, rows, error)
        return set()
    _look(job, found)
    job.store.inbox.finish([row.id for row in rows])
    return {each.address for each in found if each.state in LEFT}


def _put_off(job: Job, rows: Sequence[WaitingMessage], error: DestinationError) -> None:
    again: dict[int, list[int]] = {}
    for row in rows:
        again.setdefault(row.attempts, []).append(row.id)
    for attempts, ids in again.items():
        if attempts + 1 >= _TRIES:
            job.store.inbox.give_up(ids, problem=error.message)
        else:
            wait = min(_FIRST_WAIT * 2**attempts, _LONGEST_WAIT)
            job.store.inbox.put_off(ids, until=job.clock() + wait, problem=error.message)
    _LOG.warning("webhooks_put_off", destination=job.destination, messages=len(rows), why=error.message)


def _look(job: Job, contacts: Sequence[RemoteContact]) -> None:
    if contacts:
        observe(job.store, job.destination, contacts, people=job.people, now=job.clock(), run_id=None)
