"""The webhooks of the local HubSpot's app: who is told what, how it is signed, and what comes twice."""

import hashlib
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests
from hubspot.utils.signature import Signature

from segue.connectors.emulator import PersonAct
from segue.connectors.hubspot.emulator.webhooks import decoded
from segue.connectors.hubspot.testing import Sandbox

from ..receiver import Received, Receiver
from .calls import ANNA, BERT, Contacts


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver().running() as running:
        yield running


class App:
    """An app that is told of things."""

    def __init__(self, sandbox: Sandbox, receiver: Receiver) -> None:
        self.sandbox = sandbox
        self.receiver = receiver

    def call(self, method: str, path: str, body: Any = None, key: str | None = None) -> requests.Response:
        settings = self.sandbox.emulator.account.settings
        return requests.request(
            method,
            f"{self.sandbox.origin}/webhooks/v3/{settings.app_id}{path}",
            json=body,
            params={"hapikey": key or settings.developer_key},
            timeout=5,
        )

    def target(self, path: str = "/hubspot") -> str:
        url = self.receiver.url + path
        body = {"targetUrl": url, "throttling": {"maxConcurrentRequests": 10}}
        assert self.call("PUT", "/settings", body).status_code == 200
        return url

    def subscribe(self, kind: str, name: str | None = None, **more: Any) -> requests.Response:
        named = {} if name is None else {"propertyName": name}
        return self.call(
            "POST", "/subscriptions", {"eventType": f"contact.{kind}", "active": True, **named, **more}
        )

    def posts(self) -> list[Received]:
        assert self.sandbox.emulator.sender.wait(10)
        return self.receiver.posts()

    def events(self) -> list[dict[str, Any]]:
        return [event for each in self.posts() for event in json.loads(each.body)]


@pytest.fixture
def app(hubspot: Sandbox, receiver: Receiver) -> App:
    made = App(hubspot, receiver)
    made.target()
    return made


# What is told


def test_a_change_of_a_property_is_told_to_whoever_wants_to_know(app: App, contacts: Contacts) -> None:
    app.subscribe("propertyChange", "city")
    identity = contacts.create(city="Bonn", zip="1")
    contacts.update(identity, city="Bonn", zip="2")
    contacts.update(identity, city="")
    events = app.events()
    assert [(each["propertyName"], each["propertyValue"]) for each in events] == [
        ("city", "Bonn"),
        ("city", ""),
    ]
    settings = app.sandbox.emulator.account.settings
    told = {**events[0], "occurredAt": 0, "eventId": 0}
    assert told == {
        "eventId": 0,
        "subscriptionId": 1,
        "portalId": settings.portal_id,
        "appId": settings.app_id,
        "occurredAt": 0,
        "subscriptionType": "contact.propertyChange",
        "attemptNumber": 0,
        "objectId": int(identity),
        "propertyName": "city",
        "propertyValue": "Bonn",
        "changeSource": "INTEGRATION",
    }


def test_an_opt_out_is_told_as_a_change_of_its_mirror(app: App, contacts: Contacts) -> None:
    contacts.create()
    app.subscribe("propertyChange", "hs_email_optout")
    app.sandbox.emulator.act(PersonAct.UNSUBSCRIBE, address=ANNA)
    [event] = app.events()
    assert (event["propertyName"], event["propertyValue"]) == ("hs_email_optout", "true")


def test_coming_going_and_being_erased_are_told(app: App, contacts: Contacts) -> None:
    for kind in ("creation", "deletion", "privacyDeletion"):
        app.subscribe(kind)
    anna, bert = contacts.create(), contacts.create(BERT)
    app.sandbox.call("DELETE", f"./{anna}")
    app.sandbox.call("POST", "./gdpr-delete", {"objectId": bert})
    told = [(each["subscriptionType"].removeprefix("contact."), each["objectId"]) for each in app.events()]
    assert told == [
        ("creation", int(anna)),
        ("creation", int(bert)),
        ("deletion", int(anna)),
        ("privacyDeletion", int(bert)),
        ("deletion", int(bert)),
    ]


def test_a_merge_tells_the_old_ids_and_the_new_one(app: App, contacts: Contacts) -> None:
    anna, bert = int(contacts.create()), int(contacts.create(BERT, zip="1"))
    app.subscribe("merge")
    body = {"primaryObjectId": str(anna), "objectIdToMerge": str(bert)}
    new = int(app.sandbox.call("POST", "./merge", body).json()["id"])
    [event] = app.events()
    assert (event["primaryObjectId"], event["mergedObjectIds"], event["newObjectId"]) == (
        anna,
        [anna, bert],
        new,
    )
    assert event["numberOfPropertiesMoved"] == 1


def test_a_delivery_has_fewer_than_100_events(app: App, contacts: Contacts) -> None:
    app.subscribe("creation")
    contacts.batch("create", *({"properties": {"email": f"p{i}@shop.de"}} for i in range(100)))
    assert [len(json.loads(each.body)) for each in app.posts()] == [99, 1]


def test_event_ids_come_again(app: App, contacts: Contacts) -> None:
    app.subscribe("creation")
    contacts.batch("create", *({"properties": {"email": f"p{i}@shop.de"}} for i in range(100)))
    contacts.create()
    numbers = [each["eventId"] for each in app.events()]
    assert (len(numbers), len(set(numbers))) == (101, 100)


