"""What the properties of the emulated portal are and what each may hold. No contact is known here.

https://developers.hubspot.com/docs/api-reference/latest/crm/properties/guide: all values are texts; "" clears; a date is a
day or the milliseconds of its midnight in UTC; several options are parted by semicolons, a leading one appends.
"""

import re
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, Final

NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,99}")
TYPES: Final = frozenset({"bool", "date", "datetime", "enumeration", "number", "phone_number", "string"})
_ADDRESS: Final = re.compile(r"[^\s@,;:<>()\[\]\"\\]+@[^\s@.]+(\.[^\s@.]+)+")
_NUMBER: Final = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?")
_TEXT: Final = 65_536


class ValueRefusedError(Exception):
    """A value that its property cannot hold; `code` is HubSpot's."""

    def __init__(self, name: str, code: str) -> None:
        super().__init__(f"{name}: {code}")
        self.name = name
        self.code = code


@dataclass(slots=True, kw_only=True)
class Property:
    """One property of contacts."""

    name: str
    label: str
    type: str = "string"
    field_type: str = "text"
    group: str = "contactinformation"
    description: str = ""
    options: list[dict[str, Any]] = field(default_factory=list)
    unique: bool = False
    own: bool = False  # HubSpot's
    read_only: bool = False

    def shown(self) -> dict[str, Any]:
        """Give it as the API does."""
        return {
            "name": self.name,
            "label": self.label,
            "type": self.type,
            "fieldType": self.field_type,
            "groupName": self.group,
            "description": self.description,
            "options": self.options,
            "hasUniqueValue": self.unique,
            "hidden": False,
            "formField": False,
            "hubspotDefined": self.own,
            "calculated": False,
            "displayOrder": -1,
            "archived": False,
            "modificationMetadata": {
                "archivable": not self.own,
                "readOnlyDefinition": self.own,
                "readOnlyValue": self.read_only,
            },
        }

    def stored(self, value: Any, before: str) -> str:
        """Give what is stored for a value over what is there. Raises ValueRefusedError."""
        if self.read_only:
            raise ValueRefusedError(self.name, "READ_ONLY_VALUE")
        text = _text(value)
        match self.type:
            case _ if text == "":
                return ""
            case "number" if not _NUMBER.fullmatch(text):
                raise ValueRefusedError(self.name, "INVALID_LONG")
            case "date":
                return self._day(text)
            case "bool" if text not in {"true", "false"}:
                raise ValueRefusedError(self.name, "INVALID_BOOLEAN")
            case "enumeration":
                return self._chosen(text, before)
            case _ if len(text) > _TEXT:
                raise ValueRefusedError(self.name, "PROPERTY_VALUE_TOO_LONG")
        return self._address(text) if self.name == "email" else text

    def _address(self, text: str) -> str:
        if not _ADDRESS.fullmatch(text):
            raise ValueRefusedError(self.name, "INVALID_EMAIL")
        return text.lower()

    def _day(self, value: str) -> str:
        if re.fullmatch(r"-?\d{9,14}", value):
            moment = datetime.fromtimestamp(int(value) / 1000, UTC)
            if moment.timestamp() % 86_400:
                raise ValueRefusedError(self.name, "INVALID_DATE")
            return moment.date().isoformat()
        try:
            return date.fromisoformat(value).isoformat()
        except ValueError:
            raise ValueRefusedError(self.name, "INVALID_DATE") from None

    def _chosen(self, value: str, before: str) -> str:
        known = {option["value"] for option in self.options}
        if self.field_type != "checkbox":
            if value not in known:
                raise ValueRefusedError(self.name, "INVALID_OPTION")
            return value
        chosen = [each for each in value.split(";") if each]
        if set(chosen) - known:
            raise ValueRefusedError(self.name, "INVALID_OPTION")
        held = before.split(";") if value.startswith(";") and before else []
        return ";".join(dict.fromkeys([*held, *chosen]))


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def standard() -> list[Property]:
    """Give HubSpot's own properties, as far as they are emulated."""
    texts = ("email", "firstname", "lastname", "phone", "city", "country", "zip", "lifecyclestage")
    read_only = (
        ("hs_object_id", "number"),
        ("createdate", "datetime"),
        ("lastmodifieddate", "datetime"),
        ("hs_email_optout", "bool"),
        ("hs_email_hard_bounce_reason_enum", "enumeration"),
        ("hs_email_quarantined", "bool"),
        ("hs_email_last_open_date", "datetime"),
        ("hs_email_last_click_date", "datetime"),
        ("hs_marketable_status", "bool"),
    )
    return [
        *(Property(name=name, label=name, own=True) for name in texts),
        *(Property(name=name, label=name, type=kind, own=True, read_only=True) for name, kind in read_only),
    ]


def mirror(subscription: int, label: str) -> Property:
    """Give the property that mirrors who opted out of one type of mail."""
    name = f"hs_email_optout_{subscription}"
    return Property(name=name, label=f"Opted out of email: {label}", type="bool", own=True, read_only=True)
