"""The list endpoints of the emulated HubSpot: make, find, delete, and write and read memberships.

Members are record ids, never addresses; ids that nobody has, or that are on the list already, are passed over. Unsettled,
and worst in the adversarial mode: a name that is taken is a 400 like any other mistake; permissive: a 409.
"""

from collections.abc import Callable, Sequence
from typing import Any

from ...emulator import Answer, Call, RefusedError
from .account import Account
from .answers import (
    Json,
    answered,
    body_of,
    error,
    invalid,
    json_of,
    missing,
    paged,
    stamp,
    text_in,
    texts,
    texts_in,
    wanted,
    whole,
)
from .lists import ContactList, Processing
from .paths import LISTS, Endpoint, under
from .records import Contact, number_of

_CONTACTS = "0-1"
_PER_CALL = 100_000
_PAGE_UNASKED, _PAGE = 100, 250


class ListEndpoints:
    """Handlers over one account."""

    def __init__(self, account: Callable[[], Account]) -> None:
        self._current = account

    @property
    def _account(self) -> Account:
        return self._current()

    def endpoints(self) -> Sequence[Endpoint]:
        """Give method, path template and handler of each, the paths of single lists last."""
        one, members = "/{list_id}", "/{list_id}/memberships"
        acts = [
            ("POST", "", self._create),
            ("GET", "", self._several),
            ("POST", "/search", self._search),
            ("GET", "/object-type-id/{object_type}/name/{name}", self._by_name),
            ("GET", "/records/{object_type}/{record_id}/memberships", self._of_record),
            ("GET", one, self._read),
            ("DELETE", one, self._delete),
            ("PUT", "/{list_id}/update-list-name", self._rename),
            ("GET", members, self._members),
            ("DELETE", members, self._clear),
            ("PUT", members + "/add", self._add),
            ("PUT", members + "/remove", self._remove),
            ("PUT", members + "/add-and-remove", self._add_and_remove),
        ]
        return [each for method, rest, act in acts for each in under(LISTS, method, rest, act)]

    # Lists

    def _create(self, call: Call) -> Answer:
        body = body_of(call)
        name, kind = text_in(call, body, "name"), text_in(call, body, "processingType")
        if body.get("objectTypeId") != _CONTACTS:
            raise invalid(call, f"objectTypeId must be {_CONTACTS}: other objects are not emulated")
        if kind not in list(Processing):
            raise invalid(call, f"processingType must be one of {', '.join(Processing)}")
        filters = body.get("filterBranch")
        if filters is not None and not isinstance(filters, dict):
            raise invalid(call, "filterBranch must be an object")
        self._refuse_taken(call, name)
        made = self._account.lists.make(name, Processing(kind), filters)
        return answered({"list": _shown(made)})

    def _several(self, call: Call) -> Answer:
        chosen = [self._account.lists.all.get(number_of(each)) for each in wanted(call, "listIds")]
        return answered({"lists": [_shown(each) for each in chosen if each is not None]})

    def _search(self, call: Call) -> Answer:
        body = body_of(call)
        count = whole(call, body.get("count") or 20, "count", least=1, most=500)
        offset = whole(call, body.get("offset") or 0, "offset", least=0, most=10**9)
        query = text_in(call, body, "query", fallback="").lower()
        kinds, ids = texts_in(call, body, "processingTypes"), texts_in(call, body, "listIds")
        found = [
            each
            for each in self._account.lists.all.values()
            if query in each.name.lower()
            and (not kinds or each.processing in kinds)
            and (not ids or str(each.id) in ids)
        ]
        page = found[offset : offset + count]
        more = offset + len(page) < len(found)
        lists = [{**_facts(each), "additionalProperties": {}} for each in page]
        return answered({"total": len(found), "offset": offset + len(page), "hasMore": more, "lists": lists})

    def _by_name(self, call: Call) -> Answer:
        found = self._account.lists.named(call.parameters["name"])
        if found is None or call.parameters["object_type"] != _CONTACTS:
            raise missing(call, "List does not exist")
        return answered({"list": _shown(found)})

    def _read(self, call: Call) -> Answer:
        return answered({"list": _shown(self._list_of(call))})

    def _rename(self, call: Call) -> Answer:
        target, name = self._list_of(call), call.query.get("listName", "")
        if not name:
            raise invalid(call, "listName must not be empty")
        if name.lower() != target.name.lower():
            self._refuse_taken(call, name)
        target.name = name
        return answered({"updatedList": _shown(target)})

    def _delete(self, call: Call) -> Answer:
        self._account.lists.delete(self._list_of(call))
        return Answer(status=204)

    # Members

    def _members(self, call: Call) -> Answer:
        target = self._list_of(call)
        limit = whole(call, call.query.get("limit", _PAGE_UNASKED), "limit", least=1, most=_PAGE)
        after = whole(call, call.query.get("after") or 0, "after", least=0, most=10**18)
        ids, more = target.page(after, limit)
        rows = [{"recordId": str(each), "membershipTimestamp": stamp(target.members[each])} for each in ids]
        body = paged(rows, None if more is None else str(more), call)
        return answered({**body, "total": len(target.members)})

    def _of_record(self, call: Call) -> Answer:
        contact = self._account.records.active.get(number_of(call.parameters["record_id"]))
        if contact is None or call.parameters["object_type"] != _CONTACTS:
            raise missing(call, "Record does not exist")
        lists = [
            self._account.lists.all[each] for each in sorted(contact.lists & self._account.lists.all.keys())
        ]
        rows = [
            {
                "listId": str(each.id),
                "listVersion": each.version,
                "firstAddedTimestamp": stamp(each.members[contact.id]),
                "lastAddedTimestamp": stamp(each.members[contact.id]),
            }
            for each in lists
        ]
        return answered({"total": len(rows), "results": rows})

    def _add(self, call: Call) -> Answer:
        target, ids = self._writable(call), self._ids(call, json_of(call), "record ids")
        return self._change(target, ids, [])

    def _remove(self, call: Call) -> Answer:
        target, ids = self._writable(call), self._ids(call, json_of(call), "record ids")
        return self._change(target, [], ids)

    def _add_and_remove(self, call: Call) -> Answer:
        target, body = self._writable(call), body_of(call)
        added = self._ids(call, body.get("recordIdsToAdd"), "recordIdsToAdd")
        removed = self._ids(call, body.get("recordIdsToRemove"), "recordIdsToRemove")
        return self._change(target, added, removed)

    def _clear(self, call: Call) -> Answer:
        target, account = self._writable(call), self._account
        if len(target.members) >= _PER_CALL:
            raise invalid(call, f"Only lists with fewer than {_PER_CALL} members can be emptied")
        account.lists.remove(target, [account.records.active[each] for each in list(target.members)])
        return Answer(status=204)

    def _change(self, target: ContactList, added: list[str], removed: list[str]) -> Answer:
        lists = self._account.lists
        come, absent = self._people(added)
        go, absent_too = self._people(removed)
        body: Json = {
            "recordsIdsAdded": [str(each) for each in lists.add(target, come)],
            "recordIdsRemoved": [str(each) for each in lists.remove(target, go)],
            "recordIdsMissing": list(dict.fromkeys([*absent, *absent_too])),
        }
        return answered(body)

    def _people(self, ids: list[str]) -> tuple[list[Contact], list[str]]:
        active = self._account.records.active
        found = {each: active.get(number_of(each)) for each in ids}
        present = [contact for contact in found.values() if contact is not None]
        return present, [each for each, contact in found.items() if contact is None]

    def _ids(self, call: Call, items: Any, name: str) -> list[str]:
        ids = texts(call, items, name)
        if len(ids) > _PER_CALL:
            raise invalid(call, f"At most {_PER_CALL} record ids are taken at once")
        return ids

    def _list_of(self, call: Call) -> ContactList:
        found = self._account.lists.all.get(number_of(call.parameters["list_id"]))
        if found is None:
            raise missing(call, "List does not exist")
        return found

    def _writable(self, call: Call) -> ContactList:
        target = self._list_of(call)
        if target.processing is Processing.DYNAMIC:
            raise invalid(call, "Memberships of a DYNAMIC list cannot be written")
        return target

    def _refuse_taken(self, call: Call, name: str) -> None:
        if not name:
            raise invalid(call, "name must not be empty")
        if self._account.lists.named(name) is None:
            return
        message = f'A list with the name "{name}" exists already'
        if self._account.settings.permissive:
            raise RefusedError(error(409, "CONFLICT", message, number=call.number))
        raise invalid(call, message)


def _facts(target: ContactList) -> Json:
    return {
        "listId": str(target.id),
        "listVersion": target.version,
        "name": target.name,
        "objectTypeId": _CONTACTS,
        "processingType": target.processing,
        "processingStatus": "COMPLETE",
        "createdAt": stamp(target.created),
        "updatedAt": stamp(target.updated),
    }


def _shown(target: ContactList) -> Json:
    return {**_facts(target), "size": len(target.members)}
