"""Takes back what a run did to fields and tags, as a plan of ordinary steps: nothing here sends.

What is undone is told by the run's own plan: each contact's state before and after. Only contacts that are still as
that plan left them are touched; whoever changed since is somebody else's to look after. Consent is not touched at
all: nobody is opted in again, and a contact that the run created stays, because it agreed, with our fields emptied.
A new address stays as well: it is where the person is.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow as pa

from ...core.scratch import scratch
from ..store.store import Store
from .plan import Plan
from .plan_files import attach

# A plan's steps are several to a contact: what it was, what it became, and which tags went. Without `after` the
# contact was gone from the data and lost nothing but tags.
_DONE: Final = """
CREATE TEMP TABLE done AS
SELECT contact_key, any_value(contact_id) AS contact_id,
       any_value(before) AS before,
       any_value(after) AS after,
       bool_or(operation = 'create' OR (operation = 'update' AND before IS NULL)) AS is_new,
       list(group_key) FILTER (operation = 'untag') AS untagged
FROM steps WHERE operation <> 'opt_out' GROUP BY contact_key
"""

# Still as the run left it: each part is as before or as after, and not all of them are as before. A part may have
# been refused or put off, or be in doubt since the run was killed.
_TARGETS: Final = """
CREATE TEMP TABLE targets AS
WITH parts AS (
    SELECT d.contact_key, d.contact_id, d.is_new, h.row_hash, h.payload,
           h.payload ->> '$.address' AS address,
           h.payload ->> '$.fields' AS fields_now,
           list_sort(from_json(h.payload -> '$.tags', '["VARCHAR"]')) AS tags_now,
           CASE WHEN d.is_new THEN '{}' ELSE d.before ->> '$.fields' END AS fields_before,
           CASE WHEN d.is_new THEN [] ELSE list_sort(from_json(d.before -> '$.tags', '["VARCHAR"]')) END AS tags_before,
           coalesce(d.after, d.before) ->> '$.fields' AS fields_after,
           CASE WHEN d.after IS NOT NULL THEN list_sort(from_json(d.after -> '$.tags', '["VARCHAR"]'))
                ELSE list_filter(tags_before, lambda t: NOT list_contains(coalesce(d.untagged, []), t)) END AS tags_after
    FROM done d JOIN held h USING (contact_key)
)
SELECT *,
       NOT is_new AND fields_now = fields_before AND tags_now = tags_before
         AND (payload -> '$.doubt') IS NULL AS untouched,
       (fields_now = fields_after OR fields_now = fields_before)
         AND list_has_all(tags_now, list_intersect(tags_before, tags_after))
         AND list_has_all(list_concat(tags_before, tags_after), tags_now) AS ours
FROM parts
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Undoing:
    """What is to be undone: desired states as `build_plan` takes them, and the baselines that they are of.

    `moved` contacts changed since and are left alone, `untouched` ones were never changed by the run; `gone` ones are
    those that the data lacks.
    """

    desired: Path
    baseline: pa.Table
    restored: int
    moved: int
    untouched: int
    gone: int


def undo(plan: Plan, store: Store, desired: Path) -> Undoing:
    """Work out what takes a plan back, and write it to `desired`."""
    with scratch() as con:
        attach(con, plan.steps, plan.file_key, store.sealing)
        con.execute(_DONE).fetchall()
        con.execute("CREATE TEMP TABLE hashes (contact_key BIGINT, row_hash BLOB)").fetchall()
        _load(con, "hashes", store.baselines.stream(plan.destination))
        con.execute("CREATE TEMP TABLE payloads (contact_key BIGINT, payload VARCHAR)").fetchall()
        keys = con.sql("SELECT contact_key FROM done").to_arrow_table().column(0)
        _load(con, "payloads", store.baselines.stream_payloads(plan.destination, keys))
        con.execute(
            "CREATE TEMP VIEW held AS SELECT * FROM hashes JOIN payloads USING (contact_key)"
        ).fetchall()
        con.execute(_TARGETS).fetchall()
        con.execute(
            "CREATE TEMP VIEW restored AS SELECT * FROM targets WHERE ours AND NOT untouched"
        ).fetchall()
        # Whom the data lack have no id any more: their key stands for it.
        con.execute(
            "COPY (SELECT contact_key, coalesce(contact_id, '#' || contact_key) AS contact_id, address,"
            f" fields_before AS fields, tags_before AS tags FROM restored) TO '{_quoted(desired)}' (FORMAT parquet)"
        ).fetchall()
        return Undoing(
            desired=desired,
            baseline=con.sql("SELECT contact_key, row_hash FROM restored").to_arrow_table(),
            restored=_count(con, "SELECT count(*) FROM restored"),
            moved=_count(con, "SELECT count(*) FROM targets WHERE NOT ours"),
            untouched=_count(con, "SELECT count(*) FROM targets WHERE ours AND untouched"),
            gone=_count(con, "SELECT count(*) FROM restored WHERE contact_id IS NULL"),
        )


def _load(con: duckdb.DuckDBPyConnection, table: str, batches: Iterable[pa.RecordBatch]) -> None:
    for batch in batches:
        con.register("incoming", pa.Table.from_batches([batch]))
        con.execute(f"INSERT INTO {table} BY NAME SELECT * FROM incoming").fetchall()
        con.unregister("incoming")


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")


def _count(con: duckdb.DuckDBPyConnection, query: str) -> int:
    row: Any = con.execute(query).fetchone()
    return int(row[0])
