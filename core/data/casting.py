"""How a value as the shop wrote it becomes a value of a canonical type, or is found not to be one.

Lives here: numbers, times, truth and lists in the spellings that real exports have. Must not: know a table or a rule.

Nothing is guessed. `1,234` is no number where the decimal sign is a point unless the comma groups thousands, and
`03/04/2011` is no date at all, because half the world reads it the other way round. `31.12.2011` is one: everybody
who writes dots puts the day first.

A time without a zone is the shop's local time. One that a change to summer time skipped counts on from the old
offset; one that occurs twice is the later of the two.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal, NoReturn

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir

from ..model import TraitType
from .canonical import TIMESTAMP

# Exports pad with more than spaces: no-break space, zero-width space, byte order mark.
_PADDING: Final = " \t\r\n\f\v\u00a0\u200b\u202f\ufeff"

_TRUE: Final = ("true", "t", "yes", "y", "1", "on", "ja", "j", "wahr", "oui", "si", "sí", "vrai")
_FALSE: Final = ("false", "f", "no", "n", "0", "off", "nein", "falsch", "non", "faux")

_ISO_ZONE: Final = r"(Z|UTC|[+-]\d{2}(:?\d{2})?)"
_ISO_TIME: Final = (
    rf"^\d{{4}}-\d{{2}}-\d{{2}}([T ]\d{{2}}:\d{{2}}(:\d{{2}}([.,]\d{{1,9}})?)?( ?{_ISO_ZONE})?)?$"
)
_HAS_ZONE: Final = rf":.*{_ISO_ZONE}$"
_SIGNED: Final = r"^[+-]?"
_NUMBER: Final = {
    ".": rf"{_SIGNED}((\d+|\d{{1,3}}([, '\x{{2019}}\x{{00a0}}\x{{202f}}]\d{{3}})+)(\.\d*)?|\.\d+)$",
    ",": rf"{_SIGNED}((\d+|\d{{1,3}}([. '\x{{2019}}\x{{00a0}}\x{{202f}}]\d{{3}})+)(,\d*)?|,\d+)$",
}
_SCIENTIFIC: Final = rf"{_SIGNED}\d+(\.\d+)?[eE][+-]?\d{{1,2}}$"

Decimal = Literal[".", ","]


def _in_duckdb(first: object, second: object) -> NoReturn:
    raise NotImplementedError("DuckDB has the body")


_builtin = partial(ibis.udf.scalar.builtin, _in_duckdb)
_trim_of = _builtin(name="trim", signature=((dt.string, dt.string), dt.string))
_instant_of = _builtin(name="timezone", signature=((dt.string, dt.timestamp), TIMESTAMP))
_local_of = _builtin(name="timezone", signature=((dt.string, TIMESTAMP), dt.timestamp))


@dataclass(frozen=True, slots=True, kw_only=True)
class Cast:
    """A value, null where there is none, and whether there was one that is not of the type.

    `broken` is None where the source's own type makes that impossible. `value_class` says in a word or two what
    stands there instead, without showing it.
    """

    value: ir.Value
    broken: ir.BooleanValue | None
    value_class: ir.StringValue


def clean(text: ir.StringValue) -> ir.StringValue:
    """Trim a text, by more than spaces; an empty one is null."""
    return _trim_of(text, _PADDING).nullif("")


def cast(raw: ir.Value, to: dt.DataType, *, decimal: Decimal = ".", timezone: str = "UTC") -> Cast:
    """Bring a raw column to a canonical type."""
    given = raw.type()
    value: ir.Value
    match to:
        case dt.String():
            value = _text(raw)
        case dt.Int64():
            value = _integer(raw, decimal)
        case dt.Decimal() | dt.Float64():
            value = _number(raw, to, decimal)
        case dt.Boolean():
            value = _boolean(raw)
        case dt.Date():
            value = _date(raw, timezone)
        case dt.Timestamp():
            value = _instant(raw, timezone)
        case dt.Array():
            value = _texts(raw)
        case _:
            raise TypeError(f"no canonical column has the type {to}")
    value = value.cast(to)
    broken = None if _cannot_break(given, to) else _is_filled(raw) & value.isnull()
    return Cast(value=value, broken=broken, value_class=value_class(raw))


def _is_filled(raw: ir.Value) -> ir.BooleanValue:
    match raw:
        case ir.StringValue():
            return clean(raw).notnull()
        case ir.FloatingValue():
            return raw.notnull() & ~raw.isnan()  # pandas writes a gap as NaN
        case _:
            return raw.notnull()


def _cannot_break(given: dt.DataType, to: dt.DataType) -> bool:
    match given, to:
        case dt.String(), dt.String():
            return True
        case dt.Integer(), dt.Integer() | dt.String() | dt.Float64():
            return True
        case dt.Boolean(), dt.Boolean() | dt.String():
            return True
        case ((dt.Date() | dt.Timestamp()), (dt.Date() | dt.Timestamp() | dt.String())):
            return True
        case _:
            return False


def value_class(raw: ir.Value) -> ir.StringValue:
    """Say what kind of value stands there: never the value, which may be about a person."""
    if not isinstance(raw, ir.StringValue):
        return ibis.literal(_KINDS.get(type(raw.type()), "another type"))
    text = clean(raw)
    return ibis.cases(
        (text.isnull(), "empty"),
        (text.re_search(r"^-\d+$"), "negative whole number"),
        (text.re_search(r"^\d+$"), "whole number"),
        (text.re_search(r"^\d{4}-\d{2}-\d{2}"), "date"),
        (text.re_search(r"^\d{1,2}[./-]\d{1,2}[./-]\d{2,4}"), "date, not ISO 8601"),
        (text.re_search(r"^-?[\d.,' ]+$"), "number"),
        (text.contains("@"), "text with @"),
        (text.re_search(r"^[\[{]"), "list or object"),
        (text.re_search(r"[^\x00-\x7f]"), "text with letters beyond ASCII"),
        else_="text",
    )


_KINDS: Final[dict[type[dt.DataType], str]] = {
    dt.Float64: "number",
    dt.Float32: "number",
    dt.Decimal: "number",
    dt.Boolean: "true or false",
    dt.Date: "date",
    dt.Timestamp: "time",
    dt.Array: "list",
    dt.Struct: "object",
    dt.Map: "object",
    dt.Binary: "bytes",
    **dict.fromkeys(
        (dt.Int8, dt.Int16, dt.Int32, dt.Int64, dt.UInt8, dt.UInt16, dt.UInt32, dt.UInt64), "whole number"
    ),
}


def _nothing(to: dt.DataType) -> ir.Value:
    return ibis.null(to)


def _text(raw: ir.Value) -> ir.Value:
    if isinstance(raw, ir.StringValue):
        return clean(raw)
    if isinstance(raw, ir.FloatingValue | ir.DecimalValue):
        # pandas turns a key column with gaps into 17850.0
        whole = raw.try_cast(dt.int64)
        return (whole.cast(raw.type()) == raw).ifelse(whole.cast(dt.string), raw.cast(dt.string))
    if isinstance(raw, ir.ArrayValue | ir.StructValue | ir.MapValue | ir.BinaryValue):
        return _nothing(dt.string)
    return raw.cast(dt.string)


def _plain_number(raw: ir.StringValue, decimal: Decimal) -> ir.StringValue:
    """Bring a number's text into the form that SQL casts, null when it is none."""
    text = clean(raw).replace("\u2212", "-")
    text = clean(text.re_replace(r"\p{Sc}|^[A-Z]{3}|[A-Z]{3}$", ""))
    text = text.re_replace(r"^\((.+)\)$|^(\d.*)-$", r"-\1\2").re_replace(r"^([+-])\s+", r"\1")
    groups = r"[, '\x{2019}\x{00a0}\x{202f}]" if decimal == "." else r"[. '\x{2019}\x{00a0}\x{202f}]"
    grouped = text.re_replace(groups, "")
    pointed = grouped if decimal == "." else grouped.replace(",", ".")
    spelled = text.re_search(_NUMBER[decimal]).ifelse(pointed, ibis.null(dt.string))
    if decimal == ".":
        spelled = text.re_search(_SCIENTIFIC).ifelse(text, spelled)
    plain = r"^-?\d+(\.\d+)?$" if decimal == "." else r"^-?\d+$"
    return raw.re_search(plain).ifelse(raw, spelled)


