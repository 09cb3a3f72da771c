"""The emulated HubSpot account: what it holds, and how a call finds its way to a record.

Endpoints are elsewhere; this is what they all stand on.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ...emulator import Call, Clock, RefusedError
from .answers import Json, error, invalid, missing, stamp, wanted
from .consent import Consent
from .definitions import Definitions, Fault, ValueFaultsError
from .lists import Lists
from .records import ConflictError, Contact, Records, RefusedWriteError, number_of
from .settings import Settings

SHOWN = ("createdate", "email", "firstname", "hs_object_id", "lastmodifieddate", "lastname")
WriteError = ValueFaultsError | ConflictError | RefusedWriteError
WRITE_ERRORS = (ValueFaultsError, ConflictError, RefusedWriteError)


class Account:
    """Everything the account holds. `settings` may be replaced at any time."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.settings = settings
        self.clock = clock
        self.created = clock.now()
        self.definitions = Definitions(self.created)
        self.consent = Consent(lambda: self.settings)
        self.records = Records(self.definitions, self.consent, lambda: self.settings, clock)
        self.lists = Lists(clock)
        self.records.before_removal = self.lists.forget

    def record_of(self, call: Call, *, archived: bool = False) -> Contact:
        """Find the record that a path names by id, or by what the query says, or refuse with 404."""
        text, name = call.parameters["contact_id"], call.query.get("idProperty")
        return self.record(call, text, name, archived=archived)

    def record(self, call: Call, text: str, name: str | None, *, archived: bool = False) -> Contact:
        """Find a record by its id or a unique property, or refuse."""
        if name is not None and name != "hs_object_id" and not self.records.identifies(name):
            raise invalid(call, f"{name} is not a unique property of contacts")
        if archived:
            contact = self.records.archived.get(number_of(text)) if name in {None, "hs_object_id"} else None
        else:
            contact = self.records.find(name or "hs_object_id", text)
        if contact is None:
            raise missing(call, "Object not found.  objectId are usually numeric.")
        return contact


def shown(contact: Contact, properties: Sequence[str]) -> Json:
    """Show a record with the properties that were asked for, null where it has none, and the three that always come."""
    values = {name: contact.properties.get(name) for name in properties or SHOWN}
    for name in ("createdate", "hs_object_id", "lastmodifieddate"):
        values[name] = contact.properties.get(name)
    return framed(contact, values)


def written(contact: Contact, given: Mapping[str, Any]) -> Json:
    """Show a record after a write: what is always shown, and what was written."""
    return shown(contact, [*SHOWN, *given])


def framed(contact: Contact, values: Mapping[str, str | None]) -> Json:
    """Show a record around some of its properties."""
    archived = {} if contact.archived_at is None else {"archivedAt": stamp(contact.archived_at)}
    return {
        "id": str(contact.id),
        "properties": dict(values),
        "createdAt": stamp(contact.created),
        "updatedAt": stamp(contact.updated),
        "archived": contact.archived_at is not None,
        **archived,
    }


def asked(call: Call, contact: Contact) -> Json:
    """Show a record as a query asks for it."""
    result = shown(contact, wanted(call, "properties"))
    if history := wanted(call, "propertiesWithHistory"):
        result["propertiesWithHistory"] = {name: _history(contact, name) for name in history}
    return result


def _history(contact: Contact, name: str) -> list[Json]:
    """Show the latest value alone: earlier ones are not kept here."""
    if name not in contact.properties:
        return []
    value = {"value": contact.properties[name], "timestamp": stamp(contact.updated)}
    return [{**value, "sourceType": "INTEGRATION"}]


def properties_in(call: Call, item: Mapping[str, Any]) -> Mapping[str, Any]:
    """Read the properties of one write, or refuse."""
    properties = item.get("properties")
    if not isinstance(properties, dict):
        raise invalid(call, "Invalid input JSON: properties must be an object")
    return properties


def told_of(wrong: WriteError) -> tuple[int, str, str, Sequence[Fault]]:
    """Give status, category, sentence and details of a refused write."""
    match wrong:
        case ConflictError():
            return 409, "CONFLICT", wrong.message, []
        case ValueFaultsError():
            listed = [
                {"isValid": False, "message": each.message, "error": each.code, "name": each.name}
                for each in wrong.faults
            ]
            return (
                400,
                "VALIDATION_ERROR",
                f"Property values were not valid: {json.dumps(listed)}",
                wrong.faults,
            )
        case RefusedWriteError():
            return 400, "VALIDATION_ERROR", str(wrong), []


def refused(call: Call, wrong: WriteError) -> RefusedError:
    """Build the refusal of a whole write, to be raised."""
    status, category, message, faults = told_of(wrong)
    errors = [fault.as_json() for fault in faults]
    return RefusedError(error(status, category, message, number=call.number, errors=errors))
