"""The local HubSpot: a stateful emulator of one account's contacts, lists and e-mail preferences, strict and unkind.

Here are the account's door (keys, limits), its own details, and what people do by themselves. Rules about people are in
`consent.py` and `records.py`, shapes in `answers.py`, what is not settled at the top of each file.

An emulator that is kinder than the real thing is a bug. What no source settles has an adversarial setting, the default,
that takes the worst; the permissive one refuses no raise of consent at all. Not emulated: other objects than contacts and
their associations, filters of dynamic lists, restoring, imports, OAuth, validation rules of an administrator, earlier
values of a property, the journal of webhooks, the count of custom properties, and every channel but e-mail.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from ....core.consent import ConsentState
from ...emulation import serve
from ...emulator import Answer, Call, Emulator, Handler, Pace, Person, PersonAct, Raise, RefusedError
from ...webhook_sender import SenderSettings
from .account import Account
from .answers import answered, error, missing, stamp
from .batches import BatchEndpoints
from .consent import TYPES, Choice, Status
from .contacts import ContactEndpoints
from .limits import BURST, Limits
from .list_endpoints import ListEndpoints
from .paths import DETAILS, WEBHOOKS, under
from .preferences import PreferenceEndpoints
from .property_endpoints import PropertyEndpoints
from .records import Contact
from .search import SearchEndpoints
from .settings import Settings
from .webhooks import WebhookEndpoints

_REFUSALS: Mapping[int, tuple[str, str]] = {
    404: ("OBJECT_NOT_FOUND", "resource not found"),
    405: ("VALIDATION_ERROR", "method not allowed"),
    500: ("INTERNAL_ERROR", "internal error"),
    503: ("SERVICE_UNAVAILABLE", "service unavailable"),
}
_KEY_MISSING = (
    "Authentication credentials not found. This API supports OAuth 2.0 authentication and you can find more details at "
    "https://developers.hubspot.com/docs/methods/auth/oauth-overview"
)
_MAIL: Mapping[PersonAct, tuple[str, str]] = {
    PersonAct.OPEN: ("hs_email_open", "hs_email_last_open_date"),
    PersonAct.CLICK: ("hs_email_click", "hs_email_last_click_date"),
}


class HubSpotEmulator(Emulator):
    """One HubSpot account with one app."""

    name = "hubspot"
    sending = SenderSettings(timeout=5, attempts=11, retry_wait=84)  # ten further ones over 24 hours

    def __init__(self, settings: Settings | None = None) -> None:
        super().__init__()
        self._first = settings or Settings()
        self._webhooks = WebhookEndpoints(lambda: self.account, self.sender)
        self.clear()

    def clear(self) -> None:
        """Put account and settings back to how they began."""
        self.account = Account(self._first, self.clock)
        self._limits = Limits(lambda: self.account.settings, self.clock)
        self._webhooks.clear()

    def endpoints(self) -> Sequence[tuple[str, str, Handler]]:
        """Give every endpoint; where two templates fit a path, the first one holds."""

        def account() -> Account:
            return self.account

        return [
            *under(DETAILS, "GET", "", self._details),
            *SearchEndpoints(account).endpoints(),
            *BatchEndpoints(account).endpoints(),
            *ContactEndpoints(account).endpoints(),
            *PropertyEndpoints(account).endpoints(),
            *ListEndpoints(account).endpoints(),
            *PreferenceEndpoints(account).endpoints(),
            *self._webhooks.endpoints(),
        ]

    # The door

    @property
    def pace(self) -> Pace:
        """No source knows a limit of simultaneous requests; those by time are in `limits.py`."""
        return Pace(concurrency=sys.maxsize, latency=self.account.settings.latency)

    def handle(self, call: Call) -> Answer:
        """Answer a call with the headers of the limits, and let the webhooks go that it made."""
        with self.lock:
            answer = super().handle(call)
            self._webhooks.send()
            return replace(answer, headers={**self._limits.headers(call), **answer.headers})

    def admit(self, call: Call) -> None:
        """Let in a call with the account's token, or for webhooks one with the developer's key."""
        settings = self.account.settings
        if call.template is not None and call.template.startswith(tuple(WEBHOOKS)):
            if call.query.get("hapikey") != settings.developer_key:
                raise _unknown(call)
            if call.parameters["app_id"] != str(settings.app_id):
                raise missing(call)
            return
        scheme, _, token = call.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or token.strip() != settings.token:
            raise _unknown(call)
        self._limits.admit(call)

    def refusal(self, status: int) -> Answer:
        """Refuse in HubSpot's one shape; a throttled call was too many in ten seconds."""
        return self._limits.refusal(BURST) if status == 429 else error(status, *_REFUSALS[status])

    def _details(self, _: Call) -> Answer:
        return answered(
            {
                "portalId": self.account.settings.portal_id,
                "accountType": "STANDARD",
                "timeZone": "Europe/Berlin",
                "companyCurrency": "EUR",
                "additionalCurrencies": [],
                "utcOffset": "+01:00",
                "utcOffsetMilliseconds": 3_600_000,
                "uiDomain": "app.hubspot.com",
                "dataHostingLocation": "eu1",
            }
        )

    # Control

    def state(self, *, count: int, offset: int, address: str | None) -> dict[str, Any]:
        """Give counts, lists, properties of the account's own, raises of consent, and some contacts."""
        records = self.account.records
        if address is None:
            chosen = [records.active[each] for each in records.active_ids[offset : offset + count]]
        else:
            found = records.by_email.get(address.lower())
            chosen = [] if found is None else [found]
        definitions = self.account.definitions.active.values()
        return {
            "now": self.clock.now().isoformat(),
            "contacts": len(records.active),
            "archived": len(records.archived),
            "properties": {each.name: each.type for each in definitions if not each.ours},
            "lists": {each.name: len(each.members) for each in self.account.lists.all.values()},
            "raises": [asdict(each) for each in records.raises],
            "people": [asdict(self._person(each)) | {"tags": sorted(self._tags(each))} for each in chosen],
        }

    def people(self) -> Sequence[Person]:
        """Give all contacts. Whoever has no address is mailed by nobody."""
        with self.lock:
            records = self.account.records
            return [self._person(each) for each in (*records.active.values(), *records.archived.values())]

    def _person(self, contact: Contact) -> Person:
        archived = contact.archived_at is not None
        return Person(
            name=str(contact.id),
            address=contact.email,
            state=ConsentState.UNSUBSCRIBED if archived else self.account.consent.state(contact.email),
            fields=dict(contact.properties),
            tags=self._tags(contact),
            archived=archived,
        )

    def _tags(self, contact: Contact) -> frozenset[str]:
        """Give a contact's lists, and what is ticked in the account's own properties."""
        lists = self.account.lists.all
        held = {lists[each].name for each in contact.lists if each in lists}
        for each in self.account.definitions.active.values():
            if each.field_type == "checkbox" and not each.ours:
                held |= set(filter(None, contact.properties.get(each.name, "").split(";")))
        return frozenset(held)

    @property
    def raises(self) -> Sequence[Raise]:
        """The raises of consent so far."""
        return list(self.account.records.raises)

    def settings(self) -> dict[str, Any]:
        """Give the settings in force."""
        return self.account.settings.as_json()

    def change_settings(self, changes: Mapping[str, Any]) -> None:
        """Change settings."""
        self.account.settings = self.account.settings.changed(changes)

    def act(self, act: PersonAct, *, audience: str = "", address: str) -> None:
        """Let a person act on all e-mail, or on the subscription type whose id `audience` is.

        Only leaving knows types; any other act is about everything. Raises LookupError for an unknown person or type.
        """
        with self.lock:
            self._act(act, audience, address.lower())
            self._webhooks.send()

    def _act(self, act: PersonAct, audience: str, address: str) -> None:
        records = self.account.records
        contact = records.find("email", address)
        if audience and (not audience.isdigit() or int(audience) not in TYPES):
            raise LookupError("there is no such subscription type")
        if contact is None:
            if act is not PersonAct.SUBSCRIBE:
                raise LookupError("nobody with that address is in the account")
            self.account.consent.join(address, self.clock.now())
            records.create(records.check({"email": address}, None), request=0, source="FORM")
        elif act is PersonAct.ERASE:
            records.erase(address, contact, "GDPR")
        elif act in _MAIL:
            count, when = _MAIL[act]
            times = int(contact.properties.get(count, "0")) + 1
            records.note(contact, {count: str(times), when: stamp(self.clock.now())}, "EMAIL")
        else:
            self._say(act, audience, address)

    def _say(self, act: PersonAct, audience: str, address: str) -> None:
        """Let a person say yes or no, and show it on their record."""
        consent, now = self.account.consent, self.clock.now()
        if act is PersonAct.UNSUBSCRIBE and audience:
            consent.choose(address, int(audience), Choice(status=Status.UNSUBSCRIBED, at=now, how=act))
        elif act in {PersonAct.UNSUBSCRIBE, PersonAct.COMPLAIN}:
            consent.leave(address, act, now)
        elif act is PersonAct.BOUNCE:
            consent.bounce(address)
        else:
            consent.join(address, now)
        self.account.records.restate(address, "EMAIL")


def _unknown(call: Call) -> RefusedError:
    return RefusedError(error(401, "INVALID_AUTHENTICATION", _KEY_MISSING, number=call.number))


def serve_sandbox(port: int, *, announce: Callable[[str], None] | None = None, **settings: Any) -> None:
    """Run the sandbox on the loopback until it is interrupted; keywords are those of `Settings`, enums by their text.

    `announce` is told the address once it answers. Raises ConfigError for an unknown setting, a wrong value or a taken
    port.
    """
    serve(HubSpotEmulator(Settings().changed(settings)), port, announce=announce)
