"""One SQLite file or PostgreSQL database: connections, transactions, and what its refusals mean to a person.

Nothing here knows what the tables hold.

Decisions. Writers on SQLite begin IMMEDIATE: a deferred transaction that reads first and writes later fails at once
under a second writer, without waiting. `synchronous` is FULL, because a confirmed outcome that a power cut takes back
would be sent again. Bulk inserts go past SQLAlchemy, whose handling of parameters takes half the time of a load: on
SQLite as tuples for the driver's executemany, on PostgreSQL by COPY or as binary arrays.
"""

import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import cache
from itertools import chain, islice
from pathlib import Path
from threading import Lock
from typing import Any, Final, Literal, TypeVar

import orjson
import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy import event, exc
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.engine import URL, Connection, Dialect, Engine

from ...core.errors import ConfigError, StoreError
from .schema import HEAD

ROWS_PER_TRANSACTION: Final = 10_000
"""What bulk writes group: large enough that the disk's flush is not the cost, small enough to let others in."""

ROWS_PER_FETCH: Final = 20_000
"""What streaming reads hold in memory at a time."""

KEYS_PER_QUERY: Final = 5_000
"""How many keys one `IN` names; SQLite takes 32,766 parameters, PostgreSQL 65,535."""

_ROWS_PER_STATEMENT: Final = (
    250  # of an insert: a statement a row would let another thread in between after each
)

Conflict = Literal["replace", "ignore"] | None
"""What an insert does where its row is there already; None: it cannot be."""

T = TypeVar("T")


def parse_url(url: str) -> URL:
    """Read `sqlite:///path` or `postgresql://...`. Raises ConfigError without repeating it: it may hold a password."""
    try:
        parsed = sa.make_url(url)
    except exc.ArgumentError:
        parsed = URL.create("unreadable")
    match parsed.drivername:
        case "sqlite" if parsed.database and parsed.database != ":memory:":
            return parsed
        case "postgresql" | "postgres" | "postgresql+psycopg":
            return parsed.set(drivername="postgresql+psycopg")
        case _:
            raise ConfigError(
                "segue.yml, store: the value is not a store that Segue knows. "
                "Write `sqlite`, `sqlite:///path/to/store.db` or `postgresql://user@host/database`."
            )


def grouped(rows: Iterable[T], size: int) -> Iterator[list[T]]:
    """Give rows in lists of `size`; the last may be shorter."""
    remaining = iter(rows)
    while group := list(islice(remaining, size)):
        yield group


