"""What HubSpot posts: signatures by its rules, also from the emulator that somebody else wrote, and what events say."""

import base64
import hashlib
import hmac
import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.connectors.hubspot.connector import HubSpot
from segue.connectors.hubspot.emulator.settings import SignatureVersion
from segue.connectors.hubspot.emulator.webhooks import proof
from segue.connectors.hubspot.webhooks import HubSpotWebhooks, decoded
from segue.connectors.webhooks import ForgedError, MalformedError
from segue.core.consent import ConsentState

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
URL = "https://hooks.shop.example/webhooks/crm/a%3Ab?x=%2F"
SECRET, OLD = "s3cret", "0ld"
BODY = b'[{"eventId": 1}]'
JSON = "application/json"


def third(*, secret: str = SECRET, at: datetime = NOW, body: bytes = BODY, url: str = URL) -> dict[str, str]:
    stamp = str(int(at.timestamp() * 1000))
    signed = b"POST" + url.replace("%3A", ":").replace("%2F", "/").encode() + body + stamp.encode()
    digest = base64.b64encode(hmac.new(secret.encode(), signed, hashlib.sha256).digest()).decode()
    return {"x-hubspot-signature-v3": digest, "x-hubspot-request-timestamp": stamp}


def first(*, secret: str = SECRET, body: bytes = BODY) -> dict[str, str]:
    return {"x-hubspot-signature": hashlib.sha256(secret.encode() + body).hexdigest()}


def prove(headers: dict[str, str], *, body: bytes = BODY, url: str = URL) -> None:
    HubSpotWebhooks().prove(headers, body, url=url, secrets=(SECRET, OLD), now=NOW)


@pytest.mark.parametrize("version", list(SignatureVersion))
def test_what_the_emulator_signs_is_proved(version: SignatureVersion) -> None:
    for secret in (SECRET, OLD):
        prove(dict(proof(URL, secret, version)(BODY, NOW)))
    with pytest.raises(ForgedError):
        prove(dict(proof(URL, "another", version)(BODY, NOW)))


def test_both_signatures_of_any_secret_in_use_prove_a_message() -> None:
    for headers in (third(), third(secret=OLD), first(), first(secret=OLD)):
        prove(headers)
    for minutes in (-5, 5):
        prove(third(at=NOW + timedelta(minutes=minutes)))


@pytest.mark.parametrize(
    "headers",
    [
        {},
        third(secret="another"),
        third(at=NOW - timedelta(minutes=5, seconds=1)),
        third(at=NOW + timedelta(minutes=5, seconds=1)),
        third(body=b"[]"),
        third(url="https://hooks.shop.example/webhooks/other"),
        third() | {"x-hubspot-request-timestamp": "soon"},
        first(body=b"[]"),
        first() | {"x-hubspot-signature-version": "v2"},
        first() | third(secret="another"),
    ],
)
def test_a_message_that_is_not_signed_is_old_or_early_or_of_another_address_is_refused(
    headers: dict[str, str],
) -> None:
    with pytest.raises(ForgedError):
        prove(headers)


def test_of_an_address_only_what_the_rule_names_is_decoded() -> None:
    assert decoded("https://a/b%3A%2f%3F%40%21%24%27%28%29%2A%2C%3B") == "https://a/b:/?@!$'()*,;"
    assert decoded("https://a/%20%25%41%3D") == "https://a/%20%25%41%3D"


def event(**more: Any) -> dict[str, Any]:
    return {
        "eventId": 1,
        "subscriptionId": 25,
        "portalId": 33,
        "objectId": 501,
        "occurredAt": int(NOW.timestamp() * 1000),
        "subscriptionType": "contact.propertyChange",
        "attemptNumber": 0,
    } | more


def read(*events: Any) -> Any:
    return HubSpotWebhooks().read(json.dumps(events).encode(), JSON)


@pytest.mark.parametrize(
    ("more", "state"),
    [
        ({"propertyName": "hs_email_optout", "propertyValue": "true"}, ConsentState.UNSUBSCRIBED),
        ({"propertyName": "hs_email_optout_7", "propertyValue": "true"}, ConsentState.UNSUBSCRIBED),
        ({"propertyName": "hs_email_quarantined", "propertyValue": "true"}, ConsentState.SUPPRESSED),
        ({"propertyName": "hs_email_optout", "propertyValue": "false"}, None),
        ({"propertyName": "email", "propertyValue": "new@shop.example"}, None),
        ({"subscriptionType": "contact.privacyDeletion"}, None),
        ({"eventType": "contact.merge", "subscriptionType": None, "newObjectId": 777}, None),
    ],
)
def test_who_left_is_told_by_record_and_all_else_is_a_hint(more: dict[str, Any], state: Any) -> None:
    (found,) = read(event(**more))
    assert (found.state, found.address, found.occurred_at) == (state, "", NOW)
    assert found.record_id == str(more.get("newObjectId", 501))


def test_what_says_nothing_of_consent_is_no_event() -> None:
    other = event(propertyName="lifecyclestage", propertyValue="lead")
    assert (
        read(other, event(subscriptionType="contact.creation"), event(subscriptionType="deal.deletion")) == []
    )


def test_the_same_event_has_the_same_key_although_its_own_id_is_used_again() -> None:
    one = event(propertyName="hs_email_optout", propertyValue="true")
    again, other = one | {"attemptNumber": 3}, one | {"objectId": 502}
    keys = [found.key for found in read(one, again, other)]
    assert keys[0] == keys[1] != keys[2]


@given(
    st.binary(max_size=200)
    | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(lambda x: json.dumps(x).encode())
)
def test_nonsense_is_malformed_and_nothing_else(body: bytes) -> None:
    with suppress(MalformedError):
        HubSpotWebhooks().read(body, JSON)


def test_how_it_is_set_up_by_hand_is_said() -> None:
    connector = HubSpot.from_settings({"token": "x"})
    with connector.transport, pytest.raises(Exception, match=r"https://hooks\.shop\.example/w as target URL"):
        connector.install_webhook("https://hooks.shop.example/w")
