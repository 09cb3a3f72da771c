"""A connector on a fresh portal, in each family of paths where that is asked for."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from segue.connectors.hubspot.connector import HubSpot
from segue.connectors.hubspot.testing import Sandbox
from segue.core.consent import ConsentState
from segue.core.model import Change, DestinationSchema, FieldSpec, FieldType, Grant, Operation, Outcome

from .calls import Contacts

GRANT = Grant(granted_at=datetime(2026, 3, 1, 9, 30, tzinfo=UTC), source="shop", evidence={"form": "f1"})
SCHEMA = DestinationSchema(
    fields=(
        FieldSpec(tag="sg_text", label="Text", type=FieldType.TEXT, purpose="test"),
        FieldSpec(tag="sg_num", label="Number", type=FieldType.NUMBER, purpose="test"),
        FieldSpec(tag="sg_date", label="Date", type=FieldType.DATE, purpose="test"),
    ),
    tags=("segue: VIP", "segue: small"),
)


class Portal:
    """A connector on the sandbox, and what the portal then has."""

    def __init__(self, sandbox: Sandbox, **settings: str) -> None:
        self.sandbox = sandbox
        self.emulator = sandbox.emulator
        given = {"token": sandbox.token, "base_url": sandbox.base_url, "retry_wait": "0.02 seconds"}
        self.connector = HubSpot.from_settings(given | settings)

    def open(self) -> "Portal":
        self.connector.check()
        self.connector.ensure(SCHEMA)
        return self

    def create(self, *numbers: int, **more: Any) -> list[Outcome]:
        changes = [change(Operation.CREATE, number, **more) for number in numbers]
        return self.connector.write(Operation.CREATE, changes)

    def write(self, operation: Operation, number: int, **more: Any) -> Outcome:
        (outcome,) = self.connector.write(operation, [change(operation, number, **more)])
        return outcome

    def record(self, number: int) -> Any:
        return self.emulator.account.records.find("email", address(number))

    def sent(self) -> list[str]:
        """The requests since the last call of this, as "METHOD template"."""
        log = [f"{each['method']} {each['path']}" for each in self.emulator.traffic.log]
        self.emulator.traffic.log.clear()
        return log

    def states(self) -> set[ConsentState]:
        """How everybody stands who is not archived."""
        return {each.state for each in self.emulator.people() if not each.archived}


def address(number: int) -> str:
    return f"person{number}@shop.example"


def change(operation: Operation, number: int, **more: Any) -> Change:
    given: dict[str, Any] = {"contact_key": number, "operation": operation, "address": address(number)}
    if operation is Operation.CREATE:
        given |= {"consent": ConsentState.SUBSCRIBED, "grant": GRANT}
    if operation is Operation.OPT_OUT:
        given |= {"consent": ConsentState.UNSUBSCRIBED}
    return Change(**(given | more))


@pytest.fixture
def contacts(hubspot: Sandbox) -> Contacts:
    return Contacts(hubspot)


@pytest.fixture(params=["v3", "2026-09"])
def portal(request: pytest.FixtureRequest, hubspot: Sandbox) -> Iterator[Portal]:
    """A portal with our properties, by each family of paths."""
    opened = Portal(hubspot, api=request.param).open()
    with opened.connector.transport:
        yield opened
    assert opened.emulator.raises == []
