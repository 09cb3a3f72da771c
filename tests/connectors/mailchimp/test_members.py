"""Creates and updates: what is sent, who is refused before and by Mailchimp, and who is never brought back."""

from dataclasses import replace

import pytest

from segue.connectors.emulator import PersonAct
from segue.connectors.faults import Fault, FaultKind
from segue.connectors.mailchimp.connector import Mailchimp
from segue.connectors.mailchimp.testing import Sandbox
from segue.core.consent import ConsentState
from segue.core.errors import ConsentError, UnsupportedFeatureError
from segue.core.model import Grant, Operation

from .changes import (
    APPLIED,
    BATCH,
    GRANT,
    MEMBER,
    SCHEMA,
    act,
    address,
    archive,
    change,
    creates,
    sent,
    status,
    told,
    write,
    writes,
)


def test_500_creates_are_one_request_that_cannot_change_anyone_who_is_there(
    mailchimp: Sandbox, connector: Mailchimp
) -> None:
    assert set(told(connector.write(Operation.CREATE, creates(500)))) == {APPLIED}
    assert writes(mailchimp) == [BATCH]
    (body,) = sent(mailchimp, BATCH)
    assert body["update_existing"] is False
    assert "sync_tags" not in body
    assert {item["status"] for item in body["members"]} == {"subscribed"}
    assert len(mailchimp.emulator.audience.members) == 500


def test_a_create_carries_its_evidence_and_a_pending_one_claims_no_opt_in(
    mailchimp: Sandbox, connector: Mailchimp
) -> None:
    nowhere = replace(GRANT, evidence={"ip": "shop-front"})
    write(
        connector,
        change(Operation.CREATE, 0),
        change(Operation.CREATE, 1, consent=ConsentState.PENDING),
        change(Operation.CREATE, 2, grant=nowhere),
        change(Operation.CREATE, 3, consent=ConsentState.PENDING, grant=None),
    )
    (body,) = sent(mailchimp, BATCH)
    when, ip = "2026-03-01T09:30:00+00:00", "203.0.113.9"
    evidence = [
        {key: value for key, value in item.items() if key.startswith(("timestamp", "ip"))}
        for item in body["members"]
    ]
    assert evidence == [
        {"timestamp_signup": when, "timestamp_opt": when, "ip_signup": ip, "ip_opt": ip},
        {"timestamp_signup": when, "ip_signup": ip},
        {"timestamp_signup": when, "timestamp_opt": when},
        {},
    ]


def test_values_go_out_as_the_audiences_own_fields_want_them(
    mailchimp: Sandbox, connector: Mailchimp
) -> None:
    connector.ensure(SCHEMA)
    mailchimp.emulator.audience.fields["BIRTHDAY"].options["date_format"] = "DD/MM"
    connector.check()
    fields: dict[str, str | None] = {
        "SG_TEXT": "007",
        "SG_NUM": "12.5",
        "SG_DATE": "2026-12-31",
        "SG_BIRTH": "1980-02-29",
        "BIRTHDAY": "1980-02-29",
        "SG_URL": "https://shop.org/a?b=1",
    }
    outcomes = write(
        connector,
        change(Operation.CREATE, 0, fields=fields),
        change(Operation.CREATE, 1, fields={"SG_NUM": "-3", "SG_BIRTH": "02/29", "SG_TEXT": None}),
    )
    assert told(outcomes) == [APPLIED, APPLIED]
    first, second = (item["merge_fields"] for item in sent(mailchimp, BATCH)[0]["members"])
    assert first == {
        "SG_TEXT": "007",
        "SG_NUM": 12.5,
        "SG_DATE": "2026-12-31",
        "SG_BIRTH": "02/29",
        "BIRTHDAY": "29/02",
        "SG_URL": "https://shop.org/a?b=1",
    }
    assert second == {"SG_NUM": -3, "SG_BIRTH": "02/29"}  # nothing to clear on somebody new


def test_an_update_clears_and_sets_and_adds_tags_and_never_speaks_of_status(
    mailchimp: Sandbox, connector: Mailchimp
) -> None:
    connector.ensure(SCHEMA)
    write(connector, *creates(2, fields={"SG_TEXT": "old", "SG_NUM": "1"}, tags=("segue: a",)))
    mailchimp.referee.exchanges.clear()
    update = [
        change(Operation.UPDATE, number, fields={"SG_TEXT": None, "SG_NUM": "2"}, tags=("segue: b",))
        for number in range(2)
    ]
    assert told(write(connector, *update)) == [APPLIED, APPLIED]
    (body,) = sent(mailchimp, BATCH)
    assert body["update_existing"] is True
    assert "sync_tags" not in body
    assert not any("status" in str(key) for item in body["members"] for key in item)
    (found,) = connector.read([address(0)])
    assert found is not None
    assert (dict(found.fields), found.tags) == ({"SG_NUM": "2"}, frozenset({"segue: a", "segue: b"}))
    assert found.state is ConsentState.SUBSCRIBED


