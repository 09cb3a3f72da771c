"""People are told once that a destination fails and once that it is well again, and a lost message is sent later."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from segue.connectors.faults import Fault, FaultKind
from segue.core.config import load_project
from segue.core.errors import ConfigError, SegueError, StoreError
from segue.sync.delivery.courier import Courier
from segue.sync.store.runs import Run, RunStatus
from segue.sync.store.store import Store
from segue.sync.telemetry import alerts

from ...conftest import Clock
from ...shop import Shop


@dataclass
class Receiver:
    """A real HTTP server on this machine; `status` is what it answers, `silent` that it closes without a word."""

    url: str = ""
    status: int = 200
    silent: bool = False
    tries: int = 0
    taken: list[dict[str, Any]] = field(default_factory=list)

    def receive(self, handler: BaseHTTPRequestHandler) -> None:
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        self.tries += 1
        if self.silent:
            handler.close_connection = True
            return
        if 200 <= self.status < 300:
            self.taken.append(body)
        handler.send_response(self.status)
        handler.send_header("Location", self.url)
        handler.send_header("Content-Length", "0")
        handler.end_headers()


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    received = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.receive(self)

        def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - likewise
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        received.url = f"http://127.0.0.1:{server.server_port}/hooks/a-secret-path"
        monkeypatch.setenv("HOOK", received.url)
        yield received
        server.shutdown()
        thread.join()


PROJECT = """\
project: small
sources:
  customers: [{path: customers.csv}]
destinations:
  newsletter: {connector: mailchimp, mapping: mapping.yml}
  club: {connector: mailchimp, mapping: mapping.yml}
