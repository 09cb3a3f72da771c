"""How much one peer may ask for: so many a second, and so many at once.

Kept in the memory of one process, and never more of it than for some thousand peers: a limit that could be filled up
would be what it is there against.
"""

import ipaddress
import threading
from collections import OrderedDict
from collections.abc import Callable
from time import monotonic
from typing import Final

from starlette.requests import Request

_KEPT: Final = 10_000


class Allowance:
    """A bucket for each key that holds `burst` and gets `rate` a second. Safe to share between threads."""

    def __init__(self, *, rate: float, burst: float, now: Callable[[], float] = monotonic) -> None:
        self._rate = rate
        self._burst = burst
        self._now = now
        self._lock = threading.Lock()
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # what is left, and as of when

    def take(self, key: str) -> float:
        """Take one; give 0.0, or the seconds after which to come again where nothing is left."""
        with self._lock:
            now = self._now()
            left, as_of = self._buckets.pop(key, (self._burst, now))
            left = min(self._burst, left + (now - as_of) * self._rate)
            taken = left >= 1
            self._buckets[key] = (left - taken, now)
            if len(self._buckets) > _KEPT:
                self._buckets.popitem(last=False)  # whoever was here least lately, so most likely full again
            return 0.0 if taken else (1 - left) / self._rate


def peer_of(request: Request) -> str:
    """Name whoever asks: an address, or a whole network of IPv6, where one machine has as many as it likes.

    A proxy on this machine is believed whom it speaks for (X-Forwarded-For).
    """
    host = request.client.host if request.client else ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return "unknown"
    if address.version == 6:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return host
