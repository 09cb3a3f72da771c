"""The JSON that the emulated HubSpot answers with: errors in its one shape, batches, pages, contacts.

Shapes only; nothing here changes state.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from ...emulator import Answer, Call, RefusedError

JSON = "application/json;charset=utf-8"
SCOPES_PAGE = "https://developers.hubspot.com/scopes"
Json = dict[str, Any]


def stamp(instant: datetime) -> str:
    """Write an aware UTC instant as HubSpot does, to the millisecond. Such texts sort as their instants do."""
    return instant.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def answered(body: Any, status: int = 200) -> Answer:
    """Answer with JSON."""
    return Answer(status=status, body=body, media_type=JSON)


def error(
    status: int,
    category: str,
    message: str,
    *,
    number: int = 0,
    errors: Sequence[Json] = (),
    context: Mapping[str, Sequence[str]] | None = None,
    links: Mapping[str, str] | None = None,
) -> Answer:
    """Build an error; what is empty is left out, as HubSpot does."""
    body: Json = {"status": "error", "message": message, "correlationId": correlation(number)}
    for name, value in (("errors", list(errors)), ("context", context), ("links", links)):
        if value:
            body[name] = value
    return answered({**body, "category": category}, status)


def correlation(number: int) -> str:
    """Give the id under which the vendor's support would find a request."""
    return f"00000000-0000-4000-8000-{number:012d}"


def invalid(call: Call, message: str, *, errors: Sequence[Json] = ()) -> RefusedError:
    """Build the 400 of a request that makes no sense, to be raised."""
    return RefusedError(error(400, "VALIDATION_ERROR", message, number=call.number, errors=errors))


def missing(call: Call, message: str = "resource not found") -> RefusedError:
    """Build the 404 of something that is not there, to be raised."""
    return RefusedError(error(404, "OBJECT_NOT_FOUND", message, number=call.number))


def unscoped(call: Call, *scopes: str) -> RefusedError:
    """Build the 403 for a call that the app or the account's tier has no right to, to be raised."""
    message = (
        f"This app hasn't been granted all required scopes to make this call. "
        f"Read more about required scopes here: {SCOPES_PAGE}."
    )
    detail = {
        "message": "One or more of the following scopes are required.",
        "context": {"requiredScopes": list(scopes)},
    }
    links = {"scopes": SCOPES_PAGE}
    return RefusedError(
        error(403, "MISSING_SCOPES", message, number=call.number, errors=[detail], links=links)
    )


def body_of(call: Call) -> Json:
    """Read the body as a JSON object, or refuse."""
    body = json_of(call)
    if not isinstance(body, dict):
        raise invalid(call, "Invalid input JSON: an object is expected")
    return body


def json_of(call: Call) -> Any:
    """Read the body as JSON, or refuse."""
    try:
        return json.loads(call.body or b"{}")
    except ValueError:
        raise invalid(call, "Invalid input JSON: unable to parse") from None


def text_in(call: Call, body: Mapping[str, Any], name: str, *, fallback: str | None = None) -> str:
    """Read a text out of a body, or refuse when it is none, or missing without a fallback."""
    value = body.get(name)
    if value is None:
        value = fallback
    if not isinstance(value, str):
        raise invalid(call, f"Invalid input JSON: {name} must be a string")
    return value


def texts_in(call: Call, body: Mapping[str, Any], name: str) -> list[str]:
    """Read a list of texts out of a body, empty where there is none, or refuse."""
    return texts(call, body.get(name) or [], name)


def texts(call: Call, items: Any, name: str) -> list[str]:
    """Take a list of texts, or refuse."""
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise invalid(call, f"Invalid input JSON: {name} must be a list of strings")
    return items


def inputs_of(call: Call, body: Mapping[str, Any], *, maximum: int = 100) -> list[Json]:
    """Read a batch's inputs, or refuse when they are none, too many, or not objects."""
    inputs = body.get("inputs")
    if not isinstance(inputs, list) or not inputs or not all(isinstance(item, dict) for item in inputs):
        raise invalid(call, "Invalid input JSON: inputs must be a list of objects")
    if len(inputs) > maximum:
        raise invalid(call, f"The maximum number of inputs supported in a batch request is {maximum}")
    return inputs


def whole(call: Call, text: Any, name: str, *, least: int, most: int) -> int:
    """Read a whole number out of a query or a body, or refuse."""
    try:
        number = int(str(text))
    except ValueError:
        raise invalid(call, f"{name} must be a whole number") from None
    if isinstance(text, bool) or not least <= number <= most:
        raise invalid(call, f"{name} must lie between {least} and {most}")
    return number


def batch(
    results: Sequence[Any],
    now: datetime,
    *,
    errors: Sequence[Json] = (),
    failed: int | None = None,
    good: int = 200,
) -> Answer:
    """Answer a batch: 207 as soon as one item failed."""
    body: Json = {"status": "COMPLETE", "results": list(results)}
    if errors:
        body |= {"numErrors": len(errors) if failed is None else failed, "errors": list(errors)}
    body |= {"startedAt": stamp(now), "completedAt": stamp(now)}
    return answered(body, 207 if errors else good)


def item_error(
    category: str, message: str, context: Mapping[str, Sequence[str]], errors: Sequence[Json] = ()
) -> Json:
    """Build one entry of a batch's `errors`."""
    return {
        "status": "error",
        "category": category,
        "message": message,
        "context": dict(context),
        "errors": list(errors),
        "links": {},
    }


def paged(results: Sequence[Any], after: str | None, call: Call) -> Json:
    """Show a page, with the way to the next one if there is one."""
    body: Json = {"results": list(results)}
    if after is not None:
        body["paging"] = {"next": {"after": after, "link": f"{call.base_url}{call.path}?after={after}"}}
    return body


def wanted(call: Call, name: str) -> list[str]:
    """Read a query that may be repeated, or hold a comma-separated list, or both."""
    given = [value for key, value in call.pairs if key == name] or [call.query.get(name, "")]
    return [part for value in given for part in value.split(",") if part]


def flag(call: Call, name: str) -> bool:
    """Read a query's true or false."""
    return call.query.get(name, "").lower() == "true"
