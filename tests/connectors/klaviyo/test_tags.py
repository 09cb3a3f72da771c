"""Our tags in an account: as values of a property, and as lists of the same name."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from segue.connectors.emulator import PersonAct
from segue.connectors.faults import Fault, FaultKind
from segue.connectors.klaviyo.profiles import Profiles
from segue.connectors.klaviyo.testing import Sandbox
from segue.core.model import Operation, OutcomeStatus

from .account import IMPORT, Account, address, statuses


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


def test_who_leaves_while_a_job_is_at_work_is_put_onto_no_list(listed: Account) -> None:
    updates = listed.people_made(20, fields={"sg_text": "x"}, tags=("segue: a",))
    outcomes = listed.write(*updates)
    listed.act(PersonAct.UNSUBSCRIBE, 3)
    listed.pass_time()
    assert listed.ended(updates, outcomes)[3].code == "left"
    assert [listed.person(number).tags for number in (3, 19)] == [frozenset(), {"segue: a"}]


def test_a_job_is_over_although_the_account_has_no_room_for_its_list(listed: Account) -> None:
    listed.sandbox.settings(max_lists=1)
    updates = listed.people_made(20, fields={"sg_text": "x"}, tags=("segue: a",))
    outcomes = listed.done(*updates)
    assert {(each.status, each.job) for each in outcomes} == {(OutcomeStatus.REJECTED, "")}


@pytest.mark.parametrize("count", [2, 20])
def test_few_and_many_are_left_with_the_same_tags_whatever_was_there(account: Account, count: int) -> None:
    earlier = account.people_made(count, tags=("segue: old", "segue: b"))
    account.done(*earlier)
    account.done(*(replace(each, tags=("segue: a",), tags_held=frozenset({"segue: b"})) for each in earlier))
    assert {each.tags for each in account.emulator.people()} == {frozenset({"segue: a", "segue: b"})}
    held = frozenset({"segue: a", "segue: b"})
    untags = [
        replace(each, operation=Operation.UNTAG, tags=("segue: b",), tags_held=held) for each in earlier
    ]
    account.done(*untags)
    assert {each.tags for each in account.emulator.people()} == {frozenset({"segue: a"})}


def test_a_write_that_is_repeated_leaves_a_tag_once(account: Account) -> None:
    (update,) = account.people_made(1, tags=("segue: a",), tags_held=frozenset())
    account.emulator.faults.arm([Fault(kind=FaultKind.LOST_ANSWER, count=1, method="PATCH")])
    account.done(update)
    move = replace(update, operation=Operation.READDRESS, previous_address=address(0), address=address(1))
    account.done(move)
    assert account.emulator.account.profiles.by_id[update.record_id].properties["segue_tags"] == ["segue: a"]


def merged(account: Account, number: int) -> str:
    """Merge a contact into a profile that has no address yet, and give that one's id."""
    data: Any = {"type": "profile", "attributes": {"external_id": f"x{number}"}}
    target = str(account.sandbox.call("POST", "/profiles", {"data": data}).json()["data"]["id"])
    source = {"data": [{"type": "profile", "id": account.person(number).name}]}
    data = {"type": "profile-merge", "id": target, "relationships": {"profiles": source}}
    account.sandbox.call("POST", "/profile-merge", {"data": data})
    account.pass_time()
    return target


@pytest.mark.parametrize("mode", ["adversarial", "permissive"])
@pytest.mark.parametrize("fields", [{}, {"sg_text": "x"}])
@pytest.mark.parametrize("count", [2, 20])
def test_who_was_merged_or_is_gone_is_never_taken_for_being_on_a_list(
    listed: Account, mode: str, fields: dict[str, str], count: int
) -> None:
    listed.sandbox.settings(mode=mode)
    updates = listed.people_made(count, fields=fields, tags=("segue: a",))
    renamed = merged(listed, 0)
    listed.act(PersonAct.ERASE, 1)
    outcomes = listed.done(*updates)
    assert outcomes[1].code == "vanished"
    if outcomes[0].status is OutcomeStatus.UNSENT:  # a job comes again with the new id
        assert outcomes[0].record_id == renamed
        outcomes[:1] = listed.done(replace(updates[0], record_id=renamed))
    assert statuses(outcomes) == ["applied", "rejected"] + ["applied"] * (count - 2)
    assert all(each.tags == {"segue: a"} for each in listed.emulator.people())


@pytest.mark.parametrize("mode", ["adversarial", "permissive"])
def test_who_was_merged_is_taken_off_a_list_and_who_is_gone_is_on_none(listed: Account, mode: str) -> None:
    listed.sandbox.settings(mode=mode)
    updates = listed.people_made(2, tags=("segue: a",))
    listed.done(*updates)
    merged(listed, 0)
    listed.act(PersonAct.ERASE, 1)
    untags = [replace(each, operation=Operation.UNTAG) for each in updates]
    assert statuses(listed.done(*untags)) == ["applied", "unchanged"]
    assert listed.person(0).tags == frozenset()


@pytest.mark.parametrize("mode", ["adversarial", "permissive"])
def test_who_goes_while_being_put_onto_a_list_is_told_and_a_list_that_is_gone_is_made_anew(
    listed: Account, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed.sandbox.settings(mode=mode)
    updates = listed.people_made(3, tags=("segue: a",))
    listed.done(*updates)
    made = listed.sandbox.call("GET", "/lists", filter='equals(name,"segue: a")').json()["data"][0]["id"]
    listed.sandbox.call("DELETE", f"/lists/{made}")
    looked_up = Profiles.looked_up
    erased: list[bool] = []

    def looked_up_before(profiles: Profiles, changes: Any) -> Any:
        found = looked_up(profiles, changes)
        if not erased:
            erased.append(True)
            listed.act(PersonAct.ERASE, 1)
        return found

    monkeypatch.setattr(Profiles, "looked_up", looked_up_before)
    assert statuses(listed.done(*updates)) == ["applied", "rejected", "applied"]
    assert listed.person(2).tags == {"segue: a"}
