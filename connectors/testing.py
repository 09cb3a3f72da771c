"""What every connector must do, as tests: subclass `ConnectorContract`, say how to reach a fresh account, and run pytest.

    class TestMine(ConnectorContract):
        @pytest.fixture
        def account(self):
            with my_sandbox() as sandbox:
                yield ContractAccount(
                    connector=Mine.from_settings(sandbox.settings), people=sandbox.people, act=sandbox.act
                )

Everything is seen through the account's own eyes, never through the connector's alone. Whatever a connector does not do
yet stands in `notimpl`, whatever its ESP never can in `never`: by the test's name, each with its reason.

No ESP's words here. For tests alone: it needs `pytest`, which the product does not.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, ClassVar

import pytest

from ..core.consent import LEFT, MAILABLE, ConsentState
from ..core.errors import ConfigError, ConsentError, RejectedBatchError, UnsupportedFeatureError
from ..core.model import (
    Capabilities,
    Change,
    DestinationSchema,
    FieldSpec,
    FieldType,
    Grant,
    Operation,
    Outcome,
    OutcomeStatus,
)
from .base import Connector
from .emulator import Person, PersonAct, Raise
from .webhooks import ForgedError

_GRANT = Grant(
    granted_at=datetime(2026, 3, 1, 9, 30, tzinfo=UTC), source="shop", evidence={"form": "checkout"}
)
_VALUES = {
    FieldType.TEXT: ("Zwölf Äpfel & <b>", "other"),
    FieldType.NUMBER: ("150.5", "-2"),
    FieldType.DATE: ("2026-02-28", "1999-12-31"),
    FieldType.URL: ("https://shop.example/a?b=c", "https://shop.example/"),
}
_TAGS = ("segue: VIP", "segue: small")
_DONE = frozenset({OutcomeStatus.APPLIED, OutcomeStatus.UNCHANGED})


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractAccount:
    """A fresh, empty account. `people` and `act` look at it and act in it behind the connector's back.

    `raises` gives the writes that made somebody mailable who had said no, as far as the account notices. `settle` lets so
    much time pass as the ESP takes until it shows what happened.
    """

    connector: Connector
    people: Callable[[], Sequence[Person]]
    act: Callable[[PersonAct, str], None]
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


class ConnectorContract:
    """The contract. Addresses are of a domain that no ESP takes for fake."""

    notimpl: ClassVar[Mapping[str, str]] = {}
    never: ClassVar[Mapping[str, str]] = {}

    @pytest.fixture
    def account(self) -> ContractAccount:
        """Give a fresh account; each connector's own."""
        raise NotImplementedError

    @pytest.fixture(autouse=True)
    def _marks(self, request: pytest.FixtureRequest) -> None:
        name = getattr(request.function, "__name__", "")
        if name in self.never:
            pytest.skip(f"never: {self.never[name]}")
        if name in self.notimpl:
            request.applymarker(pytest.mark.xfail(reason=f"notimpl: {self.notimpl[name]}", strict=True))

    @pytest.fixture
    def ready(self, account: ContractAccount) -> ContractAccount:
        """Give an account that was looked at, with one field of each type that the connector offers."""
        account.connector.check()
        account.connector.ensure(self.schema(account.connector.capabilities))
        return account

    def schema(self, capabilities: Capabilities) -> DestinationSchema:
        """Give one field of each type, named as the connector wants, and the tags."""
        offered = [kind for kind in _VALUES if kind in capabilities.field_types]
        specs = [
            FieldSpec(tag=self.tag(kind, capabilities), label=f"Contract {kind}", type=kind, purpose="test")
            for kind in offered
        ]
        return DestinationSchema(fields=tuple(specs), tags=_TAGS)

    def tag(self, kind: FieldType, capabilities: Capabilities) -> str:
        """Give the name of the field of a type."""
        name = f"SG_{kind.value.upper()}"
        return name if re.fullmatch(capabilities.field_tag_pattern, name) else name.lower()

    def values(self, capabilities: Capabilities, which: int = 0) -> dict[str, str | None]:
        """Give one value of each type, the first or the second."""
        return {
            self.tag(kind, capabilities): texts[which]
            for kind, texts in _VALUES.items()
            if kind in capabilities.field_types
        }

    # What is written

    def test_checking_twice_changes_nothing(self, account: ContractAccount) -> None:
        """Proving an account reads it alone."""
        assert account.connector.check() == account.connector.check()
        assert list(account.people()) == []

    def test_fields_are_made_once_and_known_by_their_types(self, ready: ContractAccount) -> None:
        """Ensuring is safe to repeat."""
        schema = self.schema(ready.connector.capabilities)
        ready.connector.ensure(schema)
        fields = ready.connector.check().fields
        assert {spec.tag: fields.get(spec.tag) for spec in schema.fields} == {
            spec.tag: spec.type for spec in schema.fields
        }

    def test_a_contact_is_made_with_all_that_it_has_and_read_back_the_same(
        self, ready: ContractAccount
    ) -> None:
        """What `read` gives of a value is what `shown` says of it."""
        values = self.values(ready.connector.capabilities)
        (outcome,) = _write(ready, _create(1, fields=values, tags=_TAGS[:1]))
        assert outcome.status is OutcomeStatus.APPLIED
        person = ready.there(_address(1))
        assert person.state in MAILABLE
        assert person.tags == {_TAGS[0]}
        (read,) = ready.connector.read([_address(1)])
        assert read is not None
        wanted = ready.connector.shown({tag: text for tag, text in values.items() if text})
        assert {tag: read.fields.get(tag) for tag in wanted} == dict(wanted)
        assert set(read.tags or ()) == {_TAGS[0]}
        assert read.state in MAILABLE

    def test_an_update_changes_what_it_says_and_nothing_else(self, ready: ContractAccount) -> None:
        """A field that is not in it stays, None clears, a tag is added to those there."""
        capabilities = ready.connector.capabilities
        text, number = self.tag(FieldType.TEXT, capabilities), self.tag(FieldType.NUMBER, capabilities)
        (made,) = _write(ready, _create(1, fields=self.values(capabilities), tags=_TAGS[:1]))
        change = _change(
            Operation.UPDATE,
            1,
            fields={text: "other", number: None},
            tags=_TAGS[1:],
            record_id=made.record_id,
        )
        for _ in range(2):  # and is safe to repeat
            (outcome,) = _write(ready, change)
            assert outcome.status in _DONE
            (read,) = ready.connector.read([_address(1)])
            assert read is not None
            assert read.fields.get(text) == "other"
            assert not read.fields.get(number)
            assert set(read.tags or ()) == set(_TAGS)
            date = self.tag(FieldType.DATE, capabilities)
            assert read.fields.get(date) == ready.connector.shown({date: "2026-02-28"})[date]
        assert len(ready.people()) == 1

    def test_a_tag_is_taken_off_alone_and_from_whom_it_is_asked(self, ready: ContractAccount) -> None:
        """Others keep theirs, and whoever has it no more is no error."""
        made = _write(ready, *(_create(number, tags=_TAGS) for number in (1, 2)))
        ids = [outcome.record_id for outcome in made]
        untag = _change(Operation.UNTAG, 1, tags=_TAGS[:1], record_id=ids[0])
        assert [_write(ready, untag)[0].status in _DONE for _ in range(2)] == [True, True]
        assert ready.there(_address(1)).tags == set(_TAGS[1:])
        assert ready.there(_address(2)).tags == set(_TAGS)

    def test_there_is_one_outcome_for_each_change_in_their_order(self, ready: ContractAccount) -> None:
        """Whoever cannot be written is said, and keeps nobody else from being written."""
        size = min(5, ready.connector.capabilities.batch_sizes[Operation.UPDATE])
        made = _write(ready, *(_create(number) for number in range(size)))
        updates = [
            _change(
                Operation.UPDATE,
                number,
                fields={self.tag(FieldType.TEXT, ready.connector.capabilities): f"t{number}"},
                record_id=made[number].record_id if number < size else "",
            )
            for number in [*range(size - 1), 77]
        ]
        outcomes = _write(ready, *updates)
        assert [outcome.status in _DONE for outcome in outcomes] == [True] * (size - 1) + [False]
        assert outcomes[-1].reason
        nobody = ready.find(_address(77))
        assert nobody is None or nobody.state not in MAILABLE

    def test_a_batch_that_is_too_large_is_refused_before_it_is_sent(self, ready: ContractAccount) -> None:
        """So that no engine finds out by an ESP's own words."""
        for operation, size in ready.connector.capabilities.batch_sizes.items():
            made = [
                replace(_create(number), operation=operation, consent=None, grant=None)
                for number in range(size + 1)
            ]
            with pytest.raises((ValueError, ConsentError)):
                ready.connector.write(operation, made)
        assert list(ready.people()) == []

    def test_nothing_is_no_batch(self, ready: ContractAccount) -> None:
        """An empty one sends nothing and gives nothing."""
        before = ready.connector.transport.traffic().requests
        assert all(
            ready.connector.write(operation, []) == []
            for operation in ready.connector.capabilities.batch_sizes
        )
        assert ready.connector.transport.traffic().requests == before

    # Consent

    def test_nobody_is_made_without_a_grant(self, ready: ContractAccount) -> None:
        """The last wall before the wire."""
        with pytest.raises(ConsentError):
            _write(ready, _change(Operation.CREATE, 1, consent=ConsentState.SUBSCRIBED))
        assert list(ready.people()) == []

    def test_no_update_speaks_of_consent(self, ready: ContractAccount) -> None:
        """Nor a move, nor a tag."""
        (made,) = _write(ready, _create(1))
        for operation in (Operation.UPDATE, Operation.READDRESS, Operation.UNTAG):
            change = _change(operation, 1, consent=ConsentState.SUBSCRIBED, record_id=made.record_id)
            with pytest.raises(ConsentError):
                _write(ready, replace(change, tags=_TAGS[:1]))

    def test_an_update_makes_nobody(self, ready: ContractAccount) -> None:
        """Not somebody who was never there, nor somebody who was erased."""
        text = self.tag(FieldType.TEXT, ready.connector.capabilities)
        assert _write(ready, _change(Operation.UPDATE, 9, fields={text: "x"}))[0].status not in _DONE
        (made,) = _write(ready, _create(1))
        ready.act(PersonAct.ERASE, _address(1))
        change = _change(Operation.UPDATE, 1, fields={text: "x"}, record_id=made.record_id)
        assert _write(ready, change)[0].status not in _DONE
        assert not [person for person in ready.people() if person.state in MAILABLE and not person.archived]

    @pytest.mark.parametrize("act", [PersonAct.UNSUBSCRIBE, PersonAct.BOUNCE, PersonAct.COMPLAIN])
    def test_no_write_raises_whoever_left(self, ready: ContractAccount, act: PersonAct) -> None:
        """Not a create, an update, a tag, a move, nor an opt-out."""
        (made,) = _write(ready, _create(1, tags=_TAGS[:1]))
        ready.act(act, _address(1))
        text = self.tag(FieldType.TEXT, ready.connector.capabilities)
        for change in (
            _create(1, fields={text: "x"}),
            _change(Operation.UPDATE, 1, fields={text: "x"}, tags=_TAGS[1:], record_id=made.record_id),
            _change(Operation.UNTAG, 1, tags=_TAGS[:1], record_id=made.record_id),
            _change(
                Operation.READDRESS,
                1,
                address=_address(2),
                previous_address=_address(1),
                record_id=made.record_id,
            ),
            _change(Operation.OPT_OUT, 1, consent=ConsentState.UNSUBSCRIBED, record_id=made.record_id),
        ):
            _tried(ready, change)
            mailed = [person.address for person in ready.people() if person.state in MAILABLE]
            assert mailed == [], change.operation
        assert list(ready.raises()) == []

    def test_an_opt_out_lowers_and_is_safe_to_repeat(self, ready: ContractAccount) -> None:
        """Whoever is not there is no error."""
        (made,) = _write(ready, _create(1))
        out = _change(Operation.OPT_OUT, 1, consent=ConsentState.UNSUBSCRIBED, record_id=made.record_id)
        assert _write(ready, out)[0].status is OutcomeStatus.APPLIED
        assert ready.there(_address(1)).state in LEFT
        assert _write(ready, out)[0].status is OutcomeStatus.UNCHANGED
        nobody = _change(Operation.OPT_OUT, 9, consent=ConsentState.UNSUBSCRIBED)
        assert _write(ready, nobody)[0].status is OutcomeStatus.UNCHANGED

    def test_a_create_meets_whoever_is_there_already_and_leaves_them_alone(
        self, ready: ContractAccount
    ) -> None:
        """It becomes an update, which the engine sends."""
        ready.act(PersonAct.SUBSCRIBE, _address(1))
        text = self.tag(FieldType.TEXT, ready.connector.capabilities)
        (outcome,) = _write(ready, _create(1, fields={text: "x"}))
        assert outcome.status is OutcomeStatus.EXISTS
        assert outcome.seen is not None
        assert not ready.there(_address(1)).fields.get(text)

    def test_a_contact_moves_whole_and_stays_one(self, ready: ContractAccount) -> None:
        """With its tags, its consent and the change; and is safe to repeat."""
        (made,) = _write(ready, _create(1, tags=_TAGS[:1]))
        text = self.tag(FieldType.TEXT, ready.connector.capabilities)
        move = _change(
            Operation.READDRESS,
            1,
            address=_address(2),
            previous_address=_address(1),
            fields={text: "moved"},
            record_id=made.record_id,
        )
        for _ in range(2):
            assert _write(ready, move)[0].status in _DONE
            assert ready.find(_address(1)) is None
            person = ready.there(_address(2))
            assert person.state in MAILABLE
            assert person.tags == {_TAGS[0]}
        (read,) = ready.connector.read([_address(2)])
        assert read is not None
        assert read.fields.get(text) == "moved"

    # What is read

    def test_reading_keeps_the_order_and_says_who_is_not_there(self, ready: ContractAccount) -> None:
        """Small and capital letters make no other address."""
        _write(ready, *(_create(number) for number in (1, 2)))
        found = ready.connector.read([_address(2), _address(9), _address(1).upper()])
        assert [contact and contact.address.lower() for contact in found] == [_address(2), None, _address(1)]

    def test_a_pull_gives_everyone_and_the_next_one_what_people_did(self, ready: ContractAccount) -> None:
        """A cursor holds all that a later process needs."""
        _write(ready, *(_create(number) for number in (1, 2, 3)))
        seen, cursor = _pulled(ready, None)
        assert set(seen) == {_address(1), _address(2), _address(3)}
        ready.act(PersonAct.UNSUBSCRIBE, _address(1))
        ready.act(PersonAct.BOUNCE, _address(2))
        ready.act(PersonAct.SUBSCRIBE, _address(4))
        ready.settle()
        later, cursor = _pulled(ready, cursor)
        assert later[_address(1)] is ConsentState.UNSUBSCRIBED
        assert later[_address(2)] is ConsentState.SUPPRESSED
        assert later[_address(4)] in MAILABLE
        _pulled(ready, cursor)

    def test_an_erased_contact_is_gone(self, ready: ContractAccount) -> None:
        """Safe to repeat; a connector that cannot says so."""
        _write(ready, *(_create(number) for number in (1, 2)))
        if type(ready.connector).erase is Connector.erase:
            with pytest.raises(UnsupportedFeatureError):
                ready.connector.erase(_address(1))
            return
        erased = ready.connector.erase(_address(1))
        assert (erased.was_there, erased.is_gone) == (True, True)
        assert ready.connector.erase(_address(1)).is_gone
        assert ready.connector.read([_address(1), _address(2)])[0] is None
        assert ready.find(_address(1)) is None
        assert ready.find(_address(2)) is not None

    # How it is set up

    def test_an_unknown_setting_is_said(self, account: ContractAccount) -> None:
        """With everything else that is wrong, and nothing sent."""
        with pytest.raises(ConfigError, match="no_such_setting"):
            type(account.connector).from_settings({"no_such_setting": "1"})

    def test_a_message_that_proves_nothing_is_refused(self, account: ContractAccount) -> None:
        """Where the ESP signs its webhooks."""
        webhooks = account.connector.webhooks
        if webhooks is None or not webhooks.signs:
            return
        with pytest.raises(ForgedError):
            webhooks.prove(
                {}, b"{}", url="https://shop.example/", secrets=["a secret of ours"], now=datetime.now(UTC)
            )

    def test_what_is_not_supported_says_so(self, account: ContractAccount) -> None:
        """At once, with the name of the ESP, and never by doing nothing."""
        kind, connector = type(account.connector), account.connector
        asked: dict[str, Callable[[], Any]] = {
            "engagement": lambda: list(connector.engagement(None, since=datetime.now(UTC))),
            "installed_webhooks": connector.installed_webhooks,
        }
        for name, ask in asked.items():
            if getattr(kind, name) is getattr(Connector, name):
                with pytest.raises(UnsupportedFeatureError, match=connector.label):
                    ask()


