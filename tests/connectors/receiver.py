"""A real HTTP server that takes webhooks and answers as it is told."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Received:
    method: str
    path: str
    headers: Message
    body: bytes


class Receiver:
    """Keeps what arrived, in order. `answers` are the statuses of the next requests, then 200; None never answers."""

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.answers: list[int | None] = []
        self.gone = threading.Event()
        self.url = ""

    def posts(self) -> list[Received]:
        return [each for each in self.received if each.method == "POST"]

    @contextmanager
    def running(self) -> Iterator["Receiver"]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", "0")))
                receiver.received.append(Received(self.command, self.path, self.headers, body))
                status = receiver.answers.pop(0) if receiver.answers else 200
                if status is None:
                    receiver.gone.wait(30)
                    return
                self.send_response(status)
                if status == 301:
                    self.send_header("location", "/moved")
                self.send_header("content-length", "0")
                self.end_headers()

            def do_POST(self) -> None:
                self.do_GET()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its parent's name for it
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield self
        finally:
            self.gone.set()
            server.shutdown()
            thread.join()
            server.server_close()
