"""What an ESP posts, worked off: nothing that comes twice, late, broken or in another order does harm."""

from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import pytest

from segue.connectors.emulator import PersonAct
from segue.connectors.faults import Fault, FaultKind
from segue.connectors.mailchimp.webhooks import MailchimpWebhooks
from segue.core.consent import ConsentState
from segue.sync.fanout import fan_out
from segue.sync.jobs import Job
from segue.sync.receiving import work_off
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
    return shop.sandbox.emulator.clock.now()


def post(shop: Shop, kind: str, at: datetime | None = None, address: str = FIRST, **more: str) -> None:
    """Put what Mailchimp posts into the inbox; it happened just now, unless told otherwise."""
    at = at or datetime.now(UTC) + timedelta(seconds=1)
    said = {"type": kind, "fired_at": f"{at:%Y-%m-%d %H:%M:%S}", "data[email]": address}
    body = urlencode(said | {f"data[{name}]": value for name, value in more.items()}).encode()
    message = Message(destination="newsletter", name=body.decode(), content_type=FORM, body=body, signed=True)
    with ExitStack() as stack:
        shop.job(stack).store.inbox.put([message])


def worked_off(shop: Shop) -> set[str]:
    with ExitStack() as stack:
        return work_off(shop.job(stack), MailchimpWebhooks())


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
        assert work_off(job, MailchimpWebhooks()) == {FIRST}
        assert job.connector.transport.traffic().requests == 0
        assert state(job) is ConsentState.UNSUBSCRIBED
    assert counts(shop) == (0, 0)
    shop.customers["c00000"].email = SECOND
    shop.run()
    assert SECOND not in shop.members()


def test_a_bounce_belongs_to_the_address(shop: Shop) -> None:
    post(shop, "cleaned", reason="hard")
    assert worked_off(shop) == {FIRST}
    with ExitStack() as stack:
        assert state(shop.job(stack)) is ConsentState.SUPPRESSED


def test_a_departure_that_comes_late_ends_no_return(shop: Shop) -> None:
    left_at = now(shop)
    shop.sandbox.emulator.act(PersonAct.UNSUBSCRIBE, address=FIRST)
    now(shop)
    shop.sandbox.emulator.act(PersonAct.SUBSCRIBE, address=FIRST)
    shop.run()
    post(shop, "unsubscribe", left_at)
    assert worked_off(shop) == {FIRST}
    shop.customers["c00000"].spent = 70.0
    shop.run()
    assert mailed(shop)
    assert shop.members()[FIRST]["merge_fields"]["SG_SPENT"] == 70


def test_a_sign_up_is_a_hint_and_no_yes(shop: Shop) -> None:
    shop.sandbox.emulator.act(PersonAct.UNSUBSCRIBE, address=FIRST)
    post(shop, "subscribe", now(shop))
    assert worked_off(shop) == {FIRST}
    with ExitStack() as stack:
        assert state(shop.job(stack)) is ConsentState.UNSUBSCRIBED


def test_who_signs_up_again_is_back_by_the_esps_own_time(shop: Shop) -> None:
    shop.sandbox.emulator.act(PersonAct.UNSUBSCRIBE, address=FIRST)
    shop.run()
    at = now(shop)
    shop.sandbox.emulator.act(PersonAct.SUBSCRIBE, address=FIRST)
    post(shop, "subscribe", at)
    assert worked_off(shop) == set()
    with ExitStack() as stack:
        assert state(shop.job(stack)) is ConsentState.SUBSCRIBED
    assert shop.run().exit_code == 0
    assert mailed(shop)


def test_what_cannot_be_read_is_laid_aside_and_blocks_nothing(shop: Shop) -> None:
    post(shop, "unknown")
    post(shop, "unsubscribe")
    assert worked_off(shop) == {FIRST}
    assert counts(shop) == (0, 1)


def test_while_the_account_does_not_answer_hints_wait_and_departures_do_not(shop: Shop) -> None:
    post(shop, "subscribe", address=SECOND)
    post(shop, "unsubscribe")
    shop.sandbox.emulator.faults.arm([Fault(kind=FaultKind.UNAVAILABLE)])
    assert worked_off(shop) == {FIRST}
    assert counts(shop) == (1, 0)


def test_who_left_is_opted_out_wherever_they_are_mailed(shop: Shop) -> None:
    """Here their other address at the same account; another account is one more name."""
    shop.customers["c00000"].email = SECOND
    shop.sandbox.emulator.act(PersonAct.SUBSCRIBE, address=SECOND)
    shop.run()
    assert mailed(shop)
    assert mailed(shop, SECOND)
    post(shop, "unsubscribe")
    with ExitStack() as stack:
        job = shop.job(stack)
        left = work_off(job, MailchimpWebhooks())
        assert fan_out(job.store, ["newsletter"], job.people, left) == {"newsletter": 1}
        assert fan_out(job.store, ["newsletter"], job.people, left) == {}
    shop.run()
    assert not mailed(shop, SECOND)
