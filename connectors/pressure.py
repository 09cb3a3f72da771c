"""How much an account bears, learnt from its refusals, where no answer says it.

Numbers only: nobody waits here. Two questions are kept apart, because their remedies are.

How many at once? A refusal counts against the number of requests that were out with it. An account that bears four
refuses fifth requests and never a fourth; one that refuses at random refuses both alike. So a number is given up when
recently every third request that made it was refused, and tried again by one request after 64 others, 128, 256, ...
The loser, halving at each refusal, takes chance for a limit: at 5% by chance it ended in pauses alone.

How fast? Refusals in a row while only one request is out are about time. Then one request asks now and then until one
is served, which shows what the account served on the average; from there on requests keep a distance, which shrinks
with each one served and grows with each one refused.

Simulated in `tests/connectors/test_pressure.py` with 8 places, 50 ms a request and up to half a second until a refused
one is sent again. 1% refused by chance: 4 to 7% slower; 5%: 16 to 34%; no pause. Four at once: 11 of 2,000 refused, 14
of 10,000, and no slower than four allow. 100 in 10 s: 1.14 times as long as that forces, 1.8% refused; 10 a second:
1.05 times, 1.6%.
"""

from collections import deque
from typing import Final

_RECENT: Final = 1 / 6  # how much the latest request counts in the share that is refused
_GIVEN_UP: Final = 0.42  # of that share: what three refused in a row make of none
_REGAINED: Final = 0.35  # and what it is taken for when a number is borne again: one more refused is too much
_CAREFUL, _MOST_CAREFUL = 64, 4096  # so many are served before a number is tried that was given up

_IN_A_ROW: Final = 3  # refused so often although alone: it is about time
_FIRST_HOLD, _LONGEST_HOLD = 0.25, 30.0  # seconds between requests that ask whether it is over
_STRETCH: Final = 30.0  # seconds; an average is taken over one or two of them
_QUICKER, _CAREFULLY_QUICKER = 1 / 64, 1 / 2048  # up to twice the average, unless refused; from there on
_SLOWER: Final = 1 / 16
_NO_DISTANCE: Final = 0.001  # seconds that hold nobody back


class Pressure:
    """So many requests at once, and a pause between them where an account bears no more.

    Of each request its limiter says what became of it: `out` is how many were out as it went, itself included, and
    `taken` when that was.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._places = most
        self._trial = False  # one more than `_places` may be out, once
        self._full = 0  # served since the number last changed, with all places taken
        self._share = [0.0] * (most + 1)  # of the requests that made it so many, how much was refused
        self._care = [_CAREFUL] * (most + 1)
        self._in_a_row = 0
        self._held_since = self._held_at = self._slowed_at = self._sent_at = float("-inf")
        self._hold = 0.0
        self._distance = self._longest = 0.0
        self._quicker = _QUICKER
        self._served = 0
        # When the last two stretches began, and how many had been served by then.
        self._marks = deque[tuple[float, int]](maxlen=2)

    @property
    def places(self) -> int:
        """How many may be out at once, at least one."""
        return 1 if self._hold else self._places + self._trial

    def pause(self, now: float) -> float:
        """Seconds until the next request may go."""
        if self._hold:
            return max(0.0, self._held_at + self._hold - now)
        return max(0.0, self._sent_at + self._distance - now) if self._distance else 0.0

    def sent(self, now: float) -> None:
        """Note that a request goes."""
        if not self._hold:
            if now - self._sent_at > _STRETCH:
                self._marks.clear()
            if not self._marks or now - self._marks[-1][0] > _STRETCH:
                self._marks.append((now, self._served))
        self._sent_at = now

    def served(self, *, out: int, taken: float, now: float) -> None:
        """Learn that the account bore it, and after enough of them try one more at once."""
        self._in_a_row = 0
        self._served += 1
        if self._hold:
            if taken > self._held_at:
                self._over(now)
            return
        if self._distance:
            self._distance /= 1 + self._quicker
            if self._distance < self._longest / 4:
                self._quicker = _CAREFULLY_QUICKER
            if self._distance < _NO_DISTANCE:
                self._distance = 0.0
        if self._trial and out > self._places:
            self._care[out] = max(self._care[out] // 2, _CAREFUL)
            self._share[out] = _REGAINED
            self._settle(out)
            return
        self._share[out] *= 1 - _RECENT
        if out >= self._places < self._most:
            self._full += 1
            self._trial = self._full >= self._care[self._places + 1]

    def refused(self, *, out: int, taken: float, now: float) -> None:
        """Learn that it was one too many, or too early."""
        if self._hold:
            if taken > self._held_at:
                self._held_at, self._hold = now, min(self._hold * 2, _LONGEST_HOLD)
            return
        if self._distance and taken > self._slowed_at:
            self._slowed_at, self._quicker = now, _CAREFULLY_QUICKER
            self._distance *= 1 + _SLOWER
            if self._distance > self._longest:  # refused however slow: it is not about time
                self._distance = 0.0
        self._in_a_row += out == 1
        if self._in_a_row >= _IN_A_ROW:
            self._held_since = self._held_at = now
            self._hold = _FIRST_HOLD
        elif self._trial and out > self._places:
            self._care[out] = min(self._care[out] * 2, _MOST_CAREFUL)
            self._settle(self._places)
        elif 1 < out <= self._places:
            self._share[out] += (1 - self._share[out]) * _RECENT
            if self._share[out] >= _GIVEN_UP:
                self._settle(out - 1)

    def _settle(self, places: int) -> None:
        self._places, self._trial, self._full = places, False, 0

    def _over(self, now: float) -> None:
        """End a hold: go on as fast as the stretch was on the average. What was refused in it says nothing of places."""
        since, before = self._marks[0]
        self._quicker = _CAREFULLY_QUICKER if self._distance else _QUICKER
        self._distance = min((now - since) / (self._served - before), now - self._held_since)
        self._longest = 2 * self._distance
        self._hold = 0.0
        self._marks.clear()
        self._marks.append((now, self._served))
        self._share = [0.0] * (self._most + 1)
        self._settle(self._most)
