"""Holds parsed rules against what exists: traits and their types, events and their columns, other segments.

Nothing here computes a segment: a project can be checked before any data is read.

Decision: an event type that nobody has heard of is a warning and not a mistake, because any event a shop records can
be named in a rule, also one that has not happened yet. An event of ours that cannot have what a rule asks of it (an
order has no category) is a mistake, because that rule could never choose anybody.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Final

from ..config import Project
from ..errors import Problem
from ..model import Trait, TraitType
from ..yamlfile import suggest
from .language import parse
from .rule import (
    EVENT_COLUMNS,
    KNOWN_EVENTS,
    Among,
    And,
    Arithmetic,
    Between,
    Comparison,
    Constant,
    DaysSince,
    Expression,
    Holds,
    InSegment,
    Like,
    Measure,
    Measuring,
    Missing,
    Name,
    Not,
    Or,
    Rule,
    as_date,
    columns_of,
)
from .tokens import Fault, RuleError

_NUMBERS: Final = frozenset({TraitType.INTEGER, TraitType.NUMBER, TraitType.MONEY})
_TIMES: Final = frozenset({TraitType.DATE, TraitType.TIMESTAMP})
_LONGEST_CHAIN: Final = 50  # each step is one query within another
_NEEDS: Final = {
    Measuring.AMOUNT: "amount",
    Measuring.PIECES: "quantity",
    Measuring.PRODUCTS: "product_id",
    Measuring.CATEGORIES: "category",
}


def check(rule: Rule, traits: Sequence[Trait], segments: Iterable[str] = ()) -> list[Fault]:
    """Find everything in a rule that names what is not there or compares what cannot be compared."""
    checker = _Checker(names={trait.name: trait.type for trait in traits}, segments=frozenset(segments))
    checker.condition(rule.condition)
    # Each bound of a `between` looks at the value before it again.
    return sorted(set(checker.faults), key=lambda fault: (fault.at, fault.message))


def unheard_events(rule: Rule, event_types: Iterable[str]) -> list[Fault]:
    """Find the events in a rule that are neither known nor in the data, for a warning."""
    known = {*KNOWN_EVENTS, *event_types}
    named = {
        (event, measure.at)
        for measure in rule.measures()
        for event in (measure.event, measure.answer)
        if event is not None and event not in known
    }
    return [
        Fault(at=at, message=f'no event is called "{event}" so far.', next_step=suggest(event, known))
        for event, at in sorted(named, key=lambda pair: (pair[1], pair[0]))
    ]


def parse_rules(project: Project) -> tuple[dict[str, Rule], list[Problem]]:
    """Parse every segment's rule; the problems say where in segue.yml and at which character."""
    rules: dict[str, Rule] = {}
    problems: list[Problem] = []
    for name, segment in project.segments.items():
        try:
            rules[name] = parse(segment.where)
        except RuleError as error:
            problems += _placed(project, name, error.faults)
    return rules, problems


def check_segments(project: Project, traits: Sequence[Trait]) -> list[Problem]:
    """Find every mistake in the rules of a project, cycles of references included; empty when all is well."""
    rules, problems = parse_rules(project)
    for name, rule in rules.items():
        problems += _placed(project, name, check(rule, traits, project.segments))
    for cycle in _cycles(rules):
        message = f"in_segment goes in a circle: {' -> '.join([*cycle, cycle[0]])}."
        where = project.place("segments", cycle[0], "where")
        problems.append(
            Problem(
                where=where,
                message=f"segments.{cycle[0]}.where: {message}",
                next_step="Write one of these rules without in_segment.",
            )
        )
    if not problems and len(layers := in_order_of_reference(rules)) > _LONGEST_CHAIN:
        name = layers[_LONGEST_CHAIN][0]
        message = f"more than {_LONGEST_CHAIN} segments refer to each other in a row."
        where, next_step = project.place("segments", name, "where"), "Write this rule without in_segment."
        problems.append(
            Problem(where=where, message=f"segments.{name}.where: {message}", next_step=next_step)
        )
    return problems


def segment_warnings(project: Project, event_types: Iterable[str]) -> list[Problem]:
    """List what is allowed in the rules of a project and probably not meant: events that nobody has heard of."""
    rules, _ = parse_rules(project)
    heard = tuple(event_types)
    return [
        problem
        for name, rule in rules.items()
        for problem in _placed(project, name, unheard_events(rule, heard))
    ]


def in_order_of_reference(rules: Mapping[str, Rule]) -> list[list[str]]:
    """Arrange segments in layers: each refers to earlier layers alone. The rules have no cycle."""
    layers: list[list[str]] = []
    placed: set[str] = set()
    while len(placed) < len(rules):
        layer = [name for name, rule in rules.items() if name not in placed and rule.segments() <= placed]
        if not layer:
            raise ValueError("the rules refer to each other in a circle")
        layers.append(layer)
        placed.update(layer)
    return layers


