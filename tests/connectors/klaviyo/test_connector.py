"""What each operation sends to Klaviyo, and what its answers mean for each contact."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from segue.connectors.emulator import PersonAct
from segue.connectors.faults import Fault, FaultKind
from segue.connectors.klaviyo.connector import Klaviyo
from segue.connectors.klaviyo.payload import LEFT
from segue.connectors.klaviyo.testing import Sandbox
from segue.core.consent import ConsentState
from segue.core.errors import (
    AuthenticationError,
    ConfigError,
    ConsentError,
    DestinationError,
    OutcomeUnknownError,
    RejectedBatchError,
    UnsupportedFeatureError,
)
from segue.core.model import Capabilities, EngagementKind, Operation, OutcomeStatus

from .account import GRANT, IMPORT, SUBSCRIBE, Account, address, change, statuses

APPLIED, ACCEPTED, UNSENT = OutcomeStatus.APPLIED, OutcomeStatus.ACCEPTED, OutcomeStatus.UNSENT


# Making


def test_who_is_made_is_looked_up_subscribed_as_of_their_grant_and_asked_to_confirm_nothing(
    account: Account,
) -> None:
    creates = [change(Operation.CREATE, number, fields={"sg_text": "x"}) for number in range(250)]
    outcomes = account.write(*creates)
    assert set(statuses(outcomes)) == {"accepted"}
    assert account.sent() == ["GET /api/profiles"] * 3 + [SUBSCRIBE]
    outcomes = account.ended(creates, outcomes)
    assert set(statuses(outcomes)) == {"made"}
    found = account.connector.read([address(7)])[0]
    assert found is not None
    assert (found.status, found.opted_in_at) == ("SUBSCRIBED", GRANT.granted_at)
    assert outcomes[7].record_id == found.record_id
    standing = account.emulator.account.standings.of(address(7))
    assert standing is not None
    assert standing.confirmation_mails == 0


def test_who_agreed_this_very_moment_agreed_in_klaviyos_past_too(account: Account) -> None:
    account.emulator.clock.release()
    account.emulator.clock.advance(timedelta(minutes=-1))  # it goes after ours
    grant = replace(GRANT, granted_at=datetime.now(UTC))
    assert statuses(account.done(change(Operation.CREATE, 1, grant=grant))) == ["applied"]


def test_a_clock_that_is_ahead_of_klaviyos_is_told_and_refuses_nobody(account: Account) -> None:
    account.emulator.clock.release()
    account.emulator.clock.advance(timedelta(minutes=-3))
    grant = replace(GRANT, granted_at=datetime.now(UTC))
    with pytest.raises(DestinationError, match="clock is ahead") as caught:
        account.write(change(Operation.CREATE, 0), change(Operation.CREATE, 1, grant=grant))
    assert not isinstance(caught.value, RejectedBatchError)  # that is looked into, half by half
    assert list(account.emulator.people()) == []


def test_who_has_nothing_more_to_say_is_done_once_made(account: Account) -> None:
    assert statuses(account.done(change(Operation.CREATE, 1))) == ["applied"]


def test_who_is_there_is_met_and_not_subscribed(account: Account) -> None:
    for act in (PersonAct.SUBSCRIBE, PersonAct.UNSUBSCRIBE):
        account.act(act, 2)
    account.act(PersonAct.SUBSCRIBE, 1)
    account.sandbox.call(
        "POST", "/profiles", {"data": {"type": "profile", "attributes": {"email": address(3)}}}
    )
    raises = len(account.emulator.raises)
    outcomes = account.done(*(change(Operation.CREATE, number) for number in (1, 2, 3)))
    assert statuses(outcomes) == ["exists", "rejected", "exists"]
    assert outcomes[1].code == "left"
    assert SUBSCRIBE not in account.sent()
    assert len(account.emulator.raises) == raises
    account.emulator.account.standings.raises.clear()  # the plain call's own


def test_one_address_that_klaviyo_does_not_take_is_told_and_the_others_come_again(account: Account) -> None:
    creates = [change(Operation.CREATE, number) for number in range(3)]
    creates[1] = replace(creates[1], address="no @address")
    account.sandbox.referee.exchanges.clear()
    outcomes = account.write(*creates)
    assert statuses(outcomes) == ["unsent", "rejected", "unsent"]
    assert outcomes[1].code == "invalid_address"


def test_a_subscription_without_an_answer_is_unknown_and_sent_once(account: Account) -> None:
    account.emulator.faults.arm([Fault(kind=FaultKind.LOST_ANSWER, path="subscription-bulk-create", count=9)])
    with pytest.raises(OutcomeUnknownError):
        account.write(change(Operation.CREATE, 1))
    assert account.sent().count(SUBSCRIBE) == 1


def test_nobody_is_made_who_is_still_to_confirm(account: Account) -> None:
    with pytest.raises(ConsentError):
        account.write(change(Operation.CREATE, 1, consent=ConsentState.PENDING))
    assert list(account.emulator.people()) == []


def test_who_is_made_is_put_on_the_list_of_the_setting(klaviyo: Sandbox) -> None:
    opened = Account(klaviyo, list=klaviyo.list_id)
    with opened.connector.transport:
        opened.connector.check()
        opened.done(change(Operation.CREATE, 1))
    assert opened.person(1).tags == {"Sandbox"}


# Writing by jobs


def test_many_are_written_by_one_job_and_a_few_one_by_one(account: Account) -> None:
    updates = account.people_made(30, fields={"sg_text": "x", "sg_num": "5"})
    assert set(statuses(account.done(*updates))) == {"applied"}
    assert [each for each in account.sent() if each.startswith(("POST", "PATCH"))] == [IMPORT]
    held = account.person(29).fields
    assert (held["sg_text"], held["sg_num"]) == ("x", 5)
    assert set(statuses(account.write(*updates[:10]))) == {"applied"}
    assert {each.split("/")[0] for each in account.sent()} == {"PATCH "}


def test_a_whole_number_keeps_all_its_digits(account: Account) -> None:
    card = "9007199254740993"  # 2^53 + 1
    (update,) = account.people_made(1, fields={"sg_num": card})
    account.done(update)
    (read,) = account.connector.read([address(0)])
    assert account.person(0).fields["sg_num"] == int(card)
    assert read is not None
    assert read.fields["sg_num"] == card == account.connector.shown({"sg_num": card})["sg_num"]


@pytest.mark.parametrize(("text", "shown"), [("5.50", "5.5"), ("5.0", "5"), ("-0.25", "-0.25"), ("0", "0")])
def test_a_number_is_shown_as_klaviyo_gives_it_back(account: Account, text: str, shown: str) -> None:
    (update,) = account.people_made(1, fields={"sg_num": text})
    account.done(update)
    (read,) = account.connector.read([address(0)])
    assert read is not None
    assert read.fields["sg_num"] == shown == account.connector.shown({"sg_num": text})["sg_num"]


@pytest.mark.parametrize("count", [3, 20])
@pytest.mark.parametrize("number", [2**64, -(2**63) - 1])
def test_a_number_of_more_than_64_bits_is_refused_alone_and_not_sent(
    account: Account, count: int, number: int
) -> None:
    updates = account.people_made(count, fields={"sg_num": str(2**64 - 1)})
    updates[1] = replace(updates[1], fields={"sg_num": str(number)})
    outcomes = account.done(*updates)
    assert outcomes[1].code == "invalid_field"
    assert statuses(outcomes).count("applied") == count - 1
    assert account.person(0).fields["sg_num"] == 2**64 - 1
    move = replace(
        updates[1], operation=Operation.READDRESS, previous_address=address(1), address=address(99)
    )
    account.sent()
    assert [each.code for each in account.write(move)] == ["invalid_field"]
    assert account.sent() == []


def test_a_job_writes_all_tags_of_a_contact_as_one_value(account: Account) -> None:
    updates = account.people_made(20, tags=("segue: b",), tags_held=frozenset({"segue: a"}))
    account.done(*updates)
    assert account.person(0).tags == {"segue: a", "segue: b"}
    untags = [
        replace(
            each,
            operation=Operation.UNTAG,
            tags=("segue: a",),
            tags_held=frozenset({"segue: a", "segue: b"}),
        )
        for each in updates
    ]
    account.done(*untags)
    assert account.person(19).tags == {"segue: b"}


def test_where_the_tags_of_a_contact_are_not_known_they_are_added_one_by_one(account: Account) -> None:
    account.done(*account.people_made(20, tags=("segue: a",), tags_held=frozenset()))
    updates = [change(Operation.UPDATE, number, tags=("segue: b",)) for number in range(20)]
    account.done(*updates)
    assert account.person(0).tags == {"segue: a", "segue: b"}


def test_what_a_job_refuses_is_told_of_the_contact_that_it_points_at(account: Account) -> None:
    updates = account.people_made(30, fields={"sg_text": "x"})
    gone = account.person(7)
    account.act(PersonAct.ERASE, 7)
    updates[11] = replace(updates[11], record_id="01NOBODY")
    outcomes = account.done(*updates)
    assert outcomes[7].code == "vanished"
    assert (outcomes[11].status, outcomes[11].record_id) == (UNSENT, account.person(11).name)
    assert statuses(outcomes).count("applied") == 28
    assert gone.address not in {each.address for each in account.emulator.people()}


def test_who_a_job_may_have_refused_is_never_taken_for_written(account: Account) -> None:
    account.sandbox.settings(pointers=False)
    updates = account.people_made(30, fields={"sg_text": "x"})
    account.act(PersonAct.ERASE, 7)
    assert {outcome.code for outcome in account.done(*updates)} == {"job_unclear"}


def test_a_request_holds_no_more_than_klaviyo_takes_and_the_rest_comes_again(account: Account) -> None:
    updates = account.people_made(60, fields={"sg_text": "x" * 90_000})
    outcomes = account.write(*updates)
    assert statuses(outcomes) == ["accepted"] * 55 + ["unsent"] * 5
    assert len({outcome.job for outcome in outcomes[:55]}) == 1


def test_a_contact_that_is_too_large_is_refused_alone(account: Account) -> None:
    updates = account.people_made(20, fields={"sg_text": "x"})
    updates[3] = replace(updates[3], fields={"sg_text": "x" * 100_001})
    outcomes = account.done(*updates)
    assert outcomes[3].code == "too_large"
    assert statuses(outcomes).count("applied") == 19


def test_a_job_that_klaviyo_cancels_is_unknown_and_not_open_any_more(account: Account) -> None:
    account.sandbox.settings(cancel_jobs=True)
    outcomes = account.done(*account.people_made(20, fields={"sg_text": "x"}))
    assert {(outcome.status, outcome.job) for outcome in outcomes} == {(OutcomeStatus.UNKNOWN, "")}


def test_a_job_that_klaviyo_has_forgotten_is_not_open_any_more(account: Account) -> None:
    updates = account.people_made(20, fields={"sg_text": "x"})
    (outcome, *_) = account.write(*updates)
    account.pass_time(60 * 24 * 8)
    told = account.connector.poll(outcome.job, updates)
    assert {(each.status, each.job) for each in told} == {(OutcomeStatus.UNKNOWN, "")}


def test_nothing_is_asked_of_a_job_but_whether_it_is_done(account: Account) -> None:
    updates = account.people_made(20, fields={"sg_text": "x"})
    outcomes = account.write(*updates)
    account.sent()
    assert {each.status for each in account.connector.poll(outcomes[0].job, updates)} == {ACCEPTED}
    account.pass_time()
    assert {each.status for each in account.connector.poll(outcomes[0].job, updates)} == {APPLIED}
    assert account.sent() == [f"GET /api/profile-bulk-import-jobs/{outcomes[0].job}"] * 2


# Leaving


def test_an_opt_out_is_accepted_until_a_read_shows_it(account: Account) -> None:
    account.sandbox.settings(mode="permissive")  # the adversarial one is done at once
    account.people_made(2)
    outs = [change(Operation.OPT_OUT, number) for number in (0, 9)]
    outcomes = account.write(*outs)
    assert statuses(outcomes) == ["accepted", "unchanged"]
    assert account.connector.poll("", outs[:1])[0].status is ACCEPTED
    outcomes = account.ended(outs, outcomes)
    assert statuses(outcomes) == ["applied", "unchanged"]
    assert account.person(0).state is ConsentState.UNSUBSCRIBED


def test_a_hundred_are_opted_out_by_one_request_that_names_no_list(account: Account) -> None:
    account.people_made(100)
    outcomes = account.done(*(change(Operation.OPT_OUT, number) for number in range(100)))
    assert set(statuses(outcomes)) == {"applied"}
    assert account.sent().count("POST /api/profile-subscription-bulk-delete-jobs") == 1


# Reading


def test_a_pull_gives_everyone_once_and_then_who_changed(account: Account) -> None:
    account.people_made(130)
    account.pass_time(5)
    pages = list(account.connector.pull(None))
    assert [len(page.contacts) for page in pages] == [100, 30]
    account.act(PersonAct.UNSUBSCRIBE, 4)
    *_, last = account.connector.pull(pages[-1].cursor)
    account.pass_time(5)
    account.act(PersonAct.UNSUBSCRIBE, 5)
    (page,) = account.connector.pull(last.cursor)
    found = {(each.address, each.state) for each in page.contacts}
    assert found == {(address(number), ConsentState.UNSUBSCRIBED) for number in (4, 5)}


def test_a_pull_goes_on_behind_the_page_that_was_stored_last(account: Account) -> None:
    account.people_made(230)
    first = next(iter(account.connector.pull(None)))
    rest = [each.address for page in account.connector.pull(first.cursor) for each in page.contacts]
    assert len({each.address for each in first.contacts} | set(rest)) == 230
    assert len(rest) == 130


def test_a_page_that_klaviyo_does_not_know_any_more_is_read_again_from_where_its_reading_began(
    account: Account,
) -> None:
    account.people_made(3)
    account.pass_time(120)
    (*_, whole) = account.connector.pull(None)
    account.act(PersonAct.UNSUBSCRIBE, 1)
    account.pass_time(5)
    account.act(PersonAct.UNSUBSCRIBE, 2)
    stale = json.dumps({**json.loads(whole.cursor), "page": "stale"})
    pages = list(account.connector.pull(stale))
    left = {each.address for page in pages for each in page.contacts if each.state in LEFT}
    assert left == {address(1), address(2)}
    assert "page" not in json.loads(pages[-1].cursor)
    everyone = [page.contacts for page in account.connector.pull(json.dumps({"page": "stale"}))]
    assert len(everyone[0]) == 3


@pytest.mark.parametrize("act", [PersonAct.UNSUBSCRIBE, PersonAct.COMPLAIN, PersonAct.BOUNCE])
def test_who_left_one_list_or_was_suppressed_counts_as_gone(account: Account, act: PersonAct) -> None:
    account.people_made(1)
    account.emulator.act(PersonAct.SUBSCRIBE, audience=account.sandbox.list_id, address=address(0))
    listed = account.sandbox.list_id if act is PersonAct.UNSUBSCRIBE else ""
    account.emulator.act(act, audience=listed, address=address(0))
    found = account.connector.read([address(0)])[0]
    assert found is not None
    assert found.state in {ConsentState.UNSUBSCRIBED, ConsentState.SUPPRESSED}


def test_opens_and_clicks_come_with_addresses_and_go_on_where_they_ended(account: Account) -> None:
    account.people_made(2)
    since = account.emulator.clock.now() - timedelta(days=1)
    assert list(account.connector.engagement(None, since=since)) == []
    account.act(PersonAct.OPEN, 0)
    account.pass_time(120)
    account.act(PersonAct.CLICK, 1)
    pages = list(account.connector.engagement(None, since=since))
    found = {(each.address, each.kind) for page in pages for each in page.found}
    assert found == {(address(0), EngagementKind.OPEN), (address(1), EngagementKind.CLICK)}
    account.pass_time(120)
    account.act(PersonAct.CLICK, 0)
    later = [
        each.address
        for page in account.connector.engagement(pages[-1].cursor, since=since)
        for each in page.found
    ]
    assert later.count(address(0)) == 2  # the open comes again, as the newest of its kind


# The account


def test_an_account_is_described_by_reads_alone(account: Account) -> None:
    found = account.connector.check()
    assert (found.audience_id, found.label, found.contacts, found.tags) == (
        "SANDBX",
        "Segue sandbox",
        None,
        None,
    )
    assert account.sent() == ["GET /api/accounts"]


def test_a_wrong_key_is_told_and_the_guard_against_robots_is_not_taken_for_one(klaviyo: Sandbox) -> None:
    account = Account(klaviyo)
    with account.connector.transport:
        account.emulator.faults.arm([Fault(kind=FaultKind.CHALLENGED, count=1)])
        account.connector.check()
    wrong = Account(klaviyo, api_key="pk_wrong")
    with wrong.connector.transport, pytest.raises(AuthenticationError):
        wrong.connector.check()


def test_webhooks_are_made_where_the_account_may_have_them_and_refused_in_words_where_not(
    account: Account,
) -> None:
    with pytest.raises(UnsupportedFeatureError, match="Advanced KDP"):
        account.connector.install_webhook("https://hooks.shop.example/k")
    account.sandbox.settings(advanced_kdp=True)
    made = account.connector.install_webhook("https://hooks.shop.example/k")
    assert made.secret is not None
    assert len(made.secret) >= 16
    (listed,) = account.connector.installed_webhooks()
    assert (listed.id, listed.url, listed.secret) == (made.id, made.url, None)
    assert set(listed.events) == set(made.events)
    account.connector.remove_webhook(made.id)
    account.connector.remove_webhook(made.id)
    assert account.connector.installed_webhooks() == []


def test_all_that_is_wrong_with_the_settings_is_said_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        Klaviyo.from_settings(
            {"list": "no list", "batch_size": "20000", "base_url": "http://a.klaviyo.com", "api_kye": "x"}
        )
    for name in ("api_key", "list", "batch_size", "base_url", "api_kye"):
        assert f"settings.{name}" in str(caught.value)


def test_each_endpoint_has_limits_of_its_own(klaviyo: Sandbox) -> None:
    """The lanes: twenty reads of profiles wait for nothing, though an account may be read once a second."""
    given = {**klaviyo.destination, "api_key": klaviyo.key}
    del given["rate_limit"]
    connector = Klaviyo.from_settings(given)
    with connector.transport:
        connector.check()
        for number in range(20):
            connector.read([address(number)])
        traffic = connector.transport.traffic()
    assert (traffic.throttled, traffic.requests) == (0, 21)
    assert traffic.seconds < 5


def test_capabilities_are_those_that_klaviyo_publishes() -> None:
    can: Capabilities = Klaviyo.capabilities
    assert can.jobs is not None
    assert (can.batch_sizes[Operation.UPDATE], can.jobs.request_bytes) == (10_000, 5_000_000)
    assert (can.batch_sizes[Operation.CREATE], can.batch_sizes[Operation.OPT_OUT]) == (1_000, 100)
    assert datetime.now(UTC) > GRANT.granted_at
