"""HubSpot's webhooks: how a message is proved and what it says. No request is made here.

https://developers.hubspot.com/docs/apps/developer-platform/build-apps/authentication/request-validation for the signatures,
https://developers.hubspot.com/docs/api-reference/latest/webhooks/guide for the events. A message names records and no
addresses. The first signature carries no time, so that a copy of a message is taken in again; what it says is known
then. The SDK's own check decodes nothing of the address and takes times of the future.
"""

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import unquote

from ...core.consent import ConsentState
from ...core.model import InboundEvent
from ..webhooks import WINDOW, ForgedError, MalformedError, Webhooks
from .payload import BOUNCES, OPT_OUT

_DECODED: Final = re.compile(r"%(?:3A|2F|3F|40|21|24|27|28|29|2A|2C|3B)", re.IGNORECASE)
_MOST: Final = 100  # events of one message
_NO: Final = frozenset({"", "false", "None"})
_GONE: Final = frozenset({"deletion", "privacyDeletion", "merge", "restore"})
_YEARS: Final = range(2001, 2200)
WATCHED: Final = (OPT_OUT, *BOUNCES)
"""The properties whose changes tell that somebody left. Each type of mail has one more of its own."""


class HubSpotWebhooks(Webhooks):
    """Reads what HubSpot posts about contacts."""

    signs = True

    def prove(
        self, headers: Mapping[str, str], body: bytes, *, url: str, secrets: Sequence[str], now: datetime
    ) -> None:
        """Raise ForgedError unless a secret signed the body: with address and time (v3), or alone (v1)."""
        if signature := headers.get("x-hubspot-signature-v3"):
            stamp = headers.get("x-hubspot-request-timestamp", "")
            signed = b"POST" + decoded(url).encode() + body + stamp.encode()
            if not _fits(secrets, lambda secret: _third(secret, signed), signature):
                raise ForgedError("the message's signature fits none of the secrets")
            if not stamp.isdecimal() or abs(now.timestamp() - int(stamp) / 1000) > WINDOW.total_seconds():
                raise ForgedError(f"the message was signed more than {WINDOW.seconds} seconds from now")
            return
        if headers.get("x-hubspot-signature-version", "v1") != "v1" or not (
            signature := headers.get("x-hubspot-signature", "")
        ):
            raise ForgedError("the message has no signature of HubSpot's for contacts")
        if not _fits(secrets, lambda secret: hashlib.sha256(secret.encode() + body).hexdigest(), signature):
            raise ForgedError("the message's signature fits none of the secrets")

    def read(self, body: bytes, content_type: str) -> Sequence[InboundEvent]:
        """Give the events of a message that concern consent or where somebody is. Raises MalformedError."""
        if content_type.partition(";")[0].strip().lower() != "application/json":
            raise MalformedError("the message is no JSON")
        try:
            events = json.loads(body)
        except (ValueError, RecursionError):
            raise MalformedError("the message cannot be read as JSON") from None
        if not isinstance(events, list) or len(events) > _MOST:
            raise MalformedError(f"the message is no array of at most {_MOST} events")
        found = [_event(each) for each in events]
        return [each for each in found if each is not None]


def decoded(url: str) -> str:
    """Decode of an address what the signature wants decoded, and nothing else."""
    return _DECODED.sub(lambda found: unquote(found.group()), url)


def _third(secret: str, signed: bytes) -> str:
    return base64.b64encode(hmac.new(secret.encode(), signed, hashlib.sha256).digest()).decode()


def _fits(secrets: Sequence[str], sign: Any, signature: str) -> bool:
    """Say whether one of the secrets made a signature; all are tried, so that none shows by time."""
    found = False
    for secret in secrets:
        found |= hmac.compare_digest(sign(secret).encode(), signature.encode())
    return found


def _event(said: object) -> InboundEvent | None:
    """Read one event; None for what says nothing of anybody's consent."""
    if not isinstance(said, dict):
        raise MalformedError("an event is no object")
    of, _, kind = str(said.get("subscriptionType") or said.get("eventType") or "").partition(".")
    if of != "contact":
        return None
    record, name = said.get("newObjectId") or said.get("objectId"), str(said.get("propertyName") or "")
    value, occurred_at = str(said.get("propertyValue")), _time(said.get("occurredAt"))
    if not isinstance(record, int) or isinstance(record, bool):
        raise MalformedError(f"the event {kind} names no record"[:80])
    state = None
    if kind == "propertyChange":
        if name.startswith(OPT_OUT) and value not in _NO:
            state = ConsentState.UNSUBSCRIBED
        elif name in BOUNCES and value not in _NO:
            state = ConsentState.SUPPRESSED
        elif name != "email" and not name.startswith(OPT_OUT) and name not in BOUNCES:
            return None
    elif kind not in _GONE:
        return None
    # Its own ids are not unique.
    parts = (said.get("portalId"), said.get("subscriptionId"), record, name, said.get("occurredAt"), value)
    return InboundEvent(
        key="|".join(map(str, (kind, *parts))),
        address="",
        record_id=str(record),
        occurred_at=occurred_at,
        status=name or kind,
        state=state,
    )


def _time(milliseconds: object) -> datetime:
    try:
        moment = datetime.fromtimestamp(float(str(milliseconds)) / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        raise MalformedError("an event has no time") from None
    if moment.year not in _YEARS:
        raise MalformedError("an event has no time")
    return moment
