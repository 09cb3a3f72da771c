"""What the machine found, shrunk: each is mended, or marked with what is wrong."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from segue.connectors.faults import FaultKind

from .happenings import HERE, Act, Batch, Doing, Failure, Meanwhile, Moment
from .town import DESTINATIONS, Town

DESTINATION = DESTINATIONS[0]
LOST = Failure(kind=FaultKind.LOST_ANSWER, count=1)
RESET = Failure(kind=FaultKind.RESET, count=1, batch=Batch.MOVE)


@pytest.fixture(params=["adversarial", "permissive"])
def town(request: pytest.FixtureRequest, tmp_path: Path, two_accounts: Sequence[Any]) -> Iterator[Town]:
    town = Town(tmp_path, two_accounts)
    town.temper(request.param)
    town.sparing = False
    town.agreed_long_ago("ann")
    town.publish()
    yield town
    town.close()


@pytest.mark.xfail(
    reason="A contact's id at the ESP is learned by a pull alone, and not when we make them: a change of address that"
    " comes before the next pull goes unseen, and the opt-out is sent to an address where nobody is any more."
)
def test_who_changes_their_address_there_before_we_looked_and_withdraws_is_opted_out(town: Town) -> None:
    town.run(DESTINATION)
    town.do(Doing(person="ann", destination=DESTINATION, act=Act.MOVE))
    town.withdraws("ann", {})
    town.run(DESTINATION)
    town.run(DESTINATION)
    assert not town.watchman.wrong, town.watchman.wrong


@pytest.mark.parametrize("failures", [[], [RESET]])
def test_who_changes_their_address_there_right_after_we_moved_them_is_made_at_no_other(
    town: Town, failures: Sequence[Failure]
) -> None:
    town.run(DESTINATION)
    town.run(DESTINATION)
    town.moves("ann", "spare@shop.example")
    town.run(DESTINATION, failures=failures)
    town.do(Doing(person="ann", destination=DESTINATION, act=Act.MOVE))
    town.shop.customers["ann"].spent = 20.0
    town.run(DESTINATION)
    town.run(DESTINATION)
    assert not town.watchman.wrong, town.watchman.wrong


def test_who_is_archived_between_two_tries_of_their_create_stays_archived(town: Town) -> None:
    archived = Doing(person="ann", destination=HERE, act=Act.ARCHIVE)
    town.run(DESTINATION, failures=[LOST], meanwhile=Meanwhile(moment=Moment(of="fault"), doings=(archived,)))
    assert not town.watchman.wrong, town.watchman.wrong


@pytest.mark.xfail(
    reason="A complaint that a webhook tells of is a suppression, which is kept as one of the address alone, like a"
    " bounce. It is the person's: at a new address they are mailed by the other accounts until the next pull."
)
def test_who_complains_is_mailed_at_no_other_address_from_the_moment_the_webhook_is_there(town: Town) -> None:
    first, second = DESTINATIONS
    town.run(second)
    town.moves("ann", "spare@shop.example")
    town.publish()
    town.do(Doing(person="ann", destination=second, act=Act.COMPLAIN, told=True))
    town.run(first)
    assert not town.watchman.wrong, town.watchman.wrong
