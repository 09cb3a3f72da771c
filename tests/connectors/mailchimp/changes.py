"""Changes for the connector, as its tests make them and write them, and what the sandbox then has and was sent."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from segue.connectors.base import Connector
from segue.connectors.emulator import PersonAct
from segue.connectors.limiter import Clock, Limiter
from segue.connectors.mailchimp.connector import Mailchimp
from segue.connectors.mailchimp.payload import subscriber_hash
from segue.connectors.mailchimp.testing import Sandbox
from segue.connectors.transport import Transport
from segue.core.consent import ConsentState
from segue.core.model import Change, DestinationSchema, FieldSpec, FieldType, Grant, Operation, Outcome

GRANT = Grant(
    granted_at=datetime(2026, 3, 1, 9, 30, tzinfo=UTC),
    source="shop",
    evidence={"ip": "203.0.113.9", "form": "f1"},
)
SCHEMA = DestinationSchema(
    fields=(
        FieldSpec(tag="SG_TEXT", label="Text", type=FieldType.TEXT, purpose="test"),
        FieldSpec(tag="SG_NUM", label="Number", type=FieldType.NUMBER, purpose="test"),
        FieldSpec(tag="SG_DATE", label="Date", type=FieldType.DATE, purpose="test", default="soon"),
        FieldSpec(tag="SG_BIRTH", label="Birthday", type=FieldType.BIRTHDAY, purpose="test"),
        FieldSpec(tag="SG_URL", label="Link", type=FieldType.URL, purpose="test"),
    )
)
BATCH, MEMBER = "POST /3.0/lists/{list_id}", "/3.0/lists/{list_id}/members/{subscriber_hash}"
APPLIED = ("applied", "")


class connected:  # noqa: N801 - reads as a verb
    """A connector on the sandbox whose waits take no time."""

    def __init__(self, mailchimp: Sandbox) -> None:
        self.seconds = 0.0
        limiter = Limiter(9, clock=Clock(now=lambda: self.seconds, sleep=self.sleep))
        self.transport = Transport(
            mailchimp.base_url,
            dialect=Mailchimp.dialect,
            auth=("segue", mailchimp.key),
            limiter=limiter,
        )
        self.connector = Mailchimp(self.transport, mailchimp.audience)

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds

    def __enter__(self) -> Mailchimp:
        return self.connector

    def __exit__(self, *_: object) -> None:
        self.transport.close()


def address(number: int) -> str:
    return f"person{number}@shop.org"


def change(operation: Operation, number: int = 0, **more: Any) -> Change:
    if operation is Operation.CREATE:
        more = {"consent": ConsentState.SUBSCRIBED, "grant": GRANT, **more}
    return Change(**{"contact_key": number, "operation": operation, "address": address(number), **more})


def creates(count: int, **more: Any) -> list[Change]:
    return [change(Operation.CREATE, number, **more) for number in range(count)]


def write(connector: Connector, *changes: Change) -> list[Outcome]:
    return connector.write(changes[0].operation, changes)


def told(outcomes: Sequence[Outcome]) -> list[tuple[str, str]]:
    return [(outcome.status.value, outcome.code) for outcome in outcomes]


def sent(mailchimp: Sandbox, endpoint: str) -> list[Any]:
    return [each.body for each in mailchimp.referee.exchanges if each.endpoint == endpoint]


def writes(mailchimp: Sandbox) -> list[str]:
    return [each.endpoint for each in mailchimp.referee.exchanges if each.method != "GET"]


def status(mailchimp: Sandbox, number: int) -> str | None:
    member = mailchimp.emulator.audience.find(address(number))
    return member.status if member else None


def act(mailchimp: Sandbox, what: PersonAct, number: int) -> None:
    mailchimp.emulator.act(what, audience=mailchimp.audience, address=address(number))


def archive(mailchimp: Sandbox, number: int) -> None:
    emulator = mailchimp.emulator
    with emulator.lock:
        member = emulator.audience.find(address(number))
        assert member is not None
        emulator.audience.archive(member, emulator.clock.now())


def members_url(number: int) -> str:
    return f"https://us19.api.mailchimp.com/3.0/lists/b1/members/{subscriber_hash(address(number))}"
