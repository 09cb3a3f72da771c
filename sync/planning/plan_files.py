"""The files of a plan: one row per step and one per withheld contact, as Parquet, encrypted when the store is.

Lives here: how they are written, named and read. Must not: what is in them.

Decision. Each plan's files have a key of their own, which is kept, sealed, in the plan's manifest. So a new encryption
key re-seals a line of the store and no file; and files whose plan is gone cannot be read by anybody. The encryption is
Parquet's own, AES-256 in GCM, which other tools read as well.
"""

import hashlib
import hmac
import os
from base64 import b64encode
from binascii import a2b_base64
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.parquet import encryption

from ...core.errors import StoreError
from ..store.schema import plan as plans
from ..store.sealing import Sealing
from .diff import ROWS_PER_GROUP


def new_key(sealing: Sealing) -> str:
    """Make the key of a new plan's files, sealed; empty when nothing is encrypted."""
    if not sealing.is_on:
        return ""
    return sealing.seal_text(b64encode(os.urandom(32)).decode(), plans.name, "file_key")


def freeze(
    con: duckdb.DuckDBPyConnection, table: str, order: str, folder: Path, key: str, sealing: Sealing
) -> Path:
    """Write a table into a file that is named by its own content, so that an edited one is found."""
    unnamed = folder / f"{table}.parquet.part"
    secret = _secret(table, key, sealing)
    properties = encryption.create_encryption_properties(secret) if secret else None
    # A group at a time, not by COPY: that keeps several groups in memory for each thread, and a first load runs out of it.
    rows = con.sql(f"SELECT * FROM {table} ORDER BY {order}").to_arrow_reader(ROWS_PER_GROUP)
    with pq.ParquetWriter(unnamed, rows.schema, encryption_properties=properties) as file:
        for batch in rows:
            file.write_batch(batch)
    named = folder / f"{table}-{_digest(unnamed)}.parquet"
    unnamed.replace(named)
    return named


def is_whole(path: Path) -> bool:
    """Whether a file is there and as it was written."""
    return path.exists() and _digest(path) == path.stem.rpartition("-")[2]


def opened(path: Path, key: str, sealing: Sealing) -> pq.ParquetFile:
    """Open a file to read it in batches. Raises StoreError when it does not open with its key."""
    secret = _secret(_table(path), key, sealing)
    try:
        return pq.ParquetFile(
            path, decryption_properties=encryption.create_decryption_properties(secret) if secret else None
        )
    except OSError as error:
        raise StoreError(
            f"the plan's file {path.name} cannot be read: it is missing, or is not the one that the plan wrote."
            " Make a new plan with `segue plan`."
        ) from error


def attach(con: duckdb.DuckDBPyConnection, path: Path, key: str, sealing: Sealing) -> None:
    """Give a connection a file under the name of its table, `steps` or `withheld`.

    One in clear is a view. An encrypted one is read in: DuckDB 2 opens such files itself, and takes some that are whole
    for damaged ("Computed AES tag differs").
    """
    table = _table(path)
    if not key:
        quoted = str(path).replace("'", "''")
        con.execute(f"CREATE TEMP VIEW {table} AS FROM read_parquet('{quoted}')").fetchall()
        return
    with opened(path, key, sealing) as file:
        rows = pa.RecordBatchReader.from_batches(file.schema_arrow, file.iter_batches(ROWS_PER_GROUP))
        con.register("incoming", rows)
        con.execute(f"CREATE TEMP TABLE {table} AS FROM incoming").fetchall()
        con.unregister("incoming")


def drop_files(folder: Path, kept: set[Path], *, newest: int) -> None:
    """Remove the files of a folder's plans but for those `kept` and, of each table, so many of the newest."""
    for table in ("steps", "withheld"):
        files = sorted(folder.glob(f"{table}-*.parquet"), key=lambda path: path.stat().st_mtime)
        for path in files[:-newest]:
            if path not in kept:
                path.unlink(missing_ok=True)


def _table(path: Path) -> str:
    return path.stem.rpartition("-")[0]


def _secret(table: str, key: str, sealing: Sealing) -> bytes | None:
    """Give what a file is encrypted with: one of a plan does not pass for the other."""
    if not key:
        return None
    return hmac.digest(a2b_base64(sealing.unseal_text(key, plans.name, "file_key")), table.encode(), "sha256")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:32]
