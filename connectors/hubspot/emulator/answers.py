"""The JSON that the emulated HubSpot answers with: errors, records, batches. Shapes only; nothing here changes state."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from ...emulator import Answer, Call, RefusedError
from .portal import BlockedError, ConflictError, Record, shown_time
from .values import ValueRefusedError


def problem(
    status: int, category: str, message: str, *, number: int = 0, errors: Sequence[Mapping[str, Any]] = ()
) -> Answer:
    """Build an error."""
    body: dict[str, Any] = {
        "status": "error",
        "message": message,
        "correlationId": f"00000000-0000-0000-0000-{number:012d}",
        "category": category,
    }
    if errors:
        body["errors"] = list(errors)
    return Answer(status=status, body=body)


def invalid(call: Call, message: str, *, code: str = "") -> RefusedError:
    """Build the refusal of a request that is wrong, to be raised."""
    errors = [{"message": message, "code": code}] if code else []
    return RefusedError(problem(400, "VALIDATION_ERROR", message, number=call.number, errors=errors))


def missing(call: Call) -> RefusedError:
    """Build the 404 of something that is not there, to be raised."""
    return RefusedError(problem(404, "OBJECT_NOT_FOUND", "resource not found", number=call.number))


def body_of(call: Call) -> Any:
    """Read a body as JSON, or refuse."""
    try:
        return json.loads(call.body or b"{}")
    except ValueError:
        raise invalid(call, "Invalid input JSON", code="INVALID_JSON") from None


def object_of(call: Call) -> dict[str, Any]:
    """Read a body as a JSON object, or refuse."""
    body = body_of(call)
    if not isinstance(body, dict):
        raise invalid(call, "Invalid input JSON: an object was expected")
    return body


def whole_number(call: Call, name: str, default: int, maximum: int) -> int:
    """Read a query's number, or refuse one that is none or too large."""
    text = call.query.get(name, str(default))
    if not text.isdecimal() or not 0 < int(text) <= maximum:
        raise invalid(call, f"{name} must be from 1 to {maximum}")
    return int(text)


def refused_value(error: Exception) -> tuple[str, str, dict[str, Any]]:
    """Give category, message and further part of the error for values that cannot be stored."""
    match error:
        case ConflictError(name="email"):
            return "CONFLICT", f"Contact already exists. Existing ID: {error.record}", {}
        case ConflictError():
            return "CONFLICT", f"A record with that {error.name} exists already: {error.record}", {}
        case BlockedError():
            return "VALIDATION_ERROR", "This contact was deleted for privacy and cannot be used again", {}
        case ValueRefusedError():
            known = {"message": str(error), "code": error.code, "in": error.name}
            return "VALIDATION_ERROR", f"Property values were not valid: {error}", {"errors": [known]}
        case _:
            raise error


def record(found: Record, properties: Iterable[str]) -> dict[str, Any]:
    """Give a record with its usual properties and those that were asked for; without a value they are null."""
    usual = ("email", "createdate", "lastmodifieddate", "hs_object_id")
    stamps = {
        "createdate": shown_time(found.created),
        "lastmodifieddate": shown_time(found.updated),
        "hs_object_id": str(found.id),
    }
    held = found.properties | stamps
    return {
        "id": str(found.id),
        "properties": {name: held.get(name) for name in dict.fromkeys((*usual, *properties))},
        "createdAt": stamps["createdate"],
        "updatedAt": stamps["lastmodifieddate"],
        "archived": found.archived,
    }


def batch(
    results: Sequence[Mapping[str, Any]],
    errors: Sequence[Mapping[str, Any]],
    now: datetime,
    *,
    success: int,
) -> Answer:
    """Give a batch's answer: 207 where something of it failed."""
    body: dict[str, Any] = {
        "status": "COMPLETE",
        "results": list(results),
        "startedAt": shown_time(now),
        "completedAt": shown_time(now),
    }
    if errors:
        body |= {"numErrors": len(errors), "errors": list(errors)}
    return Answer(status=207 if errors else success, body=body)
