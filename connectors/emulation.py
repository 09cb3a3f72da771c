"""Runs an emulator as a local process: the front door with its limits and faults, the control endpoints, the server.

Nothing here knows an ESP's words. Control lives under `/_control`, needs no key and never counts as traffic; the
server binds to loopback alone.
"""

import asyncio
import contextlib
import json
import socket
import struct
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from ..core.errors import ConfigError
from .emulator import Answer, Call, Emulator, Pace, PersonAct, RollingWindow
from .faults import Fault, FaultKind


class _Door:
    """The ASGI edge: counts what is in flight, lets faults happen, records. Runs on the server's loop alone."""

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator
        self._in_flight = 0
        self._window = RollingWindow()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._in_flight += 1
        try:
            await self._serve(Request(scope, receive), send)
        except ClientDisconnect:
            return  # went away while sending: nothing happened
        finally:
            self._in_flight -= 1

    async def _serve(self, request: Request, send: Send) -> None:
        emulator, started = self._emulator, time.perf_counter()
        number = emulator.traffic.next_number()
        call = Call(
            method=request.method,
            path=request.url.path,
            base_url=str(request.base_url).rstrip("/"),
            query=dict(request.query_params),
            pairs=request.query_params.multi_items(),
            headers=dict(request.headers),
            body=await request.body(),
            number=number,
        )
        call = emulator.route(call)
        pace, traffic = emulator.pace, emulator.traffic
        traffic.peak_in_flight = max(traffic.peak_in_flight, self._in_flight)
        fault: Fault | None = None
        if self._too_many(pace):
            answer = emulator.refusal(429)
        else:
            await asyncio.sleep(pace.latency)  # with 0 too: whatever arrived together is in flight together
            answer, fault = self._answer(call)
            if fault is not None and fault.kind is FaultKind.SLOW:
                await asyncio.sleep(fault.seconds)
        content = answer.encode()
        if fault is not None and fault.kind is FaultKind.TRUNCATED:
            content = content[: len(content) // 2]
        with emulator.lock:
            emulator.record(
                call,
                answer,
                query=call.pairs,
                seconds=time.perf_counter() - started,
                fault=fault.kind if fault else None,
            )
        if fault is not None and fault.kind in {FaultKind.RESET, FaultKind.LOST_ANSWER}:
            await _break_connection(request)
            return
        response = Response(content, answer.status, headers=dict(answer.headers))
        if content:
            response.headers["content-type"] = answer.media_type
        await response(request.scope, request.receive, send)

    def _too_many(self, pace: Pace) -> bool:
        if self._in_flight > pace.concurrency:
            return True
        if pace.rate is None:
            return False
        now = self._emulator.clock.now()
        if self._window.count(now, pace.rate.seconds) >= pace.rate.count:
            return True
        self._window.add(now)
        return False

    def _answer(self, call: Call) -> tuple[Answer, Fault | None]:
        emulator = self._emulator
        with emulator.lock:
            fault = emulator.faults.draw(call.method, call.path)
            if fault is None:
                return emulator.handle(call), None
            answer = emulator.handle(call) if fault.takes_effect else Answer()
            match fault.kind:
                case FaultKind.THROTTLED:
                    answer = emulator.refusal(429)
                case FaultKind.ERROR:
                    answer = emulator.refusal(500)
                case FaultKind.UNAVAILABLE:
                    answer = emulator.refusal(503)
                case FaultKind.GATEWAY:
                    page = b"<html><body><h1>502 Bad Gateway</h1></body></html>"
                    answer = Answer(status=502, body=page, media_type="text/html")
                case FaultKind.CHALLENGED:
                    page = b"<html><body><h1>Just a moment...</h1></body></html>"
                    headers = {"cf-mitigated": "challenge"}
                    answer = Answer(status=403, body=page, media_type="text/html", headers=headers)
                case FaultKind.RESET | FaultKind.LOST_ANSWER | FaultKind.TRUNCATED | FaultKind.SLOW:
                    pass
            return answer, fault


async def _break_connection(request: Request) -> None:
    """Close the socket with a reset, as a dying machine does, and wait until the server has noticed."""
    transport: asyncio.Transport = request.scope["state"]["transport"]
    endpoint = transport.get_extra_info("socket")
    endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
    await request.receive()


def application(emulator: Emulator) -> Starlette:
    """Build the ASGI application of an emulator."""
    return Starlette(
        routes=[Mount("/_control", app=_Control(emulator).app()), Mount("/", app=_Door(emulator))]
    )


class _Control:
    """The endpoints that tests, the demo and a curious person steer the emulator with."""

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator

    def app(self) -> Starlette:
        """Build their ASGI application."""
        routes = {
            "/": (self._overview, ["GET"]),
            "/state": (self._state, ["GET"]),
            "/counters": (self._counters, ["GET"]),
            "/requests": (self._requests, ["GET"]),
            "/faults": (self._faults, ["GET", "POST", "DELETE"]),
            "/clock": (self._clock, ["GET", "POST", "DELETE"]),
            "/settings": (self._settings, ["GET", "PATCH"]),
            "/people": (self._people, ["GET", "POST"]),
            "/webhooks": (self._webhooks, ["GET", "PATCH", "DELETE"]),
            "/reset": (self._reset, ["POST"]),
        }
        locked = [Route(path, self._locked(act), methods=methods) for path, (act, methods) in routes.items()]
        return Starlette(routes=[*locked, Route("/webhooks/done", self._webhooks_done, methods=["GET"])])

    def _locked(self, act: Callable[[Request, Any], Any]) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            text = await request.body()
            with self._emulator.lock:
                try:
                    return JSONResponse(act(request, json.loads(text) if text else {}))
                except KeyError as error:
                    return JSONResponse({"error": f"missing or unknown: {error}"}, status_code=400)
                except (ConfigError, ValueError, TypeError, LookupError, AttributeError) as error:
                    return JSONResponse({"error": str(error)}, status_code=400)

        return answer

    def _overview(self, _: Request, __: Any) -> Any:
        return {
            "emulator": self._emulator.name,
            "GET /_control/state": "what the account holds; ?count=100&offset=0 or ?address=",
            "GET /_control/counters": "requests so far",
            "GET /_control/requests": "the latest requests; ?last=50",
            "GET|POST|DELETE /_control/faults": '{"seed": 1, "faults": [{"kind": "error", "count": 2}]}',
            "GET|POST|DELETE /_control/clock": '{"now": "2026-01-31T12:00:00Z"} or {"advance": 3600}',
            "GET|PATCH /_control/settings": "the account's plan, mode, limits",
            "GET /_control/people": "who is there and how they stand, in words of no ESP; ?address=",
            "POST /_control/people": '{"act": "unsubscribe", "audience": "...", "address": "..."}',
            "GET|PATCH|DELETE /_control/webhooks": 'deliveries; ?last=50 or {"seed": 1, "lose": 0.1, "paused": false}',
            "GET /_control/webhooks/done": "waits until all deliveries are done; ?seconds=10",
            "POST /_control/reset": "everything back to how it began",
        }

    def _state(self, request: Request, _: Any) -> Any:
        query = request.query_params
        count, offset = int(query.get("count", "100")), int(query.get("offset", "0"))
        return self._emulator.state(count=count, offset=offset, address=query.get("address"))

    def _counters(self, _: Request, __: Any) -> Any:
        return self._emulator.traffic.counters()

    def _requests(self, request: Request, _: Any) -> Any:
        last = int(request.query_params.get("last", "50"))
        return list(self._emulator.traffic.log)[-last:] if last > 0 else []

    def _faults(self, request: Request, raw: Any) -> Any:
        faults = self._emulator.faults
        if request.method == "POST":
            faults.arm([Fault.parse(each) for each in raw["faults"]], seed=int(raw.get("seed", 0)))
        elif request.method == "DELETE":
            faults.arm(())
        return faults.describe()

    def _clock(self, request: Request, raw: Any) -> Any:
        clock = self._emulator.clock
        if request.method == "DELETE":
            clock.release()
        elif "now" in raw:
            clock.set(_instant(raw["now"]))
        elif request.method == "POST":
            clock.advance(timedelta(seconds=float(raw["advance"])))
        return {"now": clock.now().isoformat()}

    def _settings(self, request: Request, raw: Any) -> Any:
        if request.method == "PATCH":
            self._emulator.change_settings(raw)
        return self._emulator.settings()

    def _people(self, request: Request, raw: Any) -> Any:
        if request.method == "GET":
            address = request.query_params.get("address")
            found = [each for each in self._emulator.people() if address in {None, each.address}]
            return {"people": [{**asdict(each), "tags": sorted(each.tags)} for each in found]}
        act = PersonAct(raw["act"])
        self._emulator.act(act, audience=raw.get("audience", ""), address=raw["address"])
        return {"done": act}

    def _webhooks(self, request: Request, raw: Any) -> Any:
        sender = self._emulator.sender
        if request.method == "PATCH":
            sender.change(raw)
        elif request.method == "DELETE":
            sender.clear()
        return sender.describe(last=int(request.query_params.get("last", "50")))

    async def _webhooks_done(self, request: Request) -> Response:
        """Wait off the loop and without the lock: whoever receives a webhook may ask this ESP before answering."""
        sender = self._emulator.sender
        try:
            seconds = float(request.query_params.get("seconds", "10"))
        except ValueError as error:
            return JSONResponse({"error": str(error)}, status_code=400)
        done = await asyncio.to_thread(sender.wait, seconds)
        return JSONResponse({"done": done, **sender.describe(last=0)})

    def _reset(self, _: Request, __: Any) -> Any:
        self._emulator.reset()
        return {"done": "reset"}


def _instant(text: str) -> datetime:
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None:
        raise ValueError("now needs a zone, as in 2026-01-31T12:00:00Z")
    return instant


class _Protocol(H11Protocol):
    """uvicorn's HTTP protocol, which also hands its transport to the application: faults must break connections."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's own does
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}


def _listen(port: int) -> socket.socket:
    # Naming TCP lets asyncio turn off Nagle on accepted sockets; without it every kept-alive call costs 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except OSError:
        listener.close()
        raise ConfigError(f"port {port} is taken on this machine; choose another with --port") from None
    listener.listen(256)
    return listener


def _server(emulator: Emulator) -> uvicorn.Server:
    return uvicorn.Server(
        uvicorn.Config(
            application(emulator),
            http=_Protocol,
            loop="asyncio",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            timeout_graceful_shutdown=1,
        )
    )


@contextlib.contextmanager
def running(emulator: Emulator, *, port: int = 0) -> Iterator[str]:
    """Run the emulator on a thread of its own and give its base URL, without a slash at the end; 0 is any free port.

    The socket listens before this returns, so the first request needs no waiting.
    """
    with _listen(port) as listener:
        server = _server(emulator)
        thread = threading.Thread(
            target=server.run, args=([listener],), name=f"{emulator.name} emulator", daemon=True
        )
        thread.start()
        try:
            yield _origin(listener)
        finally:
            server.should_exit = True
            thread.join()
            emulator.sender.close()


def serve(emulator: Emulator, port: int, *, announce: Callable[[str], None] | None = None) -> None:
    """Run the emulator in this thread until it is interrupted; `announce` is told its base URL once it listens.

    Raises ConfigError when the port is taken; 0 is any free one.
    """
    with _listen(port) as listener, contextlib.suppress(KeyboardInterrupt):
        if announce is not None:
            announce(_origin(listener))
        _server(emulator).run([listener])


def _origin(listener: socket.socket) -> str:
    host, port = listener.getsockname()
    return f"http://{host}:{port}"
