"""CSV, JSONL and Parquet files as raw tables of the engine: every CSV and JSON value arrives as text.

Lives here: delimiters, encodings, broken lines. Must not: know a canonical column or what a value means.

Everything is read as text and cast by `core.data.casting`, so that one bad value is one quarantined row. The loser was
DuckDB's type sniffing: it decides by a sample, and the first surprise behind the sample fails the whole read.
"""

import codecs
import csv
import gzip
import shutil
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, TextIO

from ibis.backends.duckdb import Backend

from ..errors import DataError
from .engine import reading

ROW: Final = "segue_row"  # 1 for the first data row of a source; a header is not counted

_DELIMITERS: Final = (",", ";", "\t", "|")
_LONGEST_HEADER: Final = 1 << 20  # characters; what is longer is no header
_NATIVE_ENCODINGS: Final = frozenset({"utf-8", "utf-8-sig", "ascii"})


@dataclass(frozen=True, slots=True, kw_only=True)
class RawTable:
    """A table of the engine as it was read: `columns` in their order, and the column ROW.

    `rejects` names a table (row, value_class, detail) of lines that could not be read, None when there is none.
    """

    name: str
    columns: tuple[str, ...]
    rejects: str | None = None


def quoted(name: str) -> str:
    """Quote an identifier for SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Quote a text for SQL."""
    return "'" + text.replace("'", "''") + "'"


def read_parquet(con: Backend, name: str, path: Path, *, head: int | None = None) -> RawTable:
    """Read a Parquet file, lazily. Raises DataError."""
    _must_be_readable(path)
    limit = "" if head is None else f" limit {head}"
    with reading("is no Parquet file, or a damaged one. Export it again."):
        con.raw_sql(
            f"create temp view {quoted(name)} as select file_row_number + 1 as {ROW}, * exclude (file_row_number) "
            f"from read_parquet({literal(str(path))}, file_row_number = true){limit}"
        ).fetchall()
    return RawTable(name=name, columns=_columns(con, name))


def read_csv(
    con: Backend,
    name: str,
    path: Path,
    *,
    delimiter: str | None = None,
    encoding: str | None = None,
    head: int | None = None,
) -> RawTable:
    """Read a CSV file with a header line, compressed with gzip or not. Raises DataError.

    Without a delimiter, the one of `, ; tab |` that splits the header into most columns is taken. A file in another
    encoding than UTF-8 is brought into UTF-8 first, through a temporary file.
    """
    _must_be_readable(path)
    encoding = codecs.lookup(encoding or "utf-8").name
    header, delimiter = _header(path, encoding, delimiter)
    with _as_utf8(path, encoding) as (utf8, packed):
        columns = ", ".join(f"{literal(column)}: 'VARCHAR'" for column in header)
        limit = "" if head is None else f" limit {head}"
        rejects = f"{name}_rejects"
        with reading("cannot be read as CSV. Are delimiter, quotes and compression as configured?"):
            con.raw_sql(
                f"create temp table {quoted(name)} as select row_number() over () as {ROW}, * "
                f"from read_csv({literal(str(utf8))}, auto_detect = false, header = true, columns = {{{columns}}}, "
                f"delim = {literal(delimiter)}, quote = '\"', escape = '\"', compression = '{'gzip' if packed else 'none'}', "
                f"store_rejects = true, rejects_table = {literal(rejects)}, rejects_scan = {literal(name + '_scan')})"
                f"{limit}"
            ).fetchall()
    return RawTable(name=name, columns=header, rejects=_csv_rejects(con, name, rejects, encoding))


