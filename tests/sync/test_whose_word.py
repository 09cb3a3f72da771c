"""Addresses change hands: what is said at one is the word of who had it, and of nobody who comes after."""

from contextlib import ExitStack
from datetime import timedelta

import pytest
import sqlalchemy as sa

from segue.connectors.emulator import PersonAct
from segue.sync.delivery.courier import Courier

from ..shop import Shop

pytestmark = pytest.mark.both

FIRST, SECOND, THIRD = "c00000@shop.example", "second@shop.example", "third@shop.example"


@pytest.fixture(autouse=True)
def an_hour_ago(shop: Shop) -> None:
    """Begin in the past, so that the emulator's clock can go on without leaving ours behind."""
    shop.sandbox.emulator.clock.advance(timedelta(hours=-1))


def say(shop: Shop, act: PersonAct, address: str) -> None:
    shop.sandbox.emulator.clock.advance(timedelta(minutes=1))
    shop.sandbox.emulator.act(act, address=address)
    shop.sandbox.emulator.clock.advance(timedelta(minutes=1))


def statuses(shop: Shop) -> dict[str, str]:
    return {address: member["status"] for address, member in shop.members().items()}


def test_who_leaves_where_they_were_written_has_left_wherever_the_data_has_them_now(shop: Shop) -> None:
    shop.stock(1)
    shop.run()
    shop.customers["c00000"].email = SECOND
    say(shop, PersonAct.UNSUBSCRIBE, FIRST)
    shop.run()
    shop.stock(1)
    shop.customers["c00001"].email = FIRST
    say(shop, PersonAct.SUBSCRIBE, FIRST)
    shop.run()
    assert shop.run().writes == 0
    assert statuses(shop) == {FIRST: "subscribed"}


def test_who_comes_back_where_they_were_written_is_back_wherever_the_data_has_them_now(shop: Shop) -> None:
    shop.stock(1)
    shop.run()
    shop.customers["c00000"].email = SECOND
    say(shop, PersonAct.UNSUBSCRIBE, FIRST)
    shop.run()
    say(shop, PersonAct.SUBSCRIBE, FIRST)
    shop.run()
    assert statuses(shop) == {SECOND: "subscribed"}


def test_a_yes_of_nobody_we_know_brings_nobody_back_and_stands(shop: Shop) -> None:
    """Who withdrew in the shop was written at that address, and somebody else signed up there."""
    shop.stock(1)
    shop.run()
    shop.customers["c00000"].email = SECOND
    now = shop.sandbox.emulator.clock.now()
    shop.acts.append({"contact_id": "c00000", "act": "withdrawal", "at": now, "email": SECOND})
    shop.run()
    assert statuses(shop) == {FIRST: "unsubscribed"}
    say(shop, PersonAct.SUBSCRIBE, FIRST)
    shop.run()
    assert shop.run().writes == 0
    assert statuses(shop) == {FIRST: "subscribed"}


def test_who_leaves_where_they_were_written_after_they_were_adopted_elsewhere_has_left(shop: Shop) -> None:
    shop.stock(1)
    shop.run()
    say(shop, PersonAct.SUBSCRIBE, SECOND)
    shop.customers["c00000"].email = SECOND
    shop.run()
    say(shop, PersonAct.UNSUBSCRIBE, FIRST)
    shop.run()
    assert statuses(shop) == {FIRST: "unsubscribed", SECOND: "unsubscribed"}


def test_nobody_is_opted_out_because_who_had_their_address_has_left(shop: Shop) -> None:
    shop.stock(2)
    shop.run()
    say(shop, PersonAct.UNSUBSCRIBE, FIRST)
    shop.run()
    shop.customers["c00000"].email = SECOND
    shop.customers["c00001"].email = FIRST
    say(shop, PersonAct.SUBSCRIBE, FIRST)
    shop.run()
    assert shop.run().writes == 0
    assert statuses(shop)[FIRST] == "subscribed"
    assert SECOND not in statuses(shop)


def test_a_yes_at_an_address_that_a_killed_run_was_moving_to_is_heard(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.stock(1)
    shop.run()
    shop.customers["c00000"].email = SECOND

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Courier, "carry", die)
        with pytest.raises(KeyboardInterrupt):
            shop.run()
    now = shop.sandbox.emulator.clock.now()
    shop.acts.append({"contact_id": "c00000", "act": "withdrawal", "at": now, "email": SECOND})
    say(shop, PersonAct.SUBSCRIBE, SECOND)
    shop.run()
    assert statuses(shop)[SECOND] == "subscribed"


def test_an_opt_in_of_before_we_noted_any_is_no_news(shop: Shop) -> None:
    """The store of an earlier version knows that somebody is mailed and not since when."""
    shop.stock(2)
    one, other = shop.customers.values()
    say(shop, PersonAct.SUBSCRIBE, other.address)
    shop.run()
    with ExitStack() as stack, shop.job(stack).store._database.write() as connection:
        # There is no public way back in time.
        connection.execute(sa.text("update remote set opted_in_at = null, stated_at = null"))
    one.consents += [("withdrawal", 1, "")]
    one.email, other.email = other.address, one.address
    shop.run()
    one.email = THIRD
    shop.run()
    assert THIRD not in statuses(shop)
