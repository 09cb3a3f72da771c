"""Reading a portal: all of it, what changed since, and what the search of HubSpot hides."""

from datetime import UTC, datetime, timedelta

import pytest

from segue.connectors.emulator import PersonAct
from segue.connectors.hubspot.testing import Sandbox
from segue.core.consent import ConsentState

from .conftest import Portal, address


def pulled(portal: Portal, cursor: str | None) -> tuple[dict[str, ConsentState], str]:
    found: dict[str, ConsentState] = {}
    for page in portal.connector.pull(cursor):
        found |= {contact.address: contact.state for contact in page.contacts}
        cursor = page.cursor
    assert cursor is not None
    return found, cursor


def later(portal: Portal, **by: float) -> None:
    portal.emulator.clock.advance(timedelta(**by))


def test_the_first_pull_gives_everyone_and_the_next_who_changed(portal: Portal) -> None:
    portal.create(*range(1, 101))
    portal.create(*range(101, 131))
    later(portal, hours=1)
    portal.emulator.act(PersonAct.SUBSCRIBE, address="new@else.example")
    everyone, cursor = pulled(portal, None)
    assert len(everyone) == 131
    later(portal, hours=1)
    portal.emulator.act(PersonAct.UNSUBSCRIBE, address=address(5))
    portal.emulator.act(PersonAct.BOUNCE, address=address(120))
    later(portal, minutes=1)
    changed, _ = pulled(portal, cursor)
    assert changed[address(5)] is ConsentState.UNSUBSCRIBED
    assert changed[address(120)] is ConsentState.SUPPRESSED
    assert address(7) not in changed


def test_thousands_that_changed_at_one_instant_are_all_read_by_pages_of_ids(hubspot: Sandbox) -> None:
    portal = Portal(hubspot, tier="pro").open()
    hubspot.settings(limits=False, tier="pro")
    emulator = portal.emulator
    records = emulator.account.records
    with emulator.lock:
        emulator.clock.set(datetime(2026, 11, 1, tzinfo=UTC))
        for number in range(11_000):
            records.create(records.check({"email": address(number)}, None), request=0)
    _, cursor = pulled(portal, None)
    later(portal, hours=2)
    with emulator.lock:
        for record in list(records.active.values()):
            records.note(record, {"city": "York"}, "IMPORT")
    later(portal, hours=2)
    changed, _ = pulled(portal, cursor)
    assert len(changed) == 11_000


def test_what_the_index_does_not_show_yet_comes_with_the_next_pull(hubspot: Sandbox) -> None:
    portal = Portal(hubspot).open()
    portal.create(1, 2)
    _, cursor = pulled(portal, None)
    hubspot.settings(index_lag=30.0)
    later(portal, hours=1)
    portal.emulator.act(PersonAct.UNSUBSCRIBE, address=address(1))
    changed, cursor = pulled(portal, cursor)
    assert changed.get(address(1)) is not ConsentState.UNSUBSCRIBED
    later(portal, seconds=40)
    changed, _ = pulled(portal, cursor)
    assert changed[address(1)] is ConsentState.UNSUBSCRIBED


def test_a_pull_that_was_killed_goes_on_after_the_page_that_was_stored(hubspot: Sandbox) -> None:
    portal = Portal(hubspot).open()
    for start in (1, 101, 201):
        portal.create(*range(start, start + 100))
    pages = portal.connector.pull(None)
    first = next(pages)
    rest, _ = pulled(portal, first.cursor)
    assert len(first.contacts) == 100
    assert len(rest) == 200
    assert not {contact.address for contact in first.contacts} & rest.keys()


def test_a_record_without_an_address_is_nobody(portal: Portal) -> None:
    portal.sandbox.call("POST", "/crm/v3/objects/contacts", {"properties": {"firstname": "Ada"}})
    assert pulled(portal, None)[0] == {}


@pytest.mark.parametrize("count", [1, 100, 101])
def test_a_hundred_are_read_by_one_request_in_the_order_asked(portal: Portal, count: int) -> None:
    for start in range(0, count, 100):
        portal.create(*range(start, min(start + 100, count)))
    portal.sent()
    asked = [address(number) for number in reversed(range(count))]
    found = portal.connector.read([*asked, "nobody@else.example"])
    assert [contact and contact.address for contact in found] == [*asked, None]
    assert len(portal.sent()) == -(-(count + 1) // 100)
