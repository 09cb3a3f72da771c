"""The list endpoints of the emulated HubSpot ("segments" in its own pages): static lists, and who is on them.

Members are record ids; those that are on a list already, or that nobody has, are passed over. A list that fills itself by
a rule takes no members. Whoever is archived falls out.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from ...emulator import Answer, Call, Clock, Handler, RefusedError
from .answers import body_of, invalid, missing, object_of, problem, whole_number
from .portal import Portal, shown_time

BASE: Final = "/crm/v3/lists"
_MEMBERS: Final = f"{BASE}/{{list_id}}/memberships"
_CONTACTS: Final = "0-1"
_KINDS: Final = frozenset({"MANUAL", "SNAPSHOT", "DYNAMIC"})
_MOST: Final = 100_000


@dataclass(slots=True, kw_only=True)
class ContactList:
    """One list. `members` are record ids with when they joined."""

    id: int
    name: str
    kind: str
    made: datetime
    members: dict[int, datetime] = field(default_factory=dict)

    def shown(self) -> dict[str, Any]:
        """Give it as the API does."""
        return {
            "listId": str(self.id),
            "name": self.name,
            "objectTypeId": _CONTACTS,
            "processingType": self.kind,
            "processingStatus": "COMPLETE",
            "listVersion": 1,
            "createdAt": shown_time(self.made),
            "updatedAt": shown_time(self.made),
            "size": len(self.members),
        }


class ListEndpoints:
    """Handlers over one portal, and its lists by id."""

    def __init__(self, portal: Callable[[], Portal], clock: Clock) -> None:
        self._current = portal
        self._clock = clock
        self.clear()

    def clear(self) -> None:
        """Forget all lists."""
        self.lists: dict[int, ContactList] = {}
        self._made = 0

    def endpoints(self) -> Sequence[tuple[str, str, Handler]]:
        """Give method, numbered path template and handler of each."""
        return [
            ("POST", BASE, self._create),
            ("POST", f"{BASE}/search", self._search),
            ("GET", f"{BASE}/object-type-id/{{kind}}/name/{{name:path}}", self._by_name),
            ("GET", f"{BASE}/{{list_id}}", self._read),
            ("DELETE", f"{BASE}/{{list_id}}", self._drop),
            ("GET", _MEMBERS, self._members),
            ("PUT", f"{_MEMBERS}/add", self._add),
            ("PUT", f"{_MEMBERS}/remove", self._remove),
            ("PUT", f"{_MEMBERS}/add-and-remove", self._add_and_remove),
        ]

    def on(self, record: int) -> frozenset[str]:
        """Give the names of the lists that a record is on."""
        return frozenset(each.name for each in self.lists.values() if record in each.members)

    def _create(self, call: Call) -> Answer:
        body = object_of(call)
        name, kind = body.get("name"), body.get("processingType")
        if not name or body.get("objectTypeId") != _CONTACTS or kind not in _KINDS:
            raise invalid(call, "name, objectTypeId and processingType are needed")
        if self._named(name) is not None:
            raise RefusedError(
                problem(400, "VALIDATION_ERROR", "A list of that name exists", number=call.number)
            )
        self._made += 1
        made = ContactList(id=self._made, name=name, kind=kind, made=self._clock.now())
        self.lists[made.id] = made
        return Answer(body={"list": made.shown()})

    def _search(self, call: Call) -> Answer:
        query = str(object_of(call).get("query", "")).lower()
        found = [each.shown() for each in self.lists.values() if query in each.name.lower()]
        return Answer(body={"lists": found, "offset": len(found), "hasMore": False, "total": len(found)})

    def _by_name(self, call: Call) -> Answer:
        found = self._named(call.parameters["name"])
        if found is None:
            raise missing(call)
        return Answer(body={"list": found.shown()})

    def _read(self, call: Call) -> Answer:
        return Answer(body={"list": self._one(call).shown()})

    def _drop(self, call: Call) -> Answer:
        del self.lists[self._one(call).id]
        return Answer(status=204)

    def _members(self, call: Call) -> Answer:
        found, limit = self._one(call), whole_number(call, "limit", 100, 250)
        after = int(call.query.get("after") or 0)
        ids = sorted(self._there(found))
        shown = [number for number in ids if number > after][:limit]
        body: dict[str, Any] = {
            "results": [
                {"recordId": str(number), "membershipTimestamp": shown_time(found.members[number])}
                for number in shown
            ]
        }
        if shown and shown[-1] != ids[-1]:
            body["paging"] = {"next": {"after": str(shown[-1])}}
        return Answer(body=body)

    def _add(self, call: Call) -> Answer:
        return self._change(call, add=body_of(call), remove=[])

    def _remove(self, call: Call) -> Answer:
        return self._change(call, add=[], remove=body_of(call))

    def _add_and_remove(self, call: Call) -> Answer:
        body = object_of(call)
        return self._change(
            call, add=body.get("recordIdsToAdd") or [], remove=body.get("recordIdsToRemove") or []
        )

    def _change(self, call: Call, *, add: Any, remove: Any) -> Answer:
        found = self._one(call)
        if found.kind == "DYNAMIC":
            raise invalid(call, "the members of a dynamic list cannot be changed")
        for ids in (add, remove):
            if not isinstance(ids, list) or not all(str(each).isdecimal() for each in ids):
                raise invalid(call, "an array of record ids was expected")
            if len(ids) > _MOST:
                raise invalid(call, f"at most {_MOST} record ids")
        there = self._there(found)
        added = [int(each) for each in add if int(each) not in there and self._portal.find(str(each))]
        missed = [str(each) for each in [*add, *remove] if self._portal.find(str(each)) is None]
        removed = [int(each) for each in remove if int(each) in there]
        found.members |= dict.fromkeys(added, self._clock.now())
        for number in removed:
            del found.members[number]
        return Answer(
            body={
                "recordsIdsAdded": [str(number) for number in added],
                "recordIdsRemoved": [str(number) for number in removed],
                "recordIdsMissing": missed,
            }
        )

    def _there(self, found: ContactList) -> set[int]:
        return {number for number in found.members if self._portal.find(str(number)) is not None}

    def _named(self, name: str) -> ContactList | None:
        return next((each for each in self.lists.values() if each.name == name), None)

    def _one(self, call: Call) -> ContactList:
        number = call.parameters["list_id"]
        found = self.lists.get(int(number)) if number.isdecimal() else None
        if found is None:
            raise missing(call)
        return found

    @property
    def _portal(self) -> Portal:
        return self._current()
