"""What a plan holds, and who is withheld from it: pure, on data alone."""

import dataclasses
import json
from datetime import UTC, timedelta

import pyarrow.parquet as pq
import pytest

from segue.core.config import Guardrails
from segue.core.consent import ConsentRecord
from segue.core.errors import StoreError
from segue.core.model import (
    DestinationSchema,
    FieldSpec,
    FieldType,
    RateLimit,
)
from segue.sync.planning.plan import Plan

from .planner import ACCOUNT, CAPABILITIES, LEFT, NOW, Person, Planner, moving, reasons, settled, steps


def test_a_granted_contact_that_is_new_is_created(planned: Planner) -> None:
    plan = planned(Person("ada"))
    assert steps(plan) == [("create", "ada", "")]
    assert plan.new_contacts == 1
    assert plan.tags_added == {"segue: VIP": 1}


def test_planning_what_was_confirmed_plans_nothing(planned: Planner) -> None:
    asked: list[int] = []
    plan = planned(settled("ada"), settled("ben"), asked=asked)
    assert plan.empty
    assert plan.unchanged == 2
    assert asked == []  # equal hashes fetch no payloads


def test_a_settled_contact_keeps_its_address_and_its_tags_there(planned: Planner) -> None:
    new, former = Person("ben", address="dan@shop.example"), moving("cem", "ada@shop.example", "c", tags=())
    plan = planned(settled("ada"), new, former, settled("dan"))
    assert reasons(plan) == {"ben": "shared_address"}
    assert (steps(plan), plan.unchanged) == ([("create", "cem", "")], 2)


def test_who_has_left_by_the_address_alone_is_not_settled(planned: Planner) -> None:
    ada = settled("ada", address_consent=ConsentRecord(withdrawn_at=NOW))
    assert steps(planned(ada)) == [("opt_out", "ada", "")]


def test_only_the_difference_is_counted(planned: Planner) -> None:
    ada = settled("ada", fields={"SG_RFM": "444"}, tags=("segue: Lapsing",))
    plan = planned(ada, settled("ben"))
    assert steps(plan) == [("update", "ada", ""), ("untag", "ada", "segue: VIP")]
    assert plan.fields_changed == {"SG_RFM": 1}
    assert plan.tags_added == {"segue: Lapsing": 1}
    assert plan.tags_removed == {"segue: VIP": 1}


def test_a_lost_tag_alone_is_no_update(planned: Planner) -> None:
    assert steps(planned(settled("ada", tags=()))) == [("untag", "ada", "segue: VIP")]


