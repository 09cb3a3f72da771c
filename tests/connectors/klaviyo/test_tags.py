"""Our tags in an account: as values of a property, and as lists of the same name."""

from collections.abc import Iterator

import pytest

from segue.connectors.klaviyo.testing import Sandbox

from .account import Account, address


@pytest.fixture
def listed(klaviyo: Sandbox) -> Iterator[Account]:
    """An account in which tags are lists."""
    opened = Account(klaviyo, tags="lists")
    with opened.connector.transport:
        yield opened
    assert opened.emulator.raises == []


def test_tags_that_are_lists_are_not_known_from_a_profile(listed: Account) -> None:
    listed.done(*listed.people_made(1, tags=("segue: a",)))
    (read,) = listed.connector.read([address(0)])
    pulled = [each for page in listed.connector.pull(None) for each in page.contacts]
    assert read is not None
    assert read.tags is None
    assert [each.tags for each in pulled] == [None]


def test_tags_that_are_a_property_are_known_from_a_profile(account: Account) -> None:
    account.done(*account.people_made(1))
    (read,) = account.connector.read([address(0)])
    assert read is not None
    assert read.tags == frozenset()
