"""Our tags in an account: as values of a property, and as lists of the same name."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from segue.connectors.klaviyo.testing import Sandbox

from .account import IMPORT, Account, address


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


def test_who_is_written_one_by_one_is_put_onto_lists_after_the_fields(listed: Account) -> None:
    listed.done(*listed.people_made(1, fields={"sg_text": "x"}, tags=("segue: a",)))
    sent = [each.split("/")[2] for each in listed.sent() if each.startswith(("POST", "PATCH"))]
    assert sent == ["profiles", "lists", "lists"]  # made, and filled
    assert listed.person(0).tags == {"segue: a"}


def test_who_is_written_by_a_job_is_put_onto_lists_once_it_has_ended(listed: Account) -> None:
    updates = listed.people_made(20, fields={"sg_text": "x"}, tags=("segue: a",))
    updates[3] = replace(updates[3], fields={"sg_text": "x" * 100_001})
    outcomes = listed.write(*updates)
    assert [each for each in listed.sent() if each.startswith("POST")] == [IMPORT]
    assert listed.person(0).tags == frozenset()
    assert listed.ended(updates, outcomes)[3].code == "too_large"
    assert [listed.person(number).tags for number in (0, 3, 19)] == [{"segue: a"}, frozenset(), {"segue: a"}]
