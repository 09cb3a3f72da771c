"""A connector on a fresh Klaviyo whose clock stands still, and what the account then has."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from segue.connectors.emulator import Person, PersonAct
from segue.connectors.klaviyo.connector import Klaviyo
from segue.connectors.klaviyo.testing import Sandbox
from segue.core.consent import ConsentState
from segue.core.model import (
    Change,
    DestinationSchema,
    FieldSpec,
    FieldType,
    Grant,
    Operation,
    Outcome,
    OutcomeStatus,
)

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
GRANT = Grant(granted_at=datetime(2026, 3, 1, 9, 30, tzinfo=UTC), source="shop", evidence={"form": "f1"})
SCHEMA = DestinationSchema(
    fields=(
        FieldSpec(tag="sg_text", label="Text", type=FieldType.TEXT, purpose="test"),
        FieldSpec(tag="sg_num", label="Number", type=FieldType.NUMBER, purpose="test"),
    )
)
IMPORT = "POST /api/profile-bulk-import-jobs"
SUBSCRIBE = "POST /api/profile-subscription-bulk-create-jobs"


class Account:
    """An account, its connector, and the requests that it got."""

    def __init__(self, sandbox: Sandbox, **settings: str) -> None:
        self.sandbox = sandbox
        self.emulator = sandbox.emulator
        self.emulator.clock.set(NOON)
        sandbox.settings(limits=False)
        given = {**sandbox.destination, "api_key": sandbox.key, "retry_wait": "0.02 seconds"}
        self.connector = Klaviyo.from_settings(given | settings)
        self.connector.expect(SCHEMA)

    def write(self, *changes: Change) -> list[Outcome]:
        return self.connector.write(changes[0].operation, changes)

    def done(self, *changes: Change) -> list[Outcome]:
        """Write to the end."""
        return self.ended(changes, self.write(*changes))

    def ended(self, changes: Sequence[Change], outcomes: Sequence[Outcome]) -> list[Outcome]:
        """Let time pass until nothing is merely accepted."""
        told = list(outcomes)
        for _ in range(5):
            waiting = [place for place, each in enumerate(told) if each.status is OutcomeStatus.ACCEPTED]
            self.pass_time()
            for job in {told[place].job for place in waiting}:
                places = [place for place in waiting if told[place].job == job]
                answers = self.connector.poll(job, [changes[place] for place in places])
                for place, outcome in zip(places, answers, strict=True):
                    told[place] = outcome
        return told

    def people_made(self, count: int, **more: Any) -> list[Change]:
        """Make contacts and give them as updates, by their ids."""
        creates = [change(Operation.CREATE, number, fields={"sg_text": "first"}) for number in range(count)]
        made = [outcome for batch in parts(creates) for outcome in self.done(*batch)]
        assert {outcome.status for outcome in made} == {OutcomeStatus.MADE}
        self.sent()
        return [
            change(Operation.UPDATE, number, record_id=outcome.record_id, **more)
            for number, outcome in enumerate(made)
        ]

    def pass_time(self, minutes: int = 1) -> None:
        self.emulator.clock.advance(timedelta(minutes=minutes))

    def act(self, act: PersonAct, number: int) -> None:
        self.emulator.act(act, address=address(number))

    def person(self, number: int) -> Person:
        return next(each for each in self.emulator.people() if each.address == address(number))

    def sent(self) -> list[str]:
        """The requests since the last call of this, as "METHOD path"."""
        log = [f"{each['method']} {each['path']}" for each in self.emulator.traffic.log]
        self.emulator.traffic.log.clear()
        return log


def parts(changes: Sequence[Change]) -> list[Sequence[Change]]:
    return [changes[start : start + 1000] for start in range(0, len(changes), 1000)]


def address(number: int) -> str:
    return f"person{number}@shop.example"


def change(operation: Operation, number: int, **more: Any) -> Change:
    given: dict[str, Any] = {"contact_key": number, "operation": operation, "address": address(number)}
    if operation is Operation.CREATE:
        given |= {"consent": ConsentState.SUBSCRIBED, "grant": GRANT}
    if operation is Operation.OPT_OUT:
        given |= {"consent": ConsentState.UNSUBSCRIBED}
    return Change(**(given | more))


def statuses(outcomes: Sequence[Outcome]) -> list[str]:
    return [outcome.status.value for outcome in outcomes]
