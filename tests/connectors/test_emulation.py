"""The front door, faults, clock and control that all emulators share, seen through the smallest emulator there is."""

import json
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests

from segue.connectors.emulation import running, serve
from segue.connectors.emulator import (
    Answer,
    Call,
    Emulator,
    Handler,
    Pace,
    Person,
    PersonAct,
    Raise,
    RefusedError,
)
from segue.connectors.faults import Fault, FaultKind
from segue.core.errors import ConfigError
from segue.core.model import RateLimit


class Counter(Emulator):
    """An ESP that counts."""

    name = "counter"

    def __init__(self) -> None:
        super().__init__()
        self.limits = Pace(concurrency=5)
        self.clear()

    def clear(self) -> None:
        self.count = 0
        self.limits = Pace(concurrency=5)
        self.acts: list[str] = []

    def endpoints(self) -> Sequence[tuple[str, str, Handler]]:
        return [("GET", "/count", self._read), ("POST", "/count/{name}", self._add)]

    def _read(self, _: Call) -> Answer:
        return Answer(body={"count": self.count, "text": "zwölf"})

    def _add(self, call: Call) -> Answer:
        if call.parameters["name"] == "nobody":
            raise RefusedError(Answer(status=422, body={"name": "nobody"}))
        self.count += 1
        return Answer(body={"count": self.count, "name": call.parameters["name"]})

    @property
    def pace(self) -> Pace:
        return self.limits

    def admit(self, call: Call) -> None:
        if call.headers.get("x-key") != "key":
            raise RefusedError(Answer(status=401))

    def refusal(self, status: int) -> Answer:
        return Answer(status=status, body={"status": status})

    def state(self, *, count: int, offset: int, address: str | None) -> dict[str, Any]:
        return {"count": self.count, "asked": [count, offset, address]}

    def people(self) -> Sequence[Person]:
        return ()

    @property
    def raises(self) -> Sequence[Raise]:
        return ()

    def settings(self) -> dict[str, Any]:
        return {"concurrency": self.limits.concurrency}

    def change_settings(self, changes: Mapping[str, Any]) -> None:
        if set(changes) != {"concurrency"}:
            raise ConfigError("no such setting")
        self.limits = Pace(concurrency=changes["concurrency"])

    def act(self, act: PersonAct, *, audience: str, address: str) -> None:
        if audience != "all":
            raise LookupError("no such audience")
        self.acts.append(f"{act} {address}")


class Caller:
    """A keep-alive client of one running counter."""

    def __init__(self, emulator: Counter, origin: str) -> None:
        self.emulator = emulator
        self.origin = origin
        self.session = requests.Session()
        self.session.headers["x-key"] = "key"

    def get(self, path: str = "/count", **more: Any) -> requests.Response:
        return self.session.get(self.origin + path, timeout=5, **more)

    def add(self, name: str = "one") -> requests.Response:
        return self.session.post(f"{self.origin}/count/{name}", timeout=5)

    def control(self, method: str, path: str, body: Any = None) -> requests.Response:
        return self.session.request(method, f"{self.origin}/_control{path}", json=body, timeout=5)


@pytest.fixture(scope="module")
def process() -> Iterator[Caller]:
    emulator = Counter()
    with running(emulator) as origin:
        caller = Caller(emulator, origin)
        with caller.session:
            yield caller


@pytest.fixture
def caller(process: Caller) -> Caller:
    process.emulator.reset()
    return process


def test_a_call_reaches_its_endpoint_with_the_names_of_the_path(caller: Caller) -> None:
    assert caller.add("some").json() == {"count": 1, "name": "some"}
    assert caller.get().json() == {"count": 1, "text": "zwölf"}


def test_a_slash_at_the_end_changes_nothing(caller: Caller) -> None:
    assert caller.get("/count/").status_code == 200


def test_a_refusal_changes_nothing_and_is_answered(caller: Caller) -> None:
    assert caller.add("nobody").status_code == 422
    assert caller.emulator.count == 0


def test_without_the_key_nothing_is_told_about_paths(caller: Caller) -> None:
    assert caller.get("/count", headers={"x-key": "no"}).status_code == 401
    assert caller.get("/nowhere", headers={"x-key": "no"}).status_code == 401


def test_unknown_paths_and_methods_are_refused_in_the_esps_way(caller: Caller) -> None:
    assert caller.get("/nowhere").json() == {"status": 404}
    assert caller.session.delete(caller.origin + "/count", timeout=5).json() == {"status": 405}


def test_an_answer_without_body_has_no_content_type(caller: Caller) -> None:
    answer = caller.get(headers={"x-key": "no"})
    assert answer.content == b""
    assert "content-type" not in answer.headers


