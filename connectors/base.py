"""What a connector is: the protocol that the sync engine speaks, and nothing about any ESP.

A connector turns batches of changes into requests and answers into outcomes. It owns no retry, no sleep, no consent
decision and no log: those are the transport's and the engine's.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import ClassVar

from ..core.model import Account, Capabilities, Change, DestinationSchema, Operation, Outcome, RemoteContact
from .transport import Transport


class Connector(ABC):
    """One configured account of an ESP. Class attributes describe the ESP, methods talk to the account.

    Every method raises `DestinationError` when the account or the network is at fault, and never for one contact.
    """

    name: ClassVar[str]
    label: ClassVar[str]
    capabilities: ClassVar[Capabilities]

    @classmethod
    @abstractmethod
    def from_settings(cls, settings: Mapping[str, str]) -> "Connector":
        """Build a connector from a destination's settings, secrets already resolved.

        Raises ConfigError listing every unknown, missing or malformed setting. Sends nothing.
        """

    @property
    @abstractmethod
    def transport(self) -> Transport:
        """The one way out; its counters are what a run reports as requests sent."""

    @abstractmethod
    def check(self) -> Account:
        """Prove key and audience with reads alone and describe what is there."""

    @abstractmethod
    def ensure(self, schema: DestinationSchema) -> None:
        """Create the missing fields (and tags, where the ESP wants them made first). Changes nothing that exists."""

    @abstractmethod
    def write(self, operation: Operation, changes: Sequence[Change]) -> list[Outcome]:
        """Send one batch of one operation, at most `capabilities.batch_sizes[operation]` items.

        UNTAG batches share one tag. Returns exactly one outcome per change, in order.
        Raises RejectedBatchError when the ESP refused the request as a whole for its contents.
        """

    @abstractmethod
    def pull(self, since: datetime | None) -> Iterator[Sequence[RemoteContact]]:
        """Give contacts changed since then, oldest first, a page at a time; None gives everyone."""

    @abstractmethod
    def read(self, addresses: Sequence[str]) -> list[RemoteContact | None]:
        """Read contacts back by address, in order; None where the ESP has no such contact."""
