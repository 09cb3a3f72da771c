"""Mailchimp Marketing API (https://mailchimp.com/developer/marketing/): an audience is a list, a tag a static segment.

Which request each operation is, and what its answer means for each contact; no retry, no wait, no consent decision.

A create says `update_existing: false` and the gated status; an update says `update_existing: true` and never a
status. What such an update does to a member who was archived or deleted a moment ago is not documented, so: the
engine sends updates only for members whom a pull saw mailable; whoever was archived since is left out (`archive.py`);
a create that met somebody is read before it is called `exists`; a member whom an update made anew all the same is
unsubscribed at once. The loser was PATCH through `/batches`, which never creates, for every update: minutes of waiting
and a file from another host for each 500 contacts, to close a gap of milliseconds.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, ClassVar, Final, Self

from ...core.errors import ConsentError, DestinationError
from ...core.model import (
    Account,
    Capabilities,
    Change,
    DestinationSchema,
    Operation,
    Outcome,
    OutcomeStatus,
    Reads,
    RemoteContact,
)
from ..base import Connector, EngagementPage, Erased, Page, guard
from ..limiter import Limiter
from ..patience import Patience
from ..transport import RefusedRequestError, Transport
from ..verdicts import Dialect, Verdict
from ..webhooks import InstalledWebhook
from .archive import Archive
from .fields import MergeFields
from .installed import Hooks
from .members import OVERLAP, Members
from .pages import of_audience
from .payload import (
    FIELD_TYPES,
    LEFT,
    REMEDIES,
    SYSTEM_TAGS,
    BatchAnswer,
    existing_member,
    is_raise,
    merge_fields,
    new_member,
    refusal,
    rejected,
    remote_contact,
    shown,
    subscriber_hash,
)
from .reports import engagement
from .settings import FIELD_SLOTS, Settings
from .tags import Tags
from .webhooks import MailchimpWebhooks

_APPLIED: Final = Outcome(status=OutcomeStatus.APPLIED)
_UNCHANGED: Final = Outcome(status=OutcomeStatus.UNCHANGED)
_NOT_WRITTEN: Final = Outcome(
    status=OutcomeStatus.DEFERRED,
    code="not_written",
    reason="Mailchimp answered without an error and wrote nothing; the next run tries again.",
)
_UNKNOWN: Final = Outcome(
    status=OutcomeStatus.UNKNOWN,
    code="not_read_back",
    reason="Mailchimp's answer left open what happened, and reading the contact back failed.",
)
_SAME_ADDRESS: Final = Outcome(
    status=OutcomeStatus.DEFERRED,
    code="same_address",
    reason="Another contact of this batch has the same address; the next run tries again.",
)


class Mailchimp(Connector):
    """One audience of one Mailchimp account."""

    name = "mailchimp"
    label = "Mailchimp"
    capabilities: Capabilities = Capabilities(
        field_types=frozenset(FIELD_TYPES.values()),
        field_tag_length=10,
        field_tag_pattern=r"[A-Z][A-Z0-9_]*",
        field_slots=FIELD_SLOTS,
        reserved_tags=SYSTEM_TAGS,
        text_bytes=255,
        tag_length=100,
        batch_sizes={
            Operation.OPT_OUT: 1,
            Operation.CREATE: 500,
            Operation.UPDATE: 500,
            Operation.READDRESS: 1,
            Operation.UNTAG: 500,
        },
        reads={
            Operation.OPT_OUT: Reads(requests=1),
            Operation.UPDATE: Reads(requests=1, contacts=None),
            Operation.READDRESS: Reads(requests=1),
        },
        schema_reads=2,
        concurrency=9,  # of the ten that all tools of one user share: one is left to whoever looks something up
        field_syntax="*|{tag}|*",
    )
    remedies = REMEDIES
    erasing = (
        "Mailchimp deletes the contact for good, with all its history there, and lets nobody import this address again:"
        " only a sign-up form of Mailchimp's own can bring it back."
    )
    webhooks = MailchimpWebhooks()
    # https://mailchimp.com/developer/marketing/docs/errors/
    dialect: ClassVar = Dialect(
        label="Mailchimp",
        errors={
            (403, ""): Verdict.THROTTLED,  # at high volume; one with a title is about the key
            # The account is suspended: no use in trying again.
            (599, "Compliance Related"): Verdict.AUTHENTICATION,
        },
    )

    def __init__(
        self,
        transport: Transport,
        audience: str,
        *,
        plan: str = "standard",
        capabilities: Capabilities | None = None,
    ) -> None:
        from .sdk import endpoints

        self.capabilities = capabilities or type(self).capabilities
        self._transport = transport
        self._audience = audience
        self._api = endpoints(transport)
        self._lists = self._api.lists
        self._fields = MergeFields(self._lists, audience, slots=FIELD_SLOTS[plan])
        self._tags = Tags(self._lists, audience)
        self._hooks = Hooks(self._api, audience)
        self._archive = Archive(self._lists.get_list_members_info, audience, overlap=OVERLAP)
        self._members = Members(
            self._lists, audience, archive=self._archive, concurrency=self.capabilities.concurrency
        )

    @classmethod
    def from_settings(cls, settings: Mapping[str, str]) -> Self:
        """Read `api_key` and `audience`, and optionally `base_url`, `plan`, `batch_size`, `rate_limit` and `retry_wait`."""
        read = Settings.read(settings)
        sizes = cls.capabilities.batch_sizes
        capabilities = replace(
            cls.capabilities,
            batch_sizes={operation: min(size, read.batch_size) for operation, size in sizes.items()},
            rate_limits=read.rate_limits,
        )
        transport = Transport(
            read.base_url,
            dialect=cls.dialect,
            auth=("segue", read.api_key),  # any user name does
            limiter=Limiter(capabilities.concurrency, capabilities.rate_limits),
            patience=Patience(first_wait=read.retry_wait),
        )
        return cls(transport, read.audience, plan=read.plan, capabilities=capabilities)

    @property
    def transport(self) -> Transport:
        """The one way out."""
        return self._transport

    def check(self) -> Account:
        """Prove the key, then the audience; also learns the types of fields and the ids of tags."""
        account = self._api.root.get_root(fields=["account_name"])
        found = of_audience(self._lists.get_list, self._audience)(
            fields=["name", "double_optin", "stats.total_contacts"], include_total_contacts=True
        )
        self._fields.read()
        return Account(
            label=account["account_name"],
            audience=found["name"],
            audience_id=self._audience,
            contacts=found["stats"]["total_contacts"],
            double_opt_in=found["double_optin"],
            fields=self._fields.types(),
            tags=self._tags.read(),
        )

    def ensure(self, schema: DestinationSchema) -> None:
        """Create the missing merge fields, or none when one clashes or there is no room for all.

        Tags need no making: the first member that carries one makes it.
        """
        self._fields.ensure(schema.fields)

    def write(self, operation: Operation, changes: Sequence[Change]) -> list[Outcome]:
        """Send one batch. An outcome's code is one of the keys of `payload.REASONS`, or of those above."""
        guard(operation, changes, self.capabilities)
        if not changes:
            return []
        match operation:
            case Operation.CREATE:
                return self._once_per_address(changes, self._create)
            case Operation.UPDATE:
                return self._once_per_address(changes, self._update)
            case Operation.READDRESS:
                return [self._readdress(change) for change in changes]
            case Operation.OPT_OUT:
                return [self._opt_out(change) for change in changes]
            case Operation.UNTAG:
                return self._untag(changes)

    def pull(self, cursor: str | None, *, only: Collection[str] | None = None) -> Iterator[Page]:
        """Give pages of members, those on the list first and the archived after, each oldest change first."""
        return self._members.pages(cursor, only=only)

    def read(self, addresses: Sequence[str]) -> list[RemoteContact | None]:
        """Read members, one request each, as many at once as the account allows."""
        return self._members.read(addresses)

    def engagement(self, cursor: str | None, *, since: datetime) -> Iterator[EngagementPage]:
        """Give opens and clicks from the reports of the audience's campaigns."""
        return engagement(self._api.reports, self._audience, cursor, since=since)

    def erase(self, address: str) -> Erased:
        """Delete a member for good, archived ones too: Mailchimp keeps no more than that the address is not to return."""
        if self._members.find(address) is None:
            return Erased(was_there=False, answer="", is_gone=True)
        answer = "204"
        try:
            self._lists.delete_list_member_permanent(self._audience, subscriber_hash(address))
        except RefusedRequestError as error:
            if error.status != 404:  # the answer to an attempt that deleted them was lost
                raise
            answer = "404"
        return Erased(was_there=True, answer=answer, is_gone=self._members.find(address) is None)

    def install_webhook(self, url: str) -> InstalledWebhook:
        """Make a webhook of every event that concerns a contact, from every source: other tools unsubscribe people too."""
        return self._hooks.install(url)

    def installed_webhooks(self) -> Sequence[InstalledWebhook]:
        """Give the audience's webhooks, whoever made them."""
        return self._hooks.installed()

    def remove_webhook(self, webhook_id: str) -> None:
        """Take a webhook away."""
        self._hooks.remove(webhook_id)

    def shown(self, fields: Mapping[str, str]) -> Mapping[str, str]:
        """Give values as members show them: numbers and birthdays have forms of Mailchimp's own."""
        return shown(fields, self._fields.known())

    def _create(self, changes: Mapping[str, Change]) -> dict[str, Outcome]:
        there = self._fields.known()
        new = [new_member(change, merge_fields(change.fields, there)) for change in changes.values()]
        answer, outcomes, unsettled = self._batch(changes, new, update=False)
        self._archive.back(answer.written)
        for key, remote in unsettled:
            if remote is not None:
                exists = Outcome(status=OutcomeStatus.EXISTS, seen=remote)
                outcomes[key] = _no_longer(remote) if remote.status in LEFT else exists
            else:
                outcomes[key] = rejected("refused_address") if key in answer.errors else _NOT_WRITTEN
        return outcomes

    def _update(self, changes: Mapping[str, Change]) -> dict[str, Outcome]:
        archived = {key: _no_longer(remote) for key, remote in self._archive.among(changes).items()}
        changes = {key: change for key, change in changes.items() if key not in archived}
        if not changes:
            return archived
        there = self._fields.known()
        known = [existing_member(change, merge_fields(change.fields, there)) for change in changes.values()]
        _, outcomes, unsettled = self._batch(changes, known, update=True)
        for key, remote in unsettled:
            if remote is None:
                outcomes[key] = rejected("vanished")
            elif remote.status in LEFT:
                outcomes[key] = _no_longer(remote)
            else:  # alone, the same change is answered with a title and field names
                try:
                    outcomes[key] = self._patch(changes[key], changes[key].address)
                except DestinationError:
                    outcomes[key] = _UNKNOWN
        return outcomes | archived

    def _readdress(self, change: Change) -> Outcome:
        if change.previous_address is None:
            raise ValueError("a readdress without a previous address")
        before = self._members.find(change.previous_address)
        if before is not None and before.status in LEFT:
            return _no_longer(before)  # said at the former address, which somebody else may have next
        if before is not None:
            outcome = self._patch(change, change.previous_address, before=before.status)
            if outcome.code != "vanished":
                return outcome
        # An attempt whose answer was lost, a moment ago or in an earlier run, may have moved it.
        return self._patch(change, change.address, before=before.status if before else None)

    def _opt_out(self, change: Change) -> Outcome:
        before = self._members.find(change.address)
        if before is None or before.status in {"unsubscribed", "cleaned"}:
            return replace(_UNCHANGED, seen=before)  # a bounce says more than an opt-out, and stays
        try:
            return _APPLIED if self._lower(change.address) else _NOT_WRITTEN
        except RefusedRequestError as error:
            found = refusal(error)  # never for good: an opt-out is asked again until it is there
            return Outcome(status=OutcomeStatus.DEFERRED, code=found.code, reason=found.reason)

    def _untag(self, changes: Sequence[Change]) -> list[Outcome]:
        ((tag,),) = {change.tags for change in changes}
        removed, still = self._tags.remove(tag, [change.address for change in changes], self.read)
        return [
            _APPLIED if key in removed else _NOT_WRITTEN if key in still else _UNCHANGED
            for key in (change.address.lower() for change in changes)
        ]

    def _once_per_address(
        self, changes: Sequence[Change], send: Callable[[Mapping[str, Change]], Mapping[str, Outcome]]
    ) -> list[Outcome]:
        """Send the first change of each address: answers name addresses alone, so of a second nothing is known."""
        first: dict[str, Change] = {}
        for change in changes:
            first.setdefault(change.address.lower(), change)
        outcomes = send(first)
        return [
            outcomes[key] if first[key] is change else _SAME_ADDRESS
            for key, change in ((change.address.lower(), change) for change in changes)
        ]

    def _batch(
        self, changes: Mapping[str, Change], batch: Sequence[Mapping[str, Any]], *, update: bool
    ) -> tuple[BatchAnswer, dict[str, Outcome], Iterator[tuple[str, RemoteContact | None]]]:
        """Send a member batch; give its answer, what it settles, and a read-back of everyone it leaves open.

        What is settled stays so when the read-back fails: the others are unknown then.
        """
        lists = self._lists if update else self._api.lists_once
        body = {"members": batch, "update_existing": update}
        try:
            said = of_audience(lists.batch_list_members, self._audience)(body)
        except RefusedRequestError:
            self._fields.refuse_lost({tag for change in changes.values() for tag in change.fields})
            raise
        answer = BatchAnswer(said, update=update)
        recreated = answer.created & changes.keys()
        self._take_back([changes[key] for key in recreated])
        outcomes = dict.fromkeys(answer.written & changes.keys(), _APPLIED)
        outcomes |= dict.fromkeys(recreated, rejected("recreated"))
        outcomes |= {
            key: found for key, found in answer.field_refusals(self._fields.known()) if key in changes
        }
        unsettled = [key for key in changes if key not in outcomes]
        try:
            found = self.read([changes[key].address for key in unsettled])
        except DestinationError:
            return answer, outcomes | dict.fromkeys(unsettled, _UNKNOWN), iter(())
        return answer, outcomes, zip(unsettled, found, strict=True)

    def _patch(self, change: Change, address: str, *, before: str | None = None) -> Outcome:
        """Change the member at `address`, which never creates one, moving it to the change's address if that differs.

        `before` is the status that it had: it is not to rise.
        """
        key = subscriber_hash(address)
        body: dict[str, Any] = {"merge_fields": merge_fields(change.fields, self._fields.known())}
        if address != change.address:
            body["email_address"] = change.address
        try:
            after = self._lists.update_list_member(self._audience, key, body)
            if before is not None and is_raise(before, after["status"]):
                self._take_back([change])  # nobody comes back by changing their address
                after["status"] = "unsubscribed"
            if change.tags:
                tags = [{"name": tag, "status": "active"} for tag in change.tags]
                self._lists.update_list_member_tags(
                    self._audience, subscriber_hash(change.address), {"tags": tags}
                )
        except RefusedRequestError as error:
            return refusal(error)
        return replace(_APPLIED, seen=remote_contact(after))

    def _lower(self, address: str) -> bool:
        """Unsubscribe one member and say whether the answer shows it. A missing required field must not stop it."""
        after = self._lists.update_list_member(
            self._audience, subscriber_hash(address), {"status": "unsubscribed"}, skip_merge_validation=True
        )
        return after["status"] in LEFT

    def _take_back(self, changes: Sequence[Change]) -> None:
        """Unsubscribe those whom Mailchimp raised by itself. Goes through all of them before it gives up, loudly."""
        left: list[int] = []
        for change in changes:
            try:
                lowered = self._lower(change.address)
            except DestinationError:
                lowered = False
            if not lowered:
                left.append(change.contact_key)
        if left:
            raise ConsentError(
                f"Mailchimp made {len(left)} contacts mailable by itself and they could not be unsubscribed again. "
                f"Archive them by hand: {', '.join(map(str, left))}."
            )


def _no_longer(remote: RemoteContact) -> Outcome:
    """Say that a member is there and may not be mailed; what was seen tells the engine why."""
    return rejected("compliance_state", seen=remote)
