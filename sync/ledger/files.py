"""The consent ledger as files: a consent platform's export in, set-wise and whole or not at all, and the ledger out.

What an export's columns mean is a `Shape`'s to say, which rows are good the rules' of an ingest, and whose word an act
is, `inbound`'s. Nothing here decides who may be mailed: a stale file adds old acts, and merging does the rest.
"""

import codecs
import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import BinaryIO, Final

import duckdb
import ibis
import ibis.expr.types as ir
import orjson
import pyarrow as pa
from ibis.backends.duckdb import Backend
from pyarrow import csv

from ...core.config import Project
from ...core.data.consents import Finding, read_consents
from ...core.data.engine import connect, room
from ...core.errors import ConfigError, DataError, Problem, SegueError
from ...core.scratch import scratch
from ...core.shapes import Shape
from ...core.snapshot import Snapshot
from ..inbound.observing import People, take_over
from ..inbound.recorded_stops import opt_out_recorded
from ..store.store import Store
from .desk import install

Progress = Callable[[str, float], None]

SHOWN: Final = 50
"""So many rows that stop an import are listed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What an import did. `new` counts lines of the ledger, of which an act may make several; `opt_outs` are by
    destination.
    """

    rows: int
    ignored: int
    left_out: Mapping[str, int]
    noted: Mapping[str, int]
    new: int
    opt_outs: Mapping[str, int]
    first: tuple[Finding, ...]


def import_file(  # noqa: PLR0913  # a file, what it means, and the world that it goes into
    project: Project,
    store: Store,
    snapshot: Snapshot | None,
    path: Path,
    shape: Shape,
    *,
    source: str,
    partly: bool,
    by: str,
    now: datetime,
    progress: Progress,
) -> Imported:
    """Take an export's acts into the ledger, and opt out who left; the same file once more adds nothing to it.

    Raises DataError, with nothing taken, when a row breaks a rule that refuses it, unless `partly` says that the others
    count: a row with an act that nobody understands is a withdrawal then, as in a build.
    """
    con = connect()
    try:
        with room():
            progress("reading", 0.0)
            moment = _first_read(store, path, now)
            read = read_consents(
                con,
                project,
                path,
                shape,
                source=source,
                identity=_identity(con, snapshot),
                moment=moment,
                erased=store.tombstones.install,
            )
            first = tuple(read.first(SHOWN))
            if read.refused and not partly:
                raise _refusal(path, read.refused, first)
            progress("recording", 0.1)
            install(con.con, store, snapshot)
            rows = max(read.rows, 1)
            new = take_over(
                store,
                con.con,
                now=now,
                run_id=f"import: {by}",
                progress=lambda done: progress("recording", min(0.9, 0.1 + 0.8 * done / rows)),
            )
            progress("opting out", 0.9)
            opt_outs = opt_out_recorded(store, project.destinations, People(snapshot, store), con.con)
    finally:
        con.disconnect()
    return Imported(
        rows=read.rows,
        ignored=read.ignored,
        left_out=read.refused,
        noted=read.noted,
        new=new,
        opt_outs=opt_outs,
        first=first,
    )


def with_options(shape: Shape, *, marketing: tuple[str, ...], encoding: str | None) -> Shape:
    """Give a shape with what the command line says more of the file. Raises ConfigError for an unknown encoding."""
    try:
        codecs.lookup(encoding or "utf-8")
    except LookupError:
        raise ConfigError(
            f'"{encoding}" is not an encoding. Write e.g. utf-8, windows-1252 or iso-8859-1.'
        ) from None
    more = {"marketing": (*shape.marketing, *marketing), "encoding": encoding or shape.encoding}
    return shape.model_copy(update=more)


def export(
    store: Store, snapshot: Snapshot | None, out: BinaryIO, *, as_csv: bool, with_contacts: bool
) -> int:
    """Write the whole ledger, in the order of recording; give how many lines. Who a key is of is never guessed.

    `with_contacts` names the contacts and addresses of the current snapshot beside their keys.
    """
    with scratch() as con:
        people = _people(con, store, snapshot) if with_contacts else ""
        tables = (_written(con, batch, people) for batch in store.consents.stream_history())
        return _write_csv(out, tables) if as_csv else _write_lines(out, tables)


