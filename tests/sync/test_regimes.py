"""What a create without a grant leaves behind, and that its own opt-in time never counts as somebody's return."""

from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import pytest

from segue.connectors.faults import Fault, FaultKind
from segue.core.consent import ConsentAct, ConsentState, Regime
from segue.sync import contact
from segue.sync.jobs import utc_now
from segue.sync.ledger import desk
from segue.sync.store.store import Store

from ..shop import Customer, Shop

pytestmark = pytest.mark.both

ADDRESS = "ada@shop.example"


@pytest.fixture
def shop(shop: Shop) -> Shop:
    shop.more = "\nconsent:\n  regimes: {US: opt_out}\n"
    shop.customers["ada"] = Customer("ada", consents=[], country="US")
    return shop


def ledger(shop: Shop) -> list[tuple[ConsentAct, str]]:
    found: list[tuple[ConsentAct, str]] = with_store(
        shop,
        lambda store: [
            (each.entry.act, each.subject_kind) for each in store.consents.history(subjects(store))
        ],
    )
    return found


def subjects(store: Store) -> list[int]:
    return [store.keys.contact_key("ada"), store.keys.address_key(ADDRESS)]


def with_store(shop: Shop, ask: Any) -> Any:
    with ExitStack() as stack:
        return ask(shop.job(stack).store)


def lose_answers(shop: Shop, count: int) -> None:
    path = f"lists/{shop.sandbox.audience}$"
    shop.sandbox.emulator.faults.arm(
        [Fault(kind=FaultKind.LOST_ANSWER, count=count, method="POST", path=path)]
    )


def test_where_a_present_was_delivered_says_nothing_of_the_law_of_who_paid_for_it(shop: Shop) -> None:
    shop.customers["ada"] = Customer("ada", consents=[], delivered_to="US")
    plan = shop.plan()
    assert (plan.operations, plan.withheld) == ({}, {"no_grant": 1})
    with ExitStack() as stack:
        job = shop.job(stack)
        person = desk.find(job.project, job.store, job.snapshot, "ada")
        assert desk.view(job.project, job.store, person).regime is Regime.OPT_IN
        assert contact.view(job.project, job.snapshot, job.store, "ada").consent is ConsentState.UNKNOWN


def test_where_orders_are_delivered_keeps_out_who_moves_to_an_opt_out_country_later(shop: Shop) -> None:
    shop.customers["ada"] = Customer("ada", consents=[], delivered_to="DE")
    shop.run()
    shop.customers["ada"].country = "US"
    assert shop.plan().withheld == {"no_grant": 1}


def test_the_basis_is_written_down_before_anything_is_sent(shop: Shop) -> None:
    lose_answers(shop, 4)
    shop.run()
    assert ledger(shop) == [(ConsentAct.BASIS, "contact")]


@pytest.mark.parametrize("runs_until_it_is_heard_of", [1, 2])
def test_a_create_that_was_never_answered_is_no_return_of_who_had_left_before(
    shop: Shop, runs_until_it_is_heard_of: int
) -> None:
    """The ESP shows an opt-in time that is ours, and a withdrawal older than that is heard of later."""
    lose_answers(shop, 4)
    for _ in range(runs_until_it_is_heard_of):
        shop.run()
    assert shop.members()[ADDRESS]["status"] == "subscribed"
    shop.acts = [{"contact_id": "ada", "act": "withdrawal", "at": utc_now() - timedelta(hours=1)}]
    shop.run()
    assert ConsentAct.GRANT not in {act for act, _ in ledger(shop)}
    shop.run()
    assert shop.members()[ADDRESS]["status"] == "unsubscribed"
    assert shop.audience()["raises"] == []


def test_a_create_that_was_answered_is_no_return_either(shop: Shop) -> None:
    shop.run()
    shop.acts = [{"contact_id": "ada", "act": "withdrawal", "at": utc_now() - timedelta(hours=1)}]
    shop.run()
    shop.run()
    assert ConsentAct.GRANT not in {act for act, _ in ledger(shop)}
    assert shop.members()[ADDRESS]["status"] == "unsubscribed"


def test_the_memory_of_another_country_is_made_once(shop: Shop) -> None:
    shop.customers["bob"] = Customer("bob", consents=[], country="DE")
    shop.run()
    shop.customers["cyd"] = Customer("cyd", consents=[], country="DE")
    shop.run()

    def residences(store: Store) -> int:
        keys = [store.keys.contact_key(name) for name in ("ada", "bob", "cyd")]
        keys += [store.keys.address_key(f"{name}@shop.example") for name in ("bob", "cyd")]
        return sum(each.entry.act is ConsentAct.RESIDENCE for each in store.consents.history(keys))

    assert with_store(shop, residences) == 4


def test_a_project_of_opt_in_remembers_no_country(shop: Shop) -> None:
    shop.more = ""
    shop.run()
    assert ledger(shop) == []


def test_settings_that_change_are_taken_up_without_a_build(shop: Shop) -> None:
    """Who lives elsewhere is remembered from the day on which silence begins to count anywhere."""
    shop.more = ""
    shop.customers["ada"].country = "DE"
    shop.run()
    config = shop.folder / "segue.yml"
    config.write_text(config.read_text() + "\nconsent:\n  regimes: {US: opt_out}\n")
    shop.run(rebuild=False)
    assert ledger(shop) == [(ConsentAct.RESIDENCE, "contact"), (ConsentAct.RESIDENCE, "address")]
