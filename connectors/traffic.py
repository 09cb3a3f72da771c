"""What went over the wire to an emulator: one exchange, a bounded log of them, and counters that tests assert on.

Only observation lives here; nothing decides what a request does. Bodies are not kept: whoever needs them sets a
recorder, which sees each exchange once, whole.
"""

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .faults import FaultKind

READS = frozenset({"GET", "HEAD", "OPTIONS"})
LOG_SIZE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One request and its answer. `template` is the endpoint's path with names in braces, None for an unknown path.

    `body` and `answer` are parsed JSON where they were JSON, else bytes, None when empty. `within` is the number of
    the request whose asynchronous job made this call, None for a real one. Without a recorder bodies are not parsed.
    """

    number: int
    method: str
    path: str
    template: str | None
    query: tuple[tuple[str, str], ...]
    body: Any
    status: int
    answer: Any
    media_type: str | None
    seconds: float
    fault: FaultKind | None = None
    within: int | None = None

    @property
    def endpoint(self) -> str:
        """Method and template, as the counters name it."""
        return f"{self.method} {self.template or '(unknown path)'}"


@dataclass(slots=True)
class Traffic:
    """Counters since the last reset. What a job did inside the ESP counts apart: it cost the caller no request."""

    recorder: Callable[[Exchange], None] | None = None
    requests: int = 0
    reads: int = 0
    writes: int = 0
    peak_in_flight: int = 0
    by_endpoint: Counter[str] = field(default_factory=Counter)
    by_status: Counter[int] = field(default_factory=Counter)
    by_fault: Counter[str] = field(default_factory=Counter)
    within_jobs: Counter[str] = field(default_factory=Counter)
    log: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=LOG_SIZE))
    _number: int = 0
    _cleared: int = 0

    def next_number(self) -> int:
        """Give the number of a request that arrives now. Numbers never repeat, not even after a reset."""
        self._number += 1
        return self._number

    def record(self, exchange: Exchange) -> None:
        """Count and log one exchange and show it to the recorder; one that began before the last reset is forgotten."""
        if exchange.number <= self._cleared:
            return
        if exchange.within is not None:
            self.within_jobs[exchange.endpoint] += 1
        else:
            self.requests += 1
            if exchange.method in READS:
                self.reads += 1
            else:
                self.writes += 1
            self.by_endpoint[exchange.endpoint] += 1
            self.by_status[exchange.status] += 1
            if exchange.fault is not None:
                self.by_fault[exchange.fault] += 1
        self.log.append(
            {
                "number": exchange.number,
                "method": exchange.method,
                "path": exchange.path,
                "endpoint": exchange.endpoint,
                "query": list(exchange.query),
                "status": exchange.status,
                "seconds": round(exchange.seconds, 6),
                "fault": exchange.fault,
                "within": exchange.within,
            }
        )
        if self.recorder is not None:
            self.recorder(exchange)

    def clear(self) -> None:
        """Forget counters and log; the recorder stays."""
        self.requests = self.reads = self.writes = self.peak_in_flight = 0
        for counter in (self.by_endpoint, self.by_status, self.by_fault, self.within_jobs):
            counter.clear()
        self.log.clear()
        self._cleared = self._number

    def counters(self) -> dict[str, Any]:
        """Give all counters as JSON."""
        return {
            "requests": self.requests,
            "reads": self.reads,
            "writes": self.writes,
            "peak_in_flight": self.peak_in_flight,
            "by_endpoint": dict(sorted(self.by_endpoint.items())),
            "by_status": {str(status): count for status, count in sorted(self.by_status.items())},
            "by_fault": dict(sorted(self.by_fault.items())),
            "within_jobs": dict(sorted(self.within_jobs.items())),
        }
