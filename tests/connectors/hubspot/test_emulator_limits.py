"""The door of the local HubSpot: keys, limits by the emulator's clock, faults, settings, and its life as a process."""

import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
import requests

from segue.connectors.faults import Fault, FaultKind
from segue.connectors.hubspot.emulator import HubSpotEmulator, Settings, serve_sandbox
from segue.connectors.hubspot.testing import Sandbox
from segue.core.errors import ConfigError

DETAILS = "/account-info/v3/details"
LEFT = "X-HubSpot-RateLimit-Remaining"


@pytest.fixture
def still(hubspot: Sandbox) -> Sandbox:
    hubspot.emulator.clock.set(datetime(2026, 5, 1, 12, tzinfo=UTC))
    return hubspot


def search(hubspot: Sandbox) -> requests.Response:
    return hubspot.call("POST", "./search", {})


# Keys


@pytest.mark.parametrize("header", [None, "Bearer wrong", "Basic sandbox-token", "Bearer"])
def test_a_wrong_key_is_refused(hubspot: Sandbox, header: str | None) -> None:
    headers = {} if header is None else {"authorization": header}
    answer = requests.get(hubspot.origin + DETAILS, headers=headers, timeout=5)
    assert (answer.status_code, answer.json()["category"]) == (401, "INVALID_AUTHENTICATION")


@pytest.mark.parametrize("version", ["v3", "2026-03", "2026-09"])
def test_the_account_says_where_it_is(hubspot: Sandbox, version: str) -> None:
    answer = hubspot.call("GET", f"/account-info/{version}/details").json()
    assert answer["portalId"] == hubspot.emulator.account.settings.portal_id
    assert {"dataHostingLocation", "timeZone"} <= set(answer)


def test_every_error_has_the_one_shape(hubspot: Sandbox) -> None:
    broken = requests.post(
        f"{hubspot.origin}/crm/v3/objects/contacts",
        data="{broken",
        headers={"authorization": f"Bearer {hubspot.token}"},
        timeout=5,
    )
    for answer, status in (
        (broken, 400),
        (hubspot.call("GET", "/nowhere"), 404),
        (hubspot.call("PUT", "."), 405),
    ):
        assert answer.status_code == status
        assert answer.json().keys() >= {"status", "message", "correlationId", "category"}
        assert answer.headers["content-type"] == "application/json;charset=utf-8"


# Limits


@pytest.mark.parametrize(
    ("tier", "burst", "daily"),
    [("starter", 100, 250_000), ("pro", 190, 650_000), ("enterprise", 190, 1_000_000)],
)
def test_every_answer_tells_what_is_left(still: Sandbox, tier: str, burst: int, daily: int) -> None:
    still.settings(tier=tier)
    headers = still.call("GET", DETAILS).headers
    told = {name.lower(): text for name, text in headers.items() if "ratelimit" in name.lower()}
    assert told == {
        "x-hubspot-ratelimit-daily": str(daily),
        "x-hubspot-ratelimit-daily-remaining": str(daily - 1),
        "x-hubspot-ratelimit-interval-milliseconds": "10000",
        "x-hubspot-ratelimit-max": str(burst),
        "x-hubspot-ratelimit-remaining": str(burst - 1),
    }


def test_too_many_in_ten_seconds_are_refused_until_the_first_is_ten_seconds_old(still: Sandbox) -> None:
    still.settings(burst=3)
    assert [still.call("GET", DETAILS).status_code for _ in range(4)] == [200, 200, 200, 429]
    answer = still.call("GET", DETAILS)
    body = answer.json()
    assert (body["status"], body["errorType"], body["policyName"]) == (
        "error",
        "RATE_LIMIT",
        "TEN_SECONDLY_ROLLING",
    )
    assert set(body) == {"status", "message", "errorType", "correlationId", "policyName", "requestId"}
    assert answer.headers[LEFT] == "0"
    assert "Retry-After" not in answer.headers
    still.emulator.clock.advance(timedelta(seconds=9.9))
    assert still.call("GET", DETAILS).status_code == 429
    still.emulator.clock.advance(timedelta(seconds=0.2))
    assert still.call("GET", DETAILS).status_code == 200


