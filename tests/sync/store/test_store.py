import contextlib
import sqlite3
import traceback
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import event, exc

from segue.core.config import load_project
from segue.core.errors import ConfigError, StoreError
from segue.core.model import Operation
from segue.sync.store import migrate, schema
from segue.sync.store.database import Database, parse_url
from segue.sync.store.keys import ContactKeys
from segue.sync.store.store import Store

from ...conftest import Clock

KEYS = ContactKeys(b"s" * 32)


def open_store(url: str, *, busy_seconds: float = 0) -> Store:
    return Store.open(url, key=lambda _: KEYS, busy_seconds=busy_seconds)


@contextlib.contextmanager
def database(url: str) -> Iterator[Database]:
    opened = Database(parse_url(url), busy_seconds=0)
    yield opened
    opened.close()


def test_the_migrated_schema_is_the_declared_one(store_url: str) -> None:
    with database(store_url) as opened, opened.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, schema.METADATA) == []


def test_partial_indexes_have_the_declared_conditions(store_url: str) -> None:
    with database(store_url) as opened, opened.read() as connection:
        indexes = {index["name"]: index for index in sa.inspect(connection).get_indexes("outbox")}
    conditions = {
        name: str(index.get("dialect_options", {})[f"{parse_url(store_url).get_backend_name()}_where"])
        for name, index in indexes.items()
        if name and name.startswith("ix_outbox")
    }
    assert set(conditions) == {"ix_outbox_job", "ix_outbox_ready", "ix_outbox_tried", "ix_outbox_waiting"}
    assert "job IS NOT NULL" in conditions["ix_outbox_job"]
    assert "not_before IS NULL" in conditions["ix_outbox_ready"]
    assert "not_before IS NOT NULL" in conditions["ix_outbox_waiting"]
    assert "attempts > 0" in conditions["ix_outbox_tried"]


def test_the_newest_revision_is_the_one_that_the_schema_names() -> None:
    assert ScriptDirectory(str(migrate.FOLDER)).get_current_head() == schema.HEAD


def test_a_store_of_the_first_schema_upgrades_with_what_it_holds(store_url: str) -> None:
    engine = sa.create_engine(parse_url(store_url))
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(migrate.FOLDER))
        config.set_main_option("path_separator", "os")
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.execute(sa.text("insert into cursor values ('d', 'pull', '2026-01-01')"))
        for key, status, address, token, not_before in (
            (1, "pending", "c1@shop.test", None, None),
            (2, "claimed", "c2@shop.test", 1, None),
            (3, "pending", "c3@shop.test", None, 1),
            (4, "done", None, None, None),
        ):
            row = {
                "plan_id": "p",
                "destination": "d",
                "contact_key": key,
                "operation": "update",
                "step": 2,
                "group_key": "",
                "rank": 4,
                "address": address,
                "address_key": key + 1000,
                "payload": address and '{"fields": {"SG_A": "1"}}',
                "before_hash": b"b" * 16,
                "desired_hash": None,
                "status": status,
                "claim_token": token,
                "attempts": 3,
                "not_before": not_before,
                "created_at": 0,
            }
            names = ", ".join(row)
            values = ", ".join(f":{name}" for name in row)
            connection.execute(sa.text(f"insert into outbox ({names}) values ({values})"), row)
        confirmed = {
            "hash": b"b" * 16,
            "payload": zlib.compress(b'{"address":"C1@shop.test","fields":{},"tags":[]}'),
        }
        connection.execute(sa.text("insert into baseline values ('d', 1, :hash)"), confirmed)
        connection.execute(sa.text("insert into baseline_payload values ('d', 1, :payload)"), confirmed)
        there = {"address_key": KEYS.address_key("c1@shop.test")}
        connection.execute(sa.text("insert into remote values ('d', :address_key, 'subscribed', 0)"), there)
    engine.dispose()
    with open_store(store_url) as store:
        assert store.destinations.cursor("d", "pull") == "2026-01-01"
        here = KEYS.address_key("c1@shop.test")
        assert store.destinations.written_for("d", [here]) == {here: 1}
        lease = store.leases.acquire("d", timedelta(minutes=1))
        ((first, second, third),) = store.outbox.claim(lease, {Operation.UPDATE: 10})
        assert (first.contact_key, first.attempts, second.contact_key, second.attempts) == (1, 3, 2, 4)
        assert (third.contact_key, third.address, third.before_hash) == (3, "c3@shop.test", b"b" * 16)


