"""What an ESP posts, worked off: nothing that comes twice, late, broken or in another order does harm."""

import errno
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest

from segue.connectors.emulator import PersonAct
from segue.connectors.faults import Fault, FaultKind
from segue.connectors.mailchimp.connector import Mailchimp
from segue.connectors.mailchimp.webhooks import MailchimpWebhooks
from segue.core.consent import ConsentState
from segue.core.errors import DestinationError, RejectedBatchError, StoreError
from segue.core.model import InboundEvent, RemoteContact
from segue.sync.inbound.fanout import fan_out
from segue.sync.inbound.observing import People
from segue.sync.jobs import Job, utc_now
from segue.sync.receiving import believe, follow_hints
from segue.sync.store.inbox import InboxCounts, Message

from ..shop import Shop

FIRST, SECOND = "c00000@shop.example", "second@shop.example"
FORM = "application/x-www-form-urlencoded"


@pytest.fixture(autouse=True)
def an_hour_ago(shop: Shop) -> None:
    """Begin in the past, so that the emulator's clock can go on without leaving ours behind."""
    shop.sandbox.emulator.clock.advance(timedelta(hours=-1))
    shop.stock(2)
    shop.run()


def now(shop: Shop) -> datetime:
    shop.sandbox.emulator.clock.advance(timedelta(minutes=1))
    moment: datetime = shop.sandbox.emulator.clock.now()
    return moment


def post(shop: Shop, kind: str, at: datetime | None = None, address: str = FIRST, **more: str) -> None:
    """Put what Mailchimp posts into the inbox; it happened just now, unless told otherwise."""
    at = at or datetime.now(UTC) + timedelta(seconds=1)
    said = {"type": kind, "fired_at": f"{at:%Y-%m-%d %H:%M:%S}", "data[email]": address}
    body = urlencode(said | {f"data[{name}]": value for name, value in more.items()}).encode()
    message = Message(destination="newsletter", name=body.decode(), content_type=FORM, body=body)
    with ExitStack() as stack:
        shop.job(stack).store.inbox.put([message])


def later() -> datetime:
    """Tell the time after hints have rested."""
    return utc_now() + timedelta(seconds=15)


def believed(job: Job, webhooks: MailchimpWebhooks | None = None) -> int:
    """Believe what waits, as the server does."""
    return believe(
        job.store,
        "newsletter",
        webhooks or MailchimpWebhooks(),
        people=job.people,
        destinations=list(job.project.destinations),
        clock=utc_now,
    )


def worked_off(shop: Shop) -> None:
    """Believe what waits, and follow the hints when they have rested."""
    with ExitStack() as stack:
        believed(shop.job(stack))
    with ExitStack() as stack:
        job = shop.job(stack)
        job.store.inbox._clock = later
        follow_hints(job, MailchimpWebhooks())


def counts(shop: Shop) -> tuple[int, int]:
    with ExitStack() as stack:
        found: InboxCounts = shop.job(stack).store.inbox.counts("newsletter")
        return found.waiting, found.dead


def state(job: Job, address: str = FIRST) -> ConsentState | None:
    key = job.store.keys.address_key(address)
    return job.store.destinations.states("newsletter", [key]).get(key)


def mailed(shop: Shop, address: str = FIRST) -> bool:
    return bool(shop.members()[address]["status"] == "subscribed")


def test_who_left_is_believed_without_a_request(shop: Shop) -> None:
    post(shop, "unsubscribe")
    with ExitStack() as stack:
        job = shop.job(stack)
        assert believed(job) == 1
        assert job.connector.transport.traffic().requests == 0
        assert state(job) is ConsentState.UNSUBSCRIBED
    assert counts(shop) == (0, 0)
    shop.customers["c00000"].email = SECOND
    shop.run()
    assert SECOND not in shop.members()


def test_a_bounce_belongs_to_the_address(shop: Shop) -> None:
    post(shop, "cleaned", reason="hard")
    worked_off(shop)
    with ExitStack() as stack:
        assert state(shop.job(stack)) is ConsentState.SUPPRESSED


def test_a_departure_that_comes_late_ends_no_return(shop: Shop) -> None:
    left_at = now(shop)
    shop.sandbox.emulator.act(PersonAct.UNSUBSCRIBE, address=FIRST)
    now(shop)
    shop.sandbox.emulator.act(PersonAct.SUBSCRIBE, address=FIRST)
    shop.run()
    post(shop, "unsubscribe", left_at)
    worked_off(shop)
    assert counts(shop) == (0, 0)
    shop.customers["c00000"].spent = 70.0
    shop.run()
    assert mailed(shop)
    assert shop.members()[FIRST]["merge_fields"]["SG_SPENT"] == 70