def test_counters_tell_reads_from_writes_by_endpoint_and_leave_control_out(caller: Caller) -> None:
    caller.get()
    caller.add("a")
    caller.add("b")
    caller.get("/nowhere")
    counters = caller.control("GET", "/counters").json()
    assert (counters["requests"], counters["reads"], counters["writes"]) == (4, 2, 2)
    assert counters["by_endpoint"] == {"GET /count": 1, "POST /count/{name}": 2, "GET (unknown path)": 1}
    assert counters["by_status"] == {"200": 3, "404": 1}


def test_the_log_is_bounded_and_keeps_the_latest(caller: Caller) -> None:
    for _ in range(3):
        caller.get()
    caller.add("last")
    entries = caller.control("GET", "/requests?last=2").json()
    assert [entry["endpoint"] for entry in entries] == ["GET /count", "POST /count/{name}"]
    assert caller.emulator.traffic.log.maxlen is not None


# Faults


def arm(caller: Caller, *faults: Fault, seed: int = 0) -> None:
    caller.emulator.faults.arm(faults, seed=seed)


@pytest.mark.parametrize(
    ("kind", "status"), [(FaultKind.THROTTLED, 429), (FaultKind.ERROR, 500), (FaultKind.UNAVAILABLE, 503)]
)
def test_a_plain_failure_says_so_and_has_not_happened(caller: Caller, kind: FaultKind, status: int) -> None:
    arm(caller, Fault(kind=kind, count=1))
    assert caller.add().status_code == status
    assert caller.emulator.count == 0
    assert caller.add().status_code == 200


def test_a_reset_breaks_the_connection_before_anything_happened(caller: Caller) -> None:
    arm(caller, Fault(kind=FaultKind.RESET, count=1))
    with pytest.raises(requests.ConnectionError):
        caller.add()
    assert caller.emulator.count == 0


def test_a_lost_answer_happened(caller: Caller) -> None:
    arm(caller, Fault(kind=FaultKind.LOST_ANSWER, count=1))
    with pytest.raises(requests.ConnectionError):
        caller.add()
    assert caller.emulator.count == 1


def test_a_truncated_answer_happened_and_is_no_json(caller: Caller) -> None:
    arm(caller, Fault(kind=FaultKind.TRUNCATED, count=1))
    answer = caller.add()
    assert answer.status_code == 200
    with pytest.raises(requests.exceptions.JSONDecodeError):
        answer.json()
    assert caller.emulator.count == 1


def test_a_gateway_error_is_html_and_happened_behind_it(caller: Caller) -> None:
    arm(caller, Fault(kind=FaultKind.GATEWAY, count=1))
    answer = caller.add()
    assert (answer.status_code, answer.headers["content-type"]) == (502, "text/html")
    assert caller.emulator.count == 1


def test_a_slow_answer_holds_its_connection_for_as_long_as_told(caller: Caller) -> None:
    arm(caller, Fault(kind=FaultKind.SLOW, count=1, seconds=0.05))
    assert caller.add().json() == {"count": 1, "name": "one"}
    assert caller.emulator.traffic.log[-1]["seconds"] >= 0.05


def test_a_fault_may_be_told_to_happen_although_its_kind_does_not(caller: Caller) -> None:
    arm(caller, Fault(kind=FaultKind.ERROR, count=1, happens=True))
    assert caller.add().status_code == 500
    assert caller.emulator.count == 1


def test_a_fault_hits_only_the_requests_it_names(caller: Caller) -> None:
    arm(caller, Fault(kind=FaultKind.ERROR, method="POST", path="/bad$", skip=1, count=1))
    assert [caller.get().status_code, caller.add("good").status_code] == [200, 200]
    assert [caller.add("bad").status_code for _ in range(3)] == [200, 500, 200]


def test_the_same_seed_gives_the_same_misfortune(caller: Caller) -> None:
    def statuses(seed: int) -> list[int]:
        arm(caller, Fault(kind=FaultKind.ERROR, probability=0.5), seed=seed)
        return [caller.get().status_code for _ in range(12)]

    assert statuses(1) == statuses(1)
    assert statuses(1) != statuses(2)


@pytest.mark.parametrize(
    "raw", [{"kind": "nonsense"}, {"kind": "error", "chance": 1}, {"kind": "error", "probability": 2}]
)
def test_a_wrong_fault_is_refused_in_words(caller: Caller, raw: dict[str, Any]) -> None:
    answer = caller.control("POST", "/faults", {"faults": [raw]})
    assert answer.status_code == 400
    assert answer.json()["error"]


# Limits


@contextmanager
def held(caller: Caller) -> Iterator[socket.socket]:
    """Hold one connection in the middle of a request: the emulator has its head and waits for its body."""
    host, port = caller.origin.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        head = "POST /count/one HTTP/1.1\r\nHost: x\r\nX-Key: key\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
        connection.sendall(head.encode())
        assert b"100" in connection.recv(1000)
        yield connection


