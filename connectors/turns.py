"""One account's turns: which requests are out, which still count, who waits, and whether one more may go.

Rules over a small state that can be written down as text; no clock, no lock, no thread and no store here. A limiter asks
for turns, and whoever keeps the state (one process, or a store for several) gives it to one asker at a time.

A turn counts from when it is taken until a window's length after its answer came, because the account may have counted
it at either end of the way: so its limit holds whatever the latency. Turns that end at about the same time are kept as
one entry with a count, so the state stays small however large the limit is.

Opt-outs are urgent and may use everything. Ordinary requests leave a reserve: one place, and a twentieth of a rate,
which they use all the same when the next place comes free within a moment; a reserve that is never used would slow
every sync by as much. Whoever has waited longer than the asker, in another process, is left a place.
"""

import json
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from math import inf
from typing import Any, Final, Protocol

from ..core.model import RateLimit

LONGEST_HOLD: Final = 60.0
"""Seconds that one answer may keep a whole account waiting."""

LONGEST_TURN: Final = 600.0
"""Seconds after which a turn counts as ended, whatever became of its holder: more than any request can take."""

_MERGED: Final = 1 / 200  # of a window: turns that leave it within so much leave it together
_MOMENT: Final = 1.0  # seconds that an opt-out may have to wait for the reserve
_GRACE: Final = 1.0  # seconds that somebody who waits may come late before nobody waits for them


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """What an answer says of the account: so many requests are left until the count begins anew."""

    remaining: int
    reset_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """One request that wants to go. `limiter` and `holder` are who asks: which limiter, in which process."""

    turn: str
    limiter: str
    holder: str
    urgent: bool
    places: int
    limits: Sequence[RateLimit]


@dataclass(frozen=True, slots=True)
class _Waiting:
    holder: str
    since: float
    until: float
    urgent: bool


