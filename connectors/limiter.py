"""Holds one account's requests back, for the threads of a process, and tells time in a way that tests can replace.

Only when a request may go is decided here, never what it says or whether it is sent again. What the account allows by
its own rules is in `turns.py`, which several processes may share; how much it bears at once is learnt here.

Those who wait stand in a row, opt-outs before everybody else, and only the first asks: a crowd that asks by itself
would make every turn cost as many questions as there are threads.
"""

import secrets
from bisect import insort
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import count
from math import inf
from threading import Condition
from time import monotonic, sleep
from typing import Final

from ..core.errors import StoreError
from ..core.model import RateLimit
from .pressure import Pressure
from .turns import LONGEST_HOLD, Demand, Feedback, OwnTurns, SharedTurns, Turns

_LOOK: Final = 0.05  # seconds between looks at what other processes gave back

_URGENT: ContextVar[bool] = ContextVar("urgent", default=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """Monotonic seconds and a way to let them pass; tests bring their own and never sleep."""

    now: Callable[[], float] = monotonic
    sleep: Callable[[float], None] = sleep


class NoTurnError(Exception):
    """There is no turn within the time that the caller could wait. `seconds` is when to ask again."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """The right to have one request out. `out` is how many of this process are, this one included, as it is taken."""

    name: str
    taken: float
    out: int


@dataclass(order=True, slots=True)
class _Ticket:
    """A place in the row. `ready` says that its holder takes whatever ends next."""

    ordinary: bool
    number: int
    ready: bool = field(default=False, compare=False)


@contextmanager
def urgent() -> Iterator[None]:
    """Let the requests of this block, in this thread, go before others and use what is kept for opt-outs."""
    token = _URGENT.set(True)
    try:
        yield
    finally:
        _URGENT.reset(token)


class Limiter:
    """So many requests at once, so many in a window, none while the ESP says to wait.

    `slot` asks for a turn, `answered` tells what the ESP said to it. Safe to share between threads.
    """

    def __init__(
        self, concurrency: int, rate_limits: Sequence[RateLimit] = (), *, clock: Clock | None = None
    ) -> None:
        self.concurrency = concurrency
        self.rate_limits = tuple(rate_limits)
        self.clock = clock or Clock()
        self._pressure = Pressure(concurrency)
        self._turns: SharedTurns = OwnTurns(self.clock.now)
        self._account = ""
        self.start_anew()

    def start_anew(self) -> None:
        """Forget who waits and what is out: after a fork neither is this process's any more, nor is the lock."""
        self._changed = Condition()
        self._name = secrets.token_hex(6)
        self._numbers = count()
        self._row: list[_Ticket] = []
        self._out: set[str] = set()
        self._notes: list[Callable[[Turns, float], None]] = []  # what the turns are told when next opened
        if self._alone:
            with self._turns.change(self._account) as (turns, now):
                turns.release(self._turns.holder, now)

    @property
    def ordinary(self) -> int:
        """How many requests that are no opt-outs can be out at once, as far as is known now."""
        return self._places(urgent=False)

    def share(self, turns: SharedTurns, account: str) -> None:
        """Take turns together with other processes. Call it before the first request."""
        with self._changed:
            self._turns, self._account = turns, account

    @contextmanager
    def slot(self, *, within: float = inf) -> Iterator[Turn]:
        """Wait for a turn and hold it until the block ends. Raises NoTurnError when there is none within the time."""
        turn = self._wait(within)
        try:
            yield turn
        finally:
            self._end(turn)

    def answered(
        self,
        turn: Turn,
        *,
        throttled: bool = False,
        retry_after: float | None = None,
        feedback: Feedback | None = None,
    ) -> None:
        """Learn from the answer to a turn that is still held.

        A refusal that names a time closes the account so long, a minute at most; one that does not says that too many
        were out at once.
        """
        with self._changed:
            now = self.clock.now()
            if throttled and retry_after:
                until = now + min(retry_after, LONGEST_HOLD)
                self._notes.append(lambda turns, ahead: turns.close(until + ahead))
            elif throttled:
                self._pressure.refused(out=turn.out, taken=turn.taken, now=now)
            else:
                self._pressure.served(out=turn.out, taken=turn.taken, now=now)
            if feedback is not None:
                self._notes.append(lambda turns, ahead: turns.heard(feedback, now + ahead))

    @property
    def _alone(self) -> bool:
        return isinstance(self._turns, OwnTurns)

    def _places(self, *, urgent: bool) -> int:
        reserve = not urgent and self.concurrency >= 3
        return min(self._pressure.places, self.concurrency - reserve)

    def _wait(self, within: float) -> Turn:
        deadline = self.clock.now() + within
        ticket = _Ticket(not _URGENT.get(), next(self._numbers))
        with self._changed:
            insort(self._row, ticket)
        try:
            while True:
                with self._changed:
                    turn, delay = self._ask(ticket)
                    if turn is not None:
                        return turn
                    left = deadline - self.clock.now()
                    if left <= 0 or left < delay < inf:
                        raise NoTurnError(1.0 if delay == inf else delay)
                    if delay == inf:
                        first = self._row[0] is ticket
                        delay = _LOOK if first and not self._alone else left
                        self._changed.wait(None if delay == inf else min(delay, left))
                        continue
                self.clock.sleep(delay)
        finally:
            with self._changed:
                self._row.remove(ticket)
                self._changed.notify_all()

    def _ask(self, ticket: _Ticket) -> tuple[Turn | None, float]:
        """Give a turn, or how long to wait: inf until something ends or somebody leaves the row."""
        ticket.ready = False
        if self._row[0] is not ticket:
            return None, inf
        now = self.clock.now()
        if pause := self._pressure.pause(now):
            return None, pause
        if len(self._out) >= self._places(urgent=not ticket.ordinary):
            ticket.ready = True
            return None, inf
        turn = Turn(name=f"{self._name}.{ticket.number}", taken=now, out=len(self._out) + 1)
        with self._open() as (turns, time):
            delay = turns.take(
                Demand(
                    turn=turn.name,
                    limiter=self._name,
                    holder=self._turns.holder,
                    urgent=not ticket.ordinary,
                    places=self.concurrency,
                    limits=self.rate_limits,
                ),
                time,
            )
        if delay:
            ticket.ready = delay == inf
            return None, delay
        self._out.add(turn.name)
        self._pressure.sent(now)
        return turn, 0.0

    @contextmanager
    def _open(self) -> Iterator[tuple[Turns, float]]:
        """Open the turns and tell them what happened since; they count by a clock of their own."""
        with self._turns.change(self._account) as (turns, time):
            ahead = time - self.clock.now()
            for note in self._notes:
                note(turns, ahead)
            yield turns, time
        self._notes.clear()

    def _end(self, turn: Turn) -> None:
        with self._changed:
            self._out.discard(turn.name)
            now = self.clock.now()
            self._notes.append(lambda turns, ahead: turns.end(turn.name, now + ahead))
            if not (self._row and self._row[0].ready):  # who is, opens the turns at once
                # The answer that just came counts more than this note, which is kept for the next turn.
                with suppress(StoreError), self._open():
                    pass
            self._changed.notify_all()
