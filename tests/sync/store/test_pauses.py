from datetime import timedelta

from segue.sync.store.store import Store

from ...conftest import Clock


def test_a_pause_is_of_one_destination_and_says_who_since_when_and_why(store: Store, clock: Clock) -> None:
    made = store.pauses.pause("newsletter", reason="a wrong rule", opt_outs=False, who="ada")
    assert made.since == clock.now
    assert store.pauses.of("newsletter") == made
    assert store.pauses.of("shop") is None


def test_the_newest_pause_counts(store: Store, clock: Clock) -> None:
    store.pauses.pause("newsletter", reason="a wrong rule", opt_outs=False, who="ada")
    clock.advance(timedelta(hours=1))
    newest = store.pauses.pause("newsletter", reason="audited", opt_outs=True, who="bob")
    assert store.pauses.of("newsletter") == newest
    assert newest.opt_outs


def test_a_pause_ends_once(store: Store) -> None:
    store.pauses.pause("newsletter", reason="", opt_outs=False, who="ada")
    assert store.pauses.resume("newsletter")
    assert store.pauses.of("newsletter") is None
    assert not store.pauses.resume("newsletter")
