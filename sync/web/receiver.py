"""Takes in what ESPs post: proved, read, durable, and then acknowledged. What follows from it is worked off elsewhere.

Decisions. A message is answered with 200 only after its transaction is on disk: an ESP that hears less sends again, and
one that hears 200 too early never does. Messages that arrive together share a transaction, because a commit takes the
disk as long for one as for a hundred. A wrong path is answered as if nothing were there, and before a byte of the body is
read. What is refused is counted and never logged in its words: whoever forges it chooses them.

Limits are generous to ESPs, who come again after a 429 anyway, and are no wall for them: whoever fails to prove themselves
uses up the allowance of their own address alone, and a proved message is never refused for what others did.
"""

import asyncio
import hmac
import math
import queue
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from ...connectors.webhooks import ForgedError, MalformedError, Webhooks
from ...core.errors import SegueError
from ..store.inbox import Inbox, Message
from ..unforeseen import as_ours
from .limits import Allowance, peer_of

_LOG = structlog.get_logger(__name__)

LARGEST: Final = 256 * 1024
"""Bytes of a body; the largest that an ESP is known to post has some kilobytes."""
SECONDS: Final = 10.0
"""How long a body may take to arrive: senders give up after as long."""
_DOOR: Final = (1_000, 5_000)  # messages a second of one destination, and at once
_FAILURES: Final = (5, 100)  # of one address, a second and at once; then 429 is all that it hears of them
_LOGGED: Final = (1, 20)  # refusals that are logged of one destination and status; all are counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """Where one destination's messages come in: at a path that nobody guesses, signed where there are secrets."""

    destination: str
    token: str
    webhooks: Webhooks
    secrets: Sequence[str] = field(default=(), repr=False)


class Refused(Exception):  # noqa: N818 - an answer, not a fault
    """A message that is not taken in, and the HTTP status that says so."""

    def __init__(self, status: int, why: str, *, retry_after: float = 0.0) -> None:
        super().__init__(why)
        self.status = status
        self.why = why
        self.retry_after = retry_after


class Receiver:
    """The doors of all destinations. `stored` is called whenever something new is in an inbox."""

    def __init__(
        self,
        doors: Sequence[Door],
        inbox: Inbox,
        *,
        clock: Callable[[], datetime],
        stored: Callable[[], None],
        public_url: str | None = None,
    ) -> None:
        self._public_url = public_url
        self._doors: Mapping[str, Door] = {door.destination: door for door in doors}
        self._clock = clock
        self._scribe = _Scribe(inbox, stored)
        self._messages, self._failures, self._logged = (
            Allowance(rate=rate, burst=burst) for rate, burst in (_DOOR, _FAILURES, _LOGGED)
        )
        self.taken: Counter[str] = Counter()
        """Messages that were acknowledged, by destination, those that came again as well."""
        self.refusals: Counter[tuple[str, int]] = Counter()
        """Requests that were refused, by destination and status; no destination where the path is nobody's."""

    def routes(self) -> list[Route]:
        """Give the routes; GET is the probe by which ESPs try a new webhook.

        A number after a path makes another address of the same door, for a second webhook while one replaces another.
        """
        path = "/webhooks/{destination}/{token}"
        return [
            Route(each, self._answer, methods=["GET", "POST"]) for each in (path, f"{path}/{{number:int}}")
        ]

    @property
    def healthy(self) -> bool:
        """Whether messages can be stored, as far as it is known."""
        return self._scribe.healthy

    def start(self) -> None:
        """Begin to take in."""
        self._scribe.start()

    def stop(self) -> None:
        """Store what is on its way, and end."""
        self._scribe.stop()

    async def _answer(self, request: Request) -> Response:
        destination = request.path_params["destination"]
        try:
            door = self._door(destination, request)
            if request.method == "POST":
                await self._take(door, request)
                self.taken[destination] += 1
        except Refused as refused:
            return self._refusal(refused, destination, request)
        except ClientDisconnect:
            return Response(status_code=400)
        except Exception as error:  # noqa: BLE001 - its own message could quote what was posted
            _LOG.error("webhook_failed", why=as_ours(error).message)
            return Response(status_code=500)
        return Response(status_code=200)

    def _refusal(self, refused: Refused, destination: str, request: Request) -> Response:
        status, again = refused.status, refused.retry_after
        if status < 500 and not again and (again := self._failures.take(peer_of(request))):
            status = 429
        known = destination if destination in self._doors else ""
        self.refusals[known, status] += 1
        if not self._logged.take(f"{known} {status}"):
            _LOG.info("webhook_refused", destination=known, status=status, why=refused.why)
        headers = {"Retry-After": str(math.ceil(again))} if again else None
        return Response(status_code=status, headers=headers)

    def _door(self, destination: str, request: Request) -> Door:
        door, token = self._doors.get(destination), request.path_params["token"]
        # Compared also where there is no such door: the answer takes as long.
        expected = door.token if door else "-" * 43
        if not hmac.compare_digest(expected.encode(), token.encode()) or door is None:
            raise Refused(404, "a path that is nobody's")
        return door

    def _address(self, request: Request) -> str:
        """Give the address that was posted to, as the ESP knows it: a proxy may have another one."""
        url = request.url
        if self._public_url is None:
            return str(url)
        return f"{self._public_url.rstrip('/')}{url.path}{f'?{url.query}' if url.query else ''}"

    async def _take(self, door: Door, request: Request) -> None:
        body = await _body(request)
        if door.secrets:
            try:
                door.webhooks.prove(
                    request.headers,
                    body,
                    url=self._address(request),
                    secrets=door.secrets,
                    now=self._clock(),
                )
            except ForgedError as error:
                raise Refused(401, error.message) from None
        if again := self._messages.take(door.destination):
            raise Refused(429, "more messages than one destination has", retry_after=again)
        content_type = request.headers.get("content-type", "")
        try:
            events = door.webhooks.read(body, content_type)
        except MalformedError as error:
            raise Refused(400, error.message) from None
        if not events:
            return
        message = Message(
            destination=door.destination,
            name="\n".join(event.key for event in events),
            content_type=content_type,
            body=body,
        )
        await self._scribe.store(message)


