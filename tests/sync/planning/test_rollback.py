"""Taking a run back: fields and tags as before it, consent as it is, and nobody touched who moved on."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import pytest

from segue.connectors.emulator import PersonAct
from segue.connectors.mailchimp.connector import Mailchimp
from segue.core.errors import ConfigError
from segue.core.model import Change, Operation, Outcome
from segue.sync import jobs
from segue.sync.planning.canary import Canary
from segue.sync.planning.rollback import Undoing
from segue.sync.report import Report

from ...shop import Shop
from ..marketer import edit, member


def rollback(shop: Shop, run_id: str, *, pause_for: str | None = None) -> tuple[Report, Undoing]:
    with ExitStack() as stack:
        job = shop.job(stack)
        with jobs.recorded(job, "plan") as (lease, report):
            plan, undoing = job.plan_rollback(run_id, lease, report, lambda *_: None)
        return jobs.rollback(job, plan, run_id, lambda *_: None, pause_for=pause_for), undoing


def state(shop: Shop) -> Mapping[str, Any]:
    return {
        address: (found["status"], {k: v for k, v in found["merge_fields"].items() if v != ""}, found["tags"])
        for address, found in shop.members().items()
    }


def test_a_wrong_push_is_taken_back(shop: Shop) -> None:
    shop.stock(6)
    shop.customers["c00005"].last_name = ""
    shop.run()
    before = state(shop)
    for customer in shop.customers.values():
        customer.spent, customer.last_name = 500.0, "Wrong"
    wrong = shop.run()
    assert state(shop) != before
    report, undoing = rollback(shop, wrong.run_id)
    assert (report.exit_code, undoing.restored, undoing.moved) == (0, 6, 0)
    assert state(shop) == before


def test_an_encrypted_run_is_taken_back_and_has_its_canary(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENCRYPTION_KEY", "ab" * 32)
    shop.more = "encryption_key: env:ENCRYPTION_KEY\n"
    shop.stock(130)
    shop.customers["c00005"].last_name = ""
    shop.customers["c00006"].consents = []
    shop.run()
    before = state(shop)
    for customer in shop.customers.values():
        customer.spent, customer.last_name = 500.0, "Wrong"
    shop.plan()
    canary = shop.apply(canary=Canary.parse("10"))
    assert sum(each["merge_fields"]["SG_SPENT"] == 500 for each in shop.members().values()) == 10
    wrong = shop.apply()
    for run in (wrong, canary):
        assert rollback(shop, run.run_id)[0].exit_code == 0
    assert state(shop) == before


def test_a_rollback_can_be_taken_back(shop: Shop) -> None:
    shop.stock(3)
    shop.run()
    for customer in shop.customers.values():
        customer.spent = 500.0
    right = shop.run()
    after = state(shop)
    undone, _ = rollback(shop, right.run_id)
    assert state(shop) != after
    rollback(shop, undone.run_id)
    assert state(shop) == after
    assert shop.run().writes == 0


def test_contacts_that_vanished_get_their_tags_back(shop: Shop) -> None:
    shop.stock(4)
    shop.run()
    before = state(shop)
    lost = shop.customers.pop("c00001")
    wrong = shop.run()
    assert member(shop, "c00001")["tags"] == []
    _, undoing = rollback(shop, wrong.run_id)
    assert (undoing.restored, undoing.gone) == (1, 1)
    assert state(shop) == before
    shop.customers["c00001"] = lost
    assert shop.run().writes == 0


def test_who_was_created_stays_without_our_values(shop: Shop) -> None:
    shop.stock(3)
    first = shop.run()
    rollback(shop, first.run_id)
    assert set(shop.members()) == {f"c0000{number}@shop.example" for number in range(3)}
    for found in shop.members().values():
        assert found["status"] == "subscribed"
        assert found["tags"] == []
        assert {value for tag, value in found["merge_fields"].items() if tag.startswith("SG_")} == {""}


def test_a_new_address_stays(shop: Shop) -> None:
    shop.stock(2)
    shop.run()
    shop.customers["c00001"].email = "new@shop.example"
    shop.customers["c00001"].spent = 500.0
    wrong = shop.run()
    rollback(shop, wrong.run_id)
    found = shop.members()["new@shop.example"]
    assert (found["merge_fields"]["SG_SPENT"], found["tags"]) == (50, ["segue: small"])
    assert "c00001@shop.example" not in shop.members()


def test_who_changed_since_is_left_alone(shop: Shop) -> None:
    shop.stock(3)
    shop.run()
    for customer in shop.customers.values():
        customer.spent = 60.0
    wrong = shop.run()
    shop.customers["c00001"].spent = 70.0
    shop.run()
    _, undoing = rollback(shop, wrong.run_id)
    assert (undoing.restored, undoing.moved) == (2, 1)
    assert [member(shop, f"c0000{n}")["merge_fields"]["SG_SPENT"] for n in range(3)] == [50, 70, 50]


def test_an_opt_out_is_never_taken_back(shop: Shop) -> None:
    shop.stock(3)
    shop.run()
    for customer in shop.customers.values():
        customer.spent = 500.0
    shop.customers["c00001"].consents += [("withdrawal", 1, "")]
    wrong = shop.run()
    shop.sandbox.emulator.act(PersonAct.UNSUBSCRIBE, address="c00002@shop.example")
    report, _ = rollback(shop, wrong.run_id)
    assert report.exit_code == 0
    assert [member(shop, f"c0000{n}")["status"] for n in range(3)] == ["subscribed"] + ["unsubscribed"] * 2
    assert member(shop, "c00000")["merge_fields"]["SG_SPENT"] == 50
    assert shop.audience()["raises"] == []


def test_what_a_marketer_changed_of_his_own_stays(shop: Shop) -> None:
    shop.stock(2)
    shop.run()
    for customer in shop.customers.values():
        customer.spent = 500.0
    wrong = shop.run()
    edit(shop, "c00001", FNAME="Ada")
    rollback(shop, wrong.run_id)
    assert member(shop, "c00001")["merge_fields"]["FNAME"] == "Ada"


def test_the_part_that_got_through_is_taken_back(shop: Shop) -> None:
    """A run that was killed, a canary, a tag that could not be taken off: whatever is there of it goes."""
    shop.stock(12)
    shop.run()
    before = state(shop)
    for customer in shop.customers.values():
        customer.spent = 500.0
    shop.plan()
    canary = shop.apply(canary=Canary.parse("4"))
    _, undoing = rollback(shop, canary.run_id)
    assert (undoing.restored, undoing.untouched) == (4, 8)
    assert state(shop) == before


def test_a_killed_run_can_be_taken_back(shop: Shop) -> None:
    shop.stock(3)
    shop.run()
    before = state(shop)
    for customer in shop.customers.values():
        customer.spent = 500.0
    write = Mailchimp.write

    def dies(self: Mailchimp, operation: Operation, changes: Sequence[Change]) -> list[Outcome]:
        if operation is Operation.UNTAG:
            raise KeyboardInterrupt
        return write(self, operation, changes)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Mailchimp, "write", dies)
        with pytest.raises(KeyboardInterrupt):
            shop.run()
    assert member(shop, "c00000")["tags"] == ["segue: big", "segue: small"]
    with ExitStack() as stack:
        (run,) = shop.job(stack).store.runs.newest(1)
    rollback(shop, run.run_id)
    assert state(shop) == before


def test_the_destination_is_paused_before_the_first_step(shop: Shop) -> None:
    shop.stock(2)
    shop.run()
    for customer in shop.customers.values():
        customer.spent = 60.0
    wrong = shop.run()
    report, _ = rollback(shop, wrong.run_id, pause_for="ada")
    assert "segue resume" in report.notes[-1]
    assert not report.paused
    with ExitStack() as stack:
        pause = shop.job(stack).store.pauses.of("newsletter")
    assert pause is not None
    assert (pause.who, pause.reason, pause.opt_outs) == ("ada", f"rolled back {wrong.run_id}", False)
    assert shop.run().paused
    assert member(shop, "c00000")["merge_fields"]["SG_SPENT"] == 50


def test_a_pause_that_was_there_does_not_stop_a_rollback_and_stays(shop: Shop) -> None:
    shop.stock(2)
    shop.run()
    for customer in shop.customers.values():
        customer.spent = 60.0
    wrong = shop.run()
    with ExitStack() as stack:
        before = shop.job(stack).store.pauses.pause("newsletter", reason="look", opt_outs=False, who="bob")
    rollback(shop, wrong.run_id, pause_for="ada")
    assert member(shop, "c00000")["merge_fields"]["SG_SPENT"] == 50
    with ExitStack() as stack:
        assert shop.job(stack).store.pauses.of("newsletter") == before


def test_vanished_contacts_that_are_back_on_their_tags_count_as_vanishing_again(shop: Shop) -> None:
    shop.stock(60)
    shop.run()
    lost = [shop.customers.pop(f"c{number:05}") for number in range(20)]
    wrong = shop.run(override=True)
    rollback(shop, wrong.run_id)
    report = shop.plan()
    assert [line for line in report.guardrails if "20 of 60 confirmed contacts vanished" in line]
    assert len(lost) == 20


def test_a_run_that_is_not_there_or_sent_nothing_is_refused_in_words(shop: Shop) -> None:
    shop.stock(1)
    shop.plan()
    with ExitStack() as stack:
        (planned,) = shop.job(stack).store.runs.newest(1)
    for run_id in ("nonsense", planned.run_id):
        with pytest.raises(ConfigError, match=r"no run .* that sent anything"):
            rollback(shop, run_id)


def test_without_its_files_a_run_cannot_be_taken_back(shop: Shop) -> None:
    shop.stock(1)
    report = shop.run()
    assert report.plan is not None
    report.plan.steps.unlink()
    with pytest.raises(ConfigError, match="kept for 30 days"):
        rollback(shop, report.run_id)


@pytest.mark.parametrize(("setting", "days"), [("", 30), ("\nretention: {plans: 5 days}\n", 5)])
def test_files_of_what_was_sent_are_kept_as_long_as_the_setting_says_to_take_it_back(
    shop: Shop, setting: str, days: int
) -> None:
    shop.more = setting
    shop.stock(2)
    first = shop.run()
    assert first.plan is not None
    for spent in range(60, 67):
        shop.customers["c00000"].spent = spent
        shop.plan()  # looked at, and never sent
    assert first.plan.steps.exists()
    plan_after(shop, timedelta(days=days, hours=-1))
    assert first.plan.steps.exists()
    assert len(list(first.plan.steps.parent.glob("steps-*"))) < 8
    plan_after(shop, timedelta(days=days, hours=1))
    assert not first.plan.steps.exists()


def plan_after(shop: Shop, time: timedelta) -> None:
    with ExitStack() as stack:
        job = shop.job(stack, clock=lambda: jobs.utc_now() + time)
        with jobs.recorded(job, "plan") as (lease, report):
            job.plan(lease, report, lambda *_: None)