def read_jsonl(con: Backend, name: str, path: Path, *, head: int | None = None) -> RawTable:
    """Read a file of one JSON object a line. Its columns are all keys that occur. Raises DataError.

    Lists and objects arrive as their JSON text.
    """
    _must_be_readable(path)
    lines, rejects = f"{name}_lines", f"{name}_rejects"
    limit = "" if head is None else f" limit {head}"
    with reading("cannot be read as JSONL in UTF-8: one JSON object to a line is needed."):
        con.raw_sql(
            f"create temp table {quoted(lines)} as select row_number() over () as {ROW}, json "
            f"from read_ndjson_objects({literal(str(path))}, ignore_errors = true, "
            f"compression = '{'gzip' if _is_gzip(path) else 'none'}'){limit}"
        ).fetchall()
        keys = [
            row[0]
            for row in con.raw_sql(
                f"select key from (select {ROW}, unnest(json_keys(json)) as key from {quoted(lines)} "
                "where json_type(json) = 'OBJECT') group by key order by min(segue_row), key"
            ).fetchall()
        ]
        must_be_distinct(keys)
        values = "".join(
            f", json_extract_string(json, {literal('/' + key.replace('~', '~0').replace('/', '~1'))}) as {quoted(key)}"
            for key in keys
        )
        con.raw_sql(
            f"create temp table {quoted(name)} as select {ROW}{values} from {quoted(lines)} "
            "where json_type(json) = 'OBJECT'"
        ).fetchall()
        con.raw_sql(
            f"create temp table {quoted(rejects)} as select {ROW}, "
            "case when json is null then 'text' else 'another JSON value' end as value_class, "
            "'not a JSON object' as detail "
            f"from {quoted(lines)} where json_type(json) is distinct from 'OBJECT'"
        ).fetchall()
        con.raw_sql(f"drop table {quoted(lines)}").fetchall()
    return RawTable(name=name, columns=tuple(keys), rejects=rejects)


@contextmanager
def spooled(stream: BinaryIO, suffix: str) -> Iterator[Path]:
    """Keep what comes through a pipe in a temporary file for as long as it is read."""
    with tempfile.NamedTemporaryFile(prefix="segue-stdin-", suffix=suffix) as file:
        shutil.copyfileobj(stream, file)
        file.flush()
        yield Path(file.name)


def _columns(con: Backend, name: str) -> tuple[str, ...]:
    return tuple(column for column in con.table(name).columns if column != ROW)


def _must_be_readable(path: Path) -> None:
    try:
        if not path.exists():
            raise DataError("there is no such file. Correct the path, or put the file there.")
        if not path.is_file():
            what = "a folder" if path.is_dir() else "a device or a pipe"
            raise DataError(f"is {what}, not a file. Name the file.")
        with path.open("rb"):
            pass
    except OSError as error:
        raise DataError(
            f"cannot be opened: {error.strerror}. Correct the path, or let the user of this process read it."
        ) from error


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _open_text(path: Path, encoding: str, *, errors: str = "strict") -> TextIO:
    readable = "utf-8-sig" if encoding == "utf-8" else encoding
    if _is_gzip(path):
        return gzip.open(path, "rt", encoding=readable, errors=errors, newline="")
    return path.open(encoding=readable, errors=errors, newline="")


def _header(path: Path, encoding: str, delimiter: str | None) -> tuple[tuple[str, ...], str]:
    line = _header_line(path, encoding)
    if not line.strip():
        raise DataError(
            "is empty: it has no header line with the names of its columns. Export it with a header."
        )
    try:
        splits = {
            candidate: next(csv.reader(line.splitlines(keepends=True), delimiter=candidate))
            for candidate in ([delimiter] if delimiter else _DELIMITERS)
        }
    except csv.Error as error:
        raise _no_header() from error
    found = max(splits, key=lambda candidate: len(splits[candidate]))
    header = [column.strip() or f"column_{place}" for place, column in enumerate(splits[found], 1)]
    must_be_distinct(header)
    return tuple(header), found


