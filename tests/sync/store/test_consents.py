import itertools
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import exc

from segue.core.consent import ConsentAct, ConsentEntry, ConsentRecord, merge_all, record
from segue.core.errors import DataError
from segue.core.model import Grant
from segue.sync.store.consents import LEDGER, RECORDS, LedgerEntry, ledger_batch
from segue.sync.store.store import Store

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
FORM = {"form": "newsletter"}


def entry(
    key: int,
    act: ConsentAct,
    day: int = 0,
    evidence: dict[str, str] | None = None,
    *,
    channel: str = "email",
    purpose: str = "marketing",
) -> LedgerEntry:
    return LedgerEntry(
        subject_key=key,
        subject_kind="contact",
        entry=ConsentEntry(
            act=act,
            occurred_at=NOON + timedelta(days=day),
            source="shop",
            evidence=FORM if evidence is None else evidence,
            channel=channel,
            purpose=purpose,
        ),
    )


ENTRIES = st.builds(
    entry,
    st.integers(1, 3),
    st.sampled_from(ConsentAct),
    st.integers(0, 5),
    st.sampled_from([FORM, {}, {"form": " "}, {"ip": "\u00e9\u4e2d", "ref": 'a"b'}]),
    channel=st.sampled_from(["email", "sms"]),
)


_examples = itertools.count()


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(ENTRIES, max_size=6), max_size=4))
def test_a_stored_record_is_the_merge_of_all_that_was_appended(
    store: Store, loads: list[list[LedgerEntry]]
) -> None:
    """Whatever came in which load, and however often."""
    every = [each for load in loads for each in load]
    # Each example has subjects of its own: a ledger cannot be emptied.
    offset = 10 * next(_examples)
    moved = [[replace(each, subject_key=each.subject_key + offset) for each in load] for load in loads]
    for load in [*moved, *moved[:1]]:
        store.consents.append(load)
    for channel in ("email", "sms"):
        for key in (1, 2, 3):
            expected = merge_all(
                record(each.entry)
                for each in every
                if each.subject_key == key and each.entry.channel == channel
            )
            found = store.consents.records([key + offset], channel).get(key + offset, ConsentRecord())
            assert found == expected


def test_the_same_load_again_adds_nothing(store: Store) -> None:
    load = [entry(key, ConsentAct.GRANT) for key in range(50)]
    assert store.consents.append(load) == 50
    assert store.consents.append(load) == 0
    assert store.consents.append([*load, entry(1, ConsentAct.WITHDRAWAL, 1)]) == 1
    assert len(store.consents.history([1])) == 2


def test_one_line_twice_in_a_load_is_one(store: Store) -> None:
    assert store.consents.append([entry(1, ConsentAct.GRANT)] * 2) == 1


@pytest.mark.parametrize(
    "other",
    [
        entry(2, ConsentAct.GRANT),
        entry(1, ConsentAct.REQUEST),
        entry(1, ConsentAct.GRANT, 1),
        entry(1, ConsentAct.GRANT, evidence={"form": "checkout"}),
        entry(1, ConsentAct.GRANT, purpose="news"),
        entry(1, ConsentAct.GRANT, channel="sms"),
        LedgerEntry(subject_key=1, subject_kind="address", entry=entry(1, ConsentAct.GRANT).entry),
    ],
)
def test_lines_that_differ_in_anything_are_two(store: Store, other: LedgerEntry) -> None:
    assert store.consents.append([entry(1, ConsentAct.GRANT), other]) == 2


def test_a_withdrawal_is_never_overwritten_by_an_older_grant(store: Store) -> None:
    store.consents.append([entry(1, ConsentAct.WITHDRAWAL, 2)])
    store.consents.append([entry(1, ConsentAct.GRANT, 1)])
    known = store.consents.records([1])[1]
    assert known.withdrawn_at == NOON + timedelta(days=2)
    assert known.granted_at == NOON + timedelta(days=1)


def test_the_newest_grant_with_evidence_is_the_one_that_is_shown(store: Store) -> None:
    store.consents.append([entry(1, ConsentAct.GRANT, 1, {"form": "first"})])
    store.consents.append([entry(1, ConsentAct.GRANT, 3, {"form": "third"})])
    store.consents.append(
        [entry(1, ConsentAct.GRANT, 2, {"form": "second"}), entry(1, ConsentAct.GRANT, 4, {})]
    )
    store.consents.append([entry(2, ConsentAct.GRANT, 4, {}), entry(3, ConsentAct.WITHDRAWAL)])
    expected = Grant(granted_at=NOON + timedelta(days=3), source="shop", evidence={"form": "third"})
    assert store.consents.grants([1, 2, 3, 4]) == {1: expected}
    assert store.consents.grants([1], "sms") == {}


def test_of_one_load_the_newest_grant_wins_in_any_order(store: Store) -> None:
    for key, days in ((1, (1, 3, 2)), (2, (3, 2, 1))):
        store.consents.append(entry(key, ConsentAct.GRANT, day, {"day": str(day)}) for day in days)
    assert [grant.evidence for grant in store.consents.grants([1, 2]).values()] == [{"day": "3"}] * 2