@pytest.mark.parametrize("mode", ["adversarial", "permissive"])
@pytest.mark.parametrize(
    ("operation", "consent", "grant"),
    [
        (Operation.CREATE, ConsentState.SUBSCRIBED, None),
        (Operation.CREATE, None, GRANT),
        (Operation.CREATE, ConsentState.UNSUBSCRIBED, GRANT),
        (Operation.CREATE, ConsentState.UNKNOWN, GRANT),
        (Operation.UPDATE, ConsentState.SUBSCRIBED, GRANT),
        (Operation.UPDATE, ConsentState.PENDING, GRANT),
        (Operation.READDRESS, ConsentState.SUBSCRIBED, GRANT),
        (Operation.UNTAG, ConsentState.SUBSCRIBED, GRANT),
        (Operation.OPT_OUT, ConsentState.SUBSCRIBED, GRANT),
        (Operation.OPT_OUT, ConsentState.PENDING, GRANT),
    ],
)
def test_what_would_raise_consent_past_the_gate_is_refused_before_anything_is_sent(
    mailchimp: Sandbox,
    connector: Mailchimp,
    mode: str,
    operation: Operation,
    consent: ConsentState | None,
    grant: Grant | None,
) -> None:
    mailchimp.settings(mode=mode)
    bad = change(operation, 0, consent=consent, grant=grant, tags=("t",), previous_address=address(9))
    with pytest.raises(ConsentError):
        connector.write(operation, [bad])
    assert mailchimp.referee.exchanges == []


def test_a_mixed_or_too_large_batch_is_a_bug_and_sends_nothing(
    mailchimp: Sandbox, connector: Mailchimp
) -> None:
    with pytest.raises(ValueError, match="other changes"):
        connector.write(Operation.UPDATE, [change(Operation.UPDATE), change(Operation.CREATE, 1)])
    with pytest.raises(ValueError, match="501 changes"):
        connector.write(Operation.CREATE, creates(501))
    assert connector.write(Operation.CREATE, []) == []
    assert mailchimp.referee.exchanges == []


@pytest.mark.parametrize("mode", ["adversarial", "permissive"])
def test_creates_of_those_who_are_there_raise_nobody_and_are_told_apart(
    mailchimp: Sandbox, connector: Mailchimp, mode: str
) -> None:
    write(connector, *creates(4))
    act(mailchimp, PersonAct.UNSUBSCRIBE, 1)
    act(mailchimp, PersonAct.BOUNCE, 2)
    mailchimp.settings(mode=mode)
    outcomes = write(connector, *creates(5))
    assert told(outcomes) == [
        ("exists", ""),
        ("rejected", "compliance_state"),
        ("rejected", "compliance_state"),
        ("exists", ""),
        APPLIED,
    ]
    assert [outcome.seen.state if outcome.seen else None for outcome in outcomes] == [
        ConsentState.SUBSCRIBED,
        ConsentState.UNSUBSCRIBED,
        ConsentState.SUPPRESSED,
        ConsentState.SUBSCRIBED,
        None,
    ]
    assert [status(mailchimp, number) for number in range(3)] == ["subscribed", "unsubscribed", "cleaned"]
    assert mailchimp.emulator.audience.raises == []


@pytest.mark.parametrize("localized", [False, True])
def test_refused_items_are_told_apart_by_fields_and_read_back_never_by_sentences(
    mailchimp: Sandbox, connector: Mailchimp, localized: bool
) -> None:
    connector.ensure(SCHEMA)
    write(connector, *creates(2))
    act(mailchimp, PersonAct.ERASE, 1)
    mailchimp.settings(refuse_fake_addresses=True, localized=localized)
    outcomes = write(
        connector,
        change(Operation.CREATE, 1),
        change(Operation.CREATE, 2, fields={"SG_NUM": "many"}),
        change(Operation.CREATE, 3, address="jane@example.com"),
        change(Operation.CREATE, 4),
    )
    assert told(outcomes) == [
        ("rejected", "refused_address"),
        ("rejected", "invalid_field"),
        ("rejected", "refused_address"),
        APPLIED,
    ]
    assert "SG_NUM" in outcomes[1].reason
    assert not any("person1" in outcome.reason or "jane" in outcome.reason for outcome in outcomes)


def test_a_required_field_of_others_is_named(mailchimp: Sandbox, connector: Mailchimp) -> None:
    mailchimp.emulator.audience.fields["FNAME"].required = True
    (outcome,) = write(connector, change(Operation.CREATE))
    assert told([outcome]) == [("rejected", "invalid_field")]
    assert "FNAME" in outcome.reason


def test_outcomes_keep_the_order_of_the_changes_whatever_the_case_of_the_answer(
    mailchimp: Sandbox, connector: Mailchimp
) -> None:
    write(connector, change(Operation.CREATE, 1, address="MiXed@Shop.ORG"))
    changes = [change(Operation.CREATE, 2), change(Operation.CREATE, 1, address="mixed@shop.org")]
    assert told(write(connector, *changes)) == [APPLIED, ("exists", "")]


