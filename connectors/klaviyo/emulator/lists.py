"""The emulated Klaviyo's lists: who is on them since when, and how one gets onto them by oneself.

No HTTP, and no consent: being on a list says nothing about that.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from .profiles import Profile
from .timeline import Timeline

OptIn = Literal["single_opt_in", "double_opt_in"]


@dataclass(slots=True)
class MailingList:
    """One list. `members` are profile ids in the order of joining."""

    id: str
    name: str
    opt_in: OptIn
    created: datetime
    updated: datetime
    members: Timeline = field(default_factory=Timeline)

    def add(self, profile: Profile, now: datetime) -> None:
        """Put a profile on the list; twice is once, and keeps the first time."""
        if self.id not in profile.lists:
            profile.lists[self.id] = now
            self.members.put(profile.id, now)

    def remove(self, profile: Profile) -> None:
        """Take a profile off the list; not being on it is fine."""
        if profile.lists.pop(self.id, None) is not None:
            self.members.drop(profile.id)


class Lists:
    """All lists, in the order in which they were made."""

    def __init__(self) -> None:
        self.by_id: dict[str, MailingList] = {}
        self._made = 0

    def make(self, name: str, opt_in: OptIn, now: datetime, *, list_id: str | None = None) -> MailingList:
        """Make an empty list; names may repeat."""
        self._made += 1
        made = MailingList(list_id or f"L{self._made:05d}", name, opt_in, now, now)
        self.by_id[made.id] = made
        return made

    def off_all(self, profile: Profile) -> None:
        """Take a profile off every list."""
        for list_id in list(profile.lists):
            self.by_id[list_id].remove(profile)
