"""Whole runs of a small shop against the local Mailchimp, on SQLite and PostgreSQL, in both settings of the emulator."""

from collections.abc import Sequence
from contextlib import ExitStack
from datetime import timedelta
from math import ceil

import pytest

from segue.connectors.emulator import PersonAct
from segue.connectors.faults import Fault, FaultKind
from segue.connectors.mailchimp.connector import Mailchimp
from segue.core.errors import (
    AuthenticationError,
    ConfigError,
    GuardrailError,
    OutcomeUnknownError,
    StoreError,
    UnsupportedFeatureError,
)
from segue.core.model import Change, Operation, Outcome, OutcomeStatus
from segue.sync.jobs import recorded

from ..shop import Shop

SIZE = 520  # a little over one batch


def test_a_first_load_costs_as_many_requests_as_batches_force(shop: Shop) -> None:
    shop.stock(SIZE)
    report = shop.run()
    assert report.exit_code == 0
    assert report.tally.count(OutcomeStatus.APPLIED) == SIZE
    assert report.writes == ceil(SIZE / 500) + 4  # four fields to make
    members = shop.members()
    assert len(members) == SIZE
    one = members["c00000@shop.example"]
    assert one["merge_fields"]["SG_SPENT"] == 50
    assert one["merge_fields"]["SG_LAST"] == "2026-02-19"
    assert one["tags"] == ["segue: small"]


def test_a_second_run_writes_nothing(shop: Shop) -> None:
    shop.stock(30)
    shop.run()
    again = shop.run()
    assert again.exit_code == 0
    assert again.writes == 0
    assert again.plan is not None
    assert again.plan.unchanged == 30


def test_changes_cost_their_batches_and_a_removal_per_tag(shop: Shop) -> None:
    shop.stock(60)
    shop.run()
    for name in list(shop.customers)[:6]:
        shop.customers[name].spent = 150.0
    report = shop.run()
    assert report.writes == ceil(6 / 500) + 1
    members = shop.members()
    assert members["c00000@shop.example"]["tags"] == ["segue: big"]
    assert members["c00000@shop.example"]["merge_fields"]["SG_SPENT"] == 150
    assert members["c00010@shop.example"]["tags"] == ["segue: small"]
    assert shop.run().writes == 0


def test_nobody_is_created_without_a_grant(shop: Shop) -> None:
    shop.stock(3)
    shop.customers["c00000"].consents = []
    shop.customers["c00001"].consents = [("grant", 100, "")]  # nothing proves it
    shop.customers["c00002"].consents += [("withdrawal", 5, "")]
    report = shop.run()
    assert shop.members() == {}
    assert report.plan is not None
    assert report.plan.withheld == {"no_grant": 2, "withdrawn": 1}


@pytest.mark.parametrize("act", [PersonAct.UNSUBSCRIBE, PersonAct.BOUNCE, PersonAct.ERASE])
def test_who_left_at_the_esp_is_never_raised(shop: Shop, act: PersonAct) -> None:
    shop.stock(3)
    shop.run()
    shop.sandbox.emulator.act(act, address="c00001@shop.example")
    shop.customers["c00001"].spent = 500.0
    shop.customers["c00001"].consents += [("grant", 0, '{"form": "checkout"}')]
    shop.run()
    member = shop.members().get("c00001@shop.example")
    assert member is None or member["status"] != "subscribed"
    assert shop.audience()["raises"] == []


def test_who_comes_back_by_the_esps_own_form_is_welcome_again(shop: Shop) -> None:
    """The ESP's time of opting in is evidence; the state alone would not be, and we would opt them out again."""
    shop.stock(2)
    shop.run()
    shop.sandbox.emulator.act(PersonAct.UNSUBSCRIBE, address="c00001@shop.example")
    shop.run()
    shop.sandbox.emulator.clock.advance(timedelta(hours=1))
    shop.sandbox.emulator.act(PersonAct.SUBSCRIBE, address="c00001@shop.example")
    shop.customers["c00001"].spent = 300.0
    shop.run()
    member = shop.members()["c00001@shop.example"]
    assert member["status"] == "subscribed"
    assert member["merge_fields"]["SG_SPENT"] == 300


def test_a_withdrawal_here_is_carried_to_the_esp_first(shop: Shop) -> None:
    shop.stock(3)
    shop.run()
    shop.customers["c00001"].consents += [("withdrawal", 1, "")]
    shop.customers["c00002"].spent = 500.0
    shop.run()
    assert shop.members()["c00001@shop.example"]["status"] == "unsubscribed"
    assert shop.run().writes == 0


