"""The JSON that the emulated Mailchimp answers with: problems, members, lists, tags, fields, pages, projections.

Shapes only; nothing here changes state. The vendor's specification is the referee (`specification.py`). `_links` are
left out of every object: the specification makes them optional and nobody here follows them.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from ...emulator import Answer, Call, RefusedError
from .audience import Audience, Member, MemberError, Segment
from .fields import SENTENCES, MergeField

PROBLEM_TYPE = "application/problem+json; charset=utf-8"
GLOSSARY = "https://mailchimp.com/developer/marketing/docs/errors/"
DEFAULT_COUNT, MAXIMUM_COUNT = 10, 1000
SHOWN_TAGS = 50  # a member shows no more of its tags; `tags_count` tells, and /tags has all
_LISTED = frozenset({"subscribed", "pending"})


def sentence(key: str, *, localized: bool) -> str:
    """Give a field's error in the audience's language."""
    return SENTENCES[key][1 if localized else 0]


def problem(
    status: int, title: str, detail: str, *, number: int = 0, errors: Sequence[Mapping[str, str]] = ()
) -> Answer:
    """Build an error as RFC 7807 has it; `errors` is left out when empty, as Mailchimp does."""
    body: dict[str, Any] = {
        "type": GLOSSARY,
        "title": title,
        "status": status,
        "detail": detail,
        "instance": f"00000000-0000-0000-0000-{number:012d}",
    }
    if errors:
        body["errors"] = list(errors)
    return Answer(status=status, body=body, media_type=PROBLEM_TYPE)


def invalid(call: Call, field: str, message: str) -> RefusedError:
    """Build the refusal of a request whose `field` is wrong, to be raised."""
    detail = (
        "The resource submitted could not be validated. For field-specific details, see the 'errors' array."
    )
    errors = [{"field": field, "message": message}]
    return RefusedError(problem(400, "Invalid Resource", detail, number=call.number, errors=errors))


def missing(call: Call) -> RefusedError:
    """Build the 404 of something that is not there, to be raised."""
    return RefusedError(
        problem(404, "Resource Not Found", "The requested resource could not be found.", number=call.number)
    )


def refused_member(call: Call, error: MemberError, *, localized: bool) -> RefusedError:
    """Build the 400 of a single-member write, to be raised."""
    errors = [{"field": tag, "message": sentence(key, localized=localized)} for tag, key in error.errors]
    return RefusedError(problem(400, error.title, error.detail, number=call.number, errors=errors))


def member_in_batch(audience: Audience, member: Member) -> dict[str, Any]:
    """Give a member as batch answers show it: the specification has fewer keys there, and no archived status."""
    optional = {"location": _location(member)} if member.location else {}
    return {
        "id": member.id,
        "email_address": member.address,
        "unique_email_id": member.contact_id[:10],
        "email_type": member.email_type,
        "status": member.status,
        "merge_fields": {tag: member.merge_fields.get(tag, "") for tag in audience.fields},
        "interests": {},
        "stats": {"avg_open_rate": 0, "avg_click_rate": 0},
        "ip_signup": member.ip_signup,
        "timestamp_signup": member.timestamp_signup,
        "ip_opt": member.ip_opt,
        "timestamp_opt": member.timestamp_opt,
        "member_rating": 2,
        "last_changed": stamp(member.last_changed),
        "language": member.language,
        "vip": member.vip,
        "email_client": "",
        "tags_count": len(member.tags),
        "tags": _tags(audience, member),
        "list_id": audience.id,
        **optional,
    }


def member_in_segment(audience: Audience, member: Member) -> dict[str, Any]:
    """Give a member as a segment lists it: without tags."""
    shown = member_in_batch(audience, member)
    del shown["tags"], shown["tags_count"]
    return shown


def member_alone(audience: Audience, member: Member) -> dict[str, Any]:
    """Give a member as its own endpoint and the members list show it."""
    fields = member.merge_fields
    shown = {
        **member_in_batch(audience, member),
        "contact_id": member.contact_id,
        "web_id": member.web_id,
        "full_name": f"{fields.get('FNAME', '')} {fields.get('LNAME', '')}".strip(),
        "consents_to_one_to_one_messaging": True,
        "source": member.source,
    }
    if member.marketing_permissions:
        shown["marketing_permissions"] = [{"text": "", **each} for each in member.marketing_permissions]
    if member.status == "unsubscribed":
        reasons = {"unsubscribe": "NORMAL", "complain": "ABUSE"}
        shown["unsubscribe_reason"] = reasons.get(member.refused or "", "N/A (Unsubscribed by an admin)")
    return shown


def _location(member: Member) -> dict[str, Any]:
    return {
        "latitude": 0,
        "longitude": 0,
        "gmtoff": 0,
        "dstoff": 0,
        "country_code": "",
        "timezone": "",
        **member.location,
    }


def _tags(audience: Audience, member: Member) -> list[dict[str, Any]]:
    shown = list(member.tags)[:SHOWN_TAGS]
    return [{"id": number, "name": audience.segments[number].name} for number in shown]


def list_shown(audience: Audience, *, total_contacts: bool = False) -> dict[str, Any]:
    """Give an audience as /lists shows it."""
    by_status: dict[str, int] = {}
    for member in audience.members.values():
        by_status[member.status] = by_status.get(member.status, 0) + 1
    stats: dict[str, Any] = {
        "member_count": by_status.get("subscribed", 0),
        "unsubscribe_count": by_status.get("unsubscribed", 0),
        "cleaned_count": by_status.get("cleaned", 0),
        "merge_field_count": len(audience.fields),
        "campaign_count": 0,
        "avg_sub_rate": 0,
        "open_rate": 0,
        "click_rate": 0,
    }
    if total_contacts:
        stats["total_contacts"] = len(audience.members) - by_status.get("archived", 0)
    return {
        "id": audience.id,
        "web_id": audience.number,
        "name": audience.name,
        "permission_reminder": "You signed up in our shop.",
        "use_archive_bar": True,
        "campaign_defaults": {
            "from_name": "Sandbox",
            "from_email": "shop@sandbox.invalid",
            "subject": "",
            "language": "en",
        },
        "notify_on_subscribe": "",
        "notify_on_unsubscribe": "",
        "date_created": stamp(audience.created),
        "list_rating": 0,
        "email_type_option": False,
        "visibility": "prv",
        "double_optin": audience.double_optin,
        "has_welcome": False,
        "marketing_permissions": False,
        "modules": [],
        "stats": stats,
    }


def segment_shown(audience: Audience, segment: Segment, query: Mapping[str, str]) -> dict[str, Any]:
    """Give a static segment; members that are not mailable count only when the query asks for them."""
    return {
        "id": segment.id,
        "name": segment.name,
        "member_count": len(listed(audience.members_of(segment), query)),
        "type": "static",
        "created_at": stamp(segment.created_at),
        "updated_at": stamp(segment.updated_at),
        "list_id": audience.id,
    }


def listed(members: Iterable[Member], query: Mapping[str, str]) -> list[Member]:
    """Leave the members that a segment shows by default or is asked to."""
    statuses = _LISTED | {
        status
        for status in ("cleaned", "transactional", "unsubscribed")
        if truth(query.get(f"include_{status}"))
    }
    return [member for member in members if member.status in statuses]


def field_shown(audience: Audience, field: MergeField) -> dict[str, Any]:
    """Give a merge field."""
    return {
        "merge_id": field.merge_id,
        "tag": field.tag,
        "name": field.name,
        "type": field.type,
        "required": field.required,
        "default_value": field.default_value,
        "public": field.public,
        "display_order": field.display_order,
        "options": field.options,
        "help_text": field.help_text,
        "list_id": audience.id,
    }


def stamp(instant: datetime) -> str:
    """Write an instant as Mailchimp does, to the second."""
    return instant.isoformat(timespec="seconds")


def truth(text: str | None) -> bool:
    """Read a boolean query parameter; the vendor's SDK writes Python's `True`."""
    return (text or "").lower() in {"true", "1"}


def page(
    call: Call, name: str, items: Sequence[Any], show: Callable[[Any], dict[str, Any]]
) -> dict[str, Any]:
    """Cut one page out of a collection: 10 by default, 1,000 at most, however many are asked for.

    Inside a batch job a GET without `count` is everything.
    """
    count, offset = _whole(call, "count", DEFAULT_COUNT), _whole(call, "offset", 0)
    count = min(count, MAXIMUM_COUNT)
    if call.within is not None and "count" not in call.query:
        count = len(items)
    return {name: [show(item) for item in items[offset : offset + count]], "total_items": len(items)}


def _whole(call: Call, name: str, default: int) -> int:
    text = call.query.get(name, str(default))
    if not text.isdecimal():
        raise invalid(call, name, "Schema describes integer, string found instead")
    return int(text)


def projected(call: Call, body: dict[str, Any]) -> Answer:
    """Answer with what `fields` or `exclude_fields` leave, in dot notation through lists; both at once are refused."""
    only, without = call.query.get("fields"), call.query.get("exclude_fields")
    if only and without:
        raise RefusedError(
            problem(
                400,
                "Bad Request",
                "fields and exclude_fields cannot be used at the same time.",
                number=call.number,
            )
        )
    if only:
        return Answer(body=_kept(body, _tree(only)))
    if without:
        return Answer(body=_dropped(body, _tree(without)))
    return Answer(body=body)


def _tree(text: str) -> dict[str, Any]:
    """Read "members.id,total_items" as {"members": {"id": {}}, "total_items": {}}."""
    root: dict[str, Any] = {}
    for path in text.split(","):
        branch = root
        for name in path.strip().split("."):
            branch = branch.setdefault(name, {})
    return root


def _kept(value: Any, tree: Mapping[str, Any]) -> Any:
    if not tree:
        return value
    if isinstance(value, list):
        return [_kept(each, tree) for each in value]
    if isinstance(value, dict):
        return {name: _kept(value[name], branch) for name, branch in tree.items() if name in value}
    return value


def _dropped(value: Any, tree: Mapping[str, Any]) -> Any:
    if isinstance(value, list):
        return [_dropped(each, tree) for each in value]
    if isinstance(value, dict):
        return {
            name: _dropped(each, tree[name]) if name in tree else each
            for name, each in value.items()
            if tree.get(name) != {}
        }
    return value
