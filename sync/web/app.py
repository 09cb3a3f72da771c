"""What `segue serve` is: the doors and what works off behind them, in one process, until it is told to stop.

Nothing is decided here about a message or a contact.
"""

import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from ...connectors.registry import connector_class
from ...core.config import Project, resolve_secret
from ...core.errors import ConfigError, Problem
from ..serving import Serving
from ..store.store import Store
from .api import Api, refusal
from .hurry import HurriedProtocol
from .receiver import Door, Receiver

_TOKEN_LENGTH: Final = 32
_AT_ONCE: Final = 500  # connections; more are told to come again, which every sender does
_BACKLOG: Final = 2_048  # connections that wait to be accepted
_HEADERS: Final = 16 * 1024  # bytes of a request's line and headers
_SWITCH: Final = 0.001  # seconds for which a thread that works off may keep the one at the doors waiting
_GRACE: Final = 10  # seconds that requests under way are given at the end


def doors(project: Project) -> list[Door]:
    """Give a door for each destination that has `webhooks`. Raises ConfigError with every mistake at once."""
    found: list[Door] = []
    problems: list[Problem] = []
    for destination, config in project.destinations.items():
        if config.webhooks is None:
            continue
        where = project.place("destinations", destination, "webhooks")
        webhooks = connector_class(config.connector).webhooks
        if webhooks is None:
            problems.append(
                Problem(where=where, message=f"{config.connector} posts no webhooks that are read.")
            )
            continue
        try:
            token = resolve_secret(config.webhooks.token, project.folder)
            signed = [resolve_secret(each, project.folder) for each in config.webhooks.secrets]
        except ConfigError as error:
            problems.append(Problem(where=where, message=error.message))
            continue
        if len(token) < _TOKEN_LENGTH or not token.replace("-", "").replace("_", "").isalnum():
            problems.append(
                Problem(
                    where=where,
                    message=f"the token is part of a path and must be {_TOKEN_LENGTH} letters and digits or more.",
                    next_step=f"Make one: python3 -c 'import secrets; print(secrets.token_urlsafe({_TOKEN_LENGTH}))'",
                )
            )
            continue
        found.append(Door(destination=destination, token=token, webhooks=webhooks, secrets=signed))
    if problems:
        raise ConfigError.of(problems)
    return found


def path_of(door: Door) -> str:
    """Give the path by which an ESP reaches a door."""
    return f"/webhooks/{door.destination}/{door.token}"


def serve(project: Project, store: Store, announce: Callable[[str, int], None]) -> None:
    """Listen and work off until SIGTERM or Ctrl-C. What was acknowledged is on disk, whenever the process dies."""
    open_doors = doors(project)
    serving = Serving(project, store, {door.destination: door.webhooks for door in open_doors})
    receiver = Receiver(
        open_doors,
        store.inbox,
        clock=lambda: datetime.now(UTC),
        stored=serving.came,
        public_url=project.serve.public_url,
    )
    api = Api(project, store, receiver)

    async def health(_: Request) -> JSONResponse:
        well = receiver.healthy and serving.healthy
        return JSONResponse({"status": "ok" if well else "failing"}, status_code=200 if well else 503)

    config = uvicorn.Config(
        Starlette(
            routes=[Route("/healthz", health), *receiver.routes(), *api.routes()],
            exception_handlers={HTTPException: refusal},
        ),
        host=project.serve.host,
        port=project.serve.port,
        http=HurriedProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="error",  # what is not HTTP is not worth a line each
        access_log=False,  # a path holds a token
        server_header=False,
        limit_concurrency=_AT_ONCE,
        h11_max_incomplete_event_size=_HEADERS,
        timeout_graceful_shutdown=_GRACE,
    )
    sys.setswitchinterval(_SWITCH)
    with (
        _listening(project) as listener,
        _started(serving.start, serving.stop),
        _started(receiver.start, receiver.stop),
    ):
        announce(project.serve.host, listener.getsockname()[1])
        uvicorn.Server(config).run([listener])


def _listening(project: Project) -> socket.socket:
    """Give a socket at which nobody is turned away from now on."""
    host, port = project.serve.host, project.serve.port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        why = (error.strerror or type(error).__name__).lower()
        raise ConfigError(
            f"{project.place('serve')}: cannot listen on {host}, port {port}: {why}. Does another `segue serve` run?"
        ) from None


@contextmanager
def _started(start: Callable[[], None], stop: Callable[[], None]) -> Iterator[None]:
    start()
    try:
        yield
    finally:
        stop()