alerts:
"""


class Desk:
    """A project that tells the receiver, and a store whose runs end as told."""

    def __init__(self, folder: Path, store: Store, clock: Clock) -> None:
        self.folder, self.store, self.clock = folder, store, clock
        self.numbers = 0
        (folder / "mapping.yml").write_text("connector: mailchimp\n")
        self.alerts("{url: env:HOOK, format: json}")

    def alerts(self, *each: str) -> None:
        (self.folder / "segue.yml").write_text(PROJECT + "".join(f"  - {alert}\n" for alert in each))

    def ended(
        self, code: int, *, kind: str = "run", destination: str = "newsletter", **report: Any
    ) -> list[str]:
        self.numbers += 1
        run_id = f"r{self.numbers}"
        self.store.runs.start(run_id, destination, kind)
        self.store.runs.finish(run_id, exit_code=code, report={"error": None, **report})
        run = self.store.runs.get(run_id)
        assert run is not None
        return alerts.tell(load_project(self.folder), self.store, run)


@pytest.fixture
def desk(tmp_path: Path, store: Store, clock: Clock, receiver: Receiver) -> Desk:
    del receiver  # it must be there first
    return Desk(tmp_path, store, clock)


def test_failure_and_recovery_are_told_once_each(desk: Desk, receiver: Receiver) -> None:
    for code in (0, 3, 3, 2, 0, 1, 0, 4):
        assert desk.ended(code) == []
    assert [(body["event"], body["run_id"]) for body in receiver.taken] == [
        ("failed", "r2"),
        ("recovered", "r5"),
        ("failed", "r8"),
    ]


def test_the_first_run_is_no_recovery(desk: Desk, receiver: Receiver) -> None:
    desk.ended(0)
    assert receiver.taken == []


def test_what_is_told_says_what_happened_and_what_to_do(desk: Desk, receiver: Receiver) -> None:
    desk.ended(4, error="Plan p1 passes a limit.", error_kind="GuardrailError")
    assert receiver.taken == [
        {
            "event": "failed",
            "project": "small",
            "destination": "newsletter",
            "run_id": "r1",
            "kind": "run",
            "exit_code": 4,
            "headline": "It stopped because a limit was passed. No change had gone out before.",
            "detail": "Plan p1 passes a limit.",
            "steps": [
                "Look at the plan. segue plan newsletter",
                "If it is right, apply it all the same. segue apply newsletter --override-guardrails",
            ],
        }
    ]


def test_slack_gets_one_text_in_which_nothing_is_markup(desk: Desk, receiver: Receiver) -> None:
    desk.alerts("{url: env:HOOK}")
    desk.ended(3, error="Is <!channel> & <script> refused?")
    (body,) = receiver.taken
    assert list(body) == ["text"]
    assert body["text"].startswith("Segue, small, newsletter: failed. It stopped")
    assert "Is &lt;!channel&gt; &amp; &lt;script&gt; refused?" in body["text"]
    assert "run r1, exit code 3" in body["text"]


def test_no_address_and_no_secret_is_told(desk: Desk, receiver: Receiver) -> None:
    desk.alerts("{url: env:HOOK, format: json}", "{url: env:HOOK}")
    desk.ended(2, error=f"ann@shop.example, posted to {receiver.url}")
    assert len(receiver.taken) == 2
    assert not any(word in json.dumps(receiver.taken) for word in ("ann", "a-secret-path"))


def test_a_message_that_was_not_taken_is_told_by_the_next_run(desk: Desk, receiver: Receiver) -> None:
    receiver.status = 503
    (warning,) = desk.ended(3)
    assert warning == "The alert of segue.yml:8 about newsletter was not delivered: it answered 503."
    assert receiver.tries == 2
    receiver.status = 200
    assert desk.ended(3) == []
    assert [body["run_id"] for body in receiver.taken] == ["r2"]


def test_a_failure_nobody_heard_of_has_no_recovery(desk: Desk, receiver: Receiver) -> None:
    receiver.status = 503
    desk.ended(3)
    receiver.status = 200
    desk.ended(0)
    assert receiver.taken == []


def test_a_recovery_that_was_not_taken_is_told_by_the_next_run(desk: Desk, receiver: Receiver) -> None:
    desk.ended(3)
    receiver.status = 500
    assert desk.ended(0) != []
    receiver.status = 200
    desk.ended(0)
    assert [(body["event"], body["run_id"]) for body in receiver.taken] == [
        ("failed", "r1"),
        ("recovered", "r3"),
    ]


def test_the_address_is_in_no_warning(
    desk: Desk, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = []
    receiver.silent = True
    said += desk.ended(3)
    monkeypatch.setenv("HOOK", receiver.url.replace("http://127", "http://256"))
    said += desk.ended(3)
    monkeypatch.setenv("HOOK", "no address at all: a-secret-path")
    said += desk.ended(3)
    monkeypatch.delenv("HOOK")
    said += desk.ended(3)
    assert len(said) == 4
    assert not any("a-secret-path" in warning for warning in said)
    assert "HOOK is not set" in said[-1]


def test_a_redirect_is_not_followed(desk: Desk, receiver: Receiver) -> None:
    receiver.status = 307
    assert desk.ended(3) != []
    assert receiver.tries == 2


def test_each_destination_and_each_receiver_is_told_on_its_own(desk: Desk, receiver: Receiver) -> None:
    desk.alerts("{url: env:HOOK, format: json}", "{url: env:HOOK, format: slack, destinations: [club]}")
    desk.ended(3)
    desk.ended(3, destination="club")
    desk.ended(0)
    assert [body.get("destination", "slack") for body in receiver.taken] == [
        "newsletter",
        "club",
        "slack",
        "newsletter",
    ]


def test_a_plan_neither_alerts_nor_heals(desk: Desk, receiver: Receiver) -> None:
    desk.ended(3, kind="plan")
    assert receiver.taken == []
    desk.ended(3)
    desk.ended(0, kind="plan")
    assert [body["event"] for body in receiver.taken] == ["failed"]


def test_a_pull_that_works_does_not_heal_a_run_that_fails_every_night(desk: Desk, receiver: Receiver) -> None:
    for _ in range(3):
        desk.ended(0, kind="pull")
        desk.ended(4)
    assert [body["event"] for body in receiver.taken] == ["failed"]
    desk.ended(0, kind="apply")
    assert [body["event"] for body in receiver.taken] == ["failed", "recovered"]


def test_a_pull_that_fails_is_healed_by_its_like(desk: Desk, receiver: Receiver) -> None:
    desk.ended(3, kind="pull")
    desk.ended(0, kind="pull")
    assert [body["event"] for body in receiver.taken] == ["failed", "recovered"]


def test_a_test_message_changes_nothing(desk: Desk, receiver: Receiver) -> None:
    assert alerts.test(load_project(desk.folder)) == []
    desk.ended(0)
    assert [(body["event"], body["destination"]) for body in receiver.taken] == [("test", "newsletter, club")]


def test_a_destination_that_is_not_there_is_a_mistake_in_its_line(desk: Desk) -> None:
    desk.alerts("{url: env:HOOK, destinations: [newsleter]}")
    with pytest.raises(
        ConfigError, match=r'segue\.yml:8: alerts.0.*no destination is called "newsleter". Did you mean'
    ):
        load_project(desk.folder)


def test_an_address_does_not_stand_in_yaml(desk: Desk) -> None:
    desk.alerts("{url: 'https://chat.example/hooks/1'}")
    with pytest.raises(ConfigError, match="a secret does not stand in YAML"):
        load_project(desk.folder)


@pytest.fixture
def watched(shop: Shop, receiver: Receiver) -> Shop:
    """A shop whose runs tell the receiver, on each database in turn."""
    del receiver
    shop.stock(2)
    shop.build()
    with (shop.folder / "segue.yml").open("a") as file:
        file.write("alerts: [{url: env:HOOK, format: json}]\n")
    return shop


def newest(shop: Shop) -> Run:
    with ExitStack() as stack:
        return shop.job(stack).store.runs.newest(1)[0]


def test_a_run_tells_and_a_lost_message_is_in_its_report_alone(watched: Shop, receiver: Receiver) -> None:
    watched.sandbox.emulator.faults.arm([Fault(kind=FaultKind.ERROR, count=100)])
    receiver.status = 500
    with pytest.raises(SegueError):
        watched.run(rebuild=False)
    run = newest(watched)
    assert run.exit_code == 3
    assert "was not delivered: it answered 500" in run.report["warnings"][0]
    receiver.status = 200
    with pytest.raises(SegueError):
        watched.run(rebuild=False)
    watched.sandbox.emulator.faults.arm([])
    assert watched.run(rebuild=False).exit_code == 0
    assert [body["event"] for body in receiver.taken] == ["failed", "recovered"]


def test_a_bug_is_told_when_it_happens(
    watched: Shop, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stumble(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("ann@shop.example")

    monkeypatch.setattr(Courier, "carry", stumble)
    with pytest.raises(ZeroDivisionError):
        watched.run(rebuild=False)
    (body,) = receiver.taken
    assert (body["event"], body["exit_code"]) == ("failed", 70)
    assert "ZeroDivisionError in sync/telemetry/test_alerts.py" in body["detail"]
    assert "ann" not in json.dumps(body)
    assert newest(watched).status is RunStatus.FAILED


def test_a_build_that_fails_is_told_once_and_healed_by_a_run(desk: Desk, receiver: Receiver) -> None:
    project = load_project(desk.folder)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), alerts.telling(project, ["newsletter"]):
            raise ZeroDivisionError("ann@shop.example")
    (body,) = receiver.taken
    assert (body["destination"], body["exit_code"]) == ("newsletter", 70)
    assert "ann" not in json.dumps(body)


def test_where_the_store_does_not_open_it_is_told_all_the_same(desk: Desk, receiver: Receiver) -> None:
    (desk.folder / ".segue").write_text("in the way")
    project = load_project(desk.folder)
    with pytest.raises(StoreError), alerts.telling(project, ["club"]):
        raise StoreError("it does not open.")
    assert [(body["destination"], body["detail"]) for body in receiver.taken] == [
        ("club", "it does not open.")
    ]


class KilledError(BaseException):
    """Stands for a signal: nothing catches it."""


def test_a_kill_is_told_by_the_next_run_before_its_own_end(watched: Shop, receiver: Receiver) -> None:
    def die(*_: Any, **__: Any) -> None:
        raise KilledError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Courier, "carry", die)
        with pytest.raises(KilledError):
            watched.run(rebuild=False)
    assert receiver.taken == []
    watched.run(rebuild=False)
    assert [(body["event"], body["headline"]) for body in receiver.taken] == [
        ("failed", "It was interrupted: its process ended without a word."),
        ("recovered", "2 changes arrived."),
    ]
