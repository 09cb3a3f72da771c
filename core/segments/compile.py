"""Turns rules into Ibis expressions: all rules at once, one pass over the timeline, one row per contact.

Nothing here parses or checks; rules arrive checked against the same columns. Nothing here runs a query.

Decision: two-valued logic. A positive statement (=, <, between, in, like, a list that holds, a true-or-false trait)
about a missing value is false, and its opposite (!=, not in, not like, `not ...`) is true. SQL's third value would
make "not in GB" lose everybody whose country is unknown, and a marketer would not see why. So every condition is
made non-null where it is born, and `!=` is compiled as "not =".

Decision: a rule's arithmetic is done in floating point (an integer overflow would fail a whole build), while traits
are compared as they are, so that money compares exactly.
"""

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import ibis
import ibis.expr.types as ir

from ..data.canonical import TIMESTAMP
from ..data.instants import days_since
from .check import in_order_of_reference
from .rule import (
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
    as_moment,
)

_COMPARE: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "=": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """One row per contact of the profiles; `columns` leads from a segment to its true-or-false column, never null."""

    table: ir.Table
    columns: Mapping[str, str]


def flags(rules: Mapping[str, Rule], profiles: ir.Table, timeline: ir.Table, as_of: datetime) -> Flags:
    """Hold every rule against every contact, as of an instant; what happened later does not exist.

    The rules are free of mistakes: `core.segments.check` found none against the columns of these profiles.
    """
    now = as_moment(as_of)
    traits = sorted(frozenset().union(*(rule.traits() for rule in rules.values())))
    measures = _distinct(measure for rule in rules.values() for measure in rule.measures())
    trait_columns = {name: f"t{position}" for position, name in enumerate(traits)}
    measure_columns = {measure: f"m{position}" for position, measure in enumerate(measures)}
    flag_columns = {name: f"s{position}" for position, name in enumerate(rules)}
    # Numbered columns: a trait may be called like a column of ours, and DuckDB does not tell A from a.
    table = profiles.select(
        "contact_id", **{column: profiles[name] for name, column in trait_columns.items()}
    )
    for measured in _measured(measure_columns, timeline, now):
        joined = table.left_join(measured, table.contact_id == measured.contact_id)
        table = joined.select(
            *(table[name] for name in table.columns),
            *(measured[name] for name in measured.columns if name != "contact_id"),
        )
    for layer in in_order_of_reference(rules):
        known = table
        compiler = _Compiler(
            names={name: known[column] for name, column in trait_columns.items()},
            measures={
                measure: _measure_value(measure, known[column]) for measure, column in measure_columns.items()
            },
            segments={
                name: known[column] for name, column in flag_columns.items() if column in known.columns
            },
            as_of=now,
        )
        table = known.mutate(
            **{flag_columns[name]: compiler.condition(rules[name].condition) for name in layer}
        )
    return Flags(table=table.select("contact_id", *flag_columns.values()), columns=flag_columns)


def _distinct(measures: Iterable[Measure]) -> list[Measure]:
    """Keep one of equal measures, in an order that does not change between two runs."""
    return sorted(set(measures), key=repr)


def _measured(columns: Mapping[Measure, str], timeline: ir.Table, now: datetime) -> list[ir.Table]:
    """Compute all measures: one grouped pass, and one more where an answer has to be looked for."""
    if not columns:
        return []
    started = [None if measure.window is None else now - measure.window for measure in columns]
    happened = timeline.occurred_at <= _instant(now)
    if (first := min((at for at in started if at), default=None)) and None not in started:
        happened &= timeline.occurred_at > _instant(first)
    past = timeline.filter(happened)
    plain = {measure: name for measure, name in columns.items() if measure.answer is None}
    answered = {measure: name for measure, name in columns.items() if measure.answer is not None}
    tables = []
    if plain:
        tables.append(_grouped(past, plain, now, {}))
    if answered:
        # Answers follow their events, so the prefilter above has cut off none that matters.
        answers = sorted({str(measure.answer) for measure in answered})
        involved = past.filter(past.event_type.isin([*answers, *{measure.event for measure in answered}]))
        following = {answer: f"a{position}" for position, answer in enumerate(answers)}
        window = ibis.range_window(group_by="contact_id", order_by="occurred_at", preceding=0, following=None)
        looked = involved.mutate(
            **{
                name: (involved.event_type == answer)
                .ifelse(involved.occurred_at, ibis.null(TIMESTAMP))
                .min()
                .over(window)
                for answer, name in following.items()
            }
        )
        tables.append(_grouped(looked, answered, now, following))
    return tables


def _grouped(
    events: ir.Table, measures: Mapping[Measure, str], now: datetime, following: Mapping[str, str]
) -> ir.Table:
    needed = events.filter(events.event_type.isin(sorted({measure.event for measure in measures})))
    return needed.group_by("contact_id").agg(
        **{name: _aggregate(measure, needed, now, following) for measure, name in measures.items()}
    )


def _aggregate(measure: Measure, events: ir.Table, now: datetime, following: Mapping[str, str]) -> ir.Value:  # noqa: PLR0911  (one match over what can be measured)

    counts = events.event_type == measure.event
    if measure.window is not None:
        counts &= events.occurred_at > _instant(now - measure.window)
    if measure.where is not None:
        names = {name: events[name] for name in events.columns}
        counts &= _Compiler(names=names, measures={}, segments={}, as_of=now).condition(measure.where)
    match measure.measuring:
        case Measuring.COUNT:
            return counts.sum()
        case Measuring.DAYS_SINCE:
            return events.occurred_at.max(where=counts)
        case Measuring.AMOUNT:
            return events.amount.sum(where=counts)
        case Measuring.PIECES:
            return events.quantity.sum(where=counts)
        case Measuring.PRODUCTS:
            return events.product_id.nunique(where=counts)
        case Measuring.CATEGORIES:
            return events.category.nunique(where=counts)
        case Measuring.UNANSWERED:
            return (counts & _unanswered(measure, events, now, following)).sum()


