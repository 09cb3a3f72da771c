"""Opt-outs, and tags taken off."""

import responses

from segue.connectors.emulator import PersonAct
from segue.connectors.mailchimp.connector import Mailchimp
from segue.connectors.mailchimp.testing import Sandbox
from segue.core.consent import ConsentState
from segue.core.model import Operation, OutcomeStatus

from .changes import APPLIED, act, address, archive, change, creates, members_url, status, told, write, writes


def test_an_opt_out_that_is_refused_is_never_given_up(
    told_by_hand: tuple[responses.RequestsMock, Mailchimp],
) -> None:
    esp, connector = told_by_hand
    esp.assert_all_requests_are_fired = False
    esp.get(members_url(1), json={"email_address": address(1), "status": "subscribed"})
    esp.patch(members_url(1), json={"title": "Invalid Resource", "errors": [{"field": "FNAME"}]}, status=400)
    (outcome,) = write(connector, change(Operation.OPT_OUT, 1))
    assert told([outcome]) == [("deferred", "invalid_field")]
    assert "FNAME" in outcome.reason


def test_an_opt_out_lowers_and_never_softens_a_bounce(mailchimp: Sandbox, connector: Mailchimp) -> None:
    write(connector, *creates(2), change(Operation.CREATE, 2, consent=ConsentState.PENDING), *creates(5)[3:])
    act(mailchimp, PersonAct.BOUNCE, 1)
    archive(mailchimp, 3)
    mailchimp.emulator.audience.fields["FNAME"].required = True  # must not stand in the way
    outcomes = [
        write(connector, change(Operation.OPT_OUT, number, consent=ConsentState.UNSUBSCRIBED))[0]
        for number in (0, 0, 1, 2, 3, 9)
    ]
    assert [outcome.status.value for outcome in outcomes] == [
        "applied",
        "unchanged",
        "unchanged",
        "applied",
        "applied",
        "unchanged",
    ]
    assert [status(mailchimp, number) for number in range(5)] == [
        "unsubscribed",
        "cleaned",
        "unsubscribed",
        "unsubscribed",
        "subscribed",
    ]


def test_untag_removes_one_tag_of_up_to_500_in_one_request(mailchimp: Sandbox, connector: Mailchimp) -> None:
    write(connector, *creates(500, tags=("segue: a", "theirs")))
    mailchimp.referee.exchanges.clear()
    removals = [change(Operation.UNTAG, number, tags=("segue: a",)) for number in range(500)]
    assert set(told(write(connector, *removals))) == {APPLIED}
    assert writes(mailchimp) == ["POST /3.0/lists/{list_id}/segments/{segment_id}"]
    (found,) = connector.read([address(7)])
    assert found is not None
    assert found.tags == frozenset({"theirs"})


def test_untag_of_what_is_not_there_changes_nothing_and_says_so(
    mailchimp: Sandbox, connector: Mailchimp
) -> None:
    write(connector, *creates(1, tags=("Segue: A",)), change(Operation.CREATE, 1))
    removals = [change(Operation.UNTAG, number, tags=("segue: a",)) for number in (0, 1, 2)]
    assert [outcome.status.value for outcome in write(connector, *removals)] == [
        "applied",
        "unchanged",
        "unchanged",
    ]
    (outcome,) = write(connector, change(Operation.UNTAG, 0, tags=("never made",)))
    assert outcome.status is OutcomeStatus.UNCHANGED


def test_untag_of_a_tag_that_somebody_removed_is_unchanged(mailchimp: Sandbox, connector: Mailchimp) -> None:
    write(connector, *creates(1, tags=("segue: a",)))
    connector.check()
    emulator = mailchimp.emulator
    with emulator.lock:
        (segment,) = emulator.audience.segments.values()
        emulator.audience.drop_segment(segment)
    (outcome,) = write(connector, change(Operation.UNTAG, 0, tags=("segue: a",)))
    assert outcome.status is OutcomeStatus.UNCHANGED


def test_tag_ids_are_looked_up_once_for_many_batches(mailchimp: Sandbox, connector: Mailchimp) -> None:
    write(connector, *creates(3, tags=("segue: a",)))
    for number in range(3):
        write(connector, change(Operation.UNTAG, number, tags=("segue: a",)))
    lookups = [
        each for each in mailchimp.referee.exchanges if each.endpoint == "GET /3.0/lists/{list_id}/segments"
    ]
    assert len(lookups) == 1
