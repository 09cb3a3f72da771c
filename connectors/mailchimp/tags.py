"""Tags of an audience: their names and ids, and taking one off many members in one request.

Adding tags is part of a member batch; making or deleting a tag itself never happens here.
"""

from collections.abc import Callable, Sequence
from typing import Any

from ...core.model import RemoteContact
from ..transport import RefusedRequestError
from .pages import items
from .payload import addresses


class Tags:
    """Knows ids by lower-cased name: to Mailchimp case makes no other tag. A tag is a static segment."""

    def __init__(self, lists: Any, audience: str) -> None:
        self._lists = lists
        self._audience = audience
        self._ids: dict[str, int] = {}

    def read(self) -> frozenset[str]:
        """Read the names of all tags."""
        found = list(
            items(self._lists.list_segments, self._audience, "segments", ("id", "name"), type="static")
        )
        self._ids = {each["name"].lower(): each["id"] for each in found}
        return frozenset(each["name"] for each in found)

    def remove(
        self,
        tag: str,
        members: Sequence[str],
        read: Callable[[Sequence[str]], Sequence[RemoteContact | None]],
    ) -> tuple[frozenset[str], frozenset[str]]:
        """Take a tag off members; give the lower-cased addresses that lost it, and those that still carry it.

        Those in neither did not carry it. `read` reads back whom the answer says nothing good about.
        """
        nobody = frozenset[str]()
        if tag.lower() not in self._ids:
            self.read()  # our own updates make tags
        if (segment := self._ids.get(tag.lower())) is None:
            return nobody, nobody
        try:
            answer = self._lists.batch_segment_members(
                {"members_to_remove": list(members)}, self._audience, segment
            )
        except RefusedRequestError as error:
            if error.status != 404:
                raise
            self._ids.pop(tag.lower(), None)  # somebody removed the tag, and so took it off everyone
            return nobody, nobody
        removed = addresses(answer.get("members_removed"))
        refused = {
            address.lower()
            for each in answer.get("errors") or ()
            for address in each.get("email_addresses", ())
        }
        suspects = read([address for address in members if address.lower() in refused - removed])
        return removed, frozenset(
            contact.address.lower()
            for contact in suspects
            if contact is not None and (contact.tags is None or tag.lower() in map(str.lower, contact.tags))
        )
