"""Read-only SELECTs over a snapshot, ours and a person's own.

Lives here: what a query may touch and how its rows come back. Must not: how they are printed.

DuckDB itself keeps the door shut: once the views stand, the connection loses every file but the snapshot's own, and
its settings are locked. Searching the text for `copy` or `attach` was the loser: SQL has too many ways to write.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import duckdb

from ...core.errors import ConfigError
from ...core.snapshot import Snapshot

_ROWS_AT_ONCE = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """The answer to one SELECT: column names, and rows that are read as they are asked for, once."""

    columns: tuple[str, ...]
    rows: Iterator[tuple[Any, ...]]

    def mappings(self) -> Iterator[Mapping[str, Any]]:
        """Give the rows as mappings from column to value. Raises ConfigError when two columns have one name."""
        twice = next((name for name in self.columns if self.columns.count(name) > 1), None)
        if twice is not None:
            raise ConfigError(f'two columns are called "{twice}". Give one another name with `as`.')
        return (dict(zip(self.columns, row, strict=True)) for row in self.rows)


@contextmanager
def opened(snapshot: Snapshot) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a snapshot for queries that can read its tables and nothing else."""
    backend = snapshot.connect()
    connection: duckdb.DuckDBPyConnection = backend.con
    try:
        # The order matters: the first line needs the access that the second takes away.
        folder = str(snapshot.path).replace("'", "''")
        connection.execute(f"set allowed_directories = ['{folder}']").fetchall()
        connection.execute("set enable_external_access = false").fetchall()
        connection.execute("set lock_configuration = true").fetchall()
        yield connection
    finally:
        backend.disconnect()


def select(connection: duckdb.DuckDBPyConnection, query: str) -> Rows:
    """Run one SELECT (or WITH, FROM, DESCRIBE, SHOW, SUMMARIZE). Raises ConfigError for anything else."""
    try:
        statements = connection.extract_statements(query)
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            raise ConfigError("only a single SELECT can be run here: a snapshot never changes.")
        reader = connection.sql(query).to_arrow_reader(_ROWS_AT_ONCE)
        return Rows(columns=tuple(reader.schema.names), rows=_rows(reader))
    except duckdb.Error as error:
        raise _refusal(error) from None


def _rows(reader: Any) -> Iterator[tuple[Any, ...]]:
    """Read Arrow batches: DuckDB's own row fetching wants a package of its own for instants."""
    try:
        for batch in reader:
            yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)
    except (duckdb.Error, OSError) as error:
        raise _refusal(error) from None
    except (OverflowError, ValueError):
        # Arrow's way to say that Python has no such value: a time beyond the year 9999, half a nanosecond.
        raise ConfigError(
            "the result holds a value that cannot be shown, such as a time without end. Cast it to varchar."
        ) from None


def _refusal(error: Exception) -> ConfigError:
    """Say what was wrong with a query. What DuckDB says of names is safe; what it says of values quotes them."""
    tables = "`select table_name from information_schema.tables` lists the tables."
    if isinstance(error, duckdb.ParserException | duckdb.BinderException | duckdb.CatalogException):
        said = " ".join(str(error).partition("\n\nLINE")[0].split())
        return ConfigError(f"the query was refused: {said}. {tables}")
    if isinstance(error, duckdb.PermissionException):
        return ConfigError(f"the query was refused: it may read the snapshot's tables and no file. {tables}")
    kind = type(error).__name__.removesuffix("Exception").removesuffix("Error").lower() or "engine"
    return ConfigError(
        f"the query failed with a {kind} error; its text is not shown because it quotes data. "
        "Check casts and types, e.g. with try_cast."
    )
