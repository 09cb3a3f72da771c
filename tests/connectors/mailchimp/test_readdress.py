"""New addresses of members."""

import responses

from segue.connectors.emulator import PersonAct
from segue.connectors.faults import Fault, FaultKind
from segue.connectors.mailchimp.connector import Mailchimp
from segue.connectors.mailchimp.testing import Sandbox
from segue.core.consent import ConsentState
from segue.core.model import Operation

from .changes import APPLIED, MEMBER, SCHEMA, act, address, change, creates, members_url, sent, told, write


def test_a_new_address_moves_the_same_member_and_nobody_who_has_left(
    mailchimp: Sandbox, connector: Mailchimp
) -> None:
    """What somebody said at an address stays there, because another contact may have it next."""
    connector.ensure(SCHEMA)
    write(connector, *creates(3))
    act(mailchimp, PersonAct.UNSUBSCRIBE, 1)
    stays, leaves = (mailchimp.emulator.audience.find(address(number)) for number in range(2))
    moves = [
        change(
            Operation.READDRESS,
            number,
            address=address(number + 50),
            previous_address=address(number),
            fields={"SG_NUM": "5"},
            tags=("segue: new",),
        )
        for number in range(2)
    ]
    assert [told(write(connector, moved)) for moved in moves] == [
        [APPLIED],
        [("rejected", "compliance_state")],
    ]
    assert mailchimp.emulator.audience.find(address(50)) is stays
    assert mailchimp.emulator.audience.find(address(1)) is leaves
    found = connector.read([address(0), address(50), address(51)])
    assert [(each.status, dict(each.fields), each.tags) if each else None for each in found] == [
        None,
        ("subscribed", {"SG_NUM": "5"}, frozenset({"segue: new"})),
        None,
    ]
    assert not any("status" in body for body in sent(mailchimp, f"PATCH {MEMBER}"))
    assert mailchimp.emulator.audience.raises == []


def test_a_new_address_whose_answer_was_lost_is_found_where_it_went(
    mailchimp: Sandbox, connector: Mailchimp
) -> None:
    write(connector, *creates(1))
    moved = change(
        Operation.READDRESS, 0, address=address(9), previous_address=address(0), tags=("segue: new",)
    )
    mailchimp.emulator.faults.arm([Fault(kind=FaultKind.LOST_ANSWER, method="PATCH", count=1)])
    assert told(write(connector, moved)) == [APPLIED]  # a moment ago
    assert told(write(connector, moved)) == [APPLIED]  # and in an earlier run
    (found,) = connector.read([address(9)])
    assert found is not None
    assert found.tags == frozenset({"segue: new"})


def test_a_new_address_that_is_taken_or_refused_is_said_by_its_title(
    mailchimp: Sandbox, connector: Mailchimp
) -> None:
    write(connector, *creates(3))
    act(mailchimp, PersonAct.ERASE, 2)
    mailchimp.settings(refuse_fake_addresses=True, localized=True)

    def move(number: int, to: str) -> tuple[str, str]:
        moved = change(Operation.READDRESS, number, address=to, previous_address=address(number))
        return told(write(connector, moved))[0]

    assert move(0, address(1)) == ("rejected", "address_taken")
    assert move(0, address(2)) == ("rejected", "forgotten")
    assert move(0, "jane@example.com") == ("rejected", "fake_address")
    assert move(8, address(9)) == ("rejected", "vanished")


def test_whom_a_new_address_would_bring_back_is_unsubscribed_at_once(
    told_by_hand: tuple[responses.RequestsMock, Mailchimp],
) -> None:
    esp, connector = told_by_hand
    before = {"email_address": address(0), "status": "pending"}
    after = {"email_address": address(9), "status": "subscribed"}
    esp.get(members_url(0), json=before)
    esp.patch(members_url(0), json=after)
    esp.patch(members_url(9), json={**after, "status": "unsubscribed"})
    moved = change(Operation.READDRESS, 0, address=address(9), previous_address=address(0))
    (outcome,) = write(connector, moved)
    assert told([outcome]) == [APPLIED]
    assert outcome.seen is not None
    assert outcome.seen.state is ConsentState.UNSUBSCRIBED
    assert esp.calls[-1].request.body == b'{"status":"unsubscribed"}'


def test_a_change_of_case_is_the_same_member(mailchimp: Sandbox, connector: Mailchimp) -> None:
    write(connector, *creates(1))
    moved = change(Operation.READDRESS, 0, address=address(0).upper(), previous_address=address(0))
    assert told(write(connector, moved)) == [APPLIED]
    assert len(mailchimp.emulator.audience.members) == 1
