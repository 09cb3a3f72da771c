"""What `segue serve` is: the doors and what works off behind them, in one process, until it is told to stop.

Nothing is decided here about a message or a contact.
"""

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from ...connectors.registry import connector_class
from ...core.config import Project, resolve_secret
from ...core.errors import ConfigError, Problem
from ..serving import Serving
from ..store.store import Store
from .receiver import Door, Receiver

_TOKEN_LENGTH: Final = 32
_AT_ONCE: Final = 200  # connections; more are told to come again, which every sender does


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
                    next_step=f"This one was just made by chance: {secrets.token_urlsafe(_TOKEN_LENGTH)}",
                )
            )
            continue
        found.append(Door(destination=destination, token=token, webhooks=webhooks, secrets=signed))
    if problems:
        raise ConfigError.of(problems)
    if not found:
        raise ConfigError(
            "No destination in segue.yml has `webhooks`, so there is nothing to listen for. docs/webhooks.md shows how."
        )
    return found


def path_of(door: Door) -> str:
    """Give the path by which an ESP reaches a door."""
    return f"/webhooks/{door.destination}/{door.token}"


def serve(project: Project, store: Store, announce: Callable[[str, int], None]) -> None:
    """Listen and work off until SIGTERM or Ctrl-C. What was acknowledged is on disk, whenever the process dies."""
    open_doors = doors(project)
    serving = Serving(project, store, {door.destination: door.webhooks for door in open_doors})
    receiver = Receiver(open_doors, store.inbox, clock=lambda: datetime.now(UTC), stored=serving.came)
    config = uvicorn.Config(
        Starlette(routes=[receiver.route(), Route("/health", _health)]),
        host=project.serve.host,
        port=project.serve.port,
        log_config=None,
        access_log=False,  # a path holds a token
        server_header=False,
        lifespan="off",
        limit_concurrency=_AT_ONCE,
    )
    with _started(serving.start, serving.stop), _started(receiver.start, receiver.stop):
        server = uvicorn.Server(config)
        listener = config.bind_socket()
        announce(project.serve.host, listener.getsockname()[1])
        server.run([listener])


@contextmanager
def _started(start: Callable[[], None], stop: Callable[[], None]) -> Iterator[None]:
    start()
    try:
        yield
    finally:
        stop()


async def _health(_: Request) -> JSONResponse:
    return JSONResponse({"status": "ok"})
