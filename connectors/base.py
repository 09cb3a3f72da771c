"""What a connector is: the protocol that the sync engine speaks, and nothing about any ESP.

A connector turns batches of changes into requests and answers into outcomes. It owns no retry, no sleep, no consent
decision and no log: those are the transport's and the engine's.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

from ..core.consent import ConsentState
from ..core.errors import ConsentError, UnsupportedFeatureError
from ..core.model import (
    Account,
    Capabilities,
    Change,
    DestinationSchema,
    Engagement,
    Operation,
    Outcome,
    RemoteContact,
)
from .transport import Transport
from .webhooks import InstalledWebhook, Webhooks


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Contacts that changed. Once they are stored, whatever comes next is what `pull` gives for this cursor."""

    contacts: Sequence[RemoteContact]
    cursor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EngagementPage:
    """Opens and clicks. Once they are stored, whatever comes next is what `engagement` gives for this cursor."""

    found: Sequence[Engagement]
    cursor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Erased:
    """What came of erasing one contact. `answer` is the ESP's own, e.g. "204"; empty where there was nobody to erase.

    `is_gone` is what reading back showed.
    """

    was_there: bool
    answer: str
    is_gone: bool


class Connector(ABC):
    """One configured account of an ESP. Class attributes describe the ESP, methods talk to the account.

    Every method raises `DestinationError` when the account or the network is at fault, and never for one contact.
    """

    name: ClassVar[str]
    label: ClassVar[str]
    capabilities: Capabilities  # the ESP's; an account's settings may lower them for one instance
    webhooks: ClassVar[Webhooks | None] = None  # how its messages are read, None where it posts none
    remedies: ClassVar[Mapping[str, str]] = {}  # what a person can do, by the code of a rejection
    erasing: ClassVar[str] = ""  # what whoever erases should know before, in words

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

    def expect(self, schema: DestinationSchema) -> None:  # noqa: B027 - most need not know
        """Be told of all fields that may be written or shown, with their types, before any is. Sends nothing."""

    @abstractmethod
    def check(self) -> Account:
        """Prove key and audience with reads alone and describe what is there."""

    @abstractmethod
    def ensure(self, schema: DestinationSchema) -> None:
        """Create the missing fields (and tags, where the ESP wants them made first). Changes nothing that exists."""

    @abstractmethod
    def write(self, operation: Operation, changes: Sequence[Change]) -> list[Outcome]:
        """Send one batch of one operation, at most `capabilities.batch_sizes[operation]` items.

        UNTAG batches share one tag. Returns exactly one outcome per change, in order; it carries the contact where
        the ESP showed it on the way, and is ACCEPTED where `poll` tells the rest. Begins with `guard`. Several threads call it at once, each contact in one of them.
        Raises RejectedBatchError when the ESP refused the request as a whole for its contents.
        """

    def poll(self, job: str, changes: Sequence[Change]) -> list[Outcome]:
        """Say what became of changes that `write` answered as accepted by one job, or without one: one outcome each.

        Those of a job come whole and in the order in which they were written. What is not done yet is accepted still.
        Sends nothing but what has to follow the job, safe to repeat. A connector that accepts nothing has none.
        """
        raise NotImplementedError(f"{self.label} accepts nothing")

    @abstractmethod
    def pull(self, cursor: str | None, *, only: Collection[str] | None = None) -> Iterator[Page]:
        """Give contacts changed since an earlier page, named by its cursor, a page at a time; None gives everyone.

        Contacts come with the values of `only` these fields and without tags; None asks for all of both. A contact may
        come more than once, also one that an earlier pull gave: what a later page says counts.
        """

    @abstractmethod
    def read(self, addresses: Sequence[str]) -> list[RemoteContact | None]:
        """Read contacts back by address, in order; None where the ESP has no such contact."""

    def erase(self, address: str) -> Erased:  # noqa: ARG002 - for those who can
        """Erase a contact for good by the ESP's own call for that, and read it back. Safe to repeat.

        Raises UnsupportedFeatureError where the ESP's API cannot.
        """
        raise UnsupportedFeatureError(f"{self.label} erases nobody by its API: do it by hand there.")

    def engagement(self, cursor: str | None, *, since: datetime) -> Iterator[EngagementPage]:  # noqa: ARG002
        """Give opens and clicks of mailings sent since then that are news since an earlier page, named by its cursor.

        They may come more than once. Raises UnsupportedFeatureError where the ESP's API does not tell them.
        """
        raise UnsupportedFeatureError(f"{self.label} does not tell opens and clicks by its API.")

    def install_webhook(self, url: str) -> InstalledWebhook:  # noqa: ARG002 - for those who can
        """Have the account post what happens to contacts to this address; it is tried at once.

        Raises UnsupportedFeatureError, saying what to do by hand, where the ESP's API cannot.
        """
        raise UnsupportedFeatureError(f"{self.label} cannot be told of webhooks by its API.")

    def installed_webhooks(self) -> Sequence[InstalledWebhook]:
        """Give the webhooks that the account has, whoever made them."""
        raise UnsupportedFeatureError(f"{self.label} does not list webhooks by its API.")

    def remove_webhook(self, webhook_id: str) -> None:  # noqa: ARG002 - for those who can
        """Take a webhook away; one that is gone already is no error."""
        raise UnsupportedFeatureError(f"{self.label} cannot be told of webhooks by its API.")

    def shown(self, fields: Mapping[str, str]) -> Mapping[str, str]:
        """Give the texts that `read` gives of these values once they are written. Sends nothing; `check` goes before."""
        return fields


def guard(operation: Operation, changes: Sequence[Change], capabilities: Capabilities) -> None:
    """Refuse a batch that would raise consent past the gate, or that is no batch; every `write` begins with it.

    The last wall before the wire and the same for all ESPs: a create says subscribed only with a recorded grant, an
    opt-out only lowers, and nothing else speaks of consent at all. Raises ConsentError, and ValueError for a batch
    that is too large or mixed.
    """
    if len(changes) > capabilities.batch_sizes[operation]:
        raise ValueError(f"{len(changes)} changes in one batch of {operation.value}")
    if {change.operation for change in changes} - {operation}:
        raise ValueError(f"other changes in a batch of {operation.value}")
    for change in changes:
        match operation, change.consent:
            case Operation.CREATE, ConsentState.SUBSCRIBED if change.grant is None:
                raise ConsentError(
                    "A create says subscribed without a recorded grant. Nothing of its batch was sent."
                )
            case Operation.CREATE, ConsentState.SUBSCRIBED | ConsentState.PENDING:
                continue
            case Operation.OPT_OUT, None | ConsentState.UNSUBSCRIBED | ConsentState.SUPPRESSED:
                continue
            case ((Operation.UPDATE | Operation.READDRESS | Operation.UNTAG), None):
                continue
        said = change.consent.value if change.consent else "nothing about consent"
        raise ConsentError(f"A change of kind {operation.value} says {said}. Nothing of its batch was sent.")
