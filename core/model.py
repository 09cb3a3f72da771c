"""The nouns that all parts share: frozen, without behaviour beyond what their own data says.

Nothing here knows a source, an ESP, a database or the time of day.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

import orjson

from .consent import ConsentState


class TraitType(StrEnum):
    """What kind of value a trait holds. Money is DECIMAL in the shop's currency; times are aware UTC."""

    TEXT = "text"
    INTEGER = "integer"
    NUMBER = "number"
    MONEY = "money"
    BOOLEAN = "boolean"
    DATE = "date"
    TIMESTAMP = "timestamp"
    TEXT_LIST = "text_list"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trait:
    """One named, typed value that a build computes or reads for each contact.

    `description` is a sentence a marketer understands; `null_means` says in words when there is no value.
    """

    name: str
    type: TraitType
    description: str
    null_means: str = ""


class FieldType(StrEnum):
    """What a destination's field can hold; a connector names the ESP's own word for each."""

    TEXT = "text"
    NUMBER = "number"
    DATE = "date"
    BIRTHDAY = "birthday"
    URL = "url"
    IMAGE_URL = "image_url"
    PHONE = "phone"
    ZIP = "zip"


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldSpec:
    """A field of ours at a destination: `tag` is the name in the API and the template, `label` what a person reads."""

    tag: str
    label: str
    type: FieldType
    purpose: str
    default: str = ""
    claim: bool = False  # take over a field of this tag that somebody else made


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationSchema:
    """The fields and tags that a mapping needs to exist before the first contact is written."""

    fields: tuple[FieldSpec, ...] = ()
    tags: tuple[str, ...] = ()


class Operation(StrEnum):
    """What one request item does. Their order here is the order in which apply sends them."""

    OPT_OUT = "opt_out"  # lowers consent; always first
    CREATE = "create"
    UPDATE = "update"  # fields and added tags of a contact that exists; never a consent state
    READDRESS = "readdress"  # a new address, and whatever else changed, for a contact that exists
    UNTAG = "untag"  # removes one tag


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """What nobody knows of a contact since a write's answer never came: these fields may hold either value, and
    these tags may be there or not.
    """

    fields: frozenset[str] = frozenset()
    tags: frozenset[str] = frozenset()

    def without(self, tags: Iterable[str]) -> "Doubt | None":
        """Give what is left in doubt once these tags are certain, None when nothing is."""
        left = replace(self, tags=self.tags.difference(tags))
        return left if left.fields or left.tags else None


