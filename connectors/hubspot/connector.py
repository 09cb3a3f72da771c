"""HubSpot CRM (https://developers.hubspot.com/docs/api-reference): an audience is a portal, a tag an option or a list.

Which request each operation is, and what its answer means for each contact; no retry, no wait, no consent decision.

HubSpot mails whoever is there and never opted out, so that making somebody is what raises them: `batch/create` meets
nobody who is there already. The loser was `batch/upsert` by our own unique property, which answers for each contact
and saves a read where one is there: it would give a record that somebody made, or moved, another address, and an
opt-out stays with the old one. Whoever exists is written by record id, which never makes anybody.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Final, Self

from ...core.consent import ConsentState
from ...core.errors import ConsentError, UnsupportedFeatureError
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
from ..auth import KeyAuth
from ..base import Connector, Erased, Page, guard
from ..limiter import Limiter
from ..patience import Patience
from ..transport import RefusedRequestError, Transport
from ..verdicts import Dialect
from ..webhooks import InstalledWebhook
from .consent import Subscriptions
from .payload import (
    FIELD_TYPES,
    LEFT,
    REMEDIES,
    TAGS,
    creation,
    refusal,
    rejected,
    update,
)
from .properties import Properties
from .records import Records
from .sdk import SEARCH, endpoints
from .settings import LARGEST_BATCH, SEARCHES, TIERS, Settings
from .tags import ListTags, PropertyTags, Tags
from .webhooks import WATCHED, HubSpotWebhooks

_APPLIED: Final = Outcome(status=OutcomeStatus.APPLIED)
_UNCHANGED: Final = Outcome(status=OutcomeStatus.UNCHANGED)
_NOT_WRITTEN: Final = Outcome(
    status=OutcomeStatus.DEFERRED,
    code="not_written",
    reason="HubSpot answered without an error and wrote nothing; the next run tries again.",
)
_BESIDE: Final = Outcome(
    status=OutcomeStatus.DEFERRED,
    code="beside_a_conflict",
    reason="HubSpot refused the whole batch for another contact of it; the next run tries again.",
)
_UNKNOWN: Final = Outcome(
    status=OutcomeStatus.UNKNOWN,
    code="not_read_back",
    reason="HubSpot's answer left open what happened, and reading the contact back failed.",
)


class HubSpot(Connector):
    """The contacts of one portal."""

    name = "hubspot"
    label = "HubSpot"
    capabilities: Capabilities = Capabilities(
        field_types=frozenset(FIELD_TYPES.values()),
        field_tag_length=100,
        field_tag_pattern=r"[a-z][a-z0-9_]*",
        field_slots={"portal": 1000},
        reserved_tags=frozenset(),
        text_bytes=65_536,
        tag_length=100,
        batch_sizes={
            Operation.OPT_OUT: 1,
            Operation.CREATE: LARGEST_BATCH,
            Operation.UPDATE: LARGEST_BATCH,
            Operation.READDRESS: 1,
            Operation.UNTAG: LARGEST_BATCH,
        },
        concurrency=8,
        rate_limits=TIERS["starter"],
        shows_consent=False,
        makes_tags=True,
        tags_as_one=True,
        by_record_id=True,
        reads={
            Operation.OPT_OUT: Reads(requests=2),
            Operation.READDRESS: Reads(requests=3),
            Operation.UNTAG: Reads(requests=1, contacts=None),
        },
        schema_reads=2,
        field_syntax="{{{{ contact.{tag} }}}}",
    )
    webhooks = HubSpotWebhooks()
    remedies = REMEDIES
    erasing = "HubSpot deletes the contact for good, with all its history there, and keeps the address from being used again."
    dialect: ClassVar = Dialect(
        label="HubSpot",
        code_of=lambda body: str(body.get("category", "")) if isinstance(body, dict) else "",
    )

    def __init__(
        self, transport: Transport, settings: Settings, *, capabilities: Capabilities | None = None
    ) -> None:
        self.capabilities = capabilities or type(self).capabilities
        self._transport = transport
        self._api = endpoints(transport, version=settings.api)
        self._properties = Properties(self._api)
        self._records = Records(self._api, self._properties)
        self._tags: Tags = (
            ListTags(self._api) if settings.tags == "lists" else PropertyTags(self._api, self._properties)
        )
        self._subscriptions = Subscriptions(
            self._api, subscription=settings.subscription, legal_basis=settings.legal_basis
        )

    @classmethod
    def from_settings(cls, settings: Mapping[str, str]) -> Self:
        """Read `token`, and optionally `tier`, `api`, `tags`, `subscription`, `legal_basis` and what all connectors take."""
        read = Settings.read(settings)
        sizes = cls.capabilities.batch_sizes
        capabilities = replace(
            cls.capabilities,
            batch_sizes={operation: min(size, read.batch_size) for operation, size in sizes.items()},
            rate_limits=read.rate_limits,
            makes_tags=read.tags == "property",
            tags_as_one=read.tags == "property",
        )
        transport = Transport(
            read.base_url,
            dialect=cls.dialect,
            auth=KeyAuth("Bearer", read.token),
            limiter=Limiter(capabilities.concurrency, capabilities.rate_limits),
            lanes={SEARCH: Limiter(1, [SEARCHES])},
            patience=Patience(first_wait=read.retry_wait),
        )
        return cls(transport, read, capabilities=capabilities)

    @property
    def transport(self) -> Transport:
        """The one way out."""
        return self._transport

    def check(self) -> Account:
        """Prove the token; also learns the properties and their types."""
        portal = self._api.call("GET", "/account-info/v3/details")
        self._properties.read()
        counted = self._api.search.do_search({"filterGroups": [], "limit": 1, "properties": ["email"]})
        return Account(
            label=f"portal {portal['portalId']}",
            audience=f"portal {portal['portalId']}",
            audience_id=str(portal["portalId"]),
            contacts=counted["total"],
            fields=self._properties.types(),
            tags=self._tags.known(),
            unmade=self._properties.unmade(),
        )

    def ensure(self, schema: DestinationSchema) -> None:
        """Create the missing properties, or none when one clashes, and the options of tags that are such."""
        self._properties.ensure(schema.fields, self._tags.in_properties(schema.tags))

    def write(self, operation: Operation, changes: Sequence[Change]) -> list[Outcome]:
        """Send one batch. An outcome's code is one of the keys of `payload.REASONS`, or of those above."""
        guard(operation, changes, self.capabilities)
        if not changes:
            return []
        match operation:
            case Operation.CREATE:
                return self._create(changes)
            case Operation.UPDATE:
                return self._update(changes)
            case Operation.READDRESS:
                return [self._readdress(change) for change in changes]
            case Operation.OPT_OUT:
                return [self._opt_out(change) for change in changes]
            case Operation.UNTAG:
                return self._untag(changes)

    def pull(self, cursor: str | None, *, only: Collection[str] | None = None) -> Iterator[Page]:
        """Give pages of contacts: everyone, or whoever changed since. Those without an address are left out."""
        return self._records.pages(cursor, only=only)

    def read(self, addresses: Sequence[str]) -> list[RemoteContact | None]:
        """Read contacts by address, a hundred a request."""
        return self._records.read(addresses)

    def erase(self, address: str) -> Erased:
        """Delete a contact for good, by HubSpot's call for data protection."""
        if self._records.find(address) is None:
            return Erased(was_there=False, answer="", is_gone=True)
        body = {"objectId": address, "idProperty": "email"}
        self._api.call("POST", "/crm/v3/objects/contacts/gdpr-delete", body)
        return Erased(was_there=True, answer="204", is_gone=self._records.find(address) is None)

    def install_webhook(self, url: str) -> InstalledWebhook:
        """Say how it is done by hand: only apps of the old kind can be told by API."""
        raise UnsupportedFeatureError(
            "HubSpot's webhooks belong to the app and are made there by hand: open your app in HubSpot, Webhooks, and"
            f" give {url} as target URL. Subscribe to contact.propertyChange of {', '.join(WATCHED)} and email, and to"
            " contact.deletion, contact.privacyDeletion and contact.merge; then switch the subscriptions on. The secret"
            " that signs is the app's client secret, under Auth."
        )

    def _create(self, changes: Sequence[Change]) -> list[Outcome]:
        inputs = [creation(change, self._tags.in_properties(change.tags)) for change in changes]
        try:
            answer = self._api.batch_once.create({"inputs": inputs})
        except RefusedRequestError as refused:
            self._refuse_lost(changes)
            if refused.status != 409:
                raise
            return self._met(changes, refused)
        outcomes = self._outcomes(changes, answer, {})
        answers = list(zip(changes, outcomes, strict=True))
        if taken := [change for change, outcome in answers if outcome.code == "address_taken"]:
            there = self._there(taken)
            outcomes = [there.get(change.contact_key, outcome) for change, outcome in answers]
        made = _applied(changes, outcomes)
        for change, _ in made:
            if change.consent is ConsentState.SUBSCRIBED and change.grant is not None:
                self._subscriptions.subscribe(change.address, change.grant)
        self._tag(made)
        return outcomes

    def _met(self, changes: Sequence[Change], refused: RefusedRequestError) -> list[Outcome]:
        """Say who of a refused batch is there already: the answer names the first of them alone."""
        there = self._there(changes)
        if not there and len(changes) > 1:
            raise refused
        return [
            there.get(change.contact_key, rejected("address_taken") if len(changes) == 1 else _BESIDE)
            for change in changes
        ]

    def _there(self, changes: Sequence[Change]) -> dict[int, Outcome]:
        """Say of each contact that is there already what it is to a create, by key.

        Who is not has an id or a second address of somebody else's.
        """
        found = self.read([change.address for change in changes])
        return {
            change.contact_key: rejected("left", seen=contact)
            if contact.state in LEFT
            else Outcome(status=OutcomeStatus.EXISTS, seen=contact, record_id=contact.record_id)
            for change, contact in zip(changes, found, strict=True)
            if contact is not None
        }

    def _update(self, changes: Sequence[Change]) -> list[Outcome]:
        ids = self._records.ids(changes)
        known = [change for change in changes if change.contact_key in ids]
        outcomes = dict.fromkeys((change.contact_key for change in changes), rejected("vanished"))
        outcomes |= self._sent(known, ids)
        # An id may have changed with a merge since it was told.
        lost = [
            change for change in known if change.record_id and outcomes[change.contact_key].code == "vanished"
        ]
        if lost:
            again = self._records.ids([replace(change, record_id="") for change in lost])
            outcomes |= self._sent([change for change in lost if change.contact_key in again], again)
        return [outcomes[change.contact_key] for change in changes]

    def _sent(self, changes: Sequence[Change], ids: Mapping[int, str]) -> dict[int, Outcome]:
        if not changes:
            return {}
        inputs = [
            update(ids[change.contact_key], change, self._tags.in_properties(change.tags))
            for change in changes
        ]
        try:
            answer = self._api.batch.update({"inputs": inputs})
        except RefusedRequestError:
            self._refuse_lost(changes)
            raise
        outcomes = self._outcomes(changes, answer, ids)
        self._tag(_applied(changes, outcomes))
        return {change.contact_key: outcome for change, outcome in zip(changes, outcomes, strict=True)}

    def _outcomes(
        self, changes: Sequence[Change], answer: Mapping[str, Any], ids: Mapping[int, str]
    ) -> list[Outcome]:
        """Say what a batch's answer means for each contact. 207 is a success: errors stand beside the results.

        They come in any order. An error names the contacts by our keys, by the record `ids`, or by neither.
        """
        written = {str(each.get("objectWriteTraceId")): each for each in answer["results"]}
        keys = {record_id: str(key) for key, record_id in ids.items()}
        refused: dict[str, Outcome] = {}
        for error in answer.get("errors") or ():
            context, found = error.get("context") or {}, refusal(error)
            if found.code == "lost_property":
                self._refuse_lost(changes)
            named = [str(key) for key in context.get("objectWriteTraceId", ())]
            named += [keys[record_id] for record_id in map(str, context.get("ids", ())) if record_id in keys]
            refused |= dict.fromkeys(named, found)
        return [
            replace(_APPLIED, record_id=str(written[key]["id"]))
            if key in written
            else refused.get(key, _UNKNOWN)
            for key in (str(change.contact_key) for change in changes)
        ]

    def _readdress(self, change: Change) -> Outcome:
        if change.previous_address is None:
            raise ValueError("a readdress without a previous address")
        before = self._records.find(change.previous_address)
        if before is not None and before.state in LEFT:
            return rejected("left", seen=before)
        # An attempt whose answer was lost, a moment ago or in an earlier run, may have moved it.
        there = before or self._records.find(change.address)
        if there is None:
            return rejected("vanished")
        moved = update(there.record_id, change, self._tags.in_properties(change.tags))
        moved["properties"]["email"] = change.address
        try:
            self._api.contacts.update(there.record_id, {"properties": moved["properties"]})
        except RefusedRequestError as error:
            return refusal(error.body if isinstance(error.body, dict) else {})
        if self._subscriptions.has_left(
            change.previous_address
        ):  # while they moved; what they said stays behind
            if not self._subscriptions.opt_out(change.address):
                raise ConsentError(
                    f"HubSpot mails contact {there.record_id} again, who opted out while the address changed."
                    " Opt them out by hand."
                )
            left = self._records.find(change.address) or there
            return rejected(
                "left", seen=replace(left, address=change.previous_address, state=ConsentState.UNSUBSCRIBED)
            )
        self._tag([(change, there.record_id)])
        after = self._records.find(change.address)
        if after is None:
            return _UNKNOWN
        return replace(_APPLIED, seen=after, record_id=after.record_id)

    def _opt_out(self, change: Change) -> Outcome:
        before = self._records.find(change.address)
        if before is None or before.state in LEFT:
            return replace(_UNCHANGED, seen=before)
        try:
            return _APPLIED if self._subscriptions.opt_out(change.address) else _NOT_WRITTEN
        except RefusedRequestError as error:
            found = refusal(error.body if isinstance(error.body, dict) else {})
            return Outcome(status=OutcomeStatus.DEFERRED, code=found.code, reason=found.reason)

    def _untag(self, changes: Sequence[Change]) -> list[Outcome]:
        ((tag,),) = {change.tags for change in changes}
        records = {
            record["properties"]["email"]: record
            for record in self._records.raw([change.address for change in changes], ["email", TAGS])
        }
        removed, still = self._tags.remove(tag, list(records.values()))
        ids = (records.get(change.address.lower(), {}).get("id") for change in changes)
        return [_APPLIED if key in removed else _NOT_WRITTEN if key in still else _UNCHANGED for key in ids]

    def _tag(self, written: Sequence[tuple[Change, str]]) -> None:
        """Put whoever was written, by record id, on the lists that are their tags."""
        lists: dict[str, list[str]] = {}
        for change, record_id in written:
            for tag in set(change.tags).difference(self._tags.in_properties(change.tags)):
                lists.setdefault(tag, []).append(record_id)
        self._tags.add(lists)

    def _refuse_lost(self, changes: Sequence[Change]) -> None:
        self._properties.refuse_lost({tag for change in changes for tag in change.fields})


def _applied(changes: Sequence[Change], outcomes: Sequence[Outcome]) -> list[tuple[Change, str]]:
    """Give those changes that were carried out, with the ids of their records."""
    return [
        (change, outcome.record_id)
        for change, outcome in zip(changes, outcomes, strict=True)
        if outcome.status is OutcomeStatus.APPLIED
    ]
