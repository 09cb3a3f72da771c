"""The webhooks of the emulated HubSpot app: settings, subscriptions, and what is sent of what happens to contacts.

How a delivery travels, and goes wrong, is the sender's. Settled by sources: subscriptions are the app's, made with the
developer key, inactive unless told; a delivery is a JSON array of fewer than 100 events; signatures v1 and v3; a property
change is told of one property; privacyDeletion comes with deletion. Unsettled, and worst in the adversarial mode:

* event ids come again after a hundred events; permissive: each is used once;
* a `propertyChange` without a name is refused, in both modes;
* `attemptNumber` stays 0 in further attempts: the bytes are those of the first one.
"""

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import unquote, urlsplit

from ...emulator import Answer, Call, Handler
from ...webhook_sender import WebhookSender
from .account import Account
from .answers import Json, answered, batch, body_of, error, inputs_of, invalid, missing, stamp, text_in, whole
from .paths import WEBHOOKS, Endpoint, under
from .records import Happening
from .settings import SignatureVersion

EVENTS = frozenset(
    f"contact.{kind}" for kind in ("creation", "deletion", "privacyDeletion", "propertyChange", "merge")
)
_MOST = 1000
_PER_DELIVERY = 99
_REPEATED_IDS = 100
_DECODED = re.compile(r"%(?:3A|2F|3F|40|21|24|27|28|29|2A|2C|3B)", re.IGNORECASE)


@dataclass(slots=True, kw_only=True)
class Subscription:
    """What the app wants to be told of."""

    id: int
    event: str
    name: str | None
    active: bool
    created: datetime
    updated: datetime

    def shown(self) -> Json:
        """Show it as the API does."""
        named = {} if self.name is None else {"propertyName": self.name}
        return {
            "id": str(self.id),
            "eventType": self.event,
            **named,
            "active": self.active,
            "createdAt": stamp(self.created),
            "updatedAt": stamp(self.updated),
        }