@dataclass(frozen=True, slots=True, kw_only=True)
class ContactState:
    """What a destination holds of a contact, as far as we wrote it: the unit of desire, baseline and diff.

    Values are the canonical texts that the mapping made (numbers and dates too), so that equal means equal
    in SQL and in Python alike. A field without a value is absent. `tags` are all that may be there; a state in doubt
    equals no desired one, and so is written again.
    """

    address: str
    fields: Mapping[str, str] = field(default_factory=dict)
    tags: frozenset[str] = frozenset()
    doubt: Doubt | None = None

    def canonical(self) -> str:
        """Give the one JSON text of this state; `sync.planning.diff` builds the same text in SQL."""
        raw: dict[str, Any] = {
            "address": self.address,
            "fields": dict(sorted(self.fields.items())),
            "tags": sorted(self.tags),
        }
        if self.doubt is not None:
            raw["doubt"] = {"fields": sorted(self.doubt.fields), "tags": sorted(self.doubt.tags)}
        return orjson.dumps(raw).decode()

    def digest(self) -> bytes:
        """Give the 16-byte row hash that the narrow baseline keeps. MD5 names equality here, it guards nothing."""
        return hashlib.md5(self.canonical().encode(), usedforsecurity=False).digest()

    @classmethod
    def parse(cls, text: str) -> "ContactState":
        """Read `canonical` back."""
        raw = orjson.loads(text)
        doubt = {name: frozenset(among) for name, among in raw.get("doubt", {}).items()}
        return cls(
            address=raw["address"],
            fields=raw["fields"],
            tags=frozenset(raw["tags"]),
            doubt=Doubt(**doubt) if doubt else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """The recorded evidence that lets a create say `subscribed`."""

    granted_at: datetime
    source: str
    evidence: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One item of one request: the smallest thing that an ESP confirms or refuses.

    `fields` holds only what changes, None clearing a value. `tags` are added, except by UNTAG, which removes its
    single one. `consent` is set on CREATE and OPT_OUT alone, by the gate, at the moment of packing. `record_id` is the
    ESP's id of the contact, as it was told last, for connectors that write by it; "" where it is not known. `tags_held`
    are the tags of ours that the contact has, as far as is known, for connectors that write them all as one value; None
    where that is not known.
    """

    contact_key: int
    operation: Operation
    address: str
    fields: Mapping[str, str | None] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    previous_address: str | None = None
    consent: ConsentState | None = None
    grant: Grant | None = None
    record_id: str = ""
    tags_held: frozenset[str] | None = None

    def confirmed_on(self, before: ContactState | None) -> ContactState:
        """Give the baseline after the ESP confirmed this change on top of `before`."""
        held = before or ContactState(address=self.address)
        if self.operation is Operation.OPT_OUT:
            return held
        if self.operation is Operation.UNTAG:
            return replace(
                held, tags=held.tags - set(self.tags), doubt=held.doubt and held.doubt.without(self.tags)
            )
        fields = {**held.fields, **self.fields}
        return ContactState(
            address=self.address,
            fields={tag: value for tag, value in fields.items() if value is not None},
            tags=held.tags | set(self.tags),
        )

    def doubted_on(self, before: ContactState | None) -> ContactState:
        """Give the baseline after this change was sent on top of `before` and its answer never came.

        The address stays `before`'s: whether a contact moved is asked, not doubted.
        """
        held = before or ContactState(address=self.address)
        if self.operation is Operation.OPT_OUT:
            return held
        known = held.doubt or Doubt()
        doubt = Doubt(fields=known.fields | self.fields.keys(), tags=known.tags | set(self.tags))
        return replace(held, tags=held.tags | set(self.tags), doubt=doubt.without(()))


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteContact:
    """One contact as an ESP shows it. `state` is what it means for consent; `status` is the ESP's own word."""

    address: str
    state: ConsentState
    status: str
    fields: Mapping[str, str] = field(default_factory=dict)
    tags: frozenset[str] | None = None  # None: the ESP's answer was cut and the tags are not known in full
    changed_at: datetime | None = None
    opted_in_at: datetime | None = None  # the ESP's own time of consent: evidence, unlike the state
    name: str = (
        ""  # the ESP's own name for the contact, which stays when the address changes; "" where it has none
    )
    record_id: str = ""  # the id by which the connector writes to the contact; "" where it writes by address


class EngagementKind(StrEnum):
    """What a contact did with a mailing."""

    OPEN = "open"
    CLICK = "click"


@dataclass(frozen=True, slots=True, kw_only=True)
class Engagement:
    """One open or click, at the ESP's own time. `campaign` is the ESP's id of the mailing."""

    address: str
    kind: EngagementKind
    occurred_at: datetime
    campaign: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InboundEvent:
    """Something that an ESP says happened to one contact, at its own time.

    `state` is set where somebody left; everything else is a hint to read the contact. `status` is the ESP's own word,
    `key` names the event among all of its destination, however often it is sent. ESPs that name no address name the
    `record_id`.
    """

    key: str
    address: str
    occurred_at: datetime
    status: str
    state: ConsentState | None = None
    previous_address: str | None = None
    record_id: str = ""


class OutcomeStatus(StrEnum):
    """What became of one change."""

    APPLIED = "applied"
    UNCHANGED = "unchanged"  # the ESP says that it was so already
    ACCEPTED = "accepted"  # taken, and not done yet: `Connector.poll` tells what becomes of it
    EXISTS = "exists"  # a create met a contact that is there: becomes an update
    MADE = "made"  # a create made the contact and nothing more: becomes an update
    UNSENT = "unsent"  # had no place in its request: goes with the next one
    WITHHELD = "withheld"  # the gate said no at packing time
    REJECTED = "rejected"  # for good, until the payload changes
    DEFERRED = "deferred"  # not now: the next run tries again
    STALE = "stale"  # the baseline moved after the plan was made
    UNKNOWN = "unknown"  # sent, and no answer: asked or sent again, never counted as failed


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What an ESP answered for one change: `code` is stable and for machines, `reason` a sentence for people.

    `seen` is the contact as the ESP showed it while answering, None when it showed nothing. `record_id` is its id
    there, from connectors that write by it. `job` is the ESP's name of the job that ACCEPTED it, "" where it gave none.
    """

    status: OutcomeStatus
    code: str = ""
    reason: str = ""
    seen: RemoteContact | None = None
    record_id: str = ""
    job: str = ""


class WithheldReason(StrEnum):
    """Why a contact gets nothing. Each has a sentence in `sync.gate`; a plan counts them by reason."""

    NO_GRANT = "no_grant"
    WITHDRAWN = "withdrawn"
    SUPPRESSED = "suppressed"
    PENDING = "pending"
    INVALID_ADDRESS = "invalid_address"
    SHARED_ADDRESS = "shared_address"
    HOLD_OUT = "hold_out"
    OVER_BUDGET = "over_budget"
    REJECTED_BEFORE = "rejected_before"
    AGREED_SINCE = "agreed_since"


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimit:
    """At most `count` requests in any `seconds`."""

    count: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Reads:
    """What an operation asks besides its writes: `requests` for each `contacts` of it that are begun, None for a batch."""

    requests: int
    contacts: int | None = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Jobs:
    """How an ESP takes writes in jobs that it works off by itself.

    `singly` is up to how many contacts of a batch are written one by one instead, at once. A job's request holds at
    most `request_bytes`. It is asked after `first_poll` seconds whether it is done, then each time after twice as long,
    at most `longest_poll`.
    """

    operations: frozenset[Operation]
    singly: int
    request_bytes: int
    first_poll: float = 2.0
    longest_poll: float = 30.0

    def waits(self, within: float) -> Iterator[float]:
        """Give the seconds before each question, for about so many seconds.

        >>> jobs = Jobs(operations=frozenset(), singly=0, request_bytes=0, first_poll=2, longest_poll=5)
        >>> list(jobs.waits(15))
        [2, 4, 5, 5]
        """
        wait, waited = self.first_poll, 0.0
        while waited < within:
            yield wait
            waited += wait
            wait = min(2 * wait, self.longest_poll)


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What an ESP can do and how much of it, as data: mappings and plans are checked against it, not against code.

    Sizes are items per request. `text_bytes` is the UTF-8 length after which the ESP cuts a text silently.
    """

    field_types: frozenset[FieldType]
    field_tag_length: int
    field_tag_pattern: str
    field_slots: Mapping[str, int]  # by plan of the account, e.g. {"standard": 30, "premium": 80}
    reserved_tags: frozenset[str] = (
        frozenset()
    )  # mean something of their own in a template: never a field of ours
    text_bytes: int
    tag_length: int
    batch_sizes: Mapping[Operation, int]
    concurrency: int
    rate_limits: tuple[RateLimit, ...] = ()
    seconds_per_request: float = 1.0  # for the plan's estimate of time, when no rate limit is declared
    shows_consent: bool = True  # mails only who agreed there; False: whoever is there and never refused
    makes_tags: bool = (
        False  # tags must be made before the first contact carries one; all at once, by one request
    )
    makes_fields: bool = (
        True  # fields must be made before they are written; False: they appear with their first value
    )
    makes_first: bool = False  # a create makes the contact alone; its fields follow as an update
    tags_as_one: bool = False  # all tags of a contact are one value: two writes at once would undo each other
    by_record_id: bool = False  # later writes name the ESP's own id of a contact
    reads: Mapping[Operation, Reads] = field(default_factory=dict)  # what operations ask besides their writes
    schema_reads: int = 0  # what making fields asks besides, however many
    jobs: Jobs | None = None  # None: every write is done when it is answered
    quiet_tags: bool = False  # can be written without setting off automations
    field_syntax: str = "{tag}"  # how a field is written in the ESP's template language


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What `Connector.check` learns about the account that a destination writes to."""

    label: str
    audience: str
    contacts: int | None  # None: the ESP does not tell
    audience_id: str = ""  # what stays when the audience is renamed
    double_opt_in: bool = False
    fields: Mapping[str, FieldType | None] = field(
        default_factory=dict
    )  # by tag; None: a type we never write
    tags: frozenset[str] | None = frozenset()  # None: the ESP does not tell
    unmade: int = 0  # requests that it takes to make what we need there besides fields and tags

    def lacks(self, tags: Iterable[str]) -> frozenset[str]:
        """Give those of some tags that the account does not have, in whatever case; none where it does not tell."""
        there = {tag.lower() for tag in self.tags or ()}
        return frozenset() if self.tags is None else frozenset(t for t in tags if t.lower() not in there)
