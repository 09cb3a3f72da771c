"""The webhooks that an audience has: making, listing and removing them.

https://mailchimp.com/developer/marketing/api/list-webhooks/. Mailchimp tries a new one's address with a GET.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ...core.errors import DestinationError
from ..transport import RefusedRequestError
from ..webhooks import InstalledWebhook
from .pages import of_audience
from .webhooks import EVENTS, SOURCES

if TYPE_CHECKING:
    from .sdk import Endpoints


class Hooks:
    """Makes, lists and removes the webhooks of one audience."""

    def __init__(self, api: "Endpoints", audience: str) -> None:
        self._api = api
        self._audience = audience

    def install(self, url: str) -> InstalledWebhook:
        """Make one of every event that concerns a contact. Two cannot differ in the query of their addresses alone."""
        wanted = {"url": url, "events": EVENTS, "sources": SOURCES}
        try:
            return _installed(self._api.lists_once.create_list_webhook(self._audience, wanted))
        except RefusedRequestError as error:
            raise DestinationError(
                f"Mailchimp refused the webhook ({error.code}). It tries the address with a GET, from the internet,"
                " that must be answered 200: let `segue serve` run and be reachable there. An audience has room for one"
                " webhook of an address: `segue webhooks list` shows those that it has."
            ) from None

    def installed(self) -> Sequence[InstalledWebhook]:
        """Give all that the audience has."""
        found = of_audience(self._api.lists.get_list_webhooks, self._audience)()
        return [_installed(each) for each in found["webhooks"]]

    def remove(self, webhook_id: str) -> None:
        """Take one away; one that is gone already is no error."""
        try:
            self._api.lists.delete_list_webhook(self._audience, webhook_id)
        except RefusedRequestError as error:
            if error.status != 404:
                raise


def _installed(hook: Mapping[str, Any]) -> InstalledWebhook:
    """Read a webhook as the API shows it."""
    return InstalledWebhook(
        id=hook["id"],
        url=hook["url"],
        events=tuple(name for name, on in hook.get("events", {}).items() if on),
        secret=hook.get("signing_secret"),
    )
