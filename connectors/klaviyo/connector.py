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
from itertools import chain
from typing import Any, ClassVar, Final, Self

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
from .api import DIALECT, Api, error_of, lanes, rate_limits
from .events import left_since, opens_and_clicks
from .imports import Imports
from .installed import Hooks
from .payload import (
    ATTRIBUTES,
    LEFT,
    REMEDIES,
    SUBSCRIBED,
    deletion_job,
    place_of,
    properties_of,
    refusal,
    rejected,
    subscription_job,
    text_of,
    unsubscription_job,
    update,
    value_of,
)
from .profiles import Profiles
from .settings import LARGEST_BATCH, Settings
from .tags import ListTags, PropertyTags, Tags
from .webhooks import KlaviyoWebhooks

_APPLIED: Final = Outcome(status=OutcomeStatus.APPLIED)
_UNCHANGED: Final = Outcome(status=OutcomeStatus.UNCHANGED)
_ACCEPTED: Final = Outcome(status=OutcomeStatus.ACCEPTED)
_UNSENT: Final = Outcome(status=OutcomeStatus.UNSENT)
_NOT_SHOWN: Final = Outcome(
    status=OutcomeStatus.UNKNOWN, code="not_read_back", reason="Klaviyo does not show the move yet."
)
_IMPORTED: Final = frozenset({Operation.UPDATE, Operation.UNTAG})
_REQUEST_BYTES: Final = 5_000_000


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
        jobs=Jobs(operations=_IMPORTED, singly=10, request_bytes=_REQUEST_BYTES),
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
        self._profiles = Profiles(self._api)
        self._imports = Imports(self._api, _REQUEST_BYTES)
        self._hooks = Hooks(self._api)
        self._lists = settings.tags == "lists"
        self._tags: Tags = ListTags(self._api) if self._lists else PropertyTags()
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
            jobs=can.jobs and replace(can.jobs, first_poll=first, longest_poll=max(first, 30.0)),
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
        """Send one batch, in one request where there is a job for it. An outcome's code is one of `payload.REASONS`."""
        guard(operation, changes, self.capabilities)
        if not changes:
            return []
        match operation:
            case Operation.CREATE:
                return self._create(changes)
            case Operation.UPDATE | Operation.UNTAG:
                return self._update(changes)
            case Operation.READDRESS:
                return [self._readdress(change) for change in changes]
            case Operation.OPT_OUT:
                return self._opt_out(changes)

    def poll(self, job: str, changes: Sequence[Change]) -> list[Outcome]:
        """Ask after an import; or read those who were subscribed or unsubscribed, which no job tells of."""
        if job:
            return self._imports.ended(job, changes, self._profiles.looked_up)
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
                told = _without(new, refused)
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

    def _update(self, changes: Sequence[Change]) -> list[Outcome]:
        """Write a few profiles one by one, and many by a job."""
        ids = self._profiles.ids(changes)
        known = [change for change in changes if change.contact_key in ids]
        gone = _UNCHANGED if changes[0].operation is Operation.UNTAG else rejected("vanished")
        outcomes = dict.fromkeys((change.contact_key for change in changes), gone)
        self._tags.carry([(change, ids[change.contact_key]) for change in known])
        jobs = self.capabilities.jobs
        done = [change for change in known if self._lists and not change.fields]
        written = [change for change in known if change.fields or not self._lists]
        outcomes |= dict.fromkeys((change.contact_key for change in done), _APPLIED)
        if jobs is not None and len(written) > jobs.singly and all(map(self._is_whole, written)):
            told = self._imported(written, ids)
        else:
            told = [self._patched(change, ids[change.contact_key], gone) for change in written]
        outcomes |= {change.contact_key: outcome for change, outcome in zip(written, told, strict=True)}
        return [outcomes[change.contact_key] for change in changes]

    def _is_whole(self, change: Change) -> bool:
        """Whether a job can write a change: tags that are one value are written whole, and so must be known."""
        return self._lists or not change.tags or change.tags_held is not None

    def _imported(self, changes: Sequence[Change], ids: Mapping[int, str]) -> list[Outcome]:
        """Give as many to a job as there is room for."""
        profiles = [
            update(ids[change.contact_key], {**self._properties(change), **self._tags.as_value(change)})
            for change in changes
        ]
        try:
            return self._imports.begin(profiles)
        except RefusedRequestError as refused:
            return _without(changes, refused)

    def _patched(self, change: Change, record_id: str, gone: Outcome) -> Outcome:
        patch = self._tags.as_patch(change)
        for name in chain([record_id], self._moved_to(change, record_id)):
            try:
                profile = update(name, self._properties(change), patch)
                self._api.send("PATCH", "profile", f"/profiles/{name}", profile)
            except RefusedRequestError as refused:
                if (outcome := refusal(error_of(refused.body))).code != "vanished":
                    return outcome
            else:
                return replace(_APPLIED, record_id=name)
        return gone

    def _moved_to(self, change: Change, record_id: str) -> Iterator[str]:
        """Give the id that a contact has now: it may have changed with a merge since it was told."""
        contact = self._profiles.find(change.address)
        if contact is not None and contact.record_id != record_id:
            yield contact.record_id

    def _readdress(self, change: Change) -> Outcome:
        if change.previous_address is None:
            raise ValueError("a readdress without a previous address")
        before, after = self.read([change.previous_address, change.address])
        if before is not None and before.state in LEFT:
            return rejected("left", seen=before)
        # An attempt whose answer was lost, a moment ago or in an earlier run, may have moved it.
        there = before or after
        if there is None:
            return rejected("vanished")
        profile = update(there.record_id, self._properties(change), self._tags.as_patch(change))
        profile["attributes"]["email"] = change.address
        try:
            self._api.send("PATCH", "profile", f"/profiles/{there.record_id}", profile)
        except RefusedRequestError as refused:
            return refusal(error_of(refused.body))
        moved = self._profiles.find(change.address)
        if moved is None:
            return _NOT_SHOWN
        if before and before.changed_at and left_since(self._api, there.record_id, before.changed_at):
            # They left while they moved, and what they said stays with the address behind them.
            self._unsubscribe([change.address])
            left = replace(moved, address=change.previous_address, state=ConsentState.UNSUBSCRIBED)
            return rejected("left", seen=left)
        self._tags.carry([(change, there.record_id)])
        return replace(_APPLIED, seen=moved, record_id=moved.record_id)

    def _opt_out(self, changes: Sequence[Change]) -> list[Outcome]:
        """Unsubscribe from everything whoever is there and has not left."""
        there = self._profiles.of(changes)
        staying = {name for name, contact in there.items() if contact.state not in LEFT}
        if leaving := [change.address for change in changes if change.address.lower() in staying]:
            self._unsubscribe(leaving)
        return [
            _ACCEPTED
            if change.address.lower() in staying
            else replace(_UNCHANGED, seen=there.get(change.address.lower()))
            for change in changes
        ]

    def _unsubscribe(self, addresses: Sequence[str]) -> None:
        job = unsubscription_job(addresses)
        self._api.send("POST", "unsubscribe", "/profile-subscription-bulk-delete-jobs", job)

    def _properties(self, change: Change) -> dict[str, Any]:
        return properties_of(change, self._types)


def _without(changes: Sequence[Change], refused: RefusedRequestError) -> list[Outcome]:
    """Refuse the one contact that a request was refused for as a whole; the others come again without it.

    Raises the refusal where it points at none.
    """
    error = error_of(refused.body)
    place = place_of(error, len(changes))
    if place is None:
        raise refused
    return [refusal(error) if number == place else _UNSENT for number in range(len(changes))]
