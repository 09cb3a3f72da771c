"""What a marketer is promised whatever the ESP: the engine over every connector, seen through the ESP's own eyes.

What a connector makes of one request is its own tests' to say; nothing here knows an ESP's words.
"""

from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from segue.connectors.emulator import PersonAct
from segue.connectors.faults import Fault, FaultKind
from segue.connectors.registry import connector_class
from segue.core.consent import ConsentState
from segue.sync import jobs

from ..shop import Shop
from .test_consent_paths import ADDRESS

SUBSCRIBED, UNSUBSCRIBED = ConsentState.SUBSCRIBED, ConsentState.UNSUBSCRIBED


@pytest.fixture(params=["adversarial", "permissive"])
def shop(request: pytest.FixtureRequest, tmp_path: Path, esp: Any) -> Shop:
    """A small shop at an ESP of each kind and temper."""
    esp.settings(mode=request.param)
    return Shop(tmp_path, esp, "sqlite")


@pytest.fixture(autouse=True)
def nobody_is_raised(shop: Shop) -> Any:
    yield
    assert list(shop.sandbox.emulator.raises) == []


def act(shop: Shop, what: PersonAct) -> None:
    """Let the first contact act, and so much time pass as the ESP takes until it shows that."""
    shop.sandbox.emulator.act(what, audience="", address=ADDRESS)
    shop.sandbox.emulator.clock.advance(timedelta(minutes=1))


def states(shop: Shop) -> dict[str, ConsentState]:
    return {address: person.state for address, person in shop.people().items()}


def spent(shop: Shop, address: str = ADDRESS) -> str:
    fields = {name.lower(): value for name, value in shop.people()[address].fields.items()}
    return str(fields.get("sg_spent"))


def test_a_first_run_writes_everybody_and_a_second_one_nothing(shop: Shop) -> None:
    shop.stock(12, spent=150.5)
    assert shop.run().exit_code == 0
    assert len(shop.people()) == 12
    assert set(states(shop).values()) == {SUBSCRIBED}
    assert spent(shop) == "150.5"
    assert shop.people()[ADDRESS].tags == {"segue: big"}
    again = shop.run()
    assert (again.exit_code, again.writes) == (0, 0)


def test_what_changes_is_written_and_a_segment_that_was_left_loses_its_tag(shop: Shop) -> None:
    shop.stock(3, spent=150.0)
    shop.run()
    shop.customers["c00000"].spent = 20.0
    shop.customers["c00001"].last_name = None
    assert shop.run().exit_code == 0
    assert spent(shop) == "20"
    assert shop.people()[ADDRESS].tags == {"segue: small"}
    fields = {name.lower(): value for name, value in shop.people()["c00001@shop.example"].fields.items()}
    assert not fields.get("sg_name")
    assert shop.run().writes == 0


def test_nobody_is_made_without_a_grant(shop: Shop) -> None:
    shop.stock(2)
    shop.customers["c00001"].consents = []
    report = shop.run()
    assert list(shop.people()) == [ADDRESS]
    assert report.plan is not None
    assert report.plan.withheld == {"no_grant": 1}


def test_who_leaves_at_the_esp_stays_out_and_is_not_written_any_more(shop: Shop) -> None:
    shop.stock(2)
    shop.run()
    act(shop, PersonAct.UNSUBSCRIBE)
    shop.customers["c00000"].spent = 20.0
    shop.run()
    assert states(shop)[ADDRESS] is UNSUBSCRIBED
    assert spent(shop) == "50"


def test_who_leaves_at_the_shop_is_opted_out(shop: Shop) -> None:
    shop.stock(2)
    shop.run()
    shop.customers["c00000"].consents += [("withdrawal", 1, "")]
    shop.run()
    assert states(shop) == {ADDRESS: UNSUBSCRIBED, "c00001@shop.example": SUBSCRIBED}
    assert shop.run().writes == 0


def test_who_bounced_is_written_at_no_address_that_bounced(shop: Shop) -> None:
    shop.stock(1)
    shop.run()
    act(shop, PersonAct.BOUNCE)
    shop.customers["c00000"].spent = 20.0
    shop.run()
    assert states(shop) == {ADDRESS: ConsentState.SUPPRESSED}
    assert spent(shop) == "50"


