"""A backup is one moment of the store and the key that belongs to it, in a file for its owner alone, or no file."""

import os
import resource
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from segue.core.config import Project, load_project
from segue.core.errors import ConfigError, StoreError
from segue.sync.store.backup import Backup, backup
from segue.sync.store.store import Store


@pytest.fixture
def project(tmp_path: Path) -> Callable[..., Project]:
    """A project with these settings, and its store, whose one cursor says `first`."""

    def make(*settings: str) -> Project:
        folder = tmp_path / "project"
        folder.mkdir(exist_ok=True)
        lines = ["project: small", "sources: {customers: [{path: customers.csv}]}", *settings]
        (folder / "segue.yml").write_text("\n".join(lines))
        loaded = load_project(folder)
        with Store.of(loaded) as store:
            store.destinations.set_cursor("newsletter", "seen", "first")
        return loaded

    return make


def put_back(made: Backup, tmp_path: Path) -> Project:
    """Unpack a backup into a new project that keeps everything where it is by default."""
    folder = tmp_path / "elsewhere"
    (folder / ".segue").mkdir(parents=True)
    (folder / "segue.yml").write_text("project: small\nsources: {customers: [{path: customers.csv}]}\n")
    with tarfile.open(made.file) as archive:
        # Python before 3.11.4 knows no filters.
        archive.extraction_filter = getattr(tarfile, "data_filter", lambda member, _: member)
        archive.extractall(folder / ".segue")  # noqa: S202 - a backup that we just made
    return load_project(folder)


def seen(project: Project) -> str | None:
    with Store.of(project) as store:
        return store.destinations.cursor("newsletter", "seen")


@pytest.mark.parametrize(
    "settings",
    [(), ("store: sqlite:///data/segue.db", "contact_key: file:secrets/contact")],
    ids=["at home", "elsewhere"],
)
def test_a_backup_put_back_is_the_store_as_it_was(
    settings: tuple[str, ...], project: Callable[..., Project], tmp_path: Path
) -> None:
    loaded = project(*settings)
    made = backup(loaded, tmp_path / "backup.tar")
    with Store.of(loaded) as store:
        store.destinations.set_cursor("newsletter", "seen", "second")
    assert made.holds == ("store.db", "contact.key")
    assert seen(put_back(made, tmp_path)) == "first"


def test_a_backup_neither_waits_for_a_writer_nor_sees_half_of_its_work(
    project: Callable[..., Project], tmp_path: Path
) -> None:
    loaded = project()
    with Store.of(loaded) as store:
        store.destinations.set_cursor("newsletter", "seen", "second")
        with store._database.write() as connection:
            connection.exec_driver_sql("update cursor set value = 'half'")
            made = backup(loaded, tmp_path / "backup.tar")
    assert seen(put_back(made, tmp_path)) == "second"
    assert seen(loaded) == "half"


def test_nobody_else_can_read_it_whatever_the_umask(project: Callable[..., Project], tmp_path: Path) -> None:
    loaded = project()
    before = os.umask(0)
    try:
        made = backup(loaded, tmp_path / "backup.tar")
    finally:
        os.umask(before)
    assert made.file.stat().st_mode & 0o777 == 0o600
    with tarfile.open(made.file) as archive:
        assert {member.mode for member in archive} == {0o600}


def test_what_was_erased_from_the_store_is_not_in_it(project: Callable[..., Project], tmp_path: Path) -> None:
    loaded = project()
    with Store.of(loaded) as store:
        for number in range(200):
            store.destinations.set_cursor("newsletter", f"{number}", "forgotten person")
        with store._database.write() as connection:
            connection.exec_driver_sql("pragma secure_delete = off")  # some builds of SQLite have it on
            connection.exec_driver_sql("delete from cursor where value = 'forgotten person'")
    assert b"forgotten person" in (loaded.state_folder / "store.db").read_bytes()
    assert b"forgotten person" not in backup(loaded, tmp_path / "backup.tar").file.read_bytes()


def test_a_backup_overwrites_nothing(project: Callable[..., Project], tmp_path: Path) -> None:
    (tmp_path / "backup.tar").write_text("older")
    with pytest.raises(StoreError, match="is there already"):
        backup(project(), tmp_path / "backup.tar")
    assert (tmp_path / "backup.tar").read_text() == "older"


def test_a_key_from_the_environment_stays_there_and_is_said(
    project: Callable[..., Project], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONTACT_KEY", "ab" * 32)
    made = backup(project("contact_key: env:CONTACT_KEY"), tmp_path / "backup.tar")
    assert (made.holds, made.key_elsewhere) == (("store.db",), "env:CONTACT_KEY")
    assert b"ab" * 32 not in made.file.read_bytes()


def test_without_a_store_none_is_made(project: Callable[..., Project], tmp_path: Path) -> None:
    loaded = project()
    for file in loaded.state_folder.glob("store.db*"):
        file.unlink()
    with pytest.raises(StoreError, match="there is no store"):
        backup(loaded, tmp_path / "backup.tar")
    assert not list(loaded.state_folder.glob("store.db*"))


def test_a_damaged_store_gives_no_backup(project: Callable[..., Project], tmp_path: Path) -> None:
    loaded = project()
    path = loaded.state_folder / "store.db"
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 40_000)
    with pytest.raises(StoreError, match="is damaged"):
        backup(loaded, tmp_path / "backup.tar")
    assert list(tmp_path.glob("*.tar*")) == []


def _no_room() -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))


def test_a_full_disk_leaves_no_file(project: Callable[..., Project], tmp_path: Path) -> None:
    loaded = project()
    target = tmp_path / "backups"
    target.mkdir()
    done = subprocess.run(
        [Path(sys.executable).with_name("segue"), "backup", target / "b.tar", "--project", loaded.folder],
        preexec_fn=_no_room,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "disk" in done.stderr
    assert list(target.iterdir()) == []
    assert seen(loaded) == "first"


def test_a_postgresql_store_names_the_command_that_copies_it_and_no_password(
    project: Callable[..., Project], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = project()
    monkeypatch.setenv("STORE", "postgresql://segue:secret@db.example/segue")
    (loaded.folder / "segue.yml").write_text(
        "project: small\nstore: env:STORE\nsources: {customers: [{path: customers.csv}]}\n"
    )
    with pytest.raises(ConfigError, match=r'pg_dump --format=custom --file=b\.dump "\$STORE"') as told:
        backup(load_project(loaded.folder), Path("b.dump"))
    assert "file:.segue/contact.key" in told.value.message
    assert "secret@" not in told.value.message
