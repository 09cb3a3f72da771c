"""What the local Klaviyo tells of, to whom, in which form and how signed."""

import hashlib
import hmac
import json
from collections.abc import Iterator
from datetime import timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from segue.connectors.emulator import PersonAct
from segue.connectors.klaviyo.testing import Sandbox

from ..receiver import Receiver
from .api import ANNA, NOON, Api, error_of

SECRET = "0123456789abcdef"
TOPICS = ("event:klaviyo.unsubscribed_from_email_marketing", "event:klaviyo.bounced_email")
PATIENT = 20.0


class Hooked(Api):
    """A sandbox that may have webhooks, and the receiver of what is sent to https://shop.test."""

    def __init__(self, sandbox: Sandbox, receiver: Receiver) -> None:
        super().__init__(sandbox)
        self.receiver = receiver
        sandbox.settings(advanced_kdp=True, deliver_to=receiver.url)

    def hook(self, *topics: str, url: str = "https://shop.test/hook?a=b", secret: str = SECRET) -> Any:
        related = {
            "webhook-topics": {"data": [{"type": "webhook-topic", "id": each} for each in topics or TOPICS]}
        }
        attributes = {"name": "Segue", "endpoint_url": url, "secret_key": secret}
        data = {"type": "webhook", "attributes": attributes, "relationships": related}
        return self.call("POST", "/webhooks", {"data": data})

    def deliveries(self) -> list[dict[str, Any]]:
        """Give what arrived since this was last asked."""
        assert self.emulator.sender.wait(PATIENT)
        found = [json.loads(post.body) for post in self.receiver.posts()]
        self.receiver.received.clear()
        return found


@pytest.fixture
def hooked(klaviyo: Sandbox) -> Iterator[Hooked]:
    with Receiver().running() as receiver:
        yield Hooked(klaviyo, receiver)


def test_an_ordinary_account_has_no_webhooks(hooked: Hooked) -> None:
    hooked.sandbox.settings(advanced_kdp=False)
    for method, path in (("GET", "/webhooks"), ("GET", "/webhook-topics"), ("DELETE", "/webhooks/1")):
        assert error_of(hooked.call(method, path)) == (403, "permission_denied", None)
    assert hooked.hook().status_code == 403


def test_hooks_are_made_listed_and_deleted_and_never_show_their_secret(hooked: Hooked) -> None:
    topics = [each["id"] for each in hooked.good("GET", "/webhook-topics")["data"]]
    assert set(TOPICS) < set(topics)
    made = hooked.hook().json()["data"]
    [listed] = hooked.good("GET", "/webhooks")["data"]
    assert listed["id"] == made["id"]
    assert [each["id"] for each in listed["relationships"]["webhook-topics"]["data"]] == list(TOPICS)
    assert SECRET not in json.dumps([made, listed])
    assert hooked.call("DELETE", f"/webhooks/{made['id']}").status_code == 204
    assert hooked.call("DELETE", f"/webhooks/{made['id']}").status_code == 404
    assert hooked.good("GET", "/webhooks")["data"] == []


@pytest.mark.parametrize(
    ("wrong", "pointer"),
    [
        ({"url": "http://shop.test/hook"}, "/data/attributes/endpoint_url"),
        ({"url": "https://"}, "/data/attributes/endpoint_url"),
        ({"url": "https://[x"}, "/data/attributes/endpoint_url"),
        ({"secret": "0123456789abcde"}, "/data/attributes/secret_key"),
    ],
)
def test_a_hook_needs_https_and_a_secret_of_16_characters(hooked: Hooked, wrong: Any, pointer: str) -> None:
    assert error_of(hooked.hook(**wrong)) == (400, "invalid", pointer)


def test_an_unknown_topic_is_refused(hooked: Hooked) -> None:
    assert error_of(hooked.hook("event:klaviyo.sneezed")) == (
        400,
        "invalid",
        "/data/relationships/webhook-topics",
    )


def test_a_delivery_tells_the_event_in_an_array(hooked: Hooked) -> None:
    hook = hooked.hook().json()["data"]["id"]
    name = hooked.create()
    hooked.act(PersonAct.UNSUBSCRIBE)
    [delivery] = hooked.deliveries()
    [event] = hooked.good("GET", "/events")["data"]
    [row] = delivery["data"]
    assert (row["topic"], row["external_id"]) == (TOPICS[0], event["id"])
    assert row["payload"]["data"]["attributes"] == event["attributes"]
    assert row["payload"]["data"]["relationships"]["profile"]["data"] == {"type": "profile", "id": name}
    meta = {
        "klaviyo_webhook_id": hook,
        "timestamp": "2026-11-01T12:00:00+00:00",
        "klaviyo_account_id": "SANDBX",
    }
    assert delivery["meta"] == meta


@pytest.mark.parametrize("skew", [18_000.0, 0.0])
def test_a_delivery_is_signed_over_its_bytes_and_the_text_of_a_time_that_is_hours_off(
    hooked: Hooked, skew: float
) -> None:
    hooked.sandbox.settings(webhook_skew_seconds=skew)
    hook = hooked.hook().json()["data"]["id"]
    hooked.create()
    hooked.act(PersonAct.BOUNCE)
    assert hooked.emulator.sender.wait(PATIENT)
    [post] = hooked.receiver.posts()
    said = post.headers["Klaviyo-Timestamp"]
    signed = hmac.new(SECRET.encode(), post.body + said.encode(), hashlib.sha256).hexdigest()
    assert (post.headers["Klaviyo-Signature"], post.headers["Klaviyo-Webhook-Id"]) == (signed, hook)
    assert said.endswith(" GMT")
    assert parsedate_to_datetime(said) == NOON + timedelta(seconds=skew)
    assert post.path == "/hook?a=b"


def test_a_hook_hears_only_its_topics_and_ends_with_a_reset(hooked: Hooked) -> None:
    hooked.hook(TOPICS[1])
    hooked.create()
    hooked.act(PersonAct.UNSUBSCRIBE)
    hooked.act(PersonAct.BOUNCE)
    assert [each["data"][0]["topic"] for each in hooked.deliveries()] == [TOPICS[1]]
    hooked.emulator.reset()
    hooked.emulator.act(PersonAct.SUBSCRIBE, address=ANNA)
    hooked.emulator.act(PersonAct.BOUNCE, address=ANNA)
    assert hooked.deliveries() == []


def test_a_failed_delivery_is_not_repeated_unless_it_is_asked_for(hooked: Hooked) -> None:
    hooked.hook()
    hooked.create()
    hooked.receiver.answers[:] = [500]
    hooked.act(PersonAct.UNSUBSCRIBE)
    assert len(hooked.deliveries()) == 1
    hooked.emulator.sender.change({"repeat": 1.0})
    hooked.act(PersonAct.UNSUBSCRIBE)
    first, second = hooked.deliveries()
    assert first == second
