"""The limits of each emulated endpoint: fixed windows of a second, a minute and a day, in the emulator's time.

A window begins with the first request after the last one ended; a refused request does not count. The numbers are the
specification's, but of 75 a second: there the vendor's guide says 700 a minute and the specification 750.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

_SECONDS: Mapping[str, int] = {"s": 1, "m": 60, "d": 86_400}
_WIDE = Mapping[str, str]
EXTRA_SMALL: _WIDE = {"burst": "1/s", "steady": "15/m"}
MEDIUM: _WIDE = {"burst": "10/s", "steady": "150/m"}
_IN_DOUBT = (750, 700)


@dataclass(slots=True)
class _Window:
    """Requests since `start`."""

    seconds: int
    start: datetime
    count: int = 0

    def left(self, now: datetime) -> float:
        return self.seconds - (now - self.start).total_seconds()


class Limits:
    """Counts the requests of an account by endpoint."""

    def __init__(self) -> None:
        self._windows: dict[str, list[_Window]] = {}

    def clear(self) -> None:
        """Forget all requests."""
        self._windows.clear()

    def take(self, endpoint: str, limits: Mapping[str, str], now: datetime, *, worst: bool) -> int:
        """Count a request, or give the whole seconds it must wait, 0 when it need not."""
        rules = _rules(limits, worst=worst)
        windows = self._windows.setdefault(endpoint, [_Window(seconds, now) for _, seconds in rules])
        for window in windows:
            if not 0 < window.left(now) <= window.seconds:  # ended, or the clock was set back
                window.start, window.count = now, 0
        pairs = list(zip(rules, windows, strict=True))
        waits = [window.left(now) for (count, _), window in pairs if window.count >= count]
        if waits:
            return max(1, math.ceil(max(waits)))
        for window in windows:
            window.count += 1
        return 0

    def headers(
        self, endpoint: str, limits: Mapping[str, str], now: datetime, *, worst: bool
    ) -> dict[str, str]:
        """Give the headers of an answer, which tell of the minute."""
        (count, _) = _rules(limits, worst=worst)[1]
        if endpoint not in self._windows:
            return {}  # refused before it could count
        window = self._windows[endpoint][1]
        return {
            "ratelimit-limit": str(count),
            "ratelimit-remaining": str(max(0, count - window.count)),
            "ratelimit-reset": str(max(0, math.ceil(window.left(now)))),
        }


def _rules(limits: Mapping[str, str], *, worst: bool) -> Sequence[tuple[int, int]]:
    """Read counts and seconds of burst, steady and, where there is one, daily."""
    rules = []
    for name in ("burst", "steady", "daily"):
        if name in limits:
            count, _, unit = limits[name].partition("/")
            allowed = int(count)
            rules.append((_IN_DOUBT[1] if worst and allowed == _IN_DOUBT[0] else allowed, _SECONDS[unit]))
    return rules
