"""Klaviyo's webhooks: how a message is proved and what it says. No request is made here.

https://developers.klaviyo.com/en/docs/working_with_system_webhooks. The signature is over the body followed by the text
of the header with the time; that time has been seen five hours off from the one in the body, and how long Klaviyo tries
again is not published, so the window is wide: a copy of a message is known by the names of its events.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from ...core.consent import ConsentState
from ...core.model import InboundEvent
from ..webhooks import ForgedError, MalformedError, Webhooks, fits

_WINDOW: Final = timedelta(days=1)
_MOST: Final = 1_000  # events of one message
_STATES: Final = {
    "event:klaviyo.unsubscribed_from_email_marketing": ConsentState.UNSUBSCRIBED,
    "event:klaviyo.marked_email_as_spam": ConsentState.SUPPRESSED,
    "event:klaviyo.manually_suppressed_from_email_marketing": ConsentState.SUPPRESSED,
}
_HINTS: Final = (
    "event:klaviyo.bounced_email",  # for good, or not: the profile tells
    "event:klaviyo.subscribed_to_email_marketing",
)
WATCHED: Final = (*_STATES, *_HINTS)
"""The topics that concern consent."""


class KlaviyoWebhooks(Webhooks):
    """Reads what Klaviyo posts about profiles."""

    signs = True

    def prove(
        self, headers: Mapping[str, str], body: bytes, *, url: str, secrets: Sequence[str], now: datetime
    ) -> None:
        """Raise ForgedError unless a secret signed the body and the header's time, and the body is no older than a day."""
        del url
        signed = body + headers.get("klaviyo-timestamp", "").encode()
        if not fits(secrets, signed, headers.get("klaviyo-signature", "")):
            raise ForgedError("the message's signature fits none of the secrets")
        try:
            sent = datetime.fromisoformat(json.loads(body)["meta"]["timestamp"])
            age = abs(now - (sent if sent.tzinfo else sent.replace(tzinfo=UTC)))
        except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
            raise ForgedError("the message does not say when it was sent") from None
        if age > _WINDOW:
            raise ForgedError(f"the message was sent more than {_WINDOW.days} day from now")

    def read(self, body: bytes, content_type: str) -> Sequence[InboundEvent]:
        """Give the events of a message that concern consent.

        What cannot be read takes nobody's opt-out along: it is left out, and pulls tell it. Raises MalformedError where
        nothing else is left.
        """
        if "json" not in content_type.partition(";")[0].lower():
            raise MalformedError("the message is no JSON")
        try:
            events = json.loads(body)["data"]
        except (ValueError, TypeError, KeyError, RecursionError):
            raise MalformedError("the message cannot be read as JSON with events") from None
        if not isinstance(events, list) or len(events) > _MOST:
            raise MalformedError(f"the message holds no array of at most {_MOST} events")
        found: list[InboundEvent] = []
        problem: MalformedError | None = None
        for each in events:
            try:
                event = _event(each)
            except MalformedError as error:
                problem = error
            else:
                found += [event] if event is not None else []
        if problem is not None and not found:
            raise problem
        return found


def _event(said: Any) -> InboundEvent | None:
    """Read one event; None for what says nothing of anybody's consent."""
    try:
        topic = said["topic"]
        if topic not in WATCHED:
            return None
        event = said["payload"]["data"]
        name = next((each for each in (said.get("external_id"), event.get("id")) if _is_name(each)), None)
        record = event["relationships"]["profile"]["data"]["id"]
        occurred_at = datetime.fromisoformat(event["attributes"]["datetime"]).astimezone(UTC)
    except (TypeError, KeyError, ValueError, OverflowError, AttributeError):
        raise MalformedError("an event names no topic, no profile or no time") from None
    if name is None or not _is_name(record):
        raise MalformedError("an event has no name, or names no profile")
    return InboundEvent(
        key=f"{topic}|{name}",
        address="",
        record_id=record,
        occurred_at=occurred_at,
        status=topic.removeprefix("event:klaviyo."),
        state=_STATES.get(topic),
    )


def _is_name(said: object) -> bool:
    return isinstance(said, str) and said != ""
