"""What Klaviyo posts: its signature, also the emulator's that somebody else wrote, and what events say."""

import hashlib
import hmac
import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.connectors.klaviyo.emulator.webhooks import Webhook
from segue.connectors.klaviyo.webhooks import WATCHED, KlaviyoWebhooks
from segue.connectors.webhooks import ForgedError, MalformedError
from segue.core.consent import ConsentState

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
SECRET, OLD = "a secret of sixteen", "another of sixteen"
JSON = "application/json"
LEFT = "event:klaviyo.unsubscribed_from_email_marketing"


def message(
    topic: str = LEFT, *, at: datetime = NOW, profile: Any = "01PROFILE", name: Any = "4E1", id_: Any = "4E1"
) -> bytes:
    event = {
        "type": "event",
        "id": id_,
        "attributes": {"datetime": at.isoformat(), "timestamp": int(at.timestamp()), "event_properties": {}},
        "relationships": {"profile": {"data": {"type": "profile", "id": profile}}},
    }
    row = {"external_id": name, "topic": topic, "payload": {"data": event}}
    meta = {"klaviyo_webhook_id": "w", "timestamp": at.isoformat(), "klaviyo_account_id": "SANDBX"}
    return json.dumps({"data": [row], "meta": meta}).encode()


def signed(
    body: bytes, *, secret: str = SECRET, stamp: str = "Mon, 23 Nov 2026 17:00:00 GMT"
) -> dict[str, str]:
    signature = hmac.new(secret.encode(), body + stamp.encode(), hashlib.sha256).hexdigest()
    return {"klaviyo-signature": signature, "klaviyo-timestamp": stamp}


def prove(headers: dict[str, str], body: bytes) -> None:
    KlaviyoWebhooks().prove(headers, body, url="https://x.example", secrets=(SECRET, OLD), now=NOW)


def test_what_the_emulator_signs_is_proved_though_its_header_is_five_hours_off() -> None:
    hook = Webhook("w", "Segue", None, "https://x.example", OLD, [LEFT], NOW)
    prove(hook.prove(message(), NOW, skew=timedelta(hours=5)), message())


def test_any_secret_in_use_proves_a_message_of_the_last_day() -> None:
    for secret in (SECRET, OLD):
        prove(signed(message(), secret=secret), message())
    old = message(at=NOW - timedelta(hours=23))
    prove(signed(old), old)


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({}, message()),
        (signed(message(), secret="a third of sixteen"), message()),
        (signed(message()), message(profile="01OTHER")),
        (signed(message()) | {"klaviyo-timestamp": "Mon, 23 Nov 2026 12:00:00 GMT"}, message()),
        (signed(message(at=NOW - timedelta(days=2))), message(at=NOW - timedelta(days=2))),
        (signed(message(at=NOW + timedelta(days=2))), message(at=NOW + timedelta(days=2))),
        (signed(b"[]"), b"[]"),
        (signed(b'{"meta": {"timestamp": "soon"}}'), b'{"meta": {"timestamp": "soon"}}'),
    ],
)
def test_a_message_that_is_not_signed_was_changed_or_is_stale_is_refused(
    headers: dict[str, str], body: bytes
) -> None:
    with pytest.raises(ForgedError):
        prove(headers, body)


@pytest.mark.parametrize(
    ("topic", "state"),
    [
        (LEFT, ConsentState.UNSUBSCRIBED),
        ("event:klaviyo.marked_email_as_spam", ConsentState.SUPPRESSED),
        ("event:klaviyo.manually_suppressed_from_email_marketing", ConsentState.SUPPRESSED),
        ("event:klaviyo.bounced_email", None),
        ("event:klaviyo.subscribed_to_email_marketing", None),
    ],
)
def test_an_event_names_a_profile_and_says_whether_it_left(topic: str, state: ConsentState | None) -> None:
    (event,) = KlaviyoWebhooks().read(message(topic), JSON)
    assert (event.record_id, event.address, event.state) == ("01PROFILE", "", state)
    assert event.occurred_at == NOW
    assert topic in WATCHED


def test_one_event_sent_twice_has_one_key_and_another_another() -> None:
    (one,), (again,), (other,) = (
        KlaviyoWebhooks().read(message(name=name), JSON) for name in ("4E1", "4E1", "4E2")
    )
    assert one.key == again.key != other.key


def test_what_concerns_no_consent_is_left_out() -> None:
    assert KlaviyoWebhooks().read(message("event:klaviyo.opened_email"), JSON) == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"data": {}}',
        b'{"data": [1]}',
        message(profile=None),
        message(name=7, id_=None),
        b"[" * 100_000,
    ],
)
def test_what_cannot_be_read_is_said_and_not_quoted(body: bytes) -> None:
    with pytest.raises(MalformedError) as caught:
        KlaviyoWebhooks().read(body, JSON)
    assert "01PROFILE" not in str(caught.value)


def test_what_cannot_be_read_takes_no_opt_out_of_its_message_along() -> None:
    told = json.loads(message())
    opened: Any = {"external_id": "4E2", "topic": "event:klaviyo.opened_email"}
    broken: Any = [{**told["data"][0], "external_id": "4E3", "payload": None}, None, 5]
    told["data"] = [opened, *broken, *told["data"], *broken]
    (event,) = KlaviyoWebhooks().read(json.dumps(told).encode(), JSON)
    assert (event.record_id, event.state) == ("01PROFILE", ConsentState.UNSUBSCRIBED)
    told["data"] = [opened, *broken]
    with pytest.raises(MalformedError):
        KlaviyoWebhooks().read(json.dumps(told).encode(), JSON)


@pytest.mark.parametrize("name", ["", None, 7])
def test_an_event_without_a_name_of_its_own_is_known_by_the_id_of_what_happened(name: Any) -> None:
    (one,), (again,), (other,) = (
        KlaviyoWebhooks().read(message(name=name, id_=id_), JSON) for id_ in ("4E1", "4E1", "4E2")
    )
    assert one.key == again.key != other.key


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["data", "topic", "external_id", "payload", "attributes"]), inner)
    ),
    max_leaves=12,
)


@given(_VALUES)
def test_no_message_brings_the_reader_down(said: Any) -> None:
    with suppress(MalformedError):
        KlaviyoWebhooks().read(json.dumps({"data": said}).encode(), JSON)
    with pytest.raises(ForgedError):
        prove({}, json.dumps(said).encode())
