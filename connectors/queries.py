"""Holds the names and values of a query against a specification: for the referee of tests, and for emulators that refuse them.

Only form is judged: known names, whole numbers within their limits, booleans, enumerations.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def query_problems(schemas: Mapping[str, Any], query: Sequence[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Give the name and the trouble of each parameter that the schemas, by name, do not allow."""
    for key, text in query:
        schema = schemas.get(key)
        problem = "unknown parameter" if schema is None else _problem(schema, text)
        if problem is not None:
            yield key, problem


def _problem(schema: Mapping[str, Any], text: str) -> str | None:
    match schema.get("type"):
        case "integer":
            return _number_problem(schema, text)
        case "boolean":
            return None if text.lower() in {"true", "false"} else "neither true nor false"
        case "array":
            given = text.split(",")
            allowed = schema["items"].get("enum", given)
            wrong = [each for each in given if each not in allowed]
            return f"{wrong[0]} is not one of {', '.join(allowed)}" if wrong else None
        case _:
            return None if text in schema.get("enum", [text]) else f"not one of {', '.join(schema['enum'])}"


def _number_problem(schema: Mapping[str, Any], text: str) -> str | None:
    if not text.isdecimal():
        return "not a whole number"
    number = int(text)
    if number > schema.get("maximum", number):
        return f"more than {schema['maximum']}"
    return f"less than {schema['minimum']}" if number < schema.get("minimum", number) else None
