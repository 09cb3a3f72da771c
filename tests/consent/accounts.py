"""The two accounts of a town, at whichever ESP, seen as `Person` alone; what only one ESP has stands in its own class.

HubSpot and Klaviyo mail whoever is there and never refused, and show some of it a little later. Only a local Mailchimp
has members that a marketer archives, edits and moves, and is written to by requests that state a consent.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from typing import Any, ClassVar

from segue.connectors.emulator import Person, PersonAct
from segue.connectors.faults import Fault
from segue.connectors.hubspot import testing as hubspot
from segue.connectors.klaviyo import testing as klaviyo
from segue.connectors.klaviyo.emulator import webhooks as klaviyo_webhooks
from segue.connectors.klaviyo.webhooks import WATCHED as TOPICS
from segue.connectors.mailchimp import testing as mailchimp
from segue.connectors.mailchimp.emulator import webhooks as mailchimp_webhooks
from segue.connectors.mailchimp.emulator.audience import Audience, Member, Rules
from segue.connectors.traffic import Exchange
from segue.connectors.webhook_sender import Proof
from segue.core.consent import MAILABLE

from .happenings import Act, Batch, Failure, is_read

PAIRS: Mapping[str, Sequence[Any]] = {
    "mailchimp": (mailchimp, mailchimp),
    "hubspot": (hubspot, mailchimp),
    "klaviyo": (klaviyo, mailchimp),
}
"""By the ESP of the first account: words cross between different ones."""
KEYS = ("SANDBOX_KEY", "SECOND_KEY")
"""Where in the environment the accounts' keys are looked for."""

_URL = "http://bag.invalid"
_BY_THEMSELVES = {
    Act.LEAVE: PersonAct.UNSUBSCRIBE,
    Act.BOUNCE: PersonAct.BOUNCE,
    Act.COMPLAIN: PersonAct.COMPLAIN,
    Act.ERASE: PersonAct.ERASE,
    Act.JOIN: PersonAct.SUBSCRIBE,
}
_SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "hubspot": {"limits": False},
    "klaviyo": {"limits": False, "consent_seconds": 0.05, "job_seconds": 0.05, "async_seconds": 0.05},
}
_REQUESTS: Mapping[str, Mapping[Batch, tuple[str, str]]] = {
    "mailchimp": {Batch.WRITE: ("POST", r"lists/[^/]+$"), Batch.MOVE: ("PATCH", "/members/")},
    "hubspot": {
        Batch.WRITE: ("POST", r"/contacts/batch/(create|update)$"),
        Batch.MOVE: ("PATCH", r"/contacts/\d+$"),
    },
    "klaviyo": {
        Batch.WRITE: ("POST", "/profile-subscription-bulk-create-jobs$"),
        Batch.MOVE: ("PATCH", "/profiles/"),
    },
}


