"""A full resync after people have left makes no request that would raise any of them, whatever is known of the past.

With a fresh store who was erased at the ESP is not asked about: only the store could know of them. Mailchimp refuses
them then, and its permissive emulation is no second wall.
"""

import json
import shutil
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import pytest

from segue.connectors.emulator import PersonAct
from segue.connectors.mailchimp.testing import Sandbox
from segue.connectors.traffic import READS, Exchange
from segue.sync import jobs

from ..shop import Shop

CONTACTS, LEAVERS = 1_000, 50  # so many leave in each way
MAILED = {"subscribed", "pending"}


@pytest.fixture(params=["adversarial", "permissive"])
def shop(
    request: pytest.FixtureRequest, tmp_path: Any, mailchimp: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> Shop:
    mailchimp.settings(mode=request.param)
    mailchimp.emulator.clock.advance(timedelta(hours=-1))
    monkeypatch.setenv("SANDBOX_KEY", mailchimp.key)
    shop = Shop(tmp_path, mailchimp, "sqlite")
    shop.stock(CONTACTS)
    shop.run()
    mailchimp.emulator.clock.advance(timedelta(minutes=1))
    return shop


def leave(shop: Shop, *, erased: bool) -> set[str]:
    """Let people leave in every way there is; give their addresses."""
    emulator, names = shop.sandbox.emulator, iter(sorted(shop.members()))
    ways = [PersonAct.UNSUBSCRIBE, PersonAct.BOUNCE, PersonAct.COMPLAIN, *([PersonAct.ERASE] * erased)]
    left = set()
    for way in ways:
        for _, address in zip(range(LEAVERS), names, strict=False):
            emulator.act(way, address=address)
            left.add(address)
    for had_left in (False, True):
        for _, address in zip(range(LEAVERS), names, strict=False):
            if had_left:
                emulator.act(PersonAct.UNSUBSCRIBE, address=address)
            member = emulator.audience.find(address)
            assert member is not None
            with emulator.lock:
                emulator.audience.archive(member, emulator.clock.now())
            left.add(address)
    emulator.clock.advance(timedelta(minutes=1))
    return left


def raising(shop: Shop, left: set[str]) -> list[str]:
    """Resync everything, and give the requests that name somebody who left and could raise them."""
    traffic, found = shop.sandbox.emulator.traffic, []
    judged = traffic.recorder
    assert judged is not None

    def saw(exchange: Exchange) -> None:
        judged(exchange)
        body = exchange.body if isinstance(exchange.body, dict) else {}
        for item in body.get("members", [body]) if exchange.method not in READS else ():
            if item.get("email_address") in left and exchange.path.endswith(shop.sandbox.audience):
                found.append(f"{exchange.method} {exchange.path} {json.dumps(item)}")
            if {item.get("status"), item.get("status_if_new")} & MAILED and item["email_address"] in left:
                found.append(f"status in {exchange.method} {exchange.path}")

    traffic.recorder = saw
    before = traffic.writes
    for customer in shop.customers.values():
        customer.spent = 150.0
        customer.last_name = "Jones"
    shop.build()
    with ExitStack() as stack:
        jobs.pull(shop.job(stack), lambda *_: None, full=True, override=True)
    report = shop.run()
    assert report.exit_code == 0
    assert traffic.writes > before
    traffic.recorder = judged
    return found


def ends_right(shop: Shop, left: set[str]) -> None:
    assert shop.audience()["raises"] == []
    for address, member in shop.members().items():
        assert (member["status"] in MAILED) is (address not in left)
        assert address in left or member["merge_fields"]["SG_SPENT"] == 150


@pytest.mark.slow
def test_a_full_resync_with_all_that_was_known_raises_nobody(shop: Shop) -> None:
    left = leave(shop, erased=True)
    assert raising(shop, left) == []
    ends_right(shop, left)


@pytest.mark.slow
def test_a_full_resync_after_all_that_was_known_is_lost_raises_nobody(shop: Shop) -> None:
    left = leave(shop, erased=False)
    for path in (shop.folder / ".segue").iterdir():
        if path.name.startswith(("store", "segue", "contact")):
            path.unlink()
        elif path.name == "plans":
            shutil.rmtree(path)
    shop.mapping = shop.mapping.replace("purpose: test}", "purpose: test, claim: true}", 4)  # its own, once
    assert not list((shop.folder / ".segue").rglob("*.db"))
    assert raising(shop, left) == []
    ends_right(shop, left)