def _address(number: int) -> str:
    return f"contract{number}@shop.org"


def _change(operation: Operation, number: int, **more: Any) -> Change:
    given: dict[str, Any] = {
        "contact_key": 1000 + number,
        "operation": operation,
        "address": _address(number),
    }
    return Change(**(given | more))


def _create(number: int, **more: Any) -> Change:
    return _change(Operation.CREATE, number, consent=ConsentState.SUBSCRIBED, grant=_GRANT, **more)


def _write(account: ContractAccount, *changes: Change) -> list[Outcome]:
    """Write changes of one operation in batches of the connector's size."""
    operation = changes[0].operation
    size = account.connector.capabilities.batch_sizes[operation]
    outcomes: list[Outcome] = []
    for start in range(0, len(changes), size):
        outcomes += account.connector.write(operation, changes[start : start + size])
    return outcomes


def _tried(account: ContractAccount, change: Change) -> None:
    """Write a change that may be refused."""
    with suppress(RejectedBatchError):
        _write(account, change)


def _pulled(account: ContractAccount, cursor: str | None) -> tuple[dict[str, ConsentState], str]:
    found: dict[str, ConsentState] = {}
    for page in account.connector.pull(cursor):
        found |= {contact.address: contact.state for contact in page.contacts}
        cursor = page.cursor
    assert cursor is not None
    return found, cursor
