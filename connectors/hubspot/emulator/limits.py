"""How much the emulated HubSpot takes: per ten seconds, per day, and of searches per second, all by the emulator's clock.

Settled by sources: a search has a limit of its own, and answers without the headers. Unsettled, and worst in the
adversarial mode: a search counts as a request of the ten seconds too; a refused request counts for the day; no answer
says when to come again. Permissive: neither, and a 429 that is no search's has Retry-After.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import date

from ...emulator import Answer, Call, Clock, RefusedError, RollingWindow
from .answers import answered, correlation
from .search import SEARCHES
from .settings import BURST_SECONDS, Settings

DAILY, BURST, SECOND = "DAILY", "TEN_SECONDLY_ROLLING", "SECONDLY"
_WAIT = {BURST: "10", DAILY: "86400"}


class Limits:
    """What came lately."""

    def __init__(self, settings: Callable[[], Settings], clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._burst = RollingWindow()
        self._second = RollingWindow()
        self._day: date | None = None
        self._today = 0

    def admit(self, call: Call) -> None:
        """Count a request, or refuse it with 429."""
        settings, now = self._settings(), self._clock.now()
        if not settings.limits:
            return
        search = call.template in SEARCHES
        counts = not (search and settings.permissive)
        policy = None
        if self._spent(now.date()) >= settings.per_day:
            policy = DAILY
        elif counts and self._burst.count(now, BURST_SECONDS) >= settings.per_burst:
            policy = BURST
        elif search and self._second.count(now, 1) >= settings.searches:
            policy = SECOND
        if policy is None or not settings.permissive:
            self._today += 1
        if policy is not None:
            raise RefusedError(self.refusal(policy, call.number))
        if counts:
            self._burst.add(now)
        if search:
            self._second.add(now)

    def refusal(self, policy: str, number: int = 0) -> Answer:
        """Build the 429 of a policy."""
        body = {
            "status": "error",
            "message": f"You have reached your {policy.lower()} limit.",
            "errorType": "RATE_LIMIT",
            "correlationId": correlation(number),
            "policyName": policy,
            "requestId": correlation(number),
        }
        answer = answered(body, 429)
        if self._settings().permissive and policy in _WAIT:
            return replace(answer, headers={"Retry-After": _WAIT[policy]})
        return answer

    def headers(self, call: Call) -> Mapping[str, str]:
        """Give the headers that tell what is left; a search has none."""
        settings, now = self._settings(), self._clock.now()
        if not settings.limits or call.template in SEARCHES:
            return {}
        left = settings.per_burst - self._burst.count(now, BURST_SECONDS)
        return {
            "X-HubSpot-RateLimit-Daily": str(settings.per_day),
            "X-HubSpot-RateLimit-Daily-Remaining": str(max(0, settings.per_day - self._spent(now.date()))),
            "X-HubSpot-RateLimit-Interval-Milliseconds": str(int(BURST_SECONDS * 1000)),
            "X-HubSpot-RateLimit-Max": str(settings.per_burst),
            "X-HubSpot-RateLimit-Remaining": str(max(0, left)),
        }

    def _spent(self, today: date) -> int:
        if self._day != today:
            self._day, self._today = today, 0
        return self._today
