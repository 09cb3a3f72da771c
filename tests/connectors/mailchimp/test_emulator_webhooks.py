"""What the local Mailchimp tells of, to whom, in which form and how signed."""

import hashlib
import hmac
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl

import pytest
import requests

from segue.connectors.emulator import PersonAct
from segue.connectors.mailchimp.testing import Sandbox

from ..receiver import Receiver

ANNA = "anna@shop.de"
NOON = datetime(2026, 1, 31, 12, 0, 5, tzinfo=UTC)
EVENTS = ("subscribe", "unsubscribe", "profile", "cleaned", "upemail", "campaign")
ALL = dict.fromkeys(EVENTS, True)
SOURCES = {"user": True, "admin": True, "api": True}
PATIENT = 20.0


class Hooked:
    """A sandbox whose clock stands still, and the receiver of its webhooks."""

    def __init__(self, sandbox: Sandbox, receiver: Receiver) -> None:
        self.sandbox = sandbox
        self.receiver = receiver
        sandbox.emulator.clock.set(NOON)

    def hook(self, path: str = "/hook", **body: Any) -> requests.Response:
        url = self.receiver.url + path
        return self.sandbox.call(
            "POST", "./webhooks", {"url": url, "events": ALL, "sources": SOURCES, **body}
        )

    def create(self, status: str = "subscribed", address: str = ANNA, **more: Any) -> None:
        body = {"email_address": address, "status": status, **more}
        assert self.sandbox.call("POST", "./members", body).status_code == 200

    def patch(self, **body: Any) -> None:
        answer = self.sandbox.call("PATCH", f"./members/{ANNA}", body)
        assert answer.status_code == 200, answer.text

    def act(self, act: PersonAct, address: str = ANNA) -> None:
        self.sandbox.emulator.act(act, address=address)

    def forms(self) -> list[dict[str, str]]:
        """Give what arrived since this was last asked, each as its form."""
        assert self.sandbox.emulator.sender.wait(PATIENT)
        forms = [
            dict(parse_qsl(post.body.decode(), keep_blank_values=True, strict_parsing=True))
            for post in self.receiver.posts()
        ]
        self.receiver.received.clear()
        return forms

    def told(self) -> list[str]:
        return [form["type"] for form in self.forms()]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver().running() as running:
        yield running


@pytest.fixture
def hooked(mailchimp: Sandbox, receiver: Receiver) -> Hooked:
    return Hooked(mailchimp, receiver)


@pytest.fixture
def audience(hooked: Hooked) -> Hooked:
    """With one hook for everything, and Anna subscribed before anybody listened."""
    hooked.create(merge_fields={"FNAME": "Anna"})
    assert hooked.hook().status_code == 200
    hooked.receiver.received.clear()
    return hooked


# Making them


def test_a_hook_is_made_once_its_url_answered_a_get(hooked: Hooked) -> None:
    made = hooked.hook().json()
    (probe,) = hooked.receiver.received
    assert (probe.method, probe.path, probe.body) == ("GET", "/hook", b"")
    assert made["events"] == ALL
    assert made["sources"] == SOURCES
    assert made["list_id"] == hooked.sandbox.audience
    assert made["signing_enabled"] is True


@pytest.mark.parametrize("status", [500, 403, 204, 301])
def test_a_url_that_answers_anything_but_200_is_refused(hooked: Hooked, status: int) -> None:
    hooked.receiver.answers = [status]
    refused = hooked.hook()
    assert (refused.status_code, refused.json()["title"]) == (400, "Invalid Resource")
    assert refused.json()["errors"][0]["field"] == "url"
    assert hooked.sandbox.call("GET", "./webhooks").json()["total_items"] == 0


@pytest.mark.parametrize(
    "url", ["", "shop.de/hook", "ftp://shop.de", "http://", "http://127.0.0.1:9/", "http://["]
)
def test_a_url_where_nobody_answers_is_refused(hooked: Hooked, url: str) -> None:
    assert hooked.sandbox.call("POST", "./webhooks", {"url": url}).status_code == 400


def test_the_secret_is_shown_in_the_answer_to_the_creation_alone(hooked: Hooked) -> None:
    made = hooked.hook().json()
    assert made["signing_secret"]
    one = hooked.sandbox.call("GET", f"./webhooks/{made['id']}").json()
    (listed,) = hooked.sandbox.call("GET", "./webhooks").json()["webhooks"]
    changed = hooked.sandbox.call("PATCH", f"./webhooks/{made['id']}", {"events": {"profile": False}}).json()
    for shown in (one, listed, changed):
        assert "signing_secret" not in shown
        assert shown["signing_enabled"] is True


