"""What a rule is made of: the closed tree that the parser builds, the functions a rule can call, what events have.

Nothing here parses, asks a database or makes sentences; whatever is not in this file cannot be said in a rule.

Decision: `ever(...)` is written down as "times at least 1" and `x is true` as "x = true". Fewer kinds of nodes means
fewer places in which the checker, the compiler and the explanation could disagree.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, StrEnum
from types import MappingProxyType
from typing import Final, Literal

from ..data.canonical import EVENT_TYPES
from ..model import Trait, TraitType

Operator = Literal["=", "!=", "<", "<=", ">", ">="]
ArithmeticOperator = Literal["+", "-", "*", "/"]


def _position() -> int:
    """Make the field that holds where in the rule's text a node begins, from 0; it never makes nodes differ."""
    return field(default=0, compare=False, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Name:
    """A trait of the contact; within a filter, a column of the event."""

    name: str
    at: int = _position()


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant:
    """A value that stands in the rule. A text beside a date is read as a date."""

    value: str | int | Decimal | bool | date | datetime
    at: int = _position()


@dataclass(frozen=True, slots=True, kw_only=True)
class Arithmetic:
    """Two numbers; missing when one is missing, or when it divides by zero."""

    operator: ArithmeticOperator
    left: "Expression"
    right: "Expression"
    at: int = _position()


class Measuring(StrEnum):
    """What a measure takes from the events that it looks at."""

    COUNT = "count"
    DAYS_SINCE = "days since the latest"
    AMOUNT = "sum of amounts"
    PIECES = "sum of quantities"
    PRODUCTS = "number of different products"
    CATEGORIES = "number of different categories"
    UNANSWERED = "count of those that no answer followed in time"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One number per contact from the events of one type in (as_of - window, as_of]; without a window, of all time.

    `answer` and `wait` belong to UNANSWERED: an event counts when `wait` has passed since it and none of `answer`
    came within that time. Equal measures of different rules are computed once.
    """

    measuring: Measuring
    event: str
    window: timedelta | None = None
    where: "Expression | None" = None
    answer: str | None = None
    wait: timedelta | None = None
    at: int = _position()


@dataclass(frozen=True, slots=True, kw_only=True)
class DaysSince:
    """Whole days from a date trait to as_of; negative for a date to come."""

    value: Name
    at: int = _position()


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One value against another."""

    operator: Operator
    left: "Expression"
    right: "Expression"
    at: int = _position()


@dataclass(frozen=True, slots=True, kw_only=True)
class Between:
    """A value within two bounds, both included."""

    value: "Expression"
    low: "Expression"
    high: "Expression"
    at: int = _position()


@dataclass(frozen=True, slots=True, kw_only=True)
class Among:
    """A value that is one of several."""

    value: "Expression"
    options: tuple[Constant, ...]
    at: int = _position()


@dataclass(frozen=True, slots=True, kw_only=True)
class Holds:
    """A list trait that holds a text."""

    within: Name
    value: Constant
    at: int = _position()


@dataclass(frozen=True, slots=True, kw_only=True)
class Like:
    """A text that fits a pattern, in which % stands for any text and _ for any one character."""

    value: "Expression"
    pattern: str
    ignore_case: bool
    at: int = _position()


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """A value that is not there."""

    value: "Expression"
    at: int = _position()


@dataclass(frozen=True, slots=True, kw_only=True)
class InSegment:
    """A contact that another segment's rule chooses, however small that segment is."""

    segment: str
    at: int = _position()


@dataclass(frozen=True, slots=True, kw_only=True)
class Not:
    """What a condition leaves out, contacts with missing values included."""

    condition: "Expression"
    at: int = _position()


@dataclass(frozen=True, slots=True, kw_only=True)
class And:
    """All of two or more conditions."""

    conditions: "tuple[Expression, ...]"
    at: int = _position()


@dataclass(frozen=True, slots=True, kw_only=True)
class Or:
    """At least one of two or more conditions."""

    conditions: "tuple[Expression, ...]"
    at: int = _position()


Expression = (
    Name
    | Constant
    | Arithmetic
    | Measure
    | DaysSince
    | Comparison
    | Between
    | Among
    | Holds
    | Like
    | Missing
    | InSegment
    | Not
    | And
    | Or
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A parsed rule with the text that it came from."""

    text: str
    condition: Expression

    def traits(self) -> frozenset[str]:
        """Name every trait that the rule looks at; columns of events are not traits."""
        return frozenset(node.name for node in walk(self.condition) if isinstance(node, Name))

    def measures(self) -> frozenset[Measure]:
        """Give every measure over events that the rule needs."""
        return frozenset(node for node in walk(self.condition) if isinstance(node, Measure))

    def segments(self) -> frozenset[str]:
        """Name every other segment that the rule refers to."""
        return frozenset(node.segment for node in walk(self.condition) if isinstance(node, InSegment))


def walk(node: Expression) -> Iterator[Expression]:
    """Give a node and everything below it, left to right; a measure's filter is the measure's own affair."""
    yield node
    for child in _children(node):
        yield from walk(child)


def _children(node: Expression) -> tuple[Expression, ...]:  # noqa: PLR0911  (one match over the closed tree)
    match node:
        case Arithmetic() | Comparison():
            return (node.left, node.right)
        case Between():
            return (node.value, node.low, node.high)
        case Among():
            return (node.value, *node.options)
        case Holds():
            return (node.within, node.value)
        case DaysSince() | Like() | Missing():
            return (node.value,)
        case Not():
            return (node.condition,)
        case And() | Or():
            return node.conditions
        case Name() | Constant() | Measure() | InSegment():
            return ()


class Parameter(Enum):
    """What may stand at a place in a call; the value is how messages and docs show it."""

    EVENT = "'event'"
    ANSWER = "'answer'"
    WAIT = "'wait'"
    SEGMENT = "'segment'"
    WINDOW = "'window'"
    FILTER = "filter"


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """One function that a rule can call. `required` stand first and in order; a window or a filter may follow."""

    name: str
    required: tuple[Parameter, ...]
    optional: tuple[Parameter, ...]
    meaning: str
    measuring: Measuring | None = None

    @property
    def signature(self) -> str:
        """How a call looks.

        >>> FUNCTIONS["times"].signature
        "times('event' [, 'window'] [, filter])"
        """
        required = ", ".join(parameter.value for parameter in self.required)
        optional = "".join(f" [, {parameter.value}]" for parameter in self.optional)
        return f"{self.name}({required}{optional})"


def _over_events(
    name: str, measuring: Measuring, meaning: str, *further: Parameter, window: bool = True
) -> Function:
    return Function(
        name=name,
        required=(Parameter.EVENT, *further),
        optional=(Parameter.WINDOW, Parameter.FILTER) if window else (Parameter.FILTER,),
        meaning=meaning,
        measuring=measuring,
    )


FUNCTIONS: Final[Mapping[str, Function]] = MappingProxyType(
    {
        function.name: function
        for function in (
            _over_events("times", Measuring.COUNT, "how often an event happened"),
            _over_events("ever", Measuring.COUNT, "whether an event happened at all"),
            _over_events(
                "days_since",
                Measuring.DAYS_SINCE,
                "whole days since an event last happened, or since a date trait",
                window=False,
            ),
            _over_events("total", Measuring.AMOUNT, "sum of the amounts of orders or purchases"),
            _over_events("pieces", Measuring.PIECES, "sum of the quantities of orders or purchases"),
            _over_events("distinct_products", Measuring.PRODUCTS, "how many different products"),
            _over_events("distinct_categories", Measuring.CATEGORIES, "how many different categories"),
            _over_events(
                "unanswered",
                Measuring.UNANSWERED,
                "how often an event was not followed by another in time",
                Parameter.ANSWER,
                Parameter.WAIT,
            ),
            Function(
                name="in_segment",
                required=(Parameter.SEGMENT,),
                optional=(),
                meaning="whether the contact is in another segment",
            ),
        )
    }
)

# Events that the timeline makes out of orders; a marketer's words for them stand beside those of the others.
ORDER_EVENTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "order_placed": "placed an order",
        "product_bought": "bought a product",
        "order_cancelled": "cancelled an order",
    }
)
KNOWN_EVENTS: Final[Mapping[str, str]] = MappingProxyType({**EVENT_TYPES, **ORDER_EVENTS})


def _column(name: str, type_: TraitType, description: str) -> Trait:
    return Trait(name=name, type=type_, description=description)


EVENT_COLUMNS: Final = (
    _column("occurred_at", TraitType.TIMESTAMP, "when it happened"),
    _column("product_id", TraitType.TEXT, "the shop's own key of the product"),
    _column("category", TraitType.TEXT, "the category of the product"),
    _column("url", TraitType.TEXT, "the path or address of the page"),
    _column("campaign_id", TraitType.TEXT, "the mailing that was opened or clicked in"),
    _column("quantity", TraitType.INTEGER, "how many pieces"),
    _column("amount", TraitType.MONEY, "how much money"),
)

_WHOLE_ORDER = frozenset({"occurred_at", "quantity", "amount"})
_PURCHASE = frozenset({"occurred_at", "product_id", "category", "quantity", "amount"})
_VISIT = frozenset({"occurred_at", "product_id", "category", "url", "campaign_id"})


def columns_of(event: str) -> frozenset[str]:
    """Name the columns that events of this type can have; the others are always missing for them."""
    match event:
        case "order_placed" | "order_cancelled":
            return _WHOLE_ORDER
        case "product_bought":
            return _PURCHASE
        case _:
            return _VISIT


def as_date(text: str) -> date | datetime | None:
    """Read an ISO 8601 date, or a date and time, which without a zone is UTC; None when it is neither.

    >>> as_date("2024-03-01"), as_date("1 March")
    (datetime.date(2024, 3, 1), None)
    """
    for read in (date.fromisoformat, datetime.fromisoformat):
        try:
            value = read(text)
            return as_moment(value) if isinstance(value, datetime) else value
        except (ValueError, OverflowError):  # the second for a zone that leads out of the years 1 to 9999
            continue
    return None


def as_moment(value: date | datetime) -> datetime:
    """Give the moment of a date, its first in UTC, or of a date and time, which without a zone is UTC."""
    if not isinstance(value, datetime):
        return datetime.combine(value, time(), tzinfo=UTC)
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
