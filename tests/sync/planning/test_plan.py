"""What a plan holds, and who is withheld from it: pure, on data alone."""

import dataclasses
import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from segue.core.config import ConsentConfig, Guardrails
from segue.core.consent import ConsentRecord
from segue.core.errors import StoreError
from segue.core.model import (
    Account,
    Capabilities,
    ContactState,
    DestinationSchema,
    FieldSpec,
    FieldType,
    Operation,
    RateLimit,
)
from segue.sync.gate import INSTANTS
from segue.sync.planning.diff import Known
from segue.sync.planning.plan import Plan, build_plan
from segue.sync.store.keys import ContactKeys

KEYS = ContactKeys(b"k" * 32)
NOW = datetime(2026, 5, 3, 12, tzinfo=UTC)
GRANTED = ConsentRecord(granted_at=NOW - timedelta(days=30))
LEFT = ConsentRecord(granted_at=NOW - timedelta(days=30), withdrawn_at=NOW - timedelta(days=1))
CAPABILITIES = Capabilities(
    field_types=frozenset(FieldType),
    field_tag_length=10,
    field_tag_pattern="[A-Z0-9_]+",
    field_slots={"standard": 30},
    text_bytes=255,
    tag_length=100,
    batch_sizes={
        Operation.CREATE: 500,
        Operation.UPDATE: 500,
        Operation.UNTAG: 500,
        Operation.OPT_OUT: 1,
        Operation.READDRESS: 1,
    },
    concurrency=10,
)
ACCOUNT = Account(label="shop", audience="a", contacts=0)


@dataclasses.dataclass
class Person:
    """One contact as desired, as confirmed, as the ESP shows it and as the ledger knows it."""

    name: str
    address: str | None = ""
    country: str | None = None
    fields: dict[str, str] = dataclasses.field(default_factory=lambda: {"SG_RFM": "555"})
    tags: tuple[str, ...] = ("segue: VIP",)
    baseline: ContactState | None = None
    remote: str | None = None
    remote_address: str | None = None
    consent: ConsentRecord = GRANTED
    address_consent: ConsentRecord | None = None
    gone: bool = False
    refused: str = ""  # the operation that was

    def __post_init__(self) -> None:
        if self.address == "":
            self.address = f"{self.name}@shop.example"

    @property
    def key(self) -> int:
        return KEYS.contact_key(self.name)

    def desired(self) -> ContactState:
        assert self.address
        return ContactState(address=self.address, fields=self.fields, tags=frozenset(self.tags))


def settled(name: str, **more: Any) -> Person:
    """A contact that the destination has just as desired."""
    person = Person(name, remote="subscribed")
    return dataclasses.replace(person, baseline=person.desired(), **more)


def _batch(
    rows: Sequence[tuple[object, ...]], names: str, types: Sequence[pa.DataType]
) -> list[pa.RecordBatch]:
    columns = list(zip(*rows, strict=True)) or [()] * len(types)
    return [
        pa.record_batch(
            [pa.array(column, kind) for column, kind in zip(columns, types, strict=True)], names=names.split()
        )
    ]


def known(
    people: Sequence[Person],
    asked: list[int] | None = None,
    regimes: ConsentConfig | None = None,
    profiles: Path | None = None,
) -> Known:
    def payloads(keys: Iterable[int]) -> Iterable[pa.RecordBatch]:
        wanted = list(keys)
        if asked is not None:
            asked.extend(wanted)
        rows = [(p.key, p.baseline.canonical()) for p in people if p.baseline and p.key in set(wanted)]
        yield from _batch(rows, "contact_key payload", [pa.int64(), pa.string()])

    consents = [(p.key, *dataclasses.astuple(p.consent)) for p in people] + [
        (KEYS.address_key(p.address or ""), *dataclasses.astuple(p.address_consent))
        for p in people
        if p.address_consent
    ]
    names = "subject_key " + " ".join(slot.name for slot in dataclasses.fields(ConsentRecord))
    return Known(
        baseline=_batch(
            [(p.key, p.baseline.digest()) for p in people if p.baseline],
            "contact_key row_hash",
            [pa.int64(), pa.binary()],
        ),
        remote=_batch(
            list(
                {
                    KEYS.address_key(p.remote_address or p.address or ""): p.remote
                    for p in people
                    if p.remote
                }.items()
            ),
            "address_key state",
            [pa.int64(), pa.string()],
        ),
        consents=_batch(consents, names, [pa.int64(), *[pa.timestamp("us", "UTC")] * len(INSTANTS)]),
        rejections=_batch(
            [(p.key, p.refused, p.desired().digest()) for p in people if p.refused],
            "contact_key operation payload_hash",
            [pa.int64(), pa.string(), pa.binary()],
        ),
        payloads=payloads,
        regimes=regimes or ConsentConfig(),
        profiles=profiles,
    )


@pytest.fixture
def planned(tmp_path: Path) -> "Planner":
    return Planner(tmp_path)


class Planner:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(
        self,
        *people: Person,
        account: Account = ACCOUNT,
        guardrails: Guardrails | None = None,
        capabilities: Capabilities = CAPABILITIES,
        schema: DestinationSchema | None = None,
        asked: list[int] | None = None,
        regimes: ConsentConfig | None = None,
    ) -> Plan:
        rows = [p for p in people if not p.gone]
        texts = [
            json.dumps(dict(sorted(p.fields.items())), ensure_ascii=False, separators=(",", ":"))
            for p in rows
        ]
        desired = self.folder / "desired.parquet"
        pq.write_table(
            pa.table(
                {
                    "contact_id": pa.array([p.name for p in rows], pa.string()),
                    "address": pa.array([p.address for p in rows], pa.string()),
                    "fields": pa.array(texts, pa.string()),
                    "tags": pa.array([sorted(p.tags) for p in rows], pa.list_(pa.string())),
                }
            ),
            desired,
        )
        profiles = self.folder / "profiles.parquet"
        pq.write_table(
            pa.table(
                {
                    "contact_id": pa.array([p.name for p in rows], pa.string()),
                    "country": pa.array([p.country for p in rows], pa.string()),
                }
            ),
            profiles,
        )
        return build_plan(
            destination="newsletter",
            snapshot_id="s1",
            desired=desired,
            schema=schema or DestinationSchema(),
            known=known(people, asked, regimes, profiles),
            account=account,
            capabilities=capabilities,
            guardrails=guardrails or Guardrails(),
            keys=KEYS,
            folder=self.folder / "plans",
            now=NOW,
        )


def steps(plan: Plan) -> list[tuple[str, str | None, str]]:
    rows = pq.read_table(plan.steps).to_pylist()
    return [(row["operation"], row["contact_id"], row["group_key"]) for row in rows]


def reasons(plan: Plan) -> dict[str, str]:
    return {row["contact_id"]: row["reason"] for row in pq.read_table(plan.withheld_contacts).to_pylist()}


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


def moving(name: str, old: str, new: str, remote: str | None = "subscribed", **more: Any) -> Person:
    """A contact that was confirmed at one address and has another one now."""
    before = ContactState(address=old, fields={"SG_RFM": "555"}, tags=frozenset({"segue: VIP"}))
    return Person(name, address=new, baseline=before, remote=remote, remote_address=old, **more)


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