def test_a_store_opens_again_with_what_was_stored(store_url: str) -> None:
    with open_store(store_url) as store:
        store.destinations.set_cursor("newsletter", "pull", "2026-01-01")
    with open_store(store_url) as store:
        assert store.destinations.cursor("newsletter", "pull") == "2026-01-01"


def test_another_contact_key_is_refused(store_url: str) -> None:
    open_store(store_url).close()
    with pytest.raises(ConfigError, match="does not match this store"):
        Store.open(store_url, key=lambda _: ContactKeys(b"other" + b"-" * 27))


def test_the_key_is_told_whether_the_store_is_new(store_url: str) -> None:
    told = []

    def key(new: bool) -> ContactKeys:
        told.append(new)
        return KEYS

    for _ in range(2):
        Store.open(store_url, key=key).close()
    assert told == [True, False]


def test_a_store_of_a_newer_segue_is_left_alone(store_url: str) -> None:
    with database(store_url) as opened, opened.write() as connection:
        connection.execute(sa.text("update alembic_version set version_num = '9999'"))
    with pytest.raises(StoreError, match=r"newer Segue \(schema 9999\)"):
        open_store(store_url)


def test_a_broken_migration_leaves_nothing_behind(store_url: str) -> None:
    # A name that the first revision wants is taken, so that it fails half way.
    url = parse_url(store_url)
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text("create table rejection (x integer)"))
    engine.dispose()
    with pytest.raises(exc.DBAPIError):
        open_store(store_url)
    engine = sa.create_engine(url)
    assert sa.inspect(engine).get_table_names() == ["rejection"]
    engine.dispose()


def test_a_failed_write_leaves_nothing_behind(store: Store) -> None:
    def fail() -> None:
        with store._database.write() as connection:
            connection.execute(sa.insert(schema.cursor), {"destination": "d", "name": "n", "value": "v"})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert store.destinations.cursor("d", "n") is None


