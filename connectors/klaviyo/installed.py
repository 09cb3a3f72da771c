"""The webhooks that an account has: https://developers.klaviyo.com/en/docs/webhooks_api_overview.

Only customers with Advanced KDP, and apps, may have them. Nothing is read of their messages here: that is `webhooks`.
"""

import secrets
from collections.abc import Sequence
from typing import Any, Final

from ...core.errors import AuthenticationError, UnsupportedFeatureError
from ..transport import RefusedRequestError
from ..webhooks import InstalledWebhook
from .api import Api
from .webhooks import WATCHED

_FORBIDDEN: Final = (
    "Klaviyo lets only accounts with Advanced KDP have webhooks, with a key that may write them. Without, each run reads"
    " who left: run `segue pull` as often as opt-outs are to arrive."
)


class Hooks:
    """Makes, lists and removes webhooks."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def install(self, url: str) -> InstalledWebhook:
        """Have everything that concerns consent posted, signed with a new secret."""
        try:
            page = self._api.get("webhooks", "/webhook-topics")
        except AuthenticationError:
            raise UnsupportedFeatureError(_FORBIDDEN) from None
        topics = [each["id"] for each in page["data"] if each["id"] in WATCHED]
        secret = secrets.token_urlsafe(32)
        data = {
            "type": "webhook",
            "attributes": {"name": "Segue", "endpoint_url": url, "secret_key": secret},
            "relationships": {
                "webhook-topics": {"data": [{"type": "webhook-topic", "id": topic} for topic in topics]}
            },
        }
        made = self._api.send("POST", "webhooks", "/webhooks", data)["data"]
        return _installed(made, topics, secret)

    def installed(self) -> Sequence[InstalledWebhook]:
        """Give all webhooks of the account."""
        try:
            pages = list(self._api.pages("webhooks", "/webhooks", {}))
        except AuthenticationError:
            raise UnsupportedFeatureError(_FORBIDDEN) from None
        return [_installed(each, _topics(each), None) for page, _ in pages for each in page["data"]]

    def remove(self, webhook_id: str) -> None:
        """Take one away; one that is gone already is no error."""
        try:
            self._api.delete("webhooks", f"/webhooks/{webhook_id}")
        except RefusedRequestError as refused:
            if refused.status != 404:
                raise


def _installed(webhook: Any, topics: Sequence[str], secret: str | None) -> InstalledWebhook:
    url = webhook["attributes"]["endpoint_url"]
    return InstalledWebhook(id=str(webhook["id"]), url=url, events=tuple(topics), secret=secret)


def _topics(webhook: Any) -> list[str]:
    related = (webhook.get("relationships") or {}).get("webhook-topics") or {}
    return [each["id"] for each in related.get("data") or ()]
