"""The ways in which somebody who said no could be reached, or a contact lost, between shop, store and ESP."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import Any

import pytest

from segue.connectors.emulator import PersonAct
from segue.connectors.faults import Fault, FaultKind
from segue.connectors.mailchimp.connector import Mailchimp
from segue.core.errors import ConfigError, GuardrailError, OutcomeUnknownError
from segue.core.model import Change, Operation, Outcome, OutcomeStatus
from segue.sync.delivery.courier import Courier
from segue.sync.delivery.enqueue import enqueue
from segue.sync.store.runs import PlanStatus, RunStatus
from segue.sync.store.settlement import Settlements

from ..shop import Customer, Shop

pytestmark = pytest.mark.both

ADDRESS = "c00000@shop.example"
GRANT = ("grant", 100, '{"form": "checkout"}')


class KilledError(BaseException):
    """Stands for a signal: nothing catches it."""


@pytest.fixture(autouse=True)
def nobody_raised(shop: Shop) -> Iterator[None]:
    yield
    assert shop.audience()["raises"] == []


@contextmanager
def killed(at: Callable[..., Any], owner: Any, calls: int = 0) -> Iterator[None]:
    """Kill the block at the call after so many calls of a function."""
    left = calls

    def count(*arguments: Any, **more: Any) -> Any:
        nonlocal left
        if left == 0:
            raise KilledError
        left -= 1
        return at(*arguments, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, at.__name__, count)
        with pytest.raises(KilledError):
            yield


def sign_up(shop: Shop, address: str) -> None:
    """Somebody signs up at the ESP by its own form."""
    shop.sandbox.sdk().lists.add_list_member(
        shop.sandbox.audience, {"email_address": address, "status": "subscribed"}
    )


def held(shop: Shop) -> dict[str, tuple[float | str, list[str]]]:
    """What the ESP holds by address: the amount spent, and the tags."""
    return {a: (m["merge_fields"].get("SG_SPENT", ""), m["tags"]) for a, m in shop.members().items()}


def test_a_plan_is_applied_with_what_the_esp_knows_now(shop: Shop) -> None:
    shop.stock(2)
    shop.run()
    shop.customers["c00000"].spent = shop.customers["c00001"].spent = 60.0
    shop.plan()
    shop.sandbox.emulator.act(PersonAct.UNSUBSCRIBE, address=ADDRESS)
    report = shop.apply()
    assert report.left == 1
    assert report.tally.count(OutcomeStatus.WITHHELD) == 1
    assert {address: spent for address, (spent, _) in held(shop).items()} == {
        ADDRESS: 50,
        "c00001@shop.example": 60,
    }


def test_a_plan_is_not_applied_to_an_audience_that_now_confirms_by_mail(shop: Shop) -> None:
    shop.stock(1)
    plan = shop.plan()
    shop.sandbox.settings(double_optin=True)
    with pytest.raises(GuardrailError, match="double opt-in"):
        shop.apply(plan.plan_id)
    assert shop.members() == {}


def test_what_a_killed_run_left_is_not_sent_to_who_left_since(shop: Shop) -> None:
    shop.stock(2)
    shop.run()
    shop.customers["c00000"].spent = shop.customers["c00001"].spent = 60.0
    with killed(Courier.carry, Courier):
        shop.run()
    shop.sandbox.emulator.act(PersonAct.UNSUBSCRIBE, address=ADDRESS)
    shop.run()
    assert held(shop)[ADDRESS][0] == 50
    assert held(shop)["c00001@shop.example"][0] == 60
    assert shop.run().writes == 0


def test_what_a_killed_run_left_never_blocks_the_next(shop: Shop) -> None:
    """Its file is gone, and so is a field that it writes."""
    shop.stock(2)
    shop.run()
    shop.customers["c00000"].spent = 60.0
    with killed(Courier.carry, Courier):
        shop.run()
    for path in (shop.folder / ".segue").rglob("steps-*.parquet"):
        path.unlink()
    fields = shop.sandbox.sdk().lists.get_list_merge_fields(shop.sandbox.audience, count=100)["merge_fields"]
    name = next(field["merge_id"] for field in fields if field["tag"] == "SG_NAME")
    shop.sandbox.sdk().lists.delete_list_merge_field(shop.sandbox.audience, name)
    assert shop.run().exit_code == 0
    assert held(shop)[ADDRESS][0] == 60
    assert shop.run().writes == 0


@pytest.mark.parametrize("calls", range(4))
def test_killed_before_any_outcome_is_stored_the_next_run_ends_right(shop: Shop, calls: int) -> None:
    shop.stock(3)
    shop.run()
    shop.customers["c00000"].spent = 150.0
    shop.customers["c00001"].email = "new@shop.example"
    shop.customers["c00002"].consents += [("withdrawal", 1, "")]
    shop.stock(1)
    with killed(Settlements.settle, Settlements, calls):
        shop.run()
    assert shop.run().exit_code == 0
    assert held(shop) == {
        ADDRESS: (150, ["segue: big"]),
        "new@shop.example": (50, ["segue: small"]),
        "c00002@shop.example": (50, ["segue: small"]),
        "c00003@shop.example": (50, ["segue: small"]),
    }
    assert shop.members()["c00002@shop.example"]["status"] == "unsubscribed"
    again = shop.run()
    assert (again.writes, again.exit_code) == (0, 0)


def test_a_begun_plan_ends_when_a_newer_one_begins(shop: Shop) -> None:
    shop.stock(2)
    shop.run()
    shop.customers["c00000"].spent = 60.0
    with killed(Courier.carry, Courier):
        shop.run()
    shop.customers["c00000"].spent = 70.0
    plan = shop.plan()
    shop.apply()
    assert held(shop)[ADDRESS][0] == 70
    with ExitStack() as stack:
        store = shop.job(stack).store
        assert store.plans.latest("newsletter", PlanStatus.APPLYING) is None
        newest = store.plans.latest("newsletter")
        assert newest is not None
        assert (newest.plan_id, newest.status) == (plan.plan_id, PlanStatus.APPLIED)
        assert store.outbox.pending_counts("newsletter") == {}


def test_an_opt_out_does_not_go_stale(shop: Shop) -> None:
    shop.stock(1)
    shop.run()
    shop.customers["c00000"].consents += [("withdrawal", 1, "")]
    plan = shop.plan()
    with ExitStack() as stack:
        job = shop.job(stack)
        assert enqueue(plan, _Elsewhere(job.store)) == 0  # type: ignore[arg-type]  # only its baselines differ
    shop.apply(plan.plan_id)
    assert shop.members()[ADDRESS]["status"] == "unsubscribed"


class _Elsewhere:
    """A store whose every baseline moved since the plan."""

    def __init__(self, store: Any) -> None:
        self.outbox, self.plans, self.destinations = store.outbox, store.plans, store.destinations
        self.sealing = store.sealing
        self.baselines = self

    def hashes(self, _destination: str, keys: Any) -> dict[int, bytes]:
        return dict.fromkeys(keys, b"moved")


def test_an_answer_that_never_came_is_not_called_clean(shop: Shop) -> None:
    shop.stock(2)
    lost = Fault(kind=FaultKind.LOST_ANSWER, method="POST", path=f"lists/{shop.sandbox.audience}$")
    shop.sandbox.emulator.faults.arm([lost])
    report = shop.run()
    assert report.waiting == 2
    assert report.exit_code == 1
    shop.sandbox.emulator.faults.arm([])
    assert shop.run().exit_code == 0
    assert len(shop.members()) == 2
    assert shop.run().writes == 0


def test_who_is_archived_after_a_create_without_an_answer_does_not_come_back(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second try of the same create would subscribe them anew; what was archived may hide that they left."""
    shop.stock(2)
    lost = Fault(kind=FaultKind.LOST_ANSWER, count=1, method="POST", path=f"lists/{shop.sandbox.audience}$")
    shop.sandbox.emulator.faults.arm([lost])
    write = Mailchimp.write

    def archived_meanwhile(
        connector: Mailchimp, operation: Operation, changes: Sequence[Change]
    ) -> list[Outcome]:
        try:
            return write(connector, operation, changes)
        except OutcomeUnknownError:
            shop.sandbox.sdk().lists.delete_list_member(shop.sandbox.audience, ADDRESS)
            raise

    monkeypatch.setattr(Mailchimp, "write", archived_meanwhile)
    shop.run()
    assert shop.members()[ADDRESS]["status"] == "archived"
    assert shop.members()["c00001@shop.example"]["status"] == "subscribed"


