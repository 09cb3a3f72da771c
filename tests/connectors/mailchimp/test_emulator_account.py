"""The local Mailchimp's account: its door, its asynchronous batches, its settings, and its life as a process."""

import json
import signal
import subprocess
import sys
from datetime import timedelta
from typing import Any

import pytest
import requests

from segue.connectors.mailchimp.emulator import MailchimpEmulator, Settings, serve_sandbox
from segue.connectors.mailchimp.testing import Sandbox
from segue.core.errors import ConfigError

ANNA = "anna@shop.de"


# The door


def test_the_key_is_taken_as_bearer_token_too(mailchimp: Sandbox) -> None:
    def ping(header: str | None) -> requests.Response:
        headers = {"Authorization": header} if header else {}
        return requests.get(f"{mailchimp.base_url}/ping", headers=headers, timeout=5)

    assert ping(f"Bearer {mailchimp.key}").status_code == 200
    assert ping("Bearer wrong").json()["title"] == "API Key Invalid"
    assert ping("Basic nonsense").status_code == 401
    assert ping(None).json()["title"] == "API Key Missing"


def test_an_error_can_be_ordered(mailchimp: Sandbox) -> None:
    answer = requests.get(
        f"{mailchimp.base_url}/ping", headers={"X-Trigger-Error": "APIKeyMissing"}, timeout=5
    )
    assert (answer.status_code, answer.json()["title"]) == (401, "API Key Missing")


def test_throttling_takes_three_shapes(mailchimp: Sandbox) -> None:
    mailchimp.settings(connections=0)
    seen = [mailchimp.call("GET", "/ping") for _ in range(3)]
    assert sorted((answer.status_code, bool(answer.content)) for answer in seen) == [
        (403, False),
        (429, False),
        (429, True),
    ]
    mailchimp.settings(throttle="problem")
    assert mailchimp.call("GET", "/ping").json()["title"] == "TooManyRequests"


def test_broken_json_unknown_paths_and_methods_are_problems(mailchimp: Sandbox) -> None:
    url = f"{mailchimp.base_url}/lists/{mailchimp.audience}/members"
    broken = requests.post(url, data="{broken", auth=("any", mailchimp.key), timeout=5)
    assert broken.json()["title"] == "JSON Parse Exception"
    assert mailchimp.call("GET", "/nowhere").json()["title"] == "Resource Not Found"
    assert mailchimp.call("PUT", "/ping").json()["title"] == "Method Not Allowed"
    assert (
        requests.get(f"{mailchimp.base_url}/lists/nope", auth=("a", mailchimp.key), timeout=5).status_code
        == 404
    )
    with pytest.raises(AssertionError, match="not an endpoint"):
        mailchimp.referee.verify()


# Jobs


def start(mailchimp: Sandbox, *operations: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = mailchimp.call("POST", "/batches", {"operations": list(operations)}).json()
    return answer


def patch_operation(mailchimp: Sandbox, **body: Any) -> dict[str, Any]:
    path = f"/lists/{mailchimp.audience}/members/{ANNA}"
    return {"method": "PATCH", "path": path, "operation_id": "1", "body": json.dumps(body)}


def test_a_job_overtakes_what_was_written_after_it_was_submitted(mailchimp: Sandbox) -> None:
    mailchimp.call("POST", "./members", {"email_address": ANNA, "status": "subscribed"})
    start(mailchimp, patch_operation(mailchimp, merge_fields={"FNAME": "from the job"}))
    mailchimp.call("PATCH", f"./members/{ANNA}", {"merge_fields": {"FNAME": "later"}})
    mailchimp.emulator.clock.advance(timedelta(seconds=10))
    assert mailchimp.call("GET", f"./members/{ANNA}").json()["merge_fields"]["FNAME"] == "from the job"
    assert mailchimp.emulator.traffic.counters()["within_jobs"] == {
        "PATCH /3.0/lists/{list_id}/members/{subscriber_hash}": 1
    }


def test_results_are_reachable_for_ten_minutes_and_for_seven_days_under_a_new_address(
    mailchimp: Sandbox,
) -> None:
    job = start(mailchimp, {"method": "GET", "path": "/ping", "operation_id": "1"})
    mailchimp.emulator.clock.advance(timedelta(seconds=10))
    first = mailchimp.call("GET", f"/batches/{job['id']}").json()["response_body_url"]
    assert requests.get(first, timeout=5).status_code == 200
    mailchimp.emulator.clock.advance(timedelta(minutes=11))
    assert requests.get(first, timeout=5).status_code == 403
    assert requests.get(
        mailchimp.call("GET", f"/batches/{job['id']}").json()["response_body_url"], timeout=5
    ).ok
    mailchimp.emulator.clock.advance(timedelta(days=8))
    assert mailchimp.call("GET", f"/batches/{job['id']}").json()["response_body_url"] == ""


def test_a_deleted_job_never_runs(mailchimp: Sandbox) -> None:
    mailchimp.call("POST", "./members", {"email_address": ANNA, "status": "subscribed"})
    job = start(mailchimp, patch_operation(mailchimp, status="unsubscribed"))
    assert mailchimp.call("DELETE", f"/batches/{job['id']}").status_code == 204
    mailchimp.emulator.clock.advance(timedelta(seconds=10))
    assert mailchimp.call("GET", f"./members/{ANNA}").json()["status"] == "subscribed"
    assert mailchimp.call("GET", f"/batches/{job['id']}").status_code == 404


def test_a_job_needs_operations_with_text_bodies(mailchimp: Sandbox) -> None:
    assert mailchimp.call("POST", "/batches", {"operations": []}).status_code == 400


# Settings


def test_settings_say_all_that_is_wrong_at_once() -> None:
    with pytest.raises(ConfigError) as refused:
        Settings().changed({"mod": "permissive", "plan": "gold", "latency": -1, "connections": "many"})
    assert len(refused.value.problems) == 4
    assert 'Did you mean "mode"?' in refused.value.message


def test_a_sandbox_with_a_wrong_setting_does_not_start() -> None:
    with pytest.raises(ConfigError, match="mode"):
        serve_sandbox(0, mode="kind")


def test_reset_restores_the_settings_it_was_made_with() -> None:
    emulator = MailchimpEmulator(Settings(key="other-us1", audience="abc"))
    emulator.change_settings({"mode": "permissive"})
    emulator.reset()
    assert (emulator.settings()["mode"], emulator.settings()["key"], emulator.audience.id) == (
        "adversarial",
        "other-us1",
        "abc",
    )


def test_the_sandbox_runs_as_a_process_until_it_is_interrupted() -> None:
    lines = (
        "from segue.connectors.mailchimp.emulator import serve_sandbox",
        "serve_sandbox(0, announce=lambda url: print(url, flush=True), mode='permissive', key='mine-us1')",
    )
    with subprocess.Popen(
        [sys.executable, "-c", "\n".join(lines)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert requests.get(f"{url}/ping", auth=("any", "mine-us1"), timeout=5).status_code == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 0