def test_a_sign_up_is_a_hint_and_no_yes(shop: Shop) -> None:
    shop.sandbox.emulator.act(PersonAct.UNSUBSCRIBE, address=FIRST)
    post(shop, "subscribe")
    worked_off(shop)
    with ExitStack() as stack:
        assert state(shop.job(stack)) is ConsentState.UNSUBSCRIBED


def test_who_signs_up_again_is_back_by_the_esps_own_time(shop: Shop) -> None:
    shop.sandbox.emulator.act(PersonAct.UNSUBSCRIBE, address=FIRST)
    shop.run()
    at = now(shop)
    shop.sandbox.emulator.act(PersonAct.SUBSCRIBE, address=FIRST)
    post(shop, "subscribe", at)
    worked_off(shop)
    with ExitStack() as stack:
        assert state(shop.job(stack)) is ConsentState.SUBSCRIBED
    assert shop.run().exit_code == 0
    assert mailed(shop)


def test_what_cannot_be_read_is_laid_aside_and_blocks_nothing(shop: Shop) -> None:
    post(shop, "unknown")
    post(shop, "unsubscribe")
    worked_off(shop)
    assert counts(shop) == (0, 1)
    with ExitStack() as stack:
        assert state(shop.job(stack)) is ConsentState.UNSUBSCRIBED


def test_while_the_account_does_not_answer_hints_wait_and_departures_do_not(shop: Shop) -> None:
    post(shop, "subscribe", address=SECOND)
    post(shop, "unsubscribe")
    shop.build()
    shop.sandbox.emulator.faults.arm([Fault(kind=FaultKind.UNAVAILABLE)] * 20)
    with pytest.raises(DestinationError):
        worked_off(shop)
    with ExitStack() as stack:
        assert state(shop.job(stack)) is ConsentState.UNSUBSCRIBED
    assert counts(shop) == (1, 0)


def test_a_hint_that_is_older_than_a_look_costs_no_request(shop: Shop) -> None:
    """The echo of our own write, above all: it comes before the write is settled, and rests until then."""
    post(shop, "subscribe", datetime.now(UTC) - timedelta(minutes=1))
    with ExitStack() as stack:
        job = shop.job(stack)
        believed(job)
        assert job.store.inbox.counts("newsletter").waiting == 0
        assert job.connector.transport.traffic().requests == 0


def test_a_hint_rests_before_it_is_followed(shop: Shop) -> None:
    post(shop, "subscribe")
    with ExitStack() as stack:
        job = shop.job(stack)
        believed(job)
        assert follow_hints(job, MailchimpWebhooks()).hints == 0
        job.store.inbox._clock = later
        assert follow_hints(job, MailchimpWebhooks()).hints == 1


def test_who_unsubscribed_and_bounced_did_both_in_whichever_order_it_comes(shop: Shop) -> None:
    post(shop, "cleaned", reason="hard")
    post(shop, "unsubscribe")
    worked_off(shop)
    with ExitStack() as stack:
        job = shop.job(stack)
        key = job.store.keys.address_key(FIRST)
        record = job.store.consents.records([key])[key]
        assert record.suppressed_at is not None
        assert record.withdrawn_at is not None


def test_before_the_first_build_a_departure_counts_by_its_address(shop: Shop) -> None:
    post(shop, "unsubscribe", address=SECOND)
    with ExitStack() as stack:
        job = shop.job(stack)
        job.people = People(None, job.store)
        believed(job)
        assert state(job, SECOND) is ConsentState.UNSUBSCRIBED
    shop.customers["c00000"].email = SECOND
    shop.run()
    assert SECOND not in shop.members()


def test_a_message_over_which_we_fall_keeps_no_other_one_waiting(shop: Shop) -> None:
    """None is known that does; a connector of somebody else's may let one through."""

    class Careless(MailchimpWebhooks):
        def read(self, body: bytes, content_type: str) -> Sequence[InboundEvent]:
            if b"second" in body:
                raise ZeroDivisionError
            return super().read(body, content_type)

    post(shop, "unsubscribe", address=SECOND)
    post(shop, "unsubscribe")
    with ExitStack() as stack:
        job = shop.job(stack)
        believed(job, Careless())
        assert state(job) is ConsentState.UNSUBSCRIBED
        assert job.store.inbox.counts("newsletter").waiting == 1
        assert believed(job, Careless()) == 0


def fanned_out(shop: Shop) -> int:
    with ExitStack() as stack:
        return len(shop.job(stack).store.outbox.urgent("newsletter", 10))


