"""Members pulled and read: their states, nobody missed, and no address in a path."""

import json
from datetime import UTC, datetime, timedelta

from segue.connectors.emulator import PersonAct
from segue.connectors.mailchimp.connector import Mailchimp
from segue.connectors.mailchimp.payload import STATES, subscriber_hash
from segue.connectors.mailchimp.testing import Sandbox
from segue.core.consent import ConsentState
from segue.core.model import Operation

from .changes import GRANT, SCHEMA, act, address, archive, change, creates, write


def test_every_status_of_mailchimp_has_a_meaning_and_none_but_subscribed_allows_mail() -> None:
    assert STATES["archived"] is ConsentState.UNSUBSCRIBED
    assert STATES["cleaned"] is ConsentState.SUPPRESSED
    assert [name for name, state in STATES.items() if state is ConsentState.SUBSCRIBED] == ["subscribed"]


def test_pull_shows_everyone_the_archived_too_with_their_states(
    mailchimp: Sandbox, connector: Mailchimp
) -> None:
    connector.ensure(SCHEMA)
    write(connector, *creates(4, fields={"SG_NUM": "2", "SG_TEXT": "x"}, tags=("segue: a",)))
    act(mailchimp, PersonAct.UNSUBSCRIBE, 1)
    act(mailchimp, PersonAct.BOUNCE, 2)
    archive(mailchimp, 3)
    found = {contact.address: contact for page in connector.pull(None) for contact in page.contacts}
    assert {each: found[address(each)].state.value for each in range(4)} == {
        0: "subscribed",
        1: "unsubscribed",
        2: "suppressed",
        3: "unsubscribed",
    }
    first = found[address(0)]
    assert (dict(first.fields), first.tags) == ({"SG_NUM": "2", "SG_TEXT": "x"}, frozenset({"segue: a"}))
    assert first.opted_in_at == GRANT.granted_at
    assert first.changed_at is not None
    assert first.changed_at.utcoffset() == timedelta(0)


def test_a_cut_list_of_tags_is_unknown_and_not_short(mailchimp: Sandbox, connector: Mailchimp) -> None:
    write(connector, change(Operation.CREATE, 0, tags=tuple(f"segue: {number}" for number in range(51))))
    (found,) = connector.read([address(0)])
    assert found is not None
    assert found.tags is None


def test_pull_asks_for_changes_since_then_with_an_overlap_in_a_form_mailchimp_understands(
    mailchimp: Sandbox, connector: Mailchimp
) -> None:
    start = datetime(2026, 5, 1, 12, tzinfo=UTC)
    clock = mailchimp.emulator.clock
    clock.set(start)
    write(connector, *creates(1))
    clock.advance(timedelta(hours=1))
    write(connector, change(Operation.CREATE, 1))
    mailchimp.referee.exchanges.clear()
    at = (start + timedelta(minutes=30)).isoformat()
    pages = list(connector.pull(json.dumps({"listed": at, "archived": at})))
    assert [contact.address for page in pages for contact in page.contacts] == [address(1)]
    asked = [dict(each.query) for each in mailchimp.referee.exchanges]
    assert {query["since_last_changed"] for query in asked} == {"2026-05-01T12:25:00+00:00"}
    assert {(query["sort_field"], query["sort_dir"], query["count"]) for query in asked} == {
        ("last_changed", "ASC", "1000")
    }
    assert [query.get("status") for query in asked] == [None, "archived"]
    assert "fields" in asked[0]


def test_nobody_slips_between_pages_when_members_change_while_they_are_read(
    mailchimp: Sandbox, connector: Mailchimp
) -> None:
    clock = mailchimp.emulator.clock
    clock.set(datetime(2026, 5, 1, tzinfo=UTC))
    for start in range(0, 3000, 500):
        write(connector, *[change(Operation.CREATE, number) for number in range(start, start + 500)])
        clock.advance(timedelta(seconds=1))
    seen = set()
    for number, page in enumerate(connector.pull(None)):
        seen |= {contact.address for contact in page.contacts}
        if number < 2:  # some early ones move to the end, and everyone after them to the front
            clock.advance(timedelta(minutes=1))
            for early in range(5):
                act(mailchimp, PersonAct.UNSUBSCRIBE, number * 5 + early)
    assert seen == {address(number) for number in range(3000)}


def test_a_pull_ends_although_thousands_changed_in_one_second_in_no_promised_order(
    mailchimp: Sandbox, connector: Mailchimp
) -> None:
    emulator = mailchimp.emulator
    emulator.clock.set(datetime(2026, 5, 1, tzinfo=UTC))
    for start in range(0, 2500, 500):
        write(connector, *[change(Operation.CREATE, number) for number in range(start, start + 500)])
    for pages, _ in enumerate(connector.pull(None)):
        with emulator.lock:
            members = emulator.audience.members
            emulator.audience.members = dict(reversed(members.items()))
        assert pages < 10


def test_read_gives_none_for_strangers_and_keeps_the_order(mailchimp: Sandbox, connector: Mailchimp) -> None:
    write(connector, *creates(30))
    order = [address(number) for number in (29, 77, 0, 5, 99, 13)]
    found = connector.read([each.upper() for each in order])
    assert [contact and contact.address for contact in found] == [
        order[0],
        None,
        order[2],
        order[3],
        None,
        order[5],
    ]
    assert mailchimp.emulator.traffic.peak_in_flight <= 9
    assert connector.read([]) == []


def test_no_address_ever_stands_in_a_path(mailchimp: Sandbox, connector: Mailchimp) -> None:
    write(connector, *creates(2, tags=("a",)))
    write(connector, change(Operation.UPDATE))
    write(
        connector,
        change(Operation.READDRESS, 0, address=address(5), previous_address=address(0), tags=("b",)),
    )
    write(connector, change(Operation.OPT_OUT, 1))
    write(connector, change(Operation.UNTAG, 5, tags=("a",)))
    list(connector.pull(None))
    paths = {each.path for each in mailchimp.referee.exchanges}
    assert not any("@" in path or "shop.org" in path for path in paths)
    assert any(subscriber_hash(address(5)) in path for path in paths)


def test_the_subscriber_hash_is_that_of_the_lower_case() -> None:
    assert subscriber_hash("Urist.McVankab@freddiesjokes.com") == "62eeb292278cc15f5817cb78f7790b08"
