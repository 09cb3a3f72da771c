"""Amounts as people write them: the sign of the currency, its decimals, the separators of a language.

Lives here: from CLDR's data (Babel) to an Ibis expression. Must not: rates, or any arithmetic but rounding.
"""

from dataclasses import dataclass
from functools import reduce

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir
from babel import Locale, UnknownLocaleError
from babel.numbers import get_currency_precision, get_currency_symbol

from .values import Value, decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """How amounts look: the currency, None for that of each row, and the CLDR locale that writes them."""

    code: str | None = None
    locale: str = "en"

    def __post_init__(self) -> None:
        try:
            locale = Locale.parse(self.locale)
        except (UnknownLocaleError, ValueError):
            raise ValueError(f'"{self.locale}" is not a locale: write e.g. "en_GB" or "de"') from None
        if self.code is not None and self.code not in locale.currencies:
            raise ValueError(f'"{self.code}" is not an ISO 4217 currency code: write e.g. "EUR"')
        if locale.currency_formats["standard"].grouping != (3, 3):
            raise ValueError(f'"{self.locale}" does not group digits by thousands, which is all Segue can do')


@ibis.udf.scalar.builtin(name="format", signature=((dt.string, dt.float64), dt.string))
def _formatted(pattern: str, number: float) -> str:  # type: ignore[empty-body]  # DuckDB's own
    """Write a number by a pattern such as `{:,.2f}`."""


def amount(value: Value, style: Style) -> ir.StringValue:
    """Write money with its sign. A row without a currency is null: half a price is worse than none."""
    locale = Locale.parse(style.locale)
    pattern = locale.currency_formats["standard"]
    number = decimal(value)
    if style.code is not None:
        digits = _digits(number, get_currency_precision(style.code))
        sign: ir.StringValue = ibis.literal(get_currency_symbol(style.code, locale=locale))
    elif value.currency is not None:
        digits = _digits_by_row(number, value.currency)
        sign = _signs_by_row(value.currency, locale)
    else:
        raise ValueError("needs the currency, as in `currency: EUR`: only a product's price knows its own")
    separators = locale.number_symbols["latn"]
    shown = digits.translate(",.", separators["group"] + separators["decimal"])
    # Each mention repeats an expression in SQL, so sign and digits stand once, between texts that know the minus.
    before, after = _around(pattern.prefix), _around(pattern.suffix)
    negative = number < 0
    parts: list[ir.StringValue] = [
        _either(negative, before[0]),
        *([sign, _either(negative, before[1])] if "¤" in pattern.prefix[0] else []),
        shown,
        _either(negative, after[0]),
        *([sign, _either(negative, after[1])] if "¤" in pattern.suffix[0] else []),
    ]
    return reduce(lambda text, part: text + part, parts)


def _around(affix: tuple[str, str]) -> tuple[tuple[str, str], tuple[str, str]]:
    """Split what stands at one side of a positive and a negative amount: what is before its sign, and behind it."""
    (left, _, right), (minus_left, _, minus_right) = (text.partition("¤") for text in affix)
    return (left, minus_left), (right, minus_right)


def _either(negative: ir.BooleanValue, texts: tuple[str, str]) -> ir.StringValue:
    plus, minus = texts
    return ibis.literal(plus) if plus == minus else negative.ifelse(minus, plus)


def _digits(number: ir.DecimalValue, places: int) -> ir.StringValue:
    # Rounded as a decimal, half away from zero; as a double of at most 15 digits it then prints as it is.
    rounded = number.abs().round(places).cast(dt.float64)
    return _formatted(f"{{:,.{places}f}}", rounded)


def _digits_by_row(number: ir.DecimalValue, currency: ir.StringValue) -> ir.StringValue:
    odd = {code: get_currency_precision(code) for code in map(str, Locale("en").currencies)}
    by_places = {
        places: [code for code, own in odd.items() if own == places] for places in set(odd.values()) - {2}
    }
    cases = [(currency.isin(sorted(codes)), _digits(number, places)) for places, codes in by_places.items()]
    return ibis.cases(*cases, else_=_digits(number, 2))


def _signs_by_row(currency: ir.StringValue, locale: Locale) -> ir.StringValue:
    signs = {code: get_currency_symbol(code, locale=locale) for code in map(str, locale.currencies)}
    return currency.cases(
        *((code, sign) for code, sign in sorted(signs.items()) if sign != code), else_=currency
    )