def parts(batches: pa.Table | pa.RecordBatchReader | Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Give a table's or a stream's rows in batches that fit one transaction."""
    given: Any = batches
    for batch in given.to_batches() if isinstance(given, pa.Table) else given:
        for start in range(0, batch.num_rows, ROWS_PER_TRANSACTION):
            yield batch.slice(start, ROWS_PER_TRANSACTION)


class Database:
    """An open database with all tables up to date. Close it; safe to share between threads.

    `busy_seconds` is how long a writer waits for another process before StoreError.
    """

    def __init__(self, url: URL, *, busy_seconds: float) -> None:
        # Without the query, where a password can hide too.
        self.label = f"the store {url.set(query={}).render_as_string(hide_password=True)}"
        self._engine = (
            _sqlite(url, busy_seconds) if url.drivername == "sqlite" else _postgresql(url, busy_seconds)
        )
        # SQLite lets one write at a time; without this its threads would look again and again, with pauses, whether
        # they may.
        self._turn = Lock() if url.drivername == "sqlite" else nullcontext()
        self._writer = self._engine.execution_options(segue_writes="durable")
        self._quick_writer = self._engine.execution_options(segue_writes="quick")
        self._ends: list[Callable[[Connection], None]] = []
        try:
            self._upgrade()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let all connections go."""
        self._engine.dispose()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Give a connection that sees one state of the store and never blocks a writer."""
        with self._explained(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def write(self, *, durable: bool = True) -> Iterator[Connection]:
        """Give a connection whose statements become true together when the block ends, or not at all.

        What is not durable survives the end of this process, but a power cut only from the next durable write on.
        """
        writer = self._writer if durable else self._quick_writer
        with self._turn, self._explained(), writer.begin() as connection:
            yield connection
            for end in self._ends:
                end(connection)

    def end_writes_with(self, end: Callable[[Connection], None]) -> None:
        """Have something done as the last part of every write from now on: what it locks, nobody waits for long."""
        self._ends.append(end)

    def compact(self) -> None:
        """Have SQLite write its file anew, without what was there before; PostgreSQL does so when it is told to."""
        if self._engine.dialect.name == "sqlite":
            alone = self._engine.execution_options(segue_writes="alone")
            with self._turn, self._explained(), alone.connect() as connection:
                connection.exec_driver_sql("VACUUM")
        self.forget_log()

    def forget_log(self) -> None:
        """Have SQLite empty its log; in the file itself what is removed is overwritten. PostgreSQL does so by VACUUM."""
        if self._engine.dialect.name == "sqlite":
            alone = self._engine.execution_options(segue_writes="alone")
            with self._turn, self._explained(), alone.connect() as connection:
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")

    def stream(
        self, query: sa.Select[*tuple[Any, ...]], *, rows: int = ROWS_PER_FETCH
    ) -> Iterator[Sequence[sa.Row[Any]]]:
        """Run a query of any size, at most `rows` rows in memory at a time."""
        with self.read() as connection:
            yield from connection.execution_options(yield_per=rows).execute(query).partitions()

    def _upgrade(self) -> None:
        with self.read() as connection:
            known = sa.inspect(connection).has_table("alembic_version")
            if known and _version(connection) == HEAD:
                return
        from .migrate import upgrade  # Alembic costs a quarter of a second to import

        with self.write() as connection:
            upgrade(connection, self.label)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except exc.TimeoutError as error:
            raise StoreError(
                f"{self.label}: all connections are in use. Run fewer things at once."
            ) from error
        except exc.DBAPIError as error:
            meaning = _meaning(error)
            if meaning is None:
                raise
            raise StoreError(f"{self.label}: {meaning} What was stored before stays.") from error


def insert(connection: Connection, table: sa.Table, *, on_conflict: Conflict) -> sa.Insert:
    """Build an insert that, where the primary key is there already, replaces the row or leaves it.

    "ignore" holds for every unique constraint of the table.
    """
    return _insert(connection.dialect.name, table, tuple(table.columns.keys()), on_conflict)


@cache
def _insert(
    dialect: str, table: sa.Table, names: tuple[str, ...], on_conflict: Conflict
) -> sqlite.Insert | postgresql.Insert:
    build = sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)
    if on_conflict is None:
        return build
    if on_conflict == "ignore":
        return build.on_conflict_do_nothing()
    keys = [column.name for column in table.primary_key]
    rest = {name: build.excluded[name] for name in names if name not in keys}
    return build.on_conflict_do_update(index_elements=keys, set_=rest)


def insert_columns(
    connection: Connection,
    table: sa.Table,
    columns: Mapping[str, Sequence[object]],
    same: Mapping[str, object],
    *,
    on_conflict: Conflict,
) -> int:
    """Insert many rows given as columns of equal length, and `same` in each; give how many were written.

    Values go to the driver as they are: instants as microseconds, not as datetimes. To "replace", each row may be
    given once, and keeps what it has in columns that are not given.
    """
    length = len(next(iter(columns.values())))
    if length == 0:
        return 0
    given = dict(columns) | {name: [value] * length for name, value in same.items()}
    if on_conflict is None and connection.dialect.name == "postgresql":
        _copy(connection, table, list(given), zip(*given.values(), strict=True))
        return length
    if connection.dialect.name == "postgresql":
        statement, names = _from_arrays(table, tuple(given), on_conflict)
        return connection.exec_driver_sql(statement, tuple(list(given[name]) for name in names)).rowcount
    written = 0
    for rows in grouped(range(length), _ROWS_PER_STATEMENT):
        statement, names = _from_rows(table, tuple(given), on_conflict, len(rows))
        some = zip(*(given[name][rows[0] : rows[-1] + 1] for name in names), strict=True)
        written += connection.exec_driver_sql(statement, tuple(chain.from_iterable(some))).rowcount
    return written


@cache
def _from_rows(
    table: sa.Table, names: tuple[str, ...], on_conflict: Conflict, rows: int
) -> tuple[str, tuple[str, ...]]:
    """Write an insert of so many rows down for SQLite; give its text and the order of each row's parameters."""
    compiled = _insert("sqlite", table, names, on_conflict).compile(
        dialect=_numbered("sqlite"), column_keys=names
    )
    order = tuple(compiled.positiontup or ())
    row = f"({', '.join('?' * len(order))})"
    into, one, rest = str(compiled).partition(f"VALUES {row}")
    return f"{into}{one}{f', {row}' * (rows - 1)}{rest}", order


@cache
def _from_arrays(
    table: sa.Table, names: tuple[str, ...], on_conflict: Conflict
) -> tuple[str, tuple[str, ...]]:
    """Write an insert of arrays, one a column, down for PostgreSQL; give its text and the order of its parameters."""
    dialect = _numbered("postgresql")
    arrays = ", ".join(f"CAST(:{name} AS {table.c[name].type.compile(dialect)}[])" for name in names)
    rows = sa.text(f"SELECT * FROM unnest({arrays})").columns(*(table.c[name] for name in names))
    compiled = (
        _insert("postgresql", table, names, on_conflict).from_select(names, rows).compile(dialect=dialect)
    )
    # In binary form; as text, which the driver would choose, arrays are slower than one statement a row.
    return str(compiled).replace("%s", "%b"), tuple(compiled.positiontup or ())


def _copy(
    connection: Connection, table: sa.Table, names: Sequence[str], rows: Iterable[tuple[object, ...]]
) -> None:
    """Insert rows by COPY, in its binary form: an error of the text form would quote what was to be written."""
    quoted = ", ".join(f'"{name}"' for name in names)
    statement = f'COPY "{table.name}" ({quoted}) FROM STDIN (FORMAT BINARY)'
    driver: Any = connection.connection.driver_connection
    dbapi: Any = connection.dialect.dbapi
    try:
        with driver.cursor() as cursor, cursor.copy(statement) as copy:
            copy.set_types([table.c[name].type.compile(connection.dialect).lower() for name in names])
            for row in rows:
                copy.write_row(row)
    except dbapi.Error as error:  # SQLAlchemy knows nothing of this call, so it does not wrap what it raises
        raise exc.DBAPIError.instance(
            statement, None, error, dbapi.Error, hide_parameters=True, dialect=connection.dialect
        ) from error


def among(
    connection: Connection, query: sa.Select[*tuple[Any, ...]], column: sa.Column[Any], keys: Iterable[object]
) -> Iterator[sa.Row[Any]]:
    """Run a query without an order for the rows whose `column` is one of any number of `keys`.

    Values come from the driver as they are: instants as microseconds.
    """
    for result in _by_keys(connection, query, column, keys):
        yield from result


def plain_among(
    connection: Connection, query: sa.Select[*tuple[Any, ...]], column: sa.Column[Any], keys: Iterable[int]
) -> Iterator[Sequence[Any]]:
    """Do as `among` where all that is asked for are integers and texts.

    SQLite gives them in one piece: fetched row by row, each would let another thread in between.
    """
    if connection.dialect.name != "sqlite":
        yield from among(connection, query, column, keys)
        return
    names = ", ".join(f'"{each.name}"' for each in query.selected_columns)
    text, fixed = _before_keys(connection, query, column)
    statement = f"SELECT json_group_array(json_array({names})) FROM ({text}(SELECT value FROM json_each(?)))"
    for group in grouped(keys, KEYS_PER_QUERY):
        given = (*fixed, orjson.dumps(group).decode())
        yield from orjson.loads(connection.exec_driver_sql(statement, given).scalar_one())


def remove(
    connection: Connection, statement: sa.Delete, column: sa.Column[Any], keys: Iterable[object]
) -> int:
    """Run a delete for the rows whose `column` is one of any number of `keys`; give how many there were."""
    return sum(result.rowcount for result in _by_keys(connection, statement, column, keys))


def _by_keys(
    connection: Connection,
    statement: sa.Select[*tuple[Any, ...]] | sa.Delete,
    column: sa.Column[Any],
    keys: Iterable[object],
) -> Iterator[sa.CursorResult[Any]]:
    """Run a statement for groups of keys.

    SQLAlchemy's own IN takes three times as long to write down as the database takes to look up.
    """
    mark = "?" if connection.dialect.positional else "%s"
    text, fixed = _before_keys(connection, statement, column)
    for group in grouped(keys, KEYS_PER_QUERY):
        yield connection.exec_driver_sql(f"{text}({','.join([mark] * len(group))})", (*fixed, *group))


def _before_keys(
    connection: Connection, statement: sa.Select[*tuple[Any, ...]] | sa.Delete, column: sa.Column[Any]
) -> tuple[str, tuple[Any, ...]]:
    """Write a statement down up to the keys of its IN; give its text and its parameters up to there."""
    mark = "?" if connection.dialect.positional else "%s"
    compiled = statement.where(sa.text(f"{column.table.name}.{column.name} IN (:keys)")).compile(
        dialect=_numbered(connection.dialect.name)
    )
    fixed = tuple(compiled.params[name] for name in list(compiled.positiontup or ())[:-1])
    return str(compiled).removesuffix(f"({mark})"), fixed


@cache
def _numbered(dialect: str) -> Dialect:
    """Give a dialect whose parameters have places and not names, so that rows may be plain tuples."""
    if dialect == "sqlite":
        return sqlite.dialect()
    return PGDialect_psycopg(paramstyle="format")  # type: ignore[no-untyped-call]  # SQLAlchemy leaves it untyped


def _version(connection: Connection) -> str | None:
    return connection.execute(sa.text("select version_num from alembic_version")).scalar()


def _sqlite(url: URL, busy_seconds: float) -> Engine:
    path = Path(str(url.database))
    if not url.query:
        # Made here and not by SQLite, so that no other user of the machine can read it; its -wal inherits the mode.
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileExistsError):
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except OSError as error:
            raise StoreError(
                f"the store {path} cannot be made: {error.strerror}. Choose a folder that can be written."
            ) from error
    engine = sa.create_engine(url, hide_parameters=True, connect_args={"timeout": busy_seconds})

    @event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # the module must not begin transactions of its own
        for pragma in (
            "journal_mode = WAL",
            "synchronous = FULL",
            "foreign_keys = ON",
            "secure_delete = ON",  # what is erased is overwritten, and not only forgotten
            "cache_size = -32768",  # KiB: hashed keys touch pages all over, which the default 2 MiB spills to disk
            "wal_autocheckpoint = 8192",  # pages: and copying them back after each group costs as much as the group
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        match connection.get_execution_options().get("segue_writes"):
            case None:
                connection.exec_driver_sql("BEGIN")
            case "alone":
                pass  # what cannot be part of a transaction
            case kind:
                connection.exec_driver_sql(
                    f"PRAGMA synchronous = {'FULL' if kind == 'durable' else 'NORMAL'}"
                )
                connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _postgresql(url: URL, busy_seconds: float) -> Engine:
    engine = sa.create_engine(
        url,
        hide_parameters=True,
        connect_args={
            "application_name": "segue",
            "connect_timeout": 10,
            "options": f"-c lock_timeout={int(busy_seconds * 1000)}",
        },
    )

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        if connection.get_execution_options().get("segue_writes") == "quick":
            connection.exec_driver_sql("SET LOCAL synchronous_commit = off")

    return engine


_SQLITE: Final = {
    "SQLITE_FULL": "the disk is full. Make room and run again.",
    "SQLITE_BUSY": "another process holds it. Wait until that one is done, then run again.",
    "SQLITE_READONLY": "it may only be read. Give this user the right to write the file and its folder.",
    "SQLITE_CANTOPEN": "it cannot be opened. Check that the folder exists and that this user may write there.",
    "SQLITE_IOERR": "the disk failed while reading or writing. Check the disk and its free space, then run again.",
    "SQLITE_CORRUPT": "the file is damaged. Restore it from a backup.",
    "SQLITE_NOTADB": "the file is not a SQLite database. Point `store` at another file.",
}

_POSTGRESQL: Final = {  # by SQLSTATE or its class
    "28": "the server refused the user or the password. Check the URL that `store` names.",
    "3D": "the server has no such database. Create it, or correct the URL that `store` names.",
    "42501": "this user may not do that there. Grant it the right to create and write tables.",
    "25006": "the server takes no writes (a standby?). Point `store` at the primary.",
    "53100": "the server's disk is full. Make room and run again.",
    "53": "the server is out of connections or memory. Run again later.",
    "55P03": "another process holds it. Wait until that one is done, then run again.",
    "40": "another process wrote the same rows at the same time. Run again.",
    "57": "the server is starting or stopping, or ended the connection. Run again later.",
    "08": "the connection to the server broke. Run again.",
    "58": "the server's disk failed. Look at the server's log.",
    "XX": "the server reports damage. Look at the server's log.",
}


def sqlite_meaning(error: sqlite3.Error) -> str | None:
    """Say what SQLite's refusal means and what to do; None for one that only a mistake in Segue can cause."""
    name = getattr(error, "sqlite_errorname", "")
    return next((text for code, text in _SQLITE.items() if name.startswith(code)), None)


def _meaning(error: exc.DBAPIError) -> str | None:
    """Say what a driver's error means and what to do; None for one that only a mistake in Segue can cause."""
    cause = error.orig
    if isinstance(cause, sqlite3.Error):
        return sqlite_meaning(cause)
    state = getattr(cause, "sqlstate", None)
    if state:
        return next((text for code, text in _POSTGRESQL.items() if state.startswith(code)), None)
    if isinstance(error, exc.OperationalError):
        # Before a session exists the driver gives no SQLSTATE, only the server's words (never the password).
        words = str(cause).strip().splitlines()[0].rpartition("failed: ")[2].removeprefix("FATAL:").strip()
        return (
            f"there is no connection to the server ({words}). Check that it runs, and the user, the password and "
            "the database in the URL that `store` names."
        )
    return None
