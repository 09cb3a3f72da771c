"""An ESP that makes people without a job that could be asked: sent again, they could be mailable after they left.

Seen at Klaviyo, which takes a subscription, works it off later, and shows nobody until then.
"""

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from segue.connectors.emulator import PersonAct
from segue.connectors.faults import Fault, FaultKind
from segue.connectors.klaviyo.testing import Sandbox
from segue.core.config import load_project
from segue.core.consent import ConsentState
from segue.sync.delivery import polling
from segue.sync.delivery.polling import Polling
from segue.sync.rights import erasure
from segue.sync.rights.whom import whom
from segue.sync.store.erasures import Subject
from segue.sync.store.store import Store

from ..shop import Shop
from .test_meanwhile import ADDRESS, left_elsewhere

SUBSCRIBE = "POST /api/profile-subscription-bulk-create-jobs"


@pytest.fixture
def shop(klaviyo: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    klaviyo.settings(limits=False, consent_seconds=0.05)
    monkeypatch.setenv("SANDBOX_KEY", klaviyo.key)
    yield Shop(tmp_path, klaviyo, "sqlite")
    assert klaviyo.emulator.raises == []


def accepted_and_not_shown(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run while Klaviyo takes an hour to subscribe anybody."""
    shop.sandbox.settings(consent_seconds=3600.0)
    monkeypatch.setattr(polling, "_PATIENCE_READING", 2.5)
    shop.run()
    assert ADDRESS not in shop.people()


def subscriptions(shop: Shop) -> int:
    return int(shop.sandbox.emulator.traffic.by_endpoint[SUBSCRIBE])


def test_who_was_accepted_is_not_sent_again_and_who_leaves_meanwhile_stays_out(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.stock(2)
    accepted_and_not_shown(shop, monkeypatch)
    shop.run()  # as after a kill: another run
    assert subscriptions(shop) == 1
    shop.sandbox.emulator.clock.advance(timedelta(hours=1, minutes=1))
    shop.sandbox.emulator.act(PersonAct.UNSUBSCRIBE, audience="", address=ADDRESS)
    shop.sandbox.emulator.clock.advance(timedelta(minutes=1))
    assert shop.run().exit_code == 0
    states = {address: person.state for address, person in shop.people().items()}
    assert states == {ADDRESS: ConsentState.UNSUBSCRIBED, "c00001@shop.example": ConsentState.SUBSCRIBED}
    assert subscriptions(shop) == 1
    assert shop.run().writes == 0


def test_who_was_accepted_and_never_shown_is_sent_again_after_hours(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.stock(1)
    accepted_and_not_shown(shop, monkeypatch)
    shop.sandbox.settings(consent_seconds=0.05)
    monkeypatch.setattr(polling, "_LOST_AFTER", timedelta())
    monkeypatch.setattr(polling, "_PATIENCE_READING", 100.0)
    assert shop.run().exit_code == 0
    assert subscriptions(shop) == 2
    assert shop.people()[ADDRESS].state is ConsentState.SUBSCRIBED


def test_an_opt_out_waits_for_whom_the_esp_is_just_making(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.stock(1)
    accepted_and_not_shown(shop, monkeypatch)
    with ExitStack() as stack:
        left_elsewhere(shop.job(stack))
    shop.run(rebuild=False)
    shop.sandbox.settings(consent_seconds=0.05)
    shop.sandbox.emulator.clock.advance(timedelta(hours=1, minutes=1))
    shop.run(rebuild=False)
    assert shop.people()[ADDRESS].state is ConsentState.UNSUBSCRIBED


def test_nobody_is_proved_gone_whom_the_esp_is_just_making(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.stock(1)
    accepted_and_not_shown(shop, monkeypatch)
    project = load_project(shop.folder)
    with Store.of(project) as store:
        begun = erasure.erase(project, store, whom(project, store, ADDRESS), who="the officer")
        assert begun.finished_at is None


@pytest.mark.parametrize("kind", [FaultKind.LOST_ANSWER, FaultKind.GATEWAY, FaultKind.TRUNCATED])
def test_who_may_have_been_accepted_is_not_sent_again_because_the_answer_was_lost(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, kind: FaultKind
) -> None:
    shop.stock(1)
    shop.sandbox.emulator.faults.arm([Fault(kind=kind, count=1, method="POST", path="subscription")])
    accepted_and_not_shown(shop, monkeypatch)
    sent = subscriptions(shop)
    shop.run()
    assert subscriptions(shop) == sent == 1
    shop.sandbox.emulator.clock.advance(timedelta(hours=1, minutes=1))
    assert shop.run().exit_code == 0
    assert shop.people()[ADDRESS].fields["sg_spent"] == 50
    assert subscriptions(shop) == 1


def test_who_leaves_while_their_lost_answer_is_looked_into_stays_out(shop: Shop) -> None:
    shop.stock(1)
    shop.sandbox.settings(consent_seconds=1.0)
    shop.sandbox.emulator.faults.arm([Fault(kind=FaultKind.LOST_ANSWER, method="POST", path="subscription")])

    def leave_at_once() -> None:
        while ADDRESS not in shop.people():
            pass
        shop.sandbox.emulator.act(PersonAct.UNSUBSCRIBE, audience="", address=ADDRESS)

    leaving = threading.Thread(target=leave_at_once)
    leaving.start()
    shop.run()
    leaving.join()
    shop.run()
    assert subscriptions(shop) == 1
    assert shop.people()[ADDRESS].state is ConsentState.UNSUBSCRIBED


def test_a_run_that_is_killed_before_it_hears_the_answer_sends_nobody_twice(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def killed(*_: object) -> Any:
        raise Killed

    shop.stock(1)
    shop.sandbox.settings(consent_seconds=3600.0)
    with monkeypatch.context() as patched:
        patched.setattr(Polling, "note", killed)
        with pytest.raises(Killed):
            shop.run()
    monkeypatch.setattr(polling, "_PATIENCE_READING", 2.5)
    shop.run()
    assert subscriptions(shop) == 1


def test_an_opt_out_waits_for_whom_a_request_without_an_answer_may_make(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.stock(1)
    shop.sandbox.emulator.faults.arm([Fault(kind=FaultKind.LOST_ANSWER, method="POST", path="subscription")])
    accepted_and_not_shown(shop, monkeypatch)
    with ExitStack() as stack:
        left_elsewhere(shop.job(stack))
    shop.run(rebuild=False)
    shop.sandbox.emulator.clock.advance(timedelta(hours=1, minutes=1))
    shop.run(rebuild=False)
    assert shop.people()[ADDRESS].state is ConsentState.UNSUBSCRIBED


def test_nobody_is_proved_gone_of_whose_addresses_the_esp_is_just_making_one(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.stock(1)
    shop.run()
    shop.stock(1)
    shop.sandbox.settings(consent_seconds=3600.0)
    monkeypatch.setattr(polling, "_PATIENCE_READING", 2.5)
    shop.run()
    both = Subject(contact_ids=("c00000", "c00001"), addresses=(ADDRESS, "c00001@shop.example"), former=())
    project = load_project(shop.folder)
    with Store.of(project) as store:
        assert erasure.erase(project, store, both, who="the officer").finished_at is None


def test_one_address_that_is_refused_leaves_the_requests_of_all_others_large(shop: Shop) -> None:
    shop.stock(200)
    shop.customers["c00003"].email = "o'neil(x)@shop.example"
    shop.run()
    assert len(shop.people()) == 199
    assert subscriptions(shop) <= 3
