"""E-mail subscriptions of a portal: who opted out, opting out, and subscribing whoever was just made.

HubSpot ties an opt-out to the address and not to the record: https://developers.hubspot.com/docs/api-reference/latest/communication-preferences.
So a contact who left and gets another address can be mailed there, and what is asked and said here is about addresses.
"""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from ...core.model import Grant
from .sdk import Endpoints

_STATUSES: Final = "/communication-preferences/v4/statuses"
_CHANNEL: Final = "EMAIL"


class Subscriptions:
    """The subscriptions of a portal. `subscription` is the type to which whoever is made is subscribed, "" for none."""

    def __init__(self, api: Endpoints, *, subscription: str, legal_basis: str) -> None:
        self._api = api
        self._subscription = subscription
        self._legal_basis = legal_basis

    def has_left(self, address: str) -> bool:
        """Say whether an address opted out of all e-mail."""
        found = self._api.call("GET", f"{_path(address)}/unsubscribe-all", channel=_CHANNEL)
        return any(each.get("status", "UNSUBSCRIBED") == "UNSUBSCRIBED" for each in found["results"])

    def opt_out(self, address: str) -> bool:
        """Opt an address out of all e-mail, and say whether it is."""
        self._api.call("POST", f"{_path(address)}/unsubscribe-all", channel=_CHANNEL)
        return self.has_left(address)

    def subscribe(self, address: str, grant: Grant) -> None:
        """Subscribe an address to the type of the setting, on the evidence of its grant; sent once."""
        if self._subscription:
            body = self._request(grant)
            self._api.call("POST", _path(address), body, retry=False)

    def _request(self, grant: Grant) -> Mapping[str, Any]:
        return {
            "subscriptionId": int(self._subscription),
            "statusState": "SUBSCRIBED",
            "channel": _CHANNEL,
            "legalBasis": self._legal_basis,
            "legalBasisExplanation": f"Agreed on {grant.granted_at:%Y-%m-%d}, by {grant.source}.",
        }


def _path(address: str) -> str:
    return f"{_STATUSES}/{quote(address, safe='')}"