class Turns:
    """The state. All instants are seconds of one clock, which the caller reads for each call."""

    def __init__(self) -> None:
        self._out: dict[str, tuple[str, float]] = {}  # by turn: its holder, and when it ends by itself
        # By length of the window: when turns leave it, from and until, and how many; in this order.
        self._spent: dict[float, list[tuple[float, float, int]]] = {}
        self._waiting: dict[str, _Waiting] = {}  # by limiter
        self._closed_until = -inf
        self._left: tuple[int, float] | None = None  # by the account's own words: how many, and until when

    def take(self, demand: Demand, now: float) -> float:
        """Take a turn and give 0, or give the seconds to wait before asking again, inf until some turn ends."""
        self._forget(now)
        if delay := self._delay(demand, now):
            before = self._waiting.get(demand.limiter)
            self._waiting[demand.limiter] = _Waiting(
                demand.holder,
                before.since if before else now,
                now + _GRACE + (0 if delay == inf else delay),
                demand.urgent,
            )
            return delay
        self._waiting.pop(demand.limiter, None)
        self._out[demand.turn] = (demand.holder, now + LONGEST_TURN)
        for limit in demand.limits:
            self._spent.setdefault(limit.seconds, [])
        if self._left is not None:
            self._left = (self._left[0] - 1, self._left[1])
        return 0.0

    def end(self, turn: str, now: float) -> None:
        """Give a turn's place back; from now on it counts in its windows alone."""
        if self._out.pop(turn, None) is None:
            return
        for seconds, entries in self._spent.items():
            until = now + seconds
            if entries and until - entries[-1][0] <= seconds * _MERGED:
                first, last, count = entries.pop()
                entries.append((first, max(last, until), count + 1))
            else:
                entries.append((until, until, 1))

    def close(self, until: float) -> None:
        """Let nobody go before an instant; the latest counts."""
        self._closed_until = max(self._closed_until, until)

    def heard(self, feedback: Feedback, now: float) -> None:
        """Take the account's word for how many requests are left; those still out may not be in it yet."""
        left, until = feedback.remaining - len(self._out), now + min(feedback.reset_seconds, LONGEST_HOLD)
        if self._left is not None and abs(self._left[1] - until) < _MOMENT:  # of the same window, maybe older
            left = min(left, self._left[0])
        self._left = (left, until)

    def holders(self) -> set[str]:
        """Give all who hold a turn or wait for one."""
        return {holder for holder, _ in self._out.values()} | {each.holder for each in self._waiting.values()}

    def release(self, holder: str, now: float) -> None:
        """End everything of a holder that is gone. What it sent may have reached the account, and counts."""
        for turn in [turn for turn, (whose, _) in self._out.items() if whose == holder]:
            self.end(turn, now)
        self._waiting = {name: each for name, each in self._waiting.items() if each.holder != holder}

    def as_text(self) -> str:
        """Write the state down."""
        state = {
            "out": self._out,
            "spent": [(seconds, entries) for seconds, entries in self._spent.items()],
            "waiting": {
                name: (each.holder, each.since, each.until, each.urgent)
                for name, each in self._waiting.items()
            },
            "closed_until": None if self._closed_until == -inf else self._closed_until,
            "left": self._left,
        }
        return json.dumps(state, separators=(",", ":"))

    @classmethod
    def parse(cls, text: str) -> "Turns":
        """Read `as_text` back."""
        state: dict[str, Any] = json.loads(text)
        turns = cls()
        turns._out = {turn: (holder, until) for turn, (holder, until) in state["out"].items()}
        turns._spent = {seconds: [tuple(entry) for entry in entries] for seconds, entries in state["spent"]}
        turns._waiting = {name: _Waiting(*each) for name, each in state["waiting"].items()}
        turns._closed_until = -inf if state["closed_until"] is None else state["closed_until"]
        turns._left = None if state["left"] is None else tuple(state["left"])
        return turns

    def _delay(self, demand: Demand, now: float) -> float:
        ahead = self._ahead(demand)
        delays = [self._closed_until - now, self._delay_of_places(demand, ahead)]
        delays += [self._delay_of_rate(demand, limit, ahead, now) for limit in demand.limits]
        if self._left is not None and self._left[0] <= ahead + (not demand.urgent):
            delays.append(self._left[1] - now)
        return max(0.0, *delays)

    def _ahead(self, demand: Demand) -> int:
        """How many others are to go first: the urgent, then who waited longer."""
        mine = self._waiting.get(demand.limiter)
        place = (not demand.urgent, mine.since if mine else inf)
        others = (each for name, each in self._waiting.items() if name != demand.limiter)
        return sum((not other.urgent, other.since) < place for other in others)

    def _delay_of_places(self, demand: Demand, ahead: int) -> float:
        reserve = not demand.urgent and demand.places >= 3
        return 0.0 if demand.places - len(self._out) > reserve + ahead else inf

    def _delay_of_rate(self, demand: Demand, limit: RateLimit, ahead: int, now: float) -> float:
        entries = self._spent.get(limit.seconds, [])
        free = limit.count - len(self._out) - sum(count for _, _, count in entries)
        reserve = 0 if demand.urgent else limit.count // 20
        if free > reserve + ahead:
            return 0.0
        if not entries or 0 < free <= ahead:
            return inf
        next_free = entries[0][1] - now
        return next_free if free <= 0 else max(0.0, next_free - min(_MOMENT, limit.seconds / 10))

    def _forget(self, now: float) -> None:
        """Drop what is over. Whatever lies further ahead than it can was written before the clock was set back."""
        for turn, (_, until) in list(self._out.items()):
            if not now < until <= now + LONGEST_TURN:
                self.end(turn, now)
        for seconds, entries in self._spent.items():
            entries[:] = [
                (first, min(last, now + seconds), count) for first, last, count in entries if last > now
            ]
        self._waiting = {
            name: each
            for name, each in self._waiting.items()
            if now < each.until <= now + LONGEST_TURN and each.since <= now
        }
        self._closed_until = min(self._closed_until, now + LONGEST_HOLD)
        if self._left is not None and not now < self._left[1] <= now + LONGEST_HOLD:
            self._left = None


class SharedTurns(Protocol):
    """Keeps the turns of accounts where several processes see them."""

    @property
    @abstractmethod
    def holder(self) -> str:
        """How this process is named as a holder of turns."""

    @abstractmethod
    def change(self, account: str) -> AbstractContextManager[tuple[Turns, float]]:
        """Give an account's turns, to this caller alone until the block ends, and the time of their clock."""


class OwnTurns:
    """Keeps the turns of one process. Its limiter asks one thread at a time."""

    holder = ""

    def __init__(self, now: Callable[[], float]) -> None:
        self._turns = Turns()
        self._now = now

    @contextmanager
    def change(self, account: str) -> Iterator[tuple[Turns, float]]:
        """Give the turns; there is one account."""
        del account
        yield self._turns, self._now()
