"""Whole columns out of the store as Arrow, at the speed of the database: what a plan over millions of contacts reads.

Nothing here knows what the tables hold, and nothing is written.

Decision. The database joins the values of a column into one text for some ten thousand rows, and Arrow parses it: a
third of the time of fetching rows, most of which goes into a Python object per value. The losers were ADBC's drivers,
which are faster still: theirs brings a SQLite of its own, and two copies of SQLite in one process break each other's
locks on a file (https://www.sqlite.org/howtocorrupt.html, "Multiple copies of SQLite"), while the lease is renewed on
the same store.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import pyarrow as pa
import sqlalchemy as sa
from pyarrow import csv

from .database import Database

ROWS: Final = 50_000
_EVERY_LINE: Final = csv.ParseOptions(delimiter="\t", quote_char=False, ignore_empty_lines=False)
_ONE_COLUMN: Final = csv.ReadOptions(column_names=["value"], use_threads=False)


def stream_columns(
    database: Database,
    columns: Sequence[sa.Column[Any]],
    key: sa.Column[int],
    *conditions: sa.ColumnElement[bool],
    schema: pa.Schema,
) -> Iterator[pa.RecordBatch]:
    """Give columns of a table as batches of `schema`, all of one state of the store, ordered by `key`.

    `key` is not negative and unique under the conditions, which a primary key should serve. A column holds integers,
    null or not, words of a closed list, or hashes of 16 bytes.
    """
    with database.read() as connection:
        sqlite = connection.dialect.name == "sqlite"
        if not sqlite:
            connection.execute(sa.text("set transaction isolation level repeatable read"))
        texts = [
            _joined(column, kind.type, sqlite=sqlite) for column, kind in zip(columns, schema, strict=True)
        ]
        after: int | None = -1
        while after is not None:
            rest = (*conditions, key > after)
            after = connection.scalar(sa.select(key).where(*rest).order_by(key).offset(ROWS - 1).limit(1))
            found = connection.execute(
                sa.select(*texts).where(*rest, *([] if after is None else [key <= after]))
            ).one()
            if found[0] is not None:
                yield pa.record_batch(
                    [_parsed(text, kind.type) for text, kind in zip(found, schema, strict=True)],
                    schema=schema,
                )


def _joined(column: sa.Column[Any], kind: pa.DataType, *, sqlite: bool) -> sa.ColumnElement[str]:
    """Give a column's values as one text, a line each; a null is an empty line, a hash is hexadecimal."""
    value: sa.ColumnElement[str]
    if pa.types.is_binary(kind):
        value = sa.func.hex(column) if sqlite else sa.func.encode(column, "hex")
    elif column.nullable:
        value = sa.func.coalesce(sa.cast(column, sa.Text), sa.literal_column("''"))
    else:
        value = sa.cast(column, sa.Text)
    return sa.func.aggregate_strings(value, "\n")


def _parsed(text: str, kind: pa.DataType) -> pa.Array:
    if pa.types.is_binary(kind):
        hashes = bytes.fromhex(text)  # which skips the ends of lines
        fixed = pa.binary(16)
        return pa.Array.from_buffers(fixed, len(hashes) // 16, [None, pa.py_buffer(hashes)]).cast(kind)
    if not text.strip("\n"):
        return pa.nulls(len(text) + 1, kind)
    plain = pa.int64() if pa.types.is_timestamp(kind) else kind
    table = csv.read_csv(
        pa.py_buffer(f"{text}\n".encode()),
        read_options=_ONE_COLUMN,
        parse_options=_EVERY_LINE,
        convert_options=csv.ConvertOptions(column_types={"value": plain}),
    )
    return table.column(0).combine_chunks().cast(kind)
