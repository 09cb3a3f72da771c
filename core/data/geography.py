"""Countries and currencies: the names that shops use, in several languages, and which currency belongs where.

Lives here: what CLDR (through babel) and a short list of aliases know. Must not: change a row.

Decisions. The Channel Islands have no code of their own: they become JE, Jersey, the larger of the two; Guernsey
differs from it in nothing that matters here (currency GBP, outside the EU). A group of countries (`European
Community`) is no country. A name that means different countries in two languages means the one it has in English.
"""

from datetime import date
from functools import cache
from typing import Final

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.types as ir
import pyarrow as pa
from babel import Locale
from babel.core import get_global
from babel.numbers import get_territory_currencies

from .casting import clean

LANGUAGES: Final = (
    "en",
    "de",
    "fr",
    "es",
    "it",
    "nl",
    "pt",
    "da",
    "sv",
    "nb",
    "fi",
    "pl",
    "cs",
    "hu",
    "ro",
    "el",
    "tr",
)

_ALIASES: Final = {
    "america": "US",
    "bosnia": "BA",
    "channel islands": "JE",
    "czech republic": "CZ",
    "eire": "IE",
    "el": "GR",
    "england": "GB",
    "great britain": "GB",
    "hong kong": "HK",
    "ireland republic of": "IE",
    "ivory coast": "CI",
    "korea": "KR",
    "macedonia": "MK",
    "northern ireland": "GB",
    "republic of ireland": "IE",
    "rsa": "ZA",
    "russian federation": "RU",
    "scotland": "GB",
    "south korea": "KR",
    "the netherlands": "NL",
    "holland": "NL",
    "uae": "AE",
    "uk": "GB",
    "united states of america": "US",
    "usa": "US",
    "viet nam": "VN",
    "wales": "GB",
}
# Parts of CLDR's list that are no country: pseudo-locales, outlying oceans, unions.
_NO_COUNTRY: Final = frozenset({"EU", "EZ", "QO", "UN", "XA", "XB", "ZZ"})
_SINCE: Final = date(2000, 1, 1)  # old orders are in old money
_FOREVER: Final = date(9999, 12, 31)
_SIGNS: Final = {
    "€": "EUR",
    "£": "GBP",
    "¥": "JPY",
    "zł": "PLN",
    "kč": "CZK",
    "₺": "TRY",
    "₹": "INR",
    "us$": "USD",
}


def key(name: ir.StringValue) -> ir.StringValue:
    """Fold a country's name for the look-up: no capitals, accents, dots or double spaces."""
    folded = _strip_accents(clean(name).lower())
    return clean(folded.re_replace(r"[.,'\x{2019}()]", "").re_replace(r"[\s\-_&]+", " "))


_strip_accents = ibis.udf.scalar.builtin(
    lambda text: text, name="strip_accents", signature=((dt.string,), dt.string)
)


def country_names() -> ir.Table:
    """Give (spelling, country): names, alpha-2 and alpha-3 codes, with the ISO 3166-1 alpha-2 code of each."""
    known = _names()
    named = ibis.memtable(
        pa.table(
            {"name": pa.array(known.keys(), pa.string()), "country": pa.array(known.values(), pa.string())}
        )
    )
    folded = named.select(spelling=key(named.name), country=named.country, rank=ibis.row_number())
    # Two spellings may fold into one; the earlier is the better known.
    return folded.group_by("spelling").agg(country=folded.country.first(order_by=folded["rank"]))


def currencies_by_country() -> ir.Table:
    """Give (country, currency) for every currency that is legal tender today or was since 2000."""
    pairs = [
        (country, currency)
        for country in sorted(_countries())
        for currency in get_territory_currencies(
            country, start_date=_SINCE, end_date=_FOREVER, tender=True, non_tender=False
        )
    ]
    return ibis.memtable(
        pa.table(
            {"country": [country for country, _ in pairs], "currency": [currency for _, currency in pairs]}
        )
    )


def currency_names() -> ir.Table:
    """Give (spelling, currency): ISO 4217 codes and the signs that belong to one currency alone ($ does not)."""
    codes = [str(code) for code in Locale("en").currencies]
    known = {code.lower(): code for code in codes} | _SIGNS
    return ibis.memtable(pa.table({"spelling": list(known), "currency": list(known.values())}))


@cache
def _countries() -> frozenset[str]:
    """All codes of two letters that stand for a country."""
    return frozenset(
        code
        for code in map(str, Locale("en").territories)
        if len(code) == 2 and code.isalpha() and code not in _NO_COUNTRY
    )


@cache
def _names() -> dict[str, str]:
    """Spellings by falling trust: codes, aliases, English, then the other languages."""
    codes = _countries()
    names: dict[str, str] = {code: code for code in sorted(codes)}
    for alias, targets in sorted(get_global("territory_aliases").items()):
        if len(alias) == 3 and alias.isalpha() and len(targets) == 1 and targets[0] in codes:
            names.setdefault(alias, targets[0])
    for alias, code in _ALIASES.items():
        names.setdefault(alias, code)
    for language in LANGUAGES:
        for code, name in Locale(language).territories.items():
            if code in codes:
                names.setdefault(name, code)
    return names
