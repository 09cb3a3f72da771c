"""A sync taken in hand: paused, sent to a few first, stopped by a limit, tried again."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack

import pytest

from segue.connectors.emulator import PersonAct
from segue.connectors.mailchimp.connector import Mailchimp
from segue.core.config import Guardrails, load_project
from segue.core.errors import ConfigError, GuardrailError
from segue.core.model import Change, Operation, Outcome, OutcomeStatus
from segue.sync.delivery.apply import Tally
from segue.sync.delivery.guardrails import too_many_rejects
from segue.sync.planning.canary import Canary
from segue.sync.store.runs import PlanStatus
from segue.sync.store.store import Store

from ..shop import Shop


def paused(shop: Shop, *, opt_outs: bool = False) -> None:
    with Store.of(load_project(shop.folder)) as store:
        store.pauses.pause("newsletter", reason="a wrong rule", opt_outs=opt_outs, who="ada")


def resumed(shop: Shop) -> None:
    with Store.of(load_project(shop.folder)) as store:
        assert store.pauses.resume("newsletter")


def spent(shop: Shop) -> dict[str, object]:
    return {
        address.partition("@")[0]: member["merge_fields"]["SG_SPENT"]
        for address, member in shop.members().items()
    }


def withdraw(shop: Shop, contact_id: str) -> None:
    shop.customers[contact_id].consents += [("withdrawal", 1, "")]


def status(shop: Shop, contact_id: str) -> str:
    found: str = shop.members()[f"{contact_id}@shop.example"]["status"]
    return found


# Pauses.


def test_a_paused_destination_gets_opt_outs_and_nothing_else(shop: Shop) -> None:
    shop.stock(3)
    shop.run()
    shop.customers["c00000"].spent = 70.0
    shop.stock(1)
    withdraw(shop, "c00001")
    paused(shop)
    report = shop.run()
    assert report.exit_code == 0
    assert report.paused
    assert "paused" in report.notes[0]
    assert status(shop, "c00001") == "unsubscribed"
    assert spent(shop)["c00000"] == 50
    assert len(shop.members()) == 3
    resumed(shop)
    assert shop.run().exit_code == 0
    assert spent(shop)["c00000"] == 70
    assert len(shop.members()) == 4


def test_a_pause_of_opt_outs_too_lets_nothing_through(shop: Shop) -> None:
    shop.stock(2)
    shop.run()
    withdraw(shop, "c00001")
    paused(shop, opt_outs=True)
    report = shop.run()
    assert (report.exit_code, report.writes) == (0, 0)
    assert status(shop, "c00001") == "subscribed"
    resumed(shop)
    shop.run()
    assert status(shop, "c00001") == "unsubscribed"


def test_who_left_is_learnt_while_paused(shop: Shop) -> None:
    shop.stock(2)
    shop.run()
    paused(shop)
    shop.sandbox.emulator.act(PersonAct.UNSUBSCRIBE, address="c00001@shop.example")
    assert shop.run().left == 1


def test_a_pause_stops_a_run_that_is_at_work_and_no_opt_out(shop: Shop) -> None:
    shop.stock(3)
    shop.run()
    for customer in shop.customers.values():
        customer.spent = 170.0  # an update and, after it, the removal of a tag
    write = Mailchimp.write

    def pauses_in_between(self: Mailchimp, operation: Operation, changes: Sequence[Change]) -> list[Outcome]:
        outcomes = write(self, operation, changes)
        if operation is Operation.UPDATE:
            paused(shop)
        return outcomes

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Mailchimp, "write", pauses_in_between)
        report = shop.run()
    assert (report.exit_code, report.paused, report.waiting) == (0, True, 3)
    assert shop.members()["c00000@shop.example"]["tags"] == ["segue: big", "segue: small"]
    resumed(shop)
    assert shop.apply().exit_code == 0
    assert shop.members()["c00000@shop.example"]["tags"] == ["segue: big"]


# Canary.


@pytest.mark.parametrize(("text", "part"), [("2%", 0.02), ("50", 50.0), ("0.5%", 0.005)])
def test_a_canary_is_a_share_or_a_number(text: str, part: float) -> None:
    assert Canary.parse(text).part == part


@pytest.mark.parametrize("text", ["", "0", "0%", "100%", "1.5", "-3", "two", "5 %"])
def test_what_is_no_part_is_refused_in_words(text: str) -> None:
    with pytest.raises(ConfigError, match="no part of the contacts"):
        Canary.parse(text)


def test_a_canary_is_sent_first_and_apply_sends_the_rest_once(shop: Shop) -> None:
    shop.stock(40)
    plan = shop.plan()
    first = shop.apply(canary=Canary.parse("10"))
    assert first.tally.count(OutcomeStatus.APPLIED) == 10
    assert len(shop.members()) == 10
    assert "segue apply" in first.notes[-1]
    rest = shop.apply()
    assert rest.tally.count(OutcomeStatus.APPLIED) == 30
    assert (rest.exit_code, rest.tally.stale) == (0, 0)
    assert rest.plan is not None
    assert rest.plan.plan_id == plan.plan_id
    assert len(shop.members()) == 40
    assert shop.run().writes == 0


def test_a_canary_has_all_steps_of_its_contacts(shop: Shop) -> None:
    shop.stock(6)
    shop.run()
    for customer in shop.customers.values():
        customer.spent = 170.0
    shop.plan()
    shop.apply(canary=Canary.parse("2"))
    tags = [member["tags"] for member in shop.members().values()]
    assert sorted(tags) == [["segue: big"]] * 2 + [["segue: small"]] * 4


def test_a_repeated_canary_is_the_same_people(shop: Shop) -> None:
    shop.stock(40)
    shop.plan()
    shop.apply(canary=Canary.parse("20%"))
    canary = set(shop.members())
    assert 0 < len(canary) < 30
    for customer in shop.customers.values():
        customer.spent = 60.0
    shop.apply()
    shop.plan()
    shop.apply(canary=Canary.parse("20%"))
    assert {f"{name}@shop.example" for name, value in spent(shop).items() if value == 60} == canary


def test_seeds_are_contacts_by_name(shop: Shop) -> None:
    shop.stock(5)
    shop.plan()
    (shop.folder / "seeds.txt").write_text("c00001\n\nnobody\n")
    with ExitStack() as stack:
        keys = shop.job(stack).store.keys
    in_file = Canary.named(str(shop.folder / "seeds.txt"), keys)
    assert in_file == Canary.named(" c00001 ,nobody", keys)
    shop.apply(canary=in_file)
    assert set(shop.members()) == {"c00001@shop.example"}
    with pytest.raises(ConfigError, match="no contact id"):
        Canary.named(" , ", keys)


def test_opt_outs_go_with_the_canary_whosever_they_are(shop: Shop) -> None:
    shop.stock(30)
    shop.run()
    for customer in shop.customers.values():
        customer.spent = 60.0
    withdraw(shop, "c00007")
    withdraw(shop, "c00017")
    shop.plan()
    report = shop.apply(canary=Canary(seeds=frozenset()))
    assert {status(shop, "c00007"), status(shop, "c00017")} == {"unsubscribed"}
    assert set(spent(shop).values()) == {50}
    assert report.tally.outcomes == {("opt_out", "applied"): 2}


def test_who_moves_into_an_address_waits_for_who_moves_out(shop: Shop) -> None:
    shop.stock(3)
    shop.run()
    shop.customers["c00000"].email = "new@shop.example"
    shop.customers["c00001"].email = "c00000@shop.example"
    shop.customers["c00002"].spent = 60.0
    shop.plan()
    before = shop.members()
    with ExitStack() as stack:
        keys = shop.job(stack).store.keys
    report = shop.apply(canary=Canary.named("c00000,c00001,c00002", keys))
    assert report.tally.outcomes == {("update", "applied"): 1}
    assert set(shop.members()) == set(before)
    assert shop.apply().exit_code == 0
    shop.run()
    assert set(shop.members()) == {"new@shop.example", "c00000@shop.example", "c00002@shop.example"}


def test_a_canary_that_was_killed_is_ended_before_the_rest(shop: Shop) -> None:
    shop.stock(12)
    shop.plan()
    write = Mailchimp.write

    def dies(self: Mailchimp, operation: Operation, changes: Sequence[Change]) -> list[Outcome]:
        write(self, operation, changes)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Mailchimp, "write", dies)
        with pytest.raises(KeyboardInterrupt):
            shop.apply(canary=Canary.parse("5"))
    assert len(shop.members()) == 5
    assert shop.apply().exit_code == 0
    assert len(shop.members()) == 12
    assert shop.run().writes == 0


def test_who_was_refused_in_the_canary_is_not_tried_again_with_the_rest(shop: Shop) -> None:
    shop.sandbox.settings(refuse_fake_addresses=True)
    shop.stock(6)
    for number, customer in enumerate(shop.customers.values()):
        customer.email = f"{customer.contact_id}@{'realshop.co.uk' if number else 'example.com'}"
    shop.plan()
    with ExitStack() as stack:
        keys = shop.job(stack).store.keys
    first = shop.apply(canary=Canary.named("c00000,c00001", keys))
    assert first.tally.outcomes == {("create", "rejected"): 1, ("create", "applied"): 1}
    rest = shop.apply()
    assert rest.tally.outcomes == {("create", "applied"): 4}
    assert rest.tally.stale == 0


def canary_in_the_project(shop: Shop, text: str) -> None:
    """Let `segue run` send a canary first, from the next build on."""
    shop.more = f"    guardrails: {{{text}}}\n"


def test_a_scheduled_canary_goes_on_by_itself(shop: Shop) -> None:
    canary_in_the_project(shop, "canary: 10%")
    shop.stock(30)
    report = shop.run(override=False)
    assert (report.exit_code, report.tally.count(OutcomeStatus.APPLIED)) == (0, 30)
    assert len(shop.members()) == 30


def test_a_scheduled_canary_that_is_refused_stops_the_run(shop: Shop) -> None:
    shop.sandbox.settings(refuse_fake_addresses=True)
    canary_in_the_project(shop, "canary: 4")
    shop.stock(30)
    for customer in shop.customers.values():
        customer.email = f"{customer.contact_id}@example.com"
    with pytest.raises(GuardrailError, match="4 of 4 changes were refused"):
        shop.run(override=False)
    for customer in shop.customers.values():
        customer.email = f"{customer.contact_id}@realshop.co.uk"
    assert shop.run(override=False).exit_code == 0
    assert len(shop.members()) == 30


# Limits.


def test_a_limit_holds_no_opt_out_back(shop: Shop) -> None:
    shop.stock(60)
    shop.run()
    for customer in shop.customers.values():
        customer.spent = 60.0
    withdraw(shop, "c00001")
    with pytest.raises(
        GuardrailError, match=r"nothing but opt-outs.*max_change_share.*--override-guardrails"
    ):
        shop.run(override=False)
    assert status(shop, "c00001") == "unsubscribed"
    assert set(spent(shop).values()) == {50}
    done = shop.apply(override=True)
    assert (done.exit_code, done.tally.stale) == (0, 0)
    assert "opt_out" not in {operation for operation, _ in done.tally.outcomes}  # it is there already
    assert spent(shop)["c00002"] == 60


def test_switched_double_opt_in_holds_no_opt_out_back(shop: Shop) -> None:
    shop.stock(3)
    shop.run()
    withdraw(shop, "c00001")
    shop.stock(1)
    shop.plan()
    shop.sandbox.settings(double_optin=True)
    with pytest.raises(GuardrailError, match="double opt-in was switched"):
        shop.apply(override=True)
    assert status(shop, "c00001") == "unsubscribed"
    assert len(shop.members()) == 3


def test_contacts_that_vanish_from_the_data_at_once_stop_the_run(shop: Shop) -> None:
    shop.stock(60)
    shop.run()
    gone = [shop.customers.pop(f"c{number:05}") for number in range(20)]
    with pytest.raises(GuardrailError, match="20 of 60 confirmed contacts vanished from the data"):
        shop.run(override=False)
    assert shop.members()["c00000@shop.example"]["tags"] == ["segue: small"]
    shop.run(override=True)
    assert shop.members()["c00000@shop.example"]["tags"] == []
    # They are gone, and that is no news any more; nor are a few more.
    shop.customers.pop("c00020")
    assert shop.run(override=False).exit_code == 0
    assert len(gone) == 20


def test_a_run_that_is_refused_too_much_stops_and_the_rest_waits(shop: Shop) -> None:
    shop.sandbox.settings(refuse_fake_addresses=True)
    shop.stock(600)
    for customer in shop.customers.values():
        customer.email = f"{customer.contact_id}@example.com"
    with pytest.raises(GuardrailError, match=r"500 of 500 changes were refused.*max_reject_share"):
        shop.run(override=False)
    with ExitStack() as stack:
        job = shop.job(stack)
        assert sum(job.store.outbox.pending_counts("newsletter").values()) == 100
        assert job.store.plans.latest("newsletter", PlanStatus.APPLYING) is not None


def test_many_that_were_refused_before_stop_a_plan(shop: Shop) -> None:
    shop.sandbox.settings(refuse_fake_addresses=True)
    shop.stock(60)
    for number in range(10):
        shop.customers[f"c{number:05}"].email = f"c{number:05}@example.com"
    for number in range(10, 60):
        shop.customers[f"c{number:05}"].email = f"c{number:05}@realshop.co.uk"
    shop.run()
    with pytest.raises(GuardrailError, match="10 of 60 contacts were refused before"):
        shop.run(override=False)


@pytest.mark.parametrize(
    ("rejected", "applied", "stops"), [(11, 89, True), (10, 90, False), (50, 49, False), (0, 500, False)]
)
def test_a_share_of_refusals_counts_from_a_hundred_outcomes_on(
    rejected: int, applied: int, stops: bool
) -> None:
    tally = Tally()
    tally.outcomes["create", "rejected"] = rejected
    tally.outcomes["create", "applied"] = applied
    assert (too_many_rejects(tally, Guardrails()) is not None) is stops


# Refused changes, once more.


def refused_shop(shop: Shop) -> Callable[[], None]:
    shop.sandbox.settings(refuse_fake_addresses=True)
    shop.stock(3)
    for name, domain in {
        "c00000": "example.com",
        "c00001": "example.com",
        "c00002": "realshop.co.uk",
    }.items():
        shop.customers[name].email = f"{name}@{domain}"
    shop.run()
    assert len(shop.members()) == 1
    return lambda: shop.sandbox.settings(refuse_fake_addresses=False)


def test_a_refused_change_is_tried_again_on_request(shop: Shop) -> None:
    mend = refused_shop(shop)
    mend()
    assert shop.run().writes == 0
    with ExitStack() as stack:
        job = shop.job(stack)
        key = job.store.keys.contact_key("c00000")
        assert job.store.settlements.forgive("newsletter", code="forgotten") == 0
        assert job.store.settlements.forgive("newsletter", contact_key=key) == 1
    shop.run()
    assert set(shop.members()) == {"c00000@example.com", "c00002@realshop.co.uk"}
    with ExitStack() as stack:
        settlements = shop.job(stack).store.settlements
        ((code, reason, count),) = settlements.rejection_counts("newsletter")
        assert (count, settlements.forgive("newsletter", code=code)) == (1, 1)
        assert reason
    shop.run()
    assert len(shop.members()) == 3


def test_every_refusal_has_a_remedy(shop: Shop) -> None:
    from segue.connectors.mailchimp.payload import REASONS

    assert Mailchimp.remedies.keys() >= REASONS.keys()


def test_a_canary_in_the_project_is_checked_like_all_else(shop: Shop) -> None:
    canary_in_the_project(shop, "canary: some")
    shop.stock(1)
    with pytest.raises(ConfigError, match=r"guardrails\.canary.*no part of the contacts"):
        shop.run()
