"""The read API of `segue serve`: how destinations stand, one contact, the metrics; for whoever has a token.

What is told is gathered where the commands gather it; here it is decided who may see it, and in which form. A marketer
sees no raw address, wherever one stands in an answer. Nothing of a request is logged: a path names a contact.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from math import ceil
from threading import Lock
from typing import Any, Final
from urllib.parse import quote, quote_plus

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ...core.config import Project
from ...core.errors import BugError, DataError, SegueError
from ...core.snapshot import current
from ..contact import view
from ..plain import plain
from ..standing import standing
from ..store.store import Store
from ..store.tokens import Role, Token
from ..telemetry.metrics import exposition
from ..unforeseen import as_ours
from .limits import Allowance, peer_of
from .receiver import Receiver

_LOG = structlog.get_logger(__name__)

_READS: Final = (10, 100)  # of one token, a second and at once
_STRANGERS: Final = (1, 30)  # of one address without a good token
_ADDRESS: Final = re.compile(r"([^\s@<>\",;:()\[\]]+)(@|%40)([^\s@<>\"',;:()\[\]]+)", re.IGNORECASE)

Answer = Callable[[Request, Token], Response]


class Api:
    """The endpoints, over one project and its store."""

    def __init__(self, project: Project, store: Store, receiver: Receiver) -> None:
        self._project = project
        self._store = store
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Inboxes(project, store, receiver))
        self._viewing = Lock()  # each reads whole files, beside doors that are not to wait
        self._reads, self._strangers = (
            Allowance(rate=rate, burst=burst) for rate, burst in (_READS, _STRANGERS)
        )

    def routes(self) -> list[Route]:
        """Give the routes; each wants a token."""
        everyone, admins = frozenset(Role), frozenset({Role.ADMIN})
        return [
            Route("/api/status", self._guarded(self._status, everyone), methods=["GET"]),
            Route("/api/contacts/{contact_id:path}", self._guarded(self._contact, everyone), methods=["GET"]),
            Route("/metrics", self._guarded(self._metrics, admins), methods=["GET"]),
        ]

    def _guarded(self, answer: Answer, roles: frozenset[Role]) -> Callable[[Request], Response]:
        # No coroutine: Starlette runs it on a thread, where it may ask the database without keeping messages waiting.
        def guarded(request: Request) -> Response:
            try:
                token = self._admitted(request, roles)
                response = answer(request, token)
            except HTTPException:
                raise
            except Exception as error:  # noqa: BLE001 - its own message could quote what was asked for
                known = error if isinstance(error, SegueError) else as_ours(error)
                _LOG.error("api_failed", why=known.message)
                if isinstance(known, BugError):
                    raise HTTPException(500, "This is a bug in Segue.") from None
                raise HTTPException(503, "The data cannot be read now.", {"Retry-After": "10"}) from None
            response.headers["Cache-Control"] = "no-store"
            return response

        return guarded

    def _admitted(self, request: Request, roles: frozenset[Role]) -> Token:
        scheme, _, secret = request.headers.get("authorization", "").partition(" ")
        token = self._store.tokens.recognise(secret.strip()) if scheme.lower() == "bearer" else None
        if token is None:
            if again := self._strangers.take(peer_of(request)):
                raise _too_many(again)
            raise HTTPException(
                401, "Send a token, as `Authorization: Bearer ...`.", {"WWW-Authenticate": "Bearer"}
            )
        if again := self._reads.take(token.name):
            raise _too_many(again)
        if token.role not in roles:
            raise HTTPException(403, f"A token of the role {token.role} may not see this.")
        return token

    def _status(self, _: Request, token: Token) -> Response:
        rows = plain(standing(self._project, self._store))
        return JSONResponse(masked(rows, "") if token.role is Role.MARKETER else rows)

    def _contact(self, request: Request, token: Token) -> Response:
        who = request.path_params["contact_id"]
        try:
            with self._viewing:
                seen = view(self._project, current(self._project.state_folder), self._store, who)
        except DataError:
            raise HTTPException(404, "There is no such contact.") from None
        if seen.contact_id != who:  # found by its address, which has no place in a path
            raise HTTPException(404, "There is no such contact.")
        told = plain(seen)
        address = str(seen.traits.get("email") or "")
        return JSONResponse(masked(told, address) if token.role is Role.MARKETER else told)

    def _metrics(self, _: Request, token: Token) -> Response:
        del token
        text = exposition(self._store, self._project.destinations) + generate_latest(self._registry)
        return Response(text, media_type=CONTENT_TYPE_LATEST)


async def refusal(_: Request, error: Exception) -> Response:
    """Answer what is not to be had, in the one shape of all refusals."""
    if not isinstance(error, HTTPException):
        raise error
    status, why, headers = error.status_code, error.detail, error.headers
    if why == HTTPStatus(status).phrase:
        why = {404: "There is nothing here.", 405: "This method is not known here."}.get(status, why)
    return JSONResponse({"error": {"status": status, "message": why}}, status_code=status, headers=headers)


def masked(value: Any, address: str) -> Any:
    """Give plain JSON with every address in it masked, the one named here also where it looks like none.

    >>> masked({"email": "jo@shop.example", "seen": ["from ann@a.test"]}, "")
    {'email': 'j***@shop.example', 'seen': ['from a***@a.test']}
    """
    match value:
        case str():
            spellings = [re.escape(each) for each in (address, quote(address), quote_plus(address)) if each]
            parts = re.split("|".join(spellings), value, flags=re.IGNORECASE) if spellings else [value]
            return _mask(address).join(_ADDRESS.sub(_masked, part) for part in parts)
        case Mapping():
            return {masked(name, address): masked(below, address) for name, below in value.items()}
        case list():
            return [masked(below, address) for below in value]
        case _:
            return value


def _masked(found: re.Match[str]) -> str:
    return f"{found[1][:1]}***{found[2]}{found[3]}"


def _mask(address: str) -> str:
    local, _, domain = address.rpartition("@")
    return f"{local[:1]}***@{domain}"


def _too_many(again: float) -> HTTPException:
    return HTTPException(429, "Too many requests; come again later.", {"Retry-After": str(ceil(again))})


class _Inboxes(Collector):
    """How the inboxes stand, and what came in since this process began."""

    def __init__(self, project: Project, store: Store, receiver: Receiver) -> None:
        self._project = project
        self._store = store
        self._receiver = receiver

    def collect(self) -> Iterator[Metric]:
        """Give all families."""
        waiting = GaugeMetricFamily(
            "segue_inbox_messages", "Messages that wait, or were given up.", labels=["destination", "status"]
        )
        oldest = GaugeMetricFamily(
            "segue_inbox_oldest_timestamp_seconds",
            "When the message that waits longest came.",
            labels=["destination"],
        )
        for name, config in self._project.destinations.items():
            if config.webhooks is None:
                continue
            counts = self._store.inbox.counts(name)
            waiting.add_metric([name, "waiting"], counts.waiting)
            waiting.add_metric([name, "dead"], counts.dead)
            if counts.oldest_at is not None:
                oldest.add_metric([name], counts.oldest_at.timestamp())
        taken = CounterMetricFamily("segue_webhooks_taken", "Messages acknowledged.", labels=["destination"])
        for name, number in list(self._receiver.taken.items()):
            taken.add_metric([name], number)
        refused = CounterMetricFamily(
            "segue_webhooks_refused", "Requests at the doors refused.", labels=["destination", "status"]
        )
        for (name, status), number in list(self._receiver.refusals.items()):
            refused.add_metric([name, str(status)], number)
        yield from (waiting, oldest, taken, refused)
