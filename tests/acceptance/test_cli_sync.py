"""The sync commands as real processes: what they print, how they end, and what is left when they end badly."""

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from segue.connectors.emulator import PersonAct
from segue.connectors.mailchimp.testing import running_sandbox

from ..forked import forked_segue
from ..shop import Shop

SEGUE = Path(sys.executable).with_name("segue")

pytestmark = pytest.mark.parametrize("shop", ["sqlite"], indirect=True)


def segue(shop: Shop, *arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SEGUE if "preexec_fn" in more else forked_segue(), *arguments, "--project", shop.folder],
        env={**os.environ, **more.pop("env", {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        **more,
    )


def told(done: subprocess.CompletedProcess[str], code: int) -> str:
    """Check that a command ended with one paragraph and this exit code, and give the paragraph."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    lines = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1, done.stderr
    return lines[0]


def test_plan_apply_and_run_again(shop: Shop) -> None:
    shop.stock(5)
    shop.customers["c00003"].consents = []
    shop.build()
    planned = segue(shop, "plan")
    assert planned.returncode == 0, planned.stderr
    assert "no recorded grant" in planned.stdout
    assert shop.members() == {}  # a plan writes nothing
    applied = segue(shop, "apply", "--json")
    assert applied.returncode == 0, applied.stderr
    assert json.loads(applied.stdout)[0]["outcomes"] == {"create": {"applied": 4}}
    again = segue(shop, "run", "--no-build", "--json")
    assert json.loads(again.stdout)[0]["requests"]["write"] == 0
    shown = segue(shop, "contact", "show", "c00000")
    assert "SG_SPENT" in shown.stdout
    assert "checkout" in shown.stdout
    status = json.loads(segue(shop, "status", "--json").stdout)
    assert status[0]["confirmed_contacts"] == 4
    assert len(json.loads(segue(shop, "runs", "--json").stdout)) == 3


def test_a_plan_says_how_many_are_in_the_audience_already(shop: Shop) -> None:
    shop.stock(2)
    member = {"email_address": "c00000@shop.example", "status": "subscribed"}
    shop.sandbox.sdk().lists.add_list_member(shop.sandbox.audience, member)
    shop.build()
    said = " ".join(segue(shop, "plan").stdout.split())
    assert "1 new billable contacts" in said
    assert "1 contacts, matched by address, are in the audience already" in said


def test_who_left_at_one_destination_is_written_to_at_none(shop: Shop) -> None:
    with running_sandbox() as other:
        shop.stock(2)

        def build() -> None:
            shop.build()
            config = shop.folder / "segue.yml"
            second = config.read_text().partition("destinations:\n")[2].replace("newsletter:", "offers:")
            second = second.replace(shop.sandbox.base_url, other.base_url)
            config.write_text(config.read_text() + second.replace(shop.sandbox.audience, other.audience))

        build()
        assert segue(shop, "run", "--no-build").returncode == 0
        other.emulator.act(PersonAct.UNSUBSCRIBE, address="c00000@shop.example")
        shop.customers["c00000"].spent = 500.0
        build()
        assert segue(shop, "run", "--no-build").returncode == 0
    member = shop.members()["c00000@shop.example"]
    assert (member["status"], member["merge_fields"]["SG_SPENT"]) == ("unsubscribed", 50)


def test_a_rejected_contact_ends_with_code_1_and_is_listed(shop: Shop) -> None:
    shop.sandbox.settings(refuse_fake_addresses=True)
    shop.stock(1)
    shop.customers["c00000"].email = "c@example.com"
    shop.build()
    assert segue(shop, "run", "--no-build").returncode == 1
    listed = json.loads(segue(shop, "rejected", "--json").stdout)
    assert [row["contact_id"] for row in listed] == ["c00000"]
    assert "c@example.com" not in json.dumps(listed)


def test_a_missing_secret_is_named(shop: Shop) -> None:
    shop.stock(1)
    shop.build()
    done = segue(shop, "plan", env={"SANDBOX_KEY": ""})
    assert "SANDBOX_KEY" in told(done, 2)


def test_a_wrong_key_is_the_accounts_fault(shop: Shop) -> None:
    shop.stock(1)
    shop.build()
    paragraph = told(segue(shop, "run", "--no-build", env={"SANDBOX_KEY": "wrong-us19"}), 3)
    assert "key" in paragraph
    assert "wrong-us19" not in paragraph


def test_a_sandbox_that_is_down_is_said(shop: Shop) -> None:
    shop.stock(1)
    shop.build()
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        config = shop.folder / "segue.yml"
        config.write_text(
            config.read_text().replace(
                shop.sandbox.base_url, f"http://127.0.0.1:{unused.getsockname()[1]}/3.0"
            )
        )
        assert "reach" in told(segue(shop, "plan"), 3)


def test_a_tripped_guardrail_ends_with_code_4_and_sends_nothing(shop: Shop) -> None:
    shop.sandbox.settings(double_optin=True)
    shop.stock(1)
    shop.build()
    assert "--override-guardrails" in told(segue(shop, "run", "--no-build"), 4)
    assert shop.members() == {}
    assert segue(shop, "run", "--no-build", "--override-guardrails").returncode == 0


def _no_file_over_a_few_pages() -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))


def test_a_store_that_cannot_grow_loses_nothing(shop: Shop) -> None:
    """As on a full disk: writes fail in the middle; the same command with room ends right."""
    shop.stock(300)
    shop.build()
    done = segue(shop, "run", "--no-build", preexec_fn=_no_file_over_a_few_pages)
    told(done, 2)
    assert segue(shop, "run", "--no-build").returncode == 0
    assert len(shop.members()) == 300
    again = segue(shop, "run", "--no-build", "--json")
    assert json.loads(again.stdout)[0]["requests"]["write"] == 0


def test_an_unknown_destination_is_named_with_those_that_exist(shop: Shop) -> None:
    shop.stock(1)
    shop.build()
    assert "newsletter" in told(segue(shop, "plan", "newsleter"), 2)


def test_without_a_snapshot_the_next_step_is_said(shop: Shop) -> None:
    shop.stock(1)
    shop.build()
    (shop.folder / ".segue" / "snapshots" / "CURRENT").unlink()
    assert "segue build" in told(segue(shop, "plan"), 2)


@pytest.mark.slow
def test_killed_in_the_middle_the_same_command_ends_right(shop: Shop) -> None:
    shop.batch_size = 100
    shop.stock(1_200)
    shop.build()
    shop.sandbox.settings(latency=0.3)
    killed = _until(shop, lambda: len(shop.members()) >= 300)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert 0 < len(shop.members()) < 1_200
    shop.sandbox.settings(latency=0.0)
    assert segue(shop, "run", "--no-build").returncode == 0
    assert len(shop.members()) == 1_200
    assert shop.audience()["raises"] == []
    again = segue(shop, "run", "--no-build", "--json")
    assert json.loads(again.stdout)[0]["requests"]["write"] == 0


def _until(shop: Shop, happened: Callable[[], bool]) -> subprocess.Popen[bytes]:
    """Start a run and give it back as soon as something has happened at the ESP."""
    process = subprocess.Popen(
        [SEGUE, "run", "--no-build", "--project", shop.folder],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while not happened():
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process