def _placed(project: Project, name: str, faults: Iterable[Fault]) -> list[Problem]:
    where = project.place("segments", name, "where")
    return [fault.problem(where, f"segments.{name}.where") for fault in faults]


def _cycles(rules: Mapping[str, Rule]) -> list[tuple[str, ...]]:
    """Find cycles, each once, starting at its first segment in the file."""
    order = {name: position for position, name in enumerate(rules)}
    found: dict[frozenset[str], tuple[str, ...]] = {}
    finished: set[str] = set()
    for start in rules:
        # Depth first with a path of its own: references may be chained deeper than Python recurses.
        path: list[str] = []
        stack: list[tuple[str, bool]] = [(start, False)]
        while stack:
            name, leaving = stack.pop()
            if leaving:
                path.pop()
                finished.add(name)
            elif name in path:
                cycle = path[path.index(name) :]
                first = cycle.index(min(cycle, key=order.__getitem__))
                found.setdefault(frozenset(cycle), (*cycle[first:], *cycle[:first]))
            elif name in rules and name not in finished:
                path.append(name)
                stack.append((name, True))
                stack += [(other, False) for other in sorted(rules[name].segments(), reverse=True)]
    return list(found.values())


@dataclass(slots=True, kw_only=True)
class _Checker:
    """Finds the type of each part of one rule; None where a fault already said what is wrong."""

    names: Mapping[str, TraitType]
    segments: frozenset[str]
    event: str | None = None  # within the filter of a measure, the event whose columns `names` are
    faults: list[Fault] = field(default_factory=list)

    def condition(self, node: Expression) -> None:
        found = self.type_of(node)
        if found not in (None, TraitType.BOOLEAN):
            next_step = "Compare it with something, e.g. with > or is not null."
            self._fault(node.at, f"{_shown(node)} is {_IN_WORDS[found]} and not a condition.", next_step)

    def type_of(self, node: Expression) -> TraitType | None:  # noqa: C901, PLR0912  (one match over the closed tree)
        match node:
            case Name():
                return self._name(node)
            case Constant():
                return _type_of_constant(node)
            case Arithmetic():
                return self._arithmetic(node)
            case Measure():
                return self._measure(node)
            case DaysSince():
                return self._days_since(node)
            case Comparison():
                self._comparable(node.left, node.right, node.operator)
            case Between():
                self._comparable(node.value, node.low, "between")
                self._comparable(node.value, node.high, "between")
            case Among():
                for option in node.options:
                    self._comparable(node.value, option, "in")
            case Holds():
                self._holds(node)
            case Like():
                if (found := self.type_of(node.value)) not in (None, TraitType.TEXT):
                    message = f"{_shown(node.value)} is {_IN_WORDS[found]}; `like` is for texts."
                    self._fault(node.at, message, _LIST_HINT if found is TraitType.TEXT_LIST else "")
            case Missing():
                self.type_of(node.value)
            case InSegment():
                self._in_segment(node)
            case Not():
                self.condition(node.condition)
            case And() | Or():
                for part in node.conditions:
                    self.condition(part)
        return TraitType.BOOLEAN

    def _name(self, node: Name) -> TraitType | None:
        if node.name not in self.names:
            what = "trait" if self.event is None else f"column of {self.event}"
            hint = suggest(node.name, self.names)
            if not hint:
                hint = (
                    f"Known: {', '.join(sorted(self.names))}."
                    if self.event
                    else f"If it is a text, write '{node.name}'; `segue traits` lists what exists."
                )
            self._fault(node.at, f'no {what} is called "{node.name}".', hint)
            return None
        if self.event is not None and node.name not in columns_of(self.event):
            has = ", ".join(name for name in self.names if name in columns_of(self.event))
            hint = f"It has {has}."
            if node.name in columns_of("product_bought") and self.event == "order_placed":
                hint += " For products use 'product_bought'."
            self._fault(node.at, f'"{self.event}" has no {node.name}.', hint)
            return None
        return self.names[node.name]

    def _arithmetic(self, node: Arithmetic) -> TraitType | None:
        for part in (node.left, node.right):
            found = self.type_of(part)
            if found is not None and found not in _NUMBERS:
                hint = "For the days since a date write days_since(...)." if found in _TIMES else ""
                self._fault(
                    part.at, f"{_shown(part)} is {_IN_WORDS[found]}; {node.operator} is for numbers.", hint
                )
        return TraitType.NUMBER

    def _measure(self, node: Measure) -> TraitType | None:
        if self.event is not None:
            self._fault(
                node.at,
                "a filter looks at one event and cannot count others.",
                "Join two functions with and/or.",
            )
            return None
        needed = _NEEDS.get(node.measuring)
        if needed and needed not in columns_of(node.event):
            able = [event for event in KNOWN_EVENTS if needed in columns_of(event)]
            self._fault(
                node.at, f'"{node.event}" has no {needed}.', f"Events that have one: {', '.join(able)}."
            )
        if node.where is not None:
            columns = {column.name: column.type for column in EVENT_COLUMNS}
            within = _Checker(names=columns, segments=self.segments, event=node.event, faults=self.faults)
            within.condition(node.where)
        return TraitType.MONEY if node.measuring is Measuring.AMOUNT else TraitType.INTEGER

    def _days_since(self, node: DaysSince) -> TraitType | None:
        found = self.type_of(node.value)
        if found is not None and found not in _TIMES:
            message = f"{_shown(node.value)} is {_IN_WORDS[found]}; days_since needs a date or an event."
            self._fault(node.value.at, message, "An event stands in quotes: days_since('order_placed').")
        return TraitType.INTEGER

    def _holds(self, node: Holds) -> None:
        found = self.type_of(node.within)
        if found not in (None, TraitType.TEXT_LIST):
            message = f"{_shown(node.within)} is {_IN_WORDS[found]} and not a list."
            self._fault(node.within.at, message, f"Write {node.within.name} = {_shown(node.value)}.")
        elif not isinstance(node.value.value, str):
            self._fault(node.value.at, "a list holds texts.", "Put the value in single quotes.")

    def _in_segment(self, node: InSegment) -> None:
        if self.event is not None:
            self._fault(node.at, "a filter looks at one event and not at segments.", "Join them with and/or.")
        elif node.segment not in self.segments:
            self._fault(
                node.at, f'no segment is called "{node.segment}".', suggest(node.segment, self.segments)
            )

    def _comparable(self, left: Expression, right: Expression, operator: str) -> None:
        one, other = self.type_of(left), self.type_of(right)
        if one is None or other is None:
            return
        for node, found in ((left, one), (right, other)):
            if found is TraitType.TEXT_LIST:
                self._fault(node.at, f"{_shown(node)} is a list and has no one value.", _LIST_HINT)
                return
        at = right.at or left.at  # sqlglot keeps no place for true and false
        if TraitType.TIMESTAMP in (one, other) and operator in ("=", "!=", "in"):
            message = f"{_shown(left if one is TraitType.TIMESTAMP else right)} is a moment, which hardly ever equals another."
            self._fault(left.at, message, "Use >= and <, or between.")
            return
        if (one in _TIMES and self._dates(right, other)) or (other in _TIMES and self._dates(left, one)):
            return
        if _family(one) != _family(other):
            hint = (
                "Write numbers and true/false without quotes, texts with."
                if TraitType.TEXT in (one, other)
                else ""
            )
            message = f"{_shown(left)} is {_IN_WORDS[one]} and {_shown(right)} is {_IN_WORDS[other]}."
            self._fault(at, message, hint)
        elif one is TraitType.BOOLEAN and operator not in ("=", "!="):
            self._fault(at, f"true and false do not go with {operator}.", "Use = or !=.")

    def _dates(self, node: Expression, found: TraitType) -> bool:
        """Say whether this side goes with a date, or is a text that was meant to and is now a fault."""
        if found in _TIMES:
            return True
        if not (isinstance(node, Constant) and isinstance(node.value, str)):
            return False
        if as_date(node.value) is None:
            self._fault(node.at, f"'{node.value}' is no date.", "Write it as '2024-03-01'.")
        return True

    def _fault(self, at: int, message: str, next_step: str = "") -> None:
        self.faults.append(Fault(at=at, message=message, next_step=next_step))


