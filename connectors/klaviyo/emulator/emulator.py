"""The local Klaviyo: a stateful emulator of its API, as strict and as unkind as the real one is known to be.

Here are the account's door (key, revision, media type, query, limits) and what people do by themselves. What may be mailed
is decided in `standing.py`, what happens later in `jobs.py`, who is refused what beside its endpoint.

An emulator that is kinder than the real thing is a bug. What no source settles has an adversarial setting, the default,
that takes the worst; the permissive one refuses no raise of consent at all. Not emulated: segments, campaigns, flows,
templates, tags, channels other than e-mail, OAuth, predictions, and the creation of many events at once.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import date, timedelta
from itertools import islice
from typing import Any

from ....core.consent import ConsentState
from ...emulation import serve
from ...emulator import Answer, Call, Emulator, Handler, Pace, Person, PersonAct, Raise, RefusedError
from ...queries import query_problems
from ...webhook_sender import SenderSettings
from ..facts import endpoints
from .account import Account
from .answers import MEDIA_TYPE, by_status, invalid, refused, stamp_or_none, throttled
from .consent import Consent
from .consent_endpoints import ConsentEndpoints
from .event_endpoints import EventEndpoints
from .job_endpoints import JobEndpoints
from .limits import EXTRA_SMALL, MEDIUM, Limits
from .list_endpoints import ListEndpoints
from .profile_endpoints import ProfileEndpoints
from .profiles import Profile
from .settings import Settings
from .standing import NEVER, UNSUBSCRIBE, Standing
from .webhooks import WebhookEndpoints

_REVISIONS = frozenset({"2026-07-15", "2026-10-15"})
_LIFETIME = timedelta(days=730)  # a year stable and a year deprecated
_UNLIMITED = 1_000_000  # connections: no source knows a limit


class KlaviyoEmulator(Emulator):
    """One Klaviyo account with one private key and, to begin with, one list."""

    name = "klaviyo"
    sending = SenderSettings(timeout=10, attempts=1)  # whether it tries again is not published

    def __init__(self, settings: Settings | None = None) -> None:
        super().__init__()
        self._first = settings or Settings()
        self._limits = Limits()
        self._webhooks = WebhookEndpoints(lambda: self.account, self.sender)
        self.clear()

    def clear(self) -> None:
        """Put account and settings back to how they began."""
        self.account = Account(self._first, self.clock)
        self.account.events.listener = self._webhooks.hear
        self._webhooks.clear()
        self._limits.clear()

    def endpoints(self) -> Sequence[tuple[str, str, Handler]]:
        """Give every endpoint."""

        def account() -> Account:
            return self.account

        return [
            *ProfileEndpoints(account).endpoints(),
            *ListEndpoints(account).endpoints(),
            *JobEndpoints(account).endpoints(),
            *ConsentEndpoints(account).endpoints(),
            *EventEndpoints(account).endpoints(),
            *self._webhooks.endpoints(),
        ]

    # The door

    @property
    def pace(self) -> Pace:
        """No limit but those of each endpoint, which are counted at the door."""
        return Pace(concurrency=_UNLIMITED, latency=self.account.settings.latency)

    def admit(self, call: Call) -> None:
        """Let in a call with key, revision, media type and a known query, of an endpoint that still has room."""
        self._check_key(call)
        self._check_revision(call)
        facts = endpoints().get(f"{call.method} {call.template}")
        if call.path.endswith("/"):
            raise RefusedError(by_status(404))
        if facts is None:
            return
        given = call.headers.get("content-type", "").partition(";")[0].strip().lower()
        if facts["body"] is not None and given != MEDIA_TYPE:
            raise RefusedError(by_status(415))
        if self.account.settings.limits:
            name, limits = _limits_of(call, facts)
            now = self.clock.now()
            if wait := self._limits.take(name, limits, now, worst=self.account.worst):
                raise RefusedError(throttled(wait))
        for parameter, problem in query_problems(facts["query"], list(call.query.items())):
            raise invalid(f"{parameter}: {problem}.", parameter=parameter)
        self.account.tick()

    def handle(self, call: Call) -> Answer:
        """Answer a call, and say how much room its endpoint still has."""
        with self.lock:
            answer = super().handle(call)
            facts = endpoints().get(f"{call.method} {call.template}")
            if facts is None or answer.status in {401, 415, 429} or not self.account.settings.limits:
                return answer
            name, limits = _limits_of(call, facts)
            worst, now = self.account.worst, self.clock.now()
            return replace(answer, headers=self._limits.headers(name, limits, now, worst=worst))

    def _check_key(self, call: Call) -> None:
        scheme, _, key = call.headers.get("authorization", "").partition(" ")
        if scheme != "Klaviyo-API-Key" or key.strip() != self.account.settings.key:
            raise RefusedError(by_status(401))

    def _check_revision(self, call: Call) -> None:
        """Take the revisions that are known here; one that is over two years old is gone, any other is wrong."""
        text = call.headers.get("revision", "")
        if text in _REVISIONS:
            return
        try:
            told = date.fromisoformat(text)
        except ValueError:
            told = None
        if told is not None and self.clock.now().date() - told > _LIFETIME:
            raise RefusedError(by_status(410))
        detail = f"The revision must be one of {', '.join(sorted(_REVISIONS))}."
        raise RefusedError(refused(400, "invalid", "Invalid input.", detail, parameter="revision"))

    def refusal(self, status: int) -> Answer:
        """Refuse as JSON:API does; being too fast for a second."""
        return throttled(1) if status == 429 else by_status(status)

    # Control

    def state(self, *, count: int, offset: int, address: str | None) -> dict[str, Any]:
        """Give lists, metrics and what waits, the raises of consent, and some profiles."""
        with self.lock:
            account = self.account
            account.tick()
            if address is None:
                chosen = list(islice(account.profiles.by_id.values(), offset, offset + count))
            else:
                chosen = account.profiles.matches({"email": address})
            return {
                "now": self.clock.now().isoformat(),
                "jobs_pending": account.jobs.pending,
                "errands_pending": len(account.errands),
                "lists": {
                    each.id: {"name": each.name, "members": len(each.members)}
                    for each in account.lists.by_id.values()
                },
                "metrics": {each.name: len(each.events) for each in account.events.metrics.values()},
                "forgotten": account.standings.erased,
                "raises": [asdict(each) for each in account.standings.raises],
                "count": len(account.profiles.by_id),
                "profiles": [_dump(profile) for profile in chosen],
            }

    def people(self) -> Sequence[Person]:
        """Give everybody who has a profile; those without an e-mail address with an empty one."""
        with self.lock:
            self.account.tick()
            return [_person(self.account, profile) for profile in self.account.profiles.by_id.values()]

    @property
    def raises(self) -> Sequence[Raise]:
        """The raises of consent so far, also those that an accepted request has brought about meanwhile."""
        with self.lock:
            self.account.tick()
            return list(self.account.standings.raises)

    def settings(self) -> dict[str, Any]:
        """Give the settings in force."""
        return self.account.settings.as_json()

    def change_settings(self, changes: Mapping[str, Any]) -> None:
        """Change settings. The first list's id is fixed once the account stands."""
        with self.lock:
            self.account.change(self.account.settings.changed(changes))

    def act(self, act: PersonAct, *, audience: str = "", address: str) -> None:
        """Let a person act; an audience is a list, "" none in particular. Raises LookupError for an unknown one."""
        with self.lock:
            self.account.tick()
            target = self.account.lists.by_id[audience] if audience else None
            Consent(self.account).act(act, target, address.strip().lower(), self.clock.now())


