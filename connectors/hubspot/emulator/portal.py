"""The emulated portal's memory: records, properties, who opted out, lists, and what each kind of write does to a person.

No HTTP and no JSON shapes here. An opt-out and a bounce belong to the address and not to the record: a record that left
and gets another address can be mailed, and who is made anew at an address that left cannot. Whoever is there and never
refused is mailed, asked or not. An address that was erased for data protection is not to come back by API.

Each write by API that takes somebody from a no to being mailed is remembered in `Portal.raises`.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from ...emulator import PersonAct, Raise
from .values import Property, ValueRefusedError, mirror, standard

SUBSCRIPTIONS: Final = {101: "Marketing information", 102: "Newsletter", 103: "One to one"}
_BOUNCE: Final = "hs_email_hard_bounce_reason_enum"


@dataclass(slots=True, kw_only=True)
class Record:
    """One contact. `refused` is how the person last said no, at whatever address; None when they did not."""

    id: int
    properties: dict[str, str]
    created: datetime
    updated: datetime
    archived: bool = False
    refused: str | None = None

    @property
    def address(self) -> str:
        """The first e-mail address, "" for none."""
        return self.properties.get("email", "")


@dataclass(slots=True)
class Standing:
    """What is known of one address: opted out of all mail, of some types, subscribed to some, bounced."""

    out_of_all: bool = False
    out_of: set[int] = field(default_factory=set)
    subscribed: set[int] = field(default_factory=set)
    bounced: str = ""

    @property
    def left(self) -> bool:
        """Whether nothing is to be sent there."""
        return self.out_of_all or bool(self.bounced)


class ConflictError(Exception):
    """Another record has the value of a unique property already; `record` is that one's id."""

    def __init__(self, name: str, record: int) -> None:
        super().__init__(name)
        self.name = name
        self.record = record


class BlockedError(Exception):
    """The address was erased for good and is not to be used again."""


