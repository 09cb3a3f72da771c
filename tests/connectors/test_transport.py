import json
import socket
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import requests
import responses
from urllib3 import HTTPSConnectionPool
from urllib3.exceptions import MaxRetryError, NameResolutionError, NewConnectionError

from segue.connectors.limiter import Clock, Limiter
from segue.connectors.transport import Patience, RefusedRequestError, Timeouts, Transport, Verdict
from segue.core.errors import (
    AuthenticationError,
    DestinationError,
    OutcomeUnknownError,
    RejectedBatchError,
    RetryableError,
    SegueError,
)
from segue.core.model import RateLimit

BASE = "https://us19.esp.test/3.0"
KEY = "0123456789abcdef-us19"
ADDRESS = "jane.doe@shop.test"
HASH = "b58996c504c5638798eb6b511e6f49af"


class Hours:
    """A clock that only moves when somebody sleeps."""

    def __init__(self) -> None:
        self.seconds = 1000.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.slept.append(seconds)
        self.seconds += seconds

    def clock(self) -> Clock:
        return Clock(now=lambda: self.seconds, sleep=self.sleep)


@pytest.fixture
def hours() -> Hours:
    return Hours()


@pytest.fixture
def esp() -> Iterator[responses.RequestsMock]:
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        yield mock


Make = Callable[..., Transport]


@pytest.fixture
def make(hours: Hours) -> Iterator[Make]:
    made: list[Transport] = []

    def build(base: str = BASE, **options: Any) -> Transport:
        limits = options.pop("rate_limits", ())
        limiter = Limiter(options.pop("concurrency", 3), limits, clock=hours.clock())
        transport = Transport(base, label="Esp", auth=("segue", KEY), limiter=limiter, **options)
        made.append(transport)
        return transport

    yield build
    for transport in made:
        transport.close()


def problem(title: str, status: int) -> dict[str, Any]:
    detail = f"{ADDRESS} is the trouble"
    return {
        "body": json.dumps({"title": title, "status": status, "detail": detail}),
        "content_type": "application/problem+json; charset=utf-8",
        "status": status,
    }


def sent(esp: responses.RequestsMock) -> int:
    return len(esp.calls)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, RefusedRequestError),
        (401, AuthenticationError),
        (403, AuthenticationError),
        (404, RefusedRequestError),
        (405, DestinationError),
        (409, RefusedRequestError),
        (413, RefusedRequestError),
        (422, RefusedRequestError),
        (423, RetryableError),
        (425, RetryableError),
        (429, RetryableError),
        (500, RetryableError),
        (501, DestinationError),
        (502, RetryableError),
        (503, RetryableError),
        (504, RetryableError),
        (599, RetryableError),
    ],
)
def test_each_status_becomes_the_error_that_says_what_to_do(
    esp: responses.RequestsMock, make: Make, status: int, error: type[SegueError]
) -> None:
    esp.get(f"{BASE}/things", **problem("Some Title", status))
    with pytest.raises(error) as caught:
        make(patience=Patience(attempts=2, total_seconds=60)).request("GET", "/things")
    assert type(caught.value) is error
    assert str(status) in str(caught.value)


def test_a_refusal_keeps_the_answer_for_the_connector_and_counts_as_a_rejected_batch(
    esp: responses.RequestsMock, make: Make
) -> None:
    esp.post(f"{BASE}/things", **problem("Member Exists", 400))
    with pytest.raises(RejectedBatchError) as caught:
        make().request("POST", "/things", json={})
    error = caught.value
    assert isinstance(error, RefusedRequestError)
    assert (error.status, error.code, error.body["status"]) == (400, "Member Exists", 400)
    assert sent(esp) == 1


def test_a_404_that_is_no_problem_document_is_about_our_address_not_about_the_thing(
    esp: responses.RequestsMock, make: Make
) -> None:
    esp.get(f"{BASE}/members/{HASH}", body="<html>no such page</html>", status=404, content_type="text/html")
    with pytest.raises(DestinationError, match="base URL") as caught:
        make().request("GET", f"/members/{HASH}")
    assert not isinstance(caught.value, RejectedBatchError)


def test_a_connectors_row_beats_the_table(esp: responses.RequestsMock, make: Make, hours: Hours) -> None:
    esp.get(f"{BASE}/things", status=403)
    esp.get(f"{BASE}/things", json={"ok": True})
    transport = make(errors={(403, ""): Verdict.THROTTLED})
    assert transport.request("GET", "/things").body == {"ok": True}
    assert transport.traffic().throttled == 1


