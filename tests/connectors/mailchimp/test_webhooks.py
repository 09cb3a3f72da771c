"""What Mailchimp posts, as its guide and the public fixtures of others show it; signatures made by the rule in its docs."""

import hashlib
import hmac
import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.connectors.mailchimp.webhooks import MailchimpWebhooks
from segue.connectors.webhooks import ForgedError, MalformedError
from segue.core.consent import ConsentState
from segue.core.model import InboundEvent

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
FORM = "application/x-www-form-urlencoded"
SECRET, OLD = "s3cret", "0ld"
BODY = b"type=unsubscribe&data%5Bid%5D=1"


def form(**said: str) -> bytes:
    """Write a form; `data_x` stands for `data[x]`."""
    named = {f"data[{k.removeprefix('data_')}]" if k.startswith("data_") else k: v for k, v in said.items()}
    return urlencode({"fired_at": "2026-02-28 09:30:00", **named}).encode()


def read(**said: str) -> InboundEvent:
    (event,) = MailchimpWebhooks().read(form(**said), FORM)
    return event


def signed(body: bytes = BODY, *, secret: str = SECRET, at: datetime = NOW) -> dict[str, str]:
    stamp = str(int(at.timestamp()))
    digest = hmac.new(secret.encode(), f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
    return {"x-mailchimp-signature": f"t={stamp},v1={digest}"}


def prove(headers: dict[str, str], *secrets: str, body: bytes = BODY) -> None:
    MailchimpWebhooks().prove(headers, body, url="", secrets=secrets or (SECRET,), now=NOW)


def test_a_signature_of_any_secret_in_use_proves_a_message() -> None:
    prove(signed())
    prove(signed(secret=OLD), SECRET, OLD)
    prove(signed(at=NOW - timedelta(seconds=300)))
    prove(signed(at=NOW + timedelta(seconds=300)))


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-mailchimp-signature": ""},
        {"x-mailchimp-signature": "t=1,v1=ä"},
        signed(secret=OLD),
        signed(b"type=subscribe"),
        signed(at=NOW - timedelta(seconds=301)),
        signed(at=NOW + timedelta(seconds=301)),
        {name: value.upper() for name, value in signed().items()},
        {name: f"{value},v1=" for name, value in signed().items()},
        {name: value.replace("t=1", "t=2") for name, value in signed().items()},
    ],
)
def test_a_message_without_a_fresh_and_fitting_signature_is_forged(headers: dict[str, str]) -> None:
    with pytest.raises(ForgedError):
        prove(headers)


def test_no_secret_at_all_proves_nothing() -> None:
    with pytest.raises(ForgedError):
        MailchimpWebhooks().prove(signed(secret=""), BODY, url="", secrets=(), now=NOW)


@pytest.mark.parametrize(
    ("said", "state"),
    [
        ({"type": "unsubscribe", "data_action": "unsub", "data_reason": "manual"}, ConsentState.UNSUBSCRIBED),
        ({"type": "unsubscribe", "data_action": "delete"}, ConsentState.UNSUBSCRIBED),
        ({"type": "unsubscribe", "data_reason": "abuse"}, ConsentState.SUPPRESSED),
        ({"type": "cleaned", "data_reason": "hard"}, ConsentState.SUPPRESSED),
        ({"type": "subscribe"}, None),
    ],
)
def test_who_left_is_believed_and_everything_else_is_a_hint(
    said: dict[str, str], state: ConsentState | None
) -> None:
    event = read(**said, data_email=" Ada@Shop.test", data_id="8a25ff1d98")
    assert (event.address, event.state, event.status) == ("Ada@Shop.test", state, said["type"])
    assert event.occurred_at == datetime(2026, 2, 28, 9, 30, tzinfo=UTC)
    assert event.previous_address is None


def test_a_new_address_names_the_old_one() -> None:
    event = read(
        type="upemail", data_new_id="51da", data_new_email="new@shop.test", data_old_email="old@shop.test"
    )
    assert (event.address, event.previous_address, event.state) == ("new@shop.test", "old@shop.test", None)


