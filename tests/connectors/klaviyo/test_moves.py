"""Who gets a new address at Klaviyo, and what becomes of whoever leaves meanwhile."""

from dataclasses import replace
from typing import Any

import pytest

from segue.connectors.emulator import PersonAct
from segue.connectors.faults import Fault, FaultKind
from segue.connectors.klaviyo.profiles import Profiles
from segue.core.consent import ConsentState
from segue.core.errors import RetryableError
from segue.core.model import Operation, OutcomeStatus

from .account import Account, address, change, statuses

MOVE = change(Operation.READDRESS, 0, previous_address=address(0), address=address(5))


def leaving_meanwhile(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the person leave right after the first look at them."""
    read = Profiles.read

    def left_meanwhile(profiles: Profiles, addresses: Any) -> Any:
        found = read(profiles, addresses)
        if len(addresses) == 2 and found[0] is not None:
            account.pass_time()
            account.act(PersonAct.UNSUBSCRIBE, 0)
        return found

    monkeypatch.setattr(Profiles, "read", left_meanwhile)


def test_an_address_that_another_profile_has_is_refused_and_not_tried_again(account: Account) -> None:
    account.people_made(2)
    move = change(Operation.READDRESS, 0, previous_address=address(0), address=address(1))
    (outcome,) = account.write(move)
    assert (outcome.status, outcome.code) == (OutcomeStatus.REJECTED, "address_taken")
    assert len([each for each in account.sent() if each.startswith("PATCH")]) == 1


def test_who_leaves_in_the_moment_of_a_move_is_out_at_the_new_address(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    account.people_made(1)
    account.pass_time()
    leaving_meanwhile(account, monkeypatch)
    (outcome,) = account.write(MOVE)
    assert (outcome.status, outcome.code) == (OutcomeStatus.REJECTED, "left")
    assert outcome.seen is not None
    assert outcome.seen.state is ConsentState.UNSUBSCRIBED
    assert account.person(5).state is ConsentState.UNSUBSCRIBED
    account.emulator.account.standings.raises.clear()  # for a moment: only Klaviyo could have prevented it


QUESTIONS = [
    Fault(kind=FaultKind.ERROR, count=1, method="GET", path="/api/events"),
    Fault(kind=FaultKind.ERROR, count=1, method="POST", path="subscription-bulk-delete"),
]


@pytest.mark.parametrize("question", QUESTIONS, ids=["asking", "unsubscribing"])
def test_who_leaves_in_the_moment_of_a_move_is_out_also_if_what_comes_after_it_fails(
    account: Account, monkeypatch: pytest.MonkeyPatch, question: Fault
) -> None:
    account.people_made(1)
    account.pass_time()
    leaving_meanwhile(account, monkeypatch)
    account.emulator.faults.arm([replace(question, count=9)])
    with pytest.raises(RetryableError):
        account.write(MOVE)
    account.emulator.faults.arm([])
    again = Account(account.sandbox)  # the first one leaves an account alone that failed so often
    with again.connector.transport:
        (outcome,) = again.write(MOVE)
    assert (outcome.status, outcome.code) == (OutcomeStatus.REJECTED, "left")
    assert account.person(5).state is ConsentState.UNSUBSCRIBED
    account.emulator.account.standings.raises.clear()  # for a moment: only Klaviyo could have prevented it


def test_who_was_moved_by_an_attempt_before_and_has_not_left_is_moved(account: Account) -> None:
    account.people_made(1)
    for act in (PersonAct.UNSUBSCRIBE, PersonAct.SUBSCRIBE):
        account.pass_time()
        account.act(act, 0)
    account.pass_time()
    assert statuses(account.write(MOVE)) == ["applied"]
    account.pass_time()
    assert statuses(account.write(MOVE)) == ["applied"]
    assert account.person(5).state is ConsentState.SUBSCRIBED


def test_who_has_left_at_the_new_address_is_told_and_not_written(account: Account) -> None:
    account.people_made(1)
    account.write(MOVE)
    account.act(PersonAct.UNSUBSCRIBE, 5)
    account.sent()
    (outcome,) = account.write(MOVE)
    assert outcome.code == "left"
    assert outcome.seen is not None
    assert (outcome.seen.address, outcome.seen.state) == (address(0), ConsentState.UNSUBSCRIBED)
    assert {each.split()[0] for each in account.sent()} == {"GET"}
