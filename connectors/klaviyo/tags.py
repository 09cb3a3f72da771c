"""Our tags in an account, whose own tags label lists and not people: values of one list property, or lists of that name.

A property's value is part of the profile's own write, and is written as a whole, so that a write that is repeated leaves
the same. Only where the tags of a contact are not known one is added or taken away, which a job cannot.
A list takes profiles by their ids, a thousand a request, at once. The loser was to name the lists in the import, which
puts all profiles of the job onto them: one job for each combination of tags.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

from ...core.model import Change, Operation
from ..transport import RefusedRequestError
from .api import Api
from .payload import TAGS
from .profiles import Profiles

_MEMBERS: Final = 1_000  # profile ids of one request


class Tags(ABC):
    """Says what of a change's tags belongs into the profile, and carries out the rest. Profiles are named by their ids."""

    apart: ClassVar[bool]  # whether no tag is a part of the profile

    @abstractmethod
    def as_value(self, change: Change) -> Mapping[str, Any]:
        """Give the properties that write all tags of a contact with a change in them; none where they are not known."""

    @abstractmethod
    def as_patch(self, change: Change) -> Mapping[str, Any]:
        """Give what adds a change's tags to those there, or takes them away, where these are not known."""

    @abstractmethod
    def carry(self, members: Sequence[tuple[Change, str]]) -> set[int]:
        """Do what is no part of the profiles' own writes, and give the keys of those who are there."""


class PropertyTags(Tags):
    """Tags as values of the list property `segue_tags`."""

    apart = False

    def as_value(self, change: Change) -> Mapping[str, Any]:
        """Give the whole list; nothing for a change of none."""
        held = change.tags_held
        if held is None or not change.tags:
            return {}
        tags = held - set(change.tags) if change.operation is Operation.UNTAG else held | set(change.tags)
        return {TAGS: sorted(tags)}

    def as_patch(self, change: Change) -> Mapping[str, Any]:
        """Name the values to add or to take away; added a second time, one may be there twice."""
        if change.tags_held is not None or not change.tags:
            return {}
        verb = "unappend" if change.operation is Operation.UNTAG else "append"
        return {verb: {TAGS: list(change.tags)}}

    def carry(self, members: Sequence[tuple[Change, str]]) -> set[int]:
        """Do nothing: they are written."""
        return {change.contact_key for change, _ in members}


class ListTags(Tags):
    """Tags as lists of the same name; they are made when first needed. Being on one says nothing of consent."""

    apart = True

    def __init__(self, api: Api, profiles: Profiles) -> None:
        self._api = api
        self._profiles = profiles
        self._ids: dict[str, str] = {}

    def as_value(self, change: Change) -> Mapping[str, Any]:  # noqa: ARG002 - none of any
        """Give nothing."""
        return {}

    def as_patch(self, change: Change) -> Mapping[str, Any]:  # noqa: ARG002 - none of any
        """Give nothing."""
        return {}

    def carry(self, members: Sequence[tuple[Change, str]]) -> set[int]:
        """Put profiles onto the lists, or take them off."""
        lists: dict[tuple[str, str], list[tuple[Change, str]]] = {}
        for change, profile in members:
            method = "DELETE" if change.operation is Operation.UNTAG else "POST"
            for tag in change.tags:
                lists.setdefault((method, tag), []).append((change, profile))
        there = {change.contact_key for change, _ in members}
        for (method, tag), concerned in lists.items():
            for start in range(0, len(concerned), _MEMBERS):
                some = concerned[start : start + _MEMBERS]
                there -= {change.contact_key for change, _ in some} - self._send(method, tag, some)
        return there

    def _send(self, method: str, tag: str, members: Sequence[tuple[Change, str]]) -> set[int]:
        """Send one request, and give the keys of those who are there.

        A 404 does not say whether the list or a profile is gone, and so both are looked up again, once.
        """
        try:
            self._sent(method, tag, [profile for _, profile in members])
            return {change.contact_key for change, _ in members}
        except RefusedRequestError as refused:
            if refused.status != 404:
                raise
        self._ids.pop(tag, None)
        found = self._profiles.looked_up([change for change, _ in members])
        if found:
            self._sent(method, tag, list(found.values()))
        return set(found)

    def _sent(self, method: str, tag: str, profiles: Sequence[str]) -> None:
        number = self._find(tag) or (self._make(tag) if method == "POST" else None)
        if number:
            data = [{"type": "profile", "id": each} for each in profiles]
            self._api.send(method, "members", f"/lists/{number}/relationships/profiles", data)

    def _find(self, tag: str) -> str | None:
        if tag not in self._ids:
            name = tag.replace("\\", "\\\\").replace('"', '\\"')
            for page, _ in self._api.pages("lists", "/lists", {"filter": f'equals(name,"{name}")'}):
                self._ids |= {each["attributes"]["name"]: each["id"] for each in page["data"]}
        return self._ids.get(tag)

    def _make(self, tag: str) -> str:
        data = {"type": "list", "attributes": {"name": tag, "opt_in_process": "double_opt_in"}}
        try:
            made = self._api.send("POST", "make-list", "/lists", data)
        except RefusedRequestError:
            # The answer to an earlier attempt may have been lost after the list was made.
            if (found := self._find(tag)) is None:
                raise
            return found
        self._ids[tag] = made["data"]["id"]
        return self._ids[tag]
