"""The lists of the emulated HubSpot, which it calls segments now: who is on them. Endpoints are in `list_endpoints.py`.

Filters are not evaluated: a DYNAMIC list is always empty, and refuses to be written.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from ...emulator import Clock
from .records import Contact


class Processing(StrEnum):
    """Who decides on the members of a list."""

    MANUAL = "MANUAL"
    SNAPSHOT = "SNAPSHOT"
    DYNAMIC = "DYNAMIC"


@dataclass(slots=True, kw_only=True)
class ContactList:
    """One list. `members` are record ids with the time at which each came."""

    id: int
    name: str
    processing: Processing
    created: datetime
    updated: datetime
    filters: Mapping[str, Any] | None = None
    version: int = 1
    members: dict[int, datetime] = field(default_factory=dict)
    ordered: list[int] | None = None  # ids of members, None when they have changed

    def page(self, after: int, limit: int) -> tuple[list[int], int | None]:
        """Give the members with ids above one, and where the next page starts."""
        if self.ordered is None:
            self.ordered = sorted(self.members)
        start = bisect_right(self.ordered, after)
        chosen = self.ordered[start : start + limit]
        return chosen, chosen[-1] if start + limit < len(self.ordered) else None


class Lists:
    """All lists of an account."""

    def __init__(self, clock: Clock) -> None:
        self.all: dict[int, ContactList] = {}
        self.deleted: dict[int, ContactList] = {}
        self._clock = clock
        self._next = 1

    def named(self, name: str) -> ContactList | None:
        """Find a list by its name, whatever its case."""
        return next((each for each in self.all.values() if each.name.lower() == name.lower()), None)

    def make(self, name: str, processing: Processing, filters: Mapping[str, Any] | None) -> ContactList:
        """Make a list whose name is free."""
        now = self._clock.now()
        made = ContactList(
            id=self._next, name=name, processing=processing, created=now, updated=now, filters=filters
        )
        self.all[made.id] = made
        self._next += 1
        return made

    def add(self, target: ContactList, contacts: Iterable[Contact]) -> list[int]:
        """Put contacts on a list, and give the ids of those who were not on it."""
        now, added = self._clock.now(), []
        for contact in contacts:
            if contact.id not in target.members:
                target.members[contact.id] = now
                contact.lists.add(target.id)
                added.append(contact.id)
        self._changed(target, added)
        return added

    def remove(self, target: ContactList, contacts: Iterable[Contact]) -> list[int]:
        """Take contacts off a list, and give the ids of those who were on it."""
        removed = []
        for contact in contacts:
            if target.members.pop(contact.id, None) is not None:
                contact.lists.discard(target.id)
                removed.append(contact.id)
        self._changed(target, removed)
        return removed

    def forget(self, contact: Contact) -> None:
        """Take a contact off every list, as archiving, erasing and merging do."""
        for number in list(contact.lists):
            target = self.all.get(number) or self.deleted[number]
            self.remove(target, [contact])

    def delete(self, target: ContactList) -> None:
        """Put a list away; its members stay on it."""
        self.deleted[target.id] = self.all.pop(target.id)

    def _changed(self, target: ContactList, ids: list[int]) -> None:
        if ids:
            target.ordered = None
            target.updated = self._clock.now()
