"""Merge fields of the emulated Mailchimp: their types, what each accepts, and what is stored of it.

Pure rules about one field and one value; members and HTTP are elsewhere. Facts from the vendor's merge-field page
(https://mailchimp.com/developer/marketing/docs/merge-fields/): a text is cut to 255 bytes without a word, everything
else is refused. Sentences follow the audience's language, so nobody can match on them.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

TAG_LENGTH = 10
TEXT_BYTES = 255
TAG_PATTERN = re.compile(r"[A-Z0-9_]+")
_DATE_FORMATS = {"MM/DD/YYYY": "%m/%d/%Y", "DD/MM/YYYY": "%d/%m/%Y"}
_URL = re.compile(r"https?://[^\s/?#.]+(\.[^\s/?#.]+)+([/?#]\S*)?", re.IGNORECASE)
_ZIP = re.compile(r"\d{5}(-\d{4})?")
_US_PHONE = re.compile(r"\(?\d{3}\)?[-. ]?\d{3}[-. ]?\d{4}")
_NUMBER = re.compile(r"\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)\s*")
_ADDRESS_PARTS = ("addr1", "city", "state", "zip")

SENTENCES: Mapping[str, tuple[str, str]] = {
    "value": ("Please enter a value", "Bitte gib einen Wert ein."),
    "number": ("Please enter a number", "Bitte gib eine Zahl ein."),
    "date": ("Please enter the date", "Bitte gib das Datum ein."),
    "birthday": ("Please enter a month and day", "Bitte gib Monat und Tag ein."),
    "url": ("Please enter a valid URL", "Bitte gib eine gültige URL ein."),
    "phone": ("Please enter a valid phone number", "Bitte gib eine gültige Telefonnummer ein."),
    "zip": ("Please enter a valid zip code", "Bitte gib eine gültige Postleitzahl ein."),
    "choice": ("Please choose one of the options", "Bitte wähle eine der Optionen."),
    "address": ("Please enter a complete address", "Bitte gib eine vollständige Adresse ein."),
    "unknown": ("This field does not exist", "Dieses Feld gibt es nicht."),
}


@dataclass(slots=True)
class MergeField:
    """One merge field of an audience. Only these lines can change after it is made: not the type."""

    merge_id: int
    tag: str
    name: str
    type: str
    required: bool = False
    default_value: str = ""
    public: bool = True
    display_order: int = 0
    help_text: str = ""
    options: dict[str, Any] = field(default_factory=dict)


class FieldError(Exception):
    """A value that Mailchimp refuses; `key` names the sentence."""

    def __init__(self, tag: str, key: str) -> None:
        super().__init__(tag)
        self.tag = tag
        self.key = key


def stored(target: MergeField, value: Any, *, cut_anywhere: bool) -> Any:
    """Give what Mailchimp keeps of a value; "" clears. Raises FieldError when it refuses.

    Where a text is cut in the middle of a character is not documented: `cut_anywhere` leaves the broken half behind.
    """
    if value is None or value == "":
        return ""
    if target.type == "text":
        return _text(target, value, cut_anywhere=cut_anywhere)
    return _ACCEPT[target.type](target, value)


def _text(target: MergeField, value: Any, *, cut_anywhere: bool) -> str:
    if isinstance(value, dict | list):
        raise FieldError(target.tag, "value")
    text = value if isinstance(value, str) else str(value)
    if len(text) * 4 <= TEXT_BYTES:
        return text  # no character is longer than four bytes
    return text.encode()[:TEXT_BYTES].decode(errors="replace" if cut_anywhere else "ignore")


def _number(target: MergeField, value: Any) -> int | float:
    kind = type(value)
    if kind is int:
        return int(value)
    if kind is not float and not (kind is str and _NUMBER.fullmatch(value)):
        raise FieldError(target.tag, "number")
    number = float(value)
    if not math.isfinite(number):
        raise FieldError(target.tag, "number")
    return int(number) if number.is_integer() else number


def _date(target: MergeField, value: Any) -> str:
    text = str(value)
    try:
        return (
            date.fromisoformat(text).isoformat()
            if re.fullmatch(r"\d{4}-\d\d-\d\d", text)
            else _local(target, text)
        )
    except ValueError:
        raise FieldError(target.tag, "date") from None


def _local(target: MergeField, text: str) -> str:
    pattern = _DATE_FORMATS[target.options.get("date_format", "MM/DD/YYYY")]
    return datetime.strptime(text, pattern).date().isoformat()  # noqa: DTZ007 - a day has no zone


def _birthday(target: MergeField, value: Any) -> str:
    pattern = "%d/%m/%Y" if target.options.get("date_format") == "DD/MM" else "%m/%d/%Y"
    try:
        datetime.strptime(f"{value}/2000", pattern)  # noqa: DTZ007 - a birthday has no zone; 2000 had a 29 February
    except ValueError:
        raise FieldError(target.tag, "birthday") from None
    return str(value)


def _matching(target: MergeField, value: Any, pattern: re.Pattern[str], key: str) -> str:
    if not isinstance(value, str) or pattern.fullmatch(value) is None:
        raise FieldError(target.tag, key)
    return value


def _phone(target: MergeField, value: Any) -> str:
    if target.options.get("phone_format") == "US":
        return _matching(target, value, _US_PHONE, "phone")
    if not isinstance(value, str):
        raise FieldError(target.tag, "phone")
    return value


def _address(target: MergeField, value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or any(not value.get(part) for part in _ADDRESS_PARTS):
        raise FieldError(target.tag, "address")
    return {"addr2": "", "country": "US", **{str(part): str(text) for part, text in value.items()}}


def _url(target: MergeField, value: Any) -> str:
    return _matching(target, value, _URL, "url")


def _zip(target: MergeField, value: Any) -> str:
    return _matching(target, value, _ZIP, "zip")


def _choice(target: MergeField, value: Any) -> str:
    if value not in target.options.get("choices", []):
        raise FieldError(target.tag, "choice")
    return str(value)


_ACCEPT: Mapping[str, Callable[[MergeField, Any], Any]] = {
    "number": _number,
    "date": _date,
    "birthday": _birthday,
    "url": _url,
    "imageurl": _url,
    "phone": _phone,
    "zip": _zip,
    "address": _address,
    "radio": _choice,
    "dropdown": _choice,
}
TYPES = frozenset({"text", *_ACCEPT})


def standard_fields() -> list[MergeField]:
    """Give the fields that a new audience starts with; the address itself is none of them."""
    return [
        MergeField(1, "FNAME", "First Name", "text", display_order=2, options={"size": 25}),
        MergeField(2, "LNAME", "Last Name", "text", display_order=3, options={"size": 25}),
        MergeField(
            3,
            "ADDRESS",
            "Address",
            "address",
            public=False,
            display_order=4,
            options={"default_country": 164},
        ),
        MergeField(
            4,
            "PHONE",
            "Phone Number",
            "phone",
            public=False,
            display_order=5,
            options={"phone_format": "none"},
        ),
        MergeField(
            5,
            "BIRTHDAY",
            "Birthday",
            "birthday",
            public=False,
            display_order=6,
            options={"date_format": "MM/DD"},
        ),
    ]
