"""Mailchimp's members as they are read: all that changed, or those of some addresses.

How far a pull came is kept of the list and of the archive: whoever changes on the list while the archive is read, is
older than what was read last. Times are Mailchimp's own.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any, Final

from ...core.model import RemoteContact
from ..base import Page
from ..transport import RefusedRequestError
from .archive import Archive
from .pages import MEMBER_FIELDS, STATE_FIELDS, members
from .payload import remote_contact, subscriber_hash

OVERLAP: Final = timedelta(minutes=5)
"""Pulls look back: clocks differ, and a page may be written while it is read."""


class Members:
    """The members of one audience."""

    def __init__(self, lists: Any, audience: str, *, archive: Archive, concurrency: int) -> None:
        self._lists = lists
        self._audience = audience
        self._archive = archive
        self._concurrency = concurrency

    def pages(self, cursor: str | None, *, only: Collection[str] | None) -> Iterator[Page]:
        """Give pages of members: everyone, or whoever changed since.

        Each reading begins a little before the last one ended. A contact may come twice: around there, and where members
        changed while their page was read.
        """
        reached: dict[str, str] = json.loads(cursor) if cursor else {}
        fields = MEMBER_FIELDS if only is None else (*STATE_FIELDS, *(f"merge_fields.{tag}" for tag in only))
        archived_until = _before(reached.get("archived"))
        for name, page in self._archive.after(self.everyone(reached, fields), archived_until):
            reached = reached | {name: page[-1]["last_changed"]}
            yield Page(contacts=[remote_contact(member) for member in page], cursor=json.dumps(reached))

    def everyone(
        self, reached: Mapping[str, str], fields: Sequence[str]
    ) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        """Give all raw pages of the list, and then those of its archive, with which of the two each is of."""
        endpoint = self._lists.get_list_members_info
        for name, status in (
            ("listed", None),
            ("archived", "archived"),
        ):  # these come only when asked for by name
            since = _before(reached.get(name))
            for page in members(endpoint, self._audience, since=since, status=status, fields=fields):
                yield name, page

    def read(self, addresses: Sequence[str]) -> list[RemoteContact | None]:
        """Read members by address, in order: one request each, many at once."""
        if len(addresses) < 2:
            return [self.find(address) for address in addresses]
        with ThreadPoolExecutor(min(len(addresses), self._concurrency)) as pool:
            return list(pool.map(self.find, addresses))

    def find(self, address: str) -> RemoteContact | None:
        """Read one member."""
        try:
            member = self._lists.get_list_member(
                self._audience, subscriber_hash(address), fields=list(MEMBER_FIELDS)
            )
        except RefusedRequestError as error:
            if error.status == 404:
                return None
            raise
        return remote_contact(member)


def _before(moment: str | None) -> datetime | None:
    """Give where to begin to have missed nothing until then, None for the very beginning."""
    return None if moment is None else datetime.fromisoformat(moment) - OVERLAP