def test_the_same_status_with_a_title_keeps_its_own_meaning(esp: responses.RequestsMock, make: Make) -> None:
    esp.get(f"{BASE}/things", **problem("User Disabled", 403))
    with pytest.raises(AuthenticationError, match="User Disabled"):
        make(errors={(403, ""): Verdict.THROTTLED}).request("GET", "/things")


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "DELETE"])
def test_what_passes_is_tried_again_until_it_works(
    esp: responses.RequestsMock, make: Make, hours: Hours, method: str
) -> None:
    esp.add(method, f"{BASE}/things", status=500)
    esp.add(method, f"{BASE}/things", body=requests.ReadTimeout("jane"))
    esp.add(method, f"{BASE}/things", json={"ok": True})
    transport = make()
    assert transport.request(method, "/things").body == {"ok": True}
    assert transport.traffic().retries == 2
    assert len(hours.slept) == 2
    assert hours.slept[1] > 0.5


def test_attempts_are_capped(esp: responses.RequestsMock, make: Make) -> None:
    esp.get(f"{BASE}/things", status=500)
    with pytest.raises(RetryableError):
        make(patience=Patience(attempts=3, total_seconds=1e9)).request("GET", "/things")
    assert sent(esp) == 3


def test_total_time_is_capped(esp: responses.RequestsMock, make: Make, hours: Hours) -> None:
    esp.get(f"{BASE}/things", status=500)
    with pytest.raises(RetryableError):
        make(patience=Patience(attempts=10**6, total_seconds=60)).request("GET", "/things")
    assert sum(hours.slept) <= 60


def test_being_told_to_slow_down_costs_no_attempt(esp: responses.RequestsMock, make: Make) -> None:
    for _ in range(7):
        esp.get(f"{BASE}/things", status=429, headers={"Retry-After": "1"})
    esp.get(f"{BASE}/things", json={"ok": True})
    transport = make(patience=Patience(attempts=1, total_seconds=600))
    assert transport.request("GET", "/things").body == {"ok": True}
    assert transport.traffic().throttled == 7


@pytest.mark.parametrize("header", [{}, {"Retry-After": "0"}, {"Retry-After": "soon"}])
def test_being_told_to_slow_down_for_ever_ends_with_the_time(
    esp: responses.RequestsMock, make: Make, hours: Hours, header: dict[str, str]
) -> None:
    esp.get(f"{BASE}/things", status=429, headers=header)
    with pytest.raises(RetryableError) as caught:
        make(patience=Patience(total_seconds=20)).request("GET", "/things")
    assert caught.value.throttled
    assert sum(hours.slept) <= 20


def test_retry_after_in_seconds_wins_over_our_own_wait(
    esp: responses.RequestsMock, make: Make, hours: Hours
) -> None:
    esp.get(f"{BASE}/things", status=503, headers={"Retry-After": "17"})
    esp.get(f"{BASE}/things", json={"ok": True})
    make().request("GET", "/things")
    assert 17 <= sum(hours.slept) <= 18


def test_retry_after_as_a_date_is_counted_from_the_answers_own_date(
    esp: responses.RequestsMock, make: Make, hours: Hours
) -> None:
    from datetime import UTC, datetime, timedelta

    then = datetime(2011, 12, 10, tzinfo=UTC)
    headers = {
        "Date": format_datetime(then, usegmt=True),
        "Retry-After": format_datetime(then + timedelta(seconds=40), usegmt=True),
    }
    esp.get(f"{BASE}/things", status=429, headers=headers)
    esp.get(f"{BASE}/things", json={"ok": True})
    make().request("GET", "/things")
    assert 40 <= sum(hours.slept) <= 42


def test_a_retry_after_beyond_our_patience_ends_the_call_at_once_and_is_passed_on(
    esp: responses.RequestsMock, make: Make, hours: Hours
) -> None:
    esp.get(f"{BASE}/things", status=429, headers={"Retry-After": "3600"})
    with pytest.raises(RetryableError) as caught:
        make().request("GET", "/things")
    assert caught.value.retry_after == 3600
    assert (sent(esp), hours.slept) == (1, [])


def test_one_throttled_answer_holds_the_whole_account_back(
    esp: responses.RequestsMock, make: Make, hours: Hours
) -> None:
    esp.get(f"{BASE}/slow", status=429, headers={"Retry-After": "50"})
    esp.get(f"{BASE}/other", json={"ok": True})
    transport = make(patience=Patience(total_seconds=10))
    with pytest.raises(RetryableError):
        transport.request("GET", "/slow")
    transport.request("GET", "/other")
    assert sum(hours.slept) == 50