def _write_csv(out: BinaryIO, tables: Iterator[pa.Table]) -> int:
    first = next(tables, None)
    if first is None:
        return 0
    count = 0
    with csv.CSVWriter(out, first.schema) as writer:
        for table in chain([first], tables):
            writer.write_table(table)
            count += table.num_rows
    return count


def _write_lines(out: BinaryIO, tables: Iterator[pa.Table]) -> int:
    count = 0
    for table in tables:
        out.writelines(orjson.dumps(row) + b"\n" for row in table.to_pylist())
        count += table.num_rows
    return count


def _people(con: duckdb.DuckDBPyConnection, store: Store, snapshot: Snapshot | None) -> str:
    install(con, store, snapshot)
    con.execute(
        "CREATE TEMP TABLE people AS"
        " SELECT contact_key(contact_id) AS key, 'contact' AS kind, contact_id, email FROM profiles"
        " UNION ALL SELECT DISTINCT address_key(email), 'address', NULL, email FROM profiles WHERE email IS NOT NULL"
    ).fetchall()
    return "people.contact_id, people.email, "


def _written(con: duckdb.DuckDBPyConnection, batch: pa.RecordBatch, people: str) -> pa.Table:
    """Give a batch of the ledger as texts, in its order."""
    naive = pa.timestamp("us")
    table = pa.Table.from_batches([batch])
    for name in ("occurred_at", "recorded_at"):
        table = table.set_column(table.schema.get_field_index(name), name, table.column(name).cast(naive))
    table = table.append_column("place", pa.array(range(table.num_rows), pa.int64()))
    con.register("ledger", table)
    form = "'%Y-%m-%dT%H:%M:%S.%fZ'"
    join = "LEFT JOIN people ON people.key = subject_key AND people.kind = subject_kind" if people else ""
    found: pa.Table = con.sql(
        f"SELECT subject_kind, printf('%016x', subject_key) AS subject, {people}channel, purpose, act,"
        f" strftime(occurred_at, {form}) AS occurred_at, source, evidence,"
        f" strftime(recorded_at, {form}) AS recorded_at, coalesce(run_id, '') AS recorded_by"
        f" FROM ledger {join} ORDER BY place"
    ).to_arrow_table()
    con.unregister("ledger")
    return found


def _first_read(store: Store, path: Path, now: datetime) -> datetime:
    """Give when a file of this content was first read: an act in it without a time counts from then, each time."""
    if not path.is_file():
        raise DataError.of([Problem(where=path.name, message="there is no such file.")])
    with path.open("rb") as file:
        name = f"consents_of_file {hashlib.file_digest(file, 'sha256').hexdigest()}"
    known = store.destinations.cursor("", name)
    if known is None:
        store.destinations.set_cursor("", name, now.isoformat())
    return datetime.fromisoformat(known) if known else now


def _identity(con: Backend, snapshot: Snapshot | None) -> ir.Table:
    if snapshot is not None and "identity" in snapshot.tables:
        return con.read_parquet(str(snapshot.table("identity")), table_name="merged_contacts")
    nobody = ibis.schema({"contact_id": "string", "survivor_id": "string"})
    return con.create_table("merged_contacts", schema=nobody, temp=True)


def _refusal(path: Path, refused: Mapping[str, int], first: tuple[Finding, ...]) -> SegueError:
    problems = [
        Problem(
            where=f"{path.name}, row {found.row}",
            message=f"{f'column {found.column}, ' if found.column else ''}rule {found.rule}: {found.value_class}.",
        )
        for found in first
    ]
    counted = ", ".join(f"{rule} {rows:,}" for rule, rows in refused.items())
    problems.append(
        Problem(
            where=path.name,
            message=f"nothing was imported: {counted}.",
            next_step="Correct the file or the mapping, or import the rest with --partly.",
        )
    )
    return DataError.of(problems)
