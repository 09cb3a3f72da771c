"""Immutable snapshots: what one build made, as a folder of Parquet files and a manifest, and the pointer to the current.

Lives here: writing all or nothing, finding, opening, pruning. Must not: what the tables mean or how they are computed.

A snapshot is written beside the others under a hidden name, flushed to the disk, renamed into place, and only then
pointed to. So a reader sees the old build or the new one, a failed build leaves nothing, and a nightly build never
locks out a running server, which opens files and no database. The loser was one DuckDB file: whoever writes it shuts
out every reader.

The id is the moment the build is for and a digest of what is in it: two equal builds are one snapshot.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import duckdb
import ibis.expr.types as ir
from ibis.backends.duckdb import Backend

from .data.engine import connect
from .errors import StoreError
from .model import Trait, TraitType

KEPT: Final = 7
FORMAT: Final = 1

_FOLDER: Final = "snapshots"
_POINTER: Final = "CURRENT"
_MANIFEST: Final = "manifest.json"
_FILES: Final = "files"  # of the manifest: the size in bytes of each file beside it
_OUTSIDE_THE_ID: Final = frozenset({"id", "format", _FILES})  # sizes depend on the threads that wrote
_UNFINISHED: Final = ".building-"
_ID: Final = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One build. `manifest` is what `personalize.build` wrote about it; the properties read the parts others need."""

    id: str
    path: Path
    manifest: Mapping[str, Any]

    @property
    def as_of(self) -> datetime:
        """The moment that everything is computed for."""
        return datetime.fromisoformat(self.manifest["as_of"])

    @property
    def traits(self) -> tuple[Trait, ...]:
        """Every trait of the profiles, in the order of their columns."""
        return tuple(
            Trait(
                name=trait["name"],
                type=TraitType(trait["type"]),
                description=trait["description"],
                null_means=trait["null_means"],
            )
            for trait in self.manifest["traits"]
        )

    @property
    def tables(self) -> tuple[str, ...]:
        """The names of the tables."""
        return tuple(self.manifest["tables"])

    def rows(self, table: str) -> int:
        """How many rows a table has."""
        return int(self.manifest["tables"][table]["rows"])

    def digest_of(self, table: str) -> str:
        """Name the content of a table: equal for equal rows, in whatever order."""
        return str(self.manifest["tables"][table]["digest"])

    def table(self, name: str) -> Path:
        """Give the Parquet file of a table. Raises KeyError when the snapshot has no such table."""
        if name not in self.manifest["tables"]:
            raise KeyError(name)
        return self.path / f"{name}.parquet"

    def connect(self) -> Backend:
        """Open an engine in memory with a view for each table. Raises StoreError when a file is gone."""
        con = connect()
        for name in self.tables:
            try:
                con.raw_sql(
                    f'create view "{name}" as from read_parquet({_text(self.table(name))})'
                ).fetchall()
            except duckdb.Error:
                con.disconnect()
                raise StoreError(
                    f"snapshot {self.id} is damaged: {self.table(name)} cannot be read. Run `segue build` again."
                ) from None
        return con


def current(state_folder: Path) -> Snapshot:
    """Give the snapshot that the last successful build made. Raises StoreError when there is none."""
    root = state_folder / _FOLDER
    try:
        id_ = (root / _POINTER).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        raise StoreError(f"there is no snapshot in {state_folder} yet. Run `segue build` first.") from None
    except OSError as error:
        raise StoreError(
            f"{root / _POINTER} cannot be read: {error.strerror}. Remove it and run `segue build` again."
        ) from None
    except UnicodeDecodeError:
        raise StoreError(f"{root / _POINTER} names no snapshot. Run `segue build` again.") from None
    return _open(root, id_)


def history(state_folder: Path, *, damaged: Callable[[str], object] | None = None) -> tuple[Snapshot, ...]:
    """Give all snapshots that are kept, the newest build first; those that are damaged are told by id and left out."""
    root = state_folder / _FOLDER
    found = []
    for path in _by_age(root):
        try:
            found.append(_open(root, path.name))
        except StoreError:
            if damaged is not None:
                damaged(path.name)
    return tuple(found)


def _open(root: Path, id_: str) -> Snapshot:
    path = root / id_ / _MANIFEST
    if not _ID.fullmatch(id_):
        raise StoreError(f"{root / _POINTER} names no snapshot. Run `segue build` again.")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        version = manifest["format"]
    except (OSError, ValueError, AttributeError, KeyError, TypeError):
        raise _damaged(id_, path) from None
    if version != FORMAT:
        raise StoreError(f"snapshot {id_} was made by another version of Segue. Run `segue build` again.")
    content = {name: manifest[name] for name in manifest if name not in _OUTSIDE_THE_ID}
    if not id_.endswith(f"-{_digest(content)}"):
        raise _damaged(id_, path)
    for name, size in manifest[_FILES].items():
        file = path.with_name(name)
        if not file.is_file() or file.stat().st_size != size:
            raise _damaged(id_, file)
    return Snapshot(id=id_, path=path.parent, manifest=manifest)


def _damaged(id_: str, file: Path) -> StoreError:
    return StoreError(f"snapshot {id_} is damaged: {file} is missing or changed. Run `segue build` again.")


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


