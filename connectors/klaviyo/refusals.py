"""What Klaviyo's refusals mean: its codes and pointers as outcomes of ours, with a sentence and a remedy for each.

No request is made here.
"""

from collections.abc import Mapping
from typing import Any, Final

from ...core.errors import DestinationError
from ...core.model import Outcome, OutcomeStatus, RemoteContact
from ..transport import RefusedRequestError
from .api import error_of

_CLOCK: Final = (
    "Klaviyo refused a subscription whose time lies in the future by its own clock; nobody of that request was subscribed."
    " This machine's clock is ahead of Klaviyo's: set it right, then run again."
)
_UNSENT: Final = Outcome(status=OutcomeStatus.UNSENT)
REASONS: Final = {
    "left": "Klaviyo mails this address no more: it unsubscribed, bounced or was suppressed.",
    "vanished": "This profile is no longer in the account.",
    "address_taken": "Another profile of the account has the address already.",
    "invalid_address": "Klaviyo does not take this address.",
    "invalid_field": "Klaviyo refused a value.",
    "too_large": "This contact takes up more than the 100 KB that Klaviyo takes of one.",
    "refused": "Klaviyo refused this contact.",
}
REMEDIES: Final = {
    "left": "Nothing: only the person can come back, by a form or a link of Klaviyo's.",
    "vanished": "Nothing, if it was deleted on purpose.",
    "address_taken": "Look who has the address in Klaviyo: merge the two there, then `segue retry`.",
    "invalid_address": "Correct the address in the shop.",
    "invalid_field": "Correct the value in the shop, then `segue retry`.",
    "too_large": "Write fewer or shorter fields, then `segue retry`.",
    "refused": "Try again with `segue retry`. If it stays, look at the profile in Klaviyo.",
}
_CODES: Final = {"not_found": "vanished", "duplicate_profile": "address_taken", "invalid": "invalid_field"}


def rejected(code: str, *, seen: RemoteContact | None = None) -> Outcome:
    """Give a refusal for good, with the sentence of its code."""
    return Outcome(status=OutcomeStatus.REJECTED, code=code, reason=REASONS[code], seen=seen)


def refusal(error: Mapping[str, Any]) -> Outcome:
    """Say what Klaviyo refused of one profile, by the error's code and where it points."""
    code = _CODES.get(str(error.get("code", "")), "refused")
    if code == "invalid_field" and pointer_of(error).endswith("/email"):
        code = "invalid_address"
    return rejected(code)


def pointer_of(error: Mapping[str, Any]) -> str:
    """Give where in a request an error points, "" where it does not say."""
    return str((error.get("source") or {}).get("pointer") or "")


def place_of(error: Mapping[str, Any], count: int) -> int | None:
    """Give the place of the profile that an error of a list of so many points at, None where it points at none."""
    head, found, rest = pointer_of(error).partition("/profiles/data/")
    number = rest.partition("/")[0]
    return int(number) if head and found and number.isdecimal() and int(number) < count else None


def without(count: int, refused: RefusedRequestError) -> list[Outcome]:
    """Refuse the one profile, of so many, that a request was refused for as a whole; the others come again without it.

    Raises the refusal where it points at none. Raises DestinationError where it points at when somebody agreed, of whom
    nothing is wrong: what we state is at least two minutes old, by this machine's clock.
    """
    error = error_of(refused.body)
    if pointer_of(error).endswith("/consented_at"):
        raise DestinationError(_CLOCK) from refused
    place = place_of(error, count)
    if place is None:
        raise refused
    return [refusal(error) if number == place else _UNSENT for number in range(count)]
