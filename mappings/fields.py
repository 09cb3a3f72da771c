"""From a field's source to its text: which kinds of value a field can hold, and the expression that fills it.

Lives here: one column at a time. Must not: the mapping as a whole, tags, files.

The same code builds the expression to check a mapping (over a table that has types and no rows) and to project
one, so what a check accepts is what a run can do.
"""

from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Final

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir

from ..core.model import FieldType
from .transforms import Step
from .values import NUMERIC, TIMES, Kind, Value, birthday, cut, fits, is_url, written

_TEXTS: Final = frozenset(Kind)
_HOLDS: Final[dict[FieldType, frozenset[Kind]]] = {
    FieldType.TEXT: _TEXTS,
    FieldType.NUMBER: NUMERIC,
    FieldType.DATE: TIMES,
    FieldType.BIRTHDAY: TIMES,
    FieldType.URL: frozenset({Kind.TEXT, Kind.URL}),
    FieldType.IMAGE_URL: frozenset({Kind.TEXT, Kind.URL}),
    FieldType.PHONE: frozenset({Kind.TEXT}),
    FieldType.ZIP: frozenset({Kind.TEXT, Kind.INTEGER}),
}
_USUAL: Final[dict[Kind, FieldType]] = {
    **dict.fromkeys(NUMERIC, FieldType.NUMBER),
    **dict.fromkeys(TIMES, FieldType.DATE),
    Kind.URL: FieldType.URL,
}
_ADDRESSES: Final = frozenset({FieldType.URL, FieldType.IMAGE_URL})
_MEASURES: Final = NUMERIC | TIMES | {Kind.BOOLEAN}  # never too long

# What of a recommended product is which kind of value; the others are texts.
ATTRIBUTE_KINDS: Final = {"url": Kind.URL, "image_url": Kind.URL, "price": Kind.MONEY}


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldText:
    """A field's text in each row, null for none, and whether it was cut or was of no use to the field.

    The latter two are null in rows without a value, and None where it cannot happen.
    """

    text: ir.StringValue
    is_free: bool  # may hold any character, and not only those of numbers, days and answers
    cut: ir.BooleanValue | None = None
    dropped: ir.BooleanValue | None = None


def usual_type(kind: Kind, offered: Container[FieldType] = frozenset(FieldType)) -> FieldType:
    """Give the type of field that a kind of value has when the mapping says none.

    An address is a text where the destination offers nothing better.
    """
    usual = _USUAL.get(kind, FieldType.TEXT)
    return FieldType.TEXT if usual in _ADDRESSES and usual not in offered else usual


def transformed(value: Value, steps: Sequence[Step]) -> Value:
    """Apply the steps in order. Raises ValueError with a sentence when one does not take what it gets."""
    for step in steps:
        value = step.on(value)
    return value


def check_holds(kind: Kind, field_type: FieldType) -> None:
    """Raise ValueError with a sentence when a field of this type cannot hold this kind of value."""
    if kind not in _HOLDS[field_type]:
        holds = ", ".join(known for known in Kind if known in _HOLDS[field_type])
        raise ValueError(
            f"a field of type {field_type} holds {holds}, and the value is {kind}. "
            f"Leave `type` out for {usual_type(kind)}, or add a transform."
        )


def field_text(value: Value, field_type: FieldType, limit: int) -> FieldText:
    """Write a value as its field wants it: `limit` is the most UTF-8 bytes that a text may have.

    A number that cannot be written, a day without a four-digit year and a web address that is none or is too long
    become null: half an address leads nowhere. Other texts are cut at a word.
    """
    raw = birthday(value) if field_type is FieldType.BIRTHDAY and value.kind in TIMES else written(value)
    if field_type in _ADDRESSES or value.kind is Kind.URL:
        good = is_url(raw) & fits(raw, limit)
        return FieldText(text=good.ifelse(raw, ibis.null(dt.string)), is_free=True, dropped=~good)
    if value.kind in _MEASURES:
        return FieldText(text=raw, is_free=False, dropped=value.expression.notnull() & raw.isnull())
    return FieldText(text=cut(raw, limit), is_free=True, cut=~fits(raw, limit))
