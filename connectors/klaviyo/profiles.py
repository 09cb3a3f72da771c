"""Klaviyo's profiles as they are read: all that changed, or those of some addresses, which are not their names there.

A profile's name is its id, which a merge changes; whatever is written names the id, for that makes nobody.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from ...core.model import Change, RemoteContact
from ..base import Page
from .api import Api
from .pages import by_address
from .pages import changes as changed_pages
from .payload import remote_contact


class Profiles:
    """The profiles of one account. `shows_tags` says whether our tags are a part of them."""

    def __init__(self, api: Api, *, shows_tags: bool) -> None:
        self._api = api
        self._shows_tags = shows_tags

    def pages(self, cursor: str | None, *, only: Collection[str] | None) -> Iterator[Page]:
        """Give pages of profiles: everyone, or whoever changed since. Those without an address are left out."""
        for profiles, reached in changed_pages(self._api, cursor):
            found = [self._contact(profile, only) for profile in profiles]
            yield Page(contacts=[contact for contact in found if contact.address], cursor=reached)

    def read(self, addresses: Sequence[str]) -> list[RemoteContact | None]:
        """Read profiles by address, in order."""
        found = {
            contact.address.lower(): contact
            for profile in by_address(self._api, addresses)
            if (contact := self._contact(profile, None)).address
        }
        return [found.get(address.lower()) for address in addresses]

    def find(self, address: str) -> RemoteContact | None:
        """Read one profile."""
        return self.read([address])[0]

    def of(self, changes: Sequence[Change]) -> dict[str, RemoteContact]:
        """Read the profiles of changes, by address in small letters."""
        found = self.read([change.address for change in changes])
        return {contact.address.lower(): contact for contact in found if contact is not None}

    def ids(self, changes: Sequence[Change]) -> dict[int, str]:
        """Give the ids of profiles, by key; those that nobody told are looked up by address."""
        ids = {change.contact_key: change.record_id for change in changes if change.record_id}
        unknown = [change for change in changes if not change.record_id]
        return ids | (self.looked_up(unknown) if unknown else {})

    def looked_up(self, changes: Sequence[Change]) -> dict[int, str]:
        """Give the ids that profiles have now, by key; none for those that are nowhere."""
        found = self.of(changes)
        return {
            change.contact_key: contact.record_id
            for change in changes
            if (contact := found.get(change.address.lower())) is not None
        }

    def _contact(self, profile: Mapping[str, Any], only: Collection[str] | None) -> RemoteContact:
        return remote_contact(profile, only=only, shows_tags=self._shows_tags)