def _unanswered(
    measure: Measure, events: ir.Table, now: datetime, following: Mapping[str, str]
) -> ir.BooleanValue:
    """Say of each event whether its time for an answer is over and none came; one at the same moment is one."""
    if measure.answer is None or measure.wait is None:
        raise ValueError("a measure of unanswered events needs an answer and a wait")
    answer = events[following[measure.answer]]
    in_time = _microseconds(events.occurred_at, answer) <= measure.wait // timedelta(microseconds=1)
    return (events.occurred_at <= _instant(now - measure.wait)) & ~_certain(in_time)


def _measure_value(measure: Measure, column: ir.Value) -> ir.Value:
    """Say what a contact without any such event has: nothing to count, or no latest one."""
    return column if measure.measuring is Measuring.DAYS_SINCE else column.fill_null(0)


def _instant(moment: datetime) -> ir.TimestampScalar:
    return ibis.literal(moment, type=TIMESTAMP)


def _microseconds(earlier: ir.Value, later: ir.Value) -> ir.IntegerValue:
    # Counted, not subtracted: intervals of several engines round to days or months.
    return later.delta(earlier, unit="us")


def _every(parts: Sequence[ir.BooleanValue], join: Callable[[Any, Any], Any]) -> ir.BooleanValue:
    """Join conditions as a balanced tree: a chain of a thousand would be nested a thousand deep in SQL."""
    if len(parts) == 1:
        return parts[0]
    middle = len(parts) // 2
    return join(_every(parts[:middle], join), _every(parts[middle:], join))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Compiler:
    """Compiles the tree of one rule over the columns at hand."""

    names: Mapping[str, ir.Value]
    measures: Mapping[Measure, ir.Value]
    segments: Mapping[str, ir.Value]
    as_of: datetime

    def condition(self, node: Expression) -> ir.BooleanValue:  # noqa: C901, PLR0911  (one match over the closed tree)
        """Compile what is true or false, and never null."""
        match node:
            case And():
                return _every([self.condition(part) for part in node.conditions], operator.and_)
            case Or():
                return _every([self.condition(part) for part in node.conditions], operator.or_)
            case Not():
                return ~self.condition(node.condition)
            case Comparison(operator="!="):
                return ~self._compared("=", node.left, node.right)
            case Comparison():
                return self._compared(node.operator, node.left, node.right)
            case Between():
                return self._compared(">=", node.value, node.low) & self._compared(
                    "<=", node.value, node.high
                )
            case Among():
                return _every(
                    [self._compared("=", node.value, option) for option in node.options], operator.or_
                )
            case Holds():
                return _certain(self.value(node.within).contains(node.value.value))
            case Like():
                text = self.value(node.value)
                return _certain(text.ilike(node.pattern) if node.ignore_case else text.like(node.pattern))
            case Missing():
                return self.value(node.value).isnull()
            case InSegment():
                return self.segments[node.segment]
            case _:
                return _certain(self.value(node))

    def value(self, node: Expression) -> ir.Value:
        """Compile what has a value, which may be missing."""
        match node:
            case Name():
                return self.names[node.name]
            case Constant():
                return _literal(node.value)
            case Measure():
                value = self.measures[node]
                return self._days_since(value) if node.measuring is Measuring.DAYS_SINCE else value
            case DaysSince():
                return self._days_since(self.value(node.value))
            case Arithmetic():
                return self._calculated(node)
            case _:
                return self.condition(node)

    def _days_since(self, value: ir.Value) -> ir.Value:
        if value.type().is_date():
            return ibis.literal(self.as_of.date()).delta(value, unit="day")
        return days_since(value, self.as_of)

    def _calculated(self, node: Arithmetic) -> ir.Value:
        left = self.value(node.left).cast("float64")
        right = self.value(node.right).cast("float64")
        match node.operator:
            case "+":
                return left + right
            case "-":
                return left - right
            case "*":
                return left * right
            case "/":
                return left / right.nullif(0)

    def _compared(self, how: str, left: Expression, right: Expression) -> ir.BooleanValue:
        one, other = self.value(left), self.value(right)
        if one.type().is_temporal() or other.type().is_temporal():
            one, other = _as_time(one, left), _as_time(other, right)
            if not (one.type().is_date() and other.type().is_date()):
                one, other = one.cast(TIMESTAMP), other.cast(TIMESTAMP)
        return _certain(_COMPARE[how](one, other))


def _certain(value: ir.Value) -> ir.BooleanValue:
    return value.fill_null(False)


def _literal(value: str | int | Decimal | bool | date | datetime) -> ir.Value:  # noqa: FBT001  (a constant of any type)
    if isinstance(value, datetime):
        return _instant(value)
    return ibis.literal(value)


def _as_time(value: ir.Value, node: Expression) -> ir.Value:
    """Read a text of the rule as the date that it is beside a date; leave all else alone."""
    if (
        isinstance(node, Constant)
        and isinstance(node.value, str)
        and (day := as_date(node.value)) is not None
    ):
        return _literal(day)
    return value
