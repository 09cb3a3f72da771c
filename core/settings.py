"""The kinds of value that a setting can have: lengths of time, instants, zones, codes, names, secrets.

Lives here: how each is written, checked and resolved. Must not: which setting has which kind (`core.config`).
"""

import os
import re
import zoneinfo
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, WithJsonSchema

from .errors import ConfigError
from .yamlfile import mistake, suggest

_UNITS: Mapping[str, timedelta] = {
    "minute": timedelta(minutes=1),
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
    "week": timedelta(weeks=1),
}
# What CLDR lists beside countries: unions, oceans, pseudo-locales.
_NO_COUNTRY = frozenset({"EU", "EZ", "QO", "UN", "XA", "XB", "ZZ"})
# Beyond these, windows of years around a moment leave the calendar that computers have.
_EARLIEST_YEAR, _LATEST_YEAR = 1970, 2199
_PART = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)(%?)")
_DURATION = re.compile(r"\s*(\d{1,6})\s*([a-z]+?)s?\s*", re.IGNORECASE)


def parse_duration(text: str) -> timedelta:
    """Read a length of time such as "30 days", "24 hours", "2 weeks". Raises ValueError with a sentence.

    >>> parse_duration("2 weeks").days
    14
    """
    matched = _DURATION.fullmatch(text)
    if matched is None or matched[2].lower() not in _UNITS:
        # Months and years are left out on purpose: they have no fixed length, and a rule needs one.
        raise ValueError(f'"{text}" is no length of time: write e.g. "30 days", "24 hours", "2 weeks"')
    length = int(matched[1]) * _UNITS[matched[2].lower()]
    if not length:
        raise ValueError(f'"{text}" is no length of time: it must be longer than nothing')
    return length


def parse_part(text: str) -> float:
    """Read a part of many: below 1 a share, written "2%", else a whole number, written "50". Raises ValueError.

    >>> parse_part("2%"), parse_part("50")
    (0.02, 50.0)
    """
    matched = _PART.fullmatch(text)
    number = float(matched[1]) / (100 if matched[2] else 1) if matched else 0
    if matched is None or not number or (matched[2] and number >= 1) or ("." in text and not matched[2]):
        raise ValueError(f'"{text}" is no part of the contacts: write e.g. "2%" or "50"')
    return number


def resolve_secret(text: str, folder: Path) -> str:
    """Read `env:NAME` from the environment and `file:path` from a file; any other text stands for itself.

    A relative path is relative to `folder`. The end of the file's last line is not part of the secret.
    Raises ConfigError naming the variable or the file, never the value.
    """
    if text.startswith("env:"):
        name = text.removeprefix("env:")
        value = os.environ.get(name, "").strip()
        if not value:
            raise ConfigError(
                f"the environment variable {name} is not set. Set it, or write another place for this secret."
            )
        return value
    if text.startswith("file:"):
        path = folder / text.removeprefix("file:")
        try:
            value = path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "it is not UTF-8"
            raise ConfigError(f"the secret file {path} cannot be read: {why}.") from None
        if not value:
            raise ConfigError(f"the secret file {path} is empty.")
        return value
    return text


