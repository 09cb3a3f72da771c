"""A store under a key: what lies in it, which keys open it, and how it passes from one key to the next."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest
import sqlalchemy as sa
from sqlalchemy import event

from segue.core.consent import ConsentAct, ConsentEntry
from segue.core.errors import ConfigError, StoreError
from segue.core.model import ContactState, Operation, Outcome, OutcomeStatus
from segue.sync.store import encryption, schema
from segue.sync.store.consents import LedgerEntry
from segue.sync.store.encryption import SEALED
from segue.sync.store.inbox import Message
from segue.sync.store.keys import ContactKeys
from segue.sync.store.outbox_row import ITEMS, OutboxRow
from segue.sync.store.sealing import Sealing
from segue.sync.store.settlement import Settlement
from segue.sync.store.store import Store

from ...conftest import SECRET, Clock
from .changes import TTL

OLD, NEW, OTHER = bytes(range(32)), bytes(range(32, 64)), bytes(range(64, 96))
PERSON = "ann.recognisable@shop.example"
NAME = "Recognisable Smith"
STATE = ContactState(address=PERSON, fields={"NAME": NAME}, tags=frozenset({"t"}))
PLANS = 3


@contextmanager
def opened(url: str, clock: Clock, *keys: bytes) -> Iterator[Store]:
    with Store.open(
        url, key=lambda _: ContactKeys(SECRET), encryption=keys, clock=clock, busy_seconds=5
    ) as store:
        yield store


def items(count: int) -> pa.Table:
    return pa.table(
        {
            "contact_key": list(range(count)),
            "operation": ["update"] * count,
            "group_key": [""] * count,
            "rank": [1] * count,
            "address": [f"{number}.{PERSON}" for number in range(count)],
            "address_key": list(range(1000, 1000 + count)),
            "payload": [f'{{"fields":{{"NAME":"{NAME} {number}"}}}}' for number in range(count)],
            "before_hash": [None] * count,
            "desired_hash": [None] * count,
        },
        schema=ITEMS,
    )


def applied(row: OutboxRow) -> Settlement:
    return Settlement(row=row, outcome=Outcome(status=OutcomeStatus.APPLIED), baseline=STATE)


def fill(store: Store) -> None:
    """Put something of a person into every sealed column."""
    store.outbox.enqueue("p", "d", items(6))
    lease = store.leases.acquire("d", TTL)
    (rows,) = store.outbox.claim(lease, {Operation.UPDATE: 2})
    store.settlements.settle(lease, "run", [applied(row) for row in rows])
    store.leases.release(lease)
    body = f"data[email]={PERSON}".encode()
    message = Message(destination="d", name="m1", content_type="text/plain", body=body)
    store.inbox.put([message])
    said = {"ip": "203.0.113.77", "form": NAME}
    entry = ConsentEntry(act=ConsentAct.GRANT, occurred_at=Clock().now, source="shop", evidence=said)
    store.consents.append([LedgerEntry(subject_key=1, subject_kind="contact", entry=entry)])
    file_key = store.sealing.seal_text("a key", schema.plan.name, "file_key")
    with store._database.write() as connection:
        value = store.sealing.seal(f'"{NAME}"'.encode(), schema.pulled_value.name, "d", 5, "NAME")
        pulled = {
            "destination": "d",
            "address_key": 5,
            "tag": "NAME",
            "value": value,
            "changed_at": Clock().now,
        }
        connection.execute(sa.insert(schema.pulled_value), pulled)
        subject = store.sealing.seal(f'["{PERSON}"]'.encode(), schema.erasure.name, "e1")
        asked = {"erasure_id": "e1", "requested_at": Clock().now, "subject": subject, "receipt": "{}"}
        connection.execute(sa.insert(schema.erasure), asked)
        plan = {
            "plan_id": "p",
            "destination": "d",
            "created_at": Clock().now,
            "status": "planned",
            "snapshot_id": "s",
            "manifest": f'{{"file_key": "{file_key if store.sealing.is_on else ""}"}}',
        }
        connection.execute(sa.insert(schema.plan), plan)


def read_back(store: Store) -> None:
    """Check that all of it is there as it was."""
    assert store.baselines.payloads("d", [0, 1]) == {0: STATE.canonical(), 1: STATE.canonical()}
    (message,) = store.inbox.take("d", 10)
    assert message.body == f"data[email]={PERSON}".encode()
    (said,) = store.consents.history([1])
    assert said.entry.evidence == {"ip": "203.0.113.77", "form": NAME}
    assert store.consents.grants([1])[1].evidence == said.entry.evidence
    lease = store.leases.acquire("d", TTL)
    store.outbox.release_claims(lease)
    (rows,) = store.outbox.claim(lease, {Operation.UPDATE: 10})
    assert [row.address for row in rows] == [f"{number}.{PERSON}" for number in range(2, 6)]
    assert [row.said()["fields"]["NAME"] for row in rows] == [f"{NAME} {number}" for number in range(2, 6)]
    store.leases.release(lease)
    with store._database.read() as connection:
        value = connection.execute(sa.select(schema.pulled_value.c.value)).scalar_one()
    place = (schema.pulled_value.name, "d", 5, "NAME")
    assert store.sealing.unseal(value, *place) == f'"{NAME}"'.encode()


def stored(store: Store) -> str:
    """Everything in the store, as text."""
    with store._database.read() as connection:
        tables = [connection.execute(sa.select(table)).all() for table in schema.METADATA.sorted_tables]
    values = [value for rows in tables for row in rows for value in row]
    return "\n".join(
        bytes(value).decode("latin-1") if isinstance(value, bytes) else str(value) for value in values
    )


def is_there(store: Store, *parts: str) -> list[str]:
    everything = stored(store)
    return [part for part in parts if part in everything]


def test_nothing_of_a_person_is_in_an_encrypted_store(store_url: str, clock: Clock) -> None:
    with opened(store_url, clock, NEW) as store:
        fill(store)
        assert is_there(store, PERSON, NAME, "203.0.113.77") == []
        read_back(store)
    with opened(store_url, clock, NEW) as store:
        read_back(store)


def test_without_a_key_a_store_is_as_it_was(store_url: str, clock: Clock) -> None:
    with opened(store_url, clock) as store:
        fill(store)
        assert is_there(store, PERSON, "203.0.113.77") == [PERSON, "203.0.113.77"]
        read_back(store)


def test_rows_that_wait_behind_others_are_known_by_person_and_address(store_url: str, clock: Clock) -> None:
    with opened(store_url, clock, NEW) as store:
        later = items(2).set_column(3, "rank", pa.array([2, 2], pa.int32()))
        store.outbox.enqueue("p", "d", pa.concat_tables([items(2), later]))
        lease = store.leases.acquire("d", TTL)
        (rows,) = store.outbox.claim(lease, {Operation.UPDATE: 10})
        first = Settlement(
            row=rows[0],
            outcome=Outcome(status=OutcomeStatus.DEFERRED),
            not_before=clock() + timedelta(minutes=1),
        )
        store.settlements.settle(lease, "run", [first, applied(rows[1])])
        (rows,) = store.outbox.claim(lease, {Operation.UPDATE: 10})
        assert [(row.rank, row.address) for row in rows] == [(2, f"1.{PERSON}")]
        store.settlements.settle(lease, "run", [applied(rows[0])])
        clock.advance(timedelta(minutes=2))
        (rows,) = store.outbox.claim(lease, {Operation.UPDATE: 10})
        assert [(row.rank, row.address) for row in rows] == [(1, f"0.{PERSON}")]


def test_a_missing_key_is_one_clear_error_at_opening(store_url: str, clock: Clock) -> None:
    with opened(store_url, clock, NEW):
        pass
    with pytest.raises(
        ConfigError, match=r"the store is encrypted \(key [0-9a-f]{6}\) and segue.yml names no key"
    ):
        opened(store_url, clock).__enter__()


def test_a_wrong_key_is_one_clear_error_at_opening(store_url: str, clock: Clock) -> None:
    with opened(store_url, clock, NEW):
        pass
    with pytest.raises(ConfigError, match=r"holds values under the key [0-9a-f]{6}") as refused:
        opened(store_url, clock, OTHER).__enter__()
    assert OTHER.hex() not in str(refused.value)
    with opened(store_url, clock, NEW) as store:  # and nothing was changed by the try
        assert store.sealing.key_ids == [Sealing([NEW]).key_ids[0]]


def test_a_store_from_before_reads_on_and_is_sealed_by_a_rotation(
    store_url: str, clock: Clock, tmp_path: Path
) -> None:
    with opened(store_url, clock) as store:
        fill(store)
    with opened(store_url, clock, NEW) as store:
        read_back(store)
        assert is_there(store, PERSON) == [PERSON]
        done = store.rotate_key(lambda *_: None)
        assert done.values == {
            "baseline_payload": 2,
            "outbox": 4,
            "inbox": 1,
            "consent_entry": 1,
            "pulled_value": 1,
            "erasure": 1,
        }
        assert is_there(store, PERSON, NAME, "203.0.113.77") == []
    for file in tmp_path.glob("store.db*"):  # nor in pages that are free now
        assert PERSON.encode() not in file.read_bytes()
    with opened(store_url, clock, NEW) as store:
        read_back(store)
        assert not store.sealing.plain_too
        assert store.rotate_key(lambda *_: None).values == {}


def test_a_rotation_brings_everything_under_the_new_key(store_url: str, clock: Clock) -> None:
    with opened(store_url, clock, OLD) as store:
        fill(store)
    with pytest.raises(ConfigError):
        opened(store_url, clock, NEW).__enter__()
    with opened(store_url, clock, NEW, OLD) as store:
        read_back(store)
        assert store.rotate_key(lambda *_: None).values["plan"] == 1
    with opened(store_url, clock, NEW) as store:
        read_back(store)
        assert store.audit.show(limit=1)[0].act == "encryption key rotated"
        with store._database.read() as connection:
            (text,) = connection.execute(sa.select(schema.plan.c.manifest)).scalars()
        sealed = text.partition('"file_key": "')[2].partition('"')[0]
        assert store.sealing.unseal_text(sealed, schema.plan.name, "file_key") == "a key"


def test_a_killed_rotation_goes_on_where_it_was(
    store_url: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encryption, "_ROWS", 1)
    with opened(store_url, clock, OLD) as store:
        fill(store)
    seen: list[int] = []

    def die(_table: str, count: int) -> None:
        seen.append(count)
        if len(seen) == PLANS:
            raise KeyboardInterrupt

    with opened(store_url, clock, NEW, OLD) as store, pytest.raises(KeyboardInterrupt):
        store.rotate_key(die)
    with pytest.raises(ConfigError):  # both are needed until it has ended
        opened(store_url, clock, NEW).__enter__()
    with opened(store_url, clock, NEW, OLD) as store:
        read_back(store)
        done = store.rotate_key(lambda *_: None)
        assert sum(done.values.values()) == 2 + 4 + 1 + 1 + 1 + 1 + 1 - PLANS
    with opened(store_url, clock, NEW) as store:
        read_back(store)


def test_a_rotation_looks_for_what_is_to_be_sealed_with_nothing_locked(store_url: str, clock: Clock) -> None:
    """Else all who write, a webhook too, wait while ten million rows are looked at."""
    with opened(store_url, clock, NEW) as store:
        fill(store)
        locking: list[str] = []

        def executed(connection: sa.Connection, _cursor: object, statement: str, *_: object) -> None:
            if connection.get_execution_options().get("segue_writes") and "substr(" in statement.lower():
                locking.append(statement)

        event.listen(store._database._engine, "before_cursor_execute", executed)
        assert store.rotate_key(lambda *_: None).values == {}
    assert locking == []


def test_a_rotation_without_a_key_is_refused(store_url: str, clock: Clock) -> None:
    with opened(store_url, clock) as store, pytest.raises(ConfigError, match="names no key"):
        store.rotate_key(lambda *_: None)


def test_a_value_copied_to_another_person_does_not_open(store_url: str, clock: Clock) -> None:
    with opened(store_url, clock, NEW) as store:
        fill(store)
        payload = schema.baseline_payload
        with store._database.write() as connection:
            mine = sa.select(payload.c.payload).where(payload.c.contact_key == 0).scalar_subquery()
            connection.execute(sa.update(payload).where(payload.c.contact_key == 1).values(payload=mine))
        with pytest.raises(StoreError, match="changed or moved"):
            store.baselines.payloads("d", [1])


def test_every_column_that_can_hold_an_address_is_among_the_sealed_ones() -> None:
    named = {(each.column.table.name, name) for each in SEALED for name in (each.column.name, *each.also)}
    suspicious = {
        (table.name, column.name)
        for table in schema.METADATA.sorted_tables
        for column in table.columns
        if column.name in {"address", "payload", "body", "evidence", "value", "subject"}
    }
    assert suspicious - named == {("fact", "value"), ("cursor", "value")}
