"""Contact properties of the emulated HubSpot: their definitions, what each accepts, and what is stored of it.

Rules about one property and one value; records and HTTP are elsewhere. All values are texts. Unsettled, and worst in the
adversarial mode: a value that is JSON, but no text, is refused; permissive: it is written as text.
"""

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from .answers import Json, stamp
from .consent import TYPES, mirror_of

NAME = re.compile(r"[a-z][a-z0-9_]{0,99}")
TEXT_LENGTH = 65_536
UNIQUE_PROPERTIES = 10
FIELD_TYPES: Mapping[str, frozenset[str]] = {
    "string": frozenset({"text", "textarea", "html", "file", "phonenumber", "calculation_equation"}),
    "phone_number": frozenset({"phonenumber", "text"}),
    "number": frozenset({"number", "text", "calculation_equation"}),
    "date": frozenset({"date"}),
    "datetime": frozenset({"date"}),
    "bool": frozenset({"booleancheckbox", "calculation_equation"}),
    "enumeration": frozenset({"select", "radio", "checkbox", "booleancheckbox", "calculation_equation"}),
}
_ADDRESS = re.compile(r"[^\s@,;:<>()\[\]\"\\]+@[^\s@.]+(\.[^\s@.]+)+")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_MILLISECONDS = re.compile(r"-?[0-9]{1,15}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
STAGES = (
    "subscriber",
    "lead",
    "marketingqualifiedlead",
    "salesqualifiedlead",
    "opportunity",
    "customer",
    "evangelist",
    "other",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One value that HubSpot refuses."""

    name: str
    code: str
    message: str

    def as_json(self) -> Json:
        """Show it as an entry of an error's `errors`."""
        return {"message": self.message, "code": self.code, "context": {"propertyName": [self.name]}}


class ValueFaultsError(Exception):
    """A write whose values are not all good."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        super().__init__("values")
        self.faults = list(faults)


class _WrongError(Exception):
    """A wrong value: its code and sentence."""


@dataclass(slots=True, kw_only=True)
class Definition:
    """One property. Its name, type and uniqueness cannot change."""

    name: str
    label: str
    type: str
    field_type: str
    group: str
    created: datetime
    updated: datetime
    description: str = ""
    options: list[Json] = field(default_factory=list)
    unique: bool = False
    hidden: bool = False
    form_field: bool = False
    display_order: int = -1
    read_only: bool = False
    ours: bool = False  # HubSpot's own
    archived_at: datetime | None = None

    @property
    def values(self) -> list[str]:
        """The values of its options."""
        return [option["value"] for option in self.options]

    def shown(self) -> Json:
        """Show it as the API does."""
        archived = {"archivedAt": stamp(self.archived_at)} if self.archived_at else {}
        return {
            "updatedAt": stamp(self.updated),
            "createdAt": stamp(self.created),
            **archived,
            "name": self.name,
            "label": self.label,
            "type": self.type,
            "fieldType": self.field_type,
            "description": self.description,
            "groupName": self.group,
            "options": [dict(option) for option in self.options],
            "displayOrder": self.display_order,
            "calculated": False,
            "externalOptions": False,
            "archived": self.archived_at is not None,
            "hasUniqueValue": self.unique,
            "hidden": self.hidden,
            "hubspotDefined": self.ours,
            "modificationMetadata": {
                "archivable": not self.ours,
                "readOnlyDefinition": self.ours,
                "readOnlyOptions": self.ours,
                "readOnlyValue": self.read_only,
            },
            "formField": self.form_field,
        }


class Definitions:
    """All properties and groups of contacts. An archived one keeps its name."""

    def __init__(self, now: datetime) -> None:
        self.active: dict[str, Definition] = {each.name: each for each in _standard(now)}
        self.archived: dict[str, Definition] = {}
        self.groups: dict[str, str] = {
            "contactinformation": "Contact information",
            "emailinformation": "Email information",
        }
        self.writable = frozenset(name for name, each in self.active.items() if not each.read_only)

    def add(self, definition: Definition) -> None:
        """Take in a property whose name is free."""
        self.active[definition.name] = definition
        self.writable |= {definition.name}

    def archive(self, name: str, now: datetime) -> None:
        """Put a property away; values stay where they are, unseen."""
        definition = self.active.pop(name)
        definition.archived_at = now
        self.archived[name] = definition
        self.writable -= {name}

    @property
    def unique(self) -> list[str]:
        """The names of properties that hold each value once, the e-mail address aside."""
        return [name for name, each in self.active.items() if each.unique and name != "email"]

    def accepted(
        self, given: Mapping[str, Any], present: Mapping[str, str], *, lenient: bool
    ) -> dict[str, str]:
        """Give what is stored of some values; "" clears. Raises ValueFaultsError naming every wrong one."""
        stored, faults = {}, []
        for name, raw in given.items():
            definition = self.active.get(name)
            if definition is None:
                faults.append(
                    Fault(
                        name=name, code="PROPERTY_DOESNT_EXIST", message=f'Property "{name}" does not exist'
                    )
                )
                continue
            if definition.read_only:
                message = f'"{name}" is a read only property; its value cannot be set'
                faults.append(Fault(name=name, code="READ_ONLY_VALUE", message=message))
                continue
            value = json.dumps(raw) if lenient and isinstance(raw, int | float) else raw
            try:
                stored[name] = _stored(definition, value, present.get(name, ""))
            except _WrongError as wrong:
                code, message = wrong.args
                faults.append(Fault(name=name, code=code, message=message))
        if faults:
            raise ValueFaultsError(faults)
        return stored


def _stored(definition: Definition, value: Any, present: str) -> str:
    if not isinstance(value, str):
        raise _WrongError("INVALID_STRING", f"{value!r} is not a string")
    if value == "":
        return ""
    if definition.name == "email":
        return _email(value)
    if definition.name == "lifecyclestage":
        return _stage(_choice(definition, value, present), present)
    return _ACCEPT[definition.type](definition, value, present)


def is_address(text: Any) -> bool:
    """Whether something is an e-mail address."""
    return isinstance(text, str) and _ADDRESS.fullmatch(text) is not None


def _email(value: str) -> str:
    if not is_address(value):
        raise _WrongError("INVALID_EMAIL", f"Email address {value} is invalid")
    return value.lower()


def _stage(value: str, present: str) -> str:
    """Move forward only: a step back leaves the stage alone, and says nothing."""
    return present if present in STAGES and STAGES.index(value) < STAGES.index(present) else value


def _text(_: Definition, value: str, __: str) -> str:
    if len(value) > TEXT_LENGTH:
        raise _WrongError("STRING_TOO_LONG", f"Property values can have at most {TEXT_LENGTH} characters")
    return value


def _number(_: Definition, value: str, __: str) -> str:
    if _NUMBER.fullmatch(value) is None or not math.isfinite(float(value)):
        raise _WrongError("INVALID_NUMBER", f"{value} was not a valid number")
    return value


def _bool(_: Definition, value: str, __: str) -> str:
    if value not in {"true", "false"}:
        raise _WrongError("INVALID_BOOLEAN", f"{value} was not a valid boolean")
    return value


def _date(_: Definition, value: str, __: str) -> str:
    try:
        if _MILLISECONDS.fullmatch(value):
            instant = _EPOCH + timedelta(milliseconds=int(value))
            if instant.time() != time():
                raise _WrongError("INVALID_DATE", f"{value} is at {instant.isoformat()}, not at midnight UTC")
            return instant.date().isoformat()
        if len(value) == 10:
            return date.fromisoformat(value).isoformat()
    except (ValueError, OverflowError):
        pass
    raise _WrongError("INVALID_DATE", f"{value} was not a valid date")


def _datetime(_: Definition, value: str, __: str) -> str:
    try:
        if _MILLISECONDS.fullmatch(value):
            return stamp(_EPOCH + timedelta(milliseconds=int(value)))
        instant = datetime.fromisoformat(value)
        if instant.tzinfo is not None:
            return stamp(instant.astimezone(UTC))
    except (ValueError, OverflowError):
        pass
    raise _WrongError("INVALID_DATE", f"{value} was not a valid datetime")


def _choice(definition: Definition, value: str, present: str) -> str:
    """Take one option, or of a checkbox several; a leading semicolon adds to those that are there."""
    allowed = definition.values
    if definition.field_type != "checkbox":
        if value not in allowed:
            raise _not_allowed(value, allowed)
        return value
    adds = value.startswith(";")
    chosen = [part for part in value.split(";") if part]
    for part in chosen:
        if part not in allowed:
            raise _not_allowed(part, allowed)
    kept = present.split(";") if adds and present else []
    return ";".join(dict.fromkeys([*kept, *chosen]))


def _not_allowed(value: str, allowed: list[str]) -> _WrongError:
    return _WrongError(
        "INVALID_OPTION", f"{value} was not one of the allowed options: [{', '.join(allowed)}]"
    )


_ACCEPT: Mapping[str, Callable[[Definition, str, str], str]] = {
    "string": _text,
    "phone_number": _text,
    "number": _number,
    "date": _date,
    "datetime": _datetime,
    "bool": _bool,
    "enumeration": _choice,
}


def _standard(now: datetime) -> list[Definition]:
    """Give HubSpot's own properties that somebody who syncs comes across."""

    def make(name: str, kind: str = "string", field_type: str = "text", **more: Any) -> Definition:
        label = name.removeprefix("hs_").replace("_", " ").capitalize()
        group = "emailinformation" if name.startswith("hs_email") else "contactinformation"
        return Definition(
            name=name,
            label=label,
            type=kind,
            field_type=field_type,
            group=group,
            created=now,
            updated=now,
            ours=True,
            **more,
        )

    stages = [_option(value, number) for number, value in enumerate(STAGES)]
    reason = [_option("UNKNOWN_USER", 0)]
    mirrors = [mirror_of(number) for number in TYPES]
    return [
        make("email", unique=True, form_field=True),
        *(make(name, form_field=True) for name in ("firstname", "lastname", "city", "country", "zip")),
        make("phone", "string", "phonenumber", form_field=True),
        make("lifecyclestage", "enumeration", "radio", options=stages),
        make("createdate", "datetime", "date", read_only=True),
        make("lastmodifieddate", "datetime", "date", read_only=True),
        make("hs_object_id", "number", "number", read_only=True),
        make("hs_additional_emails", "enumeration", "checkbox", read_only=True),
        make("hs_marketable_status", "enumeration", "booleancheckbox", read_only=True),
        *(make(name, "bool", "booleancheckbox", read_only=True) for name in ("hs_email_optout", *mirrors)),
        make("hs_email_quarantined", "bool", "booleancheckbox", read_only=True),
        make("hs_email_hard_bounce_reason_enum", "enumeration", "select", read_only=True, options=reason),
        *(
            make(name, "number", "number", read_only=True)
            for name in ("hs_email_bounce", "hs_email_open", "hs_email_click")
        ),
        make("hs_email_last_open_date", "datetime", "date", read_only=True),
        make("hs_email_last_click_date", "datetime", "date", read_only=True),
    ]


def _option(value: str, order: int) -> Json:
    return {"label": value.capitalize(), "value": value, "displayOrder": order, "hidden": False}
