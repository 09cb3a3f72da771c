"""The emulated Klaviyo's system webhooks: topics, hooks, and what is delivered to them, signed.

Only accounts with `advanced_kdp` have them. A delivery holds an array of events, here of one; its signature
is the HMAC of the body followed by the text of the header Klaviyo-Timestamp, an HTTP date which has been seen five hours
off. How often the real one tries is not published: at the worst once.
"""

import hashlib
import hmac
import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import format_datetime
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from ...emulator import Answer, Call, Handler, RefusedError
from ...webhook_sender import WebhookSender
from .account import Account
from .answers import by_status, chosen, document, invalid, missing, own_link, related, resource, stamp
from .event_endpoints import event_shown
from .events import Event
from .pages import after, numbered, page
from .profile_endpoints import refuse_include

_TOPICS: Mapping[str, str] = {
    "event:klaviyo.received_email": "Received Email",
    "event:klaviyo.opened_email": "Opened Email",
    "event:klaviyo.clicked_email": "Clicked Email",
    "event:klaviyo.bounced_email": "Bounced Email",
    "event:klaviyo.dropped_email": "Dropped Email",
    "event:klaviyo.marked_email_as_spam": "Marked Email as Spam",
    "event:klaviyo.subscribed_to_email_marketing": "Subscribed to Email Marketing",
    "event:klaviyo.unsubscribed_from_email_marketing": "Unsubscribed from Email Marketing",
    "event:klaviyo.manually_suppressed_from_email_marketing": "Manually Suppressed from Email Marketing",
}
_TOPIC_OF: Mapping[str, str] = {metric: topic for topic, metric in _TOPICS.items()}
_SECRET = 16  # characters
_SHOWN_FROM = Call(method="POST", path="", base_url="https://a.klaviyo.com")  # deliveries answer no call


@dataclass(slots=True)
class Webhook:
    """One hook."""

    id: str
    name: str
    description: str | None
    url: str
    secret: str
    topics: Sequence[str]
    created: datetime

    def prove(self, body: bytes, at: datetime, *, skew: timedelta) -> dict[str, str]:
        """Give the headers that prove a body at an instant."""
        said = format_datetime(at + skew, usegmt=True)
        signature = hmac.new(self.secret.encode(), body + said.encode(), hashlib.sha256).hexdigest()
        return {"klaviyo-signature": signature, "klaviyo-timestamp": said, "klaviyo-webhook-id": self.id}


class WebhookEndpoints:
    """Handlers over one account, and the ear that hears of its events."""

    def __init__(self, account: Callable[[], Account], sender: WebhookSender) -> None:
        self._current = account
        self._sender = sender
        self._hooks: dict[str, Webhook] = {}

    @property
    def _account(self) -> Account:
        return self._current()

    def clear(self) -> None:
        """Forget all hooks."""
        self._hooks.clear()

    def endpoints(self) -> Sequence[tuple[str, str, Handler]]:
        """Give method, path template and handler of each."""
        return [
            ("GET", "/api/webhook-topics", self._topics),
            ("GET", "/api/webhooks", self._index),
            ("POST", "/api/webhooks", self._create),
            ("DELETE", "/api/webhooks/{id}", self._drop),
        ]

    def _allowed(self) -> None:
        if not self._account.settings.advanced_kdp:
            raise RefusedError(by_status(403))

    def _topics(self, call: Call) -> Answer:
        self._allowed()
        shown = [resource(call, "webhook-topic", topic, "webhook-topics") for topic in _TOPICS]
        return document({"data": shown, "links": own_link(call)})

    def _index(self, call: Call) -> Answer:
        self._allowed()
        refuse_include(call)
        rows = numbered(list(self._hooks.values()), self._account.clock.now(), after(call))
        return document(page(call, rows, lambda hook: _shown(call, hook), size=100))

    def _create(self, call: Call) -> Answer:
        self._allowed()
        data = self._account.body_of(call)
        attributes = data["attributes"]
        topics = [each["id"] for each in data["relationships"]["webhook-topics"].get("data", [])]
        unknown = sorted(set(topics) - set(_TOPICS))
        if unknown or not topics:
            detail = f"There is no topic {unknown[0]}." if unknown else "At least one topic is needed."
            raise invalid(detail, pointer="/data/relationships/webhook-topics")
        if not _is_https(attributes["endpoint_url"]):
            raise invalid("The URL must be one of https.", pointer="/data/attributes/endpoint_url")
        if len(attributes["secret_key"]) < _SECRET:
            raise invalid(f"The secret needs {_SECRET} characters.", pointer="/data/attributes/secret_key")
        hook = Webhook(
            id=str(uuid.uuid5(uuid.NAMESPACE_URL, f"webhook {call.number}")),
            name=attributes["name"],
            description=attributes.get("description"),
            url=attributes["endpoint_url"],
            secret=attributes["secret_key"],
            topics=topics,
            created=self._account.clock.now(),
        )
        self._hooks[hook.id] = hook
        return document({"data": _shown(call, hook), "links": own_link(call)}, 201)

    def _drop(self, call: Call) -> Answer:
        self._allowed()
        if self._hooks.pop(call.parameters["id"], None) is None:  # what is on its way to it still arrives
            raise missing("webhook", call.parameters["id"])
        return Answer(status=204)

    def hear(self, event: Event) -> None:
        """Tell every hook that wants to know."""
        if not self._hooks:
            return
        topic, account = _TOPIC_OF.get(event.metric.name, ""), self._account
        skew = timedelta(seconds=account.settings.webhook_skew_seconds)
        for hook in self._hooks.values():
            if topic in hook.topics:
                body = _delivery(hook, topic, event, account.clock.now())
                self._sender.post(
                    self._address(hook),
                    body,
                    {"content-type": "application/json"},
                    partial(hook.prove, skew=skew),
                )

    def _address(self, hook: Webhook) -> str:
        """Give where a hook's deliveries go: to its URL, or to the same path of a local receiver."""
        instead, parts = self._account.settings.deliver_to, urlsplit(hook.url)
        if not instead:
            return hook.url
        return instead.rstrip("/") + parts.path + (f"?{parts.query}" if parts.query else "")


def _delivery(hook: Webhook, topic: str, event: Event, now: datetime) -> bytes:
    shown = {name: part for name, part in event_shown(_SHOWN_FROM, event).items() if name != "links"}
    rows = [{"external_id": event.id, "topic": topic, "payload": {"data": shown}}]
    meta = {"klaviyo_webhook_id": hook.id, "timestamp": stamp(now), "klaviyo_account_id": "SANDBX"}
    return json.dumps({"data": rows, "meta": meta}).encode()


def _is_https(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme == "https" and bool(parts.hostname)


def _shown(call: Call, hook: Webhook) -> dict[str, Any]:
    attributes = {
        "name": hook.name,
        "description": hook.description,
        "endpoint_url": hook.url,
        "enabled": True,
        "created_at": stamp(hook.created),
        "updated_at": stamp(hook.created),
    }
    topics = [{"type": "webhook-topic", "id": each} for each in hook.topics]
    return resource(
        call,
        "webhook",
        hook.id,
        "webhooks",
        attributes=chosen(call, "webhook", attributes),
        relationships=related(call, f"webhooks/{hook.id}", {"webhook-topics": topics}),
    )