@pytest.mark.parametrize(
    "answer",
    [
        {"status": 500},
        {"status": 502, "body": "<html>", "content_type": "text/html"},
        {"status": 503},
        {"status": 504},
        {"body": requests.ReadTimeout(ADDRESS)},
        {"body": requests.ConnectionError(ADDRESS)},
        {"body": requests.exceptions.ChunkedEncodingError(ADDRESS)},
        {"status": 200, "body": '{"new_members": [', "content_type": "application/json"},
        {"status": 200, "body": "<html>", "content_type": "text/html"},
        {"status": 200, "body": "", "content_type": "application/json"},
        {"status": 200, "body": b"\xff\xfe", "content_type": "application/json"},
    ],
)
def test_a_request_that_may_raise_consent_is_sent_once_and_its_lost_answer_is_unknown(
    esp: responses.RequestsMock, make: Make, hours: Hours, answer: dict[str, Any]
) -> None:
    esp.post(f"{BASE}/things", **answer)
    transport = make()
    with pytest.raises(OutcomeUnknownError, match="not known"):
        transport.request("POST", "/things", json={"status": "subscribed"}, retry=False)
    assert (sent(esp), hours.slept, transport.traffic().retries) == (1, [], 0)


@pytest.mark.parametrize(
    "answer",
    [
        {"status": 429},
        {"status": 408},
        {"status": 503, "headers": {"Retry-After": "5"}},
        {"body": requests.ConnectTimeout(ADDRESS)},
    ],
)
def test_such_a_request_that_was_certainly_not_carried_out_may_go_back_to_the_gate(
    esp: responses.RequestsMock, make: Make, answer: dict[str, Any]
) -> None:
    esp.post(f"{BASE}/things", **answer)
    with pytest.raises(RetryableError):
        make().request("POST", "/things", json={}, retry=False)
    assert sent(esp) == 1


def test_such_a_request_does_not_wait_behind_a_closed_door(esp: responses.RequestsMock, make: Make) -> None:
    esp.get(f"{BASE}/slow", status=429, headers={"Retry-After": "50"})
    transport = make(patience=Patience(total_seconds=10))
    with pytest.raises(RetryableError):
        transport.request("GET", "/slow")
    with pytest.raises(RetryableError) as caught:
        transport.request("POST", "/things", json={}, retry=False)
    assert caught.value.retry_after == 50
    assert [call.request.method for call in esp.calls] == ["GET"]


def test_a_mangled_answer_to_a_safe_write_ends_as_retryable(esp: responses.RequestsMock, make: Make) -> None:
    esp.patch(f"{BASE}/things", body='{"half', content_type="application/json")
    with pytest.raises(RetryableError, match="mangled"):
        make(patience=Patience(attempts=4)).request("PATCH", "/things", json={})
    assert sent(esp) == 4


def test_204_is_a_success_without_a_body(esp: responses.RequestsMock, make: Make) -> None:
    esp.post(f"{BASE}/tags", status=204)
    answer = make().request("POST", "/tags", json={})
    assert (answer.status, answer.body) == (204, None)


def test_an_empty_object_is_an_answer(esp: responses.RequestsMock, make: Make) -> None:
    esp.get(f"{BASE}/things", json={})
    assert make().request("GET", "/things").body == {}


def test_a_redirect_is_not_followed_with_the_key(esp: responses.RequestsMock, make: Make) -> None:
    esp.post(f"{BASE}/things", status=302, headers={"Location": "https://elsewhere.test/"})
    with pytest.raises(DestinationError, match="302"):
        make().request("POST", "/things", json={})
    assert sent(esp) == 1


@pytest.mark.parametrize(
    "answer",
    [
        problem(f"Title with {ADDRESS}", 400),
        problem("API Key Invalid", 401),
        {"status": 500, "body": ADDRESS},
        {"status": 500, "headers": {"X-Request-Id": ADDRESS}},
        {"status": 418, "body": ADDRESS},
        {"body": requests.ConnectionError(f"{ADDRESS} {HASH} {KEY}")},
        {"body": requests.exceptions.InvalidHeader(f"{ADDRESS} {HASH} {KEY}")},
    ],
)
@pytest.mark.parametrize("retry", [True, False])
@pytest.mark.parametrize("path", [f"/lists/b1/members/{HASH}/tags", f"/lists/b1/members/{ADDRESS}"])
def test_no_error_holds_an_address_its_hash_or_the_key(
    esp: responses.RequestsMock, make: Make, answer: dict[str, Any], retry: bool, path: str
) -> None:
    esp.post(f"{BASE}{path}", **answer)
    with pytest.raises(SegueError) as caught:
        make(patience=Patience(attempts=1)).request(
            "POST", path, params={"q": ADDRESS}, json=ADDRESS, retry=retry
        )
    told = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert not [secret for secret in (ADDRESS, "jane.doe", HASH, KEY) if secret in told]