def test_two_hooks_cannot_differ_in_their_query_alone(hooked: Hooked) -> None:
    assert hooked.hook("/hook?a=1").status_code == 200
    assert hooked.hook("/hook?a=2").status_code == 400
    other = hooked.hook("/other").json()
    assert hooked.sandbox.call("GET", "./webhooks").json()["total_items"] == 2
    path = f"./webhooks/{other['id']}"
    assert hooked.sandbox.call("PATCH", path, {"url": hooked.receiver.url + "/hook"}).status_code == 400
    assert hooked.sandbox.call("PATCH", path, {"url": hooked.receiver.url + "/third"}).status_code == 200


def test_flags_that_a_new_hook_leaves_out_are_off_at_the_worst(hooked: Hooked) -> None:
    url = hooked.receiver.url
    worst = hooked.sandbox.call("POST", "./webhooks", {"url": url, "events": {"profile": True}}).json()
    assert worst["events"] == {**dict.fromkeys(EVENTS, False), "profile": True}
    assert worst["sources"] == dict.fromkeys(SOURCES, False)
    hooked.sandbox.settings(mode="permissive")
    best = hooked.sandbox.call("POST", "./webhooks", {"url": f"{url}/b"}).json()
    assert best["events"] == ALL
    assert best["sources"] == SOURCES


def test_the_vendors_own_client_makes_lists_changes_and_removes_hooks(hooked: Hooked) -> None:
    lists, audience = hooked.sandbox.sdk().lists, hooked.sandbox.audience
    body = {"url": hooked.receiver.url, "events": ALL, "sources": SOURCES}
    made = lists.create_list_webhook(audience, body)
    assert [each["id"] for each in lists.get_list_webhooks(audience)["webhooks"]] == [made["id"]]
    off = lists.update_list_webhook(audience, made["id"], {"sources": {"api": False}})
    assert off["sources"] == {**SOURCES, "api": False}
    lists.delete_list_webhook(audience, made["id"])
    assert hooked.sandbox.call("GET", f"./webhooks/{made['id']}").status_code == 404
    hooked.create()
    assert hooked.told() == []


# Proof


def test_each_attempt_is_signed_over_its_own_time_and_the_bytes_that_arrive(hooked: Hooked) -> None:
    secret = hooked.hook().json()["signing_secret"]
    hooked.receiver.answers = [500]
    hooked.create()
    hooked.sandbox.emulator.sender.wait(PATIENT)
    hooked.sandbox.emulator.clock.advance(timedelta(minutes=2))
    assert hooked.sandbox.emulator.sender.wait(PATIENT)
    posts = hooked.receiver.posts()
    assert len(posts) == 2
    for post, at in zip(posts, (NOON, NOON + timedelta(minutes=2)), strict=True):
        stamp = int(at.timestamp())
        digest = hmac.new(secret.encode(), f"{stamp}.".encode() + post.body, hashlib.sha256).hexdigest()
        assert post.headers["X-Mailchimp-Signature"] == f"t={stamp},v1={digest}"
    assert posts[0].body == posts[1].body


def test_a_hook_made_while_signing_is_off_stays_unsigned(hooked: Hooked) -> None:
    hooked.sandbox.settings(sign_webhooks=False)
    made = hooked.hook().json()
    hooked.sandbox.settings(sign_webhooks=True)
    assert made["signing_enabled"] is False
    assert "signing_secret" not in made
    hooked.create()
    assert hooked.sandbox.emulator.sender.wait(PATIENT)
    (post,) = hooked.receiver.posts()
    assert "X-Mailchimp-Signature" not in post.headers


# What is told


