"""Changes for the outbox, as the tests of the store make them, claim them and settle them."""

import hashlib
import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pyarrow as pa

from segue.core.consent import ConsentState
from segue.core.model import ContactState, Operation, Outcome, OutcomeStatus
from segue.sync.store.leases import Lease
from segue.sync.store.outbox_row import ITEMS, OutboxRow
from segue.sync.store.settlement import Settlement
from segue.sync.store.store import Store

TTL = timedelta(minutes=2)
CREATE, UPDATE, UNTAG, OPT_OUT = Operation.CREATE, Operation.UPDATE, Operation.UNTAG, Operation.OPT_OUT
ALL = dict.fromkeys(Operation, 500)


def digest(text: str) -> bytes:
    return hashlib.md5(text.encode(), usedforsecurity=False).digest()


def item(
    key: int, operation: Operation = UPDATE, *, group: str = "", rank: int = 0, desired: str = "v1"
) -> dict[str, Any]:
    return {
        "contact_key": key,
        "operation": operation.value,
        "group_key": group,
        "rank": rank,
        "address": f"c{key}@shop.test",
        "address_key": key + 1000,
        "payload": json.dumps({"fields": {"SG_A": "1", "SG_B": None}, "tags": ["segue: loyal"]}),
        "before_hash": None if operation is CREATE else digest("before"),
        "desired_hash": digest(desired),
    }


def table(*items: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(items), schema=ITEMS)


def state(key: int) -> ContactState:
    return ContactState(address=f"c{key}@shop.test", fields={"SG_A": "é1"}, tags=frozenset({"segue: loyal"}))


def settled(
    row: OutboxRow, status: OutcomeStatus, *, code: str = "", reason: str = "", **rest: Any
) -> Settlement:
    outcome = Outcome(status=status, code=code, reason=reason)
    return Settlement(row=row, outcome=outcome, **rest)


def applied(row: OutboxRow) -> Settlement:
    return settled(
        row, OutcomeStatus.APPLIED, baseline=state(row.contact_key), remote_state=ConsentState.SUBSCRIBED
    )


def take(store: Store, lease: Lease, sizes: Mapping[Operation, int]) -> list[OutboxRow]:
    """Claim one batch; empty when there is none."""
    return next(iter(store.outbox.claim(lease, sizes)), [])


def keys(rows: list[OutboxRow]) -> list[int]:
    return [row.contact_key for row in rows]
