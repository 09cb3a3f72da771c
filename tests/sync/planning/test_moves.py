"""Who changes address: who goes first, who is adopted, and who may not take along whom."""

import dataclasses

import pyarrow.parquet as pq
import pytest

from segue.core.consent import ConsentRecord
from segue.core.model import ContactState
from segue.sync.planning.plan import Plan

from .planner import GRANTED, LEFT, Person, Planner, moving, reasons, settled, steps


def test_a_new_address_readdresses_the_same_contact(planned: Planner) -> None:
    old = ContactState(address="old@shop.example", fields={"SG_RFM": "555"}, tags=frozenset({"segue: VIP"}))
    ada = Person("ada", baseline=old, remote="subscribed", remote_address="old@shop.example")
    assert steps(planned(ada)) == [("readdress", "ada", "")]


def test_a_new_address_does_not_bring_back_who_left_under_the_old_one(planned: Planner) -> None:
    old = ContactState(address="old@shop.example", fields={"SG_RFM": "555"})
    ada = Person("ada", baseline=old, remote="unsubscribed", remote_address="old@shop.example")
    plan = planned(ada)
    assert steps(plan) == []
    assert reasons(plan) == {"ada": "withdrawn"}


def waves(plan: Plan) -> list[list[tuple[str, str]]]:
    """Operation and contact of what is sent, in the groups that wait for each other."""
    found: dict[int, list[tuple[str, str]]] = {}
    for row in pq.read_table(plan.steps).to_pylist():
        found.setdefault(row["rank"], []).append((row["operation"], row["contact_id"]))
    return [sorted(wave) for _, wave in sorted(found.items())]


def test_who_takes_an_address_moves_after_who_leaves_it(planned: Planner) -> None:
    dan = settled("dan", fields={"SG_RFM": "1"}, tags=())
    plan = planned(moving("ada", "a", "b"), moving("ben", "b", "c"), moving("cem", "c", "d"), dan)
    assert waves(plan) == [
        [("readdress", "cem")],
        [("readdress", "ben")],
        [("readdress", "ada")],
        [("update", "dan")],
        [("untag", "dan")],
    ]


@pytest.mark.parametrize("taker", [Person("ada", address="b"), moving("ada", "a", "b", remote=None)])
def test_who_is_not_there_is_created_after_who_leaves_the_address(planned: Planner, taker: Person) -> None:
    plan = planned(taker, moving("ben", "b", "c"), Person("cem"))
    written = [wave for wave in waves(plan) if wave != [("untag", "ada")]]
    assert written == [[("create", "cem")], [("readdress", "ben")], [("create", "ada")]]
    assert (plan.new_contacts, plan.adopted) == (2, 0)


def test_contacts_that_swap_addresses_adopt_each_other(planned: Planner) -> None:
    plan = planned(moving("ada", "a", "b"), moving("ben", "b", "a"))
    assert waves(plan) == [[("update", "ada"), ("update", "ben")]]


def test_who_takes_an_address_that_is_left_needs_a_grant_as_for_any_new_one(planned: Planner) -> None:
    plan = planned(moving("ada", "a", "b", consent=ConsentRecord()), moving("ben", "b", "c"))
    assert reasons(plan) == {"ada": "no_grant"}
    assert waves(plan) == [[("readdress", "ben")]]


def test_nobody_takes_the_address_of_who_leaves_for_good(planned: Planner) -> None:
    """The opt-out goes to that address first, so whoever takes it could not be mailed there."""
    plan = planned(moving("ada", "a", "b"), moving("ben", "b", "c", consent=LEFT), moving("cem", "x", "a"))
    assert reasons(plan) == {"ada": "withdrawn", "ben": "withdrawn"}
    assert steps(plan)[0] == ("opt_out", "ben", "")
    assert "ada" not in {contact for _, contact, _ in steps(plan)}


def test_who_cannot_move_leaves_the_address_to_who_has_it_now(planned: Planner) -> None:
    ada, ben = moving("ada", "a", "b", tags=()), moving("ben", "b", "c", refused="readdress")
    plan = planned(ada, ben)
    assert reasons(plan) == {"ben": "rejected_before"}
    assert waves(plan) == [[("untag", "ada"), ("untag", "ben")], [("update", "ada")]]
    heirs = [row["heir_of"] for row in pq.read_table(plan.steps).to_pylist() if row["operation"] == "update"]
    assert heirs == [[ben.key]]


def test_a_refusal_to_take_an_address_does_not_outlast_who_had_it(planned: Planner) -> None:
    plan = planned(moving("ada", "a", "b", refused="readdress"), moving("ben", "b", "c"))
    assert waves(plan) == [[("readdress", "ben")], [("readdress", "ada")]]


def test_nobody_takes_along_the_member_of_who_stays(planned: Planner) -> None:
    stays = dataclasses.replace(moving("ada", "b", "b"), consent=GRANTED)
    assert waves(planned(stays, moving("ben", "b", "c"))) == [[("create", "ben")]]


def test_two_who_were_confirmed_at_one_address_do_not_both_take_it_along(planned: Planner) -> None:
    plan = planned(moving("ada", "b", "c"), moving("ben", "b", "d"))
    assert sorted(plan.operations) == ["create", "readdress", "untag"]