def test_an_error_names_place_status_code_and_request_id(esp: responses.RequestsMock, make: Make) -> None:
    esp.patch(
        f"{BASE}/lists/b1/members/{HASH}",
        **problem("Invalid Resource", 400),
        headers={"X-Request-Id": "r-77"},
    )
    with pytest.raises(RefusedRequestError) as caught:
        make().request("PATCH", f"/lists/b1/members/{HASH}", json={})
    assert str(caught.value) == "Esp refuses PATCH /lists/b1/members/… (400 Invalid Resource, request r-77)."


def test_json_goes_out_compact_and_as_utf8(esp: responses.RequestsMock, make: Make) -> None:
    esp.post(f"{BASE}/things", json={})
    make().request("POST", "/things", json={"name": "Zoë", "n": [1, 2]})
    request = esp.calls[0].request
    assert request.body == '{"name":"Zoë","n":[1,2]}'.encode()
    assert request.headers["Content-Type"] == "application/json"


def test_a_request_without_contents_sends_none(esp: responses.RequestsMock, make: Make) -> None:
    esp.get(f"{BASE}/things", json={})
    make().request("GET", "/things")
    request = esp.calls[0].request
    assert request.body is None
    assert "Content-Type" not in request.headers


def test_a_plus_in_a_query_is_encoded(esp: responses.RequestsMock, make: Make) -> None:
    esp.get(f"{BASE}/things", json={})
    make().request("GET", "/things", params={"since": "2011-12-10T00:00:00+00:00"})
    assert str(esp.calls[0].request.url).endswith("since=2011-12-10T00%3A00%3A00%2B00%3A00")


def test_traffic_counts_every_attempt_by_method(
    esp: responses.RequestsMock, make: Make, hours: Hours
) -> None:
    def slowly(_: Any) -> tuple[int, dict[str, str], str]:
        hours.seconds += 2
        return 200, {"Content-Type": "application/json"}, "{}"

    esp.get(f"{BASE}/things", status=500)
    esp.add_callback("GET", f"{BASE}/things", slowly)
    esp.add_callback("POST", f"{BASE}/things", slowly)
    transport = make()
    transport.request("GET", "/things")
    before = transport.traffic()
    transport.request("POST", "/things", json={})
    after = transport.traffic()
    assert dict(after.by_method) == {"GET": 2, "POST": 1}
    assert (after.requests, after.reads, after.writes, after.retries) == (3, 2, 1, 1)
    assert after.seconds == 4
    assert before.requests == 2  # a snapshot stays as it was


def test_a_window_is_never_overfilled(hours: Hours) -> None:
    limiter = Limiter(
        1, [RateLimit(count=3, seconds=10), RateLimit(count=4, seconds=60)], clock=hours.clock()
    )
    turns = []
    for _ in range(9):
        with limiter.slot():
            turns.append(hours.seconds)
    for seconds, count in ((10, 3), (60, 4)):
        for start in turns:
            assert sum(start <= turn < start + seconds for turn in turns) <= count
    assert turns[-1] - turns[0] == 120  # and no slower than the limits force


def test_no_more_requests_at_once_than_allowed() -> None:
    limiter, order = Limiter(3), list[str]()

    def fourth() -> None:
        with limiter.slot():
            order.append("fourth comes in")

    with limiter.slot(), limiter.slot():
        with limiter.slot():
            thread = threading.Thread(target=fourth)
            thread.start()
            thread.join(
                0.05
            )  # right code blocks here whatever the machine's speed; wrong code gets its chance
            order.append("one goes out")
        thread.join()
    assert order == ["one goes out", "fourth comes in"]


class Counting(ThreadingHTTPServer):
    """A real HTTP/1.1 listener on this machine that counts connections; `reply` writes raw bytes."""

    daemon_threads = True
    connections = 0
    reply: Callable[[BaseHTTPRequestHandler], None]

    def get_request(self) -> tuple[socket.socket, Any]:
        self.connections += 1
        return super().get_request()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        assert isinstance(self.server, Counting)
        self.server.reply(self)

    def do_POST(self) -> None:
        self.do_GET()

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass  # not to the terminal


