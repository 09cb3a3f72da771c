"""The vendor's own client, unpatched, does everything that we need against the local Klaviyo.

It brings a top-level package `openapi_client`, which would collide with any other generated client, and so it lives in an
environment of its own, made once per session from the package index.
"""

import json
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest

from segue.connectors.klaviyo.testing import Sandbox

from .api import ANNA, BERT

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def interpreter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that has the vendor's client."""
    folder = tmp_path_factory.mktemp("sdk")
    venv.create(folder, with_pip=True)
    python = folder / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    command = [
        str(python),
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "klaviyo-api==25.0.0",
    ]
    installed = subprocess.run(command, capture_output=True, text=True, check=False)
    if installed.returncode:
        pytest.fail(
            f"klaviyo-api could not be installed; is a package index reachable?\n{installed.stderr[-2000:]}"
        )
    return python


def drive(interpreter: Path, klaviyo: Sandbox, scenario: str, *arguments: str) -> Any:
    command = [
        str(interpreter),
        str(HERE / "drive_sdk.py"),
        scenario,
        klaviyo.origin,
        klaviyo.key,
        *arguments,
    ]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ran.returncode == 0, ran.stderr[-3000:]
    return json.loads(ran.stdout)


def test_profiles_are_made_changed_read_and_paged(interpreter: Path, klaviyo: Sandbox) -> None:
    seen = drive(interpreter, klaviyo, "profiles")
    assert (seen["read"]["first_name"], seen["read"]["properties"]) == ("Anna", {})
    assert seen["read"]["subscriptions"]["email"]["marketing"]["consent"] == "NEVER_SUBSCRIBED"
    status, body = seen["conflict"]
    assert (status, body["errors"][0]["code"]) == (409, "duplicate_profile")
    assert [len(page) for page in seen["pages"]] == [20, 6]
    assert len({address for page in seen["pages"] for address in page}) == 26


def test_profiles_are_imported_one_by_one_and_by_job(interpreter: Path, klaviyo: Sandbox) -> None:
    seen = drive(interpreter, klaviyo, "importing")
    assert seen["properties"] == {"tags": ["vip"]}
    assert seen["states"] == ["queued", "processing", "complete"]
    assert seen["counts"] == [2, 1, 1]
    assert seen["errors"] == ["/data/attributes/profiles/data/1/attributes/email"]
    assert seen["members"] == seen["taken"] == [BERT]


def test_lists_take_profiles_and_let_them_go(interpreter: Path, klaviyo: Sandbox) -> None:
    assert drive(interpreter, klaviyo, "lists") == {"members": [1, 0], "names": ["Sandbox", "News"]}


def test_people_are_subscribed_unsubscribed_and_suppressed(interpreter: Path, klaviyo: Sandbox) -> None:
    klaviyo.settings(consent_seconds=0)
    seen = drive(interpreter, klaviyo, "subscribing", klaviyo.list_id)
    assert seen["answer"] is None
    assert seen["suppressed"] == "complete"
    assert seen["consents"] == {ANNA: "SUBSCRIBED", BERT: "UNSUBSCRIBED"}
    assert seen["events"] == 4
    assert set(seen["metrics"]) == {
        "Subscribed to Email Marketing",
        "Unsubscribed from Email Marketing",
        "Manually Suppressed from Email Marketing",
    }
    assert klaviyo.emulator.raises == []


def test_a_person_is_erased(interpreter: Path, klaviyo: Sandbox) -> None:
    klaviyo.settings(async_seconds=0)
    assert drive(interpreter, klaviyo, "erasing") == {"left": 0}


def test_the_client_waits_when_it_is_throttled_and_comes_back(interpreter: Path, klaviyo: Sandbox) -> None:
    assert drive(interpreter, klaviyo, "throttled") == {"names": ["SANDBX", "SANDBX"]}
    answered = klaviyo.emulator.traffic.by_status
    assert answered[200] == 2
    assert answered[429] >= 1
