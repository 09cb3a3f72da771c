"""Takes a person out of the files of plans: written anew without them, so that a run can still be taken back.

Which files a plan has is its manifest's to say; nothing here decides what a plan does.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow as pa

from ..planning.plan_files import freeze, opened
from ..store.erasures import Subject
from ..store.store import Store

# The table of each file, the name of its path in the manifest, the keys in it, and the order of its rows.
_FILES: Final = (
    ("steps", "steps", ("contact_key", "address_key"), "rank, group_key, contact_key, address"),
    ("withheld", "withheld_contacts", ("contact_key",), "reason, contact_key"),
)
_OURS: Final = frozenset({"contact_key", "address_key", "before_hash", "after_hash", "heir_of", "rank"})


def count(store: Store, subject: Subject) -> int:
    """Count the rows about a person in the files of all plans."""
    return sum(
        _count(Path(manifest[name]), manifest, keys, subject, store)
        for _, manifest in store.plans.manifests()
        for _, name, keys, _ in _FILES
    )


def rows_of(store: Store, subject: Subject) -> list[dict[str, Any]]:
    """Give what plans mean to do with a person, or withhold from them: the plan's id, and the row without keys."""
    found: list[dict[str, Any]] = []
    for plan_id, manifest in store.plans.manifests():
        for table, name, keys, _ in _FILES:
            if not (path := Path(manifest[name])).exists():
                continue
            with _read(path, manifest, store) as con:
                theirs = con.sql(f"SELECT * FROM rows WHERE {_theirs(keys, subject, store)}").to_arrow_table()
            found += [
                {"plan": plan_id, "table": table}
                | {name: value for name, value in row.items() if value is not None and name not in _OURS}
                for row in theirs.to_pylist()
            ]
    return found


def forget(store: Store, subject: Subject, folder: Path) -> int:
    """Write the files that hold a person anew, and remove those that no plan names; give how many rows went.

    Killed, it is simply called again. Nobody may plan or apply meanwhile.
    """
    removed = 0
    named: set[str] = set()
    for plan_id, manifest in store.plans.manifests():
        now = dict(manifest)
        for table, name, keys, order in _FILES:
            path = Path(manifest[name])
            rows = _count(path, manifest, keys, subject, store)
            if not rows:
                continue
            file_key = manifest.get("file_key", "")
            with _read(path, manifest, store) as con:
                con.execute(
                    f"CREATE TEMP VIEW {table} AS SELECT * FROM rows WHERE NOT ({_theirs(keys, subject, store)})"
                ).fetchall()
                now[name] = str(freeze(con, table, order, path.parent, file_key, store.sealing))
            removed += rows
        if now != manifest:
            store.plans.rewrite(plan_id, now)
        named |= {now[name] for _, name, _, _ in _FILES}
    for path in folder.glob("*/*.parquet*"):  # what was written anew, and what a killed run was at work on
        if str(path) not in named:
            path.unlink(missing_ok=True)
    return removed


def _count(
    path: Path, manifest: Mapping[str, Any], keys: Sequence[str], subject: Subject, store: Store
) -> int:
    if not path.exists():  # they go before their plan does
        return 0
    with _read(path, manifest, store, keys) as con:
        found = con.execute(f"SELECT count(*) FROM rows WHERE {_theirs(keys, subject, store)}").fetchone()
    return int(found[0]) if found else 0


@contextmanager
def _read(
    path: Path, manifest: Mapping[str, Any], store: Store, columns: Sequence[str] | None = None
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Give a connection with a file's `rows`, to be read once. By Arrow: DuckDB does not read every encrypted file."""
    with duckdb.connect(
        config={"temp_directory": str(path.parent / "spill"), "memory_limit": "512MB"}
    ) as con:
        con.execute("SET TimeZone = 'UTC'").fetchall()
        with opened(path, manifest.get("file_key", ""), store.sealing) as file:
            schema = (
                file.schema_arrow if columns is None else pa.schema(map(file.schema_arrow.field, columns))
            )
            con.register(
                "rows", pa.RecordBatchReader.from_batches(schema, file.iter_batches(columns=columns))
            )
            yield con


def _theirs(names: Sequence[str], subject: Subject, store: Store) -> str:
    """Give the condition by which a row is theirs; keys are numbers of ours."""
    given = {"contact_key": subject.contact_keys(store.keys), "address_key": subject.address_keys(store.keys)}
    conditions = [f"{name} IN ({', '.join(map(str, given[name]))})" for name in names if given[name]]
    return " OR ".join(f"coalesce({each}, false)" for each in conditions) or "false"
