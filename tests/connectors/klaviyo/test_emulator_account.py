"""The door of the local Klaviyo: keys, revisions, media types, limits; its faults, settings and process."""

import re
import signal
import socket
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

from segue.connectors.emulator import PersonAct
from segue.connectors.faults import Fault, FaultKind
from segue.connectors.klaviyo.emulator import KlaviyoEmulator, Settings, serve_sandbox
from segue.connectors.klaviyo.facts import endpoints
from segue.connectors.klaviyo.testing import Sandbox
from segue.core.errors import ConfigError

from .api import ANNA, NOON, Api, error_of, import_job, item


@pytest.fixture
def limited(klaviyo: Sandbox) -> Sandbox:
    """A Klaviyo with its limits, whose clock stands still."""
    klaviyo.emulator.clock.set(NOON)
    return klaviyo


# The door


def test_the_key_opens_the_account(api: Api) -> None:
    [account] = api.good("GET", "/accounts")["data"]
    assert account["attributes"]["contact_information"]["organization_name"] == "Segue sandbox"


@pytest.mark.parametrize("key", [None, "Klaviyo-API-Key wrong", "Bearer pk_sandbox", "pk_sandbox"])
def test_another_key_is_refused(api: Api, key: str | None) -> None:
    answer = api.call("GET", "/accounts", headers={"authorization": key})
    assert error_of(answer)[0] == 401


@pytest.mark.parametrize(
    ("revision", "status"),
    [
        ("2026-07-15", 200),
        ("2026-10-15", 200),
        (None, 400),
        ("newest", 400),
        ("2026-04-15", 400),
        ("2027-01-15", 400),
        ("2024-10-15", 410),
    ],
)
def test_two_revisions_are_taken_and_one_that_is_over_two_years_old_is_gone(
    api: Api, revision: str | None, status: int
) -> None:
    assert api.call("GET", "/accounts", headers={"revision": revision}).status_code == status


@pytest.mark.parametrize("media_type", [None, "application/json", "text/plain"])
def test_a_write_needs_the_media_type_of_json_api(api: Api, media_type: str | None) -> None:
    body = {"data": {"type": "profile", "attributes": {"email": ANNA}}}
    answer = api.call("POST", "/profile-import", body, headers={"content-type": media_type})
    assert answer.status_code == 415
    assert answer.headers["content-type"] == "application/vnd.api+json"
    assert api.emulator.people() == []
    with_charset = {"content-type": "application/vnd.api+json; charset=utf-8"}
    assert api.call("POST", "/profile-import", body, headers=with_charset).status_code == 201


def test_there_is_no_slash_at_the_end_of_a_path(api: Api) -> None:
    assert api.call("GET", "/accounts/").status_code == 404


def test_unknown_paths_and_methods_are_refused_as_json_api(api: Api) -> None:
    for method, path, status in (("GET", "/nowhere", 404), ("DELETE", "/profiles", 405)):
        answer = api.call(method, path)
        api.sandbox.referee.exchanges.pop()
        assert error_of(answer)[0] == status
        assert answer.headers["content-type"] == "application/vnd.api+json"


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff", b"null", b'{"data": NaN}', b"[" * 100_000, b'{"data": "\\ud800"}']
)
def test_what_is_no_json_is_refused(api: Api, body: bytes) -> None:
    headers = {
        "authorization": f"Klaviyo-API-Key {api.sandbox.key}",
        "revision": "2026-07-15",
        "content-type": "application/vnd.api+json",
    }
    answer = requests.post(f"{api.sandbox.base_url}/api/profiles", data=body, headers=headers, timeout=5)
    api.sandbox.referee.exchanges.pop()
    assert error_of(answer)[:2] == (400, "invalid")


# Limits


