"""The outbox and its settling, with the baselines and rejections that come of it."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from itertools import chain
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa
from sqlalchemy import event

from segue.core.consent import ConsentState
from segue.core.errors import StoreError
from segue.core.model import Change, ContactState, Operation, Outcome, OutcomeStatus, RemoteContact
from segue.sync.store import schema
from segue.sync.store.baselines import HASHES, PAYLOADS
from segue.sync.store.leases import Lease
from segue.sync.store.outbox_row import OutboxRow
from segue.sync.store.settlement import REJECTIONS, Settlement
from segue.sync.store.store import Store

from ...conftest import Clock
from .changes import (
    ALL,
    CREATE,
    OPT_OUT,
    TTL,
    UNTAG,
    UPDATE,
    applied,
    digest,
    item,
    keys,
    settled,
    state,
    table,
    take,
)

Claim = Callable[..., OutboxRow]


@pytest.fixture
def claimed(store: Store, lease: Lease) -> Claim:
    """Enqueue and claim one row a call."""

    def claim(each: dict[str, Any], plan_id: str = "p") -> OutboxRow:
        store.outbox.enqueue(plan_id, "d", table(each))
        (row,) = take(store, lease, ALL)
        return row

    return claim


def test_a_claimed_row_says_what_was_enqueued(claimed: Claim) -> None:
    row = claimed(item(7))
    assert (row.address, row.address_key, row.attempts) == ("c7@shop.test", 1007, 0)
    assert (row.before_hash, row.desired_hash) == (digest("before"), digest("v1"))
    assert row.change() == Change(
        contact_key=7,
        operation=UPDATE,
        address="c7@shop.test",
        fields={"SG_A": "1", "SG_B": None},
        tags=("segue: loyal",),
    )


def test_a_batch_has_one_wave_one_operation_and_one_group_in_the_order_of_sending(
    store: Store, lease: Lease
) -> None:
    store.outbox.enqueue(
        "p",
        "d",
        table(
            item(1, UNTAG, group="tag b"),
            item(2, UPDATE),
            item(3, UNTAG, group="tag a"),
            item(4, CREATE),
            item(5, OPT_OUT),
            item(6, UPDATE),
            item(7, UNTAG, group="tag b"),
            item(8, CREATE, rank=-1),
        ),
    )
    batches = []
    while rows := take(store, lease, ALL):
        batches.append(keys(rows))
        store.settlements.settle(lease, "r", [settled(row, OutcomeStatus.UNCHANGED) for row in rows])
    assert batches == [[8], [5], [4], [2, 6], [3], [1, 7]]


def test_a_batch_is_as_large_as_its_operation_allows(store: Store, lease: Lease) -> None:
    store.outbox.enqueue("p", "d", table(*(item(key) for key in range(7)), item(9, CREATE)))
    sizes = {UPDATE: 3}  # creates are not asked for
    assert [keys(take(store, lease, sizes)) for _ in range(4)] == [[0, 1, 2], [3, 4, 5], [6], []]
    assert store.outbox.pending_counts("d") == {(CREATE, ""): 1}


def test_enqueueing_a_plan_again_leaves_exactly_its_rows(store: Store, lease: Lease) -> None:
    assert store.outbox.enqueue("p", "d", table(item(1), item(2))) == 2
    assert store.outbox.enqueue("another plan", "d", table(item(1, OPT_OUT))) == 1
    take(store, lease, {UPDATE: 1})
    assert store.outbox.enqueue("p", "d", table(item(1), item(2), item(3)).to_reader()) == 3
    assert [keys(take(store, lease, ALL)) for _ in range(3)] == [[1], [1, 2, 3], []]


def test_several_threads_share_the_rows_without_overlap_or_gap(store: Store, lease: Lease) -> None:
    store.outbox.enqueue("p", "d", table(*(item(key) for key in range(300))))

    def work(_: int) -> list[int]:
        taken: list[int] = []
        while rows := take(store, lease, {UPDATE: 10}):
            assert len(rows) == 10
            taken += keys(rows)
        return taken

    with ThreadPoolExecutor(4) as pool:
        assert sorted(chain.from_iterable(pool.map(work, range(4)))) == list(range(300))


def test_counts_are_by_operation_and_group_and_include_those_that_wait(
    store: Store, lease: Lease, clock: Clock
) -> None:
    store.outbox.enqueue("p", "d", table(item(1), item(2), item(3, UNTAG, group="t")))
    store.outbox.enqueue("p", "other", table(item(1, OPT_OUT)))
    rows = take(store, lease, {UPDATE: 1})
    assert store.outbox.pending_counts("d") == {(UPDATE, ""): 1, (UNTAG, "t"): 1}
    later = clock.now + timedelta(hours=1)
    store.settlements.settle(lease, "r", [settled(rows[0], OutcomeStatus.DEFERRED, not_before=later)])
    assert store.outbox.pending_counts("d") == {(UPDATE, ""): 2, (UNTAG, "t"): 1}


def test_the_claims_of_a_dead_run_are_taken_up_by_the_next(store: Store, clock: Clock) -> None:
    dead = store.leases.acquire("d", TTL, holder="elsewhere process 1")
    store.outbox.enqueue("p", "d", table(item(1), item(2)))
    (lost,) = take(store, dead, {UPDATE: 1})
    clock.advance(TTL)
    lease = store.leases.acquire("d", TTL)
    assert store.outbox.release_claims(lease) == 1
    assert [(row.contact_key, row.attempts) for row in take(store, lease, ALL)] == [(1, 1), (2, 0)]
    assert store.outbox.release_claims(lease) == 0  # its own are not lost
    with pytest.raises(StoreError, match="took over"):
        store.settlements.settle(dead, "r", [applied(lost)])


def test_a_discarded_plan_is_gone_but_for_what_is_on_its_way(store: Store, lease: Lease) -> None:
    store.outbox.enqueue("p", "d", table(item(1), item(2), item(3)))
    store.outbox.enqueue("q", "d", table(item(1)))
    first, second = take(store, lease, {UPDATE: 2})
    store.settlements.settle(lease, "r", [applied(first)])
    store.outbox.discard("p")
    with store._database.read() as connection:
        left = connection.execute(sa.select(schema.outbox.c.plan_id, schema.outbox.c.contact_key)).all()
    assert sorted(left) == [("p", 2), ("q", 1)]
    store.settlements.settle(lease, "r", [applied(second)])


def test_a_confirmed_change_leaves_its_baseline_narrow_and_wide(
    store: Store, claimed: Claim, lease: Lease
) -> None:
    row = claimed(item(1, CREATE))
    store.settlements.settle(lease, "r", [applied(row)])
    (narrow,) = store.baselines.stream("d")
    assert narrow.schema == HASHES
    assert narrow.to_pylist() == [{"contact_key": 1, "row_hash": state(1).digest()}]
    assert store.baselines.hashes("d", [1, 2]) == {1: state(1).digest()}
    assert store.baselines.payloads("d", [1, 2]) == {1: state(1).canonical()}
    assert ContactState.parse(store.baselines.payloads("d", [1])[1]) == state(1)
    assert store.baselines.count("d") == 1
    assert store.baselines.count("other") == 0
    (seen,) = store.destinations.stream_remote("d")
    assert seen.to_pylist() == [{"address_key": 1001, "state": "subscribed"}]


def test_a_newer_baseline_replaces_the_older(store: Store, claimed: Claim, lease: Lease) -> None:
    store.settlements.settle(lease, "r", [applied(claimed(item(1)))])
    newer = ContactState(address="new@shop.test")
    row = claimed(item(1), "q")
    store.settlements.settle(lease, "r", [settled(row, OutcomeStatus.UNCHANGED, baseline=newer)])
    assert store.baselines.payloads("d", [1]) == {1: newer.canonical()}
    assert store.baselines.hashes("d", [1]) == {1: newer.digest()}


@pytest.mark.parametrize(
    "status",
    sorted(set(OutcomeStatus) - {OutcomeStatus.APPLIED, OutcomeStatus.UNCHANGED, OutcomeStatus.MADE}),
)
def test_only_a_confirmed_outcome_can_carry_a_baseline(claimed: Claim, status: OutcomeStatus) -> None:
    row = claimed(item(1, CREATE))
    with pytest.raises(ValueError, match="a baseline needs a confirmed outcome"):
        settled(row, status, baseline=state(1))


def test_nothing_is_left_of_what_a_done_row_said_about_a_person(
    store: Store, claimed: Claim, lease: Lease
) -> None:
    store.settlements.settle(lease, "r", [applied(claimed(item(1)))])
    with store._database.read() as connection:
        assert connection.execute(sa.select(schema.outbox)).all() == []


@pytest.mark.parametrize("status", [OutcomeStatus.DEFERRED, OutcomeStatus.UNKNOWN])
def test_what_is_not_known_or_not_now_comes_again(
    store: Store, lease: Lease, claimed: Claim, clock: Clock, status: OutcomeStatus
) -> None:
    row = claimed(item(1))
    later = clock.now + timedelta(minutes=5)
    store.settlements.settle(lease, "r", [settled(row, status, not_before=later)])
    assert take(store, lease, ALL) == []
    clock.advance(timedelta(minutes=5))
    (again,) = take(store, lease, ALL)
    assert again._replace(id=row.id, attempts=0) == row
    assert again.attempts == 1
    with pytest.raises(StoreError, match="no longer holds"):
        store.settlements.settle(lease, "r", [applied(row)])  # by the old id nobody has it any more
    store.settlements.settle(lease, "r", [settled(again, status)])
    (third,) = take(store, lease, ALL)
    assert third.attempts == 2
    store.settlements.settle(lease, "r", [settled(third, status, free=True)])
    assert take(store, lease, ALL)[0].attempts == 2


def test_a_create_that_meets_a_contact_becomes_an_update_once(store: Store, lease: Lease) -> None:
    store.outbox.enqueue("p", "d", table(item(1, CREATE), item(2, CREATE), item(3)))
    first, second = take(store, lease, ALL)
    store.settlements.settle(lease, "r", [settled(first, OutcomeStatus.EXISTS), applied(second)])
    rows = take(store, lease, ALL)
    assert sorted(keys(rows)) == [1, 3]
    assert {row.operation for row in rows} == {UPDATE}
    converted = next(row for row in rows if row.contact_key == 1)
    assert (converted.payload, converted.desired_hash) == (first.payload, first.desired_hash)
    assert store.baselines.hashes("d", [1]) == {}


def test_only_a_create_can_meet_a_contact_that_exists(claimed: Claim) -> None:
    row = claimed(item(1))
    with pytest.raises(ValueError, match="only a create"):
        settled(row, OutcomeStatus.EXISTS)


def test_what_is_accepted_is_no_end(claimed: Claim) -> None:
    row = claimed(item(1))
    with pytest.raises(ValueError, match="not settled"):
        settled(row, OutcomeStatus.ACCEPTED)


def test_a_row_in_a_job_is_handed_out_no_more_and_found_by_its_job(
    store: Store, claimed: Claim, lease: Lease
) -> None:
    row = claimed(item(1))
    store.outbox.note_jobs({"job 1": [row.id]})
    store.outbox.discard(row.plan_id)
    with_new_token = replace(lease, token=lease.token)
    assert take(store, with_new_token, ALL) == []
    assert store.outbox.in_doubt(lease, 10) == []
    assert {job: [each.id for each in rows] for job, rows in store.outbox.in_jobs(lease).items()} == {
        "job 1": [row.id]
    }
    store.settlements.settle(lease, "r", [applied(row)])
    assert store.outbox.in_jobs(lease) == {}
    assert store.baselines.count("d") == 1


def test_what_a_job_may_still_be_doing_waits_with_its_job(
    store: Store, claimed: Claim, lease: Lease, clock: Any
) -> None:
    row = claimed(item(1))
    outcome = Outcome(status=OutcomeStatus.UNKNOWN, code="not_finished", job="job 1")
    store.settlements.settle(lease, "r", [Settlement(row=row, outcome=outcome, not_before=clock())])
    clock.advance(timedelta(minutes=1))
    assert take(store, lease, ALL) == []
    assert list(store.outbox.in_jobs(lease)) == ["job 1"]


def test_a_contact_that_was_made_comes_again_as_an_update_and_is_known_by_its_address(
    store: Store, claimed: Claim, lease: Lease
) -> None:
    row = claimed(item(1, CREATE))
    made = settled(row, OutcomeStatus.MADE, baseline=ContactState(address=row.address), arrived=True)
    store.settlements.settle(lease, "r", [made])
    (again,) = take(store, lease, ALL)
    assert (again.operation, again.attempts, again.payload) == (Operation.UPDATE, 0, row.payload)
    assert store.baselines.count("d") == 1


def test_what_was_unsent_comes_again_at_once_and_as_it_was(
    store: Store, claimed: Claim, lease: Lease
) -> None:
    row = claimed(item(1))
    store.settlements.settle(lease, "r", [settled(row, OutcomeStatus.UNSENT)])
    (again,) = take(store, lease, ALL)
    assert again._replace(id=0) == row._replace(id=0)


@pytest.mark.parametrize("status", [OutcomeStatus.WITHHELD, OutcomeStatus.STALE, OutcomeStatus.REJECTED])
def test_what_was_not_written_keeps_its_old_baseline(
    store: Store, claimed: Claim, lease: Lease, status: OutcomeStatus
) -> None:
    store.settlements.settle(lease, "r", [applied(claimed(item(1)))])
    store.settlements.settle(lease, "r", [settled(claimed(item(1), "q"), status)])
    assert store.baselines.hashes("d", [1]) == {1: state(1).digest()}
    assert take(store, lease, ALL) == []


def test_a_batch_settles_whole_or_not_at_all(store: Store, lease: Lease) -> None:
    store.outbox.enqueue("p", "d", table(item(1), item(2)))
    first, second = take(store, lease, ALL)
    store.settlements.settle(lease, "r", [applied(first)])
    with pytest.raises(StoreError, match="1 of 2 outcomes"):
        store.settlements.settle(lease, "r", [applied(second), applied(first)])
    assert store.baselines.hashes("d", [1, 2]) == {1: state(1).digest()}
    store.settlements.settle(lease, "r", [applied(second)])
    assert store.baselines.count("d") == 2


def test_an_address_that_a_contact_left_is_no_longer_there(
    store: Store, claimed: Claim, lease: Lease
) -> None:
    there = RemoteContact(address="", state=ConsentState.SUBSCRIBED, status="")
    store.destinations.record_remote("d", {5: there, 6: there})
    row = claimed(item(1, Operation.READDRESS))
    moved = settled(
        row, OutcomeStatus.APPLIED, baseline=state(1), remote_state=ConsentState.SUBSCRIBED, vacated=5
    )
    store.settlements.settle(lease, "r", [moved])
    (seen,) = store.destinations.stream_remote("d")
    assert sorted(seen.column("address_key").to_pylist()) == [6, 1001]


def rejected(row: OutboxRow, code: str = "invalid_field") -> Settlement:
    return settled(row, OutcomeStatus.REJECTED, code=code, reason="The field SG_A takes numbers.")


def test_a_rejection_is_kept_with_its_reason_and_the_state_it_aimed_at(
    store: Store, claimed: Claim, lease: Lease, clock: Clock
) -> None:
    store.settlements.settle(lease, "run 1", [rejected(claimed(item(1)))])
    (found,) = store.settlements.rejections("d", 10)
    assert (found.contact_key, found.operation, found.payload_hash) == (1, UPDATE, digest("v1"))
    assert (found.code, found.reason, found.run_id) == (
        "invalid_field",
        "The field SG_A takes numbers.",
        "run 1",
    )
    assert (found.first_at, found.last_at, found.attempts) == (clock.now, clock.now, 1)
    (batch,) = store.settlements.stream_rejections("d")
    assert batch.schema == REJECTIONS
    assert batch.to_pylist() == [{"contact_key": 1, "operation": "update", "payload_hash": digest("v1")}]
    assert store.settlements.rejections("other", 10) == []


def test_the_same_payload_refused_again_is_one_rejection(
    store: Store, claimed: Claim, lease: Lease, clock: Clock
) -> None:
    first_at = clock.now
    store.settlements.settle(lease, "run 1", [rejected(claimed(item(1)))])
    clock.advance(timedelta(days=1))
    lease = store.leases.acquire("d", TTL)
    store.outbox.enqueue("q", "d", table(item(1)))
    store.settlements.settle(lease, "run 2", [rejected(take(store, lease, ALL)[0], "other_code")])
    (found,) = store.settlements.rejections("d", 10)
    assert (found.first_at, found.last_at, found.attempts) == (first_at, clock.now, 2)
    assert (found.code, found.run_id) == ("other_code", "run 2")


def test_another_payload_refused_begins_anew(store: Store, claimed: Claim, lease: Lease) -> None:
    store.settlements.settle(lease, "r", [rejected(claimed(item(1)))])
    store.settlements.settle(lease, "r", [rejected(claimed(item(1, desired="v2"), "q"))])
    (found,) = store.settlements.rejections("d", 10)
    assert (found.payload_hash, found.attempts) == (digest("v2"), 1)


def test_a_write_that_gets_through_ends_the_rejection_of_any_write(
    store: Store, claimed: Claim, lease: Lease
) -> None:
    store.settlements.settle(lease, "r", [rejected(claimed(item(1, CREATE)))])
    store.settlements.settle(lease, "r", [rejected(claimed(item(1, UNTAG, group="t")))])
    store.settlements.settle(lease, "r", [rejected(claimed(item(2, CREATE)))])
    store.settlements.settle(lease, "r", [applied(claimed(item(1, UPDATE), "q"))])
    left = {(each.contact_key, each.operation) for each in store.settlements.rejections("d", 10)}
    assert left == {(1, UNTAG), (2, CREATE)}


def test_rejections_are_listed_newest_first_up_to_a_limit(
    store: Store, claimed: Claim, lease: Lease, clock: Clock
) -> None:
    for key in (1, 2, 3):
        store.settlements.settle(lease, "r", [rejected(claimed(item(key)))])
        clock.advance(timedelta(seconds=1))
    assert [each.contact_key for each in store.settlements.rejections("d", 2)] == [3, 2]


def test_short_and_long_states_come_back_as_they_were(store: Store, claimed: Claim, lease: Lease) -> None:
    states = {key: replace(state(key), fields={"SG_A": "é" * length}) for key, length in ((1, 1), (2, 500))}
    store.outbox.enqueue("p", "d", table(*map(item, states)))
    rows = [replace(applied(row), baseline=states[row.contact_key]) for row in take(store, lease, ALL)]
    store.settlements.settle(lease, "r", rows)
    assert store.baselines.payloads("d", states) == {key: each.canonical() for key, each in states.items()}


def test_payloads_of_many_contacts_stream_in_parts(store: Store, lease: Lease) -> None:
    count = 12_000
    store.outbox.enqueue("p", "d", table(*(item(key, CREATE) for key in range(count))))
    while rows := take(store, lease, {CREATE: 5000}):
        store.settlements.settle(lease, "r", [applied(row) for row in rows])
    asked = pa.chunked_array([pa.array(range(0, count, 2)), pa.array([count + 1])])
    batches = list(store.baselines.stream_payloads("d", asked))
    assert all(batch.schema == PAYLOADS and batch.num_rows <= 5000 for batch in batches)
    found = pa.Table.from_batches(batches)
    assert sorted(found["contact_key"].to_pylist()) == list(range(0, count, 2))
    assert all(text == state(key).canonical() for key, text in zip(*found.to_pydict().values(), strict=True))


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)  # its query plans are stable texts
def test_the_next_batch_is_found_by_walking_the_index(store: Store, lease: Lease) -> None:
    """Sorting what is left at each claim would make a first load quadratic."""
    statements: list[tuple[str, Any]] = []

    @event.listens_for(store._database._engine, "before_cursor_execute")
    def note(_conn: object, _cursor: object, statement: str, values: Any, *_rest: object) -> None:
        statements.append((statement, values))

    store.outbox.enqueue("p", "d", table(item(1)))
    take(store, lease, {UPDATE: 10})
    seen = [each for each in statements if each[0].lstrip().startswith(("SELECT", "UPDATE"))]
    with store._database.read() as connection:
        plans = "\n".join(
            str(connection.exec_driver_sql(f"explain query plan {text}", values).all())
            for text, values in seen
        )
    assert "ix_outbox_ready" in plans
    assert "ix_outbox_waiting" in plans
    assert "TEMP B-TREE" not in plans
    assert "SCAN" not in plans


def test_an_opt_out_is_urgent_when_its_time_has_come(store: Store, lease: Lease, clock: Clock) -> None:
    store.outbox.urge(lease.destination, [(1, "c1@shop.test", 1001)])
    (row,) = store.outbox.urgent(lease.destination, 10)
    (batch,) = store.outbox.claim(lease, ALL)
    later = clock() + timedelta(minutes=1)
    store.settlements.settle(lease, "r1", [settled(batch[0], OutcomeStatus.DEFERRED, not_before=later)])
    assert store.outbox.urgent(lease.destination, 10) == []
    clock.advance(timedelta(minutes=1))
    assert [each.contact_key for each in store.outbox.urgent(lease.destination, 10)] == [row.contact_key]


def test_who_may_be_arriving_is_in_what_was_handed_out_and_in_nothing_else(
    store: Store, lease: Lease, clock: Clock
) -> None:
    everyone = [key + 1000 for key in (1, 2, 3)]

    def arriving() -> list[int]:
        return sorted(row.contact_key for row in store.outbox.arrivals_at(lease.destination, everyone))

    store.outbox.enqueue(
        "p1", lease.destination, [table(item(1, CREATE), item(2, CREATE, rank=1), item(3, UPDATE))]
    )
    assert arriving() == []
    (batch,) = store.outbox.claim(lease, {CREATE: 1})
    assert arriving() == [1]
    later = clock() + timedelta(minutes=1)
    store.settlements.settle(lease, "r1", [settled(batch[0], OutcomeStatus.UNKNOWN, not_before=later)])
    assert arriving() == [1]
    clock.advance(timedelta(minutes=1))
    ((again,),) = store.outbox.claim(lease, {CREATE: 1})
    assert arriving() == [1]
    store.settlements.settle(lease, "r1", [applied(again)])
    assert arriving() == []
