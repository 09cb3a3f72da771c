"""A DuckDB connection for a small piece of work, there at once.

To open a DuckDB takes a hundred times as long as to connect to one that is open, because it enters its functions and
settings anew; a sync of a few contacts would spend a quarter of its time on that. So a process opens one, when it is
first needed. Large work has one of its own, with the memory and the folder that it may use: `core.data.engine` for
building and snapshots, `sync.planning.plan` for plans.
"""

import os
from functools import cache

import duckdb


def scratch() -> duckdb.DuckDBPyConnection:
    """Connect to this process's DuckDB: in memory, in UTC, closed to the network.

    Make nothing there that is not TEMP: only that is the connection's own, and gone with it.
    """
    return _engine(os.getpid()).cursor()


@cache
def _engine(_process: int) -> duckdb.DuckDBPyConnection:
    """Open the DuckDB of a process; one that was forked cannot use its parent's."""
    engine = duckdb.connect(
        config={"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}
    )
    engine.execute("SET GLOBAL TimeZone = 'UTC'").fetchall()
    return engine