def test_every_endpoint_has_the_limits_of_the_specification(limited: Sandbox) -> None:
    burst = {name: int(facts["limits"]["burst"].split("/")[0]) for name, facts in endpoints().items()}
    assert set(burst.values()) == {1, 3, 10, 75, 350}
    for endpoint, most in ("/accounts", 1), ("/metrics", 10), ("/profiles", 75), ("/events", 350):
        answers = [limited.call("GET", endpoint).status_code for _ in range(most + 1)]
        assert answers == [200] * most + [429]


def test_throttling_says_when_to_come_back_and_says_nothing_of_the_limit(limited: Sandbox) -> None:
    limited.call("GET", "/accounts")
    answer = limited.call("GET", "/accounts")
    assert error_of(answer) == (429, "throttled", None)
    assert answer.json()["errors"][0]["detail"] == "Request was throttled. Expected available in 1 second."
    assert answer.headers["retry-after"] == "1"
    assert not [name for name in answer.headers if name.startswith("ratelimit")]


def test_an_answer_tells_what_is_left_of_the_minute(limited: Sandbox) -> None:
    def told(answer: requests.Response) -> list[int]:
        return [int(answer.headers[f"ratelimit-{name}"]) for name in ("limit", "remaining", "reset")]

    assert told(limited.call("GET", "/accounts")) == [15, 14, 60]
    limited.emulator.clock.advance(timedelta(seconds=20))
    assert told(limited.call("GET", "/accounts")) == [15, 13, 40]
    assert told(limited.call("GET", "/metrics")) == [150, 149, 60]
    assert told(limited.call("GET", "/profiles/01NOBODY"))[1] == 699


def test_a_minute_has_fewer_than_sixty_bursts_and_begins_with_its_first_request(limited: Sandbox) -> None:
    for _ in range(15):
        assert limited.call("GET", "/accounts").status_code == 200
        limited.emulator.clock.advance(timedelta(seconds=2))
    refused = limited.call("GET", "/accounts")
    assert refused.headers["retry-after"] == "30"
    assert "30 seconds" in refused.text
    limited.emulator.clock.advance(timedelta(seconds=29))
    assert limited.call("GET", "/accounts").status_code == 429
    limited.emulator.clock.advance(timedelta(seconds=1))
    assert limited.call("GET", "/accounts").status_code == 200


@pytest.mark.parametrize(("mode", "limit"), [("adversarial", "700"), ("permissive", "750")])
def test_of_two_published_limits_the_worst_is_the_lower(limited: Sandbox, mode: str, limit: str) -> None:
    limited.settings(mode=mode)
    assert limited.call("GET", "/profiles").headers["ratelimit-limit"] == limit


def test_a_throttled_request_changes_nothing(limited: Sandbox) -> None:
    job = import_job(item(email=ANNA))
    answers = [limited.call("POST", "/profile-bulk-import-jobs", job).status_code for _ in range(12)]
    assert answers == [202] * 10 + [429] * 2
    assert limited.emulator.state(count=0, offset=0, address=None)["jobs_pending"] == 10


def test_some_queries_fall_under_stricter_limits(limited: Sandbox) -> None:
    predicted = {"additional-fields[profile]": "predictive_analytics"}
    assert limited.call("GET", "/profiles", **predicted).headers["ratelimit-limit"] == "150"
    counted = {"additional-fields[list]": "profile_count"}
    path = f"/lists/{limited.list_id}"
    assert limited.call("GET", path, **counted).headers["ratelimit-limit"] == "15"
    assert limited.call("GET", path).headers["ratelimit-limit"] == "700"


def test_150_lists_are_made_a_day(limited: Sandbox) -> None:
    body = {"data": {"type": "list", "attributes": {"name": "News"}}}
    for _ in range(150):
        assert limited.call("POST", "/lists", body).status_code == 201
        limited.emulator.clock.advance(timedelta(seconds=10))
    assert limited.call("POST", "/lists", body).headers["retry-after"] == str(86_400 - 1500)
    limited.emulator.clock.advance(timedelta(days=1))
    assert limited.call("POST", "/lists", body).status_code == 201


def test_limits_can_be_switched_off(limited: Sandbox) -> None:
    limited.settings(limits=False)
    assert {limited.call("GET", "/accounts").status_code for _ in range(20)} == {200}