class Account:
    """An account at an ESP that mails whoever is there and never refused."""

    acts: ClassVar = frozenset(_BY_THEMSELVES)
    lag: ClassVar = timedelta(
        seconds=10
    )  # until all that happened there is shown, and all that was accepted is done
    refuses: ClassVar = False  # nobody who refused is raised by a write, whatever was written
    content_type: ClassVar = (
        "application/json"  # of its webhooks, which name records here, and addresses at Mailchimp
    )
    complaint: ClassVar = b"marked_email_as_spam"

    def __init__(self, sandbox: Any) -> None:
        self.sandbox = sandbox
        self.emulator = sandbox.emulator

    def temper(self, mode: str) -> None:
        """Say of what temper the account is."""
        self.sandbox.settings(mode=mode, **_SETTINGS.get(self.sandbox.connector, {}))

    def people(self) -> list[Person]:
        """Give everybody who is there."""
        return list(self.emulator.people())

    def find(self, address: str) -> Person | None:
        """Find who has an address; who is archived has it only if nobody else does."""
        found = [each for each in self.people() if each.address == address]
        return min(found, key=lambda each: each.archived, default=None)

    def asked(self, exchange: Exchange) -> set[str]:
        """Give the addresses for which a request asks that they be mailed: whoever is made or moved is."""
        if is_read(exchange):
            return set()
        text = json.dumps(exchange.body)
        return set() if "UNSUBSCRIBED" in text else {each for each in _addresses(exchange.body) if each}

    def fault(self, failure: Failure) -> Fault:
        """Say which requests fail."""
        method, path = _REQUESTS[self.sandbox.connector][failure.batch]
        return Fault(kind=failure.kind, count=failure.count, method=method, path=path)

    def act(self, act: Act, address: str, at: datetime) -> None:
        """Let somebody act who can."""
        del at
        self.emulator.act(_BY_THEMSELVES[act], audience="", address=address)

    def edit(self, address: str, *, name: str, moved_to: str | None, at: datetime) -> None:
        """Let a marketer change somebody's name, or their address."""
        raise NotImplementedError

    def listen(self, hear: Callable[[bytes], None]) -> None:
        """Have the webhooks told that would be posted."""

        def put(url: str, body: bytes, headers: Mapping[str, str], prove: Proof) -> None:
            hear(body)

        self.emulator.sender.post = put
        self._hook()

    def _hook(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """Let go of the emulator."""
        self.emulator.traffic.recorder = None
        self.emulator.faults.arm(())
        del self.emulator.sender.post


class MailchimpAccount(Account):
    """The first audience of an account of the local Mailchimp."""

    acts = frozenset(Act)
    lag = timedelta()
    refuses = True
    content_type = "application/x-www-form-urlencoded"
    complaint = b"abuse"

    @property
    def audience(self) -> Audience:
        """The audience."""
        found: Audience = self.emulator.audience
        return found

    def asked(self, exchange: Exchange) -> set[str]:
        """Give the addresses for which a request states that they are mailed."""
        body = exchange.body
        if not isinstance(body, dict) or is_read(exchange):
            return set()
        items = body["members"] if isinstance(body.get("members"), list) else [body]
        return {
            item.get("email_address", "") for item in items if item.get("status") in {"subscribed", "pending"}
        }

    def act(self, act: Act, address: str, at: datetime) -> None:
        if act is Act.ARCHIVE:
            self.audience.archive(self._member(address), at)
        else:
            super().act(act, address, at)

    def edit(self, address: str, *, name: str, moved_to: str | None, at: datetime) -> None:
        data = {"merge_fields": {"FNAME": name}} if moved_to is None else {"email_address": moved_to}
        self.audience.update(self._member(address), data, None, rules=Rules(), now=at, request=0)

    def _hook(self) -> None:
        emulator, audience = self.emulator, self.audience
        hook = mailchimp_webhooks.Webhook(
            id="hook",
            url=_URL,
            events=dict.fromkeys(("subscribe", "unsubscribe", "profile", "cleaned", "upemail"), True),
            sources=dict.fromkeys(("user", "admin", "api"), True),
            secret=None,
        )
        emulator._webhooks._hooks[audience.id] = {"hook": hook}
        audience.listener = lambda happening: emulator._webhooks._hear(audience, happening)

    def _member(self, address: str) -> Member:
        member = self.audience.find(address)
        assert member is not None
        return member


class HubSpotAccount(Account):
    """An account of the local HubSpot."""

    def _hook(self) -> None:
        self.sandbox.watch(_URL)


class KlaviyoAccount(Account):
    """An account of the local Klaviyo."""

    def _hook(self) -> None:
        self.emulator._webhooks._hooks["hook"] = klaviyo_webhooks.Webhook(
            id="hook",
            name="Segue",
            description=None,
            url=_URL,
            secret="",
            topics=TOPICS,
            created=self.emulator.clock.now(),
        )


_CLASSES: Mapping[str, type[Account]] = {
    "mailchimp": MailchimpAccount,
    "hubspot": HubSpotAccount,
    "klaviyo": KlaviyoAccount,
}


def account_of(sandbox: Any) -> Account:
    """Give the account of a running local ESP."""
    return _CLASSES[sandbox.connector](sandbox)


@contextmanager
def running_pair(pair: str) -> Iterator[Sequence[Any]]:
    """Run the two accounts of a pair for the length of the block."""
    with ExitStack() as stack:
        yield [stack.enter_context(each.running_sandbox()) for each in PAIRS[pair]]


def is_mailed(person: Person | None) -> bool:
    """Say whether an ESP mails somebody, or would once they confirm."""
    return person is not None and person.state in MAILABLE


def _addresses(body: Any) -> set[str]:
    """Give every text of a body that is an address."""
    match body:
        case dict():
            return set().union(*map(_addresses, body.values()))
        case list():
            return set().union(*map(_addresses, body))
        case str() if "@" in body:
            return {body.lower()}
        case _:
            return set()
