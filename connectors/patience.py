"""How long one call goes on: which failures pass, how often it is tried again, and after which wait.

Nothing is sent here, and no answer judged.
"""

import secrets
from dataclasses import dataclass

from tenacity import RetryCallState, wait_exponential_jitter, wait_random

from ..core.errors import RetryableError
from .limiter import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long one call goes on. Waits double from `first_wait`; no attempt starts after `total_seconds`.

    Who is told to slow down and not for how long waits a part of `first_wait`: the limiter holds back them all.
    """

    attempts: int = 5
    total_seconds: float = 180.0
    first_wait: float = 0.5
    longest_wait: float = 30.0


class PassingError(Exception):
    """One attempt failed in a way that passes, and the ESP may or may not have carried it out."""

    def __init__(self, error: RetryableError, *, may_have_happened: bool) -> None:
        super().__init__(error.message)
        self.error = error
        self.may_have_happened = may_have_happened


class Budget:
    """Decides for one call whether and when to try again. `call` names it in the log, `attempt` counts from 1.

    `told` is the status of an answer that said to slow down, as a message shows it, empty unless the last one did.
    """

    def __init__(self, patience: Patience, clock: Clock) -> None:
        self.call = secrets.token_hex(4)
        self.attempt = 0
        self.told = ""
        self._patience = patience
        self._clock = clock
        self._started = clock.now()
        self._spent = 0
        self._backoff = wait_exponential_jitter(
            multiplier=patience.first_wait, jitter=patience.first_wait, max=patience.longest_wait
        )
        self._moment = wait_random(0, patience.first_wait)
        self._spread = wait_random(0, 1)  # those who were told the same second do not come back in it

    def wait(self, state: RetryCallState) -> float:
        """Give the seconds before the next attempt: what the ESP asked for, else ever longer."""
        error = _failure(state).error
        if error.retry_after is not None:
            return error.retry_after + self._spread(state)
        return self._moment(state) if error.throttled else self._backoff(state)

    def stop(self, state: RetryCallState) -> bool:
        """Count a failed attempt and say whether it was the last. Being told to slow down costs none."""
        if not _failure(state).error.throttled:
            self._spent += 1
        return self._spent >= self._patience.attempts or state.upcoming_sleep > self.left()

    def left(self) -> float:
        """Seconds in which another attempt may start."""
        return self._started + self._patience.total_seconds - self._clock.now()


def _failure(state: RetryCallState) -> PassingError:
    error = state.outcome.exception() if state.outcome else None
    assert isinstance(error, PassingError)  # noqa: S101 - the only error that `Retrying` is told to catch
    return error
