"""The contact endpoints of the emulated HubSpot: one at a time, in batches of 100, by search, and erasing.

Settled by sources: a batch of creates fails as a whole and names the first contact that is there already; updates in a
batch go by record id alone; an upsert by e-mail is not partial; two of one address in a batch fail it; a missing record is an
error beside the results (207). Unsettled, and so decided here: a value that cannot be stored fails the whole batch, or
that contact alone in a permissive portal; who has an address that an upsert wants fails the whole batch likewise.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ...emulator import Answer, Call, Clock, Handler, RefusedError
from .answers import batch, invalid, missing, object_of, problem, record, refused_value, whole_number
from .portal import BlockedError, ConflictError, Portal, Record
from .search import Search
from .values import ValueRefusedError

BASE = "/crm/v3/objects/contacts"
MAXIMUM = 100
_REFUSALS = (ConflictError, BlockedError, ValueRefusedError)


class ContactEndpoints:
    """Handlers over one portal."""

    def __init__(self, portal: Callable[[], Portal], clock: Clock, search: Search) -> None:
        self._current = portal
        self._clock = clock
        self._search = search

    @property
    def _portal(self) -> Portal:
        return self._current()

    def endpoints(self) -> Sequence[tuple[str, str, Handler]]:
        """Give method, numbered path template and handler of each."""
        return [
            ("GET", BASE, self._list),
            ("POST", BASE, self._create),
            ("POST", f"{BASE}/search", self._find),
            ("POST", f"{BASE}/gdpr-delete", self._erase),
            ("POST", f"{BASE}/merge", self._merge),
            ("POST", f"{BASE}/batch/read", self._read_batch),
            ("POST", f"{BASE}/batch/create", self._create_batch),
            ("POST", f"{BASE}/batch/update", self._update_batch),
            ("POST", f"{BASE}/batch/upsert", self._upsert_batch),
            ("POST", f"{BASE}/batch/archive", self._archive_batch),
            ("GET", f"{BASE}/{{contact}}", self._read),
            ("PATCH", f"{BASE}/{{contact}}", self._update),
            ("DELETE", f"{BASE}/{{contact}}", self._archive),
        ]

    # One at a time

    def _list(self, call: Call) -> Answer:
        limit = whole_number(call, "limit", 10, MAXIMUM)
        after = call.query.get("after", "0")
        if not after.isdecimal():
            raise invalid(call, "after must be a number")
        found: list[Record] = []
        for each in self._portal.after(int(after), archived=call.query.get("archived") == "true"):
            if len(found) == limit:
                body = {"results": self._shown(call, found), "paging": {"next": {"after": str(found[-1].id)}}}
                return Answer(body=body)
            found.append(each)
        return Answer(body={"results": self._shown(call, found)})

    def _create(self, call: Call) -> Answer:
        values = self._values(call, object_of(call))
        if not any(values.get(name) for name in ("email", "firstname", "lastname")):
            raise invalid(call, "one of email, firstname, lastname is required")
        checked = self._checked(call, values, None)
        made = self._portal.make(checked, self._clock.now(), request=call.number)
        return Answer(status=201, body=record(made, values))

    def _read(self, call: Call) -> Answer:
        return Answer(body=self._shown(call, [self._one(call)])[0])

    def _update(self, call: Call) -> Answer:
        found, values = self._one(call), self._values(call, object_of(call))
        checked = self._checked(call, values, found)
        self._portal.change(found, checked, self._clock.now(), request=call.number)
        return Answer(body=record(found, values))

    def _archive(self, call: Call) -> Answer:
        self._portal.archive(self._one(call), self._clock.now())
        return Answer(status=204)

    def _erase(self, call: Call) -> Answer:
        body = object_of(call)
        key, name = str(body.get("objectId", "")), body.get("idProperty", "")
        found = self._portal.find(key, name)
        if name != "email" and found is None:
            raise missing(call)
        self._portal.erase(found.address if found else key)
        return Answer(status=204)

    def _merge(self, call: Call) -> Answer:
        """Merge one record into another. At the worst the survivor has an id that neither had."""
        body, now = object_of(call), self._clock.now()
        primary = self._portal.find(str(body.get("primaryObjectId", "")))
        other = self._portal.find(str(body.get("objectIdToMerge", "")))
        if primary is None or other is None or primary is other:
            raise invalid(call, "two contacts are needed")
        values = other.properties | primary.properties
        refused = primary.refused or other.refused
        self._portal.archive(other, now)
        if self._portal.permissive:
            self._portal.change(primary, values, now, request=call.number)
            return Answer(body=record(primary, ()))
        self._portal.archive(primary, now)
        made = self._portal.make(values, now, request=call.number)
        made.refused = made.refused or refused
        return Answer(body=record(made, ()))

    # Batches

    def _read_batch(self, call: Call) -> Answer:
        body = object_of(call)
        name = body.get("idProperty") or ""
        if name and not self._portal.is_unique(name):
            raise invalid(call, f"{name} is no unique property")
        results: list[dict[str, Any]] = []
        errors: list[dict[str, Any]] = []
        for item in self._inputs(call, body):
            key = str(item.get("id", ""))
            found = self._portal.find(key, name)
            if found is None:
                errors.append(_absent(key))
            elif not any(each["id"] == str(found.id) for each in results[-1:]):
                results.append(record(found, body.get("properties") or ()))
        return batch(results, errors, self._clock.now(), success=200)

    def _create_batch(self, call: Call) -> Answer:
        def make(item: Mapping[str, Any]) -> tuple[dict[str, str], Record | None]:
            return self._portal.checked(self._values(call, item), None), None

        return self._write(call, make, success=201)

    def _update_batch(self, call: Call) -> Answer:
        body = object_of(call)
        if any(item.get("idProperty") for item in self._inputs(call, body)):
            raise invalid(call, "Unable to perform update/upsert by non-unique 0-1 property")
        ids = [str(item.get("id", "")) for item in self._inputs(call, body)]
        if len(set(ids)) < len(ids):
            raise invalid(call, "Duplicate IDs found in batch input")

        def change(item: Mapping[str, Any]) -> tuple[dict[str, str], Record | None]:
            found = self._portal.find(str(item.get("id", "")))
            if found is None:
                raise LookupError
            return self._portal.checked(self._values(call, item), found), found

        return self._write(call, change, success=200)

    def _upsert_batch(self, call: Call) -> Answer:
        def put(item: Mapping[str, Any]) -> tuple[dict[str, str], Record | None]:
            name, key = item.get("idProperty") or "", str(item.get("id", ""))
            if not self._portal.is_unique(name):
                raise invalid(call, f"{name} is no unique property")
            values = {name: key} | self._values(call, item)
            found = self._portal.find(key, name)
            if name == "email" and found is not None:  # not partial: what is left out is lost
                own = [each.name for each in self._portal.properties.values() if not each.read_only]
                values = dict.fromkeys(own, "") | values
            return self._portal.checked(values, found), found

        return self._write(call, put, success=200)

    def _archive_batch(self, call: Call) -> Answer:
        for item in self._inputs(call, object_of(call)):
            if found := self._portal.find(str(item.get("id", ""))):
                self._portal.archive(found, self._clock.now())
        return Answer(status=204)

    def _write(
        self,
        call: Call,
        plan: Callable[[Mapping[str, Any]], tuple[dict[str, str], Record | None]],
        *,
        success: int,
    ) -> Answer:
        """Check all items before any is stored, and fail as a whole for a value or a conflict unless permissive."""
        now, items = self._clock.now(), self._inputs(call, object_of(call))
        planned: list[tuple[Mapping[str, Any], dict[str, str], Record | None]] = []
        errors: list[dict[str, Any]] = []
        taken: set[tuple[str, str]] = set()
        for item in items:
            try:
                values, found = plan(item)
                for name, text in values.items():
                    if text and self._portal.is_unique(name) and (name, text) in taken:
                        raise ConflictError(name, 0)
                    taken.add((name, text))
                planned.append((item, values, found))
            except LookupError:
                errors.append(_absent(str(item.get("id", "")), item))
            except _REFUSALS as error:
                if not self._portal.permissive:
                    raise _whole(call, error) from None
                category, message, more = refused_value(error)
                errors.append(_item_error(category, message, item, more))
        results = []
        for item, values, found in planned:
            written = found
            if written is None:
                written = self._portal.make(values, now, request=call.number)
            else:
                self._portal.change(written, values, now, request=call.number)
            trace = item.get("objectWriteTraceId")
            results.append(
                record(written, values)
                | ({"objectWriteTraceId": trace} if trace else {})
                | {"new": found is None}
            )
        return batch(results, errors, now, success=success)

    def _find(self, call: Call) -> Answer:
        return self._search.answer(call, self._portal)

    # What they share

    def _one(self, call: Call) -> Record:
        found = self._portal.find(call.parameters["contact"], call.query.get("idProperty", ""))
        if found is None:
            raise missing(call)
        return found

    def _shown(self, call: Call, found: Sequence[Record]) -> list[dict[str, Any]]:
        names = [name for text in call.queries("properties") for name in text.split(",") if name]
        return [record(each, names) for each in found]

    def _checked(self, call: Call, values: Mapping[str, Any], found: Record | None) -> dict[str, str]:
        try:
            return self._portal.checked(values, found)
        except _REFUSALS as error:
            raise _whole(call, error) from None

    def _values(self, call: Call, item: Mapping[str, Any]) -> dict[str, Any]:
        values = item.get("properties")
        if not isinstance(values, dict):
            raise invalid(call, "properties are missing")
        return values

    def _inputs(self, call: Call, body: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        inputs = body.get("inputs")
        if not isinstance(inputs, list) or not all(isinstance(item, dict) for item in inputs):
            raise invalid(call, "inputs are missing")
        if len(inputs) > MAXIMUM:
            raise invalid(call, f"at most {MAXIMUM} inputs are allowed")
        return inputs


def _whole(call: Call, error: Exception) -> RefusedError:
    category, message, more = refused_value(error)
    status = 409 if category == "CONFLICT" else 400
    return RefusedError(problem(status, category, message, number=call.number, errors=more.get("errors", ())))


def _absent(key: str, item: Mapping[str, Any] | None = None) -> dict[str, Any]:
    message = "Could not get some CONTACT objects, they may be deleted or not exist."
    return _item_error("OBJECT_NOT_FOUND", message, item or {}, {"context": {"ids": [key]}})


def _item_error(
    category: str, message: str, item: Mapping[str, Any], more: Mapping[str, Any]
) -> dict[str, Any]:
    trace = item.get("objectWriteTraceId")
    context = dict(more.get("context", {})) | ({"objectWriteTraceId": [trace]} if trace else {})
    return {
        "status": "error",
        "category": category,
        "message": message,
        "errors": list(more.get("errors", ())),
        "context": context,
    }
