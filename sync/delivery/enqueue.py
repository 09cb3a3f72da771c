"""A plan's steps on their way into the outbox: fresh ones only, and each as what differs, not as what it was.

Nothing is sent and nothing is gated here.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import orjson
import pyarrow as pa

from ...core.consent import LEFT
from ...core.model import ContactState, Doubt, Operation
from ..planning.plan import Plan
from ..planning.plan_files import opened
from ..store.outbox_row import ITEMS
from ..store.runs import PlanStatus
from ..store.store import Store

_ROWS: Final = 5_000
_NAMED: Final = {"desired_hash": "after_hash"}


def enqueue(
    plan: Plan, store: Store, *, chosen: Callable[[int], bool] | None = None, part: bool = False
) -> int:
    """Put a plan's steps into the outbox; give how many are stale, their baseline having moved since the plan.

    `chosen` says by contact key whose steps go in; opt-outs go in whosever they are, and what was confirmed since by
    a part of this very plan is neither stale nor sent again. Whoever is just being made waits for the next plan. `part` says that more of the plan may come later. Until
    the last row is in, the plan counts as planned and nothing of it is sent: killed here, it starts anew.
    """
    stale = 0
    urged = store.outbox.urged(plan.destination)
    awaited = store.outbox.awaited(plan.destination)

    def fresh() -> Iterator[pa.RecordBatch]:
        nonlocal stale
        for batch in opened(plan.steps, plan.file_key, store.sealing).iter_batches(_ROWS):
            steps = _meant(batch, chosen)
            keys, operations = _values(steps, "contact_key"), _values(steps, "operation")
            address_keys = _values(steps, "address_key")
            hashes = store.baselines.hashes(plan.destination, set(keys))
            leaving = {
                key
                for operation, key in zip(operations, address_keys, strict=True)
                if operation == Operation.OPT_OUT
            }
            states = store.destinations.states(plan.destination, leaving)
            before, after = _values(steps, "before_hash"), _values(steps, "after_hash")
            places = []
            for place, (operation, now) in enumerate(zip(operations, map(hashes.get, keys), strict=True)):
                # A withdrawal does not go stale: an opt-out is sent until the ESP shows it, and once at a time.
                if operation == Operation.OPT_OUT:
                    there = states.get(address_keys[place]) not in LEFT
                    if there and (keys[place], address_keys[place]) not in urged:
                        places.append(place)
                elif keys[place] in awaited or address_keys[place] in awaited:
                    continue
                elif now == before[place]:
                    places.append(place)
                elif now != after[place]:
                    stale += 1
            yield _items(steps.take(pa.array(places, pa.int64())))

    store.outbox.enqueue(plan.plan_id, plan.destination, fresh())
    store.plans.set_status(plan.plan_id, PlanStatus.PART if part else PlanStatus.APPLYING)
    return stale


def _meant(steps: pa.RecordBatch, chosen: Callable[[int], bool] | None) -> pa.RecordBatch:
    if chosen is None:
        return steps
    rows = zip(_values(steps, "operation"), _values(steps, "contact_key"), strict=True)
    return steps.filter(pa.array([row[0] == Operation.OPT_OUT or chosen(row[1]) for row in rows], pa.bool_()))


def _values(steps: pa.RecordBatch, name: str) -> list[Any]:
    values: list[Any] = steps.column(name).to_pylist()
    return values


def _items(steps: pa.RecordBatch) -> pa.RecordBatch:
    """Give steps as outbox rows."""
    said = (
        _values(steps, name)
        for name in ("operation", "group_key", "before", "after", "clears", "heir_of", "country")
    )
    payloads = pa.array([_payload(*each) for each in zip(*said, strict=True)], pa.string())
    columns = [
        payloads if each.name == "payload" else steps.column(_NAMED.get(each.name, each.name)).cast(each.type)
        for each in ITEMS
    ]
    return pa.record_batch(columns, schema=ITEMS)


def _payload(
    operation: str,
    group_key: str,
    before: str | None,
    after: str | None,
    clears: Sequence[str] | None,
    heir_of: Sequence[int] | None,
    country: str | None,
) -> str:
    """Give what one step sends."""
    payload: dict[str, Any] = {}
    match Operation(operation):
        case Operation.UNTAG:
            payload = {"tags": [group_key]}
        case Operation.CREATE | Operation.UPDATE | Operation.READDRESS if after is not None:
            new = orjson.loads(after)
            fields, tags = new["fields"], new["tags"]
            old = ContactState.parse(before) if before else None
            if old is not None:
                doubt = old.doubt or Doubt()
                fields = {
                    tag: fields.get(tag)
                    for tag in sorted({*old.fields, *fields, *doubt.fields})
                    if tag in doubt.fields or old.fields.get(tag) != fields.get(tag)
                }
                tags = sorted({*tags} - (old.tags - doubt.tags))
            payload = {
                "fields": fields | dict.fromkeys(clears or ()),
                "tags": tags,
                "whole": old is None,
                "heir_of": heir_of or [],
            }
            if operation == Operation.READDRESS and old is not None:
                payload["previous_address"] = old.address
            if (
                country is not None
            ):  # whose law the gate asks when it is packed, whatever the data says by then
                payload["country"] = country
        case _:
            pass
    return orjson.dumps(payload).decode()