def test_a_new_address_moves_the_same_contact(shop: Shop) -> None:
    shop.stock(2)
    shop.run()
    shop.customers["c00001"].email = "new@shop.example"
    shop.run()
    assert set(shop.members()) == {"c00000@shop.example", "new@shop.example"}
    assert shop.run().writes == 0


def test_a_new_address_brings_nobody_back(shop: Shop) -> None:
    shop.stock(2)
    shop.run()
    shop.sandbox.emulator.act(PersonAct.UNSUBSCRIBE, address="c00001@shop.example")
    shop.customers["c00001"].email = "new@shop.example"
    shop.run()
    assert {m["status"] for a, m in shop.members().items() if a != "c00000@shop.example"} == {"unsubscribed"}


def test_an_account_that_is_not_empty_is_adopted_without_duplicates(shop: Shop) -> None:
    shop.stock(4)
    client = shop.sandbox.sdk()
    for name, status in {"c00000": "subscribed", "c00001": "unsubscribed"}.items():
        client.lists.add_list_member(
            shop.sandbox.audience, {"email_address": f"{name}@shop.example", "status": status}
        )
    report = shop.run()
    assert report.plan is not None
    assert report.plan.new_contacts == 2
    assert report.plan.adopted == 1
    members = shop.members()
    assert len(members) == 4
    assert members["c00000@shop.example"]["merge_fields"]["SG_SPENT"] == 50
    assert members["c00001@shop.example"]["status"] == "unsubscribed"
    assert shop.run().writes == 0


def test_a_create_that_meets_somebody_becomes_an_update(shop: Shop) -> None:
    """Somebody signs up at the ESP between our look and our write."""
    shop.stock(2)
    shop.build()
    with ExitStack() as stack:
        job = shop.job(stack)
        with recorded(job, "run") as (lease, report):
            plan = job.plan(lease, report, lambda *_: None)
            shop.sandbox.sdk().lists.add_list_member(
                shop.sandbox.audience, {"email_address": "c00001@shop.example", "status": "subscribed"}
            )
            job.apply(plan, lease, report, lambda *_: None, override=True)
    assert shop.members()["c00001@shop.example"]["merge_fields"]["SG_SPENT"] == 50
    assert shop.run().writes == 0


def test_a_withdrawal_between_plan_and_apply_wins(shop: Shop) -> None:
    shop.stock(2)
    shop.build()
    with ExitStack() as stack:
        job = shop.job(stack)
        with recorded(job, "plan") as (lease, report):
            job.plan(lease, report, lambda *_: None)
    shop.customers["c00001"].consents += [("withdrawal", 1, "")]
    shop.build()
    with ExitStack() as stack:
        job = shop.job(stack)
        with recorded(job, "apply") as (lease, report):
            plan = job.stored_plan(None)
            job._record_consents(report)
            job.apply(plan, lease, report, lambda *_: None, override=True)
            assert report.tally.count(OutcomeStatus.WITHHELD) == 1
    assert set(shop.members()) == {"c00000@shop.example"}


def test_a_plan_is_applied_once(shop: Shop) -> None:
    shop.stock(1)
    report = shop.run()
    assert report.plan is not None
    with ExitStack() as stack, pytest.raises(ConfigError, match="applied"):
        shop.job(stack).stored_plan(report.plan.plan_id)


def test_a_refused_contact_is_kept_with_its_reason_and_blocks_nobody(shop: Shop) -> None:
    shop.sandbox.settings(refuse_fake_addresses=True)
    shop.stock(3, email=None)
    for name in ("c00000", "c00002"):
        shop.customers[name].email = f"{name}@realshop.co.uk"
    shop.customers["c00001"].email = "c00001@example.com"
    report = shop.run()
    assert report.exit_code == 1
    assert report.tally.count(OutcomeStatus.REJECTED) == 1
    assert len(shop.members()) == 2
    again = shop.run()
    assert again.plan is not None
    assert again.plan.withheld == {"rejected_before": 1}
    assert again.writes == 0


def test_a_guardrail_stops_before_anything_is_sent(shop: Shop) -> None:
    shop.stock(60)
    shop.run()
    for customer in shop.customers.values():
        customer.spent = 500.0
    before = shop.members()
    with pytest.raises(GuardrailError, match="max_change_share"):
        shop.run(override=False)
    assert shop.members() == before
    assert shop.run(override=True).exit_code == 0