def test_more_simultaneous_connections_than_allowed_are_refused_at_once(caller: Caller) -> None:
    caller.emulator.limits = Pace(concurrency=2)
    with held(caller):
        assert caller.get().status_code == 200
        with held(caller):
            assert caller.get().status_code == 429
        assert caller.emulator.traffic.peak_in_flight == 3


def test_a_request_that_began_before_a_reset_does_not_count_after_it(caller: Caller) -> None:
    with held(caller) as connection:
        caller.emulator.reset()
        connection.sendall(b"{}")
        assert b"200 OK" in connection.recv(1000)
    assert caller.emulator.traffic.requests == 0


def test_a_rate_counts_in_the_emulators_own_time(caller: Caller) -> None:
    caller.emulator.limits = Pace(concurrency=5, rate=RateLimit(count=2, seconds=10))
    caller.emulator.clock.set(datetime(2026, 1, 1, tzinfo=UTC))
    seen = []
    for _ in range(4):
        seen.append(caller.get().status_code)
        caller.emulator.clock.advance(timedelta(seconds=4))
    assert seen == [200, 200, 429, 200]  # the first has left the window, the refused one was never in it


# Control


def test_control_dumps_state_by_page_or_address(caller: Caller) -> None:
    caller.add()
    assert caller.control("GET", "/state").json() == {"count": 1, "asked": [100, 0, None]}
    assert caller.control("GET", "/state?count=5&offset=10&address=a").json()["asked"] == [5, 10, "a"]


def test_control_sets_and_advances_the_clock(caller: Caller) -> None:
    assert caller.control("POST", "/clock", {"now": "2026-01-31T12:00:00+01:00"}).json()["now"] == (
        "2026-01-31T11:00:00+00:00"
    )
    caller.control("POST", "/clock", {"advance": 60})
    assert caller.emulator.clock.now() == datetime(2026, 1, 31, 11, 1, tzinfo=UTC)
    caller.control("DELETE", "/clock")
    assert caller.emulator.clock.now().year >= 2026
    assert caller.control("POST", "/clock", {"now": "2026-01-31T12:00:00"}).status_code == 400


def test_control_arms_shows_and_disarms_faults(caller: Caller) -> None:
    caller.control("POST", "/faults", {"seed": 3, "faults": [{"kind": "error", "count": 1}]})
    assert caller.get().status_code == 500
    [shown] = caller.control("GET", "/faults").json()
    assert (shown["kind"], shown["fired"]) == ("error", 1)
    assert caller.control("DELETE", "/faults").json() == []


def test_control_changes_settings_or_says_what_is_wrong(caller: Caller) -> None:
    assert caller.control("PATCH", "/settings", {"concurrency": 3}).json() == {"concurrency": 3}
    refused = caller.control("PATCH", "/settings", {"nonsense": 3})
    assert (refused.status_code, refused.json()) == (400, {"error": "no such setting"})


def test_control_lets_people_act(caller: Caller) -> None:
    assert caller.control("POST", "/people", {"act": "bounce", "audience": "all", "address": "a@b.de"}).ok
    assert caller.emulator.acts == ["bounce a@b.de"]
    wrongs: tuple[Any, ...] = (
        {"act": "dance", "audience": "all", "address": "a"},
        {"act": "bounce"},
        [],
        "text",
    )
    for wrong in wrongs:
        assert caller.control("POST", "/people", wrong).status_code == 400


def test_reset_puts_everything_back(caller: Caller) -> None:
    caller.add()
    caller.emulator.clock.set(datetime(2020, 1, 1, tzinfo=UTC))
    arm(caller, Fault(kind=FaultKind.ERROR))
    caller.control("POST", "/reset")
    assert caller.get().json()["count"] == 0
    assert caller.emulator.clock.now().year > 2020
    assert caller.emulator.traffic.requests == 1


def test_control_explains_itself(caller: Caller) -> None:
    assert "GET /_control/counters" in caller.control("GET", "/").json()


def test_a_recorder_sees_bodies_whole_and_the_log_keeps_none(caller: Caller) -> None:
    seen: list[Any] = []
    caller.emulator.traffic.recorder = seen.append
    try:
        caller.session.post(caller.origin + "/count/one", json={"a": [1]}, timeout=5)
        caller.session.post(caller.origin + "/count/one", data="null", timeout=5)
        caller.session.post(caller.origin + "/count/one", data="{broken", timeout=5)
    finally:
        caller.emulator.traffic.recorder = None
    assert [each.body for each in seen] == [{"a": [1]}, None, b"{broken"]
    assert seen[0].answer == {"count": 1, "name": "one"}
    assert "a" not in json.dumps([entry.get("body") for entry in caller.emulator.traffic.log]).replace(
        "null", ""
    )


def test_a_taken_port_is_said_in_one_sentence(caller: Caller) -> None:
    port = int(caller.origin.rpartition(":")[2])
    with pytest.raises(ConfigError, match=f"port {port} is taken"):
        serve(Counter(), port)
