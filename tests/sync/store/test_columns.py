"""Columns leave each database as they are in it, however many rows there are."""

from collections.abc import Sequence

import pyarrow as pa
import pytest
import sqlalchemy as sa

from segue.core.consent import ConsentAct, ConsentEntry
from segue.sync.store.columns import ROWS, stream_columns
from segue.sync.store.consents import RECORDS, LedgerEntry
from segue.sync.store.database import Database, insert_columns, parse_url
from segue.sync.store.schema import baseline, consent_record
from segue.sync.store.store import Store
from tests.conftest import Clock

GREATEST = 2**63 - 1


def _filled(store_url: str, keys: Sequence[int]) -> Database:
    """A store in which each of these contacts is confirmed, and every other one granted at a time of its own."""
    database = Database(parse_url(store_url), busy_seconds=5)
    with database.write() as connection:
        hashes = {"contact_key": keys, "row_hash": [key.to_bytes(16, "big") for key in keys]}
        insert_columns(connection, baseline, hashes, {"destination": "d"}, on_conflict="ignore")
        granted = {"subject_key": keys, "granted_at": [key if key % 2 else None for key in keys]}
        same = {"channel": "email", "purpose": "marketing", "released_at": -1}
        insert_columns(connection, consent_record, granted, same, on_conflict="ignore")
    return database


@pytest.mark.parametrize("count", [0, 1, 2, ROWS - 1, ROWS, ROWS + 1, 2 * ROWS])
def test_every_row_comes_once_whole_and_in_order(store_url: str, count: int) -> None:
    keys = [*range(count - 1), GREATEST][-count:] if count else []
    database = _filled(store_url, keys)
    schema = pa.schema([("contact_key", pa.int64()), ("row_hash", pa.binary())])
    columns = [baseline.c.contact_key, baseline.c.row_hash]
    batches = list(
        stream_columns(
            database, columns, baseline.c.contact_key, baseline.c.destination == "d", schema=schema
        )
    )
    database.close()
    table = pa.Table.from_batches(batches, schema=schema)
    assert table.column(0).to_pylist() == keys
    assert table.column(1).to_pylist() == [key.to_bytes(16, "big") for key in keys]
    assert all(0 < batch.num_rows <= ROWS for batch in batches)


@pytest.mark.parametrize("keys", [range(5), range(1, 6), [0], [1], [0, 2, 4]], ids=str)
def test_a_null_stays_a_null_wherever_it_stands(store_url: str, keys: Sequence[int]) -> None:
    database = _filled(store_url, list(keys))
    columns = [consent_record.c[name] for name in RECORDS.names]
    (batch,) = stream_columns(database, columns, consent_record.c.subject_key, sa.true(), schema=RECORDS)
    database.close()
    granted = batch.column("granted_at").cast(pa.int64()).to_pylist()
    assert granted == [key if key % 2 else None for key in keys]
    assert batch.column("released_at").cast(pa.int64()).to_pylist() == [-1] * len(keys)
    assert batch.column("withdrawn_at").null_count == len(keys)


def test_a_stream_that_runs_sees_nothing_that_is_written_meanwhile(store: Store, clock: Clock) -> None:
    def grant(keys: range) -> None:
        entry = ConsentEntry(act=ConsentAct.WITHDRAWAL, occurred_at=clock(), source="shop")
        store.consents.append(
            LedgerEntry(subject_key=key, subject_kind="contact", entry=entry) for key in keys
        )

    grant(range(ROWS))
    stream = store.consents.stream_records()
    seen = next(stream).num_rows
    grant(range(ROWS, ROWS + 10))
    assert seen + sum(batch.num_rows for batch in stream) == ROWS
