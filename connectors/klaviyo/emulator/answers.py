"""How the emulated Klaviyo says things: JSON:API documents, refusals, instants.

Shapes of single resources are with their endpoints. Settled by sources are the body of a refusal, the codes `throttled` and
`duplicate_profile` with their sentences, and the statuses; other codes and sentences are only likely.
"""

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from ...emulator import Answer, Call, RefusedError

MEDIA_TYPE = "application/vnd.api+json"
_TITLES: Mapping[int, tuple[str, str, str]] = {
    401: ("authentication_failed", "Incorrect authentication credentials.", "Incorrect authentication credentials."),
    403: ("permission_denied", "You do not have permission to perform this action.", "This account may not use it."),
    404: ("not_found", "Not found.", "There is nothing at this address."),
    405: ("method_not_allowed", "Method not allowed.", "This address does not take this method."),
    410: ("gone", "Gone.", "This revision is no longer served."),
    415: ("unsupported_media_type", "Unsupported media type.", f"Send the body as {MEDIA_TYPE}."),
    500: ("error", "A server error occurred.", "An unexpected error has occurred."),
    503: ("service_unavailable", "Service unavailable.", "The service is currently unavailable."),
}  # fmt: skip


def document(body: Mapping[str, Any], status: int = 200) -> Answer:
    """Give a JSON:API document."""
    return Answer(status=status, body=dict(body), media_type=MEDIA_TYPE)


def refused(
    status: int,
    code: str,
    title: str,
    detail: str,
    *,
    pointer: str | None = None,
    parameter: str | None = None,
    meta: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Give a refusal with one error."""
    source = {
        name: text for name, text in (("pointer", pointer), ("parameter", parameter)) if text is not None
    }
    name = uuid.uuid5(uuid.NAMESPACE_URL, f"{status} {code} {detail} {source}")
    error = {
        "id": str(name),
        "status": status,
        "code": code,
        "title": title,
        "detail": detail,
        "source": source,
        "links": {},
        "meta": dict(meta or {}),
    }
    return Answer(status=status, body={"errors": [error]}, media_type=MEDIA_TYPE, headers=dict(headers or {}))


def by_status(status: int) -> Answer:
    """Give the usual refusal of a status."""
    return refused(status, *_TITLES[status])


def throttled(wait: int) -> Answer:
    """Refuse for being too fast, for so many seconds."""
    detail = f"Request was throttled. Expected available in {wait} second{'' if wait == 1 else 's'}."
    return refused(429, "throttled", "Request was throttled.", detail, headers={"retry-after": str(wait)})


def invalid(detail: str, *, pointer: str | None = None, parameter: str | None = None) -> RefusedError:
    """Refuse a request whose body or query is wrong."""
    return RefusedError(
        refused(400, "invalid", "Invalid input.", detail, pointer=pointer, parameter=parameter)
    )


def missing(what: str, name: str) -> RefusedError:
    """Refuse a request about something that is not there."""
    return RefusedError(refused(404, "not_found", "Not found.", f"A {what} with id {name} does not exist."))


def stamp(instant: datetime) -> str:
    """Write an instant, to the second."""
    return instant.astimezone(UTC).isoformat(timespec="seconds")


def stamp_or_none(instant: datetime | None) -> str | None:
    """Write an instant, or nothing."""
    return None if instant is None else stamp(instant)


def resource(call: Call, kind: str, name: str, path: str, **parts: Any) -> dict[str, Any]:
    """Give one resource; `path` is that of its collection, without /api/."""
    link = f"{call.base_url}/api/{path}/{name}"
    return {"type": kind, "id": name, **parts, "links": {"self": link}}


def own_link(call: Call) -> dict[str, str]:
    """Give the links of an answer about one resource."""
    return {"self": call.base_url + call.path}


def related(call: Call, path: str, names: Mapping[str, Any]) -> dict[str, Any]:
    """Give relationships: by name what they hold, None for links alone; `path` is that of the resource."""
    base = f"{call.base_url}/api/{path}"
    shown: dict[str, Any] = {}
    for name, held in names.items():
        links = {"self": f"{base}/relationships/{name}", "related": f"{base}/{name}"}
        shown[name] = {"links": links} if held is None else {"data": held, "links": links}
    return shown


def chosen(call: Call, kind: str, attributes: dict[str, Any]) -> dict[str, Any]:
    """Keep the attributes that `fields[kind]` asks for; dots lead into them. Without it, keep all."""
    if (asked := call.query.get(f"fields[{kind}]")) is None:
        return attributes
    kept: dict[str, Any] = {}
    for path in asked.split(","):
        place, source = kept, attributes
        *folders, last = path.split(".")
        for step in folders:
            inner = source.get(step)
            if not isinstance(inner, dict):
                break
            source, place = inner, place.setdefault(step, {})
        else:
            if last in source:
                place[last] = source[last]
    return kept
