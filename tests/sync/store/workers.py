"""What the tests run in processes of their own, some of which are killed."""

import multiprocessing
import random
from datetime import timedelta
from multiprocessing.connection import Connection
from typing import Any

import pyarrow as pa

from segue.core.errors import StoreError
from segue.core.model import OutcomeStatus
from segue.sync.store.keys import ContactKeys
from segue.sync.store.outbox_row import ITEMS
from segue.sync.store.store import Store

from .changes import ALL, CREATE, TTL, applied, item, settled, table

PLAN, PART = 60, 20
"""Contacts of a plan, and how many of them one transaction puts in."""

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload([__name__])


def opened(url: str) -> Store:
    return Store.open(url, key=lambda _: ContactKeys(bytes(range(32))), busy_seconds=10)


def hold(url: str, holder: str | None, ttl: timedelta, pipe: Connection) -> None:
    """Take the lease and claim a row, say so, and when told settle it: say why that is refused."""
    with opened(url) as store:
        lease = store.leases.acquire("d", ttl, holder=holder)
        store.outbox.enqueue("p", "d", table(item(1)))
        ((row,),) = store.outbox.claim(lease, ALL)
        pipe.send(lease.token)
        pipe.recv()
        try:
            store.settlements.settle(lease, "r", [applied(row)])
        except StoreError as error:
            pipe.send(str(error))


def toil(url: str, seed: int, pipe: Connection | None, plans: int | None = None) -> None:
    """Enqueue, claim and settle, plan by plan, for ever or so many plans; tell of each step into the pipe."""
    draw = random.Random(seed)

    def step() -> None:
        if pipe is not None:
            pipe.send_bytes(b".")

    with opened(url) as store:
        lease = store.leases.acquire("d", TTL)
        store.outbox.release_claims(lease)
        number = int(store.destinations.cursor("d", "plans") or 0)
        store.outbox.discard(f"p{number}")  # nobody said that it is whole
        while plans is None or number < plans or store.outbox.pending_counts("d"):
            if not store.outbox.pending_counts("d"):
                store.outbox.enqueue(f"p{number}", "d", _plan(number, step))
                number += 1
                store.destinations.set_cursor("d", "plans", str(number))
            while batches := store.outbox.claim(lease, dict.fromkeys(ALL, 7), batches=2):
                step()
                for rows in batches:
                    store.settlements.settle(lease, "r", [_outcome(row, draw) for row in rows])
                    step()


def _plan(number: int, step: Any) -> Any:
    for first in range(number * PLAN, (number + 1) * PLAN, PART):
        step()
        rows = [item(key, CREATE, rank=2) for key in range(first, first + PART)]
        yield pa.RecordBatch.from_pylist(rows, schema=ITEMS)


def _outcome(row: Any, draw: random.Random) -> Any:
    kind = draw.random()
    if kind < 0.1:
        return settled(row, OutcomeStatus.DEFERRED, free=True)
    if kind < 0.2 and row.operation is CREATE:
        return settled(row, OutcomeStatus.EXISTS)
    if kind < 0.3:
        return settled(row, OutcomeStatus.UNKNOWN)
    return applied(row)
