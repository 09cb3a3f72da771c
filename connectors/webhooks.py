"""What a webhook is: how an ESP's messages are proved and read, and nothing about any ESP.

No HTTP server, no store and no decision is here. A message is proved before it is read, over the bytes as they came; what
it says becomes `InboundEvent`s, which the engine takes as departures to believe and as hints to look at everything else.
"""

import hashlib
import hmac
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import ClassVar, Final

from ..core.errors import SegueError
from ..core.model import InboundEvent

WINDOW: Final = timedelta(seconds=300)
"""How far the time in a signature may lie from ours, before or after: older ones may be replays."""


class ForgedError(SegueError):
    """A message that does not prove where it comes from: no signature, a wrong one, or one of another time."""


class MalformedError(SegueError):
    """A message that is proved or needs no proof, and cannot be read. It never quotes what it could not read."""


class Webhooks(ABC):
    """How one ESP's messages are proved and read. Pure: everything that a message says is in its headers and body."""

    signs: ClassVar[
        bool
    ]  # whether the ESP can sign; an unsigned message is then only taken where no secret is set

    @abstractmethod
    def prove(
        self, headers: Mapping[str, str], body: bytes, *, url: str, secrets: Sequence[str], now: datetime
    ) -> None:
        """Raise ForgedError unless one of the secrets signed this very body within WINDOW of `now`.

        `url` is the address that the ESP posted to, as the ESP knows it.
        Header names are in small letters. Takes the same time whichever secret fits, or none.
        """

    @abstractmethod
    def read(self, body: bytes, content_type: str) -> Sequence[InboundEvent]:
        """Give what a message says, in its order; what concerns no contact is left out. Raises MalformedError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstalledWebhook:
    """A webhook that an account has. `secret` is what it signs with, shown when it is made and never again."""

    id: str
    url: str
    events: tuple[str, ...]
    secret: str | None = field(default=None, repr=False)


def fits(secrets: Sequence[str], signed: bytes, signature: str) -> bool:
    """Say whether one of the secrets made this hexadecimal HMAC-SHA256; all are tried, so that none shows by time."""
    found = False
    for secret in secrets:
        expected = hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
        found |= hmac.compare_digest(expected.encode(), signature.encode())
    return found
