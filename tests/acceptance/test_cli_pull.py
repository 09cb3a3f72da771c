"""`segue pull` as a process: who left at one account is out of the other, and a kill in the middle loses nothing."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from segue.connectors.emulator import PersonAct
from segue.connectors.mailchimp.testing import Sandbox, running_sandbox

from ..shop import Shop
from .ugly_shop import segue

pytestmark = pytest.mark.parametrize("shop", ["sqlite"], indirect=True)

SEGUE = Path(sys.executable).with_name("segue")
FIRST = "c00000@shop.example"
OTHER = """\
  other:
    connector: mailchimp
    mapping: mapping.yml
    settings:
      api_key: env:SANDBOX_KEY
      audience: {audience}
      base_url: {base_url}
"""


@pytest.fixture
def other(shop: Shop) -> Iterator[Sandbox]:
    """A second account of the same shop, loaded like the first."""
    with running_sandbox() as sandbox:
        shop.more = OTHER.format(audience=sandbox.audience, base_url=sandbox.base_url)
        shop.stock(3)
        shop.build()
        assert segue("run", "--no-build", "--project", shop.folder).code == 0
        yield sandbox


def pulled(shop: Shop, *arguments: str, code: int = 0) -> list[dict[str, object]]:
    done = segue("pull", *arguments, "--json", "--project", shop.folder)
    assert done.code == code, done.err
    found: list[dict[str, object]] = json.loads(done.out)
    return found


def test_who_left_at_one_account_is_opted_out_of_the_other_by_the_same_command(
    shop: Shop, other: Sandbox
) -> None:
    other.emulator.act(PersonAct.UNSUBSCRIBE, address=FIRST)
    reports = pulled(shop)
    assert [(each["destination"], each["left"]) for each in reports] == [
        ("newsletter", 0),
        ("other", 1),
        ("newsletter", 0),
    ]
    assert reports[2]["outcomes"] == {"opt_out": {"applied": 1}}
    assert shop.members()[FIRST]["status"] == "unsubscribed"
    assert FIRST not in json.dumps(reports)


@pytest.mark.usefixtures("other")
def test_one_account_that_refuses_keeps_no_other_from_being_asked(shop: Shop) -> None:
    config = shop.folder / "segue.yml"
    head, mark, tail = config.read_text().partition("  other:")
    config.write_text(head + mark + tail.replace("env:SANDBOX_KEY", "env:WRONG_KEY"))
    shop.sandbox.emulator.act(PersonAct.UNSUBSCRIBE, address=FIRST)
    done = segue("pull", "--json", "--project", shop.folder, env={"WRONG_KEY": "wrong-us19"})
    assert done.code == 3
    asked, refused, *_ = json.loads(done.out)
    assert (asked["destination"], asked["left"]) == ("newsletter", 1)
    assert refused["destination"] == "other"


def test_a_full_pull_finds_who_is_gone_and_says_so(shop: Shop, other: Sandbox) -> None:
    other.emulator.act(PersonAct.ERASE, address=FIRST)
    done = segue("pull", "other", "--full", "--project", shop.folder)
    assert done.code == 0, done.err
    assert "1 contacts are not there any more" in " ".join(done.out.split())
    assert shop.members()[FIRST]["status"] == "unsubscribed"


def test_killed_in_the_middle_the_next_one_misses_nobody(shop: Shop) -> None:
    emulator = shop.sandbox.emulator
    shop.stock(2)
    shop.run()
    for number in range(3500):
        emulator.act(PersonAct.SUBSCRIBE, address=f"stranger{number}@shop.example")
    shop.sandbox.settings(latency=0.3)
    before = emulator.traffic.requests
    process = subprocess.Popen(
        [SEGUE, "pull", "--project", shop.folder], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while emulator.traffic.requests < before + 7:
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    shop.sandbox.settings(latency=0.0)
    emulator.act(PersonAct.UNSUBSCRIBE, address=FIRST)
    (report,) = pulled(shop)
    assert report["left"] == 1
    assert pulled(shop, "--full")[0]["gone"] == 0
