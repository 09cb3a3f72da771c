"""Klaviyo (https://developers.klaviyo.com/en/reference/api_overview): an audience is an account, a tag a value of a list.

Which request each operation is, and what its answer means for each contact; no retry, no wait, no consent decision.

Klaviyo mails whoever is there and never refused, so that making somebody is what raises them, and subscribing takes a
refusal back. So whoever is to be made is looked up first; only who is nowhere is subscribed, with the evidence that the
shop has. That makes the profile and nothing more: its fields follow as an update, by its id alone, which makes nobody.
The loser was to import by address: an import is worked off later, and would make again whoever was erased meanwhile.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import ClassVar, Final, Self

from ...core.consent import ConsentState
from ...core.errors import ConsentError
from ...core.model import (
    Account,
    Capabilities,
    Change,
    DestinationSchema,
    FieldType,
    Jobs,
    Operation,
    Outcome,
    OutcomeStatus,
    Reads,
    RemoteContact,
)
from ..auth import KeyAuth
from ..base import Connector, EngagementPage, Erased, Page, guard
from ..limiter import Limiter
from ..patience import Patience
from ..transport import RefusedRequestError, Transport
from ..verdicts import Dialect
from ..webhooks import InstalledWebhook
from .api import DIALECT, Api, lanes, rate_limits
from .events import opens_and_clicks
from .installed import Hooks
from .moves import Moves
from .payload import (
    ATTRIBUTES,
    LEFT,
    SUBSCRIBED,
    deletion_job,
    subscription_job,
    text_of,
    unsubscription_job,
    value_of,
)
from .profiles import Profiles
from .refusals import REMEDIES, rejected, without
from .settings import LARGEST_BATCH, Settings
from .tags import ListTags, PropertyTags, Tags
from .updates import Updates
from .webhooks import KlaviyoWebhooks

_APPLIED: Final = Outcome(status=OutcomeStatus.APPLIED)
_UNCHANGED: Final = Outcome(status=OutcomeStatus.UNCHANGED)
_ACCEPTED: Final = Outcome(status=OutcomeStatus.ACCEPTED)
_IMPORTED: Final = frozenset({Operation.UPDATE, Operation.UNTAG})
_JOBS: Final = Jobs(operations=_IMPORTED, singly=10, request_bytes=5_000_000)


class Klaviyo(Connector):
    """The profiles of one account."""

    name = "klaviyo"
    label = "Klaviyo"
    capabilities: Capabilities = Capabilities(
        field_types=frozenset({FieldType.TEXT, FieldType.NUMBER, FieldType.DATE}),
        field_tag_length=100,
        field_tag_pattern=r"[a-z][a-z0-9_]*",
        field_slots={"account": 400},
        reserved_tags=ATTRIBUTES,
        text_bytes=20_000,
        tag_length=100,
        batch_sizes={
            Operation.OPT_OUT: 100,
            Operation.CREATE: 1_000,
            Operation.UPDATE: LARGEST_BATCH,
            Operation.READDRESS: 1,
            Operation.UNTAG: LARGEST_BATCH,
        },
        concurrency=8,
        rate_limits=rate_limits("L"),
        seconds_per_request=0.1,
        shows_consent=False,
        makes_fields=False,
        makes_first=True,
        tags_as_one=True,
        by_record_id=True,
        reads={
            Operation.OPT_OUT: Reads(requests=2, contacts=100),
            Operation.CREATE: Reads(requests=2, contacts=100),
            Operation.READDRESS: Reads(requests=3),
        },
        jobs=_JOBS,
        field_syntax="{{{{ person|lookup:'{tag}' }}}}",
    )
    webhooks = KlaviyoWebhooks()
    remedies = REMEDIES
    erasing = (
        "Klaviyo deletes the profile for good, with all its history there, some time after it was asked. It does not"
        " keep the address from coming back."
    )
    dialect: ClassVar[Dialect] = DIALECT

    def __init__(
        self, transport: Transport, settings: Settings, *, capabilities: Capabilities | None = None
    ) -> None:
        self.capabilities = capabilities or type(self).capabilities
        self._transport = transport
        self._list = settings.list_id
        self._api = Api(transport)
        self._profiles = Profiles(self._api, shows_tags=settings.tags == "property")
        self._hooks = Hooks(self._api)
        tags: Tags = ListTags(self._api, self._profiles) if settings.tags == "lists" else PropertyTags()
        self._updates = Updates(self._api, self._profiles, tags, _JOBS)
        self._moves = Moves(self._api, self._profiles, tags)
        self._types: Mapping[str, FieldType] = {}

    @classmethod
    def from_settings(cls, settings: Mapping[str, str]) -> Self:
        """Read `api_key`, and optionally `list`, `tags` and what all connectors take."""
        read = Settings.read(settings)
        can = cls.capabilities
        first = 4 * read.retry_wait
        capabilities = replace(
            can,
            batch_sizes={
                operation: min(size, read.batch_size) for operation, size in can.batch_sizes.items()
            },
            rate_limits=read.rate_limits or can.rate_limits,
            tags_as_one=read.tags == "property",
            jobs=replace(_JOBS, first_poll=first, longest_poll=max(first, 30.0)),
        )
        transport = Transport(
            read.base_url,
            dialect=cls.dialect,
            auth=KeyAuth("Klaviyo-API-Key", read.api_key),
            limiter=Limiter(can.concurrency, capabilities.rate_limits),
            lanes=lanes(can.concurrency, read.rate_limits),
            patience=Patience(first_wait=read.retry_wait),
        )
        return cls(transport, read, capabilities=capabilities)

    @property
    def transport(self) -> Transport:
        """The one way out."""
        return self._transport

    def expect(self, schema: DestinationSchema) -> None:
        """Learn the types of fields, which Klaviyo has none of: a property is what was written to it last."""
        self._types = {spec.tag: spec.type for spec in schema.fields}

    def check(self) -> Account:
        """Prove the key, and the list if there is one."""
        (account,) = self._api.get("accounts", "/accounts")["data"]
        number, name = account["id"], account["attributes"]["contact_information"]["organization_name"]
        if self._list:
            self._api.get("lists", f"/lists/{self._list}")
        return Account(
            label=name or number, audience=f"account {number}", audience_id=number, contacts=None, tags=None
        )

    def ensure(self, schema: DestinationSchema) -> None:
        """Do nothing: properties appear with their first value."""

    def write(self, operation: Operation, changes: Sequence[Change]) -> list[Outcome]:
        """Send one batch, in one request where there is a job for it. An outcome's code is one of `refusals.REASONS`."""
        guard(operation, changes, self.capabilities)
        if not changes:
            return []
        match operation:
            case Operation.CREATE:
                return self._create(changes)
            case Operation.UPDATE | Operation.UNTAG:
                return self._updates.write(changes, self._types)
            case Operation.READDRESS:
                return [self._moves.write(change, self._types) for change in changes]
            case Operation.OPT_OUT:
                return self._opt_out(changes)

    def poll(self, job: str, changes: Sequence[Change]) -> list[Outcome]:
        """Ask after an import; or read those who were subscribed or unsubscribed, which no job tells of."""
        if job:
            return self._updates.ended(job, changes)
        found = self._profiles.of(changes)
        return [self._shown(change, found.get(change.address.lower())) for change in changes]

    def pull(self, cursor: str | None, *, only: Collection[str] | None = None) -> Iterator[Page]:
        """Give pages of profiles: everyone, or whoever changed since. Those without an address are left out."""
        return self._profiles.pages(cursor, only=only)

    def read(self, addresses: Sequence[str]) -> list[RemoteContact | None]:
        """Read profiles by address, a hundred a request."""
        return self._profiles.read(addresses)

    def erase(self, address: str) -> Erased:
        """Ask Klaviyo to delete a profile for good; it is gone some time later."""
        if self._profiles.find(address) is None:
            return Erased(was_there=False, answer="", is_gone=True)
        self._api.send("POST", "erase", "/data-privacy-deletion-jobs", deletion_job(address))
        return Erased(was_there=True, answer="202", is_gone=self._profiles.find(address) is None)

    def engagement(self, cursor: str | None, *, since: datetime) -> Iterator[EngagementPage]:
        """Give opens and clicks, by Klaviyo's events. Whoever did not agree to be tracked is in none."""
        return opens_and_clicks(self._api, cursor, since=since)

    def install_webhook(self, url: str) -> InstalledWebhook:
        """Have Klaviyo post what happens; only accounts with Advanced KDP may."""
        return self._hooks.install(url)

    def installed_webhooks(self) -> Sequence[InstalledWebhook]:
        """Give the account's webhooks."""
        return self._hooks.installed()

    def remove_webhook(self, webhook_id: str) -> None:
        """Take a webhook away."""
        self._hooks.remove(webhook_id)

    def shown(self, fields: Mapping[str, str]) -> Mapping[str, str]:
        """Give numbers as Klaviyo gives them back."""
        return {tag: text_of(value_of(text, self._types.get(tag))) for tag, text in fields.items()}

    def _create(self, changes: Sequence[Change]) -> list[Outcome]:
        """Subscribe whoever is not there."""
        there = self._profiles.of(changes)
        outcomes = {change.contact_key: self._met(there.get(change.address.lower())) for change in changes}
        new = [change for change in changes if outcomes[change.contact_key] is _ACCEPTED]
        if any(change.consent is not ConsentState.SUBSCRIBED for change in new):
            raise ConsentError("Klaviyo's connector makes nobody who is still to confirm. Nothing was sent.")
        if new:
            job = subscription_job(new, list_id=self._list, now=datetime.now(UTC))
            try:
                self._api.send(
                    "POST", "subscribe", "/profile-subscription-bulk-create-jobs", job, retry=False
                )
            except RefusedRequestError as refused:
                told = without(len(new), refused)
                outcomes |= {change.contact_key: outcome for change, outcome in zip(new, told, strict=True)}
        return [outcomes[change.contact_key] for change in changes]

    def _met(self, contact: RemoteContact | None) -> Outcome:
        """Say what whoever is there is to a create."""
        if contact is None:
            return _ACCEPTED
        if contact.state in LEFT:
            return rejected("left", seen=contact)
        return Outcome(status=OutcomeStatus.EXISTS, seen=contact, record_id=contact.record_id)

    def _shown(self, change: Change, contact: RemoteContact | None) -> Outcome:
        """Say what a profile shows of a subscription or its end."""
        if change.operation is Operation.OPT_OUT:
            return _ACCEPTED if contact and contact.state not in LEFT else replace(_APPLIED, seen=contact)
        if contact is None or (contact.status != SUBSCRIBED and contact.state not in LEFT):
            return _ACCEPTED
        if contact.state in LEFT:
            return rejected("left", seen=contact)
        # When they agreed is what we said ourselves.
        made = Outcome(
            status=OutcomeStatus.MADE, seen=replace(contact, opted_in_at=None), record_id=contact.record_id
        )
        return made if change.fields or change.tags else replace(made, status=OutcomeStatus.APPLIED)

    def _opt_out(self, changes: Sequence[Change]) -> list[Outcome]:
        """Unsubscribe from everything whoever is there and has not left."""
        there = self._profiles.of(changes)
        staying = {name for name, contact in there.items() if contact.state not in LEFT}
        if leaving := [change.address for change in changes if change.address.lower() in staying]:
            self._api.unsubscribe(unsubscription_job(leaving))
        return [
            _ACCEPTED
            if change.address.lower() in staying
            else replace(_UNCHANGED, seen=there.get(change.address.lower()))
            for change in changes
        ]
