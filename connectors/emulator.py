"""What every emulator is: a clock, endpoints, settings, and what people do by themselves. Subclass it for an ESP.

No sockets here and no ESP's words: `emulation.py` runs an emulator as a process, with limits, faults and control.
State changes happen on one thread at a time, under `Emulator.lock`, whether a request, the control endpoints or a test
asks.
"""

import json
import re
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import cached_property
from typing import Any, ClassVar

from starlette.routing import compile_path

from ..core.consent import ConsentState
from ..core.model import RateLimit
from .faults import FaultKind, Faults
from .traffic import Exchange, Traffic
from .webhook_sender import SenderSettings, WebhookSender

JSON_TYPE = "application/json; charset=utf-8"


class PersonAct(StrEnum):
    """What a person, or the mail system on their behalf, does by themselves, outside the API."""

    UNSUBSCRIBE = "unsubscribe"
    BOUNCE = "bounce"
    COMPLAIN = "complain"
    SUBSCRIBE = "subscribe"  # by a signup form: the one act that ends every refusal
    CONFIRM = "confirm"  # follows the link of a confirmation mail
    ERASE = "erase"  # is deleted for good
    OPEN = "open"  # opens the newest mailing
    CLICK = "click"  # follows a link in it


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """One contact as an account holds it, in the words of no ESP: what tests of every connector look at.

    `name` is the ESP's own id, `state` what the ESP would do: SUBSCRIBED where it mails, also somebody who was never
    asked. `fields` are all that the ESP knows of them; whoever is `archived` is kept, and not shown as a contact.
    """

    name: str
    address: str
    state: ConsentState
    fields: Mapping[str, Any]
    tags: frozenset[str]
    archived: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Raise:
    """A write by API that made somebody mailable who had said no, or whom nobody had asked for by a consent.

    `before` and `after` are the ESP's own words, `refused` how the person had last said no, `request` the number of the
    request. The list of these must stay empty in every test of ours.
    """

    address: str
    before: str
    after: str
    refused: str | None
    request: int


