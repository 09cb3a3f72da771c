"""The emulated Mailchimp's first look at a body: every known key must hold the type that the specification gives it.

Types alone are judged here; unknown keys are ignored, as the real one ignores them, and values are the endpoints' own.
What lies under a key of free content (merge fields, event properties) is not looked into.
"""

from collections.abc import Mapping
from typing import Any

_FREE = frozenset({"merge_fields", "properties", "params", "interests"})
_KEYS: Mapping[tuple[type, ...], str] = {
    (
        str,
    ): "email_address email_type status status_if_new language ip_signup ip_opt timestamp_signup timestamp_opt "
    "occurred_at name type tag default_value help_text date_format phone_format method path operation_id body "
    "marketing_permission_id text permission_reminder url",
    (
        list,
    ): "members tags members_to_add members_to_remove static_segment operations choices marketing_permissions",
    (
        dict,
    ): "merge_fields properties params interests location options contact campaign_defaults events sources",
    (
        bool,
    ): "vip required public enabled update_existing sync_tags is_syncing email_type_option double_optin "
    "subscribe unsubscribe profile cleaned upemail campaign user admin api",
    (int,): "display_order default_country size",
    (int, float): "latitude longitude",
}
_KINDS: Mapping[str, tuple[type, ...]] = {
    name: kinds for kinds, names in _KEYS.items() for name in names.split()
}
_WORDS: Mapping[type, str] = {
    str: "string",
    list: "array",
    dict: "object",
    bool: "boolean",
    int: "integer",
    float: "number",
    type(None): "NULL",
}


def mismatch(body: Mapping[str, Any], at: str = "") -> tuple[str, str] | None:
    """Find the first key that holds the wrong type: (its path, Mailchimp's sentence), None when all is well."""
    for name, value in body.items():
        kinds = _KINDS.get(name)
        if kinds is None:
            continue
        where = f"{at}{name}"
        if type(value) not in kinds:
            return where, f"Schema describes {_WORDS[kinds[-1]]}, {_WORDS[type(value)]} found instead"
        if name in _FREE:
            continue
        inner = None
        if isinstance(value, dict):
            inner = mismatch(value, f"{where}.")
        elif isinstance(value, list):
            inner = _mismatch_in(value, where)
        if inner is not None:
            return inner
    return None


def _mismatch_in(items: list[Any], at: str) -> tuple[str, str] | None:
    for number, item in enumerate(items):
        if isinstance(item, dict) and (found := mismatch(item, f"{at}.{number}.")) is not None:
            return found
    return None