def test_an_audience_that_was_emptied_is_doubted(shop: Shop) -> None:
    """As when a sandbox is started anew: without a word, the baselines would say that all is well."""
    shop.stock(4)
    shop.run()
    shop.sandbox.emulator.clear()
    shop.sandbox.settings(mode="adversarial")
    with pytest.raises(GuardrailError, match="was it emptied"):
        shop.run(override=False)


def test_without_a_contact_to_write_no_field_is_made(shop: Shop) -> None:
    shop.stock(2, consents=[])
    assert shop.run().writes == 0


def test_an_input_that_is_too_old_stops_before_anything_is_sent(shop: Shop) -> None:
    shop.stock(2)
    shop.max_age = "2 days"
    with pytest.raises(GuardrailError, match=r"customers\.csv.*max_age"):
        shop.run(override=False)
    assert shop.members() == {}


def test_a_wrong_key_stops_with_the_account(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.stock(1)
    monkeypatch.setenv("SANDBOX_KEY", "wrong-us19")
    with pytest.raises(AuthenticationError):
        shop.run()


def test_a_field_of_somebody_else_is_not_touched_unasked(shop: Shop) -> None:
    shop.sandbox.sdk().lists.add_list_merge_field(
        shop.sandbox.audience, {"name": "Theirs", "tag": "SG_SPENT", "type": "number"}
    )
    shop.stock(1)
    with pytest.raises(UnsupportedFeatureError, match="claim: true"):
        shop.run()
    assert shop.members() == {}


def test_two_runs_never_overlap(shop: Shop) -> None:
    shop.stock(1)
    shop.build()
    with ExitStack() as stack:
        job = shop.job(stack)
        lease = job.store.leases.acquire(
            "newsletter", timedelta(minutes=1), holder="another machine process 1"
        )
        with pytest.raises(StoreError, match="another run is at work"):
            shop.run(rebuild=False)
        job.store.leases.release(lease)
    assert shop.run(rebuild=False).exit_code == 0


def test_a_contact_gone_from_the_shop_keeps_fields_and_loses_our_tags(shop: Shop) -> None:
    shop.stock(3)
    shop.run()
    del shop.customers["c00002"]
    shop.run()
    member = shop.members()["c00002@shop.example"]
    assert member["tags"] == []
    assert member["merge_fields"]["SG_SPENT"] == 50
    assert shop.run().writes == 0


def test_a_double_opt_in_audience_is_never_loaded_unasked(shop: Shop) -> None:
    shop.sandbox.settings(double_optin=True)
    shop.stock(2)
    with pytest.raises(GuardrailError, match="confirmation mails"):
        shop.run(override=False)
    shop.run(override=True)
    assert {member["status"] for member in shop.members().values()} == {"pending"}


def test_a_create_whose_answer_was_lost_is_neither_lost_nor_doubled(shop: Shop) -> None:
    shop.stock(4)
    lost = Fault(kind=FaultKind.LOST_ANSWER, count=1, method="POST", path=f"lists/{shop.sandbox.audience}$")
    shop.sandbox.emulator.faults.arm([lost])
    report = shop.run()
    assert report.tally.again == 4
    assert report.tally.count(OutcomeStatus.APPLIED) == 4
    assert len(shop.members()) == 4
    assert shop.run().writes == 0


def test_who_left_after_a_create_was_lost_is_not_brought_back(shop: Shop) -> None:
    """The blind resend: the create arrived, its answer did not, and the person left before we ask again."""
    shop.stock(1)
    lost = Fault(kind=FaultKind.LOST_ANSWER, count=1, method="POST", path=f"lists/{shop.sandbox.audience}$")
    shop.sandbox.emulator.faults.arm([lost])
    write = Mailchimp.write

    def leaves_in_between(self: Mailchimp, operation: Operation, changes: Sequence[Change]) -> list[Outcome]:
        try:
            return write(self, operation, changes)
        except OutcomeUnknownError:
            shop.sandbox.emulator.act(PersonAct.UNSUBSCRIBE, address="c00000@shop.example")
            raise

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Mailchimp, "write", leaves_in_between)
        shop.run()
    assert shop.members()["c00000@shop.example"]["status"] == "unsubscribed"
    shop.run()
    assert shop.members()["c00000@shop.example"]["status"] == "unsubscribed"
