"""Contacts that take the addresses of others who move in the same run: one plan brings everybody where they belong."""

from collections.abc import Iterator

import pytest

from segue.connectors.emulator import PersonAct

from ..shop import Customer, Shop
from .test_in_doubt import mailable, run_and_die

pytestmark = pytest.mark.both

A, B, C = (f"c0000{number}@shop.example" for number in range(3))
THIRD, FAKE = "third@shop.example", "third@example.com"
SMALL = ["segue: small"]


@pytest.fixture(autouse=True)
def nobody_raised(shop: Shop) -> Iterator[None]:
    yield
    assert shop.audience()["raises"] == []
    assert shop.run().writes == 0


def moved(shop: Shop, *addresses: str) -> list[Customer]:
    """Have as many contacts written, who spent 10, 20 and so on, and give them these addresses."""
    shop.stock(len(addresses))
    people = list(shop.customers.values())
    for number, customer in enumerate(people, start=1):
        customer.spent = 10.0 * number
    shop.run()
    for customer, address in zip(people, addresses, strict=True):
        customer.email = address
    return people


def test_a_chain_moves_up(shop: Shop) -> None:
    moved(shop, B, C, THIRD)
    before = {member["contact_id"]: address for address, member in shop.members().items()}
    shop.run()
    assert mailable(shop) == {B: (10, SMALL), C: (20, SMALL), THIRD: (30, SMALL)}
    after = {member["contact_id"]: address for address, member in shop.members().items()}
    assert [after[contact] for contact in before] == [
        {A: B, B: C, C: THIRD}[each] for each in before.values()
    ]


@pytest.mark.parametrize("settled", [0, 1, 2])
def test_a_chain_that_is_cut_is_finished_by_the_next_run(shop: Shop, settled: int) -> None:
    moved(shop, B, C, THIRD)
    run_and_die(shop, settled=settled)
    shop.run()
    assert mailable(shop) == {B: (10, SMALL), C: (20, SMALL), THIRD: (30, SMALL)}


def test_a_new_contact_takes_the_address_that_another_leaves(shop: Shop) -> None:
    moved(shop, B, THIRD)
    shop.customers["new"] = Customer("new", spent=150.0, email=A)
    shop.run()
    assert mailable(shop) == {A: (150, ["segue: big"]), B: (10, SMALL), THIRD: (20, SMALL)}


def test_two_who_swap_addresses_get_their_own_values(shop: Shop) -> None:
    people = moved(shop, B, A)
    people[1].spent = 150.0
    shop.run()
    assert mailable(shop) == {A: (150, ["segue: big"]), B: (10, SMALL)}


def test_the_address_of_who_said_no_to_the_shop_is_not_taken(shop: Shop) -> None:
    people = moved(shop, B, THIRD)
    people[1].consents += [("withdrawal", 1, "")]
    shop.run()
    assert mailable(shop) == {A: (10, SMALL)}
    assert shop.members()[B]["merge_fields"]["SG_SPENT"] == 20


def test_an_address_that_said_no_to_the_esp_is_not_taken(shop: Shop) -> None:
    """It holds for whoever has the address now, wherever else they are."""
    moved(shop, B, THIRD)
    shop.sandbox.emulator.act(PersonAct.UNSUBSCRIBE, address=B)
    shop.run()
    assert mailable(shop) == {}
    assert shop.members()[B]["merge_fields"]["SG_SPENT"] == 20


def test_who_cannot_move_leaves_the_address_to_who_has_it_now(shop: Shop) -> None:
    """What nobody can be moved away from is written anew; a tag goes where its contact is, or not at all."""
    people = moved(shop, B, FAKE)
    people[0].spent = 150.0
    shop.sandbox.settings(refuse_fake_addresses=True)
    shop.run()
    assert mailable(shop) == {A: (10, []), B: (20, SMALL)}
    shop.run()
    assert mailable(shop) == {A: (10, []), B: (150, ["segue: big"])}
    people[1].email = THIRD
    shop.sandbox.settings(refuse_fake_addresses=False)
    shop.run()
    assert mailable(shop) == {A: (10, []), B: (150, ["segue: big"]), THIRD: (20, SMALL)}