class Clock:
    """The emulator's time: runs with the machine's until it is set, and then stands still until it is advanced."""

    def __init__(self) -> None:
        self._frozen: datetime | None = None
        self._ahead = timedelta()

    @property
    def standing(self) -> bool:
        """Whether it moves only when told."""
        return self._frozen is not None

    def now(self) -> datetime:
        """Give the present, aware UTC."""
        return self._frozen or datetime.now(UTC) + self._ahead

    def set(self, instant: datetime) -> None:
        """Stop at an aware instant."""
        self._frozen = instant.astimezone(UTC)

    def advance(self, by: timedelta) -> None:
        """Move on, whether running or standing."""
        if self._frozen is None:
            self._ahead += by
        else:
            self._frozen += by

    def release(self) -> None:
        """Run with the machine's time again."""
        self._frozen, self._ahead = None, timedelta()


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request as a handler sees it. `parameters` are the path's names; in `query` a repeated name keeps its last
    value, and `pairs` are the query in full.

    `within` is the number of the request whose job makes this call, None for a call from outside.
    """

    method: str
    path: str
    base_url: str
    query: Mapping[str, str] = field(default_factory=dict)
    pairs: Sequence[tuple[str, str]] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    parameters: Mapping[str, str] = field(default_factory=dict)
    template: str | None = None
    within: int | None = None
    number: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What goes back. `body` is JSON-able, or bytes sent as they are, or None for an answer without a body."""

    status: int = 200
    body: Any = None
    media_type: str = JSON_TYPE
    headers: Mapping[str, str] = field(default_factory=dict)

    def encode(self) -> bytes:
        """Give the bytes of the body."""
        if self.body is None:
            return b""
        if isinstance(self.body, bytes):
            return self.body
        return json.dumps(self.body, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")


class RefusedError(Exception):
    """A handler's way out: the request is answered with this and changes nothing more."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


class RollingWindow:
    """Counts what came in the latest seconds of an emulator's clock, which may be set back."""

    def __init__(self) -> None:
        self._recent: deque[datetime] = deque()

    def count(self, now: datetime, seconds: float) -> int:
        """Say how many came in the window that ends now."""
        window = timedelta(seconds=seconds)
        while self._recent and not timedelta() <= now - self._recent[0] < window:
            self._recent.popleft()  # older than the window, or from before the clock was set back
        return len(self._recent)

    def add(self, now: datetime) -> None:
        """Count one more."""
        self._recent.append(now)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How much the ESP takes at once, and in a rolling window of the emulator's clock; latency is real seconds."""

    concurrency: int
    rate: RateLimit | None = None
    latency: float = 0.0


Handler = Callable[[Call], Answer]


class Emulator(ABC):
    """One emulated ESP account: subclass, give endpoints, and say how this ESP refuses."""

    name: ClassVar[str]
    sending: ClassVar[SenderSettings] = SenderSettings()  # how this ESP delivers its webhooks

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.clock = Clock()
        self.faults = Faults()
        self.traffic = Traffic()
        self.sender = WebhookSender(self.clock, self.sending)

    @abstractmethod
    def endpoints(self) -> Sequence[tuple[str, str, Handler]]:
        """Give (method, path template, handler) of every endpoint; asked once. Templates have no slash at the end."""

    @property
    @abstractmethod
    def pace(self) -> Pace:
        """The limits in force now."""

    @abstractmethod
    def admit(self, call: Call) -> None:
        """Raise RefusedError for a call without the right key, or that this ESP stops at the door."""

    @abstractmethod
    def refusal(self, status: int) -> Answer:
        """Say 404, 405, 429, 500 or 503 in this ESP's way."""

    @abstractmethod
    def state(self, *, count: int, offset: int, address: str | None) -> dict[str, Any]:
        """Give what the account holds, at most `count` contacts of each audience, or the one with this address."""

    @abstractmethod
    def people(self) -> Sequence[Person]:
        """Give everybody whom the account holds, archived ones too."""

    @property
    @abstractmethod
    def raises(self) -> Sequence[Raise]:
        """The raises of consent so far, oldest first."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Give the settings in force as JSON; secrets too, for they are the sandbox's own."""

    @abstractmethod
    def change_settings(self, changes: Mapping[str, Any]) -> None:
        """Change some settings. Raises ConfigError for an unknown name or a wrong value, and then changes none."""

    @abstractmethod
    def act(self, act: PersonAct, *, audience: str, address: str) -> None:
        """Let a person act. Raises LookupError when there is no such audience or person."""

    @abstractmethod
    def clear(self) -> None:
        """Put the account and its settings back to how they began."""

    def reset(self) -> None:
        """Put everything back to how it began: account, settings, clock, faults, webhooks, counters."""
        with self.lock:
            self.clock.release()
            self.faults.arm(())
            self.sender.clear()
            self.traffic.clear()
            self.clear()

    @cached_property
    def _handlers(self) -> dict[tuple[str, str], Handler]:
        return {(method, template): handler for method, template, handler in self.endpoints()}

    @cached_property
    def _routes(self) -> list[tuple[re.Pattern[str], str]]:
        templates = dict.fromkeys(template for _, template in self._handlers)
        return [(compile_path(template)[0], template) for template in templates]

    def route(self, call: Call) -> Call:
        """Give the call with the template and the names of its path, or as it is when no endpoint has such a path."""
        path = call.path.rstrip("/") or "/"
        for pattern, template in self._routes:
            if (match := pattern.match(path)) is not None:
                return replace(call, template=template, parameters=match.groupdict())
        return call

    def handle(self, call: Call) -> Answer:
        """Answer one routed call, from outside or from a job, without limits and faults."""
        with self.lock:
            try:
                self.admit(call)
                if call.template is None:
                    return self.refusal(404)
                handler = self._handlers.get((call.method, call.template))
                return self.refusal(405) if handler is None else handler(call)
            except RefusedError as refused:
                return refused.answer

    def record(
        self,
        call: Call,
        answer: Answer,
        *,
        query: Sequence[tuple[str, str]] | None = None,
        seconds: float = 0.0,
        fault: FaultKind | None = None,
    ) -> None:
        """Count and log one answered call. `query` is what was asked in full, where names were repeated."""
        self.traffic.record(
            Exchange(
                number=call.number,
                method=call.method,
                path=call.path,
                template=call.template,
                query=tuple(call.query.items() if query is None else query),
                body=_parsed(call.body) if self.traffic.recorder else None,
                status=answer.status,
                answer=answer.body,
                media_type=answer.media_type if answer.body is not None else None,
                seconds=seconds,
                fault=fault,
                within=call.within,
            )
        )


def _parsed(body: bytes) -> Any:
    """Give JSON where it is JSON; the text `null`, which one vendor's SDK sends for "no body", is none."""
    if not body:
        return None
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return body
