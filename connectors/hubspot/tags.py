"""Our tags in a portal, which knows none: as options of one property, or as static lists, by the destination's setting.

A property is part of the write itself and can be taken back only as a whole: its value is read and written without the
tag. A list is one more request for each tag of a batch, and drops its members by their record ids alone. No list of
others is touched, and none that fills itself by a rule.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from ...core.errors import DestinationError
from ..transport import RefusedRequestError
from .payload import TAGS, option_value
from .properties import Properties
from .sdk import Endpoints

_CONTACTS: Final = "0-1"
_MANUAL: Final = "MANUAL"
_MEMBERS: Final = 1_000  # record ids of one request
_PAGE: Final = 500  # lists of one


class Tags(ABC):
    """Gives tags to records, and takes one away. Records are named by their ids."""

    @abstractmethod
    def known(self) -> frozenset[str]:
        """Give the tags that the portal has."""

    @abstractmethod
    def in_properties(self, tags: Iterable[str]) -> Sequence[str]:
        """Give those of the tags that are written as a part of the record."""

    @abstractmethod
    def add(self, tags: Mapping[str, Sequence[str]]) -> None:
        """Give each tag to the records with these ids, as far as it is no part of them."""

    @abstractmethod
    def remove(self, tag: str, records: Sequence[Mapping[str, Any]]) -> tuple[set[str], set[str]]:
        """Take a tag off records; give the ids of those that lost it, and of those that still have it."""


class PropertyTags(Tags):
    """Tags as options of the property `segue_tags`."""

    def __init__(self, api: Endpoints, properties: Properties) -> None:
        self._api = api
        self._properties = properties

    def known(self) -> frozenset[str]:
        """Give the property's options."""
        return frozenset(self._properties.tags().values())

    def in_properties(self, tags: Iterable[str]) -> Sequence[str]:
        """Give all of them."""
        return list(tags)

    def add(self, tags: Mapping[str, Sequence[str]]) -> None:
        """Do nothing: they were written."""

    def remove(self, tag: str, records: Sequence[Mapping[str, Any]]) -> tuple[set[str], set[str]]:
        """Write the values without the tag, of those that have it."""
        gone, updates = option_value(tag), {}
        for record in records:
            held = (record["properties"].get(TAGS) or "").split(";")
            if gone in held:
                kept = ";".join(value for value in held if value not in {"", gone})
                updates[str(record["id"])] = {"id": record["id"], "properties": {TAGS: kept}}
        if not updates:
            return set(), set()
        answer = self._api.batch.update({"inputs": list(updates.values())})
        written = {str(each["id"]) for each in answer["results"]}
        return written, updates.keys() - written


class ListTags(Tags):
    """Tags as static lists of the same name; they are made when first needed."""

    def __init__(self, api: Endpoints) -> None:
        self._api = api
        self._ids: dict[str, str] = {}

    def known(self) -> frozenset[str]:
        """Give the names of all static lists."""
        found: dict[str, str] = {}
        offset, more = 0, True
        while more:
            body = {"offset": offset, "count": _PAGE, "processingTypes": [_MANUAL]}
            page = self._api.lists.do_search(body)
            found |= {each["name"]: each["listId"] for each in page["lists"]}
            offset, more = page["offset"], page["hasMore"]
        self._ids = found
        return frozenset(found)

    def in_properties(self, tags: Iterable[str]) -> Sequence[str]:  # noqa: ARG002 - none of any
        """Give none."""
        return ()

    def add(self, tags: Mapping[str, Sequence[str]]) -> None:
        """Put records on the lists; those that are there already stay."""
        for tag, ids in tags.items():
            number = self._find(tag) or self._make(tag)
            for start in range(0, len(ids), _MEMBERS):
                self._api.members.add(number, list(ids[start : start + _MEMBERS]))

    def remove(self, tag: str, records: Sequence[Mapping[str, Any]]) -> tuple[set[str], set[str]]:
        """Take records off the list, if there is one."""
        if not records or (number := self._find(tag)) is None:
            return set(), set()
        answer = self._api.members.remove(number, [record["id"] for record in records])
        return {str(each) for each in answer["recordIdsRemoved"]}, set()

    def _find(self, tag: str) -> str | None:
        if tag not in self._ids:
            try:
                found = self._api.lists.get_by_name(tag, _CONTACTS)["list"]
            except RefusedRequestError as error:
                if error.status != 404:
                    raise
                return None
            if found["processingType"] != _MANUAL:
                raise DestinationError(
                    f'HubSpot has a list "{tag}" that is filled by a rule or was filled once: nothing can be put on it.'
                    " Rename it there, or choose another tag_prefix in the mapping."
                )
            self._ids[tag] = found["listId"]
        return self._ids[tag]

    def _make(self, tag: str) -> str:
        try:
            body = {"name": tag, "objectTypeId": _CONTACTS, "processingType": _MANUAL}
            self._ids[tag] = self._api.lists.create(body)["list"]["listId"]
        except RefusedRequestError:
            # The answer to an earlier attempt may have been lost after the list was made.
            if self._find(tag) is None:
                raise
        return self._ids[tag]
