"""What comes over real sockets on this machine: kept connections, broken, slow, cut and dripping answers, forks."""

import gzip
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from segue.connectors.limiter import Limiter
from segue.connectors.patience import Patience
from segue.connectors.transport import RefusedRequestError, Timeouts, Transport
from segue.connectors.verdicts import Dialect
from segue.core.errors import (
    OutcomeUnknownError,
    RetryableError,
)

from .conftest import KEY, Hours, Make


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


def saying(content: bytes, **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    """Answer with these bytes."""

    def reply(handler: BaseHTTPRequestHandler) -> None:
        handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        handler.send_response(200)
        for name, value in {"Content_Type": "application/json", **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        with suppress(OSError):  # the reader may have had enough
            handler.wfile.write(content)

    return reply


def real(base: str, **options: Any) -> Transport:
    """A transport on the machine's own clock, that tries once."""
    return Transport(
        base,
        dialect=Dialect(label="Esp"),
        auth=("segue", KEY),
        limiter=Limiter(3),
        patience=Patience(attempts=1),
        **options,
    )


def test_a_connection_is_kept_after_answers_of_every_shape(make: Make) -> None:
    def shaped(handler: BaseHTTPRequestHandler) -> None:
        handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        kind = handler.path.rpartition("/")[2]
        if kind == "silent":
            handler.send_response(204)
            handler.end_headers()
            return
        handler.send_response(400 if kind == "refused" else 200)
        handler.send_header("Content-Type", "application/json")
        content = b'{"long": "' + b"x" * 200_000 + b'"}'
        if kind == "zipped":
            content = gzip.compress(content)
            handler.send_header("Content-Encoding", "gzip")
        if kind == "chunked":
            handler.send_header("Transfer-Encoding", "chunked")
            handler.end_headers()
            for start in range(0, len(content), 50_000):
                piece = content[start : start + 50_000]
                handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            handler.wfile.write(b"0\r\n\r\n")
            return
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    with listening(shaped) as (server, base), make(base) as transport:
        for kind in ("long", "silent", "zipped", "chunked", "refused", "long"):
            if kind == "refused":
                with pytest.raises(RefusedRequestError):
                    transport.request("POST", f"/{kind}", json={})
                continue
            body = transport.request("POST", f"/{kind}", json={}).body
            assert kind == "silent" or len(body["long"]) == 200_000
        assert server.connections == 1


def test_an_answer_that_drips_for_ever_ends_at_the_total_time() -> None:
    over = threading.Event()

    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", "1000000")
        handler.end_headers()
        with suppress(OSError):
            for _ in range(1000):
                if over.wait(0.01):
                    break
                handler.wfile.write(b" ")
        handler.close_connection = True

    with listening(drip) as (_, base), real(base, timeouts=Timeouts(read=30, total=0.1)) as transport:
        with pytest.raises(OutcomeUnknownError, match="OverdueError"):
            transport.request("POST", "/things", json={}, retry=False)
        over.set()


@pytest.mark.parametrize(
    "reply",
    [
        saying(b"\x1f\x8b garbage", Content_Encoding="gzip"),
        saying(gzip.compress(b'{"cut": "off"}', mtime=0)[:-14], Content_Encoding="gzip"),
        saying('{"name": "Zoë"}'.encode("latin-1")),
        saying(b"\xff\xfe\xfd", Content_Type="application/json; charset=utf-8"),
        saying(b"{}", Content_Type="application/json; charset=klingon"),
        saying(b"{}", Content_Type="text/html"),
        saying(b"<html>Please log in</html>", Content_Type="text/html"),
        saying(b"[" * 100_000),
        saying(b'{"half":'),
        saying(b""),
        saying(b"not chunked\r\n", Transfer_Encoding="chunked"),
    ],
)
def test_an_answer_that_makes_no_sense_is_unknown_where_it_matters_and_else_tried_again(
    make: Make, reply: Callable[[BaseHTTPRequestHandler], None]
) -> None:
    with listening(reply) as (_, base), make(base, patience=Patience(attempts=2)) as transport:
        with pytest.raises(OutcomeUnknownError):
            transport.request("POST", "/things", json={}, retry=False)
        with pytest.raises(RetryableError):
            transport.request("POST", "/things", json={})
        assert transport.traffic().failed == 3


def test_an_answer_without_end_is_not_read_to_the_end() -> None:
    def flood(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.end_headers()
        with suppress(OSError):
            for _ in range(80):
                handler.wfile.write(b" " * 2**20)
        handler.close_connection = True

    with (
        listening(flood) as (_, base),
        real(base) as transport,
        pytest.raises(OutcomeUnknownError, match="OversizeError"),
    ):
        transport.request("POST", "/things", json={}, retry=False)


def test_a_small_answer_that_unfolds_to_a_huge_one_is_not_unfolded_whole() -> None:
    bomb = gzip.compress(b" " * 80 * 2**20)
    with (
        listening(saying(bomb, Content_Encoding="gzip")) as (_, base),
        real(base) as transport,
        pytest.raises(OutcomeUnknownError, match="OversizeError"),
    ):
        transport.request("POST", "/things", json={}, retry=False)


def test_the_charset_that_an_answer_declares_is_heeded(make: Make) -> None:
    reply = saying('{"name": "Zoë"}'.encode("latin-1"), Content_Type="application/json; charset=ISO-8859-1")
    with listening(reply) as (_, base), make(base) as transport:
        assert transport.request("GET", "/things").body == {"name": "Zoë"}


def test_a_fork_gets_connections_of_its_own(make: Make) -> None:
    with listening(fine) as (server, base), make(base) as transport:
        transport.request("GET", "/things")
        child = os.fork()
        if child == 0:
            code = 1
            try:
                transport.request("GET", "/things")
                code = 0 if transport.traffic().requests == 1 else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        transport.request("GET", "/things")
        assert server.connections == 2
