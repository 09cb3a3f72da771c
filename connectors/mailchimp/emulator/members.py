"""The member endpoints of the emulated Mailchimp: one by one, 500 at a time, listing, tags, events.

What a write does to a member is in `audience.py`; here is who gets which answer, and which items of a batch
get none at all. In the batch, unsettled and worst in the adversarial mode:

* an update without a status makes an absent or archived contact, as subscribed;
* an unsubscribed member that a status would raise is left out of the answer; a cleaned one gets ERROR_GENERIC;
* one unknown merge field fails the whole request, not its item.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from ...emulator import Answer, Call, Handler, RefusedError
from .account import Account
from .answers import (
    invalid,
    member_alone,
    member_in_batch,
    page,
    problem,
    projected,
    refused_member,
    sentence,
    stamp,
    truth,
)
from .audience import TAG_NAME_LENGTH, WRITABLE, Audience, Member, MemberError, subscriber_hash

_LIST = "/3.0/lists/{list_id}"
_MEMBER = _LIST + "/members/{subscriber_hash}"
_SORTS: Mapping[str, Callable[[Member], Any]] = {
    "last_changed": lambda member: member.last_changed,
    "timestamp_opt": lambda member: member.timestamp_opt,
    "timestamp_signup": lambda member: member.timestamp_signup,
}


def _opted_in(member: Member) -> datetime | None:
    return datetime.fromisoformat(member.timestamp_opt) if member.timestamp_opt else None


_INSTANTS: Mapping[str, Callable[[Member], datetime | None]] = {
    "unsubscribed_since": lambda member: member.unsubscribed_at,
    "since_last_changed": lambda member: member.last_changed,
    "before_last_changed": lambda member: member.last_changed,
    "since_timestamp_opt": _opted_in,
    "before_timestamp_opt": _opted_in,
}
_SHOWN = WRITABLE  # without a status a listing has no archived members
_EVENTS_KEPT = 1000


class MemberEndpoints:
    """Handlers over one account."""

    def __init__(self, account: Callable[[], Account]) -> None:
        self._current = account

    @property
    def _account(self) -> Account:
        return self._current()

    def endpoints(self) -> Sequence[tuple[str, str, Handler]]:
        """Give method, path template and handler of each."""
        return [
            ("POST", _LIST, self._batch),
            ("GET", _LIST + "/members", self._listing),
            ("POST", _LIST + "/members", self._create),
            ("GET", _MEMBER, self._read),
            ("PUT", _MEMBER, self._put),
            ("PATCH", _MEMBER, self._patch),
            ("DELETE", _MEMBER, self._archive),
            ("POST", _MEMBER + "/actions/delete-permanent", self._erase),
            ("GET", _MEMBER + "/tags", self._tags),
            ("POST", _MEMBER + "/tags", self._tag),
            ("GET", _MEMBER + "/events", self._events),
            ("POST", _MEMBER + "/events", self._add_event),
        ]

    # One by one

    def _read(self, call: Call) -> Answer:
        audience = self._account.audience_of(call)
        return projected(call, member_alone(audience, self._account.member_of(call, audience)))

    def _create(self, call: Call) -> Answer:
        account, audience = self._account, self._account.audience_of(call)
        body = account.json_of(call)
        status = _status(call, body, "status")
        if status is None:
            raise invalid(call, "status", "Required field missing")
        names = _tag_names(call, body)
        try:
            address = audience.check_address(body.get("email_address"), account.rules(call))
            held = audience.members.get(subscriber_hash(address))
            if held is not None and held.status != "archived":
                raise MemberError(  # noqa: TRY301 - one way out for all refusals of a member
                    "Member Exists",
                    f"{address} is already a list member. Use PUT to insert or update list members.",
                )
            now = account.clock.now()
            member = audience.create(body, status, rules=account.rules(call), now=now, request=call.number)
            audience.tag(member, names, now)
        except MemberError as error:
            raise refused_member(call, error, localized=account.settings.localized) from None
        return Answer(body=member_alone(audience, member))

    def _put(self, call: Call) -> Answer:
        account, audience = self._account, self._account.audience_of(call)
        body = account.json_of(call)
        status, if_new = _status(call, body, "status"), _status(call, body, "status_if_new")
        rules, now = account.rules(call), account.clock.now()
        try:
            member = audience.find(call.parameters["subscriber_hash"])
            if member is None and isinstance(body.get("email_address"), str):
                member = audience.find(subscriber_hash(body["email_address"]))
            if member is None:
                if (new := status or if_new) is None:
                    raise invalid(call, "status_if_new", "Required field missing")
                audience.check_address(body.get("email_address"), rules)
                member = audience.create(body, new, rules=rules, now=now, request=call.number)
            else:
                if member.status == "archived" and not rules.permissive:
                    status = status or if_new  # whether an archived member is "new" is not documented
                audience.update(member, body, status, rules=rules, now=now, request=call.number)
        except MemberError as error:
            raise refused_member(call, error, localized=account.settings.localized) from None
        return Answer(body=member_alone(audience, member))

    def _patch(self, call: Call) -> Answer:
        account, audience = self._account, self._account.audience_of(call)
        body = account.json_of(call)
        status = _status(call, body, "status")
        member = account.member_of(call, audience)
        try:
            audience.update(
                member, body, status, rules=account.rules(call), now=account.clock.now(), request=call.number
            )
        except MemberError as error:
            raise refused_member(call, error, localized=account.settings.localized) from None
        return Answer(body=member_alone(audience, member))

    def _archive(self, call: Call) -> Answer:
        audience = self._account.audience_of(call)
        member = self._account.member_of(call, audience)
        if member.status == "archived":
            detail = "This list member cannot be removed. Please contact support."
            return problem(405, "Method Not Allowed", detail, number=call.number)
        audience.archive(member, self._account.clock.now())
        return Answer(status=204)

    def _erase(self, call: Call) -> Answer:
        audience = self._account.audience_of(call)
        audience.erase(self._account.member_of(call, audience, hash_only=True))
        return Answer(status=204)

    # 500 at a time

    def _batch(self, call: Call) -> Answer:
        account, audience = self._account, self._account.audience_of(call)
        body = account.json_of(call)
        if "members" not in body:
            raise invalid(call, "members", "Required field missing")
        items = account.list_in(call, body, "members")
        if not all(isinstance(item, dict) for item in items):
            raise invalid(call, "members", "Schema describes object, found instead")
        for item in items:
            _status(call, item, "status")
            _tag_names(call, item)
        if not account.settings.permissive:
            _refuse_unknown_fields(call, audience, items, localized=account.settings.localized)
        if truth(call.query.get("skip_duplicate_check")):
            items = _first_of_each(items)
        batch = _Batch(account, audience, call, body)
        for item in items:
            batch.take(item)
        return Answer(body=batch.answer())

    # Listing

    def _listing(self, call: Call) -> Answer:
        audience = self._account.audience_of(call)
        status = call.query.get("status")
        if status is not None and status not in WRITABLE | {"archived"}:
            raise invalid(call, "status", "Value must be one of the statuses")
        wanted = {status} if status else _SHOWN
        members = [member for member in audience.members.values() if member.status in wanted]
        members = self._filtered(call, members, status)
        if (sort := call.query.get("sort_field")) is not None:
            if sort not in _SORTS:
                raise invalid(call, "sort_field", "Value must be one of the sortable fields")
            members.sort(key=_SORTS[sort], reverse=call.query.get("sort_dir", "ASC").upper() == "DESC")
        found = page(call, "members", members, lambda member: member_alone(audience, member))
        return projected(call, {**found, "list_id": audience.id})

    def _filtered(self, call: Call, members: list[Member], status: str | None) -> list[Member]:
        if call.query.get("unsubscribed_since") and status != "unsubscribed":
            raise invalid(call, "unsubscribed_since", "Only allowed with status unsubscribed")
        if call.query.get("since_last_campaign") and status is None:
            raise invalid(call, "since_last_campaign", "Member status is required to use this filter")
        for name, when in _INSTANTS.items():
            members = self._between(call, members, name, when)
        if (unique := call.query.get("unique_email_id")) is not None:
            members = [member for member in members if member.contact_id[:10] == unique]
        if truth(call.query.get("vip_only")):
            members = [member for member in members if member.vip]
        return members

    def _between(
        self, call: Call, members: list[Member], name: str, when: Callable[[Member], datetime | None]
    ) -> list[Member]:
        """Filter by one instant of the query, to the second, and exclusive: what changed in that very second is missed.

        A malformed instant is not refused: some saw everybody returned, others nobody; adversarial is nobody.
        """
        if (text := call.query.get(name)) is None:
            return members
        try:
            bound = datetime.fromisoformat(text)
        except ValueError:
            return members if self._account.settings.permissive else []
        bound = bound if bound.tzinfo else bound.replace(tzinfo=UTC)
        kept = []
        for member in members:
            instant = when(member)
            if instant is None:
                continue
            instant = instant.replace(microsecond=0)
            if (instant < bound) if name.startswith("before") else (instant > bound):
                kept.append(member)
        return kept

    # Tags and events of one member

    def _tags(self, call: Call) -> Answer:
        audience = self._account.audience_of(call)
        member = self._account.member_of(call, audience, hash_only=True)

        def show(number: int) -> dict[str, Any]:
            return {
                "id": number,
                "name": audience.segments[number].name,
                "date_added": stamp(member.tags[number]),
            }

        return projected(call, page(call, "tags", list(member.tags), show))

    def _tag(self, call: Call) -> Answer:
        account, audience = self._account, self._account.audience_of(call)
        member, body, now = (
            account.member_of(call, audience, hash_only=True),
            account.json_of(call),
            account.clock.now(),
        )
        if "tags" not in body:
            raise invalid(call, "tags", "Required field missing")
        wanted = account.list_in(call, body, "tags")
        for each in wanted:
            if not isinstance(each, dict) or each.get("status") not in {"active", "inactive"}:
                raise invalid(call, "tags", "Every tag needs a name and a status, active or inactive")
        try:
            for each in wanted:
                if each["status"] == "active":
                    audience.tag(member, [each.get("name", "")], now)
                elif (segment := audience.segment_named(str(each.get("name")))) is not None:
                    audience.remove_from_segment(segment, member)
        except MemberError as error:
            raise refused_member(call, error, localized=account.settings.localized) from None
        return Answer(status=204)

    def _events(self, call: Call) -> Answer:
        audience = self._account.audience_of(call)
        member = self._account.member_of(call, audience, hash_only=True)
        return projected(call, page(call, "events", member.events, lambda event: event))

    def _add_event(self, call: Call) -> Answer:
        account, audience = self._account, self._account.audience_of(call)
        member, body = account.member_of(call, audience, hash_only=True), account.json_of(call)
        name = body.get("name")
        if not isinstance(name, str) or not 2 <= len(name) <= 30:
            raise invalid(call, "name", "The name must have 2 to 30 characters")
        properties = body.get("properties", {})
        if not all(isinstance(value, str) for value in properties.values()):
            raise invalid(call, "properties", "Schema describes string, found instead")
        occurred = body.get("occurred_at", stamp(account.clock.now()))
        member.events.append({"name": name, "occurred_at": occurred, "properties": properties})
        del member.events[:-_EVENTS_KEPT]
        return Answer(status=204)


class _Batch:
    """One POST of members: takes item by item, keeps what the answer will show."""

    def __init__(self, account: Account, audience: Audience, call: Call, body: Mapping[str, Any]) -> None:
        self._settings = account.settings
        self._audience = audience
        self._rules = account.rules(call)
        self._now = account.clock.now()
        self._request = call.number
        self._update = body.get("update_existing") is True
        self._sync_tags = body.get("sync_tags") is True
        self._new: list[Member] = []
        self._updated: list[Member] = []
        self._errors: list[dict[str, Any]] = []

    def take(self, item: Mapping[str, Any]) -> None:
        """Carry out one item; a refusal becomes one entry of `errors`, or nothing at all."""
        status = item.get("status")
        try:
            address = self._audience.check_address(item.get("email_address"), self._rules)
            member = self._audience.members.get(subscriber_hash(address))
            if member is None or self._revives(member, status):
                self._create(item, status)
            elif self._left_out(member, status):
                return
            elif not self._update:
                self._error(
                    item,
                    "ERROR_CONTACT_EXISTS",
                    f"{address} is already a list member, do you want to update? "
                    "please provide update_existing:true in the request body",
                )
            else:
                self._audience.update(
                    member, item, status, rules=self._rules, now=self._now, request=self._request
                )
                self._tag(member, item)
                self._updated.append(member)
        except MemberError as error:
            self._refuse(item, error)

    def answer(self) -> dict[str, Any]:
        """Give the body of the answer, which is a 200 even when every item failed."""
        return {
            "new_members": [member_in_batch(self._audience, member) for member in self._new],
            "updated_members": [member_in_batch(self._audience, member) for member in self._updated],
            "errors": self._errors,
            "total_created": len(self._new),
            "total_updated": len(self._updated),
            "error_count": len(self._errors),
        }

    def _revives(self, member: Member, status: str | None) -> bool:
        """Whether an archived member comes back: a status brings it back, and so does its absence, at the worst."""
        return member.status == "archived" and (
            status is not None or not self._update or not self._settings.permissive
        )

    def _left_out(self, member: Member, status: str | None) -> bool:
        return (
            not self._settings.permissive
            and status == "subscribed"
            and member.status == "unsubscribed"
            and member.compliance
        )

    def _create(self, item: Mapping[str, Any], status: str | None) -> None:
        if status is None and self._settings.permissive:
            raise MemberError("Invalid Resource", "Please provide a status.", errors=(("status", "value"),))
        member = self._audience.create(item, status, rules=self._rules, now=self._now, request=self._request)
        self._tag(member, item)
        self._new.append(member)

    def _tag(self, member: Member, item: Mapping[str, Any]) -> None:
        names = item.get("tags", [])
        if self._sync_tags:  # whoever set them: they are gone
            kept = {name.lower() for name in names}
            for number in list(member.tags):
                segment = self._audience.segments[number]
                if segment.name.lower() not in kept:
                    self._audience.remove_from_segment(segment, member)
        self._audience.tag(member, names, self._now)

    def _refuse(self, item: Mapping[str, Any], error: MemberError) -> None:
        if error.errors:
            tag, key = error.errors[0]
            said = sentence(key, localized=self._settings.localized)
            self._error(item, "ERROR_GENERIC", error.detail, field=tag, field_message=said)
        else:
            self._error(item, "ERROR_GENERIC", error.detail)

    def _error(self, item: Mapping[str, Any], code: str, text: str, **more: str) -> None:
        if self._settings.localized:
            text = "Diese Adresse konnte nicht verarbeitet werden."
        address = str(item.get("email_address", ""))
        self._errors.append(
            {
                "email_address": address,
                "error": text,
                "error_code": code,
                "field": "",
                "field_message": "",
                **more,
            }
        )


def _status(call: Call, body: Mapping[str, Any], name: str) -> str | None:
    status = body.get(name)
    if status is not None and status not in WRITABLE:
        raise invalid(call, name, "Value must be one of the statuses")
    return status


def _tag_names(call: Call, body: Mapping[str, Any]) -> list[str]:
    names = body.get("tags", [])
    if not isinstance(names, list) or not all(
        isinstance(name, str) and 0 < len(name) <= TAG_NAME_LENGTH for name in names
    ):
        raise invalid(call, "tags", "Every tag must be a name of 1 to 100 characters")
    return names


def _first_of_each(items: list[Any]) -> list[Any]:
    first: dict[str, Any] = {}
    for item in items:
        first.setdefault(str(item.get("email_address")).lower(), item)
    return list(first.values())


def _refuse_unknown_fields(call: Call, audience: Audience, items: list[Any], *, localized: bool) -> None:
    known = audience.fields.keys()
    given = {
        tag
        for item in items
        if isinstance(item.get("merge_fields"), dict)
        for tag in item["merge_fields"].keys() - known
    }
    if unknown := sorted(tag for tag in given if tag.upper() not in known):
        errors = [{"field": tag, "message": sentence("unknown", localized=localized)} for tag in unknown]
        detail = "Your merge fields were invalid."
        raise RefusedError(problem(400, "Invalid Resource", detail, number=call.number, errors=errors))