def test_of_two_changes_with_one_address_the_second_waits(mailchimp: Sandbox, connector: Mailchimp) -> None:
    changes = [change(Operation.CREATE, 0), change(Operation.CREATE, 1, address=address(0).upper())]
    assert told(write(connector, *changes)) == [APPLIED, ("deferred", "same_address")]
    assert len(sent(mailchimp, BATCH)[0]["members"]) == 1


@pytest.mark.parametrize("mode", ["adversarial", "permissive"])
@pytest.mark.parametrize("pulled", [True, False])
def test_an_update_leaves_out_who_was_archived_meanwhile(
    mailchimp: Sandbox, connector: Mailchimp, mode: str, pulled: bool
) -> None:
    mailchimp.settings(mode=mode)
    write(connector, *creates(3))
    if pulled:
        list(connector.pull(None))
    act(mailchimp, PersonAct.UNSUBSCRIBE, 1)
    archive(mailchimp, 1)
    mailchimp.referee.exchanges.clear()
    outcomes = write(connector, *(change(Operation.UPDATE, each, tags=("segue: b",)) for each in range(3)))
    assert told(outcomes) == [APPLIED, ("rejected", "compliance_state"), APPLIED]
    assert outcomes[1].seen is not None
    assert outcomes[1].seen.status == "archived"
    assert address(1) not in str(sent(mailchimp, BATCH))
    assert status(mailchimp, 1) == "archived"
    assert mailchimp.emulator.audience.raises == []


def test_an_update_for_the_archived_alone_sends_no_write(mailchimp: Sandbox, connector: Mailchimp) -> None:
    write(connector, *creates(1))
    archive(mailchimp, 0)
    mailchimp.referee.exchanges.clear()
    assert told(write(connector, change(Operation.UPDATE))) == [("rejected", "compliance_state")]
    assert writes(mailchimp) == []


def test_who_comes_back_by_a_create_with_a_grant_can_be_updated_again(
    mailchimp: Sandbox, connector: Mailchimp
) -> None:
    write(connector, *creates(1))
    archive(mailchimp, 0)
    write(connector, change(Operation.UPDATE))
    assert told(write(connector, change(Operation.CREATE))) == [APPLIED]
    assert told(write(connector, change(Operation.UPDATE))) == [APPLIED]


def test_looking_for_the_archived_costs_one_read_per_update_batch(
    mailchimp: Sandbox, connector: Mailchimp
) -> None:
    write(connector, *creates(20))
    list(connector.pull(None))
    before = connector.transport.traffic()
    write(connector, *(change(Operation.UPDATE, each) for each in range(20)))
    after = connector.transport.traffic()
    assert (after.reads - before.reads, after.writes - before.writes) == (1, 1)


def test_somebody_whom_an_update_made_anew_is_unsubscribed_at_once(
    mailchimp: Sandbox, connector: Mailchimp
) -> None:
    """Adversarial: an update without a status makes an absent contact, as subscribed."""
    write(connector, *creates(1))
    outcomes = write(connector, change(Operation.UPDATE, 0), change(Operation.UPDATE, 7))
    assert told(outcomes) == [APPLIED, ("rejected", "recreated")]
    assert status(mailchimp, 7) == "unsubscribed"
    assert sent(mailchimp, f"PATCH {MEMBER}") == [{"status": "unsubscribed"}]


def test_and_if_that_fails_it_is_loud_and_names_no_address(mailchimp: Sandbox, connector: Mailchimp) -> None:
    mailchimp.emulator.faults.arm([Fault(kind=FaultKind.UNAVAILABLE, method="PATCH")])
    with pytest.raises(ConsentError, match=r"made 1 contacts mailable .* by hand: 7\.") as caught:
        write(connector, change(Operation.UPDATE, 7))
    assert "person7" not in str(caught.value)


def test_an_update_of_someone_unknown_is_vanished_where_mailchimp_refuses_to_make_them(
    mailchimp: Sandbox, connector: Mailchimp
) -> None:
    mailchimp.settings(mode="permissive")
    write(connector, *creates(2))
    act(mailchimp, PersonAct.ERASE, 1)
    outcomes = write(connector, *(change(Operation.UPDATE, each) for each in range(2)))
    assert told(outcomes) == [APPLIED, ("rejected", "vanished")]
    assert status(mailchimp, 1) is None


def test_a_field_removed_at_mailchimp_stops_the_run_instead_of_halving_batches(
    mailchimp: Sandbox, connector: Mailchimp
) -> None:
    connector.ensure(SCHEMA)
    emulator = mailchimp.emulator
    with emulator.lock:
        emulator.audience.drop_field(emulator.audience.fields["SG_TEXT"])
    with pytest.raises(UnsupportedFeatureError, match="no SG_TEXT any more"):
        write(connector, *creates(3, fields={"SG_TEXT": "x"}))
    assert emulator.audience.members == {}
