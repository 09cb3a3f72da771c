"""What a folder of a shop's exports holds: which file is which table, how it is written, and what the shop is.

Lives here: looking, with the readers that a build uses. Must not: write a project (`core.starter`) or change a file.

Heads are enough for everything but the newest order, which decides whether the data is live or a past sample.
"""

import codecs
import csv
import gzip
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final, Literal

import ibis.expr.types as ir
from babel.core import get_global
from babel.numbers import get_territory_currencies
from ibis.backends.duckdb import Backend

from .data import geography
from .data.canonical import MONEY, TABLES, TIMESTAMP
from .data.casting import cast, clean, looks_like
from .data.files import RawTable, read_csv, read_jsonl, read_parquet
from .errors import DataError
from .headers import Reading, readings
from .model import TraitType
from .reading import FileFormat, TableName, format_of

_HEAD: Final = 5_000
_BLOCK: Final = 1 << 20
_DELIMITERS: Final = (",", ";", "\t", "|")

# Countries with several time zones, by where most people live; elsewhere CLDR knows the one.
_MAIN_ZONE: Final[Mapping[str, str]] = {
    "AR": "America/Argentina/Buenos_Aires",
    "AU": "Australia/Sydney",
    "BR": "America/Sao_Paulo",
    "CA": "America/Toronto",
    "CL": "America/Santiago",
    "CN": "Asia/Shanghai",
    "CY": "Asia/Nicosia",
    "DE": "Europe/Berlin",
    "ES": "Europe/Madrid",
    "ID": "Asia/Jakarta",
    "MX": "America/Mexico_City",
    "MY": "Asia/Kuala_Lumpur",
    "NZ": "Pacific/Auckland",
    "PT": "Europe/Lisbon",
    "RU": "Europe/Moscow",
    "UA": "Europe/Kyiv",
    "US": "America/New_York",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFile:
    """One file: the table it was read as, or why it was not. `extra` are columns that no table of ours has."""

    path: Path
    table: TableName | None = None
    why: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    extra: tuple[str, ...] = ()
    delimiter: str | None = None
    encoding: str | None = None
    decimal: Literal[".", ","] = "."
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Exports:
    """What was found: the files, and what they say of the shop; None where they do not say."""

    files: tuple[DataFile, ...]
    country: str | None = None
    timezone: str | None = None
    currency: str | None = None
    newest_order: datetime | None = None

    def of(self, table: TableName) -> tuple[DataFile, ...]:
        """Give the files that hold rows of a table."""
        return tuple(file for file in self.files if file.table == table)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opened:
    """A file with its head in the engine."""

    file: DataFile
    form: FileFormat
    head: ir.Table


def look(con: Backend, folder: Path) -> Exports:
    """Look at the data files of a folder. Raises DataError when it cannot be read or holds none."""
    try:
        paths = sorted(
            path for path in folder.iterdir() if path.is_file() and format_of(path.name) is not None
        )
    except OSError as error:
        raise DataError(
            f"{folder}: {(error.strerror or 'cannot be read').lower()}. Name a folder with data files."
        ) from None
    if not paths:
        raise DataError(
            f"{folder}: holds no CSV, Parquet or JSONL file. Export the shop's tables into it first."
        )
    opened = [_open(con, path, f"export_{place}") for place, path in enumerate(paths)]
    files = _without_rivals([one.file if isinstance(one, _Opened) else one for one in opened])
    kept = {file.path for file in files if file.table is not None}
    heads = [one for one in opened if isinstance(one, _Opened) and one.file.path in kept]
    country = _most_common(_column(heads, ("customers", "orders"), "country"), geography.country_names())
    timezone = None if country is None else _zone(country)
    return Exports(
        files=tuple(files),
        country=country,
        timezone=timezone,
        currency=_currency(heads, country),
        newest_order=_newest_order(con, heads, timezone or "UTC"),
    )


def _open(con: Backend, path: Path, name: str) -> _Opened | DataFile:
    form = format_of(path.name) or "csv"
    try:
        encoding = None if form == "parquet" else _encoding(path)
        delimiter = _delimiter(path, encoding) if form == "csv" else None
        found = DataFile(path=path, delimiter=delimiter, encoding=encoding)
        raw = _read(con, name, found, form, head=_HEAD)
    except DataError as error:
        return DataFile(path=path, why=error.message)
    head = con.table(raw.name)
    best, *others = readings(path, raw.columns)
    if best.lacking:
        lacking = ", ".join(best.lacking)
        return DataFile(path=path, why=f"most like {best.table}, but no column looks like {lacking}")
    if _is_flat(best, others):
        why = "holds whole orders with their lines in one table: export orders and order lines apart"
        return DataFile(path=path, why=why)
    return _Opened(file=_described(found, best, head), form=form, head=head)


def _is_flat(best: Reading, others: Sequence[Reading]) -> bool:
    rivals = {reading.table for reading in (best, *others) if not reading.lacking}
    return not best.by_name and {"orders", "order_items"} <= rivals


def _described(found: DataFile, reading: Reading, head: ir.Table) -> DataFile:
    columns = dict(reading.columns)
    if reading.table == "orders" and "kind" in columns and not _is_document_kind(head[columns["kind"]]):
        del columns["kind"]
    unused = (theirs for theirs in head.columns if theirs not in columns.values() and theirs != "segue_row")
    extra = tuple(unused)
    numbers = [
        columns[column.name]
        for column in TABLES[reading.table]
        if column.name in columns and column.type.is_numeric()
    ]
    decimal = _decimal([head[theirs] for theirs in [*numbers, *extra]])
    doubts = tuple(_doubts(reading.table, columns, head, decimal))
    why = "by its name and columns" if reading.by_name else "by its columns"
    return DataFile(
        path=found.path,
        table=reading.table,
        why=why,
        columns=columns,
        extra=extra,
        delimiter=found.delimiter,
        encoding=found.encoding,
        decimal=decimal,
        doubts=doubts,
    )


def _is_document_kind(column: ir.Value) -> bool:
    """Whether a column tells orders from cancellations; a column of `paid` and `shipped` has the same name."""
    kinds = column.cast("string").lower().isin(["order", "cancellation", "adjustment"])
    return bool((column.isnull() | kinds).all().to_pyarrow().as_py())


def _doubts(
    table: TableName, columns: Mapping[str, str], head: ir.Table, decimal: Literal[".", ","]
) -> Iterator[str]:
    """Find the columns whose values a build would refuse."""
    types = {column.name: column.type for column in TABLES[table]}
    for ours, theirs in columns.items():
        broken = cast(head[theirs], types[ours], decimal=decimal).broken
        share = 0.0 if broken is None else float(broken.cast("int64").mean().to_pyarrow().as_py() or 0)
        if share > 0.02:
            yield f"{share:.0%} of {theirs} cannot be read as {_kind(types[ours])}"


def _kind(type_: object) -> str:
    return {TIMESTAMP: "times (ISO 8601, or 31.12.2011)", MONEY: "prices"}.get(type_, str(type_))


def _decimal(columns: Sequence[ir.Value]) -> Literal[".", ","]:
    """Find out which sign stands before the cents: the one that makes more of the texts numbers."""
    read: dict[Literal[".", ","], int] = {".": 0, ",": 0}
    for column in columns:
        if isinstance(column, ir.StringColumn):
            for sign in read:
                fits = looks_like(column, TraitType.NUMBER, decimal=sign) & ~clean(column).re_search(
                    r"^-?\d+$"
                )
                read[sign] += int(fits.sum().to_pyarrow().as_py() or 0)
    return "," if read[","] > read["."] else "."


def _without_rivals(files: Sequence[DataFile]) -> list[DataFile]:
    """Keep several files of one table only when they have the same columns: parts of one export.

    Of files that differ, the one with most of our columns stays.
    """
    richest: dict[TableName, DataFile] = {}
    for file in files:
        if file.table is not None and len(file.columns) > len(
            richest.get(file.table, DataFile(path=file.path)).columns
        ):
            richest[file.table] = file
    kept: list[DataFile] = []
    for file in files:
        best = file if file.table is None else richest[file.table]
        if (file.columns, file.extra) == (best.columns, best.extra):
            kept.append(file)
        else:
            why = f"{file.table} come from {best.path.name}, which has other columns"
            kept.append(DataFile(path=file.path, why=why))
    return kept


def _read(con: Backend, name: str, file: DataFile, form: FileFormat, *, head: int | None) -> RawTable:
    match form:
        case "csv":
            return read_csv(con, name, file.path, delimiter=file.delimiter, encoding=file.encoding, head=head)
        case "parquet":
            return read_parquet(con, name, file.path, head=head)
        case "jsonl":
            return read_jsonl(con, name, file.path, head=head)


def _encoding(path: Path) -> str | None:
    """Find out the encoding of a text file, None for UTF-8. Every byte is looked at: umlauts may come late."""
    opener = gzip.open if path.suffix == ".gz" else Path.open
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        with opener(path, "rb") as file:
            while block := file.read(_BLOCK):
                if block.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                    return "utf-16"
                decoder.decode(block)
            decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return "windows-1252"
    except OSError as error:
        raise DataError(f"cannot be read: {(error.strerror or 'damaged').lower()}") from None
    return None


def _delimiter(path: Path, encoding: str | None) -> str:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding=encoding or "utf-8-sig", newline="") as file:
        line = file.readline()
    return max(_DELIMITERS, key=lambda sign: len(next(csv.reader([line], delimiter=sign), [])))