def _number(raw: ir.Value, to: dt.DataType, decimal: Decimal) -> ir.Value:
    if isinstance(raw, ir.StringValue):
        return _plain_number(raw, decimal).try_cast(to)
    if isinstance(raw, ir.FloatingValue):
        return (raw.isnan() | raw.isinf()).ifelse(ibis.null(raw.type()), raw).try_cast(to)
    if isinstance(raw, ir.NumericValue) and not isinstance(raw, ir.BooleanValue):
        return raw.try_cast(to)
    return _nothing(to)


def _integer(raw: ir.Value, decimal: Decimal) -> ir.Value:
    if isinstance(raw, ir.IntegerValue):
        return raw.try_cast(dt.int64)
    if isinstance(raw, ir.StringValue):
        number = _plain_number(raw, decimal).try_cast(dt.Decimal(38, 9))
    elif isinstance(raw, ir.FloatingValue | ir.DecimalValue):
        number = _number(raw, dt.Decimal(38, 9), decimal)
    else:
        return _nothing(dt.int64)
    # A cast would round 1.5 pieces to 2.
    return (number == number.floor()).ifelse(number.try_cast(dt.int64), ibis.null(dt.int64))


def _boolean(raw: ir.Value) -> ir.Value:
    if isinstance(raw, ir.BooleanValue):
        return raw
    if not isinstance(raw, ir.StringValue | ir.IntegerValue):
        return _nothing(dt.boolean)
    word = clean(raw.cast(dt.string)).lower()
    return ibis.cases((word.isin(_TRUE), True), (word.isin(_FALSE), False), else_=ibis.null(dt.boolean))