def test_a_subscribe_tells_who_and_what_we_know_of_them(hooked: Hooked) -> None:
    hooked.hook()
    address = {"addr1": "Weg 1", "city": "Köln", "state": "NRW", "zip": "50667"}
    hooked.create(ip_signup="1.2.3.4", merge_fields={"FNAME": "Änne & Co", "ADDRESS": address})
    (form,) = hooked.forms()
    shown = hooked.sandbox.call("GET", f"./members/{ANNA}").json()
    assert form["type"] == "subscribe"
    assert form["fired_at"] == "2026-01-31 12:00:05"
    assert form["data[id]"] == shown["unique_email_id"]
    assert form["data[list_id]"] == hooked.sandbox.audience
    assert (form["data[email]"], form["data[merges][EMAIL]"]) == (ANNA, ANNA)
    assert (form["data[email_type]"], form["data[ip_signup]"]) == ("html", "1.2.3.4")
    assert (form["data[merges][FNAME]"], form["data[merges][LNAME]"]) == ("Änne & Co", "")
    assert form["data[merges][ADDRESS][city]"] == "Köln"


def test_a_leaving_person_is_told_with_the_reason(audience: Hooked) -> None:
    audience.act(PersonAct.UNSUBSCRIBE)
    (form,) = audience.forms()
    assert (form["type"], form["data[reason]"], form["data[email]"]) == ("unsubscribe", "manual", ANNA)
    assert form["data[campaign_id]"]
    assert "data[action]" not in form


def test_a_bounce_is_a_cleaning_for_a_hard_reason_without_an_id(audience: Hooked) -> None:
    audience.act(PersonAct.BOUNCE)
    (form,) = audience.forms()
    assert form.keys() == {
        "type",
        "fired_at",
        "data[list_id]",
        "data[reason]",
        "data[email]",
        "data[campaign_id]",
    }
    assert (form["type"], form["data[reason]"]) == ("cleaned", "hard")


def test_a_complaint_is_a_cleaning_at_the_worst_and_an_unsubscription_otherwise(audience: Hooked) -> None:
    audience.act(PersonAct.COMPLAIN)
    (worst,) = audience.forms()
    assert (worst["type"], worst["data[reason]"]) == ("cleaned", "abuse")
    audience.sandbox.settings(mode="permissive")
    audience.create(address="ben@shop.de")
    audience.act(PersonAct.COMPLAIN, "ben@shop.de")
    _, best = audience.forms()
    assert (best["type"], best["data[reason]"], best["data[action]"]) == ("unsubscribe", "abuse", "unsub")


def test_a_change_of_address_is_told_together_with_a_profile_update(audience: Hooked) -> None:
    audience.patch(email_address="anna@neu.de")
    moved, profile = audience.forms()
    assert (moved["data[old_email]"], moved["data[new_email]"]) == (ANNA, "anna@neu.de")
    assert moved["data[new_id]"] == profile["data[id]"]
    assert "data[id]" not in moved
    assert (profile["type"], profile["data[email]"]) == ("profile", "anna@neu.de")


def test_a_write_that_changes_nothing_tells_nothing(audience: Hooked) -> None:
    audience.patch(status="subscribed", merge_fields={"FNAME": "Anna"})
    audience.act(PersonAct.SUBSCRIBE)
    assert audience.told() == []
    audience.patch(merge_fields={"FNAME": "Anne"})
    assert audience.told() == ["profile"]


def test_a_refused_write_tells_nothing(audience: Hooked) -> None:
    audience.act(PersonAct.UNSUBSCRIBE)
    assert audience.told() == ["unsubscribe"]
    for body in ({"status": "subscribed"}, {"merge_fields": {"NOPE": "1"}}):
        assert audience.sandbox.call("PATCH", f"./members/{ANNA}", body).status_code == 400
    assert audience.told() == []


def test_who_is_asked_to_confirm_is_told_of_when_they_do(hooked: Hooked) -> None:
    hooked.sandbox.settings(double_optin=True)
    hooked.hook()
    hooked.act(PersonAct.SUBSCRIBE)
    assert hooked.told() == []
    hooked.act(PersonAct.CONFIRM)
    assert hooked.told() == ["subscribe"]


def test_a_return_by_the_form_is_told(audience: Hooked) -> None:
    audience.act(PersonAct.UNSUBSCRIBE)
    audience.act(PersonAct.SUBSCRIBE)
    assert audience.told() == ["unsubscribe", "subscribe"]


def test_the_api_lowering_somebody_is_told_once(audience: Hooked) -> None:
    audience.patch(status="unsubscribed")
    audience.patch(status="unsubscribed")
    (form,) = audience.forms()
    assert (form["type"], form["data[reason]"]) == ("unsubscribe", "manual")