class Draft:
    """A snapshot that is being written; `writing` makes one and `publish` ends it."""

    def __init__(self, root: Path, con: Backend) -> None:
        self._root = root
        self._con = con
        self._tables: dict[str, dict[str, Any]] = {}
        self.path = root / f"{_UNFINISHED}{uuid4().hex}"
        self.path.mkdir()

    def write(self, name: str, table: ir.Table, *, order_by: tuple[str, ...] = ()) -> ir.Table:
        """Write one table, sorted if asked, and give it back as read from its file: later steps read that.

        Raises StoreError when the disk is full or cannot be written.
        """
        path = self.path / f"{name}.parquet"
        # A view, because it brings along what Ibis keeps in memory; compiled SQL alone does not.
        view = f"draft_{uuid4().hex}"
        self._con.create_view(view, table.order_by(*order_by) if order_by else table)
        self._execute(f"copy (from {view}) to {_text(path)} (format parquet, compression zstd)")
        self._execute(f"drop view {view}")
        rows, digest = _content(self._con, path)
        columns = {column: str(type_) for column, type_ in table.schema().items()}
        self._tables[name] = {"rows": rows, "digest": digest, "columns": columns}
        return self._con.read_parquet(str(path), table_name=f"snapshot_{name}")

    def publish(self, as_of: datetime, manifest: Mapping[str, Any]) -> Snapshot:
        """Name, flush and publish what was written, then drop snapshots beyond the KEPT newest."""
        moment = as_of.astimezone(UTC)
        content = {"as_of": moment.isoformat(), **manifest, "tables": self._tables}
        id_ = f"{moment:%Y%m%dT%H%M%SZ}-{_digest(content)}"
        files = {path.name: path.stat().st_size for path in sorted(self.path.iterdir())}
        whole = {"id": id_, "format": FORMAT, _FILES: files, **content}
        text = json.dumps(whole, indent=1, ensure_ascii=False)
        (self.path / _MANIFEST).write_text(text, encoding="utf-8")
        for path in (*self.path.iterdir(), self.path):
            _flush(path)
        self._put_in_place(id_)
        _point(self._root, id_)
        _prune(self._root, id_)
        return _open(self._root, id_)

    def _put_in_place(self, id_: str) -> None:
        final = self._root / id_
        if final.exists():
            # The same build again. Readers may be at work in what is there: it is replaced only when it is damaged.
            if _is_intact(self._root, id_):
                os.utime(final)
                return
            aside = self._root / f"{_UNFINISHED}{uuid4().hex}"
            final.rename(aside)
            self.path.rename(final)
            shutil.rmtree(aside, ignore_errors=True)
        else:
            self.path.rename(final)
        _flush(self._root)

    def _execute(self, sql: str) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = self._con.raw_sql(sql).fetchall()
        return rows


@contextmanager
def writing(state_folder: Path, con: Backend) -> Iterator[Draft]:
    """Make a draft that vanishes unless it is published. One build at a time; a second one gets a StoreError."""
    root = state_folder / _FOLDER
    with _explained(root):
        root.mkdir(parents=True, exist_ok=True)
        with (root / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StoreError(
                    f"another build is running in {state_folder}. Wait for it to end, then build again."
                ) from None
            for left in root.glob(
                f"{_UNFINISHED}*"
            ):  # of a build that was killed: nobody else holds the lock
                shutil.rmtree(left)
            draft = Draft(root, con)
            try:
                yield draft
            finally:
                shutil.rmtree(draft.path, ignore_errors=True)


@contextmanager
def _explained(root: Path) -> Iterator[None]:
    """Say in a sentence that the disk is full, the folder read-only, or the memory too small."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"a snapshot cannot be written to {root}: {error.strerror}. Free space or fix the folder's permissions; "
            "the snapshot before stays current."
        ) from error
    except (duckdb.IOException, duckdb.OutOfMemoryException) as error:
        # Its own words about a full disk are JSON within a sentence.
        why = "the disk is full" if "No space left" in str(error) else str(error).splitlines()[0]
        raise StoreError(
            f"a snapshot cannot be written to {root}: {why}. Free disk space or memory; "
            "the snapshot before stays current."
        ) from error


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _point(root: Path, id_: str) -> None:
    temporary = root / f".{_POINTER}.new"
    temporary.write_text(f"{id_}\n", encoding="utf-8")
    _flush(temporary)
    temporary.rename(root / _POINTER)
    _flush(root)


def _is_intact(root: Path, id_: str) -> bool:
    """Whether every row of a snapshot can still be read and is what was written."""
    try:
        found = _open(root, id_)
        con = found.connect()
    except StoreError:
        return False
    try:
        return all(_content(con, found.table(name))[1] == found.digest_of(name) for name in found.tables)
    except duckdb.Error:
        return False
    finally:
        con.disconnect()


def _content(con: Backend, path: Path) -> tuple[int, str]:
    """Give the number of rows of a file and a digest of them."""
    rows, digest = con.raw_sql(
        # Sums do not depend on the order of rows, nor on how many threads wrote them.
        f"select count(*), coalesce(sum(hash(t)), 0)::varchar from read_parquet({_text(path)}) as t"
    ).fetchall()[0]
    return int(rows), str(digest)


def _by_age(root: Path) -> list[Path]:
    built = [path for path in root.glob("*-*") if _ID.fullmatch(path.name)]
    return sorted(built, key=lambda path: (path.stat().st_mtime_ns, path.name), reverse=True)


def _prune(root: Path, current_id: str) -> None:
    others = [path for path in _by_age(root) if path.name != current_id]
    for path in others[KEPT - 1 :]:
        shutil.rmtree(path, ignore_errors=True)


def _text(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"
