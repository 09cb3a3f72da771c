"""An ESP that works things off later: jobs whose handles outlive a kill, one job a contact, opt-outs that hardly wait.

Seen at Klaviyo, whose clock these tests hold still where a job is to stay at work.
"""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from segue.connectors.emulator import PersonAct
from segue.connectors.klaviyo.connector import Klaviyo
from segue.connectors.klaviyo.testing import Sandbox
from segue.core.config import load_project
from segue.core.consent import ConsentAct, ConsentEntry, ConsentState
from segue.core.errors import AuthenticationError, DestinationError, RetryableError
from segue.core.model import Operation
from segue.sync.delivery import doubt
from segue.sync.delivery.polling import Polling
from segue.sync.jobs import utc_now
from segue.sync.rights import erasure
from segue.sync.rights.whom import whom
from segue.sync.store.consents import LedgerEntry
from segue.sync.store.store import Store

from ..shop import Customer, Shop
from .test_meanwhile import ADDRESS, left_elsewhere

SEGUE = Path(sys.executable).with_name("segue")
IMPORT = "POST /api/profile-bulk-import-jobs"
SUBSCRIBE = "POST /api/profile-subscription-bulk-create-jobs"


@pytest.fixture
def shop(klaviyo: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    klaviyo.settings(limits=False, consent_seconds=0.05, job_seconds=0.05)
    monkeypatch.setenv("SANDBOX_KEY", klaviyo.key)
    yield Shop(tmp_path, klaviyo, "sqlite")
    assert klaviyo.emulator.raises == []


def imports(shop: Shop) -> int:
    return int(shop.sandbox.emulator.traffic.by_endpoint[IMPORT])


def wait_for(condition: Any) -> None:
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until, "it never happened"
        time.sleep(0.02)


def killed_in_a_job(shop: Shop) -> None:
    """Run, and kill the run while its import is at work; the job ends whenever its clock allows."""
    shop.build()
    shop.sandbox.settings(job_seconds=3600.0)
    before = imports(shop)
    command = [str(SEGUE), "run", "--no-build", "--json", "--project", str(shop.folder)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            wait_for(lambda: imports(shop) > before and in_jobs(shop))
        finally:
            process.kill()


def in_jobs(shop: Shop) -> list[str]:
    """The jobs that the store knows as open."""
    with Store.of(load_project(shop.folder)) as store, store._database.read() as connection:
        rows = connection.exec_driver_sql("select distinct job from outbox where job is not null")
        return [job for (job,) in rows]


def test_after_a_kill_the_same_job_is_asked_and_nothing_is_sent_twice(shop: Shop) -> None:
    shop.stock(30, spent=150.0)
    killed_in_a_job(shop)
    assert imports(shop) == 1
    shop.sandbox.emulator.clock.advance(timedelta(hours=2))
    report = shop.run()
    assert (report.exit_code, imports(shop)) == (0, 1)
    assert {person.tags for person in shop.people().values()} == {frozenset({"segue: big"})}
    assert in_jobs(shop) == []
    assert shop.run().writes == 0


def test_while_a_job_of_an_earlier_run_is_at_work_nothing_but_opt_outs_is_sent(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.stock(30, spent=150.0)
    killed_in_a_job(shop)
    monkeypatch.setattr(doubt, "_PATIENCE", 0.2)
    shop.customers["c00000"].consents += [("withdrawal", 1, "")]
    shop.customers["c00001"].spent = 20.0
    with pytest.raises(RetryableError, match="still at work on 1 jobs"):
        shop.run()
    assert imports(shop) == 1
    assert shop.people()[ADDRESS].state is ConsentState.UNSUBSCRIBED
    shop.sandbox.emulator.clock.advance(timedelta(hours=2))
    assert shop.run().exit_code == 0
    assert shop.people()["c00001@shop.example"].tags == {"segue: small"}


def test_a_job_that_takes_too_long_ends_the_run_and_the_next_one_asks_on(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.stock(30, spent=150.0)
    shop.sandbox.settings(job_seconds=3600.0)
    monkeypatch.setattr(Polling.ended, "__kwdefaults__", {"within": 0.2})
    with pytest.raises(DestinationError, match="still at work on it"):
        shop.run()
    assert len(in_jobs(shop)) == 1
    shop.sandbox.emulator.clock.advance(timedelta(hours=2))
    shop.sandbox.settings(job_seconds=0.05)
    assert shop.run().exit_code == 0
    assert imports(shop) == 1
    assert {person.tags for person in shop.people().values()} == {frozenset({"segue: big"})}


def test_what_a_job_refused_while_nobody_listened_is_kept_as_refused(shop: Shop) -> None:
    shop.stock(30, spent=150.0)
    killed_in_a_job(shop)
    shop.sandbox.emulator.act(PersonAct.ERASE, address=ADDRESS)
    shop.sandbox.emulator.clock.advance(timedelta(hours=2))
    shop.run()
    with Store.of(load_project(shop.folder)) as store:
        (refused,) = store.settlements.rejections("newsletter", 10)
    assert refused.code == "vanished"
    assert ADDRESS not in shop.people()


def test_an_opt_out_overtakes_a_job_that_is_at_work(shop: Shop) -> None:
    """It is put in by another process while the run waits, as a webhook's would be."""
    shop.stock(30, spent=150.0)
    shop.run()
    for customer in shop.customers.values():
        customer.spent = 20.0
    shop.build()
    shop.sandbox.settings(job_seconds=3600.0)
    reports: list[Any] = []
    thread = threading.Thread(target=lambda: reports.append(shop.run(rebuild=False)))
    before = imports(shop)
    thread.start()
    wait_for(lambda: imports(shop) > before)
    with ExitStack() as stack:
        left_elsewhere(shop.job(stack))
    wait_for(lambda: shop.people()[ADDRESS].state is ConsentState.UNSUBSCRIBED)
    assert thread.is_alive()
    shop.sandbox.settings(job_seconds=0.05)
    thread.join(60)
    assert reports[0].exit_code == 0
    assert shop.people()["c00001@shop.example"].tags == {"segue: small"}


def test_a_run_that_its_account_refuses_waits_for_no_job(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.stock(30, spent=150.0)
    shop.run()
    for customer in shop.customers.values():
        customer.spent = 20.0
    shop.build()
    shop.sandbox.settings(job_seconds=3600.0)
    write = Klaviyo.write

    def refused(connector: Klaviyo, operation: Operation, changes: Any) -> Any:
        if operation is Operation.OPT_OUT:
            raise AuthenticationError("planted")
        return write(connector, operation, changes)

    monkeypatch.setattr(Klaviyo, "write", refused)
    raised: list[BaseException] = []

    def run() -> None:
        with pytest.raises(AuthenticationError, match="planted") as error:
            shop.run(rebuild=False)
        raised.append(error.value)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    wait_for(lambda: in_jobs(shop))
    with ExitStack() as stack:
        left_elsewhere(shop.job(stack))
    thread.join(60)
    assert raised
    assert len(in_jobs(shop)) == 1


def test_the_plan_states_every_request_that_is_sent(shop: Shop) -> None:
    """What is pulled and the check aside; a job that takes longer than its first question is asked again."""
    shop.stock(230, spent=150.0)
    report = shop.run()
    assert report.plan is not None
    assert (report.plan.requests, report.plan.reads) == (
        {"create": 1, "update": 1},
        {"create": 6, "jobs": 1},
    )
    assert report.writes == report.plan.writes
    assert report.reads - sum(report.plan.reads.values()) == 2  # the account, and its first empty page
    shop.customers["c00000"].email = "new@shop.example"
    shop.customers["c00001"].consents += [("withdrawal", 1, "")]
    for number in range(2, 7):
        shop.customers[f"c{number:05}"].spent = 20.0
    later = shop.run()
    assert later.plan is not None
    assert later.plan.requests == {"opt_out": 1, "update": 5, "readdress": 1, "untag": 5}
    assert later.plan.reads == {"opt_out": 2, "readdress": 3}
    assert later.writes == later.plan.writes
    assert later.reads - sum(later.plan.reads.values()) == 4  # the account, and three pages of changes


def test_more_than_a_request_holds_goes_in_as_few_as_can_be(shop: Shop) -> None:
    shop.stock(5_000, last_name="x" * 990, spent=150.0)
    report = shop.run()
    assert report.plan is not None
    assert report.plan.requests["update"] == 2
    assert (report.exit_code, imports(shop)) == (0, 2)
    assert len(shop.people()) == 5_000


def test_the_handle_of_a_job_is_stored_before_it_is_asked(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    poll, known = Klaviyo.poll, []

    def watched(connector: Klaviyo, job: str, changes: Any) -> Any:
        if job:
            known.append(in_jobs(shop) == [job])
        return poll(connector, job, changes)

    monkeypatch.setattr(Klaviyo, "poll", watched)
    shop.stock(30)
    shop.run()
    assert known
    assert all(known)


def test_who_is_erased_some_time_after_it_was_asked_is_waited_for_and_proved_gone(shop: Shop) -> None:
    shop.sandbox.settings(async_seconds=0.3)
    shop.stock(2)
    shop.run()
    project = load_project(shop.folder)
    with Store.of(project) as store:
        done = erasure.erase(project, store, whom(project, store, ADDRESS), who="the officer")
    assert done.finished_at is not None
    (answer,) = done.receipt["steps"]["newsletter"]["answers"]
    assert answer == {"was_there": True, "answer": "202", "is_gone": True}
    assert ADDRESS not in shop.people()


def test_what_a_cancelled_job_gives_back_goes_before_the_move_of_its_contacts(shop: Shop) -> None:
    shop.stock(12, segments=["big", "small"])
    shop.run()
    for customer in shop.customers.values():
        customer.segments, customer.email = [], f"new-{customer.contact_id}@shop.example"
    write, taken = Klaviyo.write, list[str]()

    def cancelled_once(self: Klaviyo, operation: Operation, changes: Any) -> Any:
        untags = operation is Operation.UNTAG
        taken.append(operation.value)
        cancels = untags and taken.count("untag") == 2
        self.transport.patience = replace(self.transport.patience, first_wait=1.5 if cancels else 0.02)
        shop.sandbox.settings(cancel_jobs=cancels, job_seconds=1.5 if cancels else 0.05)
        return write(self, operation, changes)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Klaviyo, "write", cancelled_once)
        shop.run()
    assert taken.index("readdress") > len(taken) - 1 - taken[::-1].index("untag")
    shop.run()
    assert {person.tags for person in shop.people().values()} == {frozenset()}


def test_an_opt_out_that_the_plan_alone_knows_is_sent_while_a_job_is_at_work(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody who left, and was never at the ESP, has the address of a member now."""
    shop.stock(30, spent=150.0)
    shop.customers["leaver"] = Customer("leaver", consents=[])
    shop.sandbox.settings(job_seconds=3600.0)
    monkeypatch.setattr(Polling.ended, "__kwdefaults__", {"within": 0.2})
    monkeypatch.setattr(doubt, "_PATIENCE", 0.2)
    with pytest.raises(DestinationError):
        shop.run()
    with ExitStack() as stack:
        store = shop.job(stack).store
        entry = ConsentEntry(act=ConsentAct.WITHDRAWAL, occurred_at=utc_now(), source="by hand", evidence={})
        key = store.keys.contact_key("leaver")
        store.consents.append(
            [LedgerEntry(subject_key=key, subject_kind="contact", entry=entry)], run_id=None
        )
    shop.customers["leaver"].email = shop.customers.pop("c00000").address
    with pytest.raises(RetryableError, match="still at work"):
        shop.run()
    assert shop.people()[ADDRESS].state is ConsentState.UNSUBSCRIBED


def test_whoever_is_made_and_whoever_is_updated_are_planned_in_requests_of_their_own(shop: Shop) -> None:
    shop.stock(8)
    shop.run()
    for customer in shop.customers.values():
        customer.spent = 20.0
    shop.stock(8)
    report = shop.run()
    assert report.plan is not None
    assert report.plan.writes == report.writes == 1 + 8 + 8
