"""`segue serve` as a process, between two real accounts: who leaves at one is out of the other a moment later."""

import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from time import monotonic, sleep

import pytest
import requests

from segue.connectors.emulator import PersonAct
from segue.connectors.mailchimp.testing import Sandbox, running_sandbox
from segue.core.config import load_project
from segue.core.consent import ConsentState
from segue.sync.store.inbox import Message
from segue.sync.store.store import Store

from ..shop import Shop
from .hostile import LOST, Target, body, exchange, kinds, large, proof, silent, slow
from .served import serving
from .ugly_shop import Ended, segue

FIRST = "c00000@shop.example"
TOKEN = "token-of-nobody-that-is-long-enough-for-a-path"
OLD, NEW = "the old signing secret", "the new signing secret"
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


@pytest.fixture
def signed(both: Shop, monkeypatch: pytest.MonkeyPatch) -> Target:
    """The door of `both`, where only what is signed comes in."""
    monkeypatch.setenv("SIGNED_OLD", OLD)
    monkeypatch.setenv("SIGNED_NEW", NEW)
    both.more = both.more.replace(
        "env:HOOK_TOKEN}", "env:HOOK_TOKEN, secrets: [env:SIGNED_OLD, env:SIGNED_NEW]}"
    )
    both.build()
    port = load_project(both.folder).serve.port
    return Target(host="127.0.0.1", port=port, path=f"/webhooks/newsletter/{TOKEN}", secret=OLD)


def posted(target: Target, number: int, secret: str) -> int:
    try:
        return exchange(target, body(number), proof(body(number), secret))
    except OSError:  # killed meanwhile
        return LOST


def test_hostile_requests_of_every_kind_are_refused_and_the_server_goes_on(
    both: Shop, signed: Target
) -> None:
    attacks = kinds(signed)
    expected = {name: {400} for name in attacks} | {
        "nobody's door": {404},
        "a wrong token": {404},
        "a path with dots": {404},
        "another method": {405},
        "endless headers": {400, LOST},
        "a line without an end": {400, LOST},
        **{name: {401} for name in attacks if "signature" in name},
    }
    with serving(both.folder):
        heard = {name: attack(1) for name, attack in attacks.items()}
        assert {name: status for name, status in heard.items() if status not in expected[name]} == {}
        with ThreadPoolExecutor(16) as pool:
            lasting = [pool.submit(each, signed, 1) for each in (large, slow, silent)]
            more = [pool.submit(attack, number) for number in range(2, 12) for attack in attacks.values()]
            assert [status for each in more if 200 <= (status := each.result()) < 400 or status >= 500] == []
            assert [each.result() in {LOST, 408, 413, 429} for each in lasting] == [True] * 3
            assert requests.get(f"http://{signed.host}:{signed.port}/healthz", timeout=10).json() == {
                "status": "ok"
            }
        assert [posted(signed, 1, secret) for secret in (OLD, NEW)] == [200, 200]
    with Store.of(load_project(both.folder)) as store, store._database.read() as connection:
        assert connection.exec_driver_sql("select count(*) from inbox").scalar() == 1


def test_what_a_server_killed_under_load_acknowledged_is_known_to_the_next(
    both: Shop, signed: Target
) -> None:
    with serving(both.folder) as process, ThreadPoolExecutor(16) as pool:
        sent = [pool.submit(posted, signed, number, OLD) for number in range(400)]
        for one in islice(sent, 100):
            one.result()
        process.send_signal(signal.SIGKILL)
        process.wait()
        known = [number for number, one in enumerate(sent) if one.result() == 200]
    assert 100 <= len(known) < 400
    with serving(both.folder), Store.of(load_project(both.folder)) as store:
        keys = {store.keys.address_key(f"h{number}@shop.example") for number in known}
        deadline = monotonic() + PATIENCE
        while store.inbox.counts("newsletter").waiting and monotonic() < deadline:
            sleep(0.05)
        states = store.destinations.states("newsletter", keys)
    assert {key for key in keys if states.get(key) is ConsentState.UNSUBSCRIBED} == keys


