"""The emulated HubSpot's contact records: what each kind of write does to them, and to the people behind them.

No HTTP here; how an address stands is in `consent.py`, what a property accepts in `definitions.py`. Every write ends in
`_settle`, which notices when it made somebody mailable who had said no: `raises` must stay empty in every test of ours.

Settled by sources: an address belongs to one record; a merge leaves one record; an archived record is not shown and
frees its address; an erased address is blocked. Unsettled, and worst in the adversarial mode:

* a merge gives the survivor a new id, and both old ones are gone; permissive: the primary's id stays;
* a merged record is mailed at the primary's address, whatever the other one had said: in both modes, and remembered.
"""

from bisect import bisect_left, insort
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ...emulator import Clock, Raise
from .answers import stamp
from .consent import TYPES, Choice, Consent, Reason, mirror_of, together
from .definitions import Definitions
from .index import SearchIndex
from .settings import Settings

FIRST_ID = 100_001
_MIRRORS = frozenset(
    {
        "hs_email_optout",
        "hs_email_bounce",
        "hs_email_hard_bounce_reason_enum",
        "hs_email_quarantined",
        *(mirror_of(number) for number in TYPES),
    }
)


@dataclass(slots=True)
class Contact:
    """One record. `properties` is replaced, never changed. `refused` is what its person said no to, by type."""

    id: int
    properties: dict[str, str]
    created: datetime
    updated: datetime
    archived_at: datetime | None = None
    refused: dict[int, str] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)  # addresses of records that were merged into it
    lists: set[int] = field(default_factory=set)

    @property
    def email(self) -> str:
        """The address that mail goes to, "" when there is none."""
        return self.properties.get("email", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """What was done to a record, in the words of the webhooks."""

    kind: str
    contact: int
    source: str
    name: str = ""
    value: str = ""
    more: Mapping[str, Any] = field(default_factory=dict)


class RefusedWriteError(Exception):
    """A write that makes no sense; the text is HubSpot's."""


class ConflictError(Exception):
    """A write of a value that another record has. `name` is the property, `holder` the other record."""

    def __init__(self, name: str, holder: int) -> None:
        super().__init__(name)
        self.name = name
        self.holder = holder

    @property
    def message(self) -> str:
        """HubSpot's sentence."""
        if self.name == "email":
            return f"Contact already exists. Existing ID: {self.holder}"
        return f"A contact with this value of {self.name} already exists. Existing ID: {self.holder}"


class Records:
    """All contacts of an account, by id, address and unique properties."""

    def __init__(
        self, definitions: Definitions, consent: Consent, settings: Callable[[], Settings], clock: Clock
    ) -> None:
        self.definitions = definitions
        self.consent = consent
        self.index = SearchIndex()
        self.active: dict[int, Contact] = {}
        self.archived: dict[int, Contact] = {}
        self.by_email: dict[str, Contact] = {}
        self.by_value: dict[str, dict[str, Contact]] = {}  # of unique properties
        self.active_ids: list[int] = []
        self.archived_ids: list[int] = []
        self.raises: list[Raise] = []
        self.listener: Callable[[Happening], None] | None = None
        self.before_removal: Callable[[Contact], None] = lambda _: (
            None
        )  # told of records that go, before they do
        self._settings = settings
        self._clock = clock
        self._next = FIRST_ID

    # Finding

    def find(self, name: str, value: str) -> Contact | None:
        """Find an active record by its id ("hs_object_id"), its address or a unique property."""
        if name == "email":
            return self.by_email.get(value.lower())
        if name == "hs_object_id":
            return self.active.get(number_of(value))
        return self.by_value.get(name, {}).get(value)

    def identifies(self, name: str) -> bool:
        """Whether each value of a property belongs to one record."""
        definition = self.definitions.active.get(name)
        return definition is not None and definition.unique

    def page(self, after: int, limit: int, *, archived: bool) -> tuple[list[Contact], int | None]:
        """Give the records with ids above one, and where the next page starts."""
        ids, found = (self.archived_ids, self.archived) if archived else (self.active_ids, self.active)
        start = bisect_left(ids, after + 1)
        chosen = ids[start : start + limit]
        more = chosen[-1] if chosen and start + limit < len(ids) else None
        return [found[each] for each in chosen], more

    # Writing

    def check(self, given: Mapping[str, Any], contact: Contact | None) -> dict[str, str]:
        """Give what a write would store. Raises ValueFaultsError, RefusedWriteError or ConflictError, changing nothing."""
        lenient = self._settings().permissive
        present = {} if contact is None else contact.properties
        values = self.definitions.accepted(given, present, lenient=lenient)
        if contact is None and not any(values.get(name) for name in ("email", "firstname", "lastname")):
            raise RefusedWriteError(
                "At least one of the following properties must be set: email, firstname, lastname"
            )
        address = values.get("email", "")
        if self.consent.blocked(address) and not lenient:
            raise RefusedWriteError(
                f"{address} was deleted for reasons of privacy and cannot be used any more"
            )
        for name in ("email", *self.by_value):
            value = values.get(name)
            holder = self.find(name, value) if value else None
            if holder is not None and holder is not contact:
                raise ConflictError(name, holder.id)
        return values

    def create(self, values: Mapping[str, str], *, request: int, source: str = "INTEGRATION") -> Contact:
        """Make a record of values that were `check`ed."""
        now = self._clock.now()
        contact = Contact(self._new_id(), {}, now, now)
        contact.properties = {
            "hs_object_id": str(contact.id),
            "createdate": stamp(now),
            "hs_marketable_status": "true",
        }
        self.active[contact.id] = contact
        self.active_ids.append(contact.id)
        self._tell("creation", contact, source)
        self.update(contact, values, request=request, source=source)
        return contact

    def update(
        self, contact: Contact, values: Mapping[str, str], *, request: int, source: str = "INTEGRATION"
    ) -> None:
        """Write values that were `check`ed; "" clears."""
        address = values.get("email", contact.email)
        moved = address != contact.email
        properties = {**contact.properties, **values}
        for name, held in self.by_value.items():
            if name in values:
                _move(held, contact, contact.properties.get(name, ""), values[name])
        earlier: dict[int, str] = {}
        before = ""
        if moved:
            self._readdress(contact, address)
            before = self.consent.word(contact.email if contact.refused else address)
            properties = {name: value for name, value in properties.items() if name not in _MIRRORS}
            properties |= self.consent.mirrors(address)
            if self.consent.blocked(address):
                earlier = self.consent.refusals(address, of_address=True)
                self.consent.unblock(address)
        self._store(contact, properties, source)
        self._settle(contact, earlier, request, before=before)

    def note(self, contact: Contact, values: Mapping[str, str], source: str) -> None:
        """Write what HubSpot itself keeps of a contact, read-only for everybody else."""
        self._store(contact, {**contact.properties, **values}, source)

    def archive(self, contact: Contact) -> None:
        """Put a record away: it is not shown any more, its address is free, and its lists forget it."""
        self._remove(contact)
        contact.archived_at = contact.updated = self._clock.now()
        self.archived[contact.id] = contact
        insort(self.archived_ids, contact.id)
        self._tell("deletion", contact, "INTEGRATION")

    def erase(self, address: str, contact: Contact | None, source: str) -> None:
        """Delete for good, and block the addresses."""
        gone = [address] if address else []
        if contact is not None:
            gone += [contact.email, *contact.others]
            if contact.archived_at is None:
                self._remove(contact)
            else:
                del self.archived[contact.id]
                self.archived_ids.remove(contact.id)
            self._tell("privacyDeletion", contact, source)
            self._tell("deletion", contact, source)
        for each in gone:
            if each:
                self.consent.erase(each.lower())

    def merge(self, primary: Contact, other: Contact, *, request: int) -> Contact:
        """Make one record of two. The primary's values win; the other's address stays as a second one."""
        self._remove(primary)
        self._remove(other)
        number = primary.id if self._settings().permissive else self._new_id()
        properties = {**other.properties, **primary.properties, "hs_object_id": str(number)}
        properties = {name: value for name, value in properties.items() if name not in _MIRRORS}
        addresses = [primary.email, other.email, *primary.others, *other.others]
        addresses = list(dict.fromkeys(address for address in addresses if address))
        others = addresses[1:]
        if others:
            properties["hs_additional_emails"] = ";".join(others)
        now = self._clock.now()
        contact = Contact(number, properties, primary.created, now, others=others)
        contact.refused = together(primary.refused, other.refused)
        contact.properties |= self.consent.mirrors(contact.email)
        self.active[number] = contact
        insort(self.active_ids, number)
        self.by_email.update(dict.fromkeys(addresses, contact))
        for name, held in self.by_value.items():
            _move(held, contact, "", properties.get(name, ""))
        more = {
            "primaryObjectId": primary.id,
            "mergedObjectIds": [other.id] if number == primary.id else [primary.id, other.id],
            "newObjectId": number,
            "numberOfPropertiesMoved": len(other.properties.keys() - primary.properties.keys()),
        }
        self._tell("merge", contact, "INTEGRATION", more=more)
        self._store(contact, contact.properties, "INTEGRATION")
        self._settle(contact, {}, request)
        return contact

    # Consent

    def choose(self, address: str, number: int, choice: Choice, *, request: int) -> Reason:
        """Write a status of an address, whether a record has it or not."""
        earlier, before = self.consent.refusals(address, of_address=True), self.consent.word(address)
        reason = self.consent.choose(address, number, choice)
        self.restate(address, "INTEGRATION", earlier=earlier, before=before, request=request)
        return reason

    def restate(
        self,
        address: str,
        source: str,
        *,
        earlier: Mapping[int, str] | None = None,
        before: str = "",
        request: int = 0,
    ) -> None:
        """Show on its record how an address stands now. `earlier` are the refusals before an API write."""
        contact = self.by_email.get(address)
        if contact is None or contact.email != address:
            self._judge(address, earlier or {}, before, request)
            return
        self.note(contact, self.consent.mirrors(address), source)
        self._settle(contact, earlier or {}, request, before=before)

    def _settle(
        self, contact: Contact, earlier: Mapping[int, str], request: int, *, before: str = ""
    ) -> None:
        """Keep what the person said no to, and remember a write by API that made nothing of it."""
        if not (earlier or contact.refused or contact.email in self.consent.addresses):
            return
        refused = together(contact.refused, earlier)
        mailable = self._judge(contact.email, refused, before or "left", request)
        kept = {number: how for number, how in contact.refused.items() if number not in mailable}
        contact.refused = together(kept, self.consent.refusals(contact.email))

    def _judge(self, address: str, refused: Mapping[int, str], before: str, request: int) -> frozenset[int]:
        mailable = self.consent.mailable(address)
        broken = [how for number, how in refused.items() if number in mailable]
        if broken and request:
            after = self.consent.word(address)
            self.raises.append(
                Raise(address=address, before=before, after=after, refused=broken[0], request=request)
            )
        return mailable

    # Keeping

    def track(self, name: str) -> None:
        """Keep an index of a property whose values are unique."""
        self.by_value[name] = {}

    def _store(self, contact: Contact, properties: Mapping[str, str], source: str) -> None:
        now = self._clock.now()
        kept = {name: value for name, value in properties.items() if value != ""}
        kept["lastmodifieddate"] = stamp(now)
        if self.listener is not None:
            self._tell_changes(contact, kept, source)
        contact.properties, contact.updated = kept, now
        self.index.put(contact.id, kept, now, self._settings().index_lag)

    def _tell_changes(self, contact: Contact, kept: Mapping[str, str], source: str) -> None:
        before = contact.properties
        for name in sorted(kept.keys() | before.keys()):
            if kept.get(name) != before.get(name):
                self._tell("propertyChange", contact, source, name=name, value=kept.get(name, ""))

    def _tell(
        self,
        kind: str,
        contact: Contact,
        source: str,
        *,
        name: str = "",
        value: str = "",
        more: Mapping[str, Any] | None = None,
    ) -> None:
        if self.listener is not None:
            self.listener(
                Happening(
                    kind=kind, contact=contact.id, source=source, name=name, value=value, more=more or {}
                )
            )

    def _readdress(self, contact: Contact, address: str) -> None:
        if address in contact.others:
            contact.others.remove(address)
        _move(self.by_email, contact, contact.email, address)

    def _remove(self, contact: Contact) -> None:
        self.before_removal(contact)
        del self.active[contact.id]
        del self.active_ids[bisect_left(self.active_ids, contact.id)]
        for address in (contact.email, *contact.others):
            self.by_email.pop(address, None)
        for name, held in self.by_value.items():
            held.pop(contact.properties.get(name, ""), None)
        self.index.put(contact.id, None, self._clock.now(), self._settings().index_lag)

    def _new_id(self) -> int:
        self._next += 1
        return self._next - 1


def _move(held: dict[str, Contact], contact: Contact, old: str, new: str) -> None:
    if old and held.get(old) is contact:
        del held[old]
    if new:
        held[new] = contact


def number_of(text: str) -> int:
    """Read a record's id; whatever is none finds nobody."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0
