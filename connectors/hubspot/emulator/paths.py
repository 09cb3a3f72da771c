"""Where HubSpot's endpoints are: each in the form with a version number, and in those with a date behind the resource.

Templates alone. The date-based forms came on 2026-03-30; each works for eighteen months.
"""

from collections.abc import Sequence

from ...emulator import Handler

DATES = ("2026-03", "2026-09")
Endpoint = tuple[str, str, Handler]


def _forms(numbered: str, dated: str) -> list[str]:
    return [numbered, *(dated.format(date=date) for date in DATES)]


CONTACTS = _forms("/crm/v3/objects/contacts", "/crm/objects/{date}/contacts")
PROPERTIES = _forms("/crm/v3/properties/contacts", "/crm/properties/{date}/contacts")
LISTS = _forms("/crm/v3/lists", "/crm/lists/{date}")
PREFERENCES = _forms("/communication-preferences/v4", "/communication-preferences/{date}")
PREFERENCES_V3 = ["/communication-preferences/v3"]
PREFERENCES_RESUBSCRIBE = ["/communication-preferences/2026-09"]
WEBHOOKS = _forms("/webhooks/v3/{app_id}", "/app-webhooks/{date}/{{app_id}}")
DETAILS = _forms("/account-info/v3/details", "/account-info/{date}/details")


def under(bases: Sequence[str], method: str, rest: str, handler: Handler) -> list[Endpoint]:
    """Give one endpoint under each form of its base."""
    return [(method, base + rest, handler) for base in bases]