def test_records_stream_as_utc_instants(store: Store) -> None:
    acts = [ConsentAct.GRANT, ConsentAct.WITHDRAWAL]
    store.consents.append([entry(1, act, day) for day, act in enumerate(acts)])
    store.consents.append([entry(2, ConsentAct.SUPPRESSION), entry(3, ConsentAct.GRANT, purpose="news")])
    (batch,) = store.consents.stream_records()
    assert batch.schema == RECORDS
    nothing = dict.fromkeys(RECORDS.names)
    assert sorted(batch.to_pylist(), key=lambda row: row["subject_key"]) == [
        nothing | {"subject_key": 1, "granted_at": NOON, "withdrawn_at": NOON + timedelta(days=1)},
        nothing | {"subject_key": 2, "suppressed_at": NOON},
    ]


def test_a_table_of_more_than_one_group_loads_whole(store: Store) -> None:
    count = 12_000
    table = pa.table(
        {
            "subject_key": range(count),
            "subject_kind": ["contact"] * count,
            "channel": ["email"] * count,
            "purpose": ["marketing"] * count,
            "act": ["grant"] * count,
            "occurred_at": [NOON] * count,
            "source": ["shop"] * count,
            "evidence": ['{"form": "x"}'] * count,
        },
        schema=LEDGER,
    )
    assert store.consents.append_batches(table) == count
    assert store.consents.append_batches(table.to_reader()) == 0
    assert len(store.consents.records(range(count))) == count


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("act", "ann@shop.test", "a value is none of grant"),
        ("source", "a\0b", "NUL"),
        ("evidence", "by phone", "not a JSON object"),
        ("evidence", "[1]", "not a JSON object"),
    ],
)
def test_a_malformed_line_is_refused_with_its_whole_group(
    store: Store, column: str, value: str, words: str
) -> None:
    good = ledger_batch([entry(1, ConsentAct.GRANT), entry(2, ConsentAct.GRANT)]).to_pylist()
    good[1][column] = value
    with pytest.raises(DataError, match=words) as error:
        store.consents.append_batches([pa.RecordBatch.from_pylist(good, schema=LEDGER)])
    assert value not in str(error.value)
    assert store.consents.history([1, 2]) == []
    assert store.consents.records([1, 2]) == {}


def test_evidence_is_kept_as_it_came_and_read_as_texts(store: Store) -> None:
    (row,) = ledger_batch([entry(1, ConsentAct.GRANT)]).to_pylist()
    row["evidence"] = json.dumps({"text_version": 3, "ticked": True, "form": "x"})
    store.consents.append_batches([pa.RecordBatch.from_pylist([row], schema=LEDGER)])
    assert store.consents.grants([1])[1].evidence == {"text_version": "3", "ticked": "true", "form": "x"}


def test_no_evidence_is_an_empty_one(store: Store) -> None:
    (row,) = ledger_batch([entry(1, ConsentAct.WITHDRAWAL)]).to_pylist()
    row["evidence"] = None
    store.consents.append_batches([pa.RecordBatch.from_pylist([row], schema=LEDGER)])
    assert store.consents.history([1])[0].entry.evidence == {}


def test_history_tells_acts_in_the_order_in_which_they_happened(store: Store) -> None:
    later, earlier = entry(1, ConsentAct.WITHDRAWAL, 2), entry(1, ConsentAct.GRANT, 1)
    store.consents.append([later])
    store.consents.append([earlier, entry(2, ConsentAct.GRANT)])
    assert store.consents.history([1]) == [earlier, later]


@pytest.mark.parametrize("statement", ["update consent_entry set act = 'grant'", "delete from consent_entry"])
def test_the_database_itself_refuses_to_change_the_ledger(store: Store, statement: str) -> None:
    store.consents.append([entry(1, ConsentAct.WITHDRAWAL)])
    with pytest.raises(exc.DBAPIError, match="only grows"), store._database.write() as connection:
        connection.execute(sa.text(statement))
    assert store.consents.history([1])[0].entry.act is ConsentAct.WITHDRAWAL


@pytest.mark.parametrize("store_url", ["postgresql"], indirect=True)  # SQLite has no TRUNCATE
def test_postgresql_refuses_to_empty_the_ledger(store: Store) -> None:
    with pytest.raises(exc.DBAPIError, match="only grows"), store._database.write() as connection:
        connection.execute(sa.text("truncate consent_entry"))


def test_two_loads_at_once_lose_no_withdrawal(store: Store) -> None:
    acts = (ConsentAct.GRANT, ConsentAct.WITHDRAWAL, ConsentAct.SUPPRESSION, ConsentAct.RELEASE)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda act: store.consents.append([entry(key, act) for key in range(200)]), acts))
    whole = ConsentRecord(granted_at=NOON, withdrawn_at=NOON, suppressed_at=NOON, released_at=NOON)
    assert store.consents.records(range(200)) == dict.fromkeys(range(200), whole)
