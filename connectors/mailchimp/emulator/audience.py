"""The emulated Mailchimp's memory: audiences, members, tags, and what each kind of write does to a member.

No HTTP and no JSON shapes here. Where no source settles what Mailchimp does, `Rules.permissive` chooses: False takes
the worst for the people on the list, True lets every raise of consent through, so that our own gate must hold alone.

Settled by sources: an address that erased itself cannot come back by API; whoever unsubscribed or bounced cannot be
subscribed by API ("compliance state"); an archived contact can, whatever it had said before. Unsettled, and so decided
here: someone whom the *API* unsubscribed can be subscribed by the API; PATCH of an archived member leaves it archived.

Each write that takes somebody from "no" to a state in which mail goes out is remembered in `Audience.raises`: the one
list that must stay empty in every test of ours.
"""

import hashlib
import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal

from ...emulator import Raise
from .fields import FieldError, MergeField, standard_fields, stored

WRITABLE = frozenset({"subscribed", "unsubscribed", "cleaned", "pending", "transactional"})
MAILABLE = frozenset({"subscribed", "pending"})  # a pending member gets the confirmation mail
TAG_NAME_LENGTH = 100
_ADDRESS = re.compile(r"[^\s@,;:<>()\[\]\"\\]+@[^\s@.]+(\.[^\s@.]+)+")
Source = Literal["user", "api"]
_FAKE = re.compile(r"(^|@|\.)(example\.(com|org|net|edu)|example|test|invalid|localhost)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How this account treats writes; see the emulator's settings."""

    permissive: bool = False
    refuse_fake_addresses: bool = False
    skip_required: bool = False  # the request's own `skip_merge_validation`


class MemberError(Exception):
    """A refused write. `title` and `detail` are the problem's; `errors` are (field, sentence key) of merge fields."""

    def __init__(self, title: str, detail: str, *, errors: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(title)
        self.title = title
        self.detail = detail
        self.errors = errors


@dataclass(slots=True)
class Member:
    """One contact of one audience. `refused` is how the person last said no, None when they did not."""

    id: str  # the subscriber hash of the address
    address: str
    status: str
    contact_id: str
    web_id: int
    last_changed: datetime
    merge_fields: dict[str, Any] = field(default_factory=dict)
    tags: dict[int, datetime] = field(default_factory=dict)  # by segment id: when added
    refused: str | None = None  # "unsubscribe", "bounce", "complain", or "api" when a write did it
    unsubscribed_at: datetime | None = None
    timestamp_signup: str = ""
    ip_signup: str = ""
    timestamp_opt: str = ""
    ip_opt: str = ""
    language: str = ""
    email_type: str = "html"
    vip: bool = False
    source: str = "API - Generic"
    location: dict[str, float] = field(default_factory=dict)
    marketing_permissions: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    confirmation_mails: int = 0

    @property
    def compliance(self) -> bool:
        """Whether Mailchimp itself refuses to subscribe this member by API."""
        return self.refused in {"unsubscribe", "bounce", "complain"} and self.status != "archived"


@dataclass(slots=True)
class Segment:
    """A static segment, which is also a tag: same object, same id."""

    id: int
    name: str
    created_at: datetime
    updated_at: datetime
    members: set[str] = field(default_factory=set)  # contact ids: they survive a change of address


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """What was done to a member, and by whom: how they were and how they are, None where they were or are not there."""

    before: Member | None
    after: Member | None
    source: Source


def subscriber_hash(address: str) -> str:
    """Give Mailchimp's id of an address: MD5 of its lower case."""
    return hashlib.md5(address.lower().encode(), usedforsecurity=False).hexdigest()


class Audience:
    """One list. Members are keyed by subscriber hash; an erased address leaves only its hash behind."""

    def __init__(
        self, list_id: str, name: str, *, number: int, created: datetime, double_optin: bool = False
    ) -> None:
        self.id = list_id
        self.name = name
        self.number = number
        self.created = created
        self.double_optin = double_optin
        self.members: dict[str, Member] = {}
        self.fields: dict[str, MergeField] = {each.tag: each for each in standard_fields()}
        self.segments: dict[int, Segment] = {}
        self.forgotten: set[str] = set()
        self.raises: list[Raise] = []
        self._by_name: dict[str, int] = {}
        self._by_contact: dict[str, Member] = {}
        self._made = 0
        self._next_segment = 1000
        self._next_field = len(self.fields) + 1
        self.listener: Callable[[Happening], None] | None = None  # told of whatever is done to a member

    # Finding

    def find(self, key: str) -> Member | None:
        """Find a member by subscriber hash, address or contact id."""
        if (member := self.members.get(key)) is not None:
            return member
        if "@" in key:
            return self.members.get(subscriber_hash(key))
        return self._by_contact.get(key)

    def members_of(self, segment: Segment) -> list[Member]:
        """Give the members that carry a tag, in the order in which they joined the audience."""
        return sorted(
            (self._by_contact[contact] for contact in segment.members), key=lambda member: member.web_id
        )

    # Members

    def check_address(self, address: Any, rules: Rules) -> str:
        """Give the address as text. Raises MemberError when it is none, fake, or erased for good."""
        if not isinstance(address, str) or _ADDRESS.fullmatch(address) is None:
            raise MemberError("Invalid Resource", "Please provide a valid email address.")
        if rules.refuse_fake_addresses and _FAKE.search(address):
            raise MemberError(
                "Invalid Resource", f"{address} looks fake or invalid, please enter a real email address."
            )
        if not rules.permissive and subscriber_hash(address) in self.forgotten:
            raise MemberError(
                "Forgotten Email Not Subscribed",
                f"{address} was permanently deleted and cannot be re-imported. "
                "The contact must re-subscribe to get back on the list.",
            )
        return address

    def create(
        self,
        data: Mapping[str, Any],
        status: str | None,
        *,
        rules: Rules,
        now: datetime,
        request: int,
        source: Source = "api",
    ) -> Member:
        """Add a member, or bring an archived one back. The address must be free, and `check_address`ed.

        No status means subscribed, which is the worst that a write without one can do, and is noted as a raise.
        """
        address = data["email_address"]
        key = subscriber_hash(address)
        member = self.members.get(key)
        before = self._as_is(member)
        fields = self._fields(data, member, rules=rules)
        extras = _extras(data)
        if member is None:
            self._made += 1
            digest = hashlib.sha256(f"{self.id}:{self._made}".encode()).hexdigest()
            member = Member(key, address, "", digest[:32], self._made + 100_000, now)
            self.members[key] = self._by_contact[member.contact_id] = member
        if key in self.forgotten:
            self.forgotten.discard(key)
            self.note_raise(member, "forgotten", status or "subscribed", "erase", request)
        self._apply(member, fields, extras, now)
        if status is None:
            status = "subscribed"
            self.note_raise(member, member.status or "absent", status, member.refused, request)
            member.refused = None
        self._move(member, status, now=now, request=request)
        if status == "subscribed" and not member.timestamp_opt:
            member.timestamp_opt = now.isoformat(timespec="seconds")
        self._tell(before, member, source)
        return member

    def update(
        self,
        member: Member,
        data: Mapping[str, Any],
        status: str | None,
        *,
        rules: Rules,
        now: datetime,
        request: int,
    ) -> None:
        """Change a member that is there; no status leaves the status alone. Nothing changes when it raises."""
        if status == "subscribed" and member.compliance and not rules.permissive:
            raise MemberError(
                "Member In Compliance State",
                f"{member.address} is in a compliance state due to unsubscribe, bounce, or compliance review "
                "and cannot be subscribed.",
            )
        before = self._as_is(member)
        fields = self._fields(data, member, rules=rules)
        extras = _extras(data)
        address = data.get("email_address", member.address)
        if address != member.address:
            self._readdress(member, self.check_address(address, rules))
        self._apply(member, fields, extras, now)
        if status is not None:
            self._move(member, status, now=now, request=request)
        self._tell(before, member, "api")

    def archive(self, member: Member, now: datetime) -> None:
        """Take a member off the list. What they had said before is no longer visible, and no longer protects them."""
        before = self._as_is(member)
        member.status, member.last_changed = "archived", now
        self._tell(before, member, "api")

    def erase(self, member: Member, source: Source = "api") -> None:
        """Delete a member for good."""
        for segment in self.segments.values():
            segment.members.discard(member.contact_id)
        del self.members[member.id], self._by_contact[member.contact_id]
        self.forgotten.add(member.id)
        self._tell(member, None, source)

    def leave(self, member: Member, act: str, now: datetime) -> None:
        """Let the person say no by themselves: unsubscribe, bounce or complain."""
        before = self._as_is(member)
        member.status = "cleaned" if act == "bounce" else "unsubscribed"
        member.refused, member.last_changed = act, now
        member.unsubscribed_at = None if act == "bounce" else now
        self._tell(before, member, "user")

    def join(self, address: str, now: datetime) -> None:
        """Let the person sign up by a form: ends every refusal, confirmed where the audience asks for it."""
        key = subscriber_hash(address)
        self.forgotten.discard(key)
        member = self.members.get(key)
        if member is None:
            data = {"email_address": address, "timestamp_signup": now.isoformat(timespec="seconds")}
            status = "pending" if self.double_optin else "subscribed"
            member = self.create(data, status, rules=Rules(), now=now, request=0, source="user")
            member.source = "Hosted Signup Form"
            return
        before = self._as_is(member)
        member.refused = member.unsubscribed_at = None
        member.status = "pending" if self.double_optin else "subscribed"
        member.last_changed, member.timestamp_opt = now, now.isoformat(timespec="seconds")
        self._tell(before, member, "user")

    def confirm(self, member: Member, now: datetime) -> None:
        """Let the person follow the link in the confirmation mail."""
        before = self._as_is(member)
        member.status, member.refused, member.unsubscribed_at = "subscribed", None, None
        member.last_changed, member.timestamp_opt = now, now.isoformat(timespec="seconds")
        self._tell(before, member, "user")

    def _as_is(self, member: Member | None) -> Member | None:
        """Keep how a member is before something is done to them; nothing is kept for nobody."""
        if member is None or self.listener is None:
            return None
        return replace(member, merge_fields=dict(member.merge_fields))

    def _tell(self, before: Member | None, after: Member | None, source: Source) -> None:
        """Say what was done to a member: the one place through which everything goes that happens to people."""
        if self.listener is not None:
            self.listener(Happening(before=before, after=after, source=source))

    def _readdress(self, member: Member, address: str) -> None:
        key = subscriber_hash(address)
        if self.members.get(key, member) is not member:
            raise MemberError(
                "Member Exists", f"{address} is already a list member. Use PUT to insert or update."
            )
        del self.members[member.id]
        member.id, member.address = key, address
        self.members[key] = member

    def _move(self, member: Member, status: str, *, now: datetime, request: int) -> None:
        before = member.status
        if status in MAILABLE and before not in MAILABLE and member.refused is not None:
            self.note_raise(member, before, status, member.refused, request)
        if status == "pending" and before != "pending":
            member.confirmation_mails += 1  # repeating it sends no second mail (release note of 2020-08-19)
        if status in {"unsubscribed", "cleaned"} and before != status:
            member.refused = member.refused or "api"
            member.unsubscribed_at = now if status == "unsubscribed" else None
        elif status == "subscribed":
            member.refused = member.unsubscribed_at = None
        member.status, member.last_changed = status, now

    def note_raise(self, member: Member, before: str, after: str, refused: str | None, request: int) -> None:
        """Remember that a write made somebody mailable who had said no, or whom it did not even mean to."""
        self.raises.append(
            Raise(address=member.address, before=before, after=after, refused=refused, request=request)
        )

    def _fields(self, data: Mapping[str, Any], member: Member | None, *, rules: Rules) -> dict[str, Any]:
        """Check the merge fields of a write and give what is stored of them."""
        given = data.get("merge_fields")
        if given is None:
            given = {}
        elif not isinstance(given, dict):
            raise MemberError(
                "Invalid Resource", "Your merge fields were invalid.", errors=(("merge_fields", "value"),)
            )
        kept: dict[str, Any] = {}
        wrong: list[tuple[str, str]] = []
        for tag, value in given.items():
            target = self.fields.get(tag) or self.fields.get(tag.upper())
            try:
                if target is None:
                    raise FieldError(tag, "unknown")  # noqa: TRY301 - one way out for all that is wrong with a field
                kept[target.tag] = stored(target, value, cut_anywhere=not rules.permissive)
            except FieldError as error:
                wrong.append((error.tag, error.key))
        if not rules.skip_required and (member is None or member.status == "archived" or given):
            held = member.merge_fields if member else {}
            wrong.extend(
                (target.tag, "value")
                for target in self.fields.values()
                if target.required and kept.get(target.tag, held.get(target.tag, "")) == ""
            )
        if wrong:
            raise MemberError("Invalid Resource", "Your merge fields were invalid.", errors=tuple(wrong))
        return kept

    def _apply(
        self, member: Member, fields: Mapping[str, Any], extras: Mapping[str, Any], now: datetime
    ) -> None:
        member.merge_fields.update(fields)
        for name, value in extras.items():
            setattr(member, name, value)
        member.last_changed = (
            now  # also when nothing differs: an observed change is no evidence of a person's act
        )

    # Tags, which are static segments

    def segment_named(self, name: str) -> Segment | None:
        """Find a tag by name; case does not count."""
        number = self._by_name.get(name.lower())
        return None if number is None else self.segments[number]

    def tag(self, member: Member, names: Iterable[str], now: datetime) -> None:
        """Add tags by name, making those that do not exist. A tag alone does not move `last_changed`."""
        for name in names:
            segment = self.segment_named(name) or self.add_segment(name, now)
            self.add_to_segment(segment, member, now)

    def add_to_segment(self, segment: Segment, member: Member, now: datetime) -> None:
        """Put one tag on a member; twice is once."""
        member.tags.setdefault(segment.id, now)
        segment.members.add(member.contact_id)

    def remove_from_segment(self, segment: Segment, member: Member) -> None:
        """Take one tag off a member; not carrying it is fine."""
        member.tags.pop(segment.id, None)
        segment.members.discard(member.contact_id)

    def add_segment(self, name: str, now: datetime) -> Segment:
        """Make an empty static segment. Raises MemberError when the name is taken, empty or too long."""
        if not isinstance(name, str) or not name.strip() or len(name) > TAG_NAME_LENGTH:
            raise MemberError("Invalid Resource", "The tag name must have 1 to 100 characters.")
        if self.segment_named(name) is not None:
            raise MemberError("Bad Request", "Sorry, that tag already exists.")
        self._next_segment += 1
        segment = Segment(self._next_segment, name, now, now)
        self.segments[segment.id] = segment
        self._by_name[name.lower()] = segment.id
        return segment

    def rename_segment(self, segment: Segment, name: str, now: datetime) -> None:
        """Give a tag another name."""
        del self._by_name[segment.name.lower()]
        segment.name, segment.updated_at = name, now
        self._by_name[name.lower()] = segment.id

    def drop_segment(self, segment: Segment) -> None:
        """Delete a tag, from everyone."""
        for member in self.members_of(segment):
            del member.tags[segment.id]
        del self.segments[segment.id], self._by_name[segment.name.lower()]

    # Merge fields

    def add_field(self, target: MergeField) -> MergeField:
        """Keep a new merge field under its tag, numbering it."""
        target.merge_id = self._next_field
        target.tag = target.tag or f"MMERGE{self._next_field}"
        target.display_order = target.display_order or self._next_field + 1
        self._next_field += 1
        self.fields[target.tag] = target
        return target

    def rename_field(self, target: MergeField, tag: str) -> None:
        """Give a merge field another tag; values move along."""
        for member in self.members.values():
            if target.tag in member.merge_fields:
                member.merge_fields[tag] = member.merge_fields.pop(target.tag)
        del self.fields[target.tag]
        target.tag = tag
        self.fields[tag] = target

    def drop_field(self, target: MergeField) -> None:
        """Delete a merge field and everybody's value of it."""
        del self.fields[target.tag]
        for member in self.members.values():
            member.merge_fields.pop(target.tag, None)


def _extras(data: Mapping[str, Any]) -> dict[str, Any]:
    """Read what a write says beside status, address, merge fields and tags."""
    extras: dict[str, Any] = {**_evidence(data)}
    extras.update({name: data[name] for name in ("language", "email_type", "vip") if name in data})
    if "location" in data:
        extras["location"] = {name: data["location"].get(name, 0) for name in ("latitude", "longitude")}
    if "marketing_permissions" in data:
        extras["marketing_permissions"] = [
            {
                "marketing_permission_id": each.get("marketing_permission_id", ""),
                "enabled": each.get("enabled", False),
            }
            for each in data["marketing_permissions"]
            if isinstance(each, dict)
        ]
    return extras


def _evidence(data: Mapping[str, Any]) -> dict[str, str]:
    """Read when and from where somebody signed up and opted in; an instant without a zone is UTC."""
    evidence = {}
    for name in ("timestamp_signup", "timestamp_opt"):
        if text := data.get(name):
            try:
                instant = datetime.fromisoformat(text)
            except ValueError:
                raise MemberError("Invalid Resource", f"{name} must be a valid ISO 8601 date.") from None
            evidence[name] = (instant if instant.tzinfo else instant.replace(tzinfo=UTC)).isoformat(
                timespec="seconds"
            )
    for name in ("ip_signup", "ip_opt"):
        if text := data.get(name):
            try:
                evidence[name] = str(ipaddress.ip_address(text))
            except ValueError:
                raise MemberError("Invalid Resource", f"{name} must be a valid IP address.") from None
    return evidence
