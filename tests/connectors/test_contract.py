"""Every built-in connector keeps the contract, against an ESP of each temper."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any, ClassVar

import pytest

from segue.connectors.registry import connector_class
from segue.connectors.testing import ConnectorContract, ContractAccount


def account_of(sandbox: Any, mode: str, **settings: str) -> Iterator[ContractAccount]:
    sandbox.settings(mode=mode)
    given = {
        name: value.replace("env:SANDBOX_KEY", sandbox.key) for name, value in sandbox.destination.items()
    }
    connector = connector_class(sandbox.connector).from_settings(given | settings)
    emulator = sandbox.emulator
    with connector.transport:
        yield ContractAccount(
            connector=connector,
            people=emulator.people,
            act=lambda act, address: emulator.act(act, audience="", address=address),
            raises=lambda: emulator.raises,
            settle=lambda: emulator.clock.advance(timedelta(minutes=1)),
        )


@pytest.fixture(params=["adversarial", "permissive"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class TestMailchimp(ConnectorContract):
    @pytest.fixture
    def account(self, mailchimp: Any, mode: str) -> Iterator[ContractAccount]:
        yield from account_of(mailchimp, mode)


class TestHubSpot(ConnectorContract):
    @pytest.fixture(params=["v3", "2026-09"])
    def account(self, request: pytest.FixtureRequest, hubspot: Any, mode: str) -> Iterator[ContractAccount]:
        yield from account_of(hubspot, mode, api=request.param)


class TestHubSpotLists(ConnectorContract):
    """Tags as lists, which a read does not show."""

    never: ClassVar[Mapping[str, str]] = {
        "test_a_contact_is_made_with_all_that_it_has_and_read_back_the_same": "a record does not tell its lists",
        "test_an_update_changes_what_it_says_and_nothing_else": "a record does not tell its lists",
    }

    @pytest.fixture
    def account(self, hubspot: Any, mode: str) -> Iterator[ContractAccount]:
        yield from account_of(hubspot, mode, tags="lists")
