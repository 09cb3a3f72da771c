"""Processes that are killed while they use the store."""

import json
import random
from collections import Counter

import pytest
import sqlalchemy as sa

from segue.core.model import ContactState
from segue.sync.store import schema
from segue.sync.store.leases import lock, this_process

from .changes import TTL
from .workers import PLAN, PROCESSES, hold, opened, toil

KILLS = 50


def _adds_up(url: str) -> int:
    """Check that each contact of a plan is confirmed or still to be sent, once; give how many plans there are."""
    with opened(url) as store, store._database.write() as connection:
        lock(connection, "d")  # a server may still be at work on what a dead process asked for
        plans = int(store.destinations.cursor("d", "plans") or 0)
        waiting = connection.execute(sa.select(schema.outbox)).all()
        keys = Counter(row.contact_key for row in waiting)
        baselines = {row.contact_key: row.row_hash for row in connection.execute(sa.select(schema.baseline))}
        payloads = store.baselines.payloads("d", baselines)
        remote = connection.execute(sa.select(schema.remote.c.address_key)).scalars().all()
    assert set(keys.values()) <= {1}
    assert not keys.keys() & baselines.keys()
    whole = {key for key in keys | baselines if key < plans * PLAN}
    assert whole == set(range(plans * PLAN))
    begun = keys.keys() - whole
    assert all(key < (plans + 1) * PLAN for key in begun)
    assert all(json.loads(row.payload)["tags"] and row.address for row in waiting)
    assert {key: ContactState.parse(text).digest() for key, text in payloads.items()} == baselines
    assert sorted(remote) == sorted(key + 1000 for key in baselines)
    return plans


@pytest.mark.slow
def test_a_kill_at_any_moment_leaves_each_change_confirmed_or_still_to_be_sent(store_url: str) -> None:
    draw = random.Random(20260301)
    opened(store_url).close()
    for kill in range(KILLS):
        here, there = PROCESSES.Pipe(duplex=False)
        process = PROCESSES.Process(target=toil, args=(store_url, kill, there))
        process.start()
        there.close()
        for _ in range(draw.randrange(1, 40)):
            here.recv_bytes()
        process.kill()
        process.join()
        here.close()
        _adds_up(store_url)
    plans = _adds_up(store_url)
    assert plans > KILLS / 10
    toil(store_url, 0, None, plans)
    with opened(store_url) as store:
        assert store.baselines.count("d") >= plans * PLAN
        assert store.outbox.pending_counts("d") == {}


def test_a_killed_holder_of_this_machine_is_taken_over_at_once(store_url: str) -> None:
    here, there = PROCESSES.Pipe()
    process = PROCESSES.Process(target=hold, args=(store_url, None, TTL, there))
    process.start()
    token = here.recv()
    with opened(store_url) as store:
        process.kill()
        process.join()
        lease = store.leases.acquire("d", TTL)
        assert (lease.token, lease.holder) == (token + 1, this_process())
        assert store.outbox.release_claims(lease) == 1


def test_a_holder_that_was_silent_for_too_long_cannot_settle_any_more(store_url: str) -> None:
    here, there = PROCESSES.Pipe()
    process = PROCESSES.Process(target=hold, args=(store_url, "elsewhere process 1", 0 * TTL, there))
    process.start()
    here.recv()
    with opened(store_url) as store:
        lease = store.leases.acquire("d", TTL)
        assert store.outbox.release_claims(lease) == 1
        here.send("settle")
        assert "another run took over" in here.recv()
        process.join()
        assert store.baselines.count("d") == 0
        assert sum(store.outbox.pending_counts("d").values()) == 1