def test_an_event_has_one_name_however_often_it_is_sent_and_another_than_any_other() -> None:
    first = {"type": "unsubscribe", "data_id": "1", "data_email": "ada@shop.test"}
    names = {
        read(**first).key,
        read(**first, data_reason="manual").key,
        read(**first | {"type": "subscribe"}).key,
        read(**first | {"fired_at": "2026-02-28 09:30:01"}).key,
        read(**first | {"data_email": "ben@shop.test"}).key,
    }
    assert len(names) == 4


@pytest.mark.parametrize("kind", ["campaign", "profile"])
def test_what_says_nothing_of_consent_is_left_out(kind: str) -> None:
    assert list(MailchimpWebhooks().read(form(type=kind, data_id="5aa2102003"), FORM)) == []


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", FORM),
        (b"\xff=\xff", FORM),
        (b"type=%ff&fired_at=%ff", FORM),
        (b"{}", "application/json"),
        (form(type="unsubscribe"), FORM),
        (form(type="unsubscribe", data_email="nobody"), FORM),
        (form(type="unsubscribe", data_email="a@b.test", fired_at="yesterday"), FORM),
        (form(type="unsubscribe", data_email="a@b.test", fired_at="9999-12-31 23:59:59"), FORM),
        (form(type="unsubscribe", data_email="a@b.test", fired_at="0001-01-01 00:00:00"), FORM),
        (form(type="unsubscribe", data_email="a\0@b.test"), FORM),
        (form(type="unsubscribe", data_email=f"{'a' * 400}@b.test"), FORM),
        (form(type="unknown", data_email="a@b.test"), FORM),
        (b"&".join(b"a%d=1" % number for number in range(5_000)), FORM),
    ],
)
def test_what_cannot_be_read_is_said_without_a_word_of_it(body: bytes, content_type: str) -> None:
    with pytest.raises(MalformedError) as caught:
        MailchimpWebhooks().read(body, content_type)
    assert "nobody" not in str(caught.value)
    assert "yesterday" not in str(caught.value)


@given(st.binary(max_size=300), st.sampled_from([FORM, "", "application/json", f"{FORM}; charset=utf-8"]))
def test_any_bytes_are_an_event_or_malformed(body: bytes, content_type: str) -> None:
    with suppress(MalformedError):
        assert all("@" in event.address for event in MailchimpWebhooks().read(body, content_type))


NAMES = st.sampled_from(
    [
        "type",
        "fired_at",
        *(f"data[{name}]" for name in ("id", "new_id", "email", "new_email", "old_email", "reason")),
    ]
)
WORDS = st.sampled_from(
    [
        "subscribe",
        "unsubscribe",
        "cleaned",
        "upemail",
        "profile",
        "a@b.test",
        "2026-02-28 09:30:00",
        "hard",
        "abuse",
    ]
)


@given(st.lists(st.tuples(NAMES | st.text(max_size=20), WORDS | st.text(max_size=40)), max_size=12))
def test_any_form_is_an_event_that_can_be_worked_off_or_malformed(said: list[tuple[str, str]]) -> None:
    with suppress(MalformedError, UnicodeEncodeError):
        for event in MailchimpWebhooks().read(urlencode(said).encode(), FORM):
            assert event.address.isprintable()
            assert event.state in {None, ConsentState.UNSUBSCRIBED, ConsentState.SUPPRESSED}
            assert 2000 < event.occurred_at.year < 2200


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=20),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(NAMES, below, max_size=3),
    max_leaves=10,
)


@given(JSON)
def test_any_json_is_malformed_whatever_it_calls_itself(said: object) -> None:
    for content_type in (FORM, "application/json"):
        with pytest.raises(MalformedError):
            MailchimpWebhooks().read(json.dumps(said).encode(), content_type)


@given(
    st.one_of(
        st.text(max_size=100),
        st.from_regex(r"t=-?[0-9]{0,40},v1=[0-9a-fA-F]{0,70}(,v1=[0-9a-f]{64})?", fullmatch=True),
    ),
    st.binary(max_size=50),
)
def test_any_header_is_forged(header: str, body: bytes) -> None:
    with pytest.raises(ForgedError):
        prove({"x-mailchimp-signature": header}, body=body)
