"""Mailchimp's webhooks: how a message is proved and what it says. No request is made here.

https://mailchimp.com/developer/marketing/guides/sync-audience-data-webhooks/ for the form's fields, and
https://mailchimp.com/developer/marketing/docs/webhooks/ for the signature, which hooks made before 2026 lack.
"""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final
from urllib.parse import parse_qsl

from ...core.consent import ConsentState
from ...core.model import InboundEvent
from ..webhooks import WINDOW, ForgedError, MalformedError, Webhooks, fits

_SIGNATURE: Final = re.compile(r"t=(\d{1,12}),v1=([0-9a-f]{64})")
_FORM: Final = "application/x-www-form-urlencoded"
_LONGEST: Final = 320  # letters of an address: 64, the @, 255
_YEARS: Final = range(2001, 2200)  # Mailchimp began in the first; times of others are nobody's
_FIELDS: Final = 1_000  # an audience has 80 fields at most; each may come in several parts

# Whom a message is about, by its type.
_ADDRESS: Final = {
    "subscribe": "data[email]",
    "unsubscribe": "data[email]",
    "cleaned": "data[email]",
    "upemail": "data[new_email]",
}
# These say nothing of anybody's consent: a new address comes as `upemail`, and values come with the next pull.
# Every field that we write would be told as a `profile`.
_SILENT: Final = ("profile", "campaign")

# Whom and what we want to hear of. Other tools unsubscribe people by the API too; what we write ourselves is told as
# well then, and known already.
EVENTS: Final = dict.fromkeys(_ADDRESS, True) | dict.fromkeys(_SILENT, False)
SOURCES: Final = {"user": True, "admin": True, "api": True}


class MailchimpWebhooks(Webhooks):
    """Reads what Mailchimp posts about an audience."""

    signs = True

    def prove(
        self,
        headers: Mapping[str, str],
        body: bytes,
        *,
        url: str,  # noqa: ARG002 - is not signed
        secrets: Sequence[str],
        now: datetime,
    ) -> None:
        """Raise ForgedError unless a secret signed the time and the body, the time as the header has it."""
        given = _SIGNATURE.fullmatch(headers.get("x-mailchimp-signature", ""))
        if given is None:
            raise ForgedError("the message has no signature of Mailchimp's")
        stamp, signature = given.groups()
        if not fits(secrets, f"{stamp}.".encode() + body, signature):
            raise ForgedError("the message's signature fits none of the secrets")
        if abs(now.timestamp() - int(stamp)) > WINDOW.total_seconds():
            raise ForgedError(f"the message was signed more than {WINDOW.seconds} seconds from now")

    def read(self, body: bytes, content_type: str) -> Sequence[InboundEvent]:
        """Give the one event of a form, or none where it says nothing of consent. Raises MalformedError."""
        if content_type.partition(";")[0].strip().lower() != _FORM:
            raise MalformedError("the message is no form")
        try:
            said = dict(
                parse_qsl(
                    body.decode(),
                    keep_blank_values=True,
                    encoding="utf-8",
                    errors="strict",
                    max_num_fields=_FIELDS,
                )
            )
        except ValueError:
            raise MalformedError("the message is no form that can be read") from None
        kind = said.get("type", "")
        if kind in _SILENT:
            return []
        if kind not in _ADDRESS:
            raise MalformedError("the message's type is none that Mailchimp is known to send")
        address, fired_at = said.get(_ADDRESS[kind], "").strip(), _time(said.get("fired_at", ""))
        if "@" not in address or len(address) > _LONGEST or not address.isprintable():
            raise MalformedError(f"the message of type {kind} has no address")
        previous = said.get("data[old_email]", "").strip() if kind == "upemail" else ""
        return [
            InboundEvent(
                key="|".join(
                    (
                        kind,
                        said.get("data[id]", said.get("data[new_id]", "")),
                        address.lower(),
                        said["fired_at"],
                    )
                ),
                address=address,
                occurred_at=fired_at,
                status=kind,
                state=_state(kind, said.get("data[reason]", "")),
                previous_address=previous or None,
            )
        ]


def _state(kind: str, reason: str) -> ConsentState | None:
    """Give what an event makes of somebody who left: a complaint and a bounce end mail for good, as `cleaned` does.

    That an unsubscription names a complaint as its reason stands in no document of Mailchimp's; taken as said, it
    mails less.
    """
    if kind == "cleaned" or (kind == "unsubscribe" and reason == "abuse"):
        return ConsentState.SUPPRESSED
    return ConsentState.UNSUBSCRIBED if kind == "unsubscribe" else None


def _time(text: str) -> datetime:
    """Read Mailchimp's time, which is UTC by all that is known."""
    with suppress(ValueError):
        time = datetime.strptime(text, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
        if time.year in _YEARS:
            return time
    raise MalformedError("the message has no time that can be read")
