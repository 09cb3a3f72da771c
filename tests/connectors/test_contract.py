"""Every built-in connector keeps the contract, against an ESP of each temper."""

import csv
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest

from segue.connectors.base import Connector
from segue.connectors.csvfile import CsvFile
from segue.connectors.emulator import Person, PersonAct
from segue.connectors.hubspot.connector import HubSpot
from segue.connectors.klaviyo.connector import Klaviyo
from segue.connectors.registry import connector_class
from segue.connectors.testing import ConnectorContract, ContractAccount, Posted
from segue.connectors.webhook_sender import Proof
from segue.core.consent import ConsentState

from .receiver import Receiver


def account_of(sandbox: Any, mode: str, **settings: str) -> Iterator[ContractAccount]:
    sandbox.settings(mode=mode)
    given = {
        name: value.replace("env:SANDBOX_KEY", sandbox.key) for name, value in sandbox.destination.items()
    }
    given |= {"retry_wait": "0.01 seconds"} | settings
    connector = connector_class(sandbox.connector).from_settings(given)
    emulator = sandbox.emulator
    with connector.transport:
        yield ContractAccount(
            connector=connector,
            settings=given,
            posted=Hook(sandbox, connector).posted,
            people=emulator.people,
            act=lambda act, address: emulator.act(act, audience="", address=address),
            raises=lambda: emulator.raises,
            settle=lambda: emulator.clock.advance(timedelta(minutes=1)),
        )


class Hook:
    """A webhook of an account, made with the first of what it is asked for."""

    URL: ClassVar = "https://shop.example/webhooks/contract"

    def __init__(self, sandbox: Any, connector: Connector) -> None:
        self.sandbox = sandbox
        self.connector = connector
        self.secret = ""
        self.heard: list[Posted] = []

    def posted(self, act: PersonAct, address: str) -> Posted:
        emulator = self.sandbox.emulator
        self.secret = self.secret or self.install()
        emulator.sender.post = self.hear
        try:
            emulator.act(act, audience="", address=address)
        finally:
            del emulator.sender.post
        return self.heard[-1]

    def install(self) -> str:
        if isinstance(self.connector, HubSpot):
            return str(self.sandbox.watch(self.URL))
        if isinstance(self.connector, Klaviyo):
            return self.connector.install_webhook(self.URL).secret or ""
        with Receiver().running() as receiver:  # Mailchimp tries the address
            return self.connector.install_webhook(receiver.url).secret or ""

    def hear(self, url: str, body: bytes, headers: Mapping[str, str], prove: Proof) -> None:
        at = self.sandbox.emulator.clock.now()
        sent = {**headers, **prove(body, at)}
        self.heard.append(Posted(url=url, headers=sent, body=body, at=at, secret=self.secret))


class EditedFile:
    """A CSV file as somebody sees and edits it by hand."""

    STATES: ClassVar = {
        PersonAct.UNSUBSCRIBE: "unsubscribed",
        PersonAct.COMPLAIN: "suppressed",
        PersonAct.BOUNCE: "suppressed",
        PersonAct.SUBSCRIBE: "subscribed",
    }

    def __init__(self, path: Path) -> None:
        self.path = path

    def rows(self) -> list[dict[str, str]]:
        if not self.path.exists():
            return []
        with self.path.open(newline="") as file:
            return list(csv.DictReader(file))

    def people(self) -> list[Person]:
        return [
            Person(
                name=row["address"],
                address=row["address"],
                state=ConsentState(row["state"]),
                fields={column.partition(":")[0]: text for column, text in row.items()},
                tags=frozenset(filter(None, row["tags"].split(";"))),
            )
            for row in self.rows()
        ]

    def act(self, act: PersonAct, address: str) -> None:
        rows = [row for row in self.rows() if row["address"] != address]
        if act is not PersonAct.ERASE:
            before = next(
                (row for row in self.rows() if row["address"] == address), {"address": address, "tags": ""}
            )
            rows.append(before | {"state": self.STATES[act]})
        head = list(dict.fromkeys(column for row in [*self.rows(), *rows] for column in row))
        with self.path.open("w", newline="") as file:
            writer = csv.DictWriter(file, head or ["address", "state", "tags"], restval="")
            writer.writeheader()
            writer.writerows(rows)


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
        hubspot.settings(signature="v3")
        yield from account_of(hubspot, mode, api=request.param)


class TestKlaviyo(ConnectorContract):
    @pytest.fixture
    def account(self, klaviyo: Any, mode: str) -> Iterator[ContractAccount]:
        klaviyo.settings(limits=False, advanced_kdp=True)
        yield from account_of(klaviyo, mode)


class TestCsvFile(ConnectorContract):
    never: ClassVar[Mapping[str, str]] = {"test_the_base_url_is_a_setting": "it is a file"}

    @pytest.fixture
    def account(self, tmp_path: Path) -> Iterator[ContractAccount]:
        file = EditedFile(tmp_path / "contacts.csv")
        connector = CsvFile.from_settings({"path": str(file.path)})
        with connector.transport:
            yield ContractAccount(connector=connector, people=file.people, act=file.act)


LISTS: Mapping[str, str] = dict.fromkeys(
    (
        "test_a_contact_is_made_with_all_that_it_has_and_read_back_the_same",
        "test_an_update_changes_what_it_says_and_nothing_else",
    ),
    "a record does not tell its lists",
)


class TestHubSpotLists(ConnectorContract):
    """Tags as lists, and webhooks with the first of its signatures."""

    never: ClassVar[Mapping[str, str]] = {
        **LISTS,
        "test_a_stale_webhook_is_refused": "the first signature carries no time",
    }

    @pytest.fixture
    def account(self, hubspot: Any, mode: str) -> Iterator[ContractAccount]:
        hubspot.settings(signature="v1")
        yield from account_of(hubspot, mode, tags="lists")


class TestKlaviyoLists(ConnectorContract):
    """Tags as lists."""

    never = LISTS

    @pytest.fixture
    def account(self, klaviyo: Any, mode: str) -> Iterator[ContractAccount]:
        klaviyo.settings(limits=False, advanced_kdp=True)
        yield from account_of(klaviyo, mode, tags="lists")
