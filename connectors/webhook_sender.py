"""How every emulator sends its webhooks: a queue, real HTTP from a thread of its own, further attempts, and mishaps on request.

No ESP's words here: what a webhook says and how it is proved come from the ESP's own emulator. All waiting is in the
emulator's time, so that a test which stops the clock sees the retries of an hour at once; only a request's timeout and
the moment for which an overtaken delivery is held back are the machine's.
"""

import heapq
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime, timedelta
from typing import Any, Protocol

import requests

LOG_SIZE = 10_000
_HELD = 1.0  # real seconds that an overtaken delivery waits for another to overtake it
_GLANCE = 0.05  # real seconds between looks at a clock that may have been moved meanwhile

Proof = Callable[[bytes, datetime], Mapping[str, str]]
"""Gives the headers that prove a body at an instant; asked anew for each attempt, for a proof grows old."""


class Time(Protocol):
    """The emulator's clock as a sender sees it."""

    @property
    def standing(self) -> bool:
        """Whether it moves only when told."""
        ...

    def now(self) -> datetime:
        """Give the present."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SenderSettings:
    """How deliveries go, and go wrong. `lose`, `repeat` and `reorder` are shares of the webhooks, drawn by `seed`.

    A lost one never sets out, a repeated one is delivered twice, one that is reordered lets a later one go first if one
    comes within a second. Each waits for up to `delay` seconds before its first attempt. Whatever is not answered with a
    2xx within `timeout` real seconds is tried again, `attempts` times in all, first after `retry_wait` seconds, then after
    twice that, and so on. While `paused`, nothing sets out and nothing is forgotten.
    """

    seed: int = 0
    lose: float = 0.0
    repeat: float = 0.0
    reorder: float = 0.0
    delay: float = 0.0
    paused: bool = False
    timeout: float = 10.0
    attempts: int = 7
    retry_wait: float = 60.0

    def changed(self, changes: Mapping[str, Any]) -> "SenderSettings":
        """Give these settings with some replaced. Raises ValueError or TypeError with a sentence."""
        unknown = sorted(set(changes) - {each.name for each in fields(self)})
        if unknown:
            raise ValueError(f"webhooks have no setting {', '.join(unknown)}")
        settings = replace(self, **changes)
        if not all(0 <= share <= 1 for share in (settings.lose, settings.repeat, settings.reorder)):
            raise ValueError("lose, repeat and reorder are shares between 0 and 1")
        if not isinstance(settings.paused, bool):
            raise TypeError("paused must be true or false")
        if settings.delay < 0 or settings.retry_wait < 0 or settings.timeout <= 0 or settings.attempts < 1:
            raise ValueError(
                "delay and retry_wait must not be negative, timeout and attempts must be positive"
            )
        return settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One request that went out. `delivery` is the number of the webhook; a repeated one keeps it. No status: no answer."""

    delivery: int
    attempt: int
    url: str
    headers: Mapping[str, str]
    body: bytes
    at: datetime
    status: int | None

    def as_json(self) -> dict[str, Any]:
        """Give it with text for bytes and times."""
        return {**asdict(self), "body": self.body.decode(errors="replace"), "at": self.at.isoformat()}


@dataclass(order=True, slots=True)
class _Parcel:
    """One webhook on its way, in the order in which parcels set out."""

    due: datetime
    order: int
    number: int = field(compare=False)
    url: str = field(compare=False)
    body: bytes = field(compare=False)
    headers: Mapping[str, str] = field(compare=False)
    prove: Proof = field(compare=False)
    attempts: int = field(compare=False, default=0)


