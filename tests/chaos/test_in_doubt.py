"""What a run sent and never heard of: the data may say something else before anybody asks again."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from segue.connectors.emulator import PersonAct
from segue.sync.store.settlement import Settlements

from ..shop import Customer, Shop

pytestmark = pytest.mark.both

FIRST = "c00000@shop.example"
SECOND = "second@shop.example"
THIRD = "third@shop.example"


class KilledError(BaseException):
    """Stands for a signal: nothing catches it."""


def run_and_die(shop: Shop, *, settled: int = 0) -> None:
    """Run until the ESP has answered once more than `settled` times, and die before that answer is stored."""
    settle, left = Settlements.settle, settled

    def counted(self: Settlements, *arguments: Any) -> None:
        nonlocal left
        if left == 0:
            raise KilledError
        left -= 1
        settle(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Settlements, "settle", counted)
        with pytest.raises(KilledError):
            shop.run()


def mailable(shop: Shop) -> dict[str, tuple[float | str, list[str]]]:
    """What is held of everyone who gets mail, by address: the amount spent, and the tags."""
    return {
        address: (member["merge_fields"].get("SG_SPENT", ""), member["tags"])
        for address, member in shop.members().items()
        if member["status"] == "subscribed"
    }


@pytest.fixture(autouse=True)
def nobody_raised(shop: Shop) -> Iterator[None]:
    yield
    assert shop.audience()["raises"] == []


def ends(shop: Shop, expected: dict[str, tuple[float | str, list[str]]]) -> None:
    shop.run()
    assert mailable(shop) == expected
    assert shop.run().writes == 0


def changed(shop: Shop, change: Callable[[Customer], None]) -> None:
    """Have one contact written and confirmed, then changed by a write whose answer is lost."""
    shop.stock(1)
    shop.run()
    change(shop.customers["c00000"])
    run_and_die(shop)


def spend(amount: float) -> Callable[[Customer], None]:
    return lambda customer: setattr(customer, "spent", amount)


def move(address: str) -> Callable[[Customer], None]:
    return lambda customer: setattr(customer, "email", address)


def test_an_update_in_doubt_is_undone_when_the_data_goes_back(shop: Shop) -> None:
    changed(shop, spend(150.0))
    shop.customers["c00000"].spent = 50.0
    ends(shop, {FIRST: (50, ["segue: small"])})


def test_a_tag_whose_removal_is_in_doubt_comes_back_when_the_data_goes_back(shop: Shop) -> None:
    shop.stock(1)
    shop.run()
    shop.customers["c00000"].spent = 150.0
    run_and_die(shop, settled=1)
    shop.customers["c00000"].spent = 50.0
    ends(shop, {FIRST: (50, ["segue: small"])})


def test_a_move_in_doubt_is_undone_when_the_data_goes_back(shop: Shop) -> None:
    changed(shop, move(SECOND))
    shop.customers["c00000"].email = None
    ends(shop, {FIRST: (50, ["segue: small"])})


def test_a_move_in_doubt_is_followed_by_the_next(shop: Shop) -> None:
    changed(shop, move(SECOND))
    shop.customers["c00000"].email = THIRD
    ends(shop, {THIRD: (50, ["segue: small"])})


def test_who_vanishes_after_an_update_in_doubt_keeps_no_tag(shop: Shop) -> None:
    changed(shop, spend(150.0))
    del shop.customers["c00000"]
    shop.run()
    assert shop.members()[FIRST]["tags"] == []


def test_a_create_in_doubt_is_moved_and_not_made_twice(shop: Shop) -> None:
    shop.stock(1)
    run_and_die(shop)
    shop.customers["c00000"].email = SECOND
    ends(shop, {SECOND: (50, ["segue: small"])})


def test_who_vanishes_after_a_create_in_doubt_keeps_no_tag(shop: Shop) -> None:
    shop.stock(1)
    run_and_die(shop)
    shop.customers.clear()
    shop.run()
    assert shop.members()[FIRST]["tags"] == []


def test_who_left_after_a_create_in_doubt_has_left_for_the_next_address_too(shop: Shop) -> None:
    shop.stock(1)
    run_and_die(shop)
    shop.sandbox.emulator.act(PersonAct.UNSUBSCRIBE, address=FIRST)
    shop.customers["c00000"].email = SECOND
    ends(shop, {})
