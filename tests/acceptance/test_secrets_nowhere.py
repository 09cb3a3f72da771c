"""No secret is anywhere, and of a person nothing is where docs/security.md does not say so: all is searched.

A whole life of a project is led by processes, with every secret and every value of a person recognisable; then the
database, the plans, logs at the most talkative level, reports, metrics, alerts and a backup are searched.
"""

import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from time import monotonic
from typing import ClassVar
from urllib.parse import quote, urlencode

import pytest
import requests
import sqlalchemy as sa

from segue.connectors.emulator import PersonAct
from segue.connectors.faults import Fault, FaultKind
from segue.connectors.mailchimp.testing import Sandbox
from segue.core.config import load_project
from segue.sync.store.store import Store

from ..connectors.mailchimp.test_webhooks import signed
from .files_shop import FilesShop

pytestmark = pytest.mark.slow

CONTACT_KEY, ENCRYPTION_KEY = "c0ffee" * 10 + "0123", "deca1f" * 10 + "4567"
TOKEN = "recognisable-token-of-the-path-of-webhooks"
SIGNING = "recognisable-signing-secret"
PASSWORD = "recognisable/pass word"
HOOK = "recognisable-place-of-alerts"
NAMES = [f"rosa.erkennbar{number}" for number in range(6)]
TOWN, LATER = "Erkennhausen", "Neuerkennstadt"
IP = "203.0.113.177"
PERSON = ("erkennbar", TOWN, LATER, IP)
PATIENCE = 30.0

MORE = """\
    webhooks: {{token: env:HOOK_TOKEN, secrets: [env:HOOK_SECRET]}}
serve: {{port: {port}, public_url: "http://127.0.0.1:{port}"}}
metrics: {{textfile: metrics.prom}}
alerts: [{{url: env:ALERT_URL, format: json}}]
"""


class Life:
    """A project and everything that it said. `shown` is what is made for others to see, `told` its answers."""

    def __init__(self, shop: FilesShop, alerts: list[bytes], secrets: tuple[str, ...]) -> None:
        self.shop = shop
        self.alerts = alerts
        self.secrets = secrets
        self.told: list[str] = []
        self.shown: list[str] = []

    def segue(self, line: str, *, codes: tuple[int, ...] = (0,)) -> str:
        done = self.shop.segue(f"segue --log-format json --log-level debug {line}")
        assert done.returncode in codes, (line, done.stdout, done.stderr)
        self.told.append(done.stdout)
        self.shown.append(done.stderr)
        return done.stdout

    def newest(self, kind: str) -> str:
        runs = json.loads(self.segue("runs --json --limit 50"))
        return str(next(run["run_id"] for run in runs if run["kind"] == kind))


class _Alerts(BaseHTTPRequestHandler):
    got: ClassVar[list[bytes]]

    def do_POST(self) -> None:
        self.got.append(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the library's name)
        pass


@contextmanager
def alerts_taken() -> Iterator[tuple[str, list[bytes]]]:

    class Handler(_Alerts):
        got: ClassVar[list[bytes]] = []

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/{HOOK}", Handler.got
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def serving(life: Life) -> Iterator[None]:
    log = life.shop.folder.parent / "serve.log"
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            ["/bin/sh", "-c", "set -a; . ./.env; exec segue --log-format json --log-level debug serve"],
            cwd=life.shop.folder,
            env=life.shop.environment,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    assert process.stdout is not None
    try:
        assert "Listening" in process.stdout.readline()
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) in {0, 143}
        process.stdout.close()
        life.shown.append(log.read_text())


@pytest.fixture(params=["encrypted", "clear"])
def encrypted(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "encrypted")


@pytest.fixture
def life(
    request: pytest.FixtureRequest, tmp_path: Path, mailchimp: Sandbox, encrypted: bool
) -> Iterator[Life]:
    """A project, encrypted on SQLite, whose file is searched as it lies there, and clear on PostgreSQL."""
    with alerts_taken() as (url, got), socket.create_server(("127.0.0.1", 0)) as free:
        secrets = {
            "MAILCHIMP_KEY": mailchimp.key,
            "CONTACT_KEY": CONTACT_KEY,
            "HOOK_TOKEN": TOKEN,
            "HOOK_SECRET": SIGNING,
            "ALERT_URL": url,
        }
        store = "sqlite"
        if not encrypted:
            database: str = request.getfixturevalue("postgres_database")
            store = "env:STORE_URL"
            secrets["STORE_URL"] = database.replace("postgres:@", f"postgres:{quote(PASSWORD, safe='')}@")
            assert quote(PASSWORD, safe="") in secrets["STORE_URL"]
        shop = FilesShop(tmp_path / "myshop", mailchimp, store=store)
        path = shop.folder / "segue.yml"
        keys = "contact_key: env:CONTACT_KEY\n"
        if encrypted:
            keys += "encryption_key: env:ENCRYPTION_KEY\n"
            secrets["ENCRYPTION_KEY"] = ENCRYPTION_KEY
        text = path.read_text().replace("country: DE\n", f"country: DE\n{keys}")
        port = free.getsockname()[1]
        path.write_text(text + MORE.format(port=port))
        shop.secrets(**secrets)
        forms = (PASSWORD, quote(PASSWORD, safe=""))
        free.close()
        yield Life(shop, got, (mailchimp.key, CONTACT_KEY, ENCRYPTION_KEY, TOKEN, SIGNING, HOOK, *forms))


