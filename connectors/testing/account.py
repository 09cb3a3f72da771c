"""An account as the contract sees it, the changes that it writes there, and writing them to the end as the engine does."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from ...core.consent import ConsentState
from ...core.errors import RejectedBatchError
from ...core.model import Change, Grant, Operation, Outcome, OutcomeStatus
from ..base import Connector
from ..emulator import Person, PersonAct, Raise

TAGS = ("segue: VIP", "segue: small")
DONE = frozenset({OutcomeStatus.APPLIED, OutcomeStatus.UNCHANGED})
_GRANT = Grant(
    granted_at=datetime(2026, 3, 1, 9, 30, tzinfo=UTC), source="shop", evidence={"form": "checkout"}
)
_POLLS = 10  # questions after what was accepted


@dataclass(frozen=True, slots=True, kw_only=True)
class Posted:
    """A webhook as an account posts it, at an instant, signed with a secret unless the ESP signs nothing."""

    url: str
    headers: Mapping[str, str]
    body: bytes
    at: datetime
    secret: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractAccount:
    """A fresh, empty account, reached with these settings, secrets resolved.

    `people` and `act` look at it and act in it behind the connector's back, `posted` lets somebody act and gives the
    webhook that tells of it. `raises` gives the writes that made somebody mailable who had said no, as far as the account
    notices. `settle` lets so much time pass as the ESP takes until it shows what happened.
    """

    connector: Connector
    people: Callable[[], Sequence[Person]]
    act: Callable[[PersonAct, str], None]
    settings: Mapping[str, str] = field(default_factory=dict, repr=False)
    posted: Callable[[PersonAct, str], Posted] | None = None
    raises: Callable[[], Sequence[Raise]] = field(default=lambda: ())
    settle: Callable[[], None] = field(default=lambda: None)

    def find(self, address: str) -> Person | None:
        """Give who is at an address, None where nobody is or is shown."""
        return next((each for each in self.people() if each.address == address and not each.archived), None)

    def there(self, address: str) -> Person:
        """Give who is at an address, and fail where nobody is."""
        found = self.find(address)
        assert found is not None, f"nobody is at {address}"
        return found

    def write(self, *changes: Change) -> list[Outcome]:
        """Write changes of one operation in batches of the connector's size, to the end: one outcome each, in order."""
        operation = changes[0].operation
        size = self.connector.capabilities.batch_sizes[operation]
        told: dict[int, Outcome] = {}
        waiting = list(changes)
        while waiting:
            batch, waiting = waiting[:size], waiting[size:]
            outcomes = self._ended(batch, self.connector.write(operation, batch))
            answers = list(zip(batch, outcomes, strict=True))
            unsent = [change for change, outcome in answers if outcome.status is OutcomeStatus.UNSENT]
            assert len(unsent) < len(batch), "a batch of which nothing is ever sent"
            waiting = unsent + waiting
            told |= {change.contact_key: outcome for change, outcome in answers}
        ended = [(change, told[change.contact_key]) for change in changes]
        return [
            self._filled(change, outcome) if outcome.status is OutcomeStatus.MADE else outcome
            for change, outcome in ended
        ]

    def tried(self, change: Change) -> None:
        """Write a change that may be refused."""
        with suppress(RejectedBatchError):
            self.write(change)

    def pulled(self, cursor: str | None) -> tuple[dict[str, ConsentState], str]:
        """Pull to the end: who came, by address, and the cursor that was reached."""
        found: dict[str, ConsentState] = {}
        for page in self.connector.pull(cursor):
            found |= {contact.address: contact.state for contact in page.contacts}
            cursor = page.cursor
        assert cursor is not None
        return found, cursor

    def _ended(self, batch: Sequence[Change], answers: Sequence[Outcome]) -> list[Outcome]:
        """Wait until nothing is merely accepted."""
        assert len(answers) == len(batch)
        told = list(answers)
        for _ in range(_POLLS):
            waiting = [
                place for place, outcome in enumerate(told) if outcome.status is OutcomeStatus.ACCEPTED
            ]
            if not waiting:
                return told
            self.settle()
            for job in {told[place].job for place in waiting}:
                places = [place for place in waiting if told[place].job == job]
                found = self.connector.poll(job, [batch[place] for place in places])
                for place, outcome in zip(places, found, strict=True):
                    told[place] = outcome
        raise AssertionError("what was accepted is never done")

    def _filled(self, change: Change, made: Outcome) -> Outcome:
        """Write what a contact that was just made has to say."""
        update = replace(
            change,
            operation=Operation.UPDATE,
            consent=None,
            grant=None,
            record_id=made.record_id,
            tags_held=frozenset(),
        )
        (outcome,) = self.write(update)
        return replace(outcome, record_id=made.record_id)


def address_of(number: int) -> str:
    """Give the address of a person of the contract, of a domain that no ESP takes for fake."""
    return f"contract{number}@shop.org"


def change_of(operation: Operation, number: int, **more: Any) -> Change:
    """Give a change of a person."""
    given: dict[str, Any] = {
        "contact_key": 1000 + number,
        "operation": operation,
        "address": address_of(number),
    }
    return Change(**(given | more))


def create(number: int, **more: Any) -> Change:
    """Give what makes a person who agreed."""
    return change_of(Operation.CREATE, number, consent=ConsentState.SUBSCRIBED, grant=_GRANT, **more)