class Portal:
    """One portal. Ids grow, so that `ids` stays in order."""

    def __init__(self, *, permissive: bool) -> None:
        self.permissive = permissive
        self.records: dict[int, Record] = {}
        self.ids: list[int] = []
        self.properties: dict[str, Property] = {each.name: each for each in standard()}
        self.properties |= {
            each.name: each for each in (mirror(number, label) for number, label in SUBSCRIPTIONS.items())
        }
        self.groups: dict[str, str] = {"contactinformation": "Contact information"}
        self.raises: list[Raise] = []
        self._unique: dict[tuple[str, str], int] = {}
        self._standings: dict[str, Standing] = {}
        self._blocked: set[str] = set()
        self._made = 500

    def standing(self, address: str) -> Standing:
        """Give what is known of an address."""
        return self._standings.setdefault(address.lower(), Standing())

    def find(self, key: str, name: str = "") -> Record | None:
        """Find a record that is not archived, by its id or by a unique property."""
        if not name:
            record = self.records.get(int(key)) if key.isdecimal() else None
            return record if record is not None and not record.archived else None
        number = self._unique.get((name, key.lower() if name == "email" else key))
        return None if number is None else self.records[number]

    def is_unique(self, name: str) -> bool:
        """Say whether no two records share a value of a property."""
        return name == "email" or (name in self.properties and self.properties[name].unique)

    def checked(self, values: Mapping[str, Any], record: Record | None) -> dict[str, str]:
        """Give values as they would be stored, changing nothing. Raises what is wrong with the first that is."""
        found = {}
        for name, value in values.items():
            if name not in self.properties:
                raise ValueRefusedError(name, "PROPERTY_DOESNT_EXIST")
            before = record.properties.get(name, "") if record else ""
            found[name] = self.properties[name].stored(value, before)
        for name, text in found.items():
            other = self._unique.get((name, text)) if text and self.is_unique(name) else None
            if other is not None and (record is None or other != record.id):
                raise ConflictError(name, other)
        if found.get("email") in self._blocked and not self.permissive:
            raise BlockedError
        return found

    def make(self, values: Mapping[str, str], now: datetime, *, request: int) -> Record:
        """Make a record of checked values."""
        self._made += 1
        record = Record(id=self._made, properties={}, created=now, updated=now)
        self.records[record.id] = record
        self.ids.append(record.id)
        if values.get("email") in self._blocked:
            self._blocked.discard(values["email"])
            self._raise(values["email"], "erased", "erase", request)
        self.change(record, values, now, request=request)
        return record

    def change(self, record: Record, values: Mapping[str, str], now: datetime, *, request: int) -> None:
        """Store checked values; a new address brings its own standing."""
        before = record.address
        for name, text in values.items():
            if self.is_unique(name):
                self._unique.pop((name, record.properties.get(name, "")), None)
                if text:
                    self._unique[name, text] = record.id
            if text:
                record.properties[name] = text
            else:
                record.properties.pop(name, None)
        if before and record.address != before and record.refused and not self.standing(record.address).left:
            self._raise(record.address, "opted out", record.refused, request)
        self._touch(record, now)

    def archive(self, record: Record, now: datetime) -> None:
        """Put a record away: it is not found any more, and its address is free."""
        record.archived = True
        for name, text in record.properties.items():
            if self.is_unique(name):
                self._unique.pop((name, text), None)
        self._touch(record, now)

    def erase(self, address: str) -> None:
        """Delete a record for good and block its address; one that is not there is blocked too."""
        record = self.find(address, "email")
        if record is not None:
            self.archive(record, record.updated)
            del self.records[record.id]
            self.ids.remove(record.id)
        self._blocked.add(address.lower())
        self._standings.pop(address.lower(), None)

    def opt_out(self, address: str, now: datetime, *, by: str, subscription: int | None = None) -> None:
        """Opt an address out of all mail, or of one type."""
        standing = self.standing(address)
        if subscription is None:
            standing.out_of_all = True
            standing.subscribed.clear()
        else:
            standing.out_of.add(subscription)
            standing.subscribed.discard(subscription)
        self._tell(address, now, refused=by)

    def subscribe(self, address: str, subscription: int, now: datetime, *, request: int) -> str:
        """Subscribe an address by API, which ends its opt-outs; give HubSpot's word for what happened."""
        standing = self.standing(address)
        if subscription in standing.subscribed and not standing.out_of_all:
            return "NO_STATUS_CHANGE"
        again = standing.out_of_all or subscription in standing.out_of
        if again:
            record = self.find(address, "email")
            self._raise(address, "opted out", record.refused if record else "unsubscribe", request)
        standing.out_of_all = False
        standing.out_of.discard(subscription)
        standing.subscribed.add(subscription)
        self._tell(address, now, refused=None)
        return "RESUBSCRIBE_OCCURRED" if again else "REQUESTED_CHANGE_OCCURRED"

    def act(self, act: PersonAct, address: str, now: datetime) -> None:
        """Let a person act, or the mail system for them. Raises LookupError where nobody is."""
        record = self.find(address, "email")
        if act is PersonAct.SUBSCRIBE:
            self._blocked.discard(address.lower())
            self._standings[address.lower()] = Standing()
            if record is None:
                self.make(self.checked({"email": address}, None), now, request=0)
            self._tell(address, now, refused=None)
            return
        if record is None:
            raise LookupError("nobody with that address is in the portal")
        match act:
            case PersonAct.UNSUBSCRIBE:
                self.opt_out(address, now, by=act)
            case PersonAct.COMPLAIN:
                self.standing(address).bounced = "SPAM"
                self.opt_out(address, now, by=act)
            case PersonAct.BOUNCE:
                self.standing(address).bounced = "UNKNOWN_USER"
                self._tell(address, now, refused=None)
            case PersonAct.ERASE:
                self.erase(address)
            case PersonAct.OPEN | PersonAct.CLICK:
                kind = "open" if act is PersonAct.OPEN else "click"
                record.properties[f"hs_email_last_{kind}_date"] = shown_time(now)
                self._touch(record, now)
            case PersonAct.CONFIRM:
                raise LookupError("nobody is asked to confirm here")

    def after(self, number: int, *, archived: bool = False) -> Iterable[Record]:
        """Give records in the order of their ids, from behind one."""
        for place in range(bisect_right(self.ids, number), len(self.ids)):
            record = self.records[self.ids[place]]
            if record.archived is archived:
                yield record

    def _tell(self, address: str, now: datetime, *, refused: str | None) -> None:
        """Let the record at an address mirror its standing."""
        record = self.find(address, "email")
        if record is not None:
            record.refused = refused
            self._touch(record, now)

    def _touch(self, record: Record, now: datetime) -> None:
        standing = self.standing(record.address) if record.address else Standing()
        mirrored = {
            "hs_email_optout": "true" if standing.out_of_all else "",
            _BOUNCE: standing.bounced,
            "hs_email_quarantined": "true" if standing.bounced == "SPAM" else "",
            **{
                f"hs_email_optout_{number}": "true" if number in standing.out_of else ""
                for number in SUBSCRIPTIONS
            },
        }
        if standing.left and record.refused is None and not standing.bounced:
            record.refused = "unsubscribe"
        for name, text in mirrored.items():
            if text:
                record.properties[name] = text
            else:
                record.properties.pop(name, None)
        record.updated = now

    def _raise(self, address: str, before: str, refused: str | None, request: int) -> None:
        self.raises.append(
            Raise(address=address, before=before, after="contactable", refused=refused, request=request)
        )


def shown_time(moment: datetime) -> str:
    """Give a time as HubSpot does, to the millisecond."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