def in_two_places(shop: Shop) -> None:
    """Have the first contact mailed at two addresses of the account; another account is one more name."""
    shop.customers["c00000"].email = SECOND
    shop.sandbox.emulator.act(PersonAct.SUBSCRIBE, address=SECOND)
    shop.run()
    assert mailed(shop)
    assert mailed(shop, SECOND)


def test_who_left_is_opted_out_wherever_they_are_mailed(shop: Shop) -> None:
    in_two_places(shop)
    post(shop, "unsubscribe")
    worked_off(shop)
    assert fanned_out(shop) == 1
    with ExitStack() as stack:
        job = shop.job(stack)
        assert fan_out(job.store, ["newsletter"], job.people, {FIRST}) == {}
    shop.run()
    assert not mailed(shop, SECOND)


def test_what_could_not_be_told_to_the_others_is_told_when_it_can_be(shop: Shop) -> None:
    """What is done is never looked at again, so it is done last of all: also where a server is killed over it."""
    in_two_places(shop)
    post(shop, "unsubscribe")
    with ExitStack() as stack:
        job = shop.job(stack)
        with job.store._database.write() as connection:
            connection.exec_driver_sql("alter table outbox rename to hidden")
        believed(job)
        assert job.store.inbox.counts("newsletter").waiting == 1
        with job.store._database.write() as connection:
            connection.exec_driver_sql("alter table hidden rename to outbox")
        job.store.inbox._clock = later
        believed(job)
    assert fanned_out(shop) == 1


def test_who_came_back_before_their_departure_arrived_is_left_alone_elsewhere(shop: Shop) -> None:
    left_at = now(shop)
    in_two_places(shop)
    now(shop)
    shop.sandbox.emulator.act(PersonAct.UNSUBSCRIBE, address=FIRST)
    now(shop)
    shop.sandbox.emulator.act(PersonAct.SUBSCRIBE, address=FIRST)
    shop.run()
    post(shop, "unsubscribe", left_at)
    with ExitStack() as stack:
        believed(shop.job(stack))
    assert fanned_out(shop) == 0
    worked_off(shop)
    assert counts(shop) == (0, 0)


def test_who_leaves_again_unseen_in_between_has_left_since(shop: Shop) -> None:
    """They came back, and nobody looked: a yes from before must not outweigh what they said after it."""
    post(shop, "unsubscribe")
    worked_off(shop)
    later_on = datetime.now(UTC) + timedelta(minutes=5)
    post(shop, "unsubscribe", later_on)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(believed.__globals__, "utc_now", lambda: later_on)
        worked_off(shop)
    with ExitStack() as stack:
        job = shop.job(stack)
        key = job.store.keys.address_key(FIRST)
        record = job.store.consents.records([key])[key]
        assert record.withdrawn_at == later_on.replace(microsecond=0)


def test_a_disk_that_is_full_is_no_messages_fault(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    post(shop, "unsubscribe")

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    with ExitStack() as stack:
        job = shop.job(stack)
        with monkeypatch.context() as patch:
            patch.setattr("segue.sync.receiving.observe", full)
            with pytest.raises(StoreError, match="no space"):
                believed(job)
        (row,) = job.store.inbox.take("newsletter", 10)
        assert row.attempts == 0
        assert believed(job) == 1


def test_a_hint_that_the_account_refuses_keeps_no_other_one_waiting(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    for address in (FIRST, "c00001@shop.example"):
        post(shop, "subscribe", address=address)
    read = Mailchimp.read

    def refused(self: Mailchimp, addresses: Sequence[str]) -> list[RemoteContact | None]:
        if FIRST in addresses:
            raise RejectedBatchError("an address that it does not like", code="400")
        return read(self, addresses)

    monkeypatch.setattr(Mailchimp, "read", refused)
    worked_off(shop)
    assert counts(shop) == (1, 0)


def test_who_moved_is_looked_for_by_a_pull_at_once(shop: Shop) -> None:
    at = datetime.now(UTC) + timedelta(seconds=1)
    said = {"type": "upemail", "fired_at": f"{at:%Y-%m-%d %H:%M:%S}"}
    body = urlencode(said | {"data[old_email]": FIRST, "data[new_email]": SECOND}).encode()
    with ExitStack() as stack:
        job = shop.job(stack)
        job.store.inbox.put([Message(destination="newsletter", name="m", content_type=FORM, body=body)])
        believed(job)
        job.store.inbox._clock = later
        assert follow_hints(job, MailchimpWebhooks()).moved
