"""The connector before anybody is written: found by name, made from settings, checked, and its fields ensured."""

import pytest
import responses

from segue.connectors.faults import Fault, FaultKind
from segue.connectors.mailchimp.connector import Mailchimp
from segue.connectors.mailchimp.testing import Sandbox
from segue.connectors.registry import OURS, connector_class
from segue.core.errors import AuthenticationError, ConfigError, UnsupportedFeatureError
from segue.core.model import DestinationSchema, FieldSpec, FieldType, Operation

from .changes import SCHEMA, archive, change, creates, sent, write, writes


def test_the_registry_knows_every_connector_by_its_own_name() -> None:
    for name in OURS:
        assert connector_class(name).name == name


def test_an_unknown_connector_is_said_with_the_likeliest_name() -> None:
    with pytest.raises(ConfigError, match=r'no connector "mailchip".*Did you mean "mailchimp"\?'):
        connector_class("mailchip")
    with pytest.raises(ConfigError, match="Known connectors: csvfile, hubspot, klaviyo, mailchimp"):
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
    assert (account.contacts or 0) >= 2
    assert account.tags == frozenset({"segue: vip"})
    assert account.fields["FNAME"] is FieldType.TEXT
    assert account.fields["ADDRESS"] is None  # an address is no type that we write


def test_check_pages_through_all_tags(mailchimp: Sandbox, connector: Mailchimp) -> None:
    emulator = mailchimp.emulator
    with emulator.lock:
        for number in range(1003):
            emulator.audience.add_segment(f"tag {number}", emulator.clock.now())
    assert len(connector.check().tags or ()) == 1003


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
