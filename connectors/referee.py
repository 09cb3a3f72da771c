"""What tests of connectors share, here and in other people's projects: a referee that holds traffic against a vendor's own specification.

For tests alone (it needs `jsonschema`, which the product does not). No ESP's facts here: those come from the ESP's
folder, as a `Specification`.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any, Literal

from jsonschema import Draft202012Validator, FormatChecker

from .emulator import Emulator
from .queries import query_problems
from .traffic import Exchange

_SHOWN = 3  # problems told of one side of one exchange: a wrong batch repeats itself 500 times


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One place where the real ESP is known to differ from its specification, and how we know.

    `endpoint` is "METHOD /path" or "*"; `at` leads from the top of the body to the schema to add or replace, with "[]"
    for the items of an array. `status` chooses the answer ("200", "default").
    """

    endpoint: str
    side: Literal["request", "answer"]
    at: tuple[str, ...]
    schema: Mapping[str, Any]
    reason: str
    status: str = "200"

    def applied(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        """Give the schema with this difference in it. Raises KeyError where the place does not exist."""
        changed = deepcopy(dict(schema))
        place = changed
        for name in self.at[:-1]:
            place = place["items"] if name == "[]" else place["properties"][name]
        place["properties"][self.at[-1]] = dict(self.schema)
        return changed


@dataclass(kw_only=True)
class Specification:
    """A vendor's specification, stripped to facts, with closed objects.

    `endpoints` maps "METHOD /path" to {"query": {name: schema}, "body": schema or None, "answers": {status: schema}}.
    An answer's status may be a range, as in "4XX", or "default". `bodiless` are the statuses that may come without a body
    although the specification shows one. `elsewhere` are path templates outside the specification, each with its reason.
    """

    endpoints: Mapping[str, Mapping[str, Any]]
    prefix: str = ""
    differences: Sequence[Difference] = ()
    bodiless: frozenset[int] = frozenset()
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    empty_times: bool = False  # "" stands for "no time"
    media_type: str = "application/json"
    problem_type: str = "application/problem+json"  # of refusals

    @cached_property
    def _formats(self) -> FormatChecker:
        checker = FormatChecker(formats=())

        def is_time(value: object) -> bool:
            if not isinstance(value, str) or (self.empty_times and value == ""):
                return True
            return datetime.fromisoformat(value).tzinfo is not None

        checker.checks("date-time", raises=ValueError)(is_time)
        return checker

    @cached_property
    def _validators(self) -> dict[tuple[str, str, str], Draft202012Validator]:
        return {}

    def problems(self, exchange: Exchange) -> list[str]:
        """Say what of one exchange the specification does not allow. An answer that a fault spoiled is not judged."""
        if exchange.template in self.elsewhere:
            return []
        template = (exchange.template or "").removeprefix(self.prefix) or "/"
        name = f"{exchange.method} {template}"
        if exchange.template is None or name not in self.endpoints:
            return [f"{exchange.method} {exchange.path}: not an endpoint of the specification"]
        facts = self.endpoints[name]
        found = [
            f"{name}, query {key}: {text}" for key, text in query_problems(facts["query"], exchange.query)
        ]
        found += self._body_problems(name, facts, exchange)
        if exchange.fault is None:
            found += self._answer_problems(name, facts, exchange)
        return found

    def _body_problems(self, name: str, facts: Mapping[str, Any], exchange: Exchange) -> list[str]:
        if facts["body"] is None:
            return [] if exchange.body is None else [f"{name}: a body where the specification has none"]
        return self._judge(name, "request", "", facts["body"], exchange.body)

    def _answer_problems(self, name: str, facts: Mapping[str, Any], exchange: Exchange) -> list[str]:
        status = str(exchange.status)
        if status not in facts["answers"]:
            if exchange.status < 400:
                return [f"{name}: answers {status}, which is not in the specification"]
            if exchange.answer is None and exchange.status in self.bodiless:
                return []
            status = f"{status[0]}XX" if f"{status[0]}XX" in facts["answers"] else "default"
        schema = facts["answers"][status]
        if schema is None:
            return [] if exchange.answer is None else [f"{name}: a body in a {status}"]
        wanted = self.media_type if status.isdecimal() else self.problem_type
        given = (exchange.media_type or "").partition(";")[0]
        wrong = (
            [] if given == wanted else [f"{name}: {exchange.status} as {given or 'nothing'}, not {wanted}"]
        )
        # A sparse fieldset of JSON:API leaves out of the attributes what was not asked for, also what is required.
        sparse = any(key.startswith("fields[") for key, _ in exchange.query)
        return wrong + self._judge(name, "answer", status, schema, exchange.answer, sparse=sparse)

    def _judge(
        self,
        name: str,
        side: Literal["request", "answer"],
        status: str,
        schema: Mapping[str, Any],
        value: Any,
        *,
        sparse: bool = False,
    ) -> list[str]:
        key = (name, side, status)
        if key not in self._validators:
            for each in self.differences:
                if each.endpoint in {name, "*"} and each.side == side and status in {"", each.status}:
                    schema = each.applied(schema)
            self._validators[key] = Draft202012Validator(schema, format_checker=self._formats)
        found = []
        for error in self._validators[key].iter_errors(value):
            if sparse and error.validator == "required" and "attributes" in error.absolute_path:
                continue
            place = "/".join(str(step) for step in error.absolute_path) or "body"
            found.append(f"{name}, {side} {place}: {error.message[:200]}")
            if len(found) == _SHOWN:
                break
        return found


class Referee:
    """Collects what the specification does not allow, in the traffic of one emulator."""

    def __init__(self, specification: Specification) -> None:
        self._specification = specification
        self.exchanges: list[Exchange] = []

    def see(self, exchange: Exchange) -> None:
        """Keep one exchange; judging waits, so that it does not slow the emulator down."""
        self.exchanges.append(exchange)

    def verify(self) -> None:
        """Judge everything seen so far, once. Raises AssertionError listing what is not allowed."""
        seen, self.exchanges = self.exchanges, []
        problems = [problem for exchange in seen for problem in self._specification.problems(exchange)]
        if problems:
            raise AssertionError(
                f"{len(problems)} differences from the specification:\n" + "\n".join(problems[:20])
            )


@contextmanager
def judged(emulator: Emulator, referee: Referee) -> Iterator[Referee]:
    """Record all traffic of an emulator, and at the end of the block fail for whatever the specification forbids."""
    referee.exchanges.clear()
    emulator.traffic.recorder = referee.see
    try:
        yield referee
    finally:
        emulator.traffic.recorder = None
    referee.verify()