def test_a_signing_secret_is_replaced_without_a_gap(
    both: Shop, other: Sandbox, monkeypatch: pytest.MonkeyPatch, signed: Target
) -> None:
    """The way of docs/webhooks.md: a second webhook beside the first, then its secret, then the first is removed."""
    both.sandbox.settings(sign_webhooks=True)

    def webhooks(*what: str) -> object:
        ended = segue("webhooks", *what, "--json", "--project", both.folder)
        assert ended.code == 0, ended.err
        return ended.json()

    with serving(both.folder):
        first = webhooks("install", "newsletter")
        second = webhooks("install", "newsletter")
    assert isinstance(first, dict)
    assert isinstance(second, dict)
    assert first["signing_secret"] != second["signing_secret"]
    monkeypatch.setenv("SIGNED_OLD", first["signing_secret"])
    with serving(both.folder):  # it knows the first secret alone: what the second webhook posts is refused
        both.sandbox.emulator.act(PersonAct.UNSUBSCRIBE, address=FIRST)
        assert until_left(other)
    monkeypatch.setenv("SIGNED_NEW", second["signing_secret"])
    with serving(both.folder):
        webhooks("remove", "newsletter", first["id"])
        assert isinstance(left := webhooks("list", "newsletter"), list)
        assert len(left) == 1
        both.sandbox.emulator.act(PersonAct.UNSUBSCRIBE, address="c00001@shop.example")
        deadline = monotonic() + PATIENCE
        while mailed(other, "c00001@shop.example") and monotonic() < deadline:
            sleep(0.05)
        assert not mailed(other, "c00001@shop.example")


def test_what_no_webhook_told_is_asked_for(both: Shop, other: Sandbox) -> None:
    """A server that begins asks every account at once, and again every `poll_every`."""
    both.sandbox.emulator.act(PersonAct.UNSUBSCRIBE, address=FIRST)
    with serving(both.folder):
        assert until_left(other)


def test_what_waits_in_the_inbox_is_shown_and_tried_again(both: Shop) -> None:
    with Store.of(load_project(both.folder)) as store:
        store.inbox.put([Message(destination="newsletter", name="a", content_type="", body=b"no form")])
        (row,) = store.inbox.take("newsletter", 1)
        store.inbox.give_up([row.id], problem="cannot be read")
    shown = segue("webhooks", "inbox", "--json", "--project", both.folder)
    assert shown.code == 1
    (told,) = shown.json()
    assert (told["waiting"], told["given_up"], told["why"]) == (0, 1, {"cannot be read": 1})
    assert "1 were given up" in segue("status", "--project", both.folder).out
    assert segue("webhooks", "retry", "newsletter", "--project", both.folder).code == 0
    assert segue("webhooks", "inbox", "--json", "--project", both.folder).json()[0]["waiting"] == 1


def test_a_token_is_shown_once_and_ends_when_it_is_revoked(both: Shop) -> None:
    def token(*what: str) -> Ended:
        return segue("token", *what, "--project", both.folder)

    made = token("create", "mia", "--role", "marketer", "--json").json()
    assert made["token"] not in token("list").out
    port = load_project(both.folder).serve.port
    asked = f"http://127.0.0.1:{port}/api/status"
    headers = {"authorization": f"Bearer {made['token']}"}
    with serving(both.folder):
        assert requests.get(asked, headers=headers, timeout=10).status_code == 200
        assert token("revoke", "mia").code == 0
        assert requests.get(asked, headers=headers, timeout=10).status_code == 401
    assert token("revoke", "mia").code == 2


def test_a_port_that_is_taken_is_said(both: Shop) -> None:
    with serving(both.folder):
        second = segue("serve", "--project", both.folder)
    assert second.code == 2
    assert "cannot listen" in second.err
