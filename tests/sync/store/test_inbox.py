from datetime import timedelta
from typing import Any

from segue.sync.store.inbox import KEPT, InboxCounts, Message
from segue.sync.store.schema import EPOCH
from segue.sync.store.store import Store

from ...conftest import Clock


def message(name: str, **more: Any) -> Message:
    said: dict[str, Any] = {
        "destination": "d",
        "name": name,
        "content_type": "text/plain",
        "body": name.encode(),
    }
    return Message(**{**said, **more})


def waiting(store: Store) -> list[bytes]:
    return [each.body for each in store.inbox.take("d", 10)]


def test_messages_are_handed_out_oldest_first_and_until_they_are_done(store: Store) -> None:
    assert store.inbox.put([message("b"), message("a")]) == 2
    first, second = store.inbox.take("d", 10)
    assert (first.body, first.attempts, second.body) == (b"b", 0, b"a")
    assert waiting(store) == [b"b", b"a"]
    store.inbox.finish([first.id])
    assert waiting(store) == [b"a"]
    assert len(store.inbox.take("d", 1)) == 1


def test_a_message_that_comes_again_counts_once_also_when_it_is_done(store: Store) -> None:
    store.inbox.put([message("a"), message("a")])
    (only,) = store.inbox.take("d", 10)
    assert store.inbox.put([message("a"), message("b")]) == 1
    store.inbox.finish([only.id])
    assert store.inbox.put([message("a")]) == 0
    assert waiting(store) == [b"b"]
    assert store.inbox.put([message("a", destination="other")]) == 1


def test_a_message_that_is_put_off_waits_for_its_time(store: Store, clock: Clock) -> None:
    store.inbox.put([message("a")])
    (row,) = store.inbox.take("d", 10)
    store.inbox.put_off([row.id], until=clock() + timedelta(minutes=1), problem="no answer")
    assert waiting(store) == []
    clock.advance(timedelta(minutes=1))
    (row,) = store.inbox.take("d", 10)
    assert row.attempts == 1


def test_what_is_given_up_stays_until_somebody_revives_it(store: Store, clock: Clock) -> None:
    store.inbox.put([message("a"), message("b")])
    first, second = store.inbox.take("d", 10)
    store.inbox.give_up([first.id], problem="cannot be read")
    assert waiting(store) == [second.body]
    assert store.inbox.counts("d") == InboxCounts(waiting=1, dead=1, oldest_at=clock())
    assert store.inbox.problems("d") == {"cannot be read": 1}
    clock.advance(KEPT * 2)
    assert store.inbox.forget() == 0
    assert store.inbox.revive("d") == 1
    assert waiting(store) == [b"a", b"b"]
    assert store.inbox.counts("other") == InboxCounts(waiting=0, dead=0, oldest_at=None)


def test_a_message_that_is_done_keeps_its_name_for_a_while_and_nothing_it_said(
    store: Store, clock: Clock
) -> None:
    store.inbox.put([message("a", body=b"ada@shop.test")])
    store.inbox.finish([row.id for row in store.inbox.take("d", 10)])
    with store._database.read() as connection:
        assert connection.exec_driver_sql("select body from inbox").scalar_one() == b""
    assert store.inbox.forget() == 0
    clock.advance(KEPT + timedelta(seconds=1))
    assert store.inbox.forget() == 1
    assert store.inbox.put([message("a")]) == 1


def test_a_hint_waits_apart_and_is_done_like_any_other(store: Store, clock: Clock) -> None:
    store.inbox.put([message("a"), message("b")])
    first, _ = store.inbox.take("d", 10)
    store.inbox.set_aside([first.id], until=clock() + timedelta(seconds=10))
    assert waiting(store) == [b"b"]
    assert store.inbox.hints("d", 10) == []
    assert store.inbox.counts("d").waiting == 2
    clock.advance(timedelta(seconds=10))
    (hint,) = store.inbox.hints("d", 10)
    assert hint.body == b"a"
    store.inbox.put_off([hint.id], until=clock() + timedelta(seconds=5), problem="no answer")
    assert store.inbox.hints("d", 10) == []
    store.inbox.finish([hint.id])
    assert store.inbox.counts("d").waiting == 1


def test_what_another_process_has_done_stays_done(store: Store) -> None:
    """Emptied, it could not be read by whoever took it a moment before."""
    store.inbox.put([message("a")])
    (row,) = store.inbox.take("d", 10)
    store.inbox.finish([row.id])
    store.inbox.set_aside([row.id], until=EPOCH)
    store.inbox.put_off([row.id], until=EPOCH, problem="no answer")
    store.inbox.give_up([row.id], problem="no answer")
    assert store.inbox.counts("d") == InboxCounts(waiting=0, dead=0, oldest_at=None)
