"""What a run sent and never heard of: looked into before anything else is planned.

A run that was killed, or that gave up on a lost answer, leaves rows of which nobody knows whether they happened. The
next plan compares with baselines alone, and the data may say by then what it said before the write: such a contact
would look as it should be, and keep what was sent for ever. So its baseline says which fields and tags are in doubt,
equals no desired state, and is written again in full.

What a job took is not in doubt: the job is asked what became of it.

An address cannot be in doubt: two addresses would be two people. Whether a contact moved is asked at the ESP.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from time import monotonic
from typing import Final

from ...connectors.base import Connector
from ...core.consent import MAILABLE, ConsentAct
from ...core.model import ContactState, Operation, Outcome, OutcomeStatus
from ..inbound.observing import People, observe
from ..store.leases import Lease
from ..store.outbox_row import OutboxRow
from ..store.store import Store
from .meaning import Carried, Meaning, named
from .polling import Polling, is_job, is_lost

_ROWS: Final = 500
_PATIENCE: Final = 120.0  # seconds to wait for jobs of earlier runs


def settle_doubts(
    connector: Connector, store: Store, lease: Lease, *, people: People, now: datetime, run_id: str
) -> int:
    """Turn the rows that an earlier run left in doubt into doubtful baselines; give how many. Safe to kill.

    Asks the ESP where a contact is whose move is in doubt, and raises DestinationError when it does not answer.
    """
    collect_jobs(connector, store, lease, people=people, now=now, run_id=run_id)
    count = 0
    while rows := store.outbox.in_doubt(lease, _ROWS):
        moved = _moved(connector, store, lease.destination, rows, people=people, now=now, run_id=run_id)
        held = {
            key: ContactState.parse(text)
            for key, text in store.baselines.payloads(
                lease.destination, {row.contact_key for row in rows}
            ).items()
        }
        doubtful: dict[int, ContactState] = {}
        for row in rows:
            whole = json.loads(row.payload).get("whole", False)
            before = None if whole else doubtful.get(row.contact_key, held.get(row.contact_key))
            if before is None and not whole:
                continue  # the removal of a tag from somebody of whom nothing is known any more
            state = row.change().doubted_on(before)
            if row.id in moved:
                state = replace(state, address=row.address)
            doubtful[row.contact_key] = state
        store.settlements.doubt(lease, doubtful, rows, _stated(store, rows))
        count += len(rows)
    return count


def collect_jobs(
    connector: Connector,
    store: Store,
    lease: Lease,
    *,
    people: People,
    now: datetime,
    run_id: str,
    patience: float | None = None,
) -> int:
    """Ask after the jobs that took what an earlier run sent, and store what became of it; give how many are still at work.

    They are waited for in `patience` seconds, all together, two minutes unless given; in 0 each is asked once. Who was accepted without a job and is not shown yet stays noted, and keeps nobody else waiting.
    """
    still, until = 0, monotonic() + (_PATIENCE if patience is None else patience)
    polling = Polling(connector, store, lambda: now)
    meaning = Meaning(connector, store, lease.destination, lambda: now)
    for job, rows in store.outbox.in_jobs(lease).items():
        told = [row.said() for row in rows]
        changes = [row.change(said) for row, said in zip(rows, told, strict=True)]
        taken = Outcome(status=OutcomeStatus.ACCEPTED, job=job)
        left = until - monotonic() if is_job(job) else 0.0
        outcomes = polling.ended(changes, [taken] * len(changes), within=max(left, 0.0))
        if is_job(job) and any(outcome.job for outcome in outcomes):
            still += 1
            continue
        if is_lost(job, now):
            outcomes = [replace(outcome, job="") for outcome in outcomes]
        seen = [outcome.seen for outcome in outcomes if outcome.seen is not None]
        observe(store, lease.destination, seen, people=people, now=now, run_id=run_id)
        carried = [
            Carried(row=row, said=said, change=change)
            for row, said, change in zip(rows, told, changes, strict=True)
        ]
        settlements = meaning.settlements(carried, outcomes)
        ended = [each for each in settlements if not each.outcome.job]
        store.pulled.name(lease.destination, named(ended))
        store.settlements.settle(lease, run_id, ended)
        store.outbox.hasten(lease.destination, {each.row.address_key for each in ended})
    return still


def _stated(store: Store, rows: Sequence[OutboxRow]) -> dict[int, datetime]:
    """Give the opt-in times that creates may have stated, by address key: the newest there is, as the gate chose it."""
    creates = [row for row in rows if row.operation is Operation.CREATE]
    grants = store.consents.grants({key for row in creates for key in (row.contact_key, row.address_key)})
    stated: dict[int, datetime] = {}
    for row in creates:
        said = [grants[key].granted_at for key in (row.contact_key, row.address_key) if key in grants]
        if not said and "country" in row.said():  # on the law of that country
            history = store.consents.history([row.contact_key])
            said = [each.entry.occurred_at for each in history if each.entry.act is ConsentAct.BASIS]
        if said:
            stated[row.address_key] = max(said)
    return stated


def _moved(
    connector: Connector,
    store: Store,
    destination: str,
    rows: Sequence[OutboxRow],
    *,
    people: People,
    now: datetime,
    run_id: str,
) -> set[int]:
    """Give the ids of the rows whose contacts have moved, and remember where they are."""
    moves = [row for row in rows if row.operation is Operation.READDRESS]
    pairs = [(row.change().previous_address or row.address, row.address) for row in moves]
    found = iter(connector.read([address for pair in pairs for address in pair]) if pairs else ())
    moved = set[int]()
    for row, (previous, _) in zip(moves, pairs, strict=True):
        before, after = next(found), next(found)
        seen = [contact for contact in (before, after) if contact is not None]
        if before is None and after is not None:
            moved.add(row.id)
            store.pulled.name(destination, {after.name: row.address_key})
            if after.state in MAILABLE:  # as in `courier`
                store.destinations.record_moved(destination, row.contact_key, row.address_key, after)
            else:  # as in `apply`
                seen.append(replace(after, address=previous))
        observe(store, destination, seen, people=people, now=now, run_id=run_id)
        if row.id in moved:
            store.destinations.forget_remote(destination, [store.keys.address_key(previous)])
    return moved