@pytest.mark.parametrize(
    ("person", "reason"),
    [
        (Person("x", consent=ConsentRecord()), "no_grant"),
        (Person("x", consent=LEFT), "withdrawn"),
        (
            Person("x", consent=ConsentRecord(granted_at=NOW, suppressed_at=NOW - timedelta(days=9))),
            "suppressed",
        ),
        (Person("x", consent=ConsentRecord(requested_at=NOW)), "pending"),
        (Person("x", address=None), "invalid_address"),
        (Person("x", refused="create"), "rejected_before"),
        (Person("x", remote="unsubscribed"), "withdrawn"),
        (Person("x", remote="suppressed"), "suppressed"),
        (Person("x", remote="unknown"), "no_grant"),
        (Person("x", address_consent=ConsentRecord(withdrawn_at=NOW)), "withdrawn"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_contact_is_withheld_with_its_reason(planned: Planner, person: Person, reason: str) -> None:
    plan = planned(person)
    assert reasons(plan) == {"x": reason}
    assert plan.withheld == {reason: 1}
    assert steps(plan) == []


def test_who_left_at_the_esp_stays_left_however_new_the_grant_is(planned: Planner) -> None:
    ada = settled(
        "ada", remote="unsubscribed", fields={"SG_RFM": "111"}, consent=ConsentRecord(granted_at=NOW)
    )
    assert steps(planned(ada)) == []


def test_a_withdrawal_here_is_carried_to_an_esp_that_still_mails(planned: Planner) -> None:
    assert steps(planned(settled("ada", consent=LEFT))) == [("opt_out", "ada", "")]


def test_a_withdrawal_is_not_carried_to_an_esp_that_does_not_know_the_person(planned: Planner) -> None:
    assert steps(planned(Person("ada", consent=LEFT))) == []


def test_a_contact_of_the_esp_is_enriched_without_a_grant_of_ours(planned: Planner) -> None:
    plan = planned(Person("ada", remote="subscribed", consent=ConsentRecord()))
    assert steps(plan) == [("update", "ada", "")]
    assert plan.new_contacts == 0


def test_where_silence_is_mailed_nobody_is_written_without_a_grant(planned: Planner) -> None:
    silent = dataclasses.replace(CAPABILITIES, shows_consent=False)
    asked = Person("ben", remote="subscribed")
    plan = planned(Person("ada", remote="subscribed", consent=ConsentRecord()), asked, capabilities=silent)
    assert steps(plan) == [("update", "ben", "")]
    assert plan.withheld == {"no_grant": 1}


def test_who_is_in_the_audience_and_new_to_us_is_adopted_and_neither_created_nor_billed(
    planned: Planner,
) -> None:
    plan = planned(Person("ada", remote="subscribed"), Person("ben"), settled("cem", fields={"SG_RFM": "1"}))
    assert (plan.adopted, plan.new_contacts) == (1, 1)
    assert plan.operations == {"create": 1, "update": 2}


def test_who_has_left_the_audience_is_not_adopted(planned: Planner) -> None:
    assert planned(Person("ada", remote="unsubscribed")).adopted == 0


def test_two_contacts_of_one_address_are_written_once(planned: Planner) -> None:
    people = [Person("ada", address="both@shop.example"), Person("ben", address="both@shop.example")]
    plan = planned(*people)
    assert plan.operations == {"create": 1}
    assert plan.withheld == {"shared_address": 1}


def test_a_withdrawal_of_one_holds_for_all_who_share_the_address(planned: Planner) -> None:
    withdrawn = ConsentRecord(withdrawn_at=NOW)
    people = [
        Person("ada", address="both@shop.example", address_consent=withdrawn),
        Person("ben", address="both@shop.example", address_consent=withdrawn),
    ]
    assert steps(planned(*people)) == []


def test_a_tag_is_lost_where_the_contact_still_is(planned: Planner) -> None:
    """At the new address, if the move is refused, it may be somebody else's."""
    plan = planned(moving("ada", "a", "b", tags=()))
    sent = [(row["operation"], row["address"]) for row in pq.read_table(plan.steps).to_pylist()]
    assert sent == [("untag", "a"), ("readdress", "b")]


def test_a_contact_that_is_gone_loses_our_tags_and_nothing_else(planned: Planner) -> None:
    assert steps(planned(settled("ada", gone=True), settled("ben"))) == [("untag", None, "segue: VIP")]


def test_the_date_of_a_departure_is_the_same_in_every_time_zone(
    planned: Planner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "America/New_York")  # where DuckDB reads the zone of a new database from
    plan = planned(Person("ada", consent=LEFT))
    (row,) = pq.read_table(plan.withheld_contacts).to_pylist()
    assert row["since"].replace(tzinfo=UTC) == LEFT.withdrawn_at


def test_a_field_counts_as_changed_when_it_comes_goes_or_moves(planned: Planner) -> None:
    before = {"SG_A": "1", "SG_B": "1", "SG_C": "1"}
    after = {"SG_A": "1", "SG_B": "2", "SG_D": "1"}
    ada = dataclasses.replace(settled("ada", fields=after), baseline=Person("ada", fields=before).desired())
    assert planned(ada).fields_changed == {"SG_B": 1, "SG_C": 1, "SG_D": 1}


@pytest.mark.parametrize(
    "text",
    ['"', "\\", "/", "'", "é", "\N{PARTY POPPER}", "\u2028", "\x7f", "{}", ",", " ", "\t", "\n"],
    ids=ascii,
)
def test_a_confirmed_text_is_the_same_text_in_sql(planned: Planner, text: str) -> None:
    odd = Person(
        "ada",
        address=f"a{text}b@shop.example",
        fields={"SG_RFM": f"a{text}b"},
        tags=(f"a{text}b", f"{text}a"),
    )
    plan = planned(dataclasses.replace(odd, baseline=odd.desired(), remote="subscribed"))
    assert plan.unchanged == 1


def test_requests_are_the_least_that_batch_sizes_allow(planned: Planner) -> None:
    new = [Person(f"new{i}") for i in range(501)]
    moved = [settled(f"old{i}", fields={"SG_RFM": "111"}, tags=()) for i in range(3)]
    left = [settled(f"left{i}", consent=LEFT) for i in range(2)]
    plan = planned(*new, *moved, *left)
    assert plan.requests == {"opt_out": 2, "create": 2, "update": 1, "untag": 1}
    assert plan.writes == 6


def test_time_follows_the_declared_limit(planned: Planner) -> None:
    slow = dataclasses.replace(CAPABILITIES, rate_limits=(RateLimit(count=1, seconds=10),))
    assert planned(Person("ada"), capabilities=slow).seconds == 10


def test_a_plan_names_the_fields_and_tags_that_the_account_lacks(planned: Planner) -> None:
    mine = FieldSpec(tag="SG_RFM", label="RFM", type=FieldType.TEXT, purpose="p")
    there = FieldSpec(tag="SG_OLD", label="Old", type=FieldType.TEXT, purpose="p")
    account = dataclasses.replace(ACCOUNT, fields={"SG_OLD": FieldType.TEXT})
    plan = planned(Person("ada"), account=account, schema=DestinationSchema(fields=(mine, there)))
    assert [spec.tag for spec in plan.schema.fields] == ["SG_RFM"]
    assert plan.requests["schema"] == 1


def test_guardrails_say_what_is_unusual(planned: Planner) -> None:
    people = [settled(f"p{i}", fields={"SG_RFM": "111"}, tags=()) for i in range(60)]
    shares = planned(*people).guardrails
    assert any("max_change_share" in line for line in shares)
    assert any("max_untag_share" in line for line in shares)
    new = planned(*[Person(f"n{i}") for i in range(3)], guardrails=Guardrails(max_new_contacts=2)).guardrails
    assert [line for line in new if "max_new_contacts" in line]
    confirming = planned(Person("ada"), account=dataclasses.replace(ACCOUNT, double_opt_in=True)).guardrails
    assert [line for line in confirming if "confirmation mails" in line]


def test_shares_of_a_handful_of_contacts_trip_nothing(planned: Planner) -> None:
    people = [settled(f"p{i}", fields={"SG_RFM": "111"}) for i in range(5)]
    assert planned(*people).guardrails == ()


def test_a_stored_plan_reads_back_as_it_was(planned: Planner) -> None:
    plan = planned(Person("ada"), settled("ben", fields={"SG_RFM": "1"}), Person("x", consent=LEFT))
    assert Plan.from_manifest(json.loads(json.dumps(plan.manifest()))) == dataclasses.replace(
        plan, samples=()
    )


def test_an_edited_plan_is_refused(planned: Planner) -> None:
    plan = planned(Person("ada"))
    plan.steps.write_bytes(plan.steps.read_bytes() + b" ")
    with pytest.raises(StoreError, match="changed after planning"):
        Plan.from_manifest(json.loads(json.dumps(plan.manifest())))
