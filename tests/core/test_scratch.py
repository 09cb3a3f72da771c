"""Connections for small work share a process's DuckDB and nothing that is in it."""

import os

import duckdb
import pytest

from segue.core.scratch import scratch


def test_what_one_makes_no_other_sees() -> None:
    with scratch() as mine, scratch() as theirs:
        for con, number in ((mine, 1), (theirs, 2)):
            con.execute(f"CREATE TEMP TABLE people AS SELECT {number} AS n").fetchall()
            con.execute(f"CREATE TEMP MACRO key_of(subject) AS subject * {number}").fetchall()
        assert mine.execute("SELECT key_of(n) FROM people").fetchall() == [(1,)]
        assert theirs.execute("SELECT key_of(n) FROM people").fetchall() == [(4,)]


def test_what_it_made_goes_with_it() -> None:
    with scratch() as con:
        con.execute("CREATE TEMP TABLE people AS SELECT 1 AS n").fetchall()
    with scratch() as con, pytest.raises(duckdb.CatalogException, match="people"):
        con.execute("FROM people")


def test_it_thinks_in_utc_and_downloads_nothing() -> None:
    with scratch() as con:
        settings = "SELECT current_setting('TimeZone'), current_setting('autoinstall_known_extensions')"
        assert con.execute(settings).fetchall() == [("UTC", False)]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # Python 3.12 warns of what is tested here
def test_a_forked_process_opens_its_own() -> None:
    with scratch() as con:
        con.execute("SELECT 1").fetchall()
    child = os.fork()
    if child == 0:
        with scratch() as con:
            total = con.execute("SELECT sum(n) FROM range(1000000) t(n)").fetchone()
        os._exit(0 if total == (499999500000,) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