def test_a_new_address_moves_the_contact_and_makes_no_second_one(shop: Shop) -> None:
    shop.stock(2)
    shop.run()
    (before,) = (person.name for address, person in shop.people().items() if address == ADDRESS)
    shop.customers["c00000"].email = "new@shop.example"
    assert shop.run().exit_code == 0
    assert states(shop) == {"new@shop.example": SUBSCRIBED, "c00001@shop.example": SUBSCRIBED}
    assert shop.people()["new@shop.example"].name == before
    shop.customers["c00000"].spent = 900.0
    shop.run()
    assert spent(shop, "new@shop.example") == "900"
    assert shop.run().writes == 0


def test_who_left_is_mailed_at_no_new_address(shop: Shop) -> None:
    shop.stock(1)
    shop.run()
    act(shop, PersonAct.UNSUBSCRIBE)
    shop.customers["c00000"].email = "new@shop.example"
    shop.run()
    shop.run()
    assert SUBSCRIBED not in states(shop).values()


@pytest.mark.parametrize(
    "kind", [FaultKind.LOST_ANSWER, FaultKind.ERROR, FaultKind.THROTTLED, FaultKind.TRUNCATED]
)
def test_trouble_on_the_way_makes_nobody_twice_and_loses_nobody(shop: Shop, kind: FaultKind) -> None:
    shop.batch_size = 5
    shop.stock(30)
    often = 1 if kind is FaultKind.THROTTLED else None  # some ESPs want ten seconds of rest after each
    shop.sandbox.emulator.faults.arm([Fault(kind=kind, probability=0.2, count=often)], seed=7)
    shop.run()
    shop.sandbox.emulator.faults.arm([])
    for customer in shop.customers.values():
        customer.spent = 60.0
    assert shop.run_much_later().exit_code == 0
    assert len(shop.sandbox.emulator.people()) == 30
    assert {spent(shop, customer.address) for customer in shop.customers.values()} == {"60"}
    assert shop.run().writes == 0


def test_who_is_erased_is_gone_and_does_not_come_back(shop: Shop) -> None:
    shop.stock(2)
    shop.run()
    connector = connector_class(shop.sandbox.connector)
    settings = {**shop.sandbox.destination} | {"retry_wait": "0.02"}
    key = next(name for name, value in settings.items() if value == "env:SANDBOX_KEY")
    opened = connector.from_settings(settings | {key: shop.sandbox.key})
    with opened.transport:
        opened.check()
        opened.erase(ADDRESS)
        shop.sandbox.emulator.clock.advance(timedelta(minutes=1))  # at some a while later
        again = opened.erase(ADDRESS)
        assert (again.was_there, again.is_gone) == (False, True)
    shop.customers["c00000"].spent = 20.0
    shop.run()
    shop.run()
    assert list(shop.people()) == ["c00001@shop.example"]


def test_a_segment_that_is_new_reaches_whoever_was_there_before(shop: Shop) -> None:
    """Where tags must be made first, as where they need not be."""
    shop.mapping = shop.mapping.replace("segments: all", "segments: [small]")
    shop.stock(3, spent=150.0)
    shop.run()
    assert shop.people()[ADDRESS].tags == set()
    shop.mapping = shop.mapping.replace("segments: [small]", "segments: all")
    report = shop.run()
    assert report.exit_code == 0
    assert {person.tags for person in shop.people().values()} == {frozenset({"segue: big"})}
    assert report.plan is not None
    assert report.writes == report.plan.writes
    assert shop.run().writes == 0


def test_the_plan_states_every_request_and_no_more_are_sent(shop: Shop) -> None:
    """Besides what looking at the account takes, which is measured right before."""
    shop.stock(30, spent=150.0)
    for _ in range(2):
        plan = shop.plan()
        with ExitStack() as stack:
            look = jobs.pull(shop.job(stack), lambda *_: None).reads
        report = shop.apply(plan.plan_id)
        assert (report.writes, report.reads - look) == (plan.writes, sum(plan.reads.values()))
        shop.customers["c00000"].email = "new@shop.example"
        shop.customers["c00001"].consents += [("withdrawal", 1, "")]
        for number in range(2, 7):
            shop.customers[f"c{number:05}"].spent = 20.0


def test_tags_may_be_lists(shop: Shop) -> None:
    if shop.sandbox.connector == "mailchimp":
        return
    shop.settings["tags"] = "lists"
    shop.stock(3, spent=150.0)
    shop.run()
    assert {person.tags for person in shop.people().values()} == {frozenset({"segue: big"})}
    shop.customers["c00000"].spent = 20.0
    shop.run()
    assert shop.people()[ADDRESS].tags == {"segue: small"}
    again = shop.run()
    assert (again.writes, again.notes) == (0, [])
