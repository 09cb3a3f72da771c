"""What every connector must do with the webhooks of its ESP: prove them, read them, and refuse what proves nothing."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from ...core.consent import LEFT
from ...core.model import InboundEvent
from ..emulator import PersonAct
from ..webhooks import ForgedError, Webhooks
from .account import ContractAccount, Posted, address_of, create

_OTHER = "a secret of somebody else's"
_LONG = timedelta(days=2)  # longer than any ESP tries again


class WebhookContract:
    """The part of the contract for connectors whose ESP posts what happens."""

    @pytest.fixture
    def webhooks(self, account: ContractAccount) -> Webhooks:
        """Give how messages are read."""
        found = account.connector.webhooks
        if found is None:
            pytest.skip(f"never: {account.connector.label} posts no webhooks")
        return found

    @pytest.fixture
    def posted(self, ready: ContractAccount) -> Posted:
        """Give what is posted when somebody unsubscribes."""
        assert ready.posted is not None, "the account does not say what is posted: give it `posted`"
        ready.write(*(create(number) for number in (1, 2)))
        return ready.posted(PersonAct.UNSUBSCRIBE, address_of(1))

    @pytest.fixture
    def signed(self, webhooks: Webhooks, posted: Posted) -> Posted:
        """Give what is posted, where it is signed."""
        if not webhooks.signs:
            pytest.skip("never: the ESP signs no webhooks")
        return posted

    def test_a_webhook_tells_who_left(
        self, webhooks: Webhooks, posted: Posted, ready: ContractAccount
    ) -> None:
        """By the address or by the ESP's own id, with the state that it means."""
        (read,) = ready.connector.read([address_of(1)])
        assert read is not None
        told = [event for event in _read(webhooks, posted) if event.state in LEFT]
        assert told
        assert {event.address in {"", address_of(1)} for event in told} == {True}
        assert {event.address or event.record_id for event in told} <= {address_of(1), read.record_id}

    def test_a_signed_webhook_is_proved(self, webhooks: Webhooks, signed: Posted) -> None:
        """By the secret that signed it, and also while another one takes its place."""
        _prove(webhooks, signed, [signed.secret])
        _prove(webhooks, signed, [_OTHER, signed.secret])
        _prove(webhooks, signed, [signed.secret, _OTHER])

    def test_a_webhook_of_a_secret_that_was_taken_away_is_refused(
        self, webhooks: Webhooks, signed: Posted
    ) -> None:
        """Rotating ends so."""
        for secrets in ([_OTHER], []):
            with pytest.raises(ForgedError):
                _prove(webhooks, signed, secrets)

    def test_a_forged_webhook_is_refused(self, webhooks: Webhooks, signed: Posted) -> None:
        """With other words, or with no signature."""
        for forged in (replace(signed, body=signed.body + b" "), replace(signed, headers={})):
            with pytest.raises(ForgedError):
                _prove(webhooks, forged, [signed.secret])

    def test_a_stale_webhook_is_refused(self, webhooks: Webhooks, signed: Posted) -> None:
        """Of long ago, and of the future."""
        for at in (signed.at - _LONG, signed.at + _LONG):
            with pytest.raises(ForgedError):
                _prove(webhooks, replace(signed, at=at), [signed.secret])

    def test_a_webhook_that_comes_again_is_known_by_its_events(
        self, webhooks: Webhooks, posted: Posted, ready: ContractAccount
    ) -> None:
        """They have the same names, and nobody else's have."""
        assert ready.posted is not None
        names = {event.key for event in _read(webhooks, posted)}
        assert names == {event.key for event in _read(webhooks, posted)}
        other = ready.posted(PersonAct.UNSUBSCRIBE, address_of(2))
        assert names.isdisjoint(event.key for event in _read(webhooks, other))


def _prove(webhooks: Webhooks, posted: Posted, secrets: Sequence[str]) -> None:
    headers = {name.lower(): text for name, text in posted.headers.items()}
    webhooks.prove(headers, posted.body, url=posted.url, secrets=secrets, now=posted.at)


def _read(webhooks: Webhooks, posted: Posted) -> Sequence[InboundEvent]:
    headers = {name.lower(): text for name, text in posted.headers.items()}
    return webhooks.read(posted.body, headers.get("content-type", ""))