class WebhookEndpoints:
    """Handlers over one app, which one account has installed."""

    def __init__(self, account: Callable[[], Account], sender: WebhookSender) -> None:
        self._current = account
        self._sender = sender
        self.clear()

    @property
    def _account(self) -> Account:
        return self._current()

    def clear(self) -> None:
        """Forget settings and subscriptions."""
        self._settings: Json | None = None
        self._subscriptions: dict[int, Subscription] = {}
        self._made = 0
        self._events: list[Json] = []
        self._told = 0

    def endpoints(self) -> Sequence[Endpoint]:
        """Give method, path template and handler of each."""
        one = "/subscriptions/{subscription_id}"
        acts: list[tuple[str, str, Handler]] = [
            ("GET", "/settings", self._read_settings),
            ("PUT", "/settings", self._write_settings),
            ("DELETE", "/settings", self._drop_settings),
            ("GET", "/subscriptions", self._listing),
            ("POST", "/subscriptions", self._create),
            ("POST", "/subscriptions/batch/update", self._update_batch),
            ("GET", one, self._read),
            ("PATCH", one, self._update),
            ("DELETE", one, self._drop),
        ]
        return [each for method, rest, act in acts for each in under(WEBHOOKS, method, rest, act)]

    # Settings

    def _read_settings(self, call: Call) -> Answer:
        if self._settings is None:
            raise missing(call, "The app has no webhook settings")
        return answered(self._settings)

    def _write_settings(self, call: Call) -> Answer:
        body = body_of(call)
        url, throttling = text_in(call, body, "targetUrl"), body.get("throttling")
        if not _is_url(url):
            raise invalid(call, "targetUrl must be a URL")
        if not isinstance(throttling, dict):
            raise invalid(call, "throttling must be an object")
        most = whole(
            call, throttling.get("maxConcurrentRequests"), "maxConcurrentRequests", least=1, most=1000
        )
        now = stamp(self._account.clock.now())
        made = now if self._settings is None else self._settings["createdAt"]
        self._settings = {
            "targetUrl": url,
            "throttling": {"maxConcurrentRequests": most},
            "createdAt": made,
            "updatedAt": now,
        }
        return answered(self._settings)

    def _drop_settings(self, _: Call) -> Answer:
        self._settings = None
        return Answer(status=204)

    # Subscriptions

    def _listing(self, _: Call) -> Answer:
        return answered({"results": [each.shown() for each in self._subscriptions.values()]})

    def _create(self, call: Call) -> Answer:
        body = body_of(call)
        event, name = text_in(call, body, "eventType"), body.get("propertyName")
        if event not in EVENTS:
            raise invalid(
                call, f"eventType must be one of {', '.join(sorted(EVENTS))}: others are not emulated"
            )
        if (event == "contact.propertyChange") is not isinstance(name, str):
            raise invalid(call, "propertyName belongs to a propertyChange, which needs one")
        if len(self._subscriptions) >= _MOST:
            raise invalid(call, f"An app can have at most {_MOST} subscriptions")
        if any((each.event, each.name) == (event, name) for each in self._subscriptions.values()):
            return error(409, "CONFLICT", "This subscription already exists", number=call.number)
        now = self._account.clock.now()
        self._made += 1
        made = Subscription(
            id=self._made,
            event=event,
            name=name,
            active=body.get("active") is True,
            created=now,
            updated=now,
        )
        self._subscriptions[made.id] = made
        self._listen()
        return answered(made.shown(), 201)

    def _read(self, call: Call) -> Answer:
        return answered(self._subscription_of(call).shown())

    def _update(self, call: Call) -> Answer:
        subscription, body = self._subscription_of(call), body_of(call)
        self._switch(call, subscription, body.get("active"))
        return answered(subscription.shown())

    def _update_batch(self, call: Call) -> Answer:
        changed = []
        for item in inputs_of(call, body_of(call)):
            number = item.get("id")
            subscription = self._subscriptions.get(number) if isinstance(number, int) else None
            if subscription is None:
                raise missing(call, f"There is no subscription {number!r}")
            self._switch(call, subscription, item.get("active"))
            changed.append(subscription.shown())
        return batch(changed, self._account.clock.now())

    def _drop(self, call: Call) -> Answer:
        del self._subscriptions[self._subscription_of(call).id]
        self._listen()
        return Answer(status=204)

    def _switch(self, call: Call, subscription: Subscription, active: Any) -> None:
        if not isinstance(active, bool):
            raise invalid(call, "active must be true or false")
        subscription.active, subscription.updated = active, self._account.clock.now()
        self._listen()

    def _subscription_of(self, call: Call) -> Subscription:
        text = call.parameters["subscription_id"]
        found = self._subscriptions.get(int(text) if text.isascii() and text.isdigit() else 0)
        if found is None:
            raise missing(call, f"There is no subscription {text}")
        return found

    # Telling

    def _listen(self) -> None:
        """Hear of what happens only while somebody wants to know."""
        wanted = any(each.active for each in self._subscriptions.values())
        self._account.records.listener = self._hear if wanted else None

    def _hear(self, happening: Happening) -> None:
        event = f"contact.{happening.kind}"
        for each in self._subscriptions.values():
            if each.active and each.event == event and each.name in {None, happening.name}:
                self._events.append(self._event(each, happening))

    def _event(self, subscription: Subscription, happening: Happening) -> Json:
        settings = self._account.settings
        self._told += 1
        number = self._told if settings.permissive else self._told % _REPEATED_IDS
        changed = {}
        if subscription.name is not None:
            changed = {"propertyName": happening.name, "propertyValue": happening.value}
        return {
            "eventId": number,
            "subscriptionId": subscription.id,
            "portalId": settings.portal_id,
            "appId": settings.app_id,
            "occurredAt": int(self._account.clock.now().timestamp() * 1000),
            "subscriptionType": subscription.event,
            "attemptNumber": 0,
            "objectId": happening.contact,
            **changed,
            "changeSource": happening.source,
            **happening.more,
        }

    def send(self) -> None:
        """Send what has happened since the last time, for a request or an act is over."""
        events, self._events = self._events, []
        if self._settings is None:
            return
        url: str = self._settings["targetUrl"]
        settings = self._account.settings
        prove = proof(url, settings.client_secret, settings.signature)
        for start in range(0, len(events), _PER_DELIVERY):
            body = json.dumps(events[start : start + _PER_DELIVERY]).encode()
            self._sender.post(url, body, {"content-type": "application/json"}, prove)


def proof(url: str, secret: str, version: SignatureVersion) -> Callable[[bytes, datetime], Mapping[str, str]]:
    """Give what signs a body at an instant."""

    def first(body: bytes, _: datetime) -> Mapping[str, str]:
        digest = hashlib.sha256(secret.encode() + body).hexdigest()
        return {"x-hubspot-signature": digest, "x-hubspot-signature-version": "v1"}

    def third(body: bytes, at: datetime) -> Mapping[str, str]:
        stamped = str(int(at.timestamp() * 1000))
        text = b"POST" + decoded(url).encode() + body + stamped.encode()
        digest = base64.b64encode(hmac.new(secret.encode(), text, hashlib.sha256).digest()).decode()
        return {"x-hubspot-signature-v3": digest, "x-hubspot-request-timestamp": stamped}

    return first if version is SignatureVersion.V1 else third


def decoded(url: str) -> str:
    """Decode of a URL what the signature wants decoded, and nothing else."""
    return _DECODED.sub(lambda found: unquote(found.group()), url)


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname)
