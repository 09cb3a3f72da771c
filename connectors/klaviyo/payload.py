"""What Klaviyo calls things: tables and pure translations between our nouns and its JSON, both ways.

No request is made here and no decision about consent is taken.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from ...core.consent import ConsentState
from ...core.model import Change, FieldType, RemoteContact

TAGS: Final = "segue_tags"
"""The list property that holds our tags: Klaviyo's own tags are labels of lists and campaigns, and not of profiles."""
ATTRIBUTES: Final = frozenset(
    {"email", "phone_number", "external_id", "first_name", "last_name", "organization", "locale", "title"}
    | {"image", "location", "created", "updated", TAGS}
)
SUBSCRIBED: Final = "SUBSCRIBED"
LEFT: Final = frozenset({ConsentState.UNSUBSCRIBED, ConsentState.SUPPRESSED})

_PAST: Final = timedelta(minutes=2)
_UNSUBSCRIBE: Final = "UNSUBSCRIBE"
_WHOLE: Final = range(-(2**63), 2**64)


def value_of(text: str | None, kind: FieldType | None) -> str | int | float | None:
    """Give a field's value as Klaviyo compares it in a segment: a number as one, all else as text; None clears.

    A whole number keeps all its digits, which a float has only up to 2^53.
    """
    if text is None or kind is not FieldType.NUMBER:
        return text
    number = Decimal(text)
    return int(number) if number == number.to_integral_value() else float(number)


def is_sendable(properties: Mapping[str, Any]) -> bool:
    """Whether a request can hold these values: its whole numbers have at most 64 bits."""
    return all(not isinstance(value, int) or value in _WHOLE for value in properties.values())


def text_of(value: object) -> str:
    """Give the text of a property's value, "" for what is none."""
    match value:
        case bool():
            return "true" if value else "false"
        case float() if value.is_integer():
            return str(int(value))
        case str() | int() | float():
            return str(value)
        case _:
            return ""


def properties_of(change: Change, types: Mapping[str, FieldType]) -> dict[str, Any]:
    """Give a change's fields as properties."""
    return {tag: value_of(text, types.get(tag)) for tag, text in change.fields.items()}


def update(
    record_id: str, properties: Mapping[str, Any], patch: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Give one profile to be changed. It is named by its id alone, so that nobody can be made who could be mailed."""
    profile: dict[str, Any] = {
        "type": "profile",
        "id": record_id,
        "attributes": {"properties": dict(properties)},
    }
    if patch:
        profile["meta"] = {"patch_properties": dict(patch)}
    return profile


def import_job(profiles: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Give a job that writes many profiles."""
    return {"type": "profile-bulk-import-job", "attributes": {"profiles": {"data": list(profiles)}}}


def subscription_job(changes: Iterable[Change], *, list_id: str, now: datetime) -> dict[str, Any]:
    """Give a job that subscribes those who agreed, as of when they did.

    Klaviyo takes no time of the future, by its own clock: who agreed a moment ago did so a little earlier.
    `historical_import` belongs to the job and not to a profile, where it is ignored without a word; with it nobody is
    asked to confirm what the shop has evidence of.
    """
    latest = now - _PAST
    agreed = [
        (change.address, min(change.grant.granted_at, latest))
        for change in changes
        if change.grant is not None
    ]
    profiles = [_subscribing(address, SUBSCRIBED, at) for address, at in agreed]
    attributes = {"custom_source": "Segue", "historical_import": True, "profiles": {"data": profiles}}
    return _job("profile-subscription-bulk-create-job", attributes, list_id=list_id)


def unsubscription_job(addresses: Iterable[str]) -> dict[str, Any]:
    """Give a job that unsubscribes from everything: it names no list, and from one that is not theirs it would too."""
    profiles = [_subscribing(address, "UNSUBSCRIBED", None) for address in addresses]
    return _job("profile-subscription-bulk-delete-job", {"profiles": {"data": profiles}}, list_id="")


def _job(kind: str, attributes: Mapping[str, Any], *, list_id: str) -> dict[str, Any]:
    job: dict[str, Any] = {"type": kind, "attributes": attributes}
    if list_id:
        job["relationships"] = {"list": {"data": {"type": "list", "id": list_id}}}
    return job


def _subscribing(address: str, consent: str, at: datetime | None) -> dict[str, Any]:
    marketing = {"consent": consent} | ({"consented_at": at.astimezone(UTC).isoformat()} if at else {})
    attributes = {"email": address, "subscriptions": {"email": {"marketing": marketing}}}
    return {"type": "profile", "attributes": attributes}


def deletion_job(address: str) -> dict[str, Any]:
    """Give a job that deletes whoever has an address, for good."""
    profile = {"data": {"type": "profile", "attributes": {"email": address}}}
    return {"type": "data-privacy-deletion-job", "attributes": {"profile": profile}}


def remote_contact(
    profile: Mapping[str, Any], *, only: Collection[str] | None, shows_tags: bool
) -> RemoteContact:
    """Give a profile as a contact, with the values of `only` these fields, or of all.

    Tags that are lists are not known from a profile: it does not show which lists it is on.

    Whoever left one list counts as gone from all: a mapping knows no lists. Whoever did neither that nor was suppressed
    is one whom Klaviyo mails, asked or not: `can_receive_email_marketing` says no more than that.
    """
    attributes = profile["attributes"]
    properties: Mapping[str, Any] = attributes.get("properties") or {}
    subscriptions = attributes.get("subscriptions") or {}
    marketing = (subscriptions.get("email") or {}).get("marketing") or {}
    state, status = _state(marketing)
    held = properties.get(TAGS)
    return RemoteContact(
        address=attributes.get("email") or "",
        state=state,
        status=status,
        fields={
            tag: text
            for tag, value in properties.items()
            if tag != TAGS and (only is None or tag in only) and (text := text_of(value))
        },
        tags=frozenset(map(str, held if isinstance(held, list) else [held] if held else ()))
        if shows_tags
        else None,
        changed_at=instant(attributes.get("updated")),
        opted_in_at=instant(marketing.get("consent_timestamp")) if status == SUBSCRIBED else None,
        name=profile["id"],
        record_id=profile["id"],
    )


def _state(marketing: Mapping[str, Any]) -> tuple[ConsentState, str]:
    reasons = [str(each.get("reason")) for each in marketing.get("suppression") or ()]
    consent = str(marketing.get("consent") or "NEVER_SUBSCRIBED")
    if others := [reason for reason in reasons if reason != _UNSUBSCRIBE]:
        return ConsentState.SUPPRESSED, others[0]
    if reasons or consent == "UNSUBSCRIBED" or marketing.get("list_suppressions"):
        return ConsentState.UNSUBSCRIBED, "UNSUBSCRIBED"
    return ConsentState.SUBSCRIBED, consent


def instant(text: str | None) -> datetime | None:
    """Read a time as Klaviyo writes it."""
    return datetime.fromisoformat(text) if text else None
