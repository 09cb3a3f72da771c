"""Storms of one fault or one signal each, cut down from large ones that ended wrong."""

from datetime import timedelta
from typing import Any

import pytest

from segue.connectors.emulator import PersonAct
from segue.connectors.faults import Fault, FaultKind
from segue.connectors.traffic import Exchange
from segue.sync.store.destinations import Destinations

from ..shop import Shop
from .test_in_doubt import mailable, run_and_die


class KilledError(BaseException):
    """Stands for a signal: nothing catches it."""


def test_killed_after_it_made_the_fields_the_same_command_goes_on(shop: Shop) -> None:
    """Nobody else made them, whatever the store had no time to remember."""
    shop.stock(1)
    own = Destinations.own

    def killed(self: Destinations, destination: str, kind: Any, names: Any) -> None:
        if names and shop.sandbox.emulator.traffic.writes:
            raise KilledError
        own(self, destination, kind, names)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Destinations, "own", killed)
        with pytest.raises(KilledError):
            shop.run()
    assert shop.run().exit_code == 0
    assert list(shop.members()) == ["c00000@shop.example"]


def test_a_move_whose_answers_are_lost_and_cut_short_ends_right(shop: Shop) -> None:
    """It happened, so the second try finds nobody; half of that answer says nothing about the base URL."""
    shop.stock(1)
    shop.run()
    shop.customers["c00000"].email = "second@shop.example"
    shop.sandbox.emulator.faults.arm(
        [Fault(kind=kind, method="PATCH", count=1) for kind in (FaultKind.LOST_ANSWER, FaultKind.TRUNCATED)]
    )
    assert shop.run().exit_code == 0
    assert list(shop.members()) == ["second@shop.example"]


def test_a_contact_takes_the_address_that_another_leaves_in_the_same_run(shop: Shop) -> None:
    shop.stock(2)
    shop.customers["c00001"].spent = 150.0
    shop.run()
    shop.customers["c00000"].email = shop.customers["c00001"].address
    shop.customers["c00001"].email = "third@shop.example"
    shop.run()
    assert mailable(shop) == {
        "c00001@shop.example": (50, ["segue: small"]),
        "third@shop.example": (150, ["segue: big"]),
    }
    assert shop.run().writes == 0


def test_a_move_in_doubt_that_happened_leaves_no_doubt(shop: Shop) -> None:
    shop.stock(1)
    shop.run()
    shop.customers["c00000"].email = "second@shop.example"
    run_and_die(shop)
    shop.run()
    report = shop.run()
    assert report.plan is not None
    assert (report.plan.unchanged, report.writes) == (1, 0)


def test_a_yes_at_a_former_address_is_that_of_who_has_it_now(shop: Shop) -> None:
    shop.stock(2)
    shop.run()
    shop.customers["c00000"].consents += [("withdrawal", 1, "")]
    shop.run()
    shop.customers["c00000"].email = "third@shop.example"
    shop.customers["c00001"].email = "c00000@shop.example"
    shop.sandbox.emulator.act(PersonAct.SUBSCRIBE, address="c00000@shop.example")
    shop.run()
    assert "third@shop.example" not in mailable(shop)
    shop.customers["c00000"].email = "c00001@shop.example"
    shop.run()
    assert "c00001@shop.example" not in mailable(shop)


def test_who_leaves_between_two_tries_of_a_create_keeps_no_tag_of_the_first(shop: Shop) -> None:
    """Its answer was lost, so the second try meets somebody who is there and has left: the first had made them."""
    emulator, address = shop.sandbox.emulator, "c00000@shop.example"
    emulator.clock.advance(timedelta(hours=-1))

    def leaves(exchange: Exchange) -> None:
        if exchange.fault is FaultKind.LOST_ANSWER:
            emulator.act(PersonAct.UNSUBSCRIBE, address=address)

    shop.stock(1, spent=150.0)
    emulator.faults.arm([Fault(kind=FaultKind.LOST_ANSWER, method="POST", path=r"/lists/[^/]+$", count=1)])
    emulator.traffic.recorder = leaves
    shop.run()
    emulator.clock.advance(timedelta(minutes=1))
    emulator.act(PersonAct.SUBSCRIBE, address=address)
    shop.customers["c00000"].spent = 50.0
    shop.run()
    assert mailable(shop) == {address: (50, ["segue: small"])}
    assert shop.run().writes == 0


