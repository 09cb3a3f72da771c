"""Databases and Python functions as raw tables of the engine, a batch of Arrow at a time.

Lives here: SQLite's and PostgreSQL's own drivers, a user's function. Must not: know a canonical column.

DuckDB's extensions for these databases would be downloaded at first use, so they are never used. Both databases are
asked for texts (`cast ... as text`): SQLite's columns hold any type, and our casting then treats all sources alike.
"""

import importlib.util
import sqlite3
import sys
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, unquote

import pyarrow as pa
from ibis.backends.duckdb import Backend

from ..errors import DataError
from .engine import reading
from .files import ROW, RawTable, must_be_distinct, quoted

if TYPE_CHECKING:
    import psycopg

BATCH_ROWS: Final = 50_000


def read_database(
    con: Backend, name: str, url: str, query: str, folder: Path, *, head: int | None = None
) -> RawTable:
    """Read a query's result. Raises DataError, which never shows the address: it may hold a password."""
    query = query.strip().rstrip(";")
    if url.startswith("sqlite:///"):
        return _fill(
            con, name, _sqlite_batches(folder / unquote(url.removeprefix("sqlite:///")), query, head)
        )
    if url.startswith(("postgresql://", "postgresql+psycopg://", "postgres://")):
        return _fill(con, name, _postgres_batches(url.replace("+psycopg", "", 1), query, head))
    raise DataError("is no database that Segue reads. Write sqlite:///path or postgresql://...")


def read_function(
    con: Backend, name: str, reference: str, folder: Path, *, head: int | None = None
) -> RawTable:
    """Call `file.py:function` of the project and read what it gives: an Arrow table, a reader or record batches.

    Raises DataError. What the function's own error says is not repeated: it may quote the data.
    """
    file, _, function = reference.rpartition(":")
    # Results alone go to stdout, so that `--json` stays JSON whatever the function prints.
    with redirect_stdout(sys.stderr):
        return _fill(con, name, _function_batches(folder / file, function), head=head)


def _fill(con: Backend, name: str, batches: Iterator[pa.RecordBatch], *, head: int | None = None) -> RawTable:
    """Put batches into a table. The first one, which may be empty, says the columns."""
    filled = 0
    columns: tuple[str, ...] | None = None
    for batch in batches:
        if columns is None:
            if not batch.schema.names:
                raise DataError("gives no columns at all.")
            must_be_distinct(batch.schema.names)
        con.con.register("segue_batch", pa.Table.from_batches([batch]))
        rows = f"select {filled} + row_number() over () as {ROW}, * from segue_batch"
        try:
            with reading(
                "gives batches whose columns or types differ from one another or have no equal here."
            ):
                if columns is None:
                    columns = tuple(batch.schema.names)
                    con.raw_sql(f"create temp table {quoted(name)} as {rows}").fetchall()
                else:
                    con.raw_sql(f"insert into {quoted(name)} by name {rows}").fetchall()
        finally:
            con.con.unregister("segue_batch")
        filled += batch.num_rows
        if head is not None and filled >= head:
            break
    if columns is None:
        raise DataError("gave no batch at all. Give at least an empty one, which says the columns.")
    return RawTable(name=name, columns=columns)


def _sqlite_batches(path: Path, query: str, head: int | None) -> Iterator[pa.RecordBatch]:
    if not path.is_file():
        raise DataError(
            "there is no such SQLite file. Correct the url: it is relative to the project's folder."
        )
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as database:
            # The line breaks end a comment at the end of the query.
            cursor = database.execute(f"select * from (\n{query}\n) limit 0")
            names = [column[0] for column in cursor.description]
            must_be_distinct(names)
            texts = ", ".join(f"cast({quoted(column)} as text)" for column in names)
            limit = "" if head is None else f" limit {head}"
            cursor = database.execute(f"select {texts} from (\n{query}\n){limit}")
            yield _texts(names, [])
            while rows := cursor.fetchmany(BATCH_ROWS):
                yield _texts(names, rows)
    except sqlite3.Error as error:
        # SQLite names tables, columns and syntax in its messages; its driver quotes one value, what is no UTF-8.
        said = str(error).partition(" with text ")[0].rstrip(".")
        raise DataError(f"the query failed: {said}. Try it in a database client.") from error


