"""The local HubSpot: a stateful emulator of one portal's contacts, as strict and as unkind as the real one is known to be.

Here are the portal's door (token, limits of ten seconds and of a day, both families of paths), its account details and
what people do by themselves. Rules about records are in `portal.py`, about values in `values.py`.

An emulator that is kinder than the real thing is a bug. What no source settles has an adversarial setting, the default,
that takes the worst. Not emulated: other objects, associations, workflows, imports, the making of mail.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from typing import Any, Final

from ....core.consent import ConsentState
from ...emulation import serve
from ...emulator import Answer, Call, Emulator, Handler, Pace, Person, PersonAct, Raise, RefusedError
from ..paths import DATED, versioned
from .answers import problem
from .contacts import ContactEndpoints
from .lists import ListEndpoints
from .portal import Portal, Record
from .properties import PropertyEndpoints
from .search import Search
from .settings import LIMITS, Settings
from .subscriptions import SubscriptionEndpoints

_CONNECTIONS: Final = 100
_VERSIONS: Final = (DATED, "2026-03")
_TAGS: Final = "segue_tags"
_REFUSALS: Final = {
    401: ("INVALID_AUTHENTICATION", "Authentication credentials not found."),
    404: ("OBJECT_NOT_FOUND", "resource not found"),
    405: ("METHOD_NOT_ALLOWED", "Method Not Allowed"),
    500: ("INTERNAL_ERROR", "internal error"),
    503: ("SERVICE_UNAVAILABLE", "service unavailable"),
}


class HubSpotEmulator(Emulator):
    """One portal with one private app."""

    name = "hubspot"

    def __init__(self, settings: Settings | None = None) -> None:
        super().__init__()
        self._first = settings or Settings()
        self._search = Search(lambda: self.options, self.clock)
        self._lists = ListEndpoints(lambda: self.portal, self.clock)
        self.clear()

    def clear(self) -> None:
        """Put portal and settings back to how they began."""
        self.options = self._first
        self.portal = Portal(permissive=self.options.permissive)
        self._lists.clear()
        self._taken: dict[float, deque[datetime]] = {}

    def endpoints(self) -> Sequence[tuple[str, str, Handler]]:
        """Give every endpoint, by its numbered path and by the dated ones."""
        numbered = [
            ("GET", "/account-info/v3/details", self._details),
            *PropertyEndpoints(lambda: self.portal).endpoints(),
            *self._lists.endpoints(),
            *SubscriptionEndpoints(lambda: self.portal, lambda: self.options, self.clock).endpoints(),
            *ContactEndpoints(lambda: self.portal, self.clock, self._search).endpoints(),
        ]
        dated = [
            (method, versioned(template, version), handler)
            for version in _VERSIONS
            for method, template, handler in numbered
            if versioned(template, version) != template
        ]
        return [*numbered, *dated]

    # The door

    @property
    def pace(self) -> Pace:
        """No limit of simultaneous requests is known; those of time are counted here."""
        return Pace(concurrency=_CONNECTIONS, latency=self.options.latency)

    def admit(self, call: Call) -> None:
        """Let in a call with the token that is not one too many."""
        if call.headers.get("authorization") != f"Bearer {self.options.token}":
            raise RefusedError(self.refusal(401))
        if not self.options.limited or (call.template or "").endswith("contacts/search"):
            return  # searches are counted apart
        now = self.clock.now()
        for limit, policy in zip(LIMITS[self.options.tier], ("TEN_SECONDLY_ROLLING", "DAILY"), strict=True):
            taken = self._taken.setdefault(limit.seconds, deque())
            while taken and not timedelta() <= now - taken[0] < timedelta(seconds=limit.seconds):
                taken.popleft()
            if len(taken) >= limit.count:
                raise RefusedError(_throttled(policy, call.number))
        for taken in self._taken.values():
            taken.append(now)

    def handle(self, call: Call) -> Answer:
        """Answer a call, with what is left of the limits in its headers."""
        answer = super().handle(call)
        if not self.options.limited or (call.template or "").endswith("contacts/search"):
            return answer
        soon, day = LIMITS[self.options.tier]
        left = {seconds: len(taken) for seconds, taken in self._taken.items()}
        headers = {
            "X-HubSpot-RateLimit-Max": str(soon.count),
            "X-HubSpot-RateLimit-Remaining": str(soon.count - left.get(soon.seconds, 0)),
            "X-HubSpot-RateLimit-Interval-Milliseconds": str(int(soon.seconds * 1000)),
            "X-HubSpot-RateLimit-Daily": str(day.count),
            "X-HubSpot-RateLimit-Daily-Remaining": str(day.count - left.get(day.seconds, 0)),
        }
        return replace(answer, headers=headers)

    def refusal(self, status: int) -> Answer:
        """Refuse in HubSpot's way."""
        if status == 429:
            return _throttled("TEN_SECONDLY_ROLLING", 0)
        return problem(status, *_REFUSALS[status])

    def _details(self, _: Call) -> Answer:
        return Answer(
            body={
                "portalId": self.options.portal,
                "accountType": "STANDARD",
                "timeZone": "UTC",
                "companyCurrency": "GBP",
                "dataHostingLocation": "na1",
                "uiDomain": "app.hubspot.com",
            }
        )

    # Control

    def state(self, *, count: int, offset: int, address: str | None) -> dict[str, Any]:
        """Give the portal with its properties, lists, raises of consent and some contacts."""
        records = [each for each in self.portal.records.values() if address in {None, each.address}]
        return {
            "now": self.clock.now().isoformat(),
            "portal": self.options.portal,
            "properties": [each.name for each in self.portal.properties.values() if not each.own],
            "lists": {each.name: len(each.members) for each in self._lists.lists.values()},
            "raises": [asdict(each) for each in self.portal.raises],
            "contacts": [
                {
                    "id": each.id,
                    "archived": each.archived,
                    "refused": each.refused,
                    "properties": each.properties,
                }
                for each in records[offset : offset + count]
            ],
        }

    def people(self) -> Sequence[Person]:
        """Give everybody in the portal."""
        with self.lock:
            return [self._person(each) for each in self.portal.records.values()]

    def _person(self, record: Record) -> Person:
        standing = self.portal.standing(record.address)
        state = ConsentState.SUBSCRIBED
        if standing.out_of_all or standing.out_of:
            state = ConsentState.UNSUBSCRIBED
        if standing.bounced:
            state = ConsentState.SUPPRESSED
        held = record.properties.get(_TAGS, "").split(";")
        return Person(
            name=str(record.id),
            address=record.address,
            state=state,
            fields=dict(record.properties),
            tags=frozenset(each for each in held if each) | self._lists.on(record.id),
            archived=record.archived,
        )

    @property
    def raises(self) -> Sequence[Raise]:
        """The raises of consent so far."""
        return list(self.portal.raises)

    def settings(self) -> dict[str, Any]:
        """Give the settings in force."""
        return self.options.as_json()

    def change_settings(self, changes: Mapping[str, Any]) -> None:
        """Change settings."""
        self.options = self.options.changed(changes)
        self.portal.permissive = self.options.permissive

    def act(self, act: PersonAct, *, audience: str = "", address: str) -> None:  # noqa: ARG002 - there is one
        """Let a person act. Raises LookupError for somebody who is not there."""
        with self.lock:
            self.portal.act(act, address, self.clock.now())


def _throttled(policy: str, number: int) -> Answer:
    words = {
        "DAILY": "You have reached your daily limit.",
        "TEN_SECONDLY_ROLLING": "You have reached your ten_secondly_rolling limit.",
    }
    refused = problem(429, "RATE_LIMITS", words[policy], number=number)
    more = {"errorType": "RATE_LIMIT", "policyName": policy, "requestId": f"{number:08d}"}
    return Answer(status=429, body=refused.body | more)


def serve_sandbox(port: int, *, announce: Callable[[str], None] | None = None, **settings: Any) -> None:
    """Run a local HubSpot until it is interrupted. Raises ConfigError for an unknown setting, a wrong value or a taken
    port.
    """
    emulator = HubSpotEmulator(Settings().changed(settings))
    serve(emulator, port, announce=announce)
