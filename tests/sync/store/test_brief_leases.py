"""Whoever holds a lease for moments, as `segue serve` does, makes no scheduled run fail."""

import threading

import pytest

from segue.core.errors import StoreError
from segue.sync.store.leases import is_gone, this_process
from segue.sync.store.store import Store


def test_a_run_waits_for_who_holds_the_lease_for_moments(store: Store) -> None:
    held, asked = threading.Event(), threading.Event()

    def hold_briefly() -> None:
        with store.leases.hold("d", "pull"):
            held.set()
            asked.wait(30)

    thread = threading.Thread(target=hold_briefly)
    thread.start()
    held.wait(30)
    with pytest.raises(StoreError, match="pull by"), store.leases.hold("d", "opt_out"):
        pass
    threading.Timer(0.3, asked.set).start()
    with store.leases.hold("d") as lease:
        assert lease.holder == this_process()
    thread.join()


def test_nobody_waits_for_a_run(store: Store) -> None:
    with store.leases.hold("d"):
        for kind in ("run", "pull", "opt_out"):
            with pytest.raises(StoreError, match="another run is at work"), store.leases.hold("d", kind):
                pass


def test_a_killed_holder_of_moments_is_gone_like_any_other() -> None:
    machine = this_process().rpartition(" process ")[0]
    assert is_gone(f"pull by {machine} process 999999999")
    assert not is_gone(f"pull by {this_process()}")
