"""A rule in words: one sentence that says who is in it, and what each trait in it means.

Nothing here decides anything: the sentence is made of the same tree that the compiler reads.

Decision: names of traits are read out ("recency days") and their descriptions follow after the sentence, because a
description is a phrase of any length and would tear a condition apart. `not` is carried inwards to the conditions,
which two-valued logic allows, because people do not read negated brackets.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Final

from ..model import Trait
from .rule import (
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
    Operator,
    Or,
    Rule,
)

# What a contact did not do. English needs it in full: "placed no order", never "did not placed an order".
_DID_NOT: Final[Mapping[str, str]] = {
    "product_viewed": "viewed no product",
    "cart_added": "put nothing in the cart",
    "cart_removed": "took nothing out of the cart",
    "checkout_started": "started no checkout",
    "page_viewed": "visited no page",
    "email_opened": "opened no e-mail",
    "email_clicked": "clicked in no e-mail",
    "order_placed": "placed no order",
    "product_bought": "bought no product",
    "order_cancelled": "cancelled no order",
}
_IS: Final[Mapping[Operator, str]] = {
    "=": "is",
    "!=": "is not",
    "<": "is less than",
    "<=": "is at most",
    ">": "is more than",
    ">=": "is at least",
}
_IS_IN_TIME: Final[Mapping[Operator, str]] = {
    "=": "is",
    "!=": "is not",
    "<": "is before",
    "<=": "is not after",
    ">": "is after",
    ">=": "is not before",
}
_OPPOSITE: Final[Mapping[Operator, Operator]] = {
    "=": "!=",
    "!=": "=",
    "<": ">=",
    ">=": "<",
    ">": "<=",
    "<=": ">",
}
_MIRRORED: Final[Mapping[Operator, Operator]] = {
    "=": "=",
    "!=": "!=",
    "<": ">",
    ">": "<",
    "<=": ">=",
    ">=": "<=",
}
_SUMS: Final = {
    Measuring.AMOUNT: "total amount",
    Measuring.PIECES: "number of pieces",
    Measuring.PRODUCTS: "number of different products",
    Measuring.CATEGORIES: "number of different categories",
}
_CALCULATION: Final = {"+": "plus", "-": "minus", "*": "times", "/": "divided by"}
_OR_MISSING: Final = " (or is missing)"


def explain(rule: Rule, traits: Sequence[Trait] = (), labels: Mapping[str, str] | None = None) -> str:
    """Say in plain English whom a rule chooses. `labels` are what marketers call the segments it refers to.

    >>> from segue.core.segments.language import parse
    >>> explain(parse("times('product_viewed', '7 days') > 3 and times('order_placed', '7 days') = 0"))
    'Contacts who viewed a product more than 3 times in the last 7 days and placed no order in the last 7 days.'
    """
    words = _Words(labels=labels or {})
    if isinstance(rule.condition, Constant):
        sentence = "All contacts." if rule.condition.value else "No contacts."
    else:
        sentence = f"Contacts {words.clause(rule.condition, negated=False).full}."
    described = {trait.name: trait for trait in traits if trait.description}
    meanings = [_meaning(described[name]) for name in sorted(rule.traits() & described.keys())]
    return " ".join([sentence, *meanings])


def _meaning(trait: Trait) -> str:
    description = trait.description.strip().removesuffix(".")
    # "Whole days" becomes "whole days", "RFM" stays.
    if description[1:2].islower():
        description = description[0].lower() + description[1:]
    missing = f"; missing: {trait.null_means.strip().removesuffix('.')}" if trait.null_means else ""
    return f"{_spoken(trait.name).capitalize()}: {description}{missing}."


@dataclass(frozen=True, slots=True, kw_only=True)
class _Clause:
    """A part of the sentence that starts with "who" or "whose"; a lead of nothing says it all itself."""

    lead: str
    text: str

    @property
    def full(self) -> str:
        return f"{self.lead} {self.text}".strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Words:
    labels: Mapping[str, str]
    depth: int = 0
    event: bool = False  # within a filter: the subject is the event and not the contact

    def clause(self, node: Expression, *, negated: bool) -> _Clause:  # noqa: C901, PLR0911  (one match over the tree)
        match node:
            case Not():
                return self.clause(node.condition, negated=not negated)
            case And() | Or():
                return self._joined(node, negated=negated)
            case Comparison():
                return self._comparison(node, negated=negated)
            case Between():
                return self._between(node, negated=negated)
            case Among():
                *rest, last = [_said(option) for option in node.options]
                options = f"{', '.join(rest)} or {last}" if rest else last
                return self._whose(node.value, f"is {_not(negated)}{options}", missing=negated)
            case Holds():
                verb = "do not include" if negated else "include"
                return self._whose(node.within, f"{verb} {_said(node.value)}", missing=negated)
            case Like():
                return self._like(node, negated=negated)
            case Missing():
                return self._missing(node, negated=negated)
            case InSegment():
                label = self.labels.get(node.segment, _spoken(node.segment))
                return _Clause(lead="who", text=f'are {_not(negated)}in the segment "{label}"')
            case Constant():
                truth = bool(node.value) is not negated
                return _Clause(lead="who", text="are anybody at all" if truth else "are nobody at all")
            case _:
                return self._whose(node, "is false" if negated else "is true", missing=negated)

    def _joined(self, node: And | Or, *, negated: bool) -> _Clause:
        every = isinstance(node, And) is not negated
        deeper = replace(self, depth=self.depth + 1)
        clauses = [deeper.clause(part, negated=turned) for part, turned in _parts(node, negated, every)]
        *rest, last = _leading(clauses)
        text = f"{', '.join(rest)} {'and' if every else 'or'} {last}"
        # Only the outermost list stands without brackets: "a or b and c" would say two things.
        return _Clause(lead="", text=f"({text})" if self.depth else text)

    def _comparison(self, node: Comparison, *, negated: bool) -> _Clause:  # noqa: PLR0911  (one kind of sentence each)
        left, right, how = node.left, node.right, node.operator
        if isinstance(left, Constant) and not isinstance(right, Constant):
            left, right, how = right, left, _MIRRORED[how]
        if isinstance(right, Constant) and isinstance(right.value, bool):
            # `= true` says nothing, `= false` says the opposite; of a missing trait neither holds.
            truth = right.value is (how == "=")
            if isinstance(left, Name):
                flipped = negated is not (how == "!=")
                return self._whose(left, f"is {_not(flipped)}{_said(right)}", missing=flipped)
            return self.clause(left, negated=negated is truth)
        if isinstance(left, Measure) and isinstance(right, Constant):
            exact = _OPPOSITE[how] if negated else how
            match left.measuring:
                case Measuring.COUNT | Measuring.UNANSWERED:
                    return self._counted(left, exact, right)
                case Measuring.DAYS_SINCE if not negated and how != "!=":
                    when = f"{_IS[how].removeprefix('is').strip()} {_said(right)} days ago".strip()
                    return _Clause(lead="who", text=f"last {_did(left, self.labels)} {when}")
                case Measuring.DAYS_SINCE:
                    text = f"{_not(negated)}{_IS[how].removeprefix('is ')} {_said(right)}"
                    return self._whose(left, f"is {text}", missing=True)
                case _:
                    return self._whose(left, f"{_IS[exact]} {_said(right)}")
        certain = isinstance(left, Measure) and left.measuring is not Measuring.DAYS_SINCE
        verb = _IS_IN_TIME[how] if _is_time(right) else _IS[how]
        if how == "!=":
            verb, negated = ("is", False) if negated else ("is not", True)
        elif negated:
            verb = f"is not {verb.removeprefix('is').strip()}".rstrip().replace("not not ", "")
        return self._whose(left, f"{verb} {self._value(right)}", missing=negated and not certain)

    def _counted(self, measure: Measure, how: Operator, right: Constant) -> _Clause:
        number = right.value
        if (how, number) in {("=", 0), ("<", 1), ("<=", 0)}:
            return _Clause(lead="who", text=self._never(measure))
        if (how, number) in {("!=", 0), (">", 0), (">=", 1)}:
            often = "at least once"
        elif how in ("=", "!="):
            often = f"{'' if how == '=' else 'not '}exactly {_times(right)}"
        else:
            often = f"{_IS[how].removeprefix('is ').replace('less', 'fewer')} {_times(right)}"
        return _Clause(lead="who", text=f"{_did(measure, self.labels)} {often}{_within(measure)}")

    def _never(self, measure: Measure) -> str:
        if measure.measuring is Measuring.UNANSWERED:
            return f"at no time {_did(measure, self.labels)}{_within(measure)}"
        if measure.window is None and measure.event in KNOWN_EVENTS:
            return f"never {_did(measure, self.labels)}"
        did_not = _DID_NOT.get(measure.event, f'had no event "{measure.event}"')
        return f"{did_not}{_whose_filter(measure, self.labels)}{_within(measure)}"

    def _between(self, node: Between, *, negated: bool) -> _Clause:
        bounds = f"{_not(negated)}between {self._value(node.low)} and {self._value(node.high)}"
        if isinstance(node.value, Measure) and node.value.measuring in (
            Measuring.COUNT,
            Measuring.UNANSWERED,
        ):
            text = f"{_did(node.value, self.labels)} {bounds} times{_within(node.value)}"
            return _Clause(lead="who", text=text)
        certain = isinstance(node.value, Measure) and node.value.measuring is not Measuring.DAYS_SINCE
        return self._whose(node.value, f"is {bounds}", missing=negated and not certain)

    def _like(self, node: Like, *, negated: bool) -> _Clause:
        inner = node.pattern.strip("%")
        plain = "%" not in inner and "_" not in inner and inner
        starts, ends = not node.pattern.startswith("%"), not node.pattern.endswith("%")
        if not plain:
            verbs, inner = ("fits", "does not fit"), f"the pattern {node.pattern}"
        elif starts and ends:
            verbs = ("is", "is not")
        elif starts:
            verbs = ("starts with", "does not start with")
        elif ends:
            verbs = ("ends with", "does not end with")
        else:
            verbs = ("contains", "does not contain")
        shown = f'"{inner}"' if plain else inner
        case = " (in capitals or not)" if node.ignore_case else ""
        return self._whose(node.value, f"{verbs[negated]} {shown}{case}", missing=negated)

    def _missing(self, node: Missing, *, negated: bool) -> _Clause:
        value = node.value
        if isinstance(value, Measure) and value.measuring is Measuring.DAYS_SINCE:
            count = replace(value, measuring=Measuring.COUNT)
            return self._counted(count, ">=" if negated else "=", Constant(value=1 if negated else 0))
        return self._whose(value, "is known" if negated else "is missing")

    def _whose(self, value: Expression, text: str, *, missing: bool = False) -> _Clause:
        return _Clause(
            lead="" if self.event else "whose",
            text=f"{self._value(value)} {text}{_OR_MISSING if missing else ''}",
        )

    def _value(self, node: Expression) -> str:  # noqa: PLR0911  (one match over the closed tree)
        match node:
            case Name():
                return _spoken(node.name)
            case Constant():
                return _said(node)
            case Arithmetic():
                word = _CALCULATION[node.operator]
                return f"({self._value(node.left)} {word} {self._value(node.right)})"
            case DaysSince():
                return f"number of days since {self._value(node.value)}"
            case Measure(measuring=Measuring.DAYS_SINCE):
                return f"number of days since they last {_did(node, self.labels)}"
            case Measure(measuring=Measuring.COUNT | Measuring.UNANSWERED):
                return f"number of times they {_did(node, self.labels)}{_within(node)}"
            case Measure():
                return f"{_SUMS[node.measuring]} over all times they {_did(node, self.labels)}{_within(node)}"
            case _:
                return f'"{self.clause(node, negated=False).full}"'


def _parts(node: Expression, negated: bool, every: bool) -> Iterator[tuple[Expression, bool]]:  # noqa: FBT001  (own recursion)
    """Give the conditions of a list with those of equal lists within it, each with whether it is negated."""
    match node:
        case Not():
            yield from _parts(node.condition, not negated, every)
        case And() | Or() if (isinstance(node, And) is not negated) is every:
            for part in node.conditions:
                yield from _parts(part, negated, every)
        case _:
            yield node, negated


def _leading(clauses: Sequence[_Clause]) -> list[str]:
    """Say "who" and "whose" only where they change."""
    texts, before = [], None
    for clause in clauses:
        texts.append(clause.text if clause.lead and clause.lead == before else clause.full)
        before = clause.lead
    return texts


def _not(negated: bool) -> str:  # noqa: FBT001  (its only argument)
    return "not " if negated else ""


def _did(measure: Measure, labels: Mapping[str, str]) -> str:
    did = KNOWN_EVENTS.get(measure.event, f'had the event "{measure.event}"') + _whose_filter(measure, labels)
    if measure.answer is None or measure.wait is None:
        return did
    did_not = _DID_NOT.get(measure.answer, f'had no event "{measure.answer}"')
    return f"{did} (and {did_not} within {_length(measure.wait)} after it)"


def _whose_filter(measure: Measure, labels: Mapping[str, str]) -> str:
    if measure.where is None:
        return ""
    return f" ({_Words(labels=labels, event=True).clause(measure.where, negated=False).full})"


def _within(measure: Measure) -> str:
    return "" if measure.window is None else f" in the last {_length(measure.window)}"


def _length(duration: timedelta) -> str:
    """Say a length in the largest unit that fits: days up to any number, since a rule is written in days."""
    for unit, size in (
        ("day", timedelta(days=1)),
        ("hour", timedelta(hours=1)),
        ("minute", timedelta(minutes=1)),
    ):
        if duration >= size and not duration % size and not (unit == "day" and duration == size):
            number = duration // size
            return f"{number} {unit}" + ("" if number == 1 else "s")
    return f"{duration.total_seconds():g} seconds"


def _times(constant: Constant) -> str:
    return "once" if constant.value == 1 else f"{_said(constant)} times"


def _said(constant: Constant) -> str:
    match constant.value:
        case bool():
            return str(constant.value).lower()
        case str():
            return f'"{constant.value}"'
        case datetime():
            return f"{constant.value:%Y-%m-%d %H:%M} UTC"
        case _:
            return str(constant.value)


def _is_time(node: Expression) -> bool:
    return isinstance(node, Constant) and isinstance(node.value, str | date)


def _spoken(name: str) -> str:
    return name.replace("_", " ")
