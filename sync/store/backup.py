"""A copy of the store and its contact key in one file, to be put back with tar.

Nothing here opens the store as a run does: a backup changes nothing, migrates nothing and waits for no lease.

The copy is made by VACUUM INTO: it is of one moment, writers go on meanwhile, and what was erased is not in it. The
loser was SQLite's backup API, which copies free pages, and with them the rows that `forget` removed.
"""

import os
import sqlite3
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ...core.config import Project
from ...core.errors import ConfigError, StoreError
from .database import parse_url, sqlite_meaning

STORE: Final = "store.db"
KEY: Final = "contact.key"


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """A file that was written. `key_elsewhere` is where the contact key comes from when it is not in it."""

    file: Path
    holds: tuple[str, ...]
    size: int
    key_elsewhere: str | None


def backup(project: Project, file: Path) -> Backup:
    """Write the store and the contact key to a new tar file that only this user may read, whole or not at all.

    Raises ConfigError for a store that its own server copies, and StoreError when there is no store yet, the file
    is there already, or the disk fails.
    """
    url = parse_url(project.store_url())
    if url.drivername != "sqlite":
        raise ConfigError(_for_postgresql(project, file))
    source = Path(str(url.database))
    if not source.is_file():
        raise StoreError(f"there is no store {source} yet. The first `segue plan` makes it.")
    if file.exists():
        raise _there_already(file)
    key = project.contact_key_file()
    with _unseen(file) as part, _unseen(file) as copy:
        _copy(source, copy)
        members = {STORE: copy} | ({KEY: key} if key else {})
        _pack(members, part)
        try:
            os.link(part, file)
        except FileExistsError:
            raise _there_already(file) from None
    _flush(file.parent)
    return Backup(
        file=file,
        holds=tuple(members),
        size=file.stat().st_size,
        key_elsewhere=None if key else project.contact_key,
    )


def _for_postgresql(project: Project, file: Path) -> str:
    store = project.store
    place = f'"${store.removeprefix("env:")}"' if store.startswith("env:") else f'"{store}"'
    if store.startswith("file:"):
        place = f'"$(cat {project.folder / store.removeprefix("file:")})"'
    return (
        "the store is a PostgreSQL database, which its own tools copy, also while a run is at work: "
        f"`pg_dump --format=custom --file={file} {place}`. Keep the contact key with it: {project.contact_key}."
    )


def _there_already(file: Path) -> StoreError:
    return StoreError(f"{file} is there already, and a backup overwrites nothing. Choose another name.")


@contextmanager
def _unseen(file: Path) -> Iterator[Path]:
    """Give an empty file beside another, for this user alone; it is gone when the block ends."""
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    os.close(handle)
    try:
        yield Path(name)
    finally:
        Path(name).unlink()


def _copy(source: Path, copy: Path) -> None:
    try:
        # Read-only: it neither makes a store where there is none nor writes to a disk that is full.
        with closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            connection.execute("VACUUM INTO ?", (str(copy),))
    except sqlite3.Error as error:
        meaning = sqlite_meaning(error)
        if meaning is None:
            raise
        raise StoreError(f"the backup of {source}: {meaning} No file was written.") from error


def _pack(members: Mapping[str, Path], part: Path) -> None:
    with part.open("wb") as raw:
        with tarfile.open(fileobj=raw, mode="w") as archive:
            for name, path in members.items():
                with path.open("rb") as content:
                    entry = archive.gettarinfo(arcname=name, fileobj=content)
                    entry.mode = 0o600
                    archive.addfile(entry, content)
        raw.flush()
        os.fsync(raw.fileno())


def _flush(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