def test_an_address_alone_withdraws_for_the_person_who_has_it(shop: Shop) -> None:
    shop.stock(1)
    shop.acts = [{"email": ADDRESS, "act": "withdrawal"}]
    shop.run()
    shop.customers["c00000"].email = "new@shop.example"
    shop.run()
    assert shop.members() == {}


def test_a_withdrawal_holds_for_an_address_that_the_person_took_later(shop: Shop) -> None:
    shop.stock(2)
    shop.customers["c00000"].consents += [("withdrawal", 1, "")]
    shop.run()
    shop.customers["c00000"].email = "c00001@shop.example"
    shop.run()
    assert shop.members()["c00001@shop.example"]["status"] == "unsubscribed"


@pytest.mark.parametrize("scope", [{"purpose": "newsletter"}, {"purpose": "all"}, {"channel": "e-mail"}])
def test_a_stop_of_a_scope_that_is_not_mapped_is_a_stop_of_all(shop: Shop, scope: dict[str, str]) -> None:
    shop.stock(2)
    shop.acts = [
        {"contact_id": "c00000", "act": "withdrawal"} | scope,
        {"contact_id": "c00001", "act": "withdrawal", "channel": "sms"},
    ]
    shop.run()
    assert set(shop.members()) == {"c00001@shop.example"}


