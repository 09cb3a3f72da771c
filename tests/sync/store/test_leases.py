import os
import subprocess
import sys
from datetime import timedelta

import pytest

from segue.core.errors import StoreError
from segue.core.model import Operation
from segue.sync.store.leases import is_gone, this_process
from segue.sync.store.store import Store

from ...conftest import Clock

TTL = timedelta(minutes=2)


def test_one_holder_at_a_time_and_the_other_is_named(store: Store) -> None:
    store.leases.acquire("newsletter", TTL, holder="elsewhere process 12")
    with pytest.raises(StoreError, match=r'"newsletter".*elsewhere process 12'):
        store.leases.acquire("newsletter", TTL)
    store.leases.acquire("other destination", TTL)


def test_a_released_lease_is_free_at_once_and_its_token_is_spent(store: Store) -> None:
    first = store.leases.acquire("d", TTL)
    store.leases.release(first)
    assert store.leases.acquire("d", TTL).token == first.token + 1


def test_an_expired_lease_is_taken_over_and_the_old_holder_is_fenced_off(store: Store, clock: Clock) -> None:
    old = store.leases.acquire("d", TTL, holder="elsewhere process 12")
    clock.advance(TTL)
    new = store.leases.acquire("d", TTL)
    assert new.token > old.token
    with pytest.raises(StoreError, match="another run took over"):
        store.leases.heartbeat(old)
    with pytest.raises(StoreError, match="another run took over"):
        store.outbox.claim(old, {Operation.UPDATE: 1})
    with pytest.raises(StoreError, match="another run took over"):
        store.settlements.settle(old, "run", [])
    store.leases.release(old)
    store.leases.heartbeat(new)


def test_a_heartbeat_prolongs_a_lease(store: Store, clock: Clock) -> None:
    lease = store.leases.acquire("d", TTL, holder="elsewhere process 12")
    clock.advance(TTL - timedelta(seconds=1))
    assert store.leases.heartbeat(lease).expires_at == clock.now + TTL
    clock.advance(TTL - timedelta(seconds=1))
    with pytest.raises(StoreError):
        store.leases.acquire("d", TTL)


def test_the_lease_of_a_killed_process_of_this_machine_is_free_at_once(store: Store) -> None:
    code = "from segue.sync.store.leases import this_process; print(this_process())"
    dead = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()
    store.leases.acquire("d", TTL, holder=dead)
    assert store.leases.acquire("d", TTL).holder == this_process()


def test_only_a_process_of_this_machine_can_be_known_to_be_gone() -> None:
    machine = this_process().rpartition(" process ")[0]
    assert not is_gone(this_process())
    assert not is_gone(f"{machine} process {os.getppid()}")
    assert not is_gone("elsewhere process 999999999")
    assert not is_gone(f"{machine} process nonsense")
    assert is_gone(f"{machine} process 4194305")  # above the largest process number of Linux