def lead(life: Life) -> None:
    """Do all that is done with a project."""
    shop = life.shop
    shop.stock(NAMES, TOWN)
    consents = shop.folder / "consents.csv"
    consents.write_text(
        consents.read_text().replace('{""form"":""a""}', f'{{""form"":""a"",""ip"":""{IP}""}}')
    )
    assert IP in consents.read_text()
    for line in ("build", "plan", "apply --canary 2 --override-guardrails", "apply --override-guardrails"):
        life.segue(line, codes=(0, 1))
    shop.cities = dict.fromkeys(NAMES, LATER)
    (shop.folder / "customers.csv").write_text(
        (shop.folder / "customers.csv").read_text().replace(TOWN, LATER)
    )
    broken = [Fault(kind=kind, count=1, method="POST") for kind in (FaultKind.ERROR, FaultKind.LOST_ANSWER)]
    shop.sandbox.emulator.faults.arm(broken)
    life.segue("run --override-guardrails", codes=(0, 1, 3, 4))
    shop.sandbox.emulator.act(PersonAct.BOUNCE, address=f"{NAMES[4]}@myshop.example")
    life.segue("run --override-guardrails", codes=(0, 1, 4))
    with serving(life):
        life.segue("webhooks install newsletter")
        shop.sandbox.emulator.act(PersonAct.UNSUBSCRIBE, address=f"{NAMES[5]}@myshop.example")
        hear(life, f"{NAMES[5]}@myshop.example")
    life.segue("pull")
    life.segue("verify", codes=(0, 4))
    shop.secrets(**(shop._secrets | {"MAILCHIMP_KEY": "0123456789abcdef0123456789abcdef-us1"}))
    life.segue("run --no-build", codes=(3,))
    shop.secrets(**(shop._secrets | {"MAILCHIMP_KEY": shop.sandbox.key}))
    life.segue(f"rollback {life.newest('run')} --yes", codes=(0, 1, 2, 4))
    for line in (
        "status",
        "runs",
        "report",
        "report --json",
        "rejected --json",
        "audit verify",
        "audit show --json",
    ):
        life.shown.append(life.segue(line))
    life.segue("report --html page.html")


def hear(life: Life, address: str) -> None:
    """Post who left, signed, as Mailchimp would with a secret of ours, and wait until it is worked off."""
    now = datetime.now(UTC)
    told = {"type": "unsubscribe", "fired_at": f"{now:%Y-%m-%d %H:%M:%S}", "data[email]": address}
    body = urlencode(told).encode()
    form = {"content-type": "application/x-www-form-urlencoded"}
    door = f"http://127.0.0.1:{load_project(life.shop.folder).serve.port}/webhooks/newsletter/{TOKEN}"
    headers = form | signed(body, secret=SIGNING, at=now)
    assert requests.post(door, data=body, headers=headers, timeout=10).status_code == 200
    deadline = monotonic() + PATIENCE
    while "webhooks of newsletter" not in {row["who"] for row in json.loads(life.segue("audit show --json"))}:
        assert monotonic() < deadline


def database(life: Life) -> str:
    """Everything in all tables, as text."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in life.shop._secrets.items():
            patch.setitem(os.environ, name, value)
        with Store.of(load_project(life.shop.folder)) as store, store._database.read() as connection:
            tables = sa.MetaData()
            tables.reflect(connection)
            rows = [row for table in tables.sorted_tables for row in connection.execute(sa.select(table))]
    values = [value for row in rows for value in row]
    return "\n".join(
        bytes(value).decode("latin-1") if isinstance(value, bytes | memoryview) else str(value)
        for value in values
    )


def files(folder: Path) -> dict[str, str]:
    return {str(path): path.read_bytes().decode("latin-1") for path in folder.rglob("*") if path.is_file()}


def found(parts: tuple[str, ...], *texts: str) -> set[str]:
    return {part for part in parts for text in texts if part in text}


def test_no_secret_is_anywhere_and_a_person_only_where_it_is_said(life: Life, encrypted: bool) -> None:
    lead(life)
    shop = life.shop
    stored = database(life)
    plans = files(shop.folder / ".segue" / "plans")
    pages = [(shop.folder / name).read_text() for name in ("page.html", "metrics.prom")]
    shown = [*life.shown, *pages, *(each.decode() for each in life.alerts)]
    assert life.alerts
    assert any("batch_settled" in each for each in shown)
    if shop.folder.joinpath(".segue/store.db").exists():
        life.segue("backup copy.tar")
    everything = {name: text for name, text in files(shop.folder).items() if not name.endswith("/.env")}
    # First: that what is searched for would be found.
    assert found(PERSON, *everything.values()) == set(PERSON)

    for text in (stored, *shown, *life.told, *everything.values()):
        assert found(life.secrets, text) == set(), text
    assert found(PERSON, *shown) == set()
    assert plans
    if encrypted:
        assert found(PERSON, stored, *plans.values()) == set()
        assert all(text.endswith("PARE") for name, text in plans.items() if name.endswith(".parquet"))
        at_rest = [text for name, text in everything.items() if "/store.db" in name or name.endswith(".tar")]
        assert found(PERSON, *at_rest) == set()
    else:
        # The ledger's evidence, in words; payloads are packed, which hides nothing from whoever unpacks them.
        assert IP in found(PERSON, stored)
