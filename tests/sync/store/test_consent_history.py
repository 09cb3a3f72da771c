"""The ledger as it is read out: when and by whom, in its order; and what an older store learns about its grants."""

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from segue.core.consent import ConsentAct, ConsentEntry, ConsentRecord
from segue.sync.store import consents, migrate
from segue.sync.store.consents import HISTORY, LedgerEntry
from segue.sync.store.database import parse_url
from segue.sync.store.keys import ContactKeys
from segue.sync.store.schema import microseconds
from segue.sync.store.store import Store

from ...conftest import SECRET, Clock

DAY = datetime(2026, 1, 1, tzinfo=UTC)


def entry(key: int, act: ConsentAct = ConsentAct.GRANT, days: int = 0, **evidence: str) -> LedgerEntry:
    said = ConsentEntry(act=act, occurred_at=DAY + timedelta(days=days), source="shop", evidence=evidence)
    return LedgerEntry(subject_key=key, subject_kind="contact", entry=said)


def test_an_entry_says_when_and_by_which_run_it_was_written_down(store: Store, clock: Clock) -> None:
    store.consents.append([entry(1, form="x")], run_id="r7")
    (found,) = store.consents.history([1])
    assert (found.recorded_at, found.run_id) == (clock.now, "r7")


def test_the_whole_ledger_comes_in_the_order_of_recording_however_many_batches(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consents, "ROWS_PER_HISTORY", 2)
    assert list(store.consents.stream_history()) == []
    store.consents.append([entry(key, form="x", days=-key) for key in (5, 3, 9)])
    store.consents.append([entry(1, ConsentAct.WITHDRAWAL)])
    batches = list(store.consents.stream_history())
    assert [batch.num_rows for batch in batches] == [2, 2]
    assert all(batch.schema == HISTORY for batch in batches)
    assert [key for batch in batches for key in batch.column("subject_key").to_pylist()] == [5, 3, 9, 1]
    assert batches[0].column("evidence").to_pylist() == ['{"form": "x"}'] * 2


def test_an_encrypted_ledger_comes_out_in_clear(store_url: str) -> None:
    with Store.open(store_url, key=lambda _: ContactKeys(SECRET), encryption=[bytes(32)]) as store:
        store.consents.append([entry(1, form="x"), entry(2, ConsentAct.WITHDRAWAL)])
        (batch,) = store.consents.stream_history()
    assert batch.column("evidence").to_pylist() == ['{"form": "x"}', "{}"]


def test_a_confirmed_grant_and_a_residence_are_in_the_record(store: Store) -> None:
    store.consents.append([entry(1, confirmed_at="2026-01-01"), entry(1, ConsentAct.RESIDENCE, days=1)])
    expected = ConsentRecord(granted_at=DAY, confirmed_at=DAY, resident_at=DAY + timedelta(days=1))
    assert store.consents.records([1]) == {1: expected}
    (batch,) = store.consents.stream_records()
    assert batch.column("confirmed_at").to_pylist() == [DAY]
    (narrow,) = store.consents.stream_records(every_regime=False)
    assert "confirmed_at" not in narrow.schema.names


def test_an_older_store_learns_which_of_its_grants_were_confirmed(store_url: str) -> None:
    engine = sa.create_engine(parse_url(store_url))
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(migrate.FOLDER))
        config.set_main_option("path_separator", "os")
        config.attributes["connection"] = connection
        command.upgrade(config, "0008")
        for number, (key, at, proof) in enumerate(
            [
                (1, 5, '{"confirmed_at": "03.02.2026"}'),
                (1, 7, '{"form": "x"}'),
                (2, 5, '{"form": "x"}'),
                (3, 5, '{"confirmed_at": " "}'),
                (4, 5, '{"confirmed_at": "0000-00-00"}'),
                (5, 5, '{"confirmed_at": "2026-01-01"}'),
            ]
        ):
            line = {"hash": bytes([number]) * 16, "key": key, "at": at, "evidence": proof}
            connection.execute(
                sa.text(
                    "insert into consent_entry (entry_hash, subject_key, subject_kind, channel, purpose, act, occurred_at,"
                    " source, evidence, recorded_at)"
                    " values (:hash, :key, 'contact', 'email', 'marketing', 'grant', :at, 's', :evidence, 0)"
                ),
                line,
            )
        for key in range(1, 6):
            row = {"key": key, "at": 7}
            connection.execute(
                sa.text(
                    "insert into consent_record (channel, purpose, subject_key, granted_at)"
                    " values ('email', 'marketing', :key, :at)"
                ),
                row,
            )
    engine.dispose()
    with Store.open(store_url, key=lambda _: ContactKeys(SECRET)) as store:
        found = store.consents.records(range(1, 6))
    confirmed = {
        key: record.confirmed_at and microseconds(record.confirmed_at) for key, record in found.items()
    }
    assert confirmed == {1: 5, 2: None, 3: None, 4: None, 5: 5}