class WebhookSender:
    """Delivers what is posted, one at a time; its thread starts with the first and ends with `close`.

    `counts` are of posted and lost webhooks, of attempts and failed ones, and of deliveries that arrived or were given up.
    """

    def __init__(self, clock: Time, settings: SenderSettings) -> None:
        self._clock = clock
        self._first = settings
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closing = False
        self.clear()

    def clear(self) -> None:
        """Forget what waits, what is on its way and what was, and put the settings back to how they began."""
        with self._changed:
            self.settings = self._first
            self._dice = random.Random(self.settings.seed)  # noqa: S311 - repeatable mishaps, not a secret
            self.log: deque[Attempt] = deque(maxlen=LOG_SIZE)
            self.counts: Counter[str] = Counter()
            self._waiting: list[_Parcel] = []  # a heap
            self._held: list[tuple[float, _Parcel]] = []  # until when, in the machine's time
            self._under_way: _Parcel | None = None
            self._order = 0
            self._changed.notify_all()

    def change(self, changes: Mapping[str, Any]) -> None:
        """Change some settings and start the random sequence again. Raises ValueError or TypeError, and then changes none."""
        with self._changed:
            self.settings = self.settings.changed(changes)
            self._dice = random.Random(self.settings.seed)  # noqa: S311 - repeatable mishaps, not a secret
            self._changed.notify_all()

    def post(self, url: str, body: bytes, headers: Mapping[str, str], prove: Proof) -> None:
        """Send one webhook, as soon as its turn comes. Mishaps are drawn here, so their order is the order of posting."""
        with self._changed:
            settings = self.settings
            lost, repeated, reordered, delay = (self._dice.random() for _ in range(4))
            self.counts["posted"] += 1
            if lost < settings.lose:
                self.counts["lost"] += 1
                return
            due = self._clock.now() + timedelta(seconds=settings.delay * delay)
            for _ in range(2 if repeated < settings.repeat else 1):
                self._order += 1
                parcel = _Parcel(due, self._order, self.counts["posted"], url, body, headers, prove)
                if reordered < settings.reorder:
                    self._held.append((time.monotonic() + _HELD, parcel))
                else:
                    heapq.heappush(self._waiting, parcel)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="webhook sender", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def wait(self, seconds: float) -> bool:
        """Wait until nothing more happens by itself, for that many real seconds at most; say whether all is done.

        What is left waits for somebody to move a standing clock or to end a pause.
        """
        with self._changed:
            self._changed.wait_for(self._quiet, timeout=seconds)
            return self._left == 0

    def describe(self, *, last: int) -> dict[str, Any]:
        """Give settings, counts and the latest attempts as JSON."""
        with self._changed:
            attempts = list(self.log)[-last:] if last > 0 else []
            return {
                "settings": asdict(self.settings),
                "waiting": self._left,
                "counts": dict(sorted(self.counts.items())),
                "attempts": [attempt.as_json() for attempt in attempts],
            }

    def close(self) -> None:
        """End the thread, after the request that is under way; what waits keeps until something is posted again."""
        with self._changed:
            thread, self._closing = self._thread, True
            self._changed.notify_all()
        if thread is not None:
            thread.join()
        self._thread, self._closing = None, False

    @property
    def _left(self) -> int:
        return len(self._waiting) + len(self._held) + (self._under_way is not None)

    def _quiet(self) -> bool:
        if self._under_way is not None:
            return False
        if self._left == 0 or self.settings.paused:
            return True
        return not self._held and self._clock.standing and self._waiting[0].due > self._clock.now()

    def _run(self) -> None:
        with requests.Session() as session:
            session.trust_env = False  # no proxy lies between two processes of one machine
            while (parcel := self._take()) is not None:
                self._settle(parcel, self._attempt(session, parcel))

    def _take(self) -> _Parcel | None:
        """Wait for the next parcel whose time has come; None when the thread is to end."""
        with self._changed:
            while not self._closing:
                self._release(lambda until, _: until <= time.monotonic())
                if not self.settings.paused and self._waiting and self._waiting[0].due <= self._clock.now():
                    self._under_way = heapq.heappop(self._waiting)
                    return self._under_way
                self._changed.wait(_GLANCE if self._waiting or self._held else None)
            return None

    def _release(self, ready: Callable[[float, _Parcel], bool]) -> None:
        for held in [each for each in self._held if ready(*each)]:
            self._held.remove(held)
            heapq.heappush(self._waiting, held[1])

    def _attempt(self, session: requests.Session, parcel: _Parcel) -> Attempt:
        at = self._clock.now()
        # Each on a connection of its own: one that broke while it rested would look like a failed delivery.
        headers = {**parcel.headers, "connection": "close", **parcel.prove(parcel.body, at)}
        try:
            with session.post(
                parcel.url,
                data=parcel.body,
                headers=headers,
                timeout=self.settings.timeout,
                allow_redirects=False,
            ) as answer:
                status: int | None = answer.status_code
        except requests.RequestException:
            status = None
        return Attempt(
            delivery=parcel.number,
            attempt=parcel.attempts + 1,
            url=parcel.url,
            headers=headers,
            body=parcel.body,
            at=at,
            status=status,
        )

    def _settle(self, parcel: _Parcel, attempt: Attempt) -> None:
        """Keep what came of an attempt, and put what failed back into the queue."""
        with self._changed:
            if self._under_way is not parcel:
                return  # forgotten meanwhile
            self._under_way = None
            parcel.attempts += 1
            self.log.append(attempt)
            self.counts["attempts"] += 1
            if attempt.status is not None and 200 <= attempt.status < 300:
                self.counts["delivered"] += 1
            else:
                self.counts["failed"] += 1
                if parcel.attempts < self.settings.attempts:
                    wait = self.settings.retry_wait * 2 ** (parcel.attempts - 1)
                    parcel.due = self._clock.now() + timedelta(seconds=wait)
                    heapq.heappush(self._waiting, parcel)
                else:
                    self.counts["given_up"] += 1
            self._release(lambda _, held: held.number < parcel.number)
            self._changed.notify_all()
