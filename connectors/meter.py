"""Counts what goes out: requests by kind, refusals, failures, and how they lie in time.

Counters only, of a size that does not grow with a run; no word of a request is kept.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import Lock
from typing import Final

from ..core.model import RateLimit

QUERY: Final = "QUERY"
"""How a POST is counted that asks and changes nothing."""
READS: Final = frozenset({"GET", "HEAD", "OPTIONS", QUERY})
POINTS: Final = 600
"""The most points of a timeline; when a run gets longer, neighbours are merged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """What was sent in one stretch of a timeline. A refused request was told to slow down; a failed one got no answer
    that makes sense.
    """

    requests: int = 0
    refused: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """Points of `seconds` each, the first one beginning when the transport was made; after the last nothing was sent."""

    seconds: float = 1.0
    points: tuple[Point, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What went out so far. Every attempt is a request; `seconds` is the sum over simultaneous requests.

    `by_status` has the classes of HTTP status, as in 2xx, and "none" where no whole answer came.
    """

    by_method: Mapping[str, int] = field(default_factory=dict)
    by_status: Mapping[str, int] = field(default_factory=dict)
    retries: int = 0
    throttled: int = 0
    failed: int = 0
    seconds: float = 0.0
    timeline: Timeline = field(default_factory=Timeline)
    rate_limits: tuple[RateLimit, ...] = ()

    @property
    def requests(self) -> int:
        """All requests."""
        return sum(self.by_method.values())

    @property
    def reads(self) -> int:
        """Requests that change nothing."""
        return sum(count for method, count in self.by_method.items() if method in READS)

    @property
    def writes(self) -> int:
        """Requests that may change something."""
        return self.requests - self.reads


class Meter:
    """The counters of one transport. Safe to share between threads."""

    def __init__(self, began: float, rate_limits: tuple[RateLimit, ...]) -> None:
        self._lock = Lock()
        self._began = began
        self._rate_limits = rate_limits
        self._methods = Counter[str]()
        self._statuses = Counter[str]()
        self._retries = self._throttled = self._failed = 0
        self._seconds = 0.0
        self._width = 1.0
        self._points: list[tuple[int, int, int]] = []

    def count(
        self, method: str, *, sent: float, seconds: float, status: int, throttled: bool, failed: bool
    ) -> None:
        """Count one attempt that was sent at an instant of the limiter's clock and took so many seconds."""
        with self._lock:
            self._methods[method] += 1
            self._statuses[f"{status // 100}xx" if status else "none"] += 1
            self._seconds += seconds
            self._throttled += throttled
            self._failed += failed
            self._mark(sent - self._began, (1, int(throttled), int(failed)))

    def retry(self) -> None:
        """Count that something is sent again."""
        with self._lock:
            self._retries += 1

    def traffic(self) -> Traffic:
        """Give a snapshot."""
        with self._lock:
            points = tuple(Point(requests=r, refused=t, failed=f) for r, t, f in self._points)
            return Traffic(
                by_method=dict(self._methods),
                by_status=dict(self._statuses),
                retries=self._retries,
                throttled=self._throttled,
                failed=self._failed,
                seconds=self._seconds,
                timeline=Timeline(seconds=self._width, points=points),
                rate_limits=self._rate_limits,
            )

    def _mark(self, at: float, more: tuple[int, int, int]) -> None:
        while (place := max(0, int(at / self._width))) >= POINTS:
            if len(self._points) % 2:
                self._points.append((0, 0, 0))
            pairs = zip(self._points[::2], self._points[1::2], strict=True)
            self._points = [_sum(first, second) for first, second in pairs]
            self._width *= 2
        while len(self._points) <= place:
            self._points.append((0, 0, 0))
        self._points[place] = _sum(self._points[place], more)


def _sum(one: tuple[int, int, int], other: tuple[int, int, int]) -> tuple[int, int, int]:
    return one[0] + other[0], one[1] + other[1], one[2] + other[2]