def _postgres_batches(url: str, query: str, head: int | None) -> Iterator[pa.RecordBatch]:
    import psycopg

    try:
        with psycopg.connect(url, connect_timeout=10, application_name="segue") as connection:
            connection.read_only = True
            connection.execute("set datestyle to 'ISO, YMD'")
            connection.execute("set timezone to 'UTC'")
            described = (
                connection.execute(f"select * from (\n{query}\n) as source limit 0".encode()).description
                or []
            )
            limit = "" if head is None else f" limit {head}"
            texts = ", ".join(_postgres_text(connection, column) for column in described)
            with connection.cursor(name="segue_source") as cursor:
                cursor.itersize = BATCH_ROWS
                cursor.execute(f"select {texts} from (\n{query}\n) as source{limit}".encode())
                names = [column.name for column in described]
                yield _texts(names, [])
                while rows := cursor.fetchmany(BATCH_ROWS):
                    yield _texts(names, rows)
    except psycopg.OperationalError as error:
        raise DataError(
            "the database cannot be reached or refuses the login. Is its address right, does it run?"
        ) from error
    except psycopg.Error as error:
        said = (
            error.diag.message_primary
            if error.diag.sqlstate and error.diag.sqlstate.startswith("42")
            else None
        )
        # Class 42 is syntax and unknown names; other messages may quote values.
        raise DataError(
            f"the query failed: {said or type(error).__name__}. Try it in a database client."
        ) from error


def _postgres_text(connection: "psycopg.Connection[Any]", column: "psycopg.Column") -> str:
    """Arrays become JSON, which our casting reads as a list; PostgreSQL's own text of them is {a,b}."""
    found = connection.adapters.types.get(column.type_code)
    if found is not None and found.array_oid == column.type_code:
        return f"to_json({quoted(column.name)})::text"
    return f"{quoted(column.name)}::text"


def _texts(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> pa.RecordBatch:
    columns: list[Sequence[Any]] = list(zip(*rows, strict=True)) if rows else [[] for _ in names]
    return pa.RecordBatch.from_arrays(
        [pa.array(values, pa.string()) for values in columns], names=list(names)
    )


def _function_batches(path: Path, function: str) -> Iterator[pa.RecordBatch]:
    if not path.is_file():
        raise DataError(
            "there is no such Python file. Correct the path: it is relative to the project's folder."
        )
    try:
        given = _load(path, function)()
        yield from _as_batches(given)
    except DataError:
        raise
    except (Exception, SystemExit) as error:  # a script's own sys.exit() must not end ours
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        line = f", line {frames[-1].lineno}" if frames else ""
        raise DataError(
            f"{function} failed with {type(error).__name__}{line}. Run it by itself to see why."
        ) from error


def _load(path: Path, function: str) -> Any:
    name = f"segue_source_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise DataError("is no Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickling look their module up
    spec.loader.exec_module(module)
    if not callable(getattr(module, function, None)):
        raise DataError(f'has no function "{function}". Correct the name after the colon.')
    return getattr(module, function)


def _as_batches(given: Any) -> Iterator[pa.RecordBatch]:
    if hasattr(given, "__arrow_c_stream__"):
        reader = pa.RecordBatchReader.from_stream(given)
        yield pa.RecordBatch.from_arrays(
            [pa.array([], field.type) for field in reader.schema], schema=reader.schema
        )
        yield from reader
    elif isinstance(given, Iterable):
        for batch in given:
            if not isinstance(batch, pa.RecordBatch):
                raise DataError(f"gave {type(batch).__name__} objects where Arrow record batches are needed.")
            yield batch
    else:
        raise DataError(f"gave {type(given).__name__}. Give an Arrow table, a reader or record batches.")
