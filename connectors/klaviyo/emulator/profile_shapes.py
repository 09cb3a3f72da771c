"""How the emulated Klaviyo shows a profile, and what its subscriptions look like when they are asked for."""

from datetime import datetime
from typing import Any

from ...emulator import Call
from .answers import chosen, related, resource, stamp, stamp_or_none
from .profiles import ATTRIBUTES, IDENTIFIERS, LOCATION, Profile
from .standing import NEVER, Standing


def profile_shown(call: Call, profile: Profile, *, joined: datetime | None = None) -> dict[str, Any]:
    """Give one profile; subscriptions and predictions are there when the query asks for them, the latter empty."""
    attributes: dict[str, Any] = {name: profile.values.get(name) for name in (*IDENTIFIERS, *ATTRIBUTES)}
    attributes |= {
        "created": stamp(profile.created),
        "updated": stamp(profile.updated),
        "last_event_date": stamp_or_none(profile.last_event),
        "location": {name: profile.location.get(name) for name in LOCATION},
        "properties": dict(profile.properties),
    }
    if joined is not None:
        attributes["joined_group_at"] = stamp(joined)
    extra = call.query.get("additional-fields[profile]", "").split(",")
    if "subscriptions" in extra:
        attributes["subscriptions"] = _subscriptions(profile.standing)
    if "predictive_analytics" in extra:
        attributes["predictive_analytics"] = {}
    links = related(call, f"profiles/{profile.id}", {"lists": None, "segments": None})
    shown = chosen(call, "profile", attributes)
    return resource(call, "profile", profile.id, "profiles", attributes=shown, relationships=links)


def _subscriptions(standing: Standing | None) -> dict[str, Any]:
    return {
        "email": {"marketing": _marketing(standing)},
        "sms": {
            "marketing": {"can_receive_sms_marketing": False, "consent": NEVER},
            "transactional": {"can_receive_sms_transactional": False, "consent": NEVER},
        },
        "mobile_push": {"marketing": {"can_receive_push_marketing": False, "consent": NEVER}},
    }


def _marketing(standing: Standing | None) -> dict[str, Any]:
    if standing is None:
        return {
            "can_receive_email_marketing": False,
            "consent": NEVER,
            "suppression": [],
            "list_suppressions": [],
        }
    return {
        "can_receive_email_marketing": standing.mailable,
        "consent": standing.consent,
        "consent_timestamp": stamp_or_none(standing.consented_at),
        "last_updated": stamp_or_none(standing.changed_at),
        "method": standing.method,
        "method_detail": "",
        "custom_method_detail": standing.source,
        "double_optin": standing.double_optin,
        "suppression": [
            {"reason": reason, "timestamp": stamp(at)} for reason, at in standing.suppressions.items()
        ],
        "list_suppressions": [
            {"list_id": list_id, "reason": "UNSUBSCRIBE", "timestamp": stamp(at)}
            for list_id, at in standing.list_suppressions.items()
        ],
    }