def test_a_grant_dated_in_the_future_counts_for_nothing(shop: Shop) -> None:
    shop.stock(1)
    shop.customers["c00000"].consents = [("withdrawal", 1, ""), ("grant", -10_000, '{"form": "x"}')]
    shop.run()
    assert shop.members() == {}


def test_a_withdrawal_that_vanishes_from_its_source_still_counts(shop: Shop) -> None:
    shop.stock(1)
    shop.customers["c00000"].consents += [("withdrawal", 1, "")]
    shop.run()
    shop.customers["c00000"].consents = [GRANT]
    shop.run()
    assert shop.members() == {}


def test_of_two_with_one_address_the_one_who_agreed_is_written(shop: Shop) -> None:
    for agreed in ("a", "b", "c", "d"):
        other = f"x{agreed}"
        shop.customers |= {
            agreed: Customer(agreed, email=f"{agreed}@shop.example"),
            other: Customer(other, email=f"{agreed}@shop.example", consents=[]),
        }
    report = shop.run()
    assert len(shop.members()) == 4
    assert report.plan is not None
    assert report.plan.withheld == {"shared_address": 4}


def test_of_two_with_one_address_nobody_is_written_when_one_has_left(shop: Shop) -> None:
    """Wherever it was that they left: else one run would write the other, and the next unsubscribe them."""
    shop.stock(2)
    one, other = shop.customers.values()
    one.consents += [("withdrawal", 1, "")]
    shop.run()
    one.email = other.email = "both@shop.example"
    shop.run()
    assert [address for address, member in shop.members().items() if member["status"] == "subscribed"] == []
    assert shop.run().writes == 0


def test_who_has_an_address_keeps_it_when_another_contact_gets_it_too(shop: Shop) -> None:
    for number in range(4):
        shop.customers |= {
            f"own{number}": Customer(f"own{number}", spent=10 + number),
            f"new{number}": Customer(f"new{number}", spent=90),
        }
    shop.run()
    for number in range(4):
        shop.customers[f"new{number}"].email = f"own{number}@shop.example"
    shop.run()
    assert [held(shop)[f"own{number}@shop.example"][0] for number in range(4)] == [10, 11, 12, 13]


def test_a_contact_of_another_id_keeps_its_tags(shop: Shop) -> None:
    shop.stock(2)
    shop.run()
    for name, spent in {"c00000": 50.0, "c00001": 150.0}.items():
        old = shop.customers.pop(name)
        shop.customers[f"renamed-{name}"] = Customer(f"renamed-{name}", email=old.address, spent=spent)
    shop.run()
    expected = {ADDRESS: (50, ["segue: small"]), "c00001@shop.example": (150, ["segue: big"])}
    assert held(shop) == expected
    assert shop.run().writes == 0
    shop.customers["renamed-c00000"].spent = 500.0
    shop.run()
    assert held(shop)[ADDRESS] == (500, ["segue: big"])


def test_a_contact_whose_id_changes_back_is_written_again(shop: Shop) -> None:
    shop.stock(1)
    shop.run()
    before = shop.customers.pop("c00000")
    shop.customers["renamed"] = Customer("renamed", email=ADDRESS, spent=60.0)
    shop.run()
    shop.customers = {"c00000": before}
    shop.run()
    assert held(shop) == {ADDRESS: (50, ["segue: small"])}
    assert shop.run().writes == 0


def test_two_who_swap_addresses_swap_all_that_we_hold(shop: Shop) -> None:
    shop.stock(2)
    shop.customers["c00001"].spent = 150.0
    shop.run()
    shop.customers["c00000"].email = "c00001@shop.example"
    shop.customers["c00001"].email = ADDRESS
    shop.customers["c00000"].last_name = ""
    shop.run()
    assert held(shop) == {"c00001@shop.example": (50, ["segue: small"]), ADDRESS: (150, ["segue: big"])}
    assert shop.members()["c00001@shop.example"]["merge_fields"].get("SG_NAME", "") == ""
    assert shop.run().writes == 0


def test_who_takes_an_address_that_another_gives_up_gets_nothing_of_theirs(shop: Shop) -> None:
    shop.stock(2)
    shop.customers["c00001"].spent = 150.0
    shop.run()
    shop.customers["c00001"].email = "new@shop.example"
    shop.customers["c00000"].email = "c00001@shop.example"
    shop.run()
    shop.run()
    assert held(shop) == {
        "c00001@shop.example": (50, ["segue: small"]),
        "new@shop.example": (150, ["segue: big"]),
    }
    assert shop.run().writes == 0


