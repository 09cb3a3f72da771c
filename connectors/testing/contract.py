"""The contract itself: what is written, consent, what is read, and how a connector is set up."""

import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import urlsplit, urlunsplit

import pytest

from ...core.consent import LEFT, MAILABLE, ConsentState
from ...core.errors import AuthenticationError, ConfigError, ConsentError, UnsupportedFeatureError
from ...core.model import Capabilities, DestinationSchema, FieldSpec, FieldType, Operation, OutcomeStatus
from ..base import Connector
from ..emulator import PersonAct
from .account import DONE, TAGS, ContractAccount, address_of, change_of, create
from .webhooks import WebhookContract

_VALUES = {
    FieldType.TEXT: ("Zwölf Äpfel & <b>", "other"),
    FieldType.NUMBER: ("150.5", "-2"),
    FieldType.DATE: ("2026-02-28", "1999-12-31"),
    FieldType.URL: ("https://shop.example/a?b=c", "https://shop.example/"),
}


class ConnectorContract(WebhookContract):
    """The contract, all of it."""

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
        schema = self.schema(account.connector.capabilities)
        account.connector.expect(schema)
        account.connector.check()
        account.connector.ensure(schema)
        return account

    def schema(self, capabilities: Capabilities) -> DestinationSchema:
        """Give one field of each type, named as the connector wants, and the tags."""
        offered = [kind for kind in _VALUES if kind in capabilities.field_types]
        specs = [
            FieldSpec(tag=self.tag(kind, capabilities), label=f"Contract {kind}", type=kind, purpose="test")
            for kind in offered
        ]
        return DestinationSchema(fields=tuple(specs), tags=TAGS)

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
        if not ready.connector.capabilities.makes_fields:
            return
        fields = ready.connector.check().fields
        assert {spec.tag: fields.get(spec.tag) for spec in schema.fields} == {
            spec.tag: spec.type for spec in schema.fields
        }

    def test_a_contact_is_made_with_all_that_it_has_and_read_back_the_same(
        self, ready: ContractAccount
    ) -> None:
        """What `read` gives of a value is what `shown` says of it."""
        values = self.values(ready.connector.capabilities)
        (outcome,) = ready.write(create(1, fields=values, tags=TAGS[:1]))
        assert outcome.status is OutcomeStatus.APPLIED
        person = ready.there(address_of(1))
        assert person.state in MAILABLE
        assert person.tags == {TAGS[0]}
        (read,) = ready.connector.read([address_of(1)])
        assert read is not None
        wanted = ready.connector.shown({tag: text for tag, text in values.items() if text})
        assert {tag: read.fields.get(tag) for tag in wanted} == dict(wanted)
        assert set(read.tags or ()) == {TAGS[0]}
        assert read.state in MAILABLE

    def test_an_update_changes_what_it_says_and_nothing_else(self, ready: ContractAccount) -> None:
        """A field that is not in it stays, None clears, a tag is added to those there."""
        capabilities = ready.connector.capabilities
        text, number = self.tag(FieldType.TEXT, capabilities), self.tag(FieldType.NUMBER, capabilities)
        (made,) = ready.write(create(1, fields=self.values(capabilities), tags=TAGS[:1]))
        change = change_of(
            Operation.UPDATE,
            1,
            fields={text: "other", number: None},
            tags=TAGS[1:],
            record_id=made.record_id,
        )
        for _ in range(2):  # and is safe to repeat
            (outcome,) = ready.write(change)
            assert outcome.status in DONE
            (read,) = ready.connector.read([address_of(1)])
            assert read is not None
            assert read.fields.get(text) == "other"
            assert not read.fields.get(number)
            assert set(read.tags or ()) == set(TAGS)
            date = self.tag(FieldType.DATE, capabilities)
            assert read.fields.get(date) == ready.connector.shown({date: "2026-02-28"})[date]
        assert len(ready.people()) == 1

    def test_a_tag_is_taken_off_alone_and_from_whom_it_is_asked(self, ready: ContractAccount) -> None:
        """Others keep theirs, and whoever has it no more is no error."""
        made = ready.write(*(create(number, tags=TAGS) for number in (1, 2)))
        ids = [outcome.record_id for outcome in made]
        untag = change_of(Operation.UNTAG, 1, tags=TAGS[:1], record_id=ids[0])
        assert [ready.write(untag)[0].status in DONE for _ in range(2)] == [True, True]
        assert ready.there(address_of(1)).tags == set(TAGS[1:])
        assert ready.there(address_of(2)).tags == set(TAGS)

    def test_there_is_one_outcome_for_each_change_in_their_order(self, ready: ContractAccount) -> None:
        """Whoever cannot be written is said, and keeps nobody else from being written."""
        size = min(5, ready.connector.capabilities.batch_sizes[Operation.UPDATE])
        made = ready.write(*(create(number) for number in range(size)))
        updates = [
            change_of(
                Operation.UPDATE,
                number,
                fields={self.tag(FieldType.TEXT, ready.connector.capabilities): f"t{number}"},
                record_id=made[number].record_id if number < size else "",
            )
            for number in [*range(size - 1), 77]
        ]
        outcomes = ready.write(*updates)
        assert [outcome.status in DONE for outcome in outcomes] == [True] * (size - 1) + [False]
        assert outcomes[-1].reason
        nobody = ready.find(address_of(77))
        assert nobody is None or nobody.state not in MAILABLE

    def test_a_batch_that_is_too_large_is_refused_before_it_is_sent(self, ready: ContractAccount) -> None:
        """So that no engine finds out by an ESP's own words."""
        for operation, size in ready.connector.capabilities.batch_sizes.items():
            made = [
                replace(create(number), operation=operation, consent=None, grant=None)
                for number in range(size + 1)
            ]
            with pytest.raises((ValueError, ConsentError)):
                ready.connector.write(operation, made)
        assert list(ready.people()) == []

    def test_no_request_holds_more_bytes_than_the_esp_takes(self, ready: ContractAccount) -> None:
        """What has no room comes again, and nobody is left out."""
        capabilities = ready.connector.capabilities
        if capabilities.jobs is None:
            pytest.skip(f"never: {ready.connector.label} counts contacts and no bytes")
        text = self.tag(FieldType.TEXT, capabilities)
        long = "ü" * (capabilities.text_bytes // 2)
        numbers = range(capabilities.jobs.request_bytes // capabilities.text_bytes + 2)
        made = ready.write(*(create(number) for number in numbers))
        updates = [
            change_of(
                Operation.UPDATE,
                number,
                fields={text: long},
                record_id=outcome.record_id,
                tags_held=frozenset(),
            )
            for number, outcome in zip(numbers, made, strict=True)
        ]
        first = ready.connector.write(Operation.UPDATE, updates)
        assert {outcome.status for outcome in first} == {OutcomeStatus.ACCEPTED, OutcomeStatus.UNSENT}
        ready.settle()
        assert {outcome.status in DONE for outcome in ready.write(*updates)} == {True}
        assert [ready.there(address_of(number)).fields.get(text) for number in numbers] == [long] * len(
            numbers
        )

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
            ready.write(change_of(Operation.CREATE, 1, consent=ConsentState.SUBSCRIBED))
        assert list(ready.people()) == []

    def test_no_update_speaks_of_consent(self, ready: ContractAccount) -> None:
        """Nor a move, nor a tag."""
        (made,) = ready.write(create(1))
        for operation in (Operation.UPDATE, Operation.READDRESS, Operation.UNTAG):
            change = change_of(operation, 1, consent=ConsentState.SUBSCRIBED, record_id=made.record_id)
            with pytest.raises(ConsentError):
                ready.write(replace(change, tags=TAGS[:1]))

    def test_an_update_makes_nobody(self, ready: ContractAccount) -> None:
        """Not somebody who was never there, nor somebody who was erased."""
        text = self.tag(FieldType.TEXT, ready.connector.capabilities)
        assert ready.write(change_of(Operation.UPDATE, 9, fields={text: "x"}))[0].status not in DONE
        (made,) = ready.write(create(1))
        ready.act(PersonAct.ERASE, address_of(1))
        change = change_of(Operation.UPDATE, 1, fields={text: "x"}, record_id=made.record_id)
        assert ready.write(change)[0].status not in DONE
        assert not [person for person in ready.people() if person.state in MAILABLE and not person.archived]

    @pytest.mark.parametrize("act", [PersonAct.UNSUBSCRIBE, PersonAct.BOUNCE, PersonAct.COMPLAIN])
    def test_no_write_raises_whoever_left(self, ready: ContractAccount, act: PersonAct) -> None:
        """Not a create, an update, a tag, a move, nor an opt-out."""
        (made,) = ready.write(create(1, tags=TAGS[:1]))
        ready.act(act, address_of(1))
        text = self.tag(FieldType.TEXT, ready.connector.capabilities)
        for change in (
            create(1, fields={text: "x"}),
            change_of(Operation.UPDATE, 1, fields={text: "x"}, tags=TAGS[1:], record_id=made.record_id),
            change_of(Operation.UNTAG, 1, tags=TAGS[:1], record_id=made.record_id),
            change_of(
                Operation.READDRESS,
                1,
                address=address_of(2),
                previous_address=address_of(1),
                record_id=made.record_id,
            ),
            change_of(Operation.OPT_OUT, 1, consent=ConsentState.UNSUBSCRIBED, record_id=made.record_id),
        ):
            ready.tried(change)
            mailed = [person.address for person in ready.people() if person.state in MAILABLE]
            assert mailed == [], change.operation
        assert list(ready.raises()) == []

    def test_an_opt_out_lowers_and_is_safe_to_repeat(self, ready: ContractAccount) -> None:
        """Whoever is not there is no error."""
        (made,) = ready.write(create(1))
        out = change_of(Operation.OPT_OUT, 1, consent=ConsentState.UNSUBSCRIBED, record_id=made.record_id)
        assert ready.write(out)[0].status is OutcomeStatus.APPLIED
        assert ready.there(address_of(1)).state in LEFT
        assert ready.write(out)[0].status is OutcomeStatus.UNCHANGED
        nobody = change_of(Operation.OPT_OUT, 9, consent=ConsentState.UNSUBSCRIBED)
        assert ready.write(nobody)[0].status is OutcomeStatus.UNCHANGED

    def test_a_create_meets_whoever_is_there_already_and_leaves_them_alone(
        self, ready: ContractAccount
    ) -> None:
        """It becomes an update, which the engine sends."""
        ready.act(PersonAct.SUBSCRIBE, address_of(1))
        text = self.tag(FieldType.TEXT, ready.connector.capabilities)
        (outcome,) = ready.write(create(1, fields={text: "x"}))
        assert outcome.status is OutcomeStatus.EXISTS
        assert outcome.seen is not None
        assert not ready.there(address_of(1)).fields.get(text)

    def test_a_contact_moves_whole_and_stays_one(self, ready: ContractAccount) -> None:
        """With its tags, its consent and the change; and is safe to repeat."""
        (made,) = ready.write(create(1, tags=TAGS[:1]))
        text = self.tag(FieldType.TEXT, ready.connector.capabilities)
        move = change_of(
            Operation.READDRESS,
            1,
            address=address_of(2),
            previous_address=address_of(1),
            fields={text: "moved"},
            record_id=made.record_id,
        )
        for _ in range(2):
            assert ready.write(move)[0].status in DONE
            assert ready.find(address_of(1)) is None
            person = ready.there(address_of(2))
            assert person.state in MAILABLE
            assert person.tags == {TAGS[0]}
        (read,) = ready.connector.read([address_of(2)])
        assert read is not None
        assert read.fields.get(text) == "moved"

    # What is read

    def test_reading_keeps_the_order_and_says_who_is_not_there(self, ready: ContractAccount) -> None:
        """Small and capital letters make no other address."""
        ready.write(*(create(number) for number in (1, 2)))
        found = ready.connector.read([address_of(2), address_of(9), address_of(1).upper()])
        assert [contact and contact.address.lower() for contact in found] == [
            address_of(2),
            None,
            address_of(1),
        ]

    def test_a_pull_gives_everyone_and_the_next_one_what_people_did(self, ready: ContractAccount) -> None:
        """A cursor holds all that a later process needs."""
        ready.write(*(create(number) for number in (1, 2, 3)))
        seen, cursor = ready.pulled(None)
        assert set(seen) == {address_of(1), address_of(2), address_of(3)}
        ready.act(PersonAct.UNSUBSCRIBE, address_of(1))
        ready.act(PersonAct.BOUNCE, address_of(2))
        ready.act(PersonAct.SUBSCRIBE, address_of(4))
        ready.settle()
        later, cursor = ready.pulled(cursor)
        assert later[address_of(1)] is ConsentState.UNSUBSCRIBED
        assert later[address_of(2)] is ConsentState.SUPPRESSED
        assert later[address_of(4)] in MAILABLE
        ready.pulled(cursor)

    def test_an_erased_contact_is_gone(self, ready: ContractAccount) -> None:
        """Safe to repeat; a connector that cannot says so."""
        ready.write(*(create(number) for number in (1, 2)))
        if type(ready.connector).erase is Connector.erase:
            with pytest.raises(UnsupportedFeatureError):
                ready.connector.erase(address_of(1))
            return
        erased = ready.connector.erase(address_of(1))
        assert erased.was_there
        if not erased.is_gone:
            ready.settle()
        assert ready.connector.erase(address_of(1)).is_gone
        assert ready.connector.read([address_of(1), address_of(2)])[0] is None
        assert ready.find(address_of(1)) is None
        assert ready.find(address_of(2)) is not None

    # How it is set up

    def test_an_unknown_setting_is_said(self, account: ContractAccount) -> None:
        """With everything else that is wrong, and nothing sent."""
        with pytest.raises(ConfigError, match="no_such_setting"):
            type(account.connector).from_settings({"no_such_setting": "1"})

    def test_the_base_url_is_a_setting(self, account: ContractAccount) -> None:
        """So that a proxy or a sandbox can stand in for the ESP."""
        ours = urlsplit(account.settings.get("base_url", ""))
        assert ours.netloc, "the account was reached without the setting base_url"
        with _stranger() as (host, asked):
            settings = {**account.settings, "base_url": urlunsplit(ours._replace(netloc=host))}
            elsewhere = type(account.connector).from_settings(settings)
            with elsewhere.transport, pytest.raises(AuthenticationError, match=account.connector.label):
                elsewhere.check()
            assert asked

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


@contextmanager
def _stranger() -> Iterator[tuple[str, list[str]]]:
    """Run a server that lets nobody in; give its host and port and what it is asked."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", "0")))
            asked.append(self.path)
            self.send_response(401)
            self.send_header("content-length", "0")
            self.end_headers()

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its parent's name for it
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
