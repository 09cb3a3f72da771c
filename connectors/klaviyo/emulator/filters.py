"""Klaviyo's filter language: conditions such as `greater-than(updated,2026-01-01T00:00:00Z)`, joined by commas or `and(...)`.

Which fields take which operators comes from the specification; what a field is of somebody, from the endpoint.
"""

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Never

from ...emulator import Call
from .answers import invalid

_NAME = re.compile(r"[A-Za-z_][\w.-]*")
_QUOTED = re.compile(r"'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\"")
_BARE = re.compile(r"[^\s,()\[\]'\"]+")
_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    "greater-than": operator.gt,
    "greater-or-equal": operator.ge,
    "less-than": operator.lt,
    "less-or-equal": operator.le,
    "equals": operator.eq,
}


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition. `value` is text, a number, an instant, or a list of texts for `any`."""

    field: str
    operator: str
    value: Any

    def holds(self, held: Any) -> bool:
        """Whether a field's value meets it; nothing meets none. Instants count to the second."""
        if held is None:
            return False
        if self.operator == "any":
            return held in self.value
        if isinstance(held, datetime):
            held = held.replace(microsecond=0)
        return _COMPARE[self.operator](held, self.value)

    @property
    def since(self) -> datetime | None:
        """The instant before which nothing meets it, if it sets one."""
        return (
            self.value if self.operator.startswith("greater") and isinstance(self.value, datetime) else None
        )

    @property
    def names(self) -> Sequence[str] | None:
        """The texts of which one must be equal, if it is such a condition."""
        if self.operator == "any":
            names: Sequence[str] = self.value
            return names
        return [self.value] if self.operator == "equals" else None


def conditions(call: Call, facts: Mapping[str, Any]) -> list[Condition]:
    """Read the query's filter, or refuse it."""
    text = call.query.get("filter")
    return [] if text is None else _Reader(text, facts).read()


class _Reader:
    def __init__(self, text: str, facts: Mapping[str, Any]) -> None:
        self._text = text
        self._facts = facts
        self._at = 0

    def read(self) -> list[Condition]:
        found = self._terms()
        if self._at < len(self._text):
            self._fail()
        return found

    def _fail(self, detail: str = "") -> Never:
        raise invalid(detail or f"Invalid filter at character {self._at}.", parameter="filter")

    def _take(self, mark: str) -> bool:
        if self._text.startswith(mark, self._at):
            self._at += len(mark)
            return True
        return False

    def _need(self, pattern: re.Pattern[str]) -> re.Match[str]:
        if (match := pattern.match(self._text, self._at)) is None:
            self._fail()
        self._at = match.end()
        return match

    def _terms(self) -> list[Condition]:
        found = self._term()
        while self._take(","):
            found += self._term()
        return found

    def _term(self) -> list[Condition]:
        verb = self._need(_NAME).group()
        if not self._take("("):
            self._fail()
        if verb == "and":
            found = self._terms()
        else:
            field = self._need(_NAME).group()
            facts = self._facts.get(field)
            if facts is None or verb not in facts["operators"] or "type" not in facts:
                self._fail(f"'{field}' cannot be filtered by '{verb}'.")
            if not self._take(","):
                self._fail()
            found = [Condition(field, verb, self._value(verb, facts))]
        if not self._take(")"):
            self._fail()
        return found

    def _value(self, verb: str, facts: Mapping[str, Any]) -> Any:
        if not self._take("["):
            if verb == "any":
                self._fail("'any' needs a list.")
            return self._scalar(facts)
        if verb != "any":
            self._fail(f"'{verb}' takes one value.")
        values = [self._scalar(facts)]
        while self._take(","):
            values.append(self._scalar(facts))
        if not self._take("]"):
            self._fail()
        return values

    def _scalar(self, facts: Mapping[str, Any]) -> Any:
        quoted = _QUOTED.match(self._text, self._at)
        if quoted is not None:
            self._at = quoted.end()
            text = re.sub(
                r"\\(.)", r"\1", quoted.group(1) if quoted.group(1) is not None else quoted.group(2)
            )
        else:
            text = self._need(_BARE).group()
        try:
            if facts.get("format") == "date-time":
                instant = datetime.fromisoformat(text)
                return (instant if instant.tzinfo else instant.replace(tzinfo=UTC)).astimezone(UTC)
            if facts["type"] == "number":
                return float(text)
        except (ValueError, OverflowError):
            self._fail(f"'{text}' is not a valid value.")
        if quoted is None:
            self._fail("Text must be quoted.")
        return text