# Faults


def test_a_guard_against_robots_can_answer_403_with_html_and_nothing_happened(api: Api) -> None:
    api.emulator.faults.arm([Fault(kind=FaultKind.CHALLENGED, count=1, path="/api/profile-import")])
    answer = api.upsert(email=ANNA)
    assert (answer.status_code, answer.headers["cf-mitigated"]) == (403, "challenge")
    assert answer.headers["content-type"].startswith("text/html")
    assert api.emulator.people() == []
    assert api.upsert(email=ANNA).status_code == 201


def test_an_armed_throttling_has_the_vendors_shape(api: Api) -> None:
    api.emulator.faults.arm([Fault(kind=FaultKind.THROTTLED, count=1)])
    assert error_of(api.call("GET", "/accounts")) == (429, "throttled", None)


@pytest.mark.parametrize(("kind", "status"), [(FaultKind.ERROR, 500), (FaultKind.UNAVAILABLE, 503)])
def test_armed_errors_are_json_api(api: Api, kind: FaultKind, status: int) -> None:
    api.emulator.faults.arm([Fault(kind=kind, count=1)])
    assert error_of(api.call("GET", "/accounts"))[0] == status


# Control


def test_control_shows_what_the_account_holds(api: Api) -> None:
    api.subscribe()
    api.act(PersonAct.OPEN)
    state = requests.get(f"{api.sandbox.origin}/_control/state?address={ANNA}", timeout=5).json()
    [shown] = state["profiles"]
    assert (shown["email"], shown["consent"], shown["mailable"]) == (ANNA, "SUBSCRIBED", True)
    assert state["metrics"]["Opened Email"] == 1
    body = {"act": "unsubscribe", "address": ANNA}
    assert requests.post(f"{api.sandbox.origin}/_control/people", json=body, timeout=5).json() == {
        "done": "unsubscribe"
    }
    assert api.marketing()["consent"] == "UNSUBSCRIBED"


def test_people_hold_all_that_is_known_of_them(api: Api) -> None:
    api.create(first_name="Anna", external_id="c1", location={"city": "Bonn"}, properties={"score": 3})
    person = api.person()
    assert person is not None
    assert person.fields == {
        "email": ANNA,
        "first_name": "Anna",
        "external_id": "c1",
        "city": "Bonn",
        "score": 3,
    }


def test_settings_say_all_that_is_wrong_at_once() -> None:
    with pytest.raises(ConfigError) as refused:
        Settings().changed({"mod": "permissive", "consent_seconds": -1, "limits": "yes"})
    for words in ('no setting "mod"', '"mode"', "consent_seconds", "limits"):
        assert words in str(refused.value)


def test_a_sandbox_with_a_wrong_setting_does_not_start() -> None:
    with pytest.raises(ConfigError, match="mode"):
        serve_sandbox(0, mode="kind")


def test_reset_restores_the_settings_it_was_made_with() -> None:
    emulator = KlaviyoEmulator(Settings(double_optin=False))
    emulator.change_settings({"double_optin": True, "limits": False})
    emulator.act(PersonAct.SUBSCRIBE, address=ANNA)
    emulator.reset()
    assert (emulator.settings()["double_optin"], emulator.settings()["limits"]) == (False, True)
    assert emulator.people() == []


def test_the_sandbox_runs_as_a_command_until_it_is_interrupted() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    command = [str(Path(sys.executable).with_name("segue")), "sandbox", "klaviyo", "--port", port]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"at (http://\S+): key (\w+), list (\w+)\.", line)
        assert found is not None, line
        origin, key, list_id = found.groups()
        headers: dict[str, Any] = {"authorization": f"Klaviyo-API-Key {key}", "revision": "2026-10-15"}
        assert requests.get(f"{origin}/api/lists/{list_id}", headers=headers, timeout=5).status_code == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) in {0, 130}  # whether the server or Python hears it first