def _iso(raw: ir.StringValue) -> ir.StringValue:
    """Bring a time's text into the ISO 8601 form that SQL casts, null when it is none."""
    text = clean(raw).upper()
    text = text.re_replace(r"^(\d)\.(\d{1,2}\.\d{4})", r"0\1.\2").re_replace(
        r"^(\d\d)\.(\d)\.(\d{4})", r"\1.0\2.\3"
    )
    text = text.re_replace(r"^(\d\d)\.(\d\d)\.(\d{4})", r"\3-\2-\1")
    text = text.re_replace(r"^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)", r"\1-\2-\3T\4:\5:\6").replace(
        ":Z", ":00Z"
    )
    text = text.re_replace(r"^(\d{4})(\d\d)(\d\d)$", r"\1-\2-\3").replace(",", ".")
    return text.re_search(_ISO_TIME).ifelse(text, ibis.null(dt.string))


def _instant(raw: ir.Value, timezone: str) -> ir.Value:
    if isinstance(raw, ir.StringValue):
        text = _iso(raw)
        zoned = text.re_search(_HAS_ZONE)
        return zoned.ifelse(
            text.try_cast(TIMESTAMP),
            _instant_of(timezone, zoned.ifelse(ibis.null(dt.string), text).try_cast(dt.timestamp)),
        )
    if isinstance(raw, ir.TimestampValue):
        given = raw.type()
        if isinstance(given, dt.Timestamp) and given.timezone is not None:
            return raw
        return _instant_of(timezone, raw.cast(dt.timestamp))
    if isinstance(raw, ir.DateValue):
        return _instant_of(timezone, raw.cast(dt.timestamp))
    return _nothing(TIMESTAMP)


def _date(raw: ir.Value, timezone: str) -> ir.Value:
    if isinstance(raw, ir.StringValue):
        return _iso(raw).substr(0, 10).try_cast(dt.date)
    if isinstance(raw, ir.DateValue):
        return raw
    if isinstance(raw, ir.TimestampValue):
        given = raw.type()
        zoned = isinstance(given, dt.Timestamp) and given.timezone is not None
        return (_local_of(timezone, raw) if zoned else raw).cast(dt.date)
    return _nothing(dt.date)


def _texts(raw: ir.Value) -> ir.Value:
    """Read a list: a real one, a JSON array, or texts with `|` or `;` between them."""
    if isinstance(raw, ir.ArrayValue):
        listed = raw.try_cast(dt.Array(dt.string))
    elif isinstance(raw, ir.StringValue):
        text = clean(raw)
        is_json = text.re_search(r"^\[")
        listed = is_json.ifelse(
            text.try_cast(dt.json).try_cast(dt.Array(dt.string)), text.re_split(r"\s*[|;]\s*")
        )
        listed = text.isnull().ifelse(ibis.null(dt.Array(dt.string)), listed)
    else:
        return _nothing(dt.Array(dt.string))
    return listed.map(clean).filter(lambda item: item.notnull())


# How the texts of each type are spelled, the narrowest type first. A leading zero belongs to a code, not to a number.
LOOKS: Final[Mapping[TraitType, str]] = {
    TraitType.INTEGER: r"^-?(0|[1-9]\d{0,17})$",
    TraitType.NUMBER: "",  # depends on the decimal sign
    TraitType.BOOLEAN: r"^(?i)(true|false|yes|no|ja|nein)$",
    TraitType.DATE: r"^(\d{4}-\d{2}-\d{2}|\d{1,2}\.\d{1,2}\.\d{4})$",
    TraitType.TIMESTAMP: r"^(\d{4}-\d{2}-\d{2}|\d{1,2}\.\d{1,2}\.\d{4})([T ]\d{2}:\d{2}.*)?$",
    TraitType.TEXT_LIST: r"^\[.*\]$",
}


def looks_like(text: ir.StringValue, kind: TraitType, *, decimal: Decimal) -> ir.BooleanValue:
    """Whether a text is spelled like a value of one of the types of LOOKS."""
    given = clean(text)
    if kind is TraitType.NUMBER:
        return given.re_search(_NUMBER[decimal]) & ~given.re_search(r"^-?0\d")
    return given.re_search(LOOKS[kind])
