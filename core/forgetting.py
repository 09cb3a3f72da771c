"""Takes a person out of the snapshots: the current one is published anew without them, older ones that hold them go.

Lives here: which rows of a snapshot are theirs. Must not: how a snapshot is written (`core.snapshot`), or who is erased.

The current snapshot keeps its moment and loses rows alone; numbers that were computed from everybody stay as they were,
and the next build computes them without the person. Older snapshots are there to look back at, and are dropped whole:
to write seven of them anew would take as long as seven builds.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
from ibis.backends.duckdb import Backend

from .data.engine import connect
from .errors import StoreError
from .snapshot import Snapshot, current, history, writing

# Of a manifest: `publish` says these anew.
_ANEW: Final = frozenset({"id", "format", "files", "as_of", "tables"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten:
    """What was done: the rows that the current snapshot lost, by table, and how many older ones were dropped."""

    rows: Mapping[str, int]
    dropped: int


def rows_of(
    snapshot: Snapshot, contact_ids: Sequence[str], addresses: Sequence[str]
) -> dict[str, list[dict[str, Any]]]:
    """Give all rows of a person in a snapshot, by table; tables without any are left out."""
    con = snapshot.connect()
    try:
        found = {
            name: con.con.sql(f'SELECT * FROM "{name}" WHERE {which}').to_arrow_table().to_pylist()
            for name, which in _theirs(con, snapshot, contact_ids, addresses).items()
        }
    finally:
        con.disconnect()
    return {name: rows for name, rows in found.items() if rows}


def counts_of(snapshot: Snapshot, contact_ids: Sequence[str], addresses: Sequence[str]) -> dict[str, int]:
    """Count all rows of a person in a snapshot, by table; tables without any are left out."""
    con = snapshot.connect()
    try:
        return _counts(con, _theirs(con, snapshot, contact_ids, addresses))
    finally:
        con.disconnect()


def forget(state_folder: Path, contact_ids: Sequence[str], addresses: Sequence[str]) -> Forgotten:
    """Take a person out of all snapshots. Killed, it is simply called again.

    Raises StoreError while a build is at work: that may be about to publish them once more.
    """
    damaged: list[str] = []
    nobody = Forgotten(rows={}, dropped=0)
    if not history(state_folder, damaged=damaged.append) and not damaged:
        return nobody  # and no folder is made for snapshots that there never were
    con = connect()
    try:
        with writing(state_folder, con) as draft:
            damaged.clear()  # of these nobody can tell whom they hold
            kept = history(state_folder, damaged=damaged.append)
            holding = {each.id: each for each in kept if counts_of(each, contact_ids, addresses)}
            rows: dict[str, int] = {}
            if (newest := holding.get(_current(state_folder))) is not None:
                for name in newest.tables:
                    con.read_parquet(str(newest.table(name)), table_name=name)
                theirs = _theirs(con, newest, contact_ids, addresses)
                rows = _counts(con, theirs)
                for name in newest.tables:
                    which = theirs.get(name, "false")
                    con.raw_sql(
                        f'CREATE VIEW "left_{name}" AS SELECT * FROM "{name}" WHERE NOT ({which})'
                    ).fetchall()
                    draft.write(name, con.table(f"left_{name}"))
                draft.publish(newest.as_of, _manifest(con, newest, theirs))
            gone = [*holding, *damaged]
            for id_ in gone:
                shutil.rmtree(state_folder / "snapshots" / id_, ignore_errors=True)
            return Forgotten(rows=rows, dropped=len(gone) - bool(rows))
    finally:
        con.disconnect()


def _current(state_folder: Path) -> str:
    try:
        return current(state_folder).id
    except StoreError:
        return ""


def _theirs(
    con: Backend, snapshot: Snapshot, contact_ids: Sequence[str], addresses: Sequence[str]
) -> dict[str, str]:
    """Give the condition by which a row is theirs, for each table that knows people."""
    for table, values in (("gone_ids", contact_ids), ("gone_addresses", addresses)):
        con.con.register(f"{table}_given", pa.table({"value": pa.array(values, pa.string())}))
        con.con.execute(f"CREATE OR REPLACE TEMP TABLE {table} AS SELECT * FROM {table}_given").fetchall()
        con.con.unregister(f"{table}_given")
    ids, texts = "(SELECT value FROM gone_ids)", "(SELECT value FROM gone_addresses)"
    found: dict[str, str] = {}
    for name in snapshot.tables:
        columns = {column for column, *_ in con.con.execute(f'DESCRIBE "{name}"').fetchall()}
        parts = [f"{column} IN {ids}" for column in ("contact_id", "survivor_id") if column in columns]
        if "email" in columns:
            parts.append(f"email IN {texts}")
        if name == "order_items" and "orders" in snapshot.tables:
            parts.append(f"order_id IN (SELECT order_id FROM orders WHERE contact_id IN {ids})")
        if parts:
            found[name] = " OR ".join(f"coalesce({part}, false)" for part in parts)
    return found


def _counts(con: Backend, theirs: Mapping[str, str]) -> dict[str, int]:
    counted = {
        name: con.con.execute(f'SELECT count(*) FROM "{name}" WHERE {which}').fetchall()[0][0]
        for name, which in theirs.items()
    }
    return {name: rows for name, rows in counted.items() if rows}


def _manifest(con: Backend, newest: Snapshot, theirs: Mapping[str, str]) -> dict[str, Any]:
    """Give what the manifest goes on to say; segments are smaller by the person."""
    left = {name: value for name, value in newest.manifest.items() if name not in _ANEW}
    if "segments" not in theirs or "segments" not in left:
        return left
    query = f"SELECT segment, count(*) FROM segments WHERE {theirs['segments']} GROUP BY 1"
    lost: dict[str, int] = dict(con.con.execute(query).fetchall())
    left["segments"] = [
        segment | {"size": segment["size"] - lost.get(segment["name"], 0)} for segment in left["segments"]
    ]
    return left


def drop_before(state_folder: Path, moment: datetime, *, dry_run: bool) -> int:
    """Drop the snapshots but the current one that were built before a moment; give how many, and with `dry_run` no more."""
    newest = _current(state_folder)
    old = [
        each
        for each in history(state_folder)
        if each.id != newest and datetime.fromtimestamp(each.path.stat().st_mtime, UTC) < moment
    ]
    for each in () if dry_run else old:
        shutil.rmtree(each.path, ignore_errors=True)
    return len(old)
