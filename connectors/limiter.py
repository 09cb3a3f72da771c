"""Holds one account's requests back, for the threads of a process, and tells time in a way that tests can replace.

Only when a request may go is decided here, never what it says or whether it is sent again.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import BoundedSemaphore, Lock
from time import monotonic, sleep
from typing import Final

from ..core.model import RateLimit

_LONGEST_HOLD: Final = 60.0  # seconds that one answer may keep a whole account waiting


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """Monotonic seconds and a way to let them pass; tests bring their own and never sleep."""

    now: Callable[[], float] = monotonic
    sleep: Callable[[float], None] = sleep


class Limiter:
    """So many requests at once, so many in a window, none while the ESP says to wait.

    `slot` asks for a turn, `feedback` tells what the ESP answered.
    """

    def __init__(
        self, concurrency: int, rate_limits: Sequence[RateLimit] = (), *, clock: Clock | None = None
    ) -> None:
        self.concurrency = concurrency
        self.clock = clock or Clock()
        self._simultaneous = BoundedSemaphore(concurrency)
        # A full deque's oldest entry says when the next turn is.
        self._windows = [(limit.seconds, deque[float](maxlen=limit.count)) for limit in rate_limits]
        self._closed_until = float("-inf")
        self._lock = Lock()

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Wait for a turn and hold one of the simultaneous places until the block ends."""
        with self._simultaneous:
            while (delay := self._take_turn()) > 0:
                self.clock.sleep(delay)
            yield

    def feedback(self, *, retry_after: float | None) -> None:
        """Close the account for as long as a throttled answer said, a minute at most. None closes nothing."""
        if retry_after is not None:
            until = self.clock.now() + min(retry_after, _LONGEST_HOLD)
            with self._lock:
                self._closed_until = max(self._closed_until, until)

    def closed_for(self) -> float:
        """Seconds until the account may be asked again, 0 when it is open."""
        return max(0.0, self._closed_until - self.clock.now())

    def _take_turn(self) -> float:
        """Take a turn and give 0, or give the seconds to wait before asking again."""
        with self._lock:
            now = self.clock.now()
            waits = [
                turns[0] + seconds - now for seconds, turns in self._windows if len(turns) == turns.maxlen
            ]
            if (delay := max([self._closed_until - now, *waits])) > 0:
                return delay
            for _, turns in self._windows:
                turns.append(now)
            return 0.0
