from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import responses
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segue.connectors.base import Connector
from segue.connectors.emulator import PersonAct
from segue.connectors.faults import Fault, FaultKind
from segue.connectors.limiter import Clock, Limiter
from segue.connectors.mailchimp.connector import Mailchimp
from segue.connectors.mailchimp.payload import STATES, subscriber_hash
from segue.connectors.mailchimp.testing import Sandbox
from segue.connectors.registry import CONNECTORS, connector_class
from segue.connectors.transport import Transport
from segue.core.consent import ConsentState
from segue.core.errors import (
    AuthenticationError,
    ConfigError,
    ConsentError,
    DestinationError,
    OutcomeUnknownError,
    RetryableError,
    UnsupportedFeatureError,
)
from segue.core.model import (
    Change,
    DestinationSchema,
    FieldSpec,
    FieldType,
    Grant,
    Operation,
    Outcome,
    OutcomeStatus,
)

GRANT = Grant(
    granted_at=datetime(2026, 3, 1, 9, 30, tzinfo=UTC),
    source="shop",
    evidence={"ip": "203.0.113.9", "form": "f1"},
)
SCHEMA = DestinationSchema(
    fields=(
        FieldSpec(tag="SG_TEXT", label="Text", type=FieldType.TEXT, purpose="test"),
        FieldSpec(tag="SG_NUM", label="Number", type=FieldType.NUMBER, purpose="test"),
        FieldSpec(tag="SG_DATE", label="Date", type=FieldType.DATE, purpose="test", default="soon"),
        FieldSpec(tag="SG_BIRTH", label="Birthday", type=FieldType.BIRTHDAY, purpose="test"),
        FieldSpec(tag="SG_URL", label="Link", type=FieldType.URL, purpose="test"),
    )
)
BATCH, MEMBER = "POST /3.0/lists/{list_id}", "/3.0/lists/{list_id}/members/{subscriber_hash}"


@pytest.fixture
def connector(mailchimp: Sandbox) -> Iterator[Mailchimp]:
    with connected(mailchimp) as made:
        yield made


class connected:  # noqa: N801 - reads as a verb
    """A connector on the sandbox whose waits take no time."""

    def __init__(self, mailchimp: Sandbox) -> None:
        self.seconds = 0.0
        limiter = Limiter(9, clock=Clock(now=lambda: self.seconds, sleep=self.sleep))
        self.transport = Transport(
            mailchimp.base_url,
            label="Mailchimp",
            auth=("segue", mailchimp.key),
            limiter=limiter,
            errors=Mailchimp.errors,
        )
        self.connector = Mailchimp(self.transport, mailchimp.audience)

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds

    def __enter__(self) -> Mailchimp:
        return self.connector

    def __exit__(self, *_: object) -> None:
        self.transport.close()


def address(number: int) -> str:
    return f"person{number}@shop.org"


def change(operation: Operation, number: int = 0, **more: Any) -> Change:
    if operation is Operation.CREATE:
        more = {"consent": ConsentState.SUBSCRIBED, "grant": GRANT, **more}
    return Change(**{"contact_key": number, "operation": operation, "address": address(number), **more})


def creates(count: int, **more: Any) -> list[Change]:
    return [change(Operation.CREATE, number, **more) for number in range(count)]


def write(connector: Connector, *changes: Change) -> list[Outcome]:
    return connector.write(changes[0].operation, changes)


def told(outcomes: Sequence[Outcome]) -> list[tuple[str, str]]:
    return [(outcome.status.value, outcome.code) for outcome in outcomes]


def sent(mailchimp: Sandbox, endpoint: str) -> list[Any]:
    return [each.body for each in mailchimp.referee.exchanges if each.endpoint == endpoint]


def writes(mailchimp: Sandbox) -> list[str]:
    return [each.endpoint for each in mailchimp.referee.exchanges if each.method != "GET"]


def status(mailchimp: Sandbox, number: int) -> str | None:
    member = mailchimp.emulator.audience.find(address(number))
    return member.status if member else None


def act(mailchimp: Sandbox, what: PersonAct, number: int) -> None:
    mailchimp.emulator.act(what, audience=mailchimp.audience, address=address(number))


def archive(mailchimp: Sandbox, number: int) -> None:
    emulator = mailchimp.emulator
    with emulator.lock:
        member = emulator.audience.find(address(number))
        assert member is not None
        emulator.audience.archive(member, emulator.clock.now())


APPLIED = ("applied", "")


def test_the_registry_knows_every_connector_by_its_own_name() -> None:
    for name in CONNECTORS:
        assert connector_class(name).name == name


def test_an_unknown_connector_is_said_with_the_likeliest_name() -> None:
    with pytest.raises(ConfigError, match=r'no connector "mailchip".*Did you mean "mailchimp"\?'):
        connector_class("mailchip")
    with pytest.raises(ConfigError, match="Known connectors: mailchimp"):
        connector_class("zzz")