def _limits_of(call: Call, facts: Mapping[str, Any]) -> tuple[str, Mapping[str, str]]:
    """Give the name and the limits of what a call counts for: some queries fall under stricter ones."""
    name = f"{call.method} {call.template}"
    if "predictive_analytics" in call.query.get("additional-fields[profile]", ""):
        return f"{name} predictive_analytics", MEDIUM
    if "profile_count" in call.query.get("additional-fields[list]", ""):
        return f"{name} profile_count", EXTRA_SMALL
    return name, facts["limits"]


def _person(account: Account, profile: Profile) -> Person:
    return Person(
        name=profile.id,
        address=profile.email or "",
        state=_state(profile.standing),
        fields={**profile.location, **profile.properties, **profile.values},
        tags=frozenset(_labels(account, profile)),
    )


def _labels(account: Account, profile: Profile) -> Iterator[str]:
    """Give what marks a profile: the lists that it is on, and what stands in its properties that are lists."""
    yield from (account.lists.by_id[each].name for each in profile.lists)
    yield from (
        str(each) for value in profile.properties.values() if isinstance(value, list) for each in value
    )


def _state(standing: Standing | None) -> ConsentState:
    """Say what Klaviyo would do: it mails whoever has said nothing."""
    if standing is None:
        return ConsentState.UNKNOWN
    if set(standing.suppressions) - {UNSUBSCRIBE}:
        return ConsentState.SUPPRESSED
    if standing.mailable:
        return ConsentState.SUBSCRIBED
    return ConsentState.PENDING if standing.consent == NEVER else ConsentState.UNSUBSCRIBED


def _dump(profile: Profile) -> dict[str, Any]:
    """Give a profile with what the API does not show."""
    standing = profile.standing or Standing("")
    return {
        "id": profile.id,
        **profile.values,
        "properties": profile.properties,
        "lists": sorted(profile.lists),
        "consent": standing.consent,
        "consent_timestamp": stamp_or_none(standing.consented_at),
        "mailable": profile.standing is not None and standing.mailable,
        "suppressions": sorted(standing.suppressions),
        "list_suppressions": sorted(standing.list_suppressions),
        "refused": standing.refused,
        "pending": sorted(standing.pending),
        "confirmation_mails": standing.confirmation_mails,
    }


def serve_sandbox(port: int, *, announce: Callable[[str], None] | None = None, **settings: Any) -> None:
    """Run the sandbox on the loopback until it is interrupted; keywords are those of `Settings`, enums by their text.

    `announce` is told the address once it answers. Raises ConfigError for an unknown setting, a wrong value or a taken
    port.
    """
    emulator = KlaviyoEmulator(Settings().changed(settings))
    serve(emulator, port, announce=announce)