def test_sqlite_is_durable_and_private(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "store.db"
    with open_store(f"sqlite:///{path}") as store, store._database.read() as connection:
        pragmas = {
            name: connection.execute(sa.text(f"pragma {name}")).scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
        assert path.stat().st_mode & 0o777 == 0o600
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


@pytest.mark.parametrize(
    ("store_url", "setting", "durable", "quick"),
    [("sqlite", "pragma synchronous", 2, 1), ("postgresql", "show synchronous_commit", "on", "off")],
    indirect=["store_url"],
)
def test_a_write_that_need_not_be_durable_does_not_loosen_the_next_one(
    store_url: str, setting: str, durable: object, quick: object
) -> None:
    with open_store(store_url) as store:
        for wanted in (True, False, True, True, False, True):
            with store._database.write(durable=wanted) as connection:
                if wanted and durable == "on":  # the tests' server flushes nothing by itself
                    continue
                assert connection.exec_driver_sql(setting).scalar() == (durable if wanted else quick)


def test_a_bulk_insert_that_fails_shows_nothing_of_what_was_written(postgres_database: str) -> None:
    address = "ann@shop.test"
    with open_store(postgres_database) as store:
        with psycopg.connect(postgres_database, autocommit=True) as connection:
            connection.execute(
                "create function refuse() returns trigger language plpgsql as $$ begin raise 'no'; end $$"
            )
            connection.execute(
                "create trigger t before insert on outbox for each row execute function refuse()"
            )
        with pytest.raises(exc.DBAPIError, match="no") as error:
            store.outbox.urge("d", [(1, address, 2)])
    assert "COPY outbox, line 1" in str(error.value.__cause__)
    assert address not in "".join(traceback.format_exception(error.value))


def test_a_second_writer_that_waits_in_vain_says_so(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    with open_store(url) as one, open_store(url) as other, one._database.write():
        with pytest.raises(StoreError, match="another process holds it"):
            other.destinations.set_cursor("d", "n", "v")
        assert other.destinations.cursor("d", "n") is None  # reading is never in the way


def test_a_full_disk_is_said_and_nothing_is_half_written(tmp_path: Path) -> None:
    with open_store(f"sqlite:///{tmp_path / 'store.db'}") as store:

        @event.listens_for(store._database._engine, "begin")
        def limit(connection: sa.Connection) -> None:
            pages = connection.exec_driver_sql("pragma page_count").scalar()
            connection.exec_driver_sql(f"pragma max_page_count = {pages}")

        with pytest.raises(StoreError, match="the disk is full") as error:
            store.destinations.own("d", "tag", {f"tag {i}": "x" * 50 for i in range(5000)})
        assert "\n" not in str(error.value)
        assert "x" * 50 not in str(error.value.__cause__)  # nor does the traceback show what was written
        assert store.destinations.owned("d", "tag") == {}


def test_a_read_only_store_is_said(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    open_store(f"sqlite:///{path}").close()
    with (
        pytest.raises(StoreError, match="may only be read"),
        open_store(f"sqlite:///file:{path}?mode=ro&uri=true") as store,
    ):
        store.destinations.set_cursor("d", "n", "v")


def test_a_file_that_is_no_database_is_said(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.write_text("this is a letter\n" * 100)
    with pytest.raises(StoreError, match="not a SQLite database"):
        open_store(f"sqlite:///{path}")
    assert path.read_text().startswith("this is a letter")


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be made"):
        open_store(f"sqlite:///{tmp_path / 'file' / 'store.db'}")


@pytest.mark.parametrize(
    "url", ["mysql://u:secret@h/d", "sqlite://", "sqlite:///:memory:", "secret nonsense", ""]
)
def test_an_unknown_kind_of_store_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_url(url)
    assert "secret" not in str(error.value)


def test_a_server_that_is_not_there_is_said_without_the_password() -> None:
    with pytest.raises(StoreError, match="no connection to the server") as error:
        open_store("postgresql://ann:hunter2@127.0.0.1:1/shop")
    assert "hunter2" not in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_database_is_said(postgres_url: str) -> None:
    with pytest.raises(StoreError, match='database "nowhere" does not exist'):
        open_store(postgres_url.replace("/postgres?", "/nowhere?"))


def test_a_refused_user_is_said(postgres_url: str) -> None:
    with pytest.raises(StoreError, match='role "nobody" does not exist'):
        open_store(postgres_url.replace("postgres:@", "nobody:hunter2@"))


def test_a_user_without_rights_is_said(postgres_database: str, postgres_url: str) -> None:
    with psycopg.connect(postgres_database, autocommit=True) as connection:
        connection.execute("drop role if exists reader")
        connection.execute("create role reader login")
    with pytest.raises(StoreError, match="may not do that"):
        open_store(postgres_database.replace("postgres:@", "reader:@"))


def test_a_locked_table_is_said(postgres_database: str) -> None:
    with (
        open_store(postgres_database, busy_seconds=0.05) as store,
        psycopg.connect(postgres_database) as other,
    ):
        other.execute("lock table cursor in access exclusive mode")
        with pytest.raises(StoreError, match="another process holds it"):
            store.destinations.set_cursor("d", "n", "v")


def test_two_who_open_a_new_store_at_once_both_succeed(store_url: str) -> None:
    with ThreadPoolExecutor(2) as pool:
        stores = list(pool.map(lambda _: open_store(store_url, busy_seconds=20), range(2)))
    for store in stores:
        store.close()


def test_a_project_store_makes_its_key_once(tmp_path: Path) -> None:
    (tmp_path / "customers.csv").write_text("contact_id\n")
    (tmp_path / "segue.yml").write_text("project: shop\nsources: {customers: [{path: customers.csv}]}\n")
    project = load_project(tmp_path)
    with Store.of(project) as store:
        fingerprint = store.keys.fingerprint()
    with Store.of(project) as store:
        assert store.keys.fingerprint() == fingerprint
    (tmp_path / ".segue" / "contact.key").unlink()
    with pytest.raises(ConfigError, match="missing"):
        Store.of(project)


def test_instants_survive_to_the_microsecond(store: Store, clock: Clock) -> None:
    clock.now = datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)
    run = store.runs.start("r", "d", "sync")
    assert [each.started_at for each in store.runs.newest(1)] == [run.started_at] == [clock.now]
    clock.advance(timedelta(days=40_000))
    store.runs.finish("r", exit_code=0, report={})
    assert [each.finished_at for each in store.runs.newest(1)] == [clock.now]


def test_nothing_is_left_open(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    open_store(f"sqlite:///{path}").close()
    assert not Path(f"{path}-wal").exists()  # the last connection folds it in
    with contextlib.closing(sqlite3.connect(path)) as plain:
        assert plain.execute("select version_num from alembic_version").fetchone() == (schema.HEAD,)
