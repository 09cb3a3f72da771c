"""Several batches under way at once: who waits for whom, what a failing account costs, what a bad item blocks."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import pytest

from segue.connectors.faults import Fault, FaultKind
from segue.connectors.mailchimp.connector import Mailchimp
from segue.core.consent import ConsentAct, ConsentEntry
from segue.core.errors import AuthenticationError, ConsentError, RetryableError
from segue.core.model import Change, Operation, Outcome, OutcomeStatus
from segue.sync.delivery import apply
from segue.sync.jobs import utc_now
from segue.sync.store.consents import LedgerEntry
from segue.sync.store.store import Store

from ...shop import Shop

Write = Callable[[Mailchimp, Operation, Sequence[Change]], list[Outcome]]


@pytest.fixture(autouse=True)
def small_batches(shop: Shop) -> None:
    shop.batch_size = 10


@pytest.fixture
def before_write(
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[Callable[[Operation, Sequence[Change]], Any]], None]:
    """Do something whenever a batch is about to leave."""

    def install(act: Callable[[Operation, Sequence[Change]], Any]) -> None:
        write = Mailchimp.write

        def watched(self: Mailchimp, operation: Operation, changes: Sequence[Change]) -> list[Outcome]:
            act(operation, changes)
            return write(self, operation, changes)

        monkeypatch.setattr(Mailchimp, "write", watched)

    return install


def posts(shop: Shop) -> int:
    return int(shop.sandbox.emulator.traffic.by_endpoint["POST /3.0/lists/{list_id}"])


def test_as_many_batches_are_under_way_as_the_account_allows(shop: Shop) -> None:
    shop.sandbox.settings(latency=0.3)
    shop.stock(200)
    report = shop.run()
    assert report.tally.count(OutcomeStatus.APPLIED) == 200
    assert posts(shop) == 20
    assert 4 < shop.sandbox.emulator.traffic.peak_in_flight <= 9


def test_the_first_batch_goes_alone_so_that_a_lost_right_shows_once(
    shop: Shop, before_write: Callable[[Any], None]
) -> None:
    shop.stock(100)
    sent: list[Operation] = []

    def act(operation: Operation, _: Sequence[Change]) -> None:
        sent.append(operation)
        raise AuthenticationError("planted")

    before_write(act)
    with pytest.raises(AuthenticationError, match="planted"):
        shop.run()
    assert sent == [Operation.CREATE]


def leave(store: Store, contact_key: int, address: str) -> None:
    """Let a contact leave as a webhook's process hears of it: the ledger first, then the outbox."""
    left = ConsentEntry(
        act=ConsentAct.WITHDRAWAL, occurred_at=utc_now(), source="seen elsewhere", evidence={}
    )
    entry = LedgerEntry(subject_key=contact_key, subject_kind="contact", entry=left)
    store.consents.append([entry], run_id=None)
    store.outbox.urge("newsletter", [(contact_key, address, store.keys.address_key(address))])


def test_an_opt_out_put_in_by_another_process_goes_next(
    shop: Shop, before_write: Callable[[Any], None]
) -> None:
    shop.stock(200)
    shop.run()
    for customer in shop.customers.values():
        customer.spent = 60.0
    order: list[Operation] = []

    def act(operation: Operation, changes: Sequence[Change]) -> None:
        if not order:  # a webhook's process hears of somebody while the first batch leaves
            with ExitStack() as stack:
                store: Store = shop.job(stack).store
                leave(store, store.keys.contact_key("c00199"), "c00199@shop.example")
        order.append(operation)

    before_write(act)
    shop.run()
    assert order.index(Operation.OPT_OUT) < 12
    assert len(order) == 21
    assert shop.members()["c00199@shop.example"]["status"] == "unsubscribed"


def test_an_opt_out_does_not_overtake_the_create_that_it_undoes(
    shop: Shop, before_write: Callable[[Any], None]
) -> None:
    """Arriving first it would find nobody, and the create would have the last word."""
    shop.stock(30)
    urged: list[bool] = []

    def act(operation: Operation, changes: Sequence[Change]) -> None:
        one = changes[0]
        if operation is Operation.CREATE and not urged:
            urged.append(True)
            with ExitStack() as stack:
                leave(shop.job(stack).store, one.contact_key, one.address)

    before_write(act)
    shop.run()
    members = shop.members().values()
    assert sum(member["status"] == "unsubscribed" for member in members) == 1


def test_an_item_that_the_esp_falls_over_blocks_nobody_else(
    shop: Shop, before_write: Callable[[Any], None]
) -> None:
    shop.stock(100)
    shop.run()
    for customer in shop.customers.values():
        customer.spent = 60.0

    def act(operation: Operation, changes: Sequence[Change]) -> None:
        if any(change.address == "c00050@shop.example" for change in changes):
            raise RetryableError("Mailchimp: 500.")

    before_write(act)
    report = shop.run()
    assert report.tally.count(OutcomeStatus.APPLIED) == 99
    assert report.waiting == 1
    assert report.exit_code == 1


def test_an_account_that_is_down_ends_the_run_and_loses_nothing(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, before_write: Callable[[Any], None]
) -> None:
    shop.stock(40)
    shop.run()
    for customer in shop.customers.values():
        customer.spent = 60.0
    monkeypatch.setattr(apply, "_PATIENCE", 0.5)

    down = [True]

    def act(operation: Operation, changes: Sequence[Change]) -> None:
        if down:
            raise RetryableError("Mailchimp: 503.")

    before_write(act)
    with pytest.raises(RetryableError):
        shop.run()
    down.clear()
    assert shop.run().tally.count(OutcomeStatus.APPLIED) == 40


def test_a_mistake_of_ours_is_louder_than_anything_else(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.stock(20)

    def refuse(*_: Any) -> None:
        raise ConsentError("planted")

    monkeypatch.setattr("segue.sync.delivery.courier.certify", refuse)
    with pytest.raises(ConsentError, match="planted"):
        shop.run()
    assert shop.members() == {}


def test_a_throttled_create_is_gated_anew_and_costs_no_attempt(shop: Shop) -> None:
    shop.stock(10)
    throttled = Fault(
        kind=FaultKind.THROTTLED, count=6, method="POST", path=f"lists/{shop.sandbox.audience}$"
    )
    shop.sandbox.emulator.faults.arm([throttled])
    report = shop.run()
    assert report.exit_code == 0
    assert len(shop.members()) == 10
    assert posts(shop) == 7


def test_who_leaves_while_a_create_is_put_off_is_not_created(
    shop: Shop, before_write: Callable[[Any], None]
) -> None:
    shop.stock(10)
    tried: list[int] = []

    def act(_: Operation, changes: Sequence[Change]) -> None:
        tried.append(len(changes))
        if len(tried) == 1:
            left = ConsentEntry(
                act=ConsentAct.WITHDRAWAL, occurred_at=utc_now(), source="preference page", evidence={}
            )
            with ExitStack() as stack:
                store = shop.job(stack).store
                key = store.keys.contact_key("c00003")
                entry = LedgerEntry(subject_key=key, subject_kind="contact", entry=left)
                store.consents.append([entry], run_id=None)
            raise RetryableError("Mailchimp: 429.", retry_after=0.1, throttled=True)

    before_write(act)
    report = shop.run()
    assert tried == [10, 9]
    assert report.tally.count(OutcomeStatus.WITHHELD) == 1
    assert "c00003@shop.example" not in shop.members()
