"""Holds the bodies of requests against the specification: known keys, required keys, types, enumerations, instants.

Only form is judged here, and the first thing wrong ends it. Whether Klaviyo refuses or ignores an unknown key is not
settled for every endpoint; a key that is ignored is lost data, so the sandbox refuses all.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from typing import Any

Problem = tuple[str, str]  # pointer and detail
Check = Callable[[Any, str], Problem | None]
_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "object": (dict,),
    "array": (list,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "null": (type(None),),
}


def check_of(schema: Mapping[str, Any]) -> Check:
    """Make the check of one schema: it gives the first problem of a value that stands at a pointer."""
    if "anyOf" in schema:
        return _any_of([check_of(each) for each in schema["anyOf"]])
    parts = [_type(schema)]
    if "enum" in schema:
        parts.append(_enumeration(tuple(schema["enum"])))
    if "properties" in schema:
        parts.append(_object(schema))
    if "items" in schema:
        parts.append(_items(check_of(schema["items"])))
    if schema.get("format") in {"date-time", "date"}:
        parts.append(_instant(whole_day=schema["format"] == "date"))

    def check(value: Any, at: str) -> Problem | None:
        for part in parts:
            if (problem := part(value, at)) is not None:
                return problem
        return None

    return check


def _any_of(checks: list[Check]) -> Check:
    def check(value: Any, at: str) -> Problem | None:
        problems = [each(value, at) for each in checks]
        return None if None in problems else problems[0]

    return check


def _type(schema: Mapping[str, Any]) -> Check:
    names = schema.get("type", [])
    names = [names] if isinstance(names, str) else names
    allowed = tuple(kind for name in names for kind in _TYPES[name])

    def check(value: Any, at: str) -> Problem | None:
        if not allowed or (isinstance(value, allowed) and (bool in allowed or not isinstance(value, bool))):
            return None
        return at, f"The value must be of type {' or '.join(names)}."

    return check


def _enumeration(values: tuple[Any, ...]) -> Check:
    return lambda value, at: None if value in values else (at, f"The value must be one of {values}.")


def _object(schema: Mapping[str, Any]) -> Check:
    inner = {name: check_of(each) for name, each in schema["properties"].items()}
    required = schema.get("required", [])

    def check(value: Any, at: str) -> Problem | None:
        if value is None:
            return None
        for name in required:
            if name not in value:
                return f"{at}/{name}", f"'{name}' is a required field."
        for name, held in value.items():
            if name not in inner:
                return f"{at}/{name}", f"'{name}' is not a valid field."
            if (problem := inner[name](held, f"{at}/{name}")) is not None:
                return problem
        return None

    return check


def _items(inner: Check) -> Check:
    def check(value: Any, at: str) -> Problem | None:
        for number, held in enumerate(value or ()):
            if (problem := inner(held, f"{at}/{number}")) is not None:
                return problem
        return None

    return check


def _instant(*, whole_day: bool) -> Check:
    def check(value: Any, at: str) -> Problem | None:
        try:
            if value is not None and whole_day:
                date.fromisoformat(value)
            elif value is not None:
                instant = datetime.fromisoformat(value)
                if instant.tzinfo is None:
                    return at, "The time needs a zone."
                instant.astimezone(UTC)
        except (ValueError, OverflowError):
            return at, "The value must be a date in ISO 8601."
        return None

    return check
