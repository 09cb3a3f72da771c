"""A snapshot is there whole or not at all, and the one before stays until the new one is."""

import errno
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa
import pytest
from ibis.backends.duckdb import Backend

from segue.core.errors import StoreError
from segue.core.snapshot import KEPT, Snapshot, current, history, writing

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MANIFEST: dict[str, Any] = {"traits": [], "warnings": []}


def made(engine: Backend, state: Path, values: Sequence[int] = (3, 1, 2), as_of: datetime = NOON) -> Snapshot:
    with writing(state, engine) as draft:
        draft.write("numbers", ibis.memtable(pa.table({"number": list(values)})), order_by=("number",))
        return draft.publish(as_of, MANIFEST)


def folders(state: Path) -> list[str]:
    return sorted(path.name for path in (state / "snapshots").iterdir() if path.is_dir())


def test_what_was_written_can_be_read(engine: Backend, tmp_path: Path) -> None:
    snapshot = made(engine, tmp_path)
    assert current(tmp_path) == snapshot
    assert (snapshot.as_of, snapshot.tables, snapshot.rows("numbers")) == (NOON, ("numbers",), 3)
    con = snapshot.connect()
    assert con.raw_sql("select * from numbers").fetchall() == [(1,), (2,), (3,)]
    con.disconnect()
    assert snapshot.table("numbers").is_file()
    with pytest.raises(KeyError):
        snapshot.table("letters")


def test_the_same_build_again_is_the_same_snapshot(engine: Backend, tmp_path: Path) -> None:
    first = made(engine, tmp_path)
    again = made(engine, tmp_path, values=(2, 3, 1))
    assert again.id == first.id
    assert folders(tmp_path) == [first.id]


def test_the_id_names_moment_and_content(engine: Backend, tmp_path: Path) -> None:
    first = made(engine, tmp_path)
    other = made(engine, tmp_path, values=(1, 2, 4))
    later = made(engine, tmp_path, as_of=NOON + timedelta(days=1))
    assert len({first.id, other.id, later.id}) == 3
    assert first.id.startswith("20260301T120000Z-")
    assert first.digest_of("numbers") == later.digest_of("numbers") != other.digest_of("numbers")


def test_a_failed_build_leaves_the_snapshot_before_and_no_trace(engine: Backend, tmp_path: Path) -> None:
    before = made(engine, tmp_path)

    def fail() -> None:
        with writing(tmp_path, engine) as draft:
            draft.write("numbers", ibis.memtable(pa.table({"number": [9]})))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert current(tmp_path) == before
    assert folders(tmp_path) == [before.id]


def test_what_a_killed_build_left_behind_is_cleared(engine: Backend, tmp_path: Path) -> None:
    before = made(engine, tmp_path)
    (tmp_path / "snapshots" / ".building-of-the-dead").mkdir()
    made(engine, tmp_path)
    assert folders(tmp_path) == [before.id]


def test_a_full_disk_is_a_store_error_with_the_next_step(engine: Backend, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"No space left.*Free space"), writing(tmp_path, engine):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert folders(tmp_path) == []


FULL = """
import resource, signal, sys
from pathlib import Path
import ibis
import pyarrow as pa
from segue.core.data.engine import connect
from segue.core.errors import StoreError
from segue.core.snapshot import writing

con = connect()
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    with writing(Path(sys.argv[1]), con) as draft:
        draft.write("numbers", ibis.range(0, 1_000_000).unnest().name("number").as_table())
except StoreError as error:
    print(error)
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="the system cannot limit the size of files")
def test_files_that_cannot_be_written_are_a_store_error_and_leave_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, check=True, timeout=120
    )
    assert "cannot be written" in done.stdout
    assert "stays current" in done.stdout
    assert folders(tmp_path) == []


def test_a_state_folder_that_is_a_file_is_a_store_error(engine: Backend, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        made(engine, tmp_path / "state")


def test_no_snapshot_says_to_build(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="segue build"):
        current(tmp_path)


def test_only_one_build_runs_at_a_time(engine: Backend, tmp_path: Path) -> None:
    with writing(tmp_path, engine), pytest.raises(StoreError, match="another build"):
        made(engine, tmp_path)
    assert made(engine, tmp_path) == current(tmp_path)


def test_old_snapshots_are_kept_for_a_while_and_then_dropped(engine: Backend, tmp_path: Path) -> None:
    built = [made(engine, tmp_path, values=(number,)).id for number in range(KEPT + 2)]
    assert [snapshot.id for snapshot in history(tmp_path)] == built[: -KEPT - 1 : -1]
    assert current(tmp_path).id == built[-1]


def test_building_an_old_content_again_makes_it_current_and_the_newest(
    engine: Backend, tmp_path: Path
) -> None:
    built = [made(engine, tmp_path, values=(number,)).id for number in (1, 2, 3)]
    assert made(engine, tmp_path, values=(1,)).id == built[0]
    assert current(tmp_path).id == built[0]
    assert history(tmp_path)[0].id == built[0]


def test_a_damaged_snapshot_is_said_and_healed_by_the_next_build(engine: Backend, tmp_path: Path) -> None:
    snapshot = made(engine, tmp_path)
    snapshot.table("numbers").write_bytes(b"")
    with pytest.raises(StoreError, match=r"damaged.*segue build"):
        snapshot.connect()
    with pytest.raises(StoreError, match=r"damaged.*segue build"):
        current(tmp_path)
    made(engine, tmp_path).connect().disconnect()
    (snapshot.path / "manifest.json").write_text("{")
    with pytest.raises(StoreError, match="damaged"):
        current(tmp_path)
    assert made(engine, tmp_path) == current(tmp_path)


@pytest.mark.parametrize("text", ["[]", "{}", '{"format": 1}', '{"format": 1, "tables": {}, "as_of": ""}'])
def test_a_manifest_that_is_not_the_one_its_name_was_made_from_is_damaged(
    engine: Backend, tmp_path: Path, text: str
) -> None:
    snapshot = made(engine, tmp_path)
    (snapshot.path / "manifest.json").write_text(text)
    with pytest.raises(StoreError, match=r"damaged.*segue build"):
        current(tmp_path)
    assert made(engine, tmp_path) == current(tmp_path)
    assert not list((tmp_path / "snapshots").glob(".building-*"))


def test_a_file_changed_within_is_healed_by_the_next_build(engine: Backend, tmp_path: Path) -> None:
    file = made(engine, tmp_path).table("numbers")
    whole = file.read_bytes()
    file.write_bytes(whole[:4] + bytes(len(whole) // 2) + whole[4 + len(whole) // 2 :])
    assert made(engine, tmp_path).table("numbers").read_bytes() == whole


def test_a_pointer_to_nowhere_is_not_followed(engine: Backend, tmp_path: Path) -> None:
    made(engine, tmp_path)
    (tmp_path / "snapshots" / "CURRENT").write_text("../../etc")
    with pytest.raises(StoreError, match="names no snapshot"):
        current(tmp_path)


def test_a_reader_keeps_its_snapshot_while_the_next_is_built(engine: Backend, tmp_path: Path) -> None:
    con = made(engine, tmp_path).connect()
    made(engine, tmp_path, values=(9,))
    assert con.raw_sql("select max(number) from numbers").fetchall() == [(3,)]
    con.disconnect()
