"""A connection on which no whole request arrives is closed; one that is answered slowly is not."""

import asyncio
import socket
import threading
from collections.abc import Iterator

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from segue.sync.web import hurry
from segue.sync.web.hurry import HurriedProtocol

REQUEST = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"


async def _slowly(_: Request) -> PlainTextResponse:
    await asyncio.sleep(0.5)
    return PlainTextResponse("late")


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, int]]:
    monkeypatch.setattr(hurry, "SECONDS", 0.2)
    app = Starlette(routes=[Route("/", lambda _: PlainTextResponse("here")), Route("/slow", _slowly)])
    config = uvicorn.Config(app, http=HurriedProtocol, ws="none", log_config=None, lifespan="off")
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        yield listener.getsockname()
        server.should_exit = True
        thread.join()


def heard(address: tuple[str, int], *said: bytes) -> bytes:
    """Say something, each after the answer to what was before, and read until the server closes."""
    answers = b""
    with socket.create_connection(address, timeout=30) as connection:
        for each in said:
            connection.sendall(each)
            answers += connection.recv(4_096)
        while part := connection.recv(4_096):
            answers += part
    return answers


def test_who_says_nothing_or_half_of_a_request_is_cut_off(address: tuple[str, int]) -> None:
    assert heard(address) == b""
    assert heard(address, b"GET / HTTP/1.1\r\nhost: ") == b""


def test_a_later_request_of_a_connection_must_hurry_as_well(address: tuple[str, int]) -> None:
    assert heard(address, REQUEST, REQUEST, REQUEST[:20]).count(b"here") == 2


def test_an_answer_may_take_longer(address: tuple[str, int]) -> None:
    slow = REQUEST.replace(b"GET /", b"GET /slow").replace(b"host: a", b"host: a\r\nconnection: close")
    assert heard(address, slow).endswith(b"late")


def test_a_body_that_goes_on_when_its_request_was_answered_is_not_waited_for(
    address: tuple[str, int],
) -> None:
    """Each byte that came later would keep the connection, and a few hundred of them are all that there are."""
    unread = b"POST /nowhere HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\na"
    with socket.create_connection(address, timeout=2) as connection:
        connection.sendall(unread)
        answer = b""
        while not answer.endswith(b"\r\n\r\nNot Found"):
            answer += connection.recv(4_096)
        connection.sendall(b"a")
        assert connection.recv(4_096) == b""
