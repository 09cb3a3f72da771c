"""Requests whose answer is lost, broken, empty or an error: what is sent again, and what is not."""

import pytest
import responses

from segue.connectors.faults import Fault, FaultKind
from segue.connectors.mailchimp.connector import Mailchimp
from segue.connectors.mailchimp.testing import Sandbox
from segue.core.errors import DestinationError, OutcomeUnknownError, RetryableError
from segue.core.model import Operation, OutcomeStatus

from .changes import APPLIED, BATCH, address, change, creates, members_url, told, write, writes


@pytest.mark.parametrize(
    "kind", [FaultKind.LOST_ANSWER, FaultKind.TRUNCATED, FaultKind.GATEWAY, FaultKind.ERROR]
)
def test_a_create_whose_answer_is_lost_is_not_sent_again(
    mailchimp: Sandbox, connector: Mailchimp, kind: FaultKind
) -> None:
    connector.check()
    mailchimp.emulator.faults.arm([Fault(kind=kind, method="POST", count=1)])
    with pytest.raises(OutcomeUnknownError):
        write(connector, *creates(3))
    assert writes(mailchimp) == [BATCH]


@pytest.mark.parametrize("kind", [FaultKind.THROTTLED, FaultKind.RESET])
def test_a_create_goes_back_to_the_gate_also_when_it_was_not_carried_out(
    mailchimp: Sandbox, connector: Mailchimp, kind: FaultKind
) -> None:
    connector.check()
    mailchimp.emulator.faults.arm([Fault(kind=kind, method="POST", count=1)])
    with pytest.raises(DestinationError):
        write(connector, *creates(3))
    assert writes(mailchimp) == [BATCH]
    assert mailchimp.emulator.audience.members == {}


@pytest.mark.parametrize(
    ("kind", "throttle"),
    [(kind, "problem") for kind in FaultKind if kind is not FaultKind.SLOW]
    + [(FaultKind.THROTTLED, "bodiless"), (FaultKind.THROTTLED, "forbidden")],
)
def test_everything_else_is_repeated_until_it_is_there(
    mailchimp: Sandbox, connector: Mailchimp, kind: FaultKind, throttle: str
) -> None:
    write(connector, *creates(3, tags=("segue: a",)))
    mailchimp.settings(throttle=throttle)
    mailchimp.emulator.faults.arm([Fault(kind=kind, probability=0.3)], seed=7)
    updated = write(connector, *(change(Operation.UPDATE, each, tags=("segue: b",)) for each in range(3)))
    moved = write(
        connector,
        change(Operation.READDRESS, 0, address=address(9), previous_address=address(0), tags=("segue: c",)),
    )
    untagged = write(connector, *(change(Operation.UNTAG, each, tags=("segue: a",)) for each in (1, 2)))
    left = write(connector, change(Operation.OPT_OUT, 1))
    mailchimp.emulator.faults.arm(())
    assert set(told(updated + moved)) == {APPLIED}
    # Said to be so already is as good: an answer was lost and the request repeated.
    assert {outcome.status for outcome in untagged + left} <= {OutcomeStatus.APPLIED, OutcomeStatus.UNCHANGED}
    found = connector.read([address(0), address(9), address(1), address(2)])
    assert [(contact.status, contact.tags) if contact else None for contact in found] == [
        None,
        ("subscribed", frozenset({"segue: a", "segue: b", "segue: c"})),
        ("unsubscribed", frozenset({"segue: b"})),
        ("subscribed", frozenset({"segue: b"})),
    ]
    assert connector.transport.traffic().retries > 0


def test_what_is_settled_stays_settled_when_reading_back_fails(
    mailchimp: Sandbox, connector: Mailchimp
) -> None:
    write(connector, change(Operation.CREATE, 0))
    mailchimp.emulator.faults.arm([Fault(kind=FaultKind.UNAVAILABLE, method="GET", path="/members/")])
    outcomes = write(connector, *creates(3))
    assert told(outcomes) == [("unknown", "not_read_back"), APPLIED, APPLIED]


def test_a_success_that_wrote_nothing_is_none(
    told_by_hand: tuple[responses.RequestsMock, Mailchimp],
) -> None:
    esp, connector = told_by_hand
    esp.post("https://us19.api.mailchimp.com/3.0/lists/b1", json={"new_members": [], "updated_members": []})
    esp.get(members_url(0), json={"title": "Resource Not Found"}, status=404)
    assert told(write(connector, change(Operation.CREATE))) == [("deferred", "not_written")]
    esp.get(members_url(1), json={"email_address": address(1), "status": "subscribed"})
    esp.patch(members_url(1), json={"email_address": address(1), "status": "subscribed"})
    assert told(write(connector, change(Operation.OPT_OUT, 1))) == [("deferred", "not_written")]


def test_a_run_with_everything_going_wrong_raises_retryable_and_never_a_traceback_of_requests(
    mailchimp: Sandbox, connector: Mailchimp
) -> None:
    mailchimp.emulator.faults.arm([Fault(kind=FaultKind.RESET)])
    with pytest.raises(RetryableError):
        connector.check()