def test_the_day_is_over_at_its_limit_and_refused_requests_count(still: Sandbox) -> None:
    still.settings(daily=4, burst=3)
    assert [still.call("GET", DETAILS).status_code for _ in range(4)] == [200, 200, 200, 429]
    still.emulator.clock.advance(timedelta(minutes=1))
    answer = still.call("GET", DETAILS)
    assert (answer.status_code, answer.json()["policyName"]) == (429, "DAILY")
    assert answer.json()["message"] == "You have reached your daily limit."
    still.emulator.clock.advance(timedelta(hours=12))
    assert still.call("GET", DETAILS).status_code == 200


def test_a_search_has_a_limit_of_its_own_and_no_headers(still: Sandbox) -> None:
    answers = [search(still) for _ in range(6)]
    assert [answer.status_code for answer in answers] == [200] * 5 + [429]
    assert answers[5].json()["policyName"] == "SECONDLY"
    assert not [name for answer in answers for name in answer.headers if "ratelimit" in name.lower()]
    assert still.call("GET", DETAILS).headers[LEFT] == "94"
    still.emulator.clock.advance(timedelta(seconds=1))
    assert search(still).status_code == 200


def test_a_permissive_account_says_when_to_come_again_and_counts_no_search(still: Sandbox) -> None:
    still.settings(mode="permissive", burst=1)
    assert search(still).status_code == 200
    assert still.call("GET", DETAILS).status_code == 200
    assert still.call("GET", DETAILS).headers["Retry-After"] == "10"


def test_limits_can_be_switched_off(still: Sandbox) -> None:
    still.settings(limits=False, burst=1, searches=1)
    assert {search(still).status_code for _ in range(3)} == {200}
    assert LEFT not in still.call("GET", DETAILS).headers


def test_a_fault_speaks_like_hubspot(still: Sandbox) -> None:
    kinds = (FaultKind.THROTTLED, FaultKind.ERROR, FaultKind.UNAVAILABLE)
    still.emulator.faults.arm([Fault(kind=kind, count=1) for kind in kinds])
    answers = [still.call("GET", DETAILS) for _ in kinds]
    assert [answer.status_code for answer in answers] == [429, 500, 503]
    assert answers[0].json()["policyName"] == "TEN_SECONDLY_ROLLING"


# Settings, control, process


def test_the_control_page_shows_people_and_counts(hubspot: Sandbox) -> None:
    hubspot.call("POST", ".", {"properties": {"email": "anna@shop.de"}})
    act = {"act": "unsubscribe", "address": "anna@shop.de"}
    assert requests.post(f"{hubspot.origin}/_control/people", json=act, timeout=5).ok
    state = requests.get(f"{hubspot.origin}/_control/state?address=ANNA@shop.de", timeout=5).json()
    assert (state["contacts"], state["raises"]) == (1, [])
    assert state["people"][0]["state"] == "unsubscribed"


def test_settings_say_all_that_is_wrong_at_once() -> None:
    with pytest.raises(ConfigError) as refused:
        Settings().changed({"mod": "permissive", "tier": "gold", "latency": -1, "limits": "none"})
    assert len(refused.value.problems) == 4
    with pytest.raises(ConfigError, match="mode"):
        serve_sandbox(0, mode="kind")


def test_reset_forgets_everything_and_restores_the_settings_it_was_made_with() -> None:
    emulator = HubSpotEmulator(Settings(token="mine"))
    emulator.change_settings({"mode": "permissive", "token": "other"})
    emulator.account.records.create({"email": "anna@shop.de"}, request=1)
    emulator.reset()
    assert (emulator.settings()["mode"], emulator.settings()["token"]) == ("adversarial", "mine")
    assert emulator.people() == []


def test_the_sandbox_runs_as_a_process_until_it_is_interrupted() -> None:
    lines = (
        "from segue.connectors.hubspot.emulator import serve_sandbox",
        "serve_sandbox(0, announce=lambda url: print(url, flush=True), mode='permissive', token='mine')",
    )
    with subprocess.Popen(
        [sys.executable, "-c", "\n".join(lines)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        answer = requests.get(url + DETAILS, headers={"authorization": "Bearer mine"}, timeout=5)
        assert answer.status_code == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 0