def test_the_data_centre_comes_from_the_key_and_the_base_url_beats_it() -> None:
    given_settings = {"api_key": "0123456789abcdef-us19", "audience": "b1234567ab"}
    for extra, base in (
        ({}, "https://us19.api.mailchimp.com/3.0"),
        ({"base_url": "http://127.0.0.1:8025/3.0/"}, "http://127.0.0.1:8025/3.0"),
    ):
        connector = Mailchimp.from_settings({**given_settings, **extra})
        assert connector.transport.base_url == base
        connector.transport.close()


def test_every_wrong_setting_is_said_at_once_and_no_secret_with_it() -> None:
    with pytest.raises(ConfigError) as caught:
        Mailchimp.from_settings(
            {
                "api_key": "sEcReT",
                "audiance": "b1",
                "plan": "gold",
            }
        )
    wheres = [problem.where for problem in caught.value.problems]
    assert wheres == ["settings.audiance", "settings.api_key", "settings.audience", "settings.plan"]
    assert 'Did you mean "audience"?' in str(caught.value)
    assert "sEcReT" not in str(caught.value)


@pytest.mark.parametrize(
    "base",
    [
        "ftp://x/3.0",
        "http://",
        "http://x/2.0",
        "http://u:p@x/3.0",
        "http://x:port/3.0",
        "http://us1.api.mailchimp.com/3.0",
    ],
)
def test_a_base_url_must_be_one_and_never_shows_the_key_on_the_way(base: str) -> None:
    with pytest.raises(ConfigError, match=r"settings\.base_url"):
        Mailchimp.from_settings({"api_key": "k", "audience": "b1", "base_url": base})


def test_check_reads_only_and_describes_the_account(mailchimp: Sandbox, connector: Mailchimp) -> None:
    mailchimp.settings(double_optin=True)
    write(connector, *creates(3, tags=("segue: vip",)))
    archive(mailchimp, 2)
    mailchimp.referee.exchanges.clear()
    account = connector.check()
    assert writes(mailchimp) == []
    assert (account.label, account.audience, account.double_opt_in) == ("Segue sandbox", "Sandbox", True)
    assert account.contacts >= 2
    assert account.tags == {"segue: vip"}
    assert account.fields["FNAME"] is FieldType.TEXT
    assert account.fields["ADDRESS"] is None  # an address is no type that we write


def test_check_pages_through_all_tags(mailchimp: Sandbox, connector: Mailchimp) -> None:
    emulator = mailchimp.emulator
    with emulator.lock:
        for number in range(1003):
            emulator.audience.add_segment(f"tag {number}", emulator.clock.now())
    assert len(connector.check().tags) == 1003


def test_a_wrong_key_and_a_wrong_audience_are_told_apart(mailchimp: Sandbox) -> None:
    right = {"api_key": mailchimp.key, "audience": mailchimp.audience, "base_url": mailchimp.base_url}
    for wrong, error in (
        ({"api_key": "other-us19"}, AuthenticationError),
        ({"audience": "b999"}, ConfigError),
    ):
        connector = Mailchimp.from_settings({**right, **wrong})
        with pytest.raises(error):
            connector.check()
        if error is ConfigError:
            with pytest.raises(error, match='no audience "b999"'):
                write(connector, change(Operation.CREATE))
        connector.transport.close()


def test_a_suspended_account_is_not_asked_again(
    told_by_hand: tuple[responses.RequestsMock, Mailchimp],
) -> None:
    esp, connector = told_by_hand
    esp.assert_all_requests_are_fired = False
    problem = {"title": "Compliance Related", "status": 599}
    esp.get("https://us19.api.mailchimp.com/3.0/", json=problem, status=599)
    with pytest.raises(AuthenticationError, match="Compliance Related"):
        connector.check()
    assert connector.transport.traffic().requests == 1


def test_ensure_makes_missing_fields_private_and_optional_and_the_second_time_nothing(
    mailchimp: Sandbox, connector: Mailchimp
) -> None:
    connector.ensure(SCHEMA)
    bodies = sent(mailchimp, "POST /3.0/lists/{list_id}/merge-fields")
    assert [body["tag"] for body in bodies] == [spec.tag for spec in SCHEMA.fields]
    assert not any(body["public"] or body["required"] for body in bodies)
    assert bodies[2]["default_value"] == "soon"
    assert bodies[3]["options"] == {"date_format": "MM/DD"}
    mailchimp.referee.exchanges.clear()
    connector.ensure(SCHEMA)
    assert writes(mailchimp) == []


def test_ensure_makes_nothing_when_a_field_has_another_type_or_there_is_no_room(
    mailchimp: Sandbox, connector: Mailchimp
) -> None:
    specs = [
        FieldSpec(tag=f"SG_{number}", label="x", type=FieldType.TEXT, purpose="x") for number in range(26)
    ]
    clash = FieldSpec(tag="FNAME", label="x", type=FieldType.NUMBER, purpose="x", claim=True)
    with pytest.raises(UnsupportedFeatureError) as caught:
        connector.ensure(DestinationSchema(fields=(*specs, clash)))
    assert [problem.where for problem in caught.value.problems] == ["field FNAME", "merge fields"]
    assert "it is text in the audience and number in the mapping" in str(caught.value)
    assert writes(mailchimp) == []


