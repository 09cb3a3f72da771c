"""Which rows of the outbox are handed out when, and which are held back."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pyarrow as pa
import pytest

from segue.core.errors import StoreError
from segue.core.model import Operation, OutcomeStatus
from segue.sync.store.leases import Lease
from segue.sync.store.outbox_row import ITEMS, URGENT, OutboxRow
from segue.sync.store.store import Store

from ...conftest import Clock
from .changes import ALL, CREATE, OPT_OUT, TTL, UNTAG, UPDATE, applied, item, keys, settled, table, take

LATER = timedelta(minutes=5)


def put(store: Store, *items: dict[str, Any]) -> None:
    store.outbox.enqueue("p", "d", table(*items))


def put_off(store: Store, lease: Lease, clock: Clock, rows: list[OutboxRow]) -> None:
    later = clock.now + LATER
    store.settlements.settle(
        lease, "r", [settled(row, OutcomeStatus.DEFERRED, not_before=later) for row in rows]
    )


def done(store: Store, lease: Lease, rows: list[OutboxRow]) -> None:
    store.settlements.settle(lease, "r", [settled(row, OutcomeStatus.UNCHANGED) for row in rows])


def test_several_batches_of_one_wave_are_claimed_together(store: Store, lease: Lease) -> None:
    put(
        store,
        *(item(key, UNTAG, rank=5, group="a") for key in range(5)),
        *(item(key, UNTAG, rank=5, group="b") for key in range(5, 8)),
        *(item(key, rank=4) for key in range(8, 13)),
    )
    sizes = {UPDATE: 2, UNTAG: 2}
    batches = store.outbox.claim(lease, sizes, batches=2)
    assert [keys(rows) for rows in batches] == [[8, 9], [10, 11]]
    batches += store.outbox.claim(lease, sizes, batches=4)
    assert [keys(rows) for rows in batches[2:]] == [[12]]  # and nothing of another wave
    for rows in batches:
        done(store, lease, rows)
    batches = store.outbox.claim(lease, sizes, batches=4)
    assert [(rows[0].group_key, keys(rows)) for rows in batches] == [
        ("a", [0, 1]),
        ("a", [2, 3]),
        ("a", [4]),
        ("b", [5, 6]),
    ]
    assert [keys(rows) for rows in store.outbox.claim(lease, sizes, batches=4)] == [[7]]


def test_a_later_wave_waits_until_an_earlier_one_is_settled(store: Store, lease: Lease) -> None:
    put(store, item(1, CREATE, rank=2), item(2, rank=2), item(3, UNTAG, rank=5, group="t"))
    creates, updates = take(store, lease, ALL), take(store, lease, ALL)
    assert (keys(creates), keys(updates)) == ([1], [2])  # of one rank, they go side by side
    assert take(store, lease, ALL) == []
    done(store, lease, creates)
    assert take(store, lease, ALL) == []
    store.settlements.settle(lease, "r", [settled(updates[0], OutcomeStatus.UNKNOWN)])
    assert keys(take(store, lease, ALL)) == [2]


def test_nothing_of_a_person_overtakes_a_row_that_waits(store: Store, lease: Lease, clock: Clock) -> None:
    put(
        store,
        *(item(key, rank=4) for key in (1, 2)),
        *(item(key, UNTAG, rank=5, group="t") for key in (1, 2, 3)),
    )
    put_off(store, lease, clock, [take(store, lease, {UPDATE: 1})[0]])
    done(store, lease, take(store, lease, ALL))
    free = take(store, lease, {UNTAG: 1})
    free += take(store, lease, {UNTAG: 500})
    assert keys(free) == [2, 3]
    assert take(store, lease, ALL) == []
    done(store, lease, free)
    assert store.outbox.pending_counts("d") == {(UPDATE, ""): 1, (UNTAG, "t"): 1}
    assert store.outbox.next_due("d") == clock.now + LATER
    clock.advance(LATER)
    first = take(store, lease, ALL)
    assert [(row.contact_key, row.operation) for row in first] == [(1, UPDATE)]
    assert take(store, lease, ALL) == []
    done(store, lease, first)
    assert [(row.contact_key, row.operation) for row in take(store, lease, ALL)] == [(1, UNTAG)]


def test_a_wave_whose_every_row_waits_behind_another_is_passed_over(
    store: Store, lease: Lease, clock: Clock
) -> None:
    put(store, item(1, rank=3), item(1, UNTAG, rank=4, group="t"), item(2, rank=5))
    put_off(store, lease, clock, take(store, lease, ALL))
    assert keys(take(store, lease, ALL)) == [2]


def test_nobody_takes_an_address_before_a_member_moved_away_from_it(
    store: Store, lease: Lease, clock: Clock
) -> None:
    moving = item(1, Operation.READDRESS, rank=3) | {
        "payload": json.dumps({"previous_address": "C2@shop.test"})
    }
    put(store, moving, item(2, rank=4), item(3, rank=4))
    put_off(store, lease, clock, take(store, lease, ALL))
    others = take(store, lease, ALL)
    assert keys(others) == [3]
    done(store, lease, others)
    clock.advance(LATER)
    done(store, lease, take(store, lease, ALL))
    assert keys(take(store, lease, ALL)) == [2]


def test_the_next_due_is_that_of_the_earliest_row_that_waits(
    store: Store, lease: Lease, clock: Clock
) -> None:
    assert store.outbox.next_due("d") is None
    put(store, item(1), item(2))
    (first, second) = take(store, lease, ALL)
    assert store.outbox.next_due("d") is None
    put_off(store, lease, clock, [second])
    clock.advance(timedelta(seconds=1))
    put_off(store, lease, clock, [first])
    assert store.outbox.next_due("d") == clock.now + LATER - timedelta(seconds=1)
    assert store.outbox.next_due("other") is None


def test_a_row_that_comes_again_is_not_lost_among_those_handed_out_meanwhile(
    store: Store, lease: Lease, clock: Clock
) -> None:
    put(store, *(item(key) for key in range(6)))
    early = take(store, lease, {UPDATE: 2})
    put_off(store, lease, clock, early)
    middle = take(store, lease, {UPDATE: 2})
    store.settlements.settle(lease, "r", [settled(row, OutcomeStatus.UNKNOWN) for row in middle])
    assert keys(take(store, lease, ALL)) == [4, 5, 2, 3]  # the last ids of the wave are claimed now
    clock.advance(LATER)
    assert keys(take(store, lease, ALL)) == [0, 1]


def test_opt_outs_of_another_process_come_first(store: Store, lease: Lease) -> None:
    put(store, *(item(key, rank=2) for key in range(4)))
    take(store, lease, {UPDATE: 1})
    assert store.outbox.urge("d", [(7, "c7@shop.test", 1007), (8, "c8@shop.test", 1008)]) == 2
    (rows,) = store.outbox.claim(lease, dict.fromkeys(Operation, 2), batches=3)
    assert [(row.contact_key, row.operation, row.rank, row.plan_id) for row in rows] == [
        (7, OPT_OUT, 0, URGENT),
        (8, OPT_OUT, 0, URGENT),
    ]
    assert rows[0].change().address == "c7@shop.test"
    assert rows[0].address_key == 1007


def test_no_opt_out_is_lost_that_is_put_in_while_others_are_claimed(store: Store, lease: Lease) -> None:
    def urge(first: int) -> None:
        for key in range(first, first + 40):
            store.outbox.urge("d", [(key, f"c{key}@shop.test", key + 1000)])

    with ThreadPoolExecutor(4) as pool:
        urging = [pool.submit(urge, first) for first in range(0, 160, 40)]
        seen: list[int] = []
        while not all(future.done() for future in urging):
            seen += keys(take(store, lease, ALL))
        for future in urging:
            future.result()
    seen += keys(take(store, lease, ALL))
    assert sorted(seen) == list(range(160))


def test_an_opt_out_is_one_row_until_it_is_claimed(store: Store, lease: Lease, clock: Clock) -> None:
    left = (7, "c7@shop.test", 1007)
    assert store.outbox.urge("d", [left, left]) == 1
    assert store.outbox.urge("d", [left, (7, "old@shop.test", 1)]) == 1
    rows = take(store, lease, ALL)
    assert len(rows) == 2
    put_off(store, lease, clock, [rows[0]])
    assert store.outbox.urge("d", [left]) == 0  # it waits
    # The other one is on its way, perhaps from before a return: who leaves again is said again.
    assert store.outbox.urge("d", [(7, "old@shop.test", 1)]) == 1
    done(store, lease, [rows[1]])
    done(store, lease, take(store, lease, ALL))
    clock.advance(LATER)
    done(store, lease, take(store, lease, ALL))
    assert store.outbox.urge("d", [left]) == 1


def test_urgent_opt_outs_survive_the_end_of_a_plan(store: Store) -> None:
    put(store, item(1), item(7, OPT_OUT))
    store.outbox.urge("d", [(7, "c7@shop.test", 1007)])
    store.outbox.discard("p")
    put(store, item(1))
    assert store.outbox.pending_counts("d") == {(OPT_OUT, ""): 1, (UPDATE, ""): 1}


def test_a_claim_takes_over_what_a_dead_holder_had_claimed(store: Store, clock: Clock) -> None:
    dead = store.leases.acquire("d", TTL, holder="elsewhere process 1")
    put(store, *(item(key) for key in range(4)))
    lost = take(store, dead, {UPDATE: 2})
    clock.advance(TTL)
    lease = store.leases.acquire("d", TTL)
    assert [(row.contact_key, row.attempts) for row in take(store, lease, ALL)] == [
        (0, 1),
        (1, 1),
        (2, 0),
        (3, 0),
    ]
    with pytest.raises(StoreError, match="took over"):
        store.settlements.settle(dead, "r", [applied(row) for row in lost])


def test_a_plan_larger_than_a_transaction_comes_out_whole(store: Store, lease: Lease) -> None:
    rows = [item(key, UNTAG, rank=5, group=f"tag {key % 3}") for key in range(20_500)]
    assert (
        store.outbox.enqueue("p", "d", pa.Table.from_pylist(rows, schema=ITEMS).to_batches(9_000)) == 20_500
    )
    seen: list[int] = []
    while batches := store.outbox.claim(lease, {UNTAG: 5_000}, batches=2):
        assert all(len({row.group_key for row in rows}) == 1 for rows in batches)
        seen += [key for rows in batches for key in keys(rows)]
    assert sorted(seen) == list(range(20_500))
    store.leases.release(lease)
    again = store.leases.acquire("d", TTL)
    assert store.outbox.release_claims(again) == 20_500
    store.outbox.discard("p")
    assert store.outbox.pending_counts("d") == {}