def _duration(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return parse_duration(value)
    except ValueError as error:
        raise mistake(f"{error}.") from None


def _part(value: str) -> str:
    try:
        parse_part(value)
    except ValueError as error:
        raise mistake(f"{error}.") from None
    return value


def _instant(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise mistake(
            f'"{value}" is not a time.', next_step='Write it like "2011-12-10T00:00:00Z".'
        ) from None
    if moment.tzinfo is None:
        raise mistake(f'"{value}" has no time zone.', next_step=f'Write "{moment.isoformat()}Z" for UTC.')
    if not _EARLIEST_YEAR <= moment.year <= _LATEST_YEAR:
        raise mistake(
            f'"{value}" is far from any shop\'s time.',
            next_step=f"Write a year from {_EARLIEST_YEAR} to {_LATEST_YEAR}.",
        )
    return moment.astimezone(UTC)


def _zone(value: str) -> str:
    known = zoneinfo.available_timezones()
    if value not in known:
        raise mistake(
            f'"{value}" is not a time zone.', next_step=suggest(value, known) or 'Write e.g. "Europe/Berlin".'
        )
    return value


def _currency(value: str) -> str:
    from babel import Locale

    known = Locale("en").currencies
    if value not in known:
        raise mistake(
            f'"{value}" is not an ISO 4217 currency code.', next_step='Write three capitals, e.g. "EUR".'
        )
    return value


def _country(value: str) -> str:
    from babel import Locale

    if len(value) != 2 or value in _NO_COUNTRY or value not in Locale("en").territories:
        raise mistake(
            f'"{value}" is not an ISO 3166 country code.', next_step='Write two capitals, e.g. "DE" or "GB".'
        )
    return value


def _name(value: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", value):
        raise mistake(
            f'"{value}" is not a name.',
            next_step="Names are small letters, digits and underscores, and start with a letter.",
        )
    return value


def _secret(value: str) -> str:
    if not value.startswith(("env:", "file:")):
        raise mistake("a secret does not stand in YAML.", next_step="Write env:NAME or file:path.")
    return value


def _database(value: str) -> str:
    if re.search(r"://[^/@\s]*:[^/@\s]+@|[?&]password=", value):
        raise mistake("a password does not stand in YAML.", next_step="Write the whole address as env:NAME.")
    if not value.startswith(("env:", "file:", "sqlite:///", "postgresql://")):
        raise mistake(
            "is not the address of a database.",
            next_step="Write env:NAME, sqlite:///path or postgresql://...",
        )
    return value


def _store(value: str) -> str:
    return value if value == "sqlite" else _database(value)


def _cron(value: str) -> str:
    from cronsim import CronSim, CronSimError

    try:
        # Any moment will do: an expression that leads nowhere from here, like 30 February, leads nowhere at all.
        next(CronSim(value, datetime(_EARLIEST_YEAR, 1, 1, tzinfo=UTC)))
    except (CronSimError, StopIteration) as error:
        why = f"{error}".lower() or "it never comes"
        raise mistake(
            f'"{value}" is not a cron expression: {why}.',
            next_step='Write minute, hour, day of month, month and day of week, e.g. "15 3 * * *".',
        ) from None
    return " ".join(value.split())


def _one_character(value: str) -> str:
    text = "\t" if value == "\\t" else value
    if len(text) != 1:
        raise mistake(f'"{value}" must be one character.', next_step=r'Write e.g. ";" or "\t".')
    if text in '"\r\n\0':
        raise mistake("must not be what ends a line or quotes a value.", next_step=r'Write e.g. ";" or "\t".')
    return text


def _encoding(value: str) -> str:
    try:
        "".encode(value)
    except LookupError:
        raise mistake(
            f'"{value}" is not an encoding.', next_step="Write e.g. utf-8, windows-1252 or iso-8859-1."
        ) from None
    return value


Duration = Annotated[
    timedelta,
    BeforeValidator(_duration),
    WithJsonSchema(
        {"type": "string", "pattern": r"^\d+ (minute|hour|day|week)s?$", "examples": ["30 days", "24 hours"]}
    ),
]
Instant = Annotated[
    datetime, BeforeValidator(_instant), WithJsonSchema({"type": "string", "format": "date-time"})
]
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Name = Annotated[str, AfterValidator(_name)]
TimeZone = Annotated[str, AfterValidator(_zone)]
Currency = Annotated[str, AfterValidator(_currency)]
Country = Annotated[str, AfterValidator(_country)]
Secret = Annotated[str, AfterValidator(_secret)]
DatabaseUrl = Annotated[str, AfterValidator(_database)]
StoreUrl = Annotated[str, AfterValidator(_store)]
Cron = Annotated[str, AfterValidator(_cron)]
OneCharacter = Annotated[str, AfterValidator(_one_character)]
Encoding = Annotated[str, AfterValidator(_encoding)]
Share = Annotated[float, Field(ge=0, le=1)]
# A whole number is a number to an editor.
Part = Annotated[
    str, AfterValidator(_part), WithJsonSchema({"type": ["string", "number"], "examples": ["2%", 50]})
]
# An all-digit audience id is a number to an editor, and the text that stands there to us.
Setting = Annotated[str, WithJsonSchema({"type": ["string", "number"]})]
