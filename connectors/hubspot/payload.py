"""What HubSpot calls things: tables and pure translations between our nouns and its JSON, both ways.

No request is made here and no decision about consent is taken.
"""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from ...core.consent import ConsentState
from ...core.model import Change, FieldSpec, FieldType, Outcome, OutcomeStatus, RemoteContact

CUSTOMER_ID: Final = "segue_customer_id"
"""Tells our contacts apart whatever their address: HubSpot lets no two records have the same value of it."""
TAGS: Final = "segue_tags"
"""The property whose options are our tags; HubSpot has no tags of contacts."""
GROUP: Final = "segue"

OPT_OUT: Final = "hs_email_optout"
BOUNCES: Final = ("hs_email_hard_bounce_reason_enum", "hs_email_quarantined")
STATE_PROPERTIES: Final = ("email", OPT_OUT, *BOUNCES)

# https://developers.hubspot.com/docs/api-reference/latest/crm/properties/guide
_TYPES: Final = {
    FieldType.TEXT: ("string", "text"),
    FieldType.NUMBER: ("number", "number"),
    FieldType.DATE: ("date", "date"),
}
FIELD_TYPES: Final = {theirs: ours for ours, (theirs, _) in _TYPES.items()}

REASONS: Final = {
    "left": "HubSpot mails this address no more: it opted out or bounced.",
    "vanished": "This contact is no longer in the portal.",
    "address_taken": "Another contact of the portal has the address already.",
    "invalid_field": "HubSpot refused a value.",
    "lost_property": "HubSpot does not have a property any more.",
    "refused": "HubSpot refused this contact.",
}
REMEDIES: Final = {
    "left": "Nothing: only the person can come back, by a form or a link of HubSpot's.",
    "vanished": "Nothing, if it was deleted on purpose. If not, restore it in HubSpot, then `segue retry`.",
    "address_taken": "Look who has the address in HubSpot: merge the two there, then `segue retry`.",
    "invalid_field": "Correct the value in the shop, or the property's rules in HubSpot, then `segue retry`.",
    "refused": "Try again with `segue retry`. If it stays, look at the contact in HubSpot.",
}
# Codes and categories are stable; messages are for people and are never looked at.
_CODES: Final = {
    "OBJECT_NOT_FOUND": "vanished",
    "CONFLICT": "address_taken",
    "VALIDATION_ERROR": "invalid_field",
    "PROPERTY_DOESNT_EXIST": "lost_property",
    "INVALID_OPTION": "invalid_field",
}
LEFT: Final = frozenset({ConsentState.UNSUBSCRIBED, ConsentState.SUPPRESSED})


def rejected(code: str, *, seen: RemoteContact | None = None) -> Outcome:
    """Give a refusal for good, with the sentence of its code."""
    return Outcome(status=OutcomeStatus.REJECTED, code=code, reason=REASONS[code], seen=seen)


def refusal(error: Mapping[str, Any]) -> Outcome:
    """Say what HubSpot refused of one contact, by the error's category and codes."""
    said = [str(error.get("category", "")), str(error.get("subCategory") or "").rpartition(".")[2]]
    said += [str(each.get("code", "")) for each in error.get("errors") or ()]
    return rejected(next((_CODES[code] for code in reversed(said) if code in _CODES), "refused"))


def property_request(spec: FieldSpec) -> dict[str, Any]:
    """Give the body that makes a property."""
    kind, widget = _TYPES[spec.type]
    return {
        "name": spec.tag,
        "label": spec.label,
        "type": kind,
        "fieldType": widget,
        "groupName": GROUP,
        "description": spec.purpose,
        "formField": False,
    }


def option(tag: str) -> dict[str, Any]:
    """Give a tag as an option of the tags' property; options are parted by semicolons."""
    return {"label": tag, "value": option_value(tag), "hidden": False}


def option_value(tag: str) -> str:
    """Give the inner value of a tag."""
    return tag.replace(";", ",")


def properties_of(change: Change) -> dict[str, str]:
    """Give fields as they are written: all values are texts, and an empty one clears."""
    return {tag: text or "" for tag, text in change.fields.items()}


def creation(change: Change, tags: Iterable[str]) -> dict[str, Any]:
    """Give one contact to be made. Nothing in it speaks of consent: that belongs to the address."""
    properties = properties_of(change) | {
        "email": change.address,
        CUSTOMER_ID: customer_id(change.contact_key),
    }
    if held := list(tags):
        properties[TAGS] = ";".join(map(option_value, held))
    return {"properties": properties, "associations": [], "objectWriteTraceId": str(change.contact_key)}


def update(record_id: str, change: Change, tags: Iterable[str]) -> dict[str, Any]:
    """Give one contact to be changed; tags are added to those that it has."""
    properties = properties_of(change) | {CUSTOMER_ID: customer_id(change.contact_key)}
    if added := list(tags):
        properties[TAGS] = "".join(f";{option_value(tag)}" for tag in added)
    return {"id": record_id, "properties": properties, "objectWriteTraceId": str(change.contact_key)}


def customer_id(contact_key: int) -> str:
    """Give the value of the property that is ours alone: a keyed hash of the shop's own id, which stays in the shop."""
    return f"{contact_key & 0xFFFF_FFFF_FFFF_FFFF:016x}"


def remote_contact(
    record: Mapping[str, Any], *, fields: Collection[str], names: Mapping[str, str]
) -> RemoteContact:
    """Give a record as a contact with the values of these fields; `names` are our tags by option value.

    Whoever opted out of any type of mail counts as gone from all: a mapping knows no types. Whoever did neither that
    nor bounce is one whom HubSpot mails, asked or not.
    """
    properties: Mapping[str, str | None] = record["properties"]
    opted_out = [name for name, value in properties.items() if name.startswith(OPT_OUT) and value == "true"]
    bounced = [name for name in BOUNCES if properties.get(name) not in {None, "", "false"}]
    state, status = ConsentState.SUBSCRIBED, "contactable"
    if opted_out:
        state, status = ConsentState.UNSUBSCRIBED, min(opted_out)
    if bounced:
        state, status = ConsentState.SUPPRESSED, bounced[0]
    if record.get("archived"):
        state, status = ConsentState.UNSUBSCRIBED, "archived"
    held = [value for value in (properties.get(TAGS) or "").split(";") if value]
    return RemoteContact(
        address=properties.get("email") or "",
        state=state,
        status=status,
        fields={tag: value for tag in fields if (value := properties.get(tag))},
        tags=frozenset(names.get(value, value) for value in held),
        changed_at=instant(record.get("updatedAt")),
        name=str(record["id"]),
        record_id=str(record["id"]),
    )


def instant(text: str | None) -> datetime | None:
    """Read a time as HubSpot writes it."""
    return datetime.fromisoformat(text) if text else None
