"""The engine that builds and snapshots run on: one in-memory DuckDB behind Ibis, closed to the network.

Lives here: how it is opened and when it has run out of room. Must not: any table, query or path of ours.

Read instants out of it as Arrow: DuckDB's own row fetching wants the package pytz for a time with a zone.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import duckdb
import ibis
from ibis.backends.duckdb import Backend

from ..errors import DataError, StoreError

# Merging neighbouring selects repeats what they compute and takes longer to compile; DuckDB merges them by itself.
ibis.options.sql.fuse_selects = False


def connect() -> Backend:
    """Open an engine that never downloads an extension, thinks in UTC and uses at most 60% of the memory.

    What does not fit spills into a folder of its own below the system's temporary folder, which DuckDB makes at
    need and removes with the connection; by default it would be made in the current folder.
    """
    return ibis.duckdb.connect(
        autoinstall_known_extensions=False,
        autoload_known_extensions=False,
        memory_limit="60%",
        temp_directory=str(Path(tempfile.gettempdir()) / f"segue-spill-{uuid4().hex}"),
    )


@contextmanager
def reading(problem: str) -> Iterator[None]:
    """Turn what the engine says of unreadable data into a DataError with these words.

    Its own words quote the data, and the data is about people. Running out of room is not the data's fault and passes.
    """
    try:
        yield
    except duckdb.Error as error:
        if _is_out_of_room(error):
            raise
        raise DataError(problem) from error


@contextmanager
def room() -> Iterator[None]:
    """Turn the engine's running out of memory or disk into a StoreError that says where to make room."""
    try:
        yield
    except duckdb.Error as error:
        if not _is_out_of_room(error):
            raise
        raise StoreError(
            f"the engine ran out of memory, and of space in {tempfile.gettempdir()} to spill to. Free some there, or "
            "name a folder with more in the environment variable TMPDIR. Nothing was written."
        ) from error


def _is_out_of_room(error: duckdb.Error) -> bool:
    return isinstance(error, duckdb.OutOfMemoryException) or "No space left" in str(error)