def _header_line(path: Path, encoding: str) -> str:
    """Give the first line, and those after it that belong to it because a quote is open."""
    pieces: list[str] = []
    length = quotes = 0
    try:
        # A file is decoded in blocks: a wrong byte further down must not be blamed on the header.
        with _open_text(path, encoding, errors="replace") as file:
            while not pieces or quotes % 2:
                more = file.readline(_LONGEST_HEADER)
                if not more:
                    break
                pieces.append(more)
                length += len(more)
                quotes += more.count('"')
                if length >= _LONGEST_HEADER:
                    raise _no_header()
    except UnicodeError as error:  # UTF-16 without its first mark: that is not replaced
        raise _wrong_encoding(encoding, "its header") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError("cannot be unpacked: it is a damaged gzip file. Export it again.") from error
    line = "".join(pieces)
    if "\N{REPLACEMENT CHARACTER}" in line:
        raise _wrong_encoding(encoding, "its header")
    return line


def _no_header() -> DataError:
    return DataError(
        "has no header that can be read: its first line is far too long, or a quote in it is left open. "
        "Export it as CSV with the names of its columns in the first line."
    )


def must_be_distinct(columns: Sequence[str]) -> None:
    """Raise DataError when two columns have one name, or one has none or ours."""
    seen: set[str] = set()
    for column in columns:
        if not column:
            raise DataError("has a column without a name. Name it.")
        if column.casefold() in seen:
            raise DataError(f'has two columns called "{column}", apart from capitals. Rename one of them.')
        seen.add(column.casefold())
    if ROW in seen:
        raise DataError(f'has a column called "{ROW}", which is a name of ours. Rename it.')


@contextmanager
def _as_utf8(path: Path, encoding: str) -> Iterator[tuple[Path, bool]]:
    """Give a UTF-8 file and whether it is packed; `path` itself when it is one."""
    if encoding in _NATIVE_ENCODINGS:
        yield path, _is_gzip(path)
        return
    with tempfile.NamedTemporaryFile(
        "w", prefix="segue-utf8-", suffix=".csv", encoding="utf-8", newline=""
    ) as file:
        try:
            with _open_text(path, encoding) as text:
                shutil.copyfileobj(text, file)
        except UnicodeError as error:
            raise _wrong_encoding(encoding, "a character in it") from error
        except (EOFError, zlib.error) as error:
            raise DataError("cannot be unpacked: it is a damaged gzip file. Export it again.") from error
        file.flush()
        yield Path(file.name), False


def _wrong_encoding(encoding: str, place: str) -> DataError:
    return DataError(
        f"is not in the encoding {encoding}: {place} cannot be read. "
        "Set `encoding:` of the source, e.g. windows-1252, or export the file as UTF-8."
    )


def _csv_rejects(con: Backend, name: str, rejects: str, encoding: str) -> str | None:
    """Bring DuckDB's reject table into our shape and put the rows that follow a rejected one back in their place."""
    # DuckDB counts the header as line 1 and a line break within quotes as no line.
    undecodable, broken = con.raw_sql(
        "select min(line - 1) filter (error_type = 'INVALID ENCODING'), count(distinct line) "
        f"from {quoted(rejects)}"
    ).fetchall()[0]
    if undecodable is not None:
        raise _wrong_encoding(encoding, f"row {undecodable}")
    if broken:
        # The n-th rejected row, at place p, moves every row from the (p - n + 1)-th accepted one on by one.
        con.raw_sql(f"""
            create temp table {quoted(name + "_bad")} as
            select line - 1 as {ROW}, any_value(case error_type when 'MISSING COLUMNS' then 'too few columns'
                when 'TOO MANY COLUMNS' then 'too many columns'
                when 'LINE SIZE OVER MAXIMUM' then 'too long a line' else 'broken quotes' end) as value_class,
                'the line does not fit the header' as detail
            from {quoted(rejects)} group by line;
            create or replace temp table {quoted(name)} as
            select accepted.* replace (accepted.{ROW} + coalesce(rejected.n, 0) as {ROW})
            from {quoted(name)} as accepted asof left join (
                select max(n) as n, place - n as before
                from (select {ROW} as place, row_number() over (order by {ROW}) as n from {quoted(name + "_bad")})
                group by before
            ) as rejected on accepted.{ROW} > rejected.before""").fetchall()
    con.raw_sql(f"drop table {quoted(rejects)}; drop table {quoted(name + '_scan')}").fetchall()
    return f"{name}_bad" if broken else None