async def _body(request: Request) -> bytes:
    """Read a body, no longer and no more of it than is bearable."""
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(SECONDS):
            async for part in request.stream():
                size += len(part)
                if size > LARGEST:
                    raise Refused(413, "a body that is too large")
                parts.append(part)
    except TimeoutError:
        raise Refused(408, "a body that took too long") from None
    return b"".join(parts)


@dataclass(frozen=True, slots=True)
class _Waiting:
    message: Message
    loop: asyncio.AbstractEventLoop
    kept: asyncio.Future[None]

    def tell(self, error: Exception | None) -> None:
        def told() -> None:
            if self.kept.done():  # whoever waited has gone
                return
            if error is None:
                self.kept.set_result(None)
            else:
                self.kept.set_exception(error)

        self.loop.call_soon_threadsafe(told)


class _Scribe:
    """Stores messages on a thread of its own, all that wait in one transaction."""

    def __init__(self, inbox: Inbox, stored: Callable[[], None]) -> None:
        self._inbox = inbox
        self._stored = stored
        self._waiting: queue.Queue[_Waiting | None] = (
            queue.Queue()
        )  # no longer than the server has connections
        self._failed = False
        self._thread = threading.Thread(target=self._work, name="scribe")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._waiting.put(None)
        self._thread.join()

    @property
    def healthy(self) -> bool:
        """Whether the last messages could be stored."""
        return self._thread.is_alive() and not self._failed

    async def store(self, message: Message) -> None:
        """Return when the message is on disk; raise Refused when it is not."""
        loop = asyncio.get_running_loop()
        waiting = _Waiting(message, loop, loop.create_future())
        self._waiting.put_nowait(waiting)
        try:
            await waiting.kept
        except SegueError:
            raise Refused(503, "a store that cannot be written", retry_after=1) from None

    def _work(self) -> None:
        ending = False
        while not ending:
            together = [self._waiting.get()]
            while not self._waiting.empty():
                together.append(self._waiting.get_nowait())
            ending = None in together
            batch = [each for each in together if each is not None]
            if batch:
                self._store(batch)

    def _store(self, batch: Sequence[_Waiting]) -> None:
        error: SegueError | None = None
        try:
            self._inbox.put([each.message for each in batch])
        except Exception as failure:  # noqa: BLE001 - whatever it is, the senders hear it and come again
            error = failure if isinstance(failure, SegueError) else as_ours(failure)
            _LOG.error("webhooks_not_stored", messages=len(batch), why=error.message)
        self._failed = error is not None
        if error is None:
            self._stored()
        for each in batch:
            each.tell(error)
