"""Who leaves while a write is under way, or while another is asked for, leaves: whatever was decided a moment before."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from segue.connectors.faults import Fault, FaultKind
from segue.connectors.mailchimp.connector import Mailchimp
from segue.core.consent import ConsentAct, ConsentEntry
from segue.sync import jobs
from segue.sync.inbound.fanout import fan_out
from segue.sync.jobs import Job, utc_now
from segue.sync.opting_out import send_opt_outs
from segue.sync.store.consents import LedgerEntry

from ..shop import Shop

ADDRESS = "c00000@shop.example"
CREATES = r"lists/[^/]+$"


def left_elsewhere(job: Job) -> None:
    """Have the first contact leave at another account: the ledger knows, and all destinations are told."""
    entry = ConsentEntry(
        act=ConsentAct.WITHDRAWAL, occurred_at=utc_now(), source="seen at second", evidence={}
    )
    key = job.store.keys.address_key(ADDRESS)
    job.store.consents.append(
        [LedgerEntry(subject_key=key, subject_kind="address", entry=entry)], run_id=None
    )
    fan_out(job.store, ["newsletter"], job.people, [ADDRESS])


@contextmanager
def once_at(shop: Shop, name: str, *, before: bool) -> Iterator[None]:
    """Have the first contact leave elsewhere when the connector is first asked to do something, or has just done it."""
    whole, left = getattr(Mailchimp, name), False

    def asked(self: Mailchimp, *given: Any, **more: Any) -> Any:
        nonlocal left
        answer = None if before and not left else whole(self, *given, **more)
        if not left:
            left = True
            with ExitStack() as stack:
                left_elsewhere(shop.job(stack))
            if before:
                answer = whole(self, *given, **more)
        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Mailchimp, name, asked)
        yield


@pytest.fixture(autouse=True)
def nobody_raised(shop: Shop) -> Iterator[None]:
    yield
    assert shop.audience()["raises"] == []


def mailed(shop: Shop) -> Sequence[str]:
    return [address for address, member in shop.members().items() if member["status"] == "subscribed"]


@pytest.mark.parametrize("before", [True, False])
def test_who_leaves_while_they_are_being_made_is_out_by_the_same_run(shop: Shop, before: bool) -> None:
    """The gate said yes; nothing shows them there yet, and no later plan is needed to find out."""
    shop.stock(2)
    with once_at(shop, "write", before=before):
        shop.run()
    assert mailed(shop) == ["c00001@shop.example"]


def test_who_leaves_while_an_earlier_try_is_asked_for_is_not_made(shop: Shop) -> None:
    shop.stock(2)
    shop.sandbox.emulator.faults.arm(
        [Fault(kind=FaultKind.UNAVAILABLE, count=1, method="POST", path=CREATES)]
    )
    with once_at(shop, "read", before=True):
        shop.run()
    assert list(shop.members()) == ["c00001@shop.example"]


def test_who_was_made_unheard_of_and_has_left_elsewhere_is_out_by_the_next_look(shop: Shop) -> None:
    """No run, no plan: the look that finds them there tells of it."""
    shop.stock(1)
    shop.sandbox.emulator.faults.arm(
        [Fault(kind=FaultKind.LOST_ANSWER, count=1, method="POST", path=CREATES)]
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("segue.sync.delivery.meaning._ATTEMPTS", 1)
        shop.run()
    assert mailed(shop) == [ADDRESS]
    with ExitStack() as stack:
        job = shop.job(stack)
        entry = ConsentEntry(
            act=ConsentAct.WITHDRAWAL, occurred_at=utc_now(), source="seen at second", evidence={}
        )
        key = job.store.keys.contact_key("c00000")
        job.store.consents.append(
            [LedgerEntry(subject_key=key, subject_kind="contact", entry=entry)], run_id=None
        )
        jobs.pull(job, lambda *_: None)
        send_opt_outs(job)
    assert mailed(shop) == []
