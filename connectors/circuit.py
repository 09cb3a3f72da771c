"""Stops asking an account that fails again and again, and lets one request through now and then to see.

Counts failures in a row and nothing else: what a failure is, the transport says.
"""

from threading import Lock
from typing import Final

from .limiter import Clock

FAILURES: Final = 15
"""So many in a row open the circuit: more than one call's attempts, fewer than a run of faults of a busy ESP."""

REST: Final = 60.0
"""Seconds that the account is left alone."""


class Circuit:
    """Closed at first: everything goes. Safe to share between threads."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = Lock()
        self._failures = 0
        self._open_until = 0.0

    def rest(self) -> float:
        """Seconds until the account may be asked, 0 when it may be now.

        After a rest the first caller alone may: if nobody hears what became of it, another one after the next rest.
        """
        with self._lock:
            if self._failures < FAILURES:
                return 0.0
            now = self._clock.now()
            if now < self._open_until:
                return self._open_until - now
            self._open_until = now + REST
            return 0.0

    def succeeded(self) -> None:
        """Close: the account gave an answer that makes sense."""
        with self._lock:
            self._failures = 0

    def failed(self) -> bool:
        """Count a failure, and say whether it opened the circuit."""
        with self._lock:
            self._failures += 1
            if self._failures >= FAILURES:
                self._open_until = self._clock.now() + REST
            return self._failures == FAILURES