def test_a_subscription_is_silent_until_it_is_active(app: App, contacts: Contacts) -> None:
    made = app.call("POST", "/subscriptions", {"eventType": "contact.creation"}).json()
    assert made["active"] is False
    contacts.create()
    assert app.events() == []
    app.call("POST", "/subscriptions/batch/update", {"inputs": [{"id": int(made["id"]), "active": True}]})
    contacts.create(BERT)
    assert len(app.events()) == 1
    app.call("PATCH", f"/subscriptions/{made['id']}", {"active": False})
    app.subscribe("deletion")
    contacts.create("c@shop.de")
    assert len(app.events()) == 1


# How it travels


def test_v1_signs_secret_and_body(app: App, contacts: Contacts) -> None:
    app.subscribe("creation")
    contacts.create()
    [post] = app.posts()
    secret = app.sandbox.emulator.account.settings.client_secret
    assert post.headers["X-HubSpot-Signature-Version"] == "v1"
    assert post.headers["X-HubSpot-Signature"] == hashlib.sha256(secret.encode() + post.body).hexdigest()
    assert Signature.is_valid(
        signature=post.headers["X-HubSpot-Signature"],
        client_secret=secret,
        request_body=post.body.decode(),
        signature_version="v1",
    )


def test_v3_signs_method_address_body_and_time(app: App, contacts: Contacts) -> None:
    app.sandbox.settings(signature="v3")
    url = app.target("/hubspot?shop=a%2Fb")
    app.subscribe("creation")
    contacts.create()
    [post] = app.posts()
    given: dict[str, Any] = {
        "signature": post.headers["X-HubSpot-Signature-v3"],
        "client_secret": app.sandbox.emulator.account.settings.client_secret,
        "request_body": post.body.decode(),
        "signature_version": "v3",
        "timestamp": post.headers["X-HubSpot-Request-Timestamp"],
    }
    assert Signature.is_valid(**given, http_uri=url.replace("%2F", "/"))
    assert not Signature.is_valid(**given, http_uri=url)
    assert abs(int(given["timestamp"]) / 1000 - time.time()) < 60
    assert "X-HubSpot-Signature" not in post.headers


def test_a_signature_decodes_twelve_signs_of_an_address_and_no_other() -> None:
    assert decoded("%3A%2F%3F%40%21%24%27%28%29%2A%2C%3B") == ":/?@!$'()*,;"
    assert decoded("%3a%2f") == ":/"
    assert decoded("https://a.de/x?b=%20%26%3D%25%2B") == "https://a.de/x?b=%20%26%3D%25%2B"


def test_what_is_not_taken_comes_again_signed_anew_for_a_day(app: App, contacts: Contacts) -> None:
    app.sandbox.settings(signature="v3")
    clock = app.sandbox.emulator.clock
    clock.set(datetime(2026, 5, 1, tzinfo=UTC))
    app.receiver.answers[:] = [500] * 11
    app.subscribe("creation")
    contacts.create()
    for _ in range(11):
        app.sandbox.emulator.sender.wait(0.2)
        clock.advance(timedelta(hours=12))
    posts = app.posts()
    assert len(posts) == 11
    assert len({post.body for post in posts}) == 1
    assert len({post.headers["X-HubSpot-Request-Timestamp"] for post in posts}) == 11
    settings = app.sandbox.emulator.sender.settings
    assert timedelta(seconds=settings.retry_wait * (2**10 - 1)) <= timedelta(hours=24)
    assert settings.timeout == 5


def test_deliveries_can_come_twice(app: App, contacts: Contacts) -> None:
    app.sandbox.emulator.sender.change({"repeat": 1.0})
    app.subscribe("creation")
    contacts.create()
    first, second = app.posts()
    assert first.body == second.body


# Endpoints


def test_webhooks_are_the_apps_and_need_the_developers_key(app: App) -> None:
    assert app.call("GET", "/settings", key="wrong").status_code == 401
    token = {"authorization": f"Bearer {app.sandbox.token}"}
    path = f"{app.sandbox.origin}/webhooks/v3/1160452/settings"
    assert requests.get(path, headers=token, timeout=5).status_code == 401
    key = {"hapikey": app.sandbox.emulator.account.settings.developer_key}
    for base in ("/webhooks/v3/1160452", "/app-webhooks/2026-03/1160452", "/app-webhooks/2026-09/1160452"):
        assert requests.get(f"{app.sandbox.origin}{base}/settings", params=key, timeout=5).status_code == 200
    other = f"{app.sandbox.origin}/webhooks/v3/7/settings"
    assert requests.get(other, params=key, timeout=5).status_code == 404


def test_subscriptions_are_made_once_shown_and_dropped(app: App) -> None:
    made = app.subscribe("propertyChange", "city")
    assert (made.status_code, made.json()["propertyName"]) == (201, "city")
    assert app.subscribe("propertyChange", "city").status_code == 409
    path = f"/subscriptions/{made.json()['id']}"
    assert app.call("GET", path).json() == made.json()
    assert app.call("GET", "/subscriptions").json()["results"] == [made.json()]
    assert app.call("DELETE", path).status_code == 204
    assert app.call("GET", path).status_code == 404


@pytest.mark.parametrize(("kind", "name"), [("propertyChange", None), ("creation", "city"), ("party", None)])
def test_a_subscription_that_makes_no_sense_is_refused(app: App, kind: str, name: str | None) -> None:
    assert app.subscribe(kind, name).status_code == 400


def test_settings_are_written_and_dropped(app: App, contacts: Contacts) -> None:
    assert app.call("GET", "/settings").json()["throttling"] == {"maxConcurrentRequests": 10}
    assert app.call("PUT", "/settings", {"targetUrl": "nowhere", "throttling": {}}).status_code == 400
    app.subscribe("creation")
    assert app.call("DELETE", "/settings").status_code == 204
    assert app.call("GET", "/settings").status_code == 404
    contacts.create()
    assert app.events() == []