def test_ensure_survives_a_lost_answer_without_a_second_field(
    mailchimp: Sandbox, connector: Mailchimp
) -> None:
    mailchimp.emulator.faults.arm(
        [Fault(kind=FaultKind.LOST_ANSWER, path="merge-fields", method="POST", count=1)]
    )
    connector.ensure(SCHEMA)
    tags = [tag for tag in mailchimp.emulator.audience.fields if tag.startswith("SG_")]
    assert tags == [spec.tag for spec in SCHEMA.fields]


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


@pytest.fixture
def told_by_hand() -> Iterator[tuple[responses.RequestsMock, Mailchimp]]:
    """Answers that no source promises and the sandbox does not give, written down here."""
    base = "https://us19.api.mailchimp.com/3.0"
    with responses.RequestsMock() as esp:
        esp.get(f"{base}/lists/b1/merge-fields", json={"merge_fields": []})
        connector = Mailchimp.from_settings({"api_key": "0123-us19", "audience": "b1"})
        yield esp, connector
        connector.transport.close()


def members_url(number: int) -> str:
    return f"https://us19.api.mailchimp.com/3.0/lists/b1/members/{subscriber_hash(address(number))}"


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


def test_a_change_of_case_is_the_same_member(mailchimp: Sandbox, connector: Mailchimp) -> None:
    write(connector, *creates(1))
    moved = change(Operation.READDRESS, 0, address=address(0).upper(), previous_address=address(0))
    assert told(write(connector, moved)) == [APPLIED]
    assert len(mailchimp.emulator.audience.members) == 1


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
    found = {contact.address: contact for page in connector.pull(None) for contact in page}
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
    pages = list(connector.pull(start + timedelta(minutes=30)))
    assert [contact.address for page in pages for contact in page] == [address(1)]
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
        seen |= {contact.address for contact in page}
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


Step = Callable[[Sandbox, Mailchimp, int], Any]


def _person(what: PersonAct) -> Step:
    return lambda box, _, number: _try(lambda: act(box, what, number))


PEOPLE = {
    what.value: _person(what)
    for what in (PersonAct.UNSUBSCRIBE, PersonAct.BOUNCE, PersonAct.COMPLAIN, PersonAct.ERASE)
}


def _update(box: Sandbox, connector: Mailchimp, number: int) -> None:
    # As the engine does: to whom a pull has shown, archived or erased since though they may be.
    audience, key = box.emulator.audience, subscriber_hash(address(number))
    if key in audience.members or key in audience.forgotten:
        write(connector, change(Operation.UPDATE, number, tags=("segue: b",)))


STEPS: dict[str, Step] = {
    **PEOPLE,
    "archive": lambda box, _, number: _try(lambda: archive(box, number)),
    "update": _update,
    "readdress": lambda _, connector, number: write(
        connector,
        change(Operation.READDRESS, number, address=address(number + 4), previous_address=address(number)),
    ),
    "opt_out": lambda _, connector, number: write(connector, change(Operation.OPT_OUT, number)),
    "untag": lambda _, connector, number: write(
        connector, change(Operation.UNTAG, number, tags=("segue: a",))
    ),
    "pull": lambda _, connector, __: list(connector.pull(None)),
}


def _try(act_: Callable[[], None]) -> None:
    with suppress(LookupError, AssertionError):  # nobody there to act
        act_()


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    st.lists(st.tuples(st.sampled_from(sorted(STEPS)), st.integers(0, 3)), max_size=15),
    st.sampled_from(["adversarial", "permissive"]),
)
def test_whatever_happens_in_whatever_order_nothing_but_a_create_brings_anyone_back(
    mailchimp: Sandbox, steps: list[tuple[str, int]], mode: str
) -> None:
    mailchimp.emulator.reset()
    mailchimp.settings(mode=mode)
    with connected(mailchimp) as connector:
        write(connector, *creates(4, tags=("segue: a",)))
        refused: set[str] = set()
        for name, number in steps:
            before = {key: member.status for key, member in mailchimp.emulator.audience.members.items()}
            STEPS[name](mailchimp, connector, number)
            for member in mailchimp.emulator.audience.members.values():
                if member.refused:
                    refused.add(member.contact_id)
                if name not in PEOPLE and before.get(member.id) in {"unsubscribed", "cleaned", "archived"}:
                    assert member.status in {"unsubscribed", "cleaned", "archived"}
        assert mailchimp.emulator.audience.raises == []
        mailable = [
            m for m in mailchimp.emulator.audience.members.values() if m.status in {"subscribed", "pending"}
        ]
        assert not [member for member in mailable if member.contact_id in refused]


def test_a_run_with_everything_going_wrong_raises_retryable_and_never_a_traceback_of_requests(
    mailchimp: Sandbox, connector: Mailchimp
) -> None:
    mailchimp.emulator.faults.arm([Fault(kind=FaultKind.RESET)])
    with pytest.raises(RetryableError):
        connector.check()