def _column(heads: Sequence[_Opened], tables: Sequence[TableName], ours: str) -> ir.Value | None:
    """Give the first column that is ours, in the order of the tables."""
    for table in tables:
        for one in heads:
            if one.file.table == table and ours in one.file.columns:
                return one.head[one.file.columns[ours]]
    return None


def _most_common(column: ir.Value | None, names: ir.Table) -> str | None:
    """Bring a column to our codes by a table (spelling, code) and give the most frequent one."""
    if column is None or not isinstance(column, ir.StringColumn):
        return None
    code = names.columns[1]
    spelled = column.name("raw").as_table().mutate(spelling=lambda table: geography.key(table.raw))
    counted = spelled.inner_join(names, "spelling").group_by(code).agg(n=lambda table: table.count())
    rows = counted.order_by([counted.n.desc(), code]).limit(1).to_pyarrow().to_pylist()
    return str(rows[0][code]) if rows else None


def _zone(country: str) -> str | None:
    zones = [zone for zone, place in get_global("zone_territories").items() if place == country]
    return _MAIN_ZONE.get(country) or (zones[0] if len(zones) == 1 else None)


def _currency(heads: Sequence[_Opened], country: str | None) -> str | None:
    column = _column(heads, ("orders", "products", "customers"), "currency")
    named = _most_common(column, geography.currency_names())
    if named is not None or country is None:
        return named
    return next(iter(get_territory_currencies(country)), None)


def _newest_order(con: Backend, heads: Sequence[_Opened], timezone: str) -> datetime | None:
    newest: list[datetime] = []
    for place, one in enumerate(head for head in heads if head.file.table == "orders"):
        raw = _read(con, f"orders_{place}", one.file, one.form, head=None)
        column = con.table(raw.name)[one.file.columns["ordered_at"]]
        # As Arrow: DuckDB's own row fetching wants a package of its own for instants.
        latest = cast(column, TIMESTAMP, timezone=timezone).value.max().to_pyarrow().as_py()
        newest += [latest] if latest is not None else []
    return max(newest, default=None)
