"""Pause, resume, rollback, verify, retry and the canary as real processes: what they print and how they end."""

import json
import os
import pty
import subprocess
import sys
from typing import Any

import pytest

from ..shop import Shop
from ..sync.marketer import edit, member
from .test_cli_sync import SEGUE, segue, told

pytestmark = pytest.mark.parametrize("shop", ["sqlite"], indirect=True)


def said(shop: Shop, *arguments: str, code: int = 0) -> str:
    """Run a command that is to end with this code, and give what it printed, in one line."""
    done = segue(shop, *arguments)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return " ".join(done.stdout.split())


def told_json(shop: Shop, *arguments: str, code: int = 0) -> Any:
    done = segue(shop, *arguments, "--json")
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)


def test_a_pause_is_shown_obeyed_and_ended(shop: Shop) -> None:
    shop.stock(2)
    shop.build()
    assert "Opt-outs still go out" in said(shop, "pause", "newsletter", "--reason", "a wrong rule")
    shown = said(shop, "status")
    assert "newsletter is paused since" in shown
    assert "a wrong rule" in shown
    assert told_json(shop, "status")[0]["paused"]["opt_outs"] is False
    assert "segue resume newsletter" in said(shop, "run", "--no-build")
    assert shop.members() == {}
    assert told_json(shop, "run", "--no-build")[0]["paused"] is True
    assert "written to again" in said(shop, "resume", "newsletter")
    assert "was not paused" in said(shop, "resume", "newsletter")
    assert "paused" not in said(shop, "status")
    said(shop, "run", "--no-build")
    assert len(shop.members()) == 2


def test_a_pause_names_a_destination_that_exists(shop: Shop) -> None:
    shop.stock(1)
    shop.build()
    assert "newsletter" in told(segue(shop, "pause", "newsleter"), 2)


def test_a_rollback_is_shown_first_and_done_with_yes(shop: Shop) -> None:
    shop.stock(3)
    shop.run()
    for customer in shop.customers.values():
        customer.spent = 500.0
    wrong = shop.run().run_id
    shown = said(shop, "rollback", wrong)
    assert "3 contacts would be as before" in shown
    assert f"segue rollback {wrong} --yes" in shown
    assert member(shop, "c00000")["merge_fields"]["SG_SPENT"] == 500
    assert told_json(shop, "rollback", wrong)["applied"] is False
    assert "is applied" in told(segue(shop, "apply"), 2)  # what was only shown is nobody's newest plan
    assert "is paused" in said(shop, "rollback", wrong, "--yes")
    assert member(shop, "c00000")["merge_fields"]["SG_SPENT"] == 50
    assert f"rolled back {wrong}" in said(shop, "status")
    assert "paused" in said(shop, "run", "--no-build")
    assert member(shop, "c00000")["merge_fields"]["SG_SPENT"] == 50


def test_without_a_pause_the_next_run_sends_it_again(shop: Shop) -> None:
    shop.stock(1)
    first = shop.run().run_id
    assert "paused" not in said(shop, "rollback", first, "--yes", "--no-pause")
    assert member(shop, "c00000")["merge_fields"]["SG_SPENT"] == ""
    said(shop, "run", "--no-build")
    assert member(shop, "c00000")["merge_fields"]["SG_SPENT"] == 50


def test_on_a_terminal_a_rollback_asks(shop: Shop) -> None:
    shop.stock(1)
    first = shop.run().run_id
    for answer, value in {b"n\n": 50, b"y\n": ""}.items():
        ours, theirs = pty.openpty()
        os.write(ours, answer)
        with subprocess.Popen(
            [SEGUE, "rollback", first, "--project", shop.folder],
            stdin=theirs,
            stdout=theirs,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "TERM": "dumb"},
        ) as process:
            os.close(theirs)
            printed = b""
            while True:
                try:
                    some = os.read(ours, 4096)
                except OSError:  # the terminal is gone with its last process
                    break
                printed += some
        os.close(ours)
        assert process.returncode == 0
        assert b"Take it back?" in printed
        assert member(shop, "c00000")["merge_fields"]["SG_SPENT"] == value


def test_a_run_that_nobody_knows_is_said_so(shop: Shop) -> None:
    shop.stock(1)
    shop.run()
    assert "segue runs" in told(segue(shop, "rollback", "20260101T000000-abcdef", "--yes"), 2)


def test_verify_says_what_drifted_with_examples_and_ends_with_4(shop: Shop) -> None:
    shop.stock(3)
    shop.run()
    assert "All of them are as confirmed" in said(shop, "verify", "newsletter")
    edit(shop, "c00001", SG_SPENT=7)
    assert "without --dry-run" in said(shop, "verify", "newsletter", "--dry-run", code=4)
    (report,) = told_json(shop, "verify", "--all", code=4)
    assert report["examples"] == [
        {
            "kind": "field",
            "name": "SG_SPENT",
            "contacts": 1,
            "policy": "repaired by the next run",
            "examples": ["c00001"],
        }
    ]
    said(shop, "run", "--no-build")
    assert member(shop, "c00001")["merge_fields"]["SG_SPENT"] == 50
    said(shop, "verify", "--sample", "2")


def test_refusals_say_what_to_do_and_are_tried_again_on_request(shop: Shop) -> None:
    shop.sandbox.settings(refuse_fake_addresses=True)
    shop.stock(2)
    for name in shop.customers:
        shop.customers[name].email = f"{name}@example.com"
    shop.run()
    shown = said(shop, "rejected")
    assert "Correct the address in the shop" in shown
    assert "c00000" in shown
    code = told_json(shop, "rejected")[0]["code"]
    assert "0 refused changes" in said(shop, "retry", "--code", "nonsense")
    assert "1 refused changes" in said(shop, "retry", "newsletter", "--contact", "c00000")
    assert told_json(shop, "retry", "--code", code) == {"newsletter": 1}
    shop.sandbox.settings(refuse_fake_addresses=False)
    said(shop, "run", "--no-build")
    assert len(shop.members()) == 2


def test_a_canary_goes_first_and_apply_sends_the_rest(shop: Shop) -> None:
    shop.stock(20)
    shop.plan()
    assert "segue apply` sends the rest" in said(shop, "apply", "--seeds", "c00003,c00007")
    assert set(shop.members()) == {"c00003@shop.example", "c00007@shop.example"}
    said(shop, "apply", "--canary", "5")
    assert 5 <= len(shop.members()) <= 7
    said(shop, "apply")
    assert len(shop.members()) == 20
    shop.plan()
    assert "Give one of" in told(segue(shop, "apply", "--canary", "5", "--seeds", "c1"), 2)
    assert "2%" in told(segue(shop, "apply", "--canary", "some"), 2)


def test_help_stays_quick_to_import(shop: Shop) -> None:
    heavy = "duckdb,sqlalchemy,ibis,pyarrow,requests"
    script = (
        "import sys; from segue.sync.cli.app import load_groups; load_groups();"
        f"print([name for name in '{heavy}'.split(',') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