_LIST_HINT: Final = "Write 'value' in the_list."
_IN_WORDS: Final = {
    TraitType.TEXT: "a text",
    TraitType.INTEGER: "a number",
    TraitType.NUMBER: "a number",
    TraitType.MONEY: "a number",
    TraitType.BOOLEAN: "true or false",
    TraitType.DATE: "a date",
    TraitType.TIMESTAMP: "a date and time",
    TraitType.TEXT_LIST: "a list",
}


def _family(found: TraitType) -> TraitType:
    if found in _NUMBERS:
        return TraitType.NUMBER
    return TraitType.DATE if found in _TIMES else found


def _type_of_constant(node: Constant) -> TraitType:
    match node.value:
        case bool():
            return TraitType.BOOLEAN
        case int():
            return TraitType.INTEGER
        case Decimal():
            return TraitType.NUMBER
        case datetime():
            return TraitType.TIMESTAMP
        case date():
            return TraitType.DATE
        case _:
            return TraitType.TEXT


def _shown(node: Expression) -> str:  # noqa: PLR0911  (one match over the closed tree)
    """Name a part of a rule in a message."""
    match node:
        case Name():
            return f'"{node.name}"'
        case Constant(value=str()):
            return f"'{node.value}'"
        case Constant():
            return str(node.value).lower()
        case Measure():
            return f"what is measured of '{node.event}'"
        case DaysSince():
            return f"days_since({node.value.name})"
        case Arithmetic():
            return "the sum"
        case _:
            return "the condition"
