"""The audience endpoints of the emulated Mailchimp: lists, merge fields, and static segments, which are the tags.

Members are elsewhere. Saved segments, which are rules kept at Mailchimp, are refused: nothing of ours makes any.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ...emulator import Answer, Call, Handler, RefusedError
from .account import FIELD_SLOTS, Account
from .answers import (
    field_shown,
    invalid,
    list_shown,
    listed,
    member_in_batch,
    member_in_segment,
    missing,
    page,
    problem,
    projected,
    refused_member,
    segment_shown,
    truth,
)
from .audience import Audience, Member, MemberError, Segment
from .fields import TAG_LENGTH, TAG_PATTERN, TYPES, MergeField

_LIST = "/3.0/lists/{list_id}"
_FIELD = _LIST + "/merge-fields/{merge_id}"
_SEGMENT = _LIST + "/segments/{segment_id}"
_MAXIMUM_LISTS = 100
_OPTIONS = frozenset({"choices", "date_format", "default_country", "phone_format", "size"})
_NEEDED_OF_A_LIST = ("name", "contact", "permission_reminder", "campaign_defaults", "email_type_option")


class ListEndpoints:
    """Handlers over one account."""

    def __init__(self, account: Callable[[], Account]) -> None:
        self._current = account

    @property
    def _account(self) -> Account:
        return self._current()

    def endpoints(self) -> Sequence[tuple[str, str, Handler]]:
        """Give method, path template and handler of each."""
        return [
            ("GET", "/3.0/lists", self._lists),
            ("POST", "/3.0/lists", self._add_list),
            ("GET", _LIST, self._list),
            ("GET", _LIST + "/merge-fields", self._fields),
            ("POST", _LIST + "/merge-fields", self._add_field),
            ("GET", _FIELD, self._field),
            ("PATCH", _FIELD, self._change_field),
            ("DELETE", _FIELD, self._drop_field),
            ("GET", _LIST + "/tag-search", self._tag_search),
            ("GET", _LIST + "/segments", self._segments),
            ("POST", _LIST + "/segments", self._add_segment),
            ("GET", _SEGMENT, self._segment),
            ("PATCH", _SEGMENT, self._change_segment),
            ("POST", _SEGMENT, self._batch_segment),
            ("DELETE", _SEGMENT, self._drop_segment),
            ("GET", _SEGMENT + "/members", self._segment_members),
            ("POST", _SEGMENT + "/members", self._add_to_segment),
            ("DELETE", _SEGMENT + "/members/{subscriber_hash}", self._remove_from_segment),
        ]

    # Lists

    def _lists(self, call: Call) -> Answer:
        audiences = list(self._account.audiences.values())
        total = truth(call.query.get("include_total_contacts"))
        found = page(call, "lists", audiences, lambda audience: list_shown(audience, total_contacts=total))
        used = len(audiences)
        constraints = {
            "may_create": used < _MAXIMUM_LISTS,
            "max_instances": _MAXIMUM_LISTS,
            "current_total_instances": used,
        }
        return projected(call, {**found, "constraints": constraints})

    def _add_list(self, call: Call) -> Answer:
        body = self._account.json_of(call)
        for name in _NEEDED_OF_A_LIST:
            if name not in body:
                raise invalid(call, name, "Required field missing")
        if len(self._account.audiences) >= _MAXIMUM_LISTS:
            return problem(403, "Forbidden", "Your plan does not allow another audience.", number=call.number)
        audience = self._account.add_audience(
            str(body["name"]), double_optin=body.get("double_optin") is True
        )
        return Answer(body=list_shown(audience))

    def _list(self, call: Call) -> Answer:
        total = truth(call.query.get("include_total_contacts"))
        return projected(call, list_shown(self._account.audience_of(call), total_contacts=total))

    # Merge fields

    def _fields(self, call: Call) -> Answer:
        audience = self._account.audience_of(call)
        fields = list(audience.fields.values())
        if (wanted := call.query.get("type")) is not None:
            fields = [each for each in fields if each.type == wanted]
        if (required := call.query.get("required")) is not None:
            fields = [each for each in fields if each.required == truth(required)]
        found = page(call, "merge_fields", fields, lambda each: field_shown(audience, each))
        return projected(call, {**found, "list_id": audience.id})

    def _add_field(self, call: Call) -> Answer:
        account, audience = self._account, self._account.audience_of(call)
        body = account.json_of(call)
        for name in ("name", "type"):
            if not body.get(name):
                raise invalid(call, name, "Required field missing")
        if body["type"] not in TYPES:
            raise invalid(call, "type", "Value must be one of the field types")
        slots = FIELD_SLOTS[account.settings.plan]
        if len(audience.fields) >= slots:
            detail = f"You have reached the maximum of {slots} merge fields for this audience."
            return problem(400, "Bad Request", detail, number=call.number)
        tag = _tag(call, audience, body.get("tag", ""), own=None)
        options: dict[str, Any] = {"size": 25} if body["type"] == "text" else {}
        if body["type"] == "date":
            options = {"date_format": "MM/DD/YYYY"}
        elif body["type"] == "birthday":
            options = {"date_format": "MM/DD"}
        elif body["type"] == "phone":
            options = {"phone_format": "none"}
        field = MergeField(0, tag, str(body["name"]), body["type"], options=options)
        _fill(call, field, body)
        return Answer(body=field_shown(audience, audience.add_field(field)))

    def _field(self, call: Call) -> Answer:
        audience = self._account.audience_of(call)
        return projected(call, field_shown(audience, _field_of(call, audience)))

    def _change_field(self, call: Call) -> Answer:
        audience = self._account.audience_of(call)
        field, body = _field_of(call, audience), self._account.json_of(call)
        tag = _tag(call, audience, body["tag"], own=field) if body.get("tag") else field.tag
        if tag != field.tag:
            audience.rename_field(field, tag)
        field.name = str(body.get("name", field.name))
        _fill(call, field, body)
        return Answer(body=field_shown(audience, field))

    def _drop_field(self, call: Call) -> Answer:
        audience = self._account.audience_of(call)
        audience.drop_field(_field_of(call, audience))
        return Answer(status=204)

    # Static segments

    def _tag_search(self, call: Call) -> Answer:
        audience = self._account.audience_of(call)
        start = call.query.get("name", "").lower()
        found = [each for each in audience.segments.values() if each.name.lower().startswith(start)]
        tags = [{"id": each.id, "name": each.name} for each in found]
        return Answer(body={"tags": tags, "total_items": len(tags)})

    def _segments(self, call: Call) -> Answer:
        audience = self._account.audience_of(call)
        wanted = call.query.get("type", "static")
        segments = list(audience.segments.values()) if wanted == "static" else []
        found = page(call, "segments", segments, lambda each: segment_shown(audience, each, call.query))
        return projected(call, {**found, "list_id": audience.id})

    def _add_segment(self, call: Call) -> Answer:
        account, audience = self._account, self._account.audience_of(call)
        body, now = account.json_of(call), account.clock.now()
        if "options" in body:
            raise invalid(call, "options", "The sandbox keeps static segments only")
        addresses = account.list_in(call, body, "static_segment")
        try:
            segment = audience.add_segment(body.get("name", ""), now)
        except MemberError as error:
            raise refused_member(call, error, localized=account.settings.localized) from None
        for member in _present(audience, addresses):
            audience.add_to_segment(segment, member, now)
        return Answer(body=segment_shown(audience, segment, call.query))

    def _segment(self, call: Call) -> Answer:
        audience = self._account.audience_of(call)
        return projected(call, segment_shown(audience, _segment_of(call, audience), call.query))

    def _change_segment(self, call: Call) -> Answer:
        account, audience = self._account, self._account.audience_of(call)
        segment, body, now = _segment_of(call, audience), account.json_of(call), account.clock.now()
        name = body.get("name")
        if not isinstance(name, str) or not name:
            raise invalid(call, "name", "Required field missing")
        other = audience.segment_named(name)
        if other is not None and other is not segment:
            return problem(400, "Bad Request", "Sorry, that tag already exists.", number=call.number)
        addresses = account.list_in(call, body, "static_segment") if "static_segment" in body else None
        audience.rename_segment(segment, name, now)
        if addresses is not None:
            for member in audience.members_of(segment):
                audience.remove_from_segment(segment, member)
            for member in _present(audience, addresses):
                audience.add_to_segment(segment, member, now)
        return Answer(body=segment_shown(audience, segment, call.query))

    def _batch_segment(self, call: Call) -> Answer:
        account, audience = self._account, self._account.audience_of(call)
        segment, body, now = _segment_of(call, audience), account.json_of(call), account.clock.now()
        to_add = account.list_in(call, body, "members_to_add")
        to_remove = account.list_in(call, body, "members_to_remove")
        added, removed = _present(audience, to_add), []
        for member in added:
            audience.add_to_segment(segment, member, now)
        strangers = []
        for member in _present(audience, to_remove):
            if member.contact_id in segment.members:
                audience.remove_from_segment(segment, member)
                removed.append(member)
            else:
                strangers.append(member.address)
        segment.updated_at = now
        text = "Email address is not in the segment."
        errors = [{"email_addresses": strangers, "error": text}] if strangers else []
        return Answer(
            body={
                "members_added": [member_in_batch(audience, member) for member in added],
                "members_removed": [member_in_batch(audience, member) for member in removed],
                "errors": errors,
                "total_added": len(added),
                "total_removed": len(removed),
                "error_count": len(strangers),
            }
        )

    def _drop_segment(self, call: Call) -> Answer:
        audience = self._account.audience_of(call)
        audience.drop_segment(_segment_of(call, audience))
        return Answer(status=204)

    def _segment_members(self, call: Call) -> Answer:
        audience = self._account.audience_of(call)
        members = listed(audience.members_of(_segment_of(call, audience)), call.query)
        return projected(
            call, page(call, "members", members, lambda member: member_in_segment(audience, member))
        )

    def _add_to_segment(self, call: Call) -> Answer:
        audience = self._account.audience_of(call)
        segment, body = _segment_of(call, audience), self._account.json_of(call)
        present = _present(audience, [body.get("email_address")])
        if not present:
            raise invalid(call, "email_address", "The email address is not on the list")
        audience.add_to_segment(segment, present[0], self._account.clock.now())
        return Answer(body=member_in_segment(audience, present[0]))

    def _remove_from_segment(self, call: Call) -> Answer:
        audience = self._account.audience_of(call)
        segment, member = _segment_of(call, audience), self._account.member_of(call, audience, hash_only=True)
        if member.contact_id not in segment.members:
            raise missing(call)
        audience.remove_from_segment(segment, member)
        return Answer(status=204)


def _present(audience: Audience, addresses: Sequence[Any]) -> list[Member]:
    """Give the members among some addresses; those not on the list are ignored, and so are archived ones."""
    found = {}
    for address in addresses:
        member = audience.find(address) if isinstance(address, str) else None
        if member is not None and member.status != "archived":
            found[member.contact_id] = member
    return list(found.values())


def _field_of(call: Call, audience: Audience) -> MergeField:
    for field in audience.fields.values():
        if str(field.merge_id) == call.parameters["merge_id"]:
            return field
    raise missing(call)


def _segment_of(call: Call, audience: Audience) -> Segment:
    number = call.parameters["segment_id"]
    segment = audience.segments.get(int(number)) if number.isdecimal() else None
    if segment is None:
        raise missing(call)
    return segment


def _tag(call: Call, audience: Audience, given: Any, *, own: MergeField | None) -> str:
    """Check a merge tag; "" lets Mailchimp choose one."""
    tag = str(given).upper()
    if not tag:
        return ""
    if len(tag) > TAG_LENGTH or TAG_PATTERN.fullmatch(tag) is None:
        raise invalid(call, "tag", "Merge tags have at most 10 letters, digits and underscores")
    held = audience.fields.get(tag)
    if tag == "EMAIL" or (held is not None and held is not own):
        detail = f'A Merge Field with the tag "{tag}" already exists for this list.'
        raise RefusedError(problem(400, "Invalid Resource", detail, number=call.number))
    return tag


def _fill(call: Call, field: MergeField, body: Mapping[str, Any]) -> None:
    """Set whatever of a field a write may set."""
    options = body.get("options", {})
    if not isinstance(options, dict):
        raise invalid(call, "options", "Schema describes object, found instead")
    formats = {"date": {"MM/DD/YYYY", "DD/MM/YYYY"}, "birthday": {"MM/DD", "DD/MM"}}.get(field.type)
    if formats and options.get("date_format", next(iter(formats))) not in formats:
        raise invalid(call, "options.date_format", f"Value must be one of {', '.join(sorted(formats))}")
    if field.type in {"radio", "dropdown"} and not (options.get("choices") or field.options.get("choices")):
        raise invalid(call, "options.choices", "Please enter at least one choice")
    if not all(isinstance(choice, str) for choice in options.get("choices", [])):
        raise invalid(call, "options.choices", "Schema describes string, found instead")
    known = {name: value for name, value in options.items() if name in _OPTIONS}
    field.options = {**field.options, **known}
    field.required = bool(body.get("required", field.required))
    field.public = bool(body.get("public", field.public))
    field.default_value = str(body.get("default_value", field.default_value))
    field.help_text = str(body.get("help_text", field.help_text))
    field.display_order = int(body.get("display_order", field.display_order))
