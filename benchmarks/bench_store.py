"""Measures the store on a SQLite file (or the URL given as argument) and prints JSON.

Baselines: time and added peak memory of streaming a million. Ledger: first load, and the same load again. Keys: a
million in DuckDB. The outbox has `bench_outbox.py`.
"""

import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import sqlalchemy as sa

from segue.sync.store import schema
from segue.sync.store.baselines import HASHES
from segue.sync.store.consents import LEDGER
from segue.sync.store.database import Database, parse_url
from segue.sync.store.keys import ContactKeys
from segue.sync.store.store import Store

BASELINES, ENTRIES, GROUP = 1_000_000, 400_000, 10_000
KEYS = ContactKeys(bytes(range(32)))


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def baselines(store: Store, database: Database) -> dict[str, float]:
    for start in range(0, BASELINES, GROUP):
        rows = [
            {"destination": "d", "contact_key": key * 7_919_777, "row_hash": key.to_bytes(16, "big")}
            for key in range(start, start + GROUP)
        ]
        with database.write() as connection:
            connection.execute(sa.insert(schema.baseline), rows)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    count = 0

    def stream() -> None:
        nonlocal count
        for batch in store.baselines.stream("d"):
            assert batch.schema == HASHES
            count += batch.num_rows

    took = seconds(stream)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"rows": count, "seconds": took, "added_peak_mib": (after - before) / 1024}


def ledger(store: Store) -> dict[str, float]:
    with duckdb.connect() as connection:
        KEYS.install(connection)
        entries = (
            connection.sql(
                """select contact_key('c' || i) as subject_key, 'contact' as subject_kind, 'email' as channel,
                  'marketing' as purpose, 'grant' as act,
                  (timestamp '2024-01-01' + to_seconds(i)) at time zone 'UTC' as occurred_at, 'shop' as source,
                  '{"form":"newsletter","reference":"' || i || '"}' as evidence from range($entries) r(i)""",
                params={"entries": ENTRIES},
            )
            .to_arrow_table()
            .cast(LEDGER)
        )
        sql = f"select sum({KEYS.sql('name', 'contact')}) from (select 'c' || i as name from range(1000000) r(i))"
        hashing = seconds(lambda: connection.execute(sql).fetchall())
    first = seconds(lambda: store.consents.append_batches(entries))
    again = seconds(lambda: store.consents.append_batches(entries))
    streamed = seconds(lambda: list(store.consents.stream_records()))
    return {
        "entries": ENTRIES,
        "first_load_entries_per_second": ENTRIES / first,
        "same_load_again_entries_per_second": ENTRIES / again,
        "stream_records_seconds": streamed,
        "duckdb_keys_per_second": 1_000_000 / hashing,
    }


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        url = sys.argv[1] if len(sys.argv) > 1 else f"sqlite:///{Path(folder) / 'store.db'}"
        with Store.open(url, key=lambda _: KEYS) as store:
            database = Database(parse_url(url), busy_seconds=30)
            report = {
                "database": parse_url(url).get_backend_name(),
                "baseline_stream": baselines(store, database),
                "ledger": ledger(store),
            }
            database.close()
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
