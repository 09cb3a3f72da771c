"""The canonical texts: how a value of each kind is written, cleaned and cut, as Ibis expressions.

Lives here: what makes two equal values equal texts, in SQL and in Python alike. Must not: any named transform, any
file, any tag.

Projection runs on a snapshot, and a snapshot is read by DuckDB, so a few of DuckDB's own functions are used where
Ibis has none (the length in bytes, the time in a zone). The loser was to emulate them in portable Ibis: slower by
far, for backends that never read a snapshot.

White space: every run of spaces, line breaks and control characters in a text is one space, and none is left at the
ends. So a text holds no character that JSON escapes but the quote and the backslash.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir

from ..core.data.canonical import TIMESTAMP

ELLIPSIS: Final = "…"

# RE2 repeats a pattern at most 1000 times, and a text in a template is never that long: a destination that takes
# more bytes gets no more than these.
LONGEST_TEXT: Final = 1000

_WHITE = r"[\p{Cc}\p{Z}]+"
_CLEAN = r"^[^\p{Cc}\p{Z}](?: ?[^\p{Cc}\p{Z}])*$"
_URL = r"(?i)^https?://[^\s/]\S*$"
_NUMBER: Final = dt.Decimal(38, 6)


class Kind(StrEnum):
    """What a value is between its source and its field: the trait types and one more."""

    TEXT = "text"
    INTEGER = "integer"
    NUMBER = "number"
    MONEY = "money"
    BOOLEAN = "boolean"
    DATE = "date"
    TIMESTAMP = "timestamp"
    TEXT_LIST = "text_list"
    URL = "url"  # a text that is of use only as a whole


NUMERIC: Final = frozenset({Kind.INTEGER, Kind.NUMBER, Kind.MONEY})
TIMES: Final = frozenset({Kind.DATE, Kind.TIMESTAMP})


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """An expression that knows its kind. A timestamp is the time on the shop's wall: it has no zone any more.

    `currency` is the column with the ISO code of this row's money, where the source has one.
    """

    expression: ir.Value
    kind: Kind
    currency: ir.StringValue | None = None


@ibis.udf.scalar.builtin(name="strlen", signature=((dt.string,), dt.int64))
def byte_length(text: str) -> int:  # type: ignore[empty-body]  # DuckDB's own; Ibis writes the call
    """Count the UTF-8 bytes."""


@ibis.udf.scalar.builtin(name="timezone", signature=((dt.string, TIMESTAMP), dt.timestamp))
def wall_time(zone: str, instant: object) -> object:
    """Give the date and time that a clock in this zone shows at an instant."""


def from_column(column: ir.Value, kind: Kind, zone: str) -> Value:
    """Bring a column of a snapshot into the form that transforms expect."""
    match kind:
        case Kind.TEXT | Kind.URL:
            return Value(expression=cleaned(column.cast(dt.string)), kind=kind)
        case Kind.TIMESTAMP:
            return Value(expression=wall_time(zone, column.cast(TIMESTAMP)), kind=kind)
        case _:
            return Value(expression=column, kind=kind)


def cleaned(text: ir.StringValue) -> ir.StringValue:
    """Make every run of white space and control characters one space, and an empty text null."""
    # Nearly all texts are clean already, and to see that is four times as fast as to replace.
    return text.re_search(_CLEAN).ifelse(text, text.re_replace(_WHITE, " ").strip().nullif(""))


def joined(items: ir.ArrayValue, separator: str) -> ir.StringValue:
    """Write a list as one text; nulls in it are left out."""
    return cleaned(items.join(separator))


def written(value: Value) -> ir.StringValue:
    """Give the canonical text of a value.

    Numbers: `.` before the decimals, at most six of them, no zeros at the end, no exponent; what is no finite
    number is null. Dates: YYYY-MM-DD; years outside 1 to 9999 are null. Booleans: yes and no.
    """
    expression = value.expression
    match value.kind:
        case Kind.INTEGER:
            return expression.cast(dt.int64).cast(dt.string)
        case Kind.NUMBER | Kind.MONEY:
            return decimal(value).cast(dt.string).re_replace(r"\.?0+$", "")
        case Kind.BOOLEAN:
            return answer(expression, "yes", "no")
        case Kind.DATE | Kind.TIMESTAMP:
            return day(value).cast(dt.string)
        case Kind.TEXT_LIST:
            return joined(expression, ", ")
        case _:
            return expression


def answer(condition: ir.BooleanValue, yes: str, no: str) -> ir.StringValue:
    """Give one word for true, one for false, and null for null, which `ifelse` alone takes for false."""
    return ibis.cases((condition, yes), (~condition, no))


def decimal(value: Value) -> ir.DecimalValue:
    """Give a number as a decimal with six places; null where it has none (infinity, more than 32 digits)."""
    # Rounding first: a cast cuts 0.30000000000000004 and 0.29999999999999998 to two different texts.
    number = value.expression
    if number.type().is_floating():
        number = number.isnan().ifelse(ibis.null(dt.float64), number).round(6)
    return number.try_cast(_NUMBER)


def day(value: Value) -> ir.DateValue:
    """Give the calendar day of a date or a timestamp; null where no four digits can write its year."""
    date = value.expression.cast(dt.date)
    return date.year().between(1, 9999).ifelse(date, ibis.null(dt.date))


def birthday(value: Value) -> ir.StringValue:
    """Give a day without its year, as the date in the year 2000, a leap year: a connector formats dates alone."""
    return day(value).strftime("2000-%m-%d")


def is_url(text: ir.StringValue) -> ir.BooleanValue:
    """Say whether a text is an absolute web address."""
    return text.re_search(_URL)


def fits(text: ir.StringValue, limit: int) -> ir.BooleanValue:
    """Say whether a text has at most `limit` UTF-8 bytes."""
    return byte_length(text) <= min(limit, LONGEST_TEXT)


def cut(text: ir.StringValue, limit: int) -> ir.StringValue:
    """Cut a cleaned text to at most `limit` UTF-8 bytes, the ellipsis included; `limit` is at least 8.

    The cut is at the last space when that leaves half of the text or more, else between two characters.
    """
    most = min(limit, LONGEST_TEXT) - len(ELLIPSIS.encode())
    # \C is one byte. What follows it in a pattern is a whole character, so a group never ends within one. Two
    # patterns, as RE2 is ten times slower on their alternation.
    head = rf"(?s)^(\C{{{most // 2},{most}}})"
    shortened = ibis.coalesce(*(text.re_extract(f"{head}{end}", 1).nullif("") for end in (" ", ".")))
    return fits(text, limit).ifelse(text, shortened + ibis.literal(ELLIPSIS))


def escaped(text: ir.StringValue) -> ir.StringValue:
    """Escape a cleaned text as JSON does; the module's words on white space say why two escapes are enough."""
    return text.replace("\\", "\\\\").replace('"', '\\"')
