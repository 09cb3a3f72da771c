"""`segue serve` as a process, between two real accounts: who leaves at one is out of the other a moment later."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

import pytest

from segue.connectors.emulator import PersonAct
from segue.connectors.mailchimp.testing import Sandbox, running_sandbox

from ..shop import Shop
from .ugly_shop import segue

FIRST = "c00000@shop.example"
TOKEN = "token-of-nobody-that-is-long-enough-for-a-path"
PATIENCE = 30.0  # seconds that a slow machine may take; how fast it is, the benchmark says

OTHER = """\
    webhooks: {{token: env:HOOK_TOKEN}}
  other:
    connector: mailchimp
    mapping: mapping.yml
    settings:
      api_key: env:SANDBOX_KEY
      audience: {audience}
      base_url: {base_url}
serve: {{port: {port}, public_url: "http://127.0.0.1:{port}"}}
"""


@pytest.fixture(scope="module")
def other() -> Iterator[Sandbox]:
    with running_sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def both(shop: Shop, other: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    """A shop that is in both accounts, and serves at a port that is free."""
    monkeypatch.setenv("HOOK_TOKEN", TOKEN)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    shop.more = OTHER.format(audience=other.audience, base_url=other.base_url, port=port)
    shop.stock(2)
    with other.fresh():
        shop.build()
        assert segue("run", "--no-build", "--project", shop.folder).code == 0
        yield shop


@contextmanager
def serving(folder: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [Path(sys.executable).with_name("segue"), "serve", "--project", folder],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ,
    )
    assert process.stdout is not None
    assert "Listening" in process.stdout.readline()
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) in {0, 143}
        process.stdout.close()


def mailed(sandbox: Sandbox, address: str = FIRST) -> bool:
    audience = sandbox.emulator.state(count=10, offset=0, address=address)["audiences"][sandbox.audience]
    return bool(audience["members"][0]["status"] == "subscribed")


def until_left(sandbox: Sandbox) -> bool:
    deadline = monotonic() + PATIENCE
    while mailed(sandbox) and monotonic() < deadline:
        sleep(0.05)
    return not mailed(sandbox)


def test_who_leaves_at_one_account_is_out_of_the_other(both: Shop, other: Sandbox) -> None:
    assert mailed(other)
    with serving(both.folder):
        installed = segue("webhooks", "install", "newsletter", "--project", both.folder)
        assert installed.code == 0
        assert TOKEN not in segue("webhooks", "list", "newsletter", "--project", both.folder).out
        both.sandbox.emulator.act(PersonAct.UNSUBSCRIBE, address=FIRST)
        assert until_left(other)
        assert mailed(other, "c00001@shop.example")


def test_what_a_killed_server_acknowledged_is_worked_off_by_the_next(both: Shop, other: Sandbox) -> None:
    with serving(both.folder) as process:
        assert segue("webhooks", "install", "newsletter", "--project", both.folder).code == 0
        process.send_signal(signal.SIGSTOP)
        both.sandbox.emulator.act(PersonAct.UNSUBSCRIBE, address=FIRST)
        process.send_signal(signal.SIGCONT)
        assert both.sandbox.emulator.sender.wait(PATIENCE)
        process.kill()
        process.wait()
    with serving(both.folder):
        assert until_left(other)