@pytest.mark.parametrize("known", ["confirmed", "killed", "moved"])
def test_the_opt_in_that_we_stated_for_one_contact_is_no_yes_of_another(shop: Shop, known: str) -> None:
    """What the ESP shows as the time of an opt-in may be a grant that we sent along with whoever was made there."""
    shop.stock(2)
    one, other = shop.customers.values()
    one.consents += [("withdrawal", 2, "")]
    other.consents = [("grant", 1, '{"form": "checkout"}')]
    if known == "killed":
        run_and_die(shop)
    else:
        shop.run()
    if known == "moved":
        other.email = "third@shop.example"
        shop.run()
    one.email, other.email = other.address, "fourth@shop.example"
    shop.run()
    assert list(mailable(shop)) == ["fourth@shop.example"]


def test_who_leaves_while_a_run_moves_them_keeps_their_word_at_the_former_address(shop: Shop) -> None:
    """Nobody is made where somebody just said no, because the no may be of whoever has the address now."""
    emulator = shop.sandbox.emulator
    emulator.clock.advance(timedelta(hours=-1))
    shop.stock(1)
    shop.run()
    shop.customers["c00000"].email = "second@shop.example"
    shop.stock(2)
    shop.customers["c00001"].email = "c00000@shop.example"

    def leaves(exchange: Exchange) -> None:
        if exchange.method == "POST" and exchange.path.endswith(shop.sandbox.audience):
            emulator.traffic.recorder = None
            emulator.act(PersonAct.UNSUBSCRIBE, address="c00000@shop.example")

    emulator.traffic.recorder = leaves
    shop.run()
    assert list(mailable(shop)) == ["c00002@shop.example"]
    assert shop.run().exit_code == 0
    assert list(mailable(shop)) == ["c00002@shop.example"]


def test_a_yes_at_a_former_address_outweighs_no_withdrawal_of_the_new_one(shop: Shop) -> None:
    emulator = shop.sandbox.emulator
    emulator.clock.advance(timedelta(hours=-1))
    shop.stock(2)
    one, other = shop.customers.values()
    shop.run()
    former, new = other.address, "third@shop.example"
    one.email, other.email = former, new
    for address in (former, new):
        shop.acts.append(
            {"contact_id": "c00000", "act": "withdrawal", "at": emulator.clock.now(), "email": address}
        )
    shop.run()
    emulator.clock.advance(timedelta(minutes=1))
    emulator.act(PersonAct.SUBSCRIBE, address=former)
    shop.run()
    assert new not in mailable(shop)


def test_an_opt_in_is_the_word_of_who_had_the_address_then(shop: Shop) -> None:
    """Not of who has it later, though that one's withdrawal, known only now, is older."""
    emulator = shop.sandbox.emulator
    shop.stock(2)
    one, other = shop.customers.values()
    emulator.act(PersonAct.SUBSCRIBE, address=other.address)
    shop.run()
    one.consents += [("withdrawal", 1, "")]
    one.email, other.email = other.address, one.address
    shop.run()
    one.email = "third@shop.example"
    shop.run()
    assert "third@shop.example" not in mailable(shop)


@pytest.mark.parametrize("killed", [False, True])
def test_who_leaves_while_a_run_moves_them_has_left_for_good(shop: Shop, killed: bool) -> None:
    """It is the mover's own word too, whoever has the former address next and says yes there."""
    emulator, first = shop.sandbox.emulator, "c00000@shop.example"
    emulator.clock.advance(timedelta(hours=-1))
    shop.stock(1)
    shop.run()
    shop.customers["c00000"].email = "second@shop.example"

    def leaves(exchange: Exchange) -> None:
        if ("status", "archived") in exchange.query:  # what a pull reads last
            emulator.traffic.recorder = None
            emulator.act(PersonAct.UNSUBSCRIBE, address=first)

    emulator.traffic.recorder = leaves
    if killed:
        run_and_die(shop)
    else:
        shop.run()
    shop.stock(1)
    shop.customers["c00001"].email = first
    shop.run()
    emulator.clock.advance(timedelta(minutes=1))
    emulator.act(PersonAct.SUBSCRIBE, address=first)
    shop.run()
    shop.customers["c00000"].spent = 70.0
    shop.run()
    assert "second@shop.example" not in mailable(shop)