def test_batches_are_told_of_member_by_member(audience: Hooked) -> None:
    members = [{"email_address": f"c{number}@shop.de", "status": "subscribed"} for number in range(3)]
    members.append({"email_address": ANNA, "status": "unsubscribed"})
    audience.sandbox.call("POST", ".", {"members": members, "update_existing": True})
    assert audience.told() == ["subscribe", "subscribe", "subscribe", "unsubscribe"]


@pytest.mark.parametrize("how", ["archive", "erase", "erase by hand"])
def test_archiving_and_erasing_are_silent_at_the_worst(audience: Hooked, how: str) -> None:
    def vanish() -> None:
        member = audience.sandbox.emulator.audience.find(ANNA)
        assert member is not None
        path = f"./members/{member.id}"
        if how == "archive":
            audience.sandbox.call("DELETE", path)
        elif how == "erase":
            audience.sandbox.call("POST", f"{path}/actions/delete-permanent")
        else:
            audience.act(PersonAct.ERASE)

    vanish()
    assert audience.told() == []
    audience.sandbox.settings(mode="permissive")
    audience.create()
    vanish()
    subscribe, gone = audience.forms()
    assert (subscribe["type"], gone["type"], gone["data[action]"]) == ("subscribe", "unsubscribe", "delete")


# To whom


def test_a_hook_hears_only_the_sources_it_asked_for(hooked: Hooked) -> None:
    hooked.hook("/people", sources={"user": True, "admin": False, "api": False})
    hooked.hook("/api", sources={"user": False, "admin": False, "api": True})
    hooked.sandbox.settings(mode="permissive")
    hooked.create()
    hooked.act(PersonAct.UNSUBSCRIBE)
    hooked.act(PersonAct.SUBSCRIBE, "ben@shop.de")
    hooked.act(PersonAct.ERASE, "ben@shop.de")
    hooked.sandbox.emulator.sender.wait(PATIENT)
    paths = [(post.path, dict(parse_qsl(post.body.decode()))["type"]) for post in hooked.receiver.posts()]
    assert paths == [
        ("/api", "subscribe"),
        ("/people", "unsubscribe"),
        ("/people", "subscribe"),
        ("/people", "unsubscribe"),
    ]


def test_a_hook_hears_only_the_events_it_asked_for(hooked: Hooked) -> None:
    hooked.hook(events={**dict.fromkeys(EVENTS, False), "unsubscribe": True})
    hooked.create()
    hooked.patch(merge_fields={"FNAME": "A"})
    hooked.patch(status="unsubscribed")
    assert hooked.told() == ["unsubscribe"]


def test_hooks_belong_to_one_audience(audience: Hooked) -> None:
    emulator = audience.sandbox.emulator
    other = emulator.account.add_audience("Other")
    emulator.act(PersonAct.SUBSCRIBE, audience=other.id, address=ANNA)
    assert audience.told() == []
    assert audience.sandbox.call("GET", f"/lists/{other.id}/webhooks").json()["total_items"] == 0


def test_a_reset_forgets_hooks_and_what_was_on_its_way(audience: Hooked) -> None:
    audience.sandbox.emulator.sender.change({"paused": True})
    audience.act(PersonAct.UNSUBSCRIBE)
    audience.sandbox.emulator.reset()
    audience.create()
    assert audience.told() == []
    assert audience.sandbox.call("GET", "./webhooks").json()["total_items"] == 0


# Control


def test_control_shows_changes_and_awaits_deliveries(audience: Hooked) -> None:
    def control(method: str, path: str = "", body: Any = None) -> Any:
        url = f"{audience.sandbox.origin}/_control/webhooks{path}"
        return requests.request(method, url, json=body, timeout=PATIENT).json()

    assert control("PATCH", body={"paused": True, "repeat": 1.0})["settings"]["paused"] is True
    audience.act(PersonAct.UNSUBSCRIBE)
    waiting = control("GET", "/done?seconds=1")
    assert (waiting["done"], waiting["waiting"]) == (False, 2)
    control("PATCH", body={"paused": False})
    assert control("GET", "/done")["done"] is True
    shown = control("GET", "?last=1")
    assert shown["counts"] == {"attempts": 2, "delivered": 2, "posted": 1}
    (attempt,) = shown["attempts"]
    assert attempt["status"] == 200
    assert "type=unsubscribe" in attempt["body"]
    assert "error" in control("PATCH", body={"nonsense": 1})
    assert "error" in control("GET", "/done?seconds=soon")
    assert control("DELETE")["counts"] == {}