def test_an_address_that_a_contact_gave_up_loses_our_tags(shop: Shop) -> None:
    """The new one is at the ESP already, as somebody who signed up there."""
    shop.stock(1)
    shop.run()
    sign_up(shop, "new@shop.example")
    shop.customers["c00000"].email = "new@shop.example"
    shop.run()
    assert held(shop) == {ADDRESS: (50, []), "new@shop.example": (50, ["segue: small"])}
    assert shop.run().writes == 0


def test_a_move_to_an_address_that_was_taken_meanwhile_becomes_an_update(shop: Shop) -> None:
    shop.stock(1)
    shop.run()
    shop.customers["c00000"].email = "new@shop.example"
    write = Mailchimp.write

    def taken_first(self: Mailchimp, operation: Any, changes: Any) -> Any:
        if "new@shop.example" not in shop.members():
            sign_up(shop, "new@shop.example")
        return write(self, operation, changes)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Mailchimp, "write", taken_first)
        assert shop.run().exit_code == 1
    assert shop.run().exit_code == 0
    assert held(shop)["new@shop.example"] == (50, ["segue: small"])


def test_who_was_refused_and_then_signed_up_alone_is_written(shop: Shop) -> None:
    shop.sandbox.settings(refuse_fake_addresses=True)
    shop.stock(1, email="c@example.com")
    assert shop.run().exit_code == 1
    shop.sandbox.settings(refuse_fake_addresses=False)
    sign_up(shop, "c@example.com")
    shop.run()
    assert held(shop)["c@example.com"] == (50, ["segue: small"])


def test_who_was_erased_at_the_esp_is_not_created_again_after_an_opt_out_that_found_nobody(
    shop: Shop,
) -> None:
    """An erasure is in no pull: that nobody was there to opt out is the one sign of it."""
    shop.stock(1)
    shop.run()
    shop.sandbox.emulator.act(PersonAct.ERASE, address=ADDRESS)
    shop.customers["c00000"].consents += [("withdrawal", 50, "")]
    shop.run()
    shop.customers["c00000"].consents += [("grant", 1, '{"form": "checkout"}')]
    shop.customers["c00000"].spent = 60.0
    shop.run()
    assert shop.members() == {}


def test_a_run_that_something_else_ended_is_not_called_finished(shop: Shop) -> None:
    shop.stock(1)
    with killed(Courier.carry, Courier):
        shop.run()
    shop.run()
    with ExitStack() as stack:
        newest, killed_one = shop.job(stack).store.runs.newest(2)
    assert (newest.status, killed_one.status) == (RunStatus.FINISHED, RunStatus.INTERRUPTED)


def test_another_audience_is_another_destination(shop: Shop) -> None:
    """What the one confirmed says nothing of the other, where an update could make somebody mailable."""
    shop.stock(1)
    shop.run()
    shop.build()
    with ExitStack() as stack:
        shop.job(stack).store.destinations.set_cursor("newsletter", "audience", "another")
    with pytest.raises(ConfigError, match="destination of its own"):
        shop.run()


def test_who_left_came_back_and_left_again_unseen_has_left_again(shop: Shop) -> None:
    shop.stock(1)
    shop.run()
    act, clock = shop.sandbox.emulator.act, shop.sandbox.emulator.clock
    act(PersonAct.UNSUBSCRIBE, address=ADDRESS)
    shop.run()
    with ExitStack() as stack:
        store = shop.job(stack).store
        key = store.keys.address_key(ADDRESS)
        first = store.consents.records([key])[key].withdrawn_at
    clock.advance(timedelta(hours=1))
    act(PersonAct.SUBSCRIBE, address=ADDRESS)
    clock.advance(timedelta(hours=1))
    act(PersonAct.UNSUBSCRIBE, address=ADDRESS)
    shop.run()
    with ExitStack() as stack:
        again = shop.job(stack).store.consents.records([key])[key].withdrawn_at
    assert first is not None
    assert again is not None
    assert again - first >= timedelta(hours=2)


def test_a_plan_and_a_report_keep_no_personal_data(shop: Shop) -> None:
    shop.stock(2, last_name="Quartermain")
    shop.customers["c00001"].email = ""
    report = shop.run()
    with ExitStack() as stack:
        store = shop.job(stack).store
        stored = store.plans.latest("newsletter")
        run = store.runs.last("newsletter")
    assert stored is not None
    assert run is not None
    kept = json.dumps([stored.manifest, run.report, report.as_json()])
    for secret in ("Quartermain", "@shop.example", shop.sandbox.key, "c00000"):
        assert secret not in kept