@contextmanager
def listening(reply: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[tuple[Counting, str]]:
    with Counting(("127.0.0.1", 0), Handler) as server:
        server.reply = reply
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server, f"http://127.0.0.1:{server.server_port}/3.0"
        finally:
            server.shutdown()
            thread.join()


def fine(handler: BaseHTTPRequestHandler) -> None:
    handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", "2")
    handler.send_header("Set-Cookie", "who=jane")
    handler.end_headers()
    handler.wfile.write(b"{}")


def test_one_connection_serves_many_requests(make: Make) -> None:
    with listening(fine) as (server, base):
        transport = make(base)
        for _ in range(8):
            transport.request("POST", "/things", json={})
        transport.close()
        assert server.connections == 1


def test_a_cut_off_answer_is_never_taken_for_a_whole_one(make: Make) -> None:
    def cut(handler: BaseHTTPRequestHandler) -> None:
        handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", "20")
        handler.end_headers()
        handler.wfile.write(b"{}")  # whole JSON, and still not what was announced
        handler.close_connection = True

    with listening(cut) as (_, base):
        transport = make(base, patience=Patience(attempts=2))
        with pytest.raises(OutcomeUnknownError):
            transport.request("POST", "/things", json={}, retry=False)
        with pytest.raises(RetryableError):
            transport.request("GET", "/things")
        transport.close()


def test_a_broken_connection_after_sending_is_unknown(make: Make) -> None:
    def slam(handler: BaseHTTPRequestHandler) -> None:
        handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        handler.close_connection = True

    with listening(slam) as (_, base), make(base) as transport, pytest.raises(OutcomeUnknownError):
        transport.request("POST", "/things", json={}, retry=False)


def test_a_slow_answer_ends_at_the_read_timeout(make: Make) -> None:
    done = threading.Event()

    def hang(handler: BaseHTTPRequestHandler) -> None:
        done.wait(10)
        handler.close_connection = True

    with listening(hang) as (_, base):
        transport = make(base, timeouts=Timeouts(read=0.05))
        with pytest.raises(OutcomeUnknownError, match="Timeout"):
            transport.request("POST", "/things", json={}, retry=False)
        done.set()
        transport.close()


def test_a_program_on_this_machine_that_does_not_run_is_said_at_once(make: Make, hours: Hours) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: refuses
        base = f"http://127.0.0.1:{taken.getsockname()[1]}/3.0"
        with pytest.raises(RetryableError, match=r"cannot reach .*Is the sandbox running\?"):
            make(base).request("GET", "/things")
    assert hours.slept == []


@pytest.mark.parametrize("error", [NewConnectionError, NameResolutionError])
def test_a_host_that_cannot_be_reached_is_tried_again_and_was_never_sent_to(
    esp: responses.RequestsMock, make: Make, hours: Hours, error: type[Exception]
) -> None:
    pool = HTTPSConnectionPool("us19.esp.test")
    told = "nobody there"
    reason = (
        NameResolutionError("us19.esp.test", pool, socket.gaierror(told))  # type: ignore[arg-type]  # as urllib3 itself does
        if error is NameResolutionError
        else NewConnectionError(pool, told)  # type: ignore[arg-type]  # as urllib3 itself does
    )
    esp.add(
        "GET", f"{BASE}/things", body=requests.ConnectionError(MaxRetryError(pool, "/3.0/things", reason))
    )
    esp.add(
        "POST", f"{BASE}/things", body=requests.ConnectionError(MaxRetryError(pool, "/3.0/things", reason))
    )
    transport = make(patience=Patience(attempts=2))
    with pytest.raises(RetryableError, match=r"cannot reach us19\.esp\.test"):
        transport.request("GET", "/things")
    with pytest.raises(RetryableError, match="cannot reach"):
        transport.request("POST", "/things", json={}, retry=False)
    assert len(hours.slept) == 1


def test_a_companys_proxy_is_not_asked_for_this_machine(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with listening(fine) as (_, base), make(base) as transport:
        assert transport.request("GET", "/things").body == {}


def test_no_cookie_travels_from_one_request_to_the_next(make: Make) -> None:
    cookies = []

    def keep(handler: BaseHTTPRequestHandler) -> None:
        cookies.append(handler.headers.get("Cookie"))
        fine(handler)

    with listening(keep) as (_, base), make(base) as transport:
        transport.request("GET", "/things")
        transport.request("GET", "/things")
    assert cookies == [None, None]
