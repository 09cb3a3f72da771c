"""What Mailchimp calls things: tables and pure translations between our nouns and its JSON, both ways.

No request is made here and no decision about consent is taken.
"""

import hashlib
import re
from collections.abc import Container, Iterable, Iterator, Mapping
from datetime import UTC, date, datetime
from ipaddress import ip_address
from typing import Any, Final

from ...core.consent import ConsentState
from ...core.model import Change, FieldSpec, FieldType, Grant, Outcome, OutcomeStatus, RemoteContact
from ..transport import RefusedRequestError

# https://mailchimp.com/developer/marketing/docs/merge-fields/
FIELD_TYPES: Final = {
    "text": FieldType.TEXT,
    "number": FieldType.NUMBER,
    "date": FieldType.DATE,
    "birthday": FieldType.BIRTHDAY,
    "url": FieldType.URL,
    "imageurl": FieldType.IMAGE_URL,
    "phone": FieldType.PHONE,
    "zip": FieldType.ZIP,
}  # address, radio and dropdown are never ours to write
_TYPE_NAMES: Final = {ours: theirs for theirs, ours in FIELD_TYPES.items()}

# https://mailchimp.com/developer/marketing/api/list-members/. An archive hides whether the person had left: it counts
# as having left. A transactional member never agreed to marketing, and never refused it either.
STATES: Final = {
    "subscribed": ConsentState.SUBSCRIBED,
    "pending": ConsentState.PENDING,
    "unsubscribed": ConsentState.UNSUBSCRIBED,
    "archived": ConsentState.UNSUBSCRIBED,
    "cleaned": ConsentState.SUPPRESSED,
    "transactional": ConsentState.UNKNOWN,
}
# What stands between *| and |* with a meaning of its own; a field of such a name could not be written into a mail.
# https://mailchimp.com/help/all-the-merge-tags-cheat-sheet/
SYSTEM_TAGS: Final = frozenset(
    {"ABOUT_LIST", "ARCHIVE", "DATE", "ELSE", "ELSEIF", "EMAIL", "END", "FORWARD", "HTML", "IF",
     "IFNOT", "INTERESTED", "LIST", "MC", "POLL", "REWARDS", "RSS", "RSSITEM", "SHARE", "SURVEY",
     "TRANSLATE", "UNIQID", "UNSUB", "URL", "USER"}
)  # fmt: skip
LEFT: Final = frozenset({"unsubscribed", "archived", "cleaned"})

REASONS: Final = {
    "compliance_state": "Mailchimp does not let this contact be mailed: it left, bounced, or is under review.",
    "forgotten": "This contact was deleted for good at Mailchimp; only the person can come back, by a form.",
    "fake_address": "Mailchimp takes this address for fake or invalid.",
    "refused_address": "Mailchimp refuses this address: it was deleted there for good, or is taken for fake or invalid.",
    "address_taken": "Another contact of this audience has the new address already.",
    "vanished": "This contact is no longer in the audience.",
    "recreated": "This contact had vanished and Mailchimp made it anew from an update; it was unsubscribed at once.",
}
REMEDIES: Final = {
    "compliance_state": "Nothing: only the person can come back, by a form of Mailchimp's.",
    "forgotten": "Nothing: only the person can come back, by a form of Mailchimp's.",
    "fake_address": "Correct the address in the shop. If it is right, add it by hand in Mailchimp, then `segue retry`.",
    "refused_address": "Correct the address in the shop. If it is right, the person can sign up by a form of Mailchimp's.",
    "address_taken": "Look who has the address in Mailchimp: archive one of the two, then `segue retry`.",
    "vanished": "Nothing, if it was deleted on purpose. If not, import it in Mailchimp again, then `segue retry`.",
    "recreated": "Nothing: only the person can come back, by a form of Mailchimp's.",
    "invalid_field": "Correct the value in the shop, or make the audience's field optional, then `segue retry`.",
    "refused": "Try again with `segue retry`. If it stays, look at the contact in Mailchimp.",
}
# Titles are stable; `detail` and every sentence follow the audience's language and are never looked at.
_TITLES: Final = {
    "Member In Compliance State": "compliance_state",
    "Forgotten Email Not Subscribed": "forgotten",
    "Member Exists": "address_taken",
    "Resource Not Found": "vanished",
}
_ADDRESS_FIELDS: Final = frozenset({"EMAIL", "EMAIL_ADDRESS", "EMAIL ADDRESS"})
_NUMBER: Final = re.compile(r"-?\d+(\.\d+)?")
_DAY: Final = re.compile(r"\d{4}-\d\d-\d\d")


def subscriber_hash(address: str) -> str:
    """Give the id of an address in paths: MD5 of its lower case. An address itself is never put in a path."""
    return hashlib.md5(address.lower().encode(), usedforsecurity=False).hexdigest()


def timestamp(moment: datetime) -> str:
    """Give ISO 8601 to the second with `+00:00`; other forms make Mailchimp ignore a filter without saying so."""
    return moment.astimezone(UTC).isoformat(timespec="seconds")


def field_request(spec: FieldSpec) -> dict[str, Any]:
    """Give the body that makes a merge field. A date's display format stays the audience's own default."""
    body: dict[str, Any] = {
        "tag": spec.tag,
        "name": spec.label,
        "type": _TYPE_NAMES[spec.type],
        "required": False,  # a required field of ours would make every other tool's writes fail
        "public": False,  # not on the sign-up form
    }
    if spec.default:
        body["default_value"] = spec.default
    if spec.type is FieldType.BIRTHDAY:
        body["options"] = {"date_format": "MM/DD"}
    return body


def merge_fields(
    values: Mapping[str, str | None], merge_fields_there: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Give values as the account's own fields want them; None becomes "", which clears."""
    return {tag: _value(text, merge_fields_there.get(tag, {})) for tag, text in values.items()}


def _value(text: str | None, there: Mapping[str, Any]) -> str | float:
    if text is None:
        return ""
    match there.get("type"):
        case "number" if _NUMBER.fullmatch(text):
            return float(text) if "." in text else int(text)
        case "birthday" if _DAY.fullmatch(text):
            day = date.fromisoformat(text)
            european = (there.get("options") or {}).get("date_format") == "DD/MM"
            return f"{day:%d/%m}" if european else f"{day:%m/%d}"
        case _:
            return text


def shown(values: Mapping[str, str], merge_fields_there: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Give values as `remote_contact` reads them once they are written."""
    return {tag: _text(value) for tag, value in merge_fields(values, merge_fields_there).items()}


def new_member(change: Change, values: Mapping[str, Any]) -> dict[str, Any]:
    """Give the item that creates a member. The gate has set `consent`; evidence goes with it."""
    assert change.consent is not None  # noqa: S101 - the connector refused the batch otherwise
    return existing_member(change, {tag: value for tag, value in values.items() if value != ""}) | {
        "status": change.consent.value,
        **evidence(change.grant, change.consent),
    }


def existing_member(change: Change, values: Mapping[str, Any]) -> dict[str, Any]:
    """Give the item that updates a member: fields and added tags, and never a status."""
    item: dict[str, Any] = {"email_address": change.address}
    if values:
        item["merge_fields"] = dict(values)
    if change.tags:
        item["tags"] = list(change.tags)
    return item


def evidence(grant: Grant | None, consent: ConsentState) -> dict[str, str]:
    """Give Mailchimp's own evidence columns. Only a completed opt-in has `_opt` ones; a bad IP is left out."""
    if grant is None:
        return {}
    stages = ("signup", "opt") if consent is ConsentState.SUBSCRIBED else ("signup",)
    found = dict.fromkeys((f"timestamp_{stage}" for stage in stages), timestamp(grant.granted_at))
    said = grant.evidence.get("ip")
    if not said:
        return found
    try:
        address = str(ip_address(said))
    except ValueError:
        return found
    return found | {f"ip_{stage}": address for stage in stages}


def remote_contact(member: Mapping[str, Any]) -> RemoteContact:
    """Read a member. An address-type field has no text and is left out; an unknown status means unknown."""
    tags = [tag["name"] for tag in member.get("tags", [])]
    return RemoteContact(
        address=member["email_address"],
        state=STATES.get(member["status"], ConsentState.UNKNOWN),
        status=member["status"],
        fields={
            tag: _text(value)
            for tag, value in (member.get("merge_fields") or {}).items()
            if value is not None and value != "" and not isinstance(value, dict)
        },
        tags=frozenset(tags) if "tags" in member and len(tags) >= member.get("tags_count", 0) else None,
        changed_at=_moment(member.get("last_changed")),
        opted_in_at=_moment(member.get("timestamp_opt")),
        name=member.get("contact_id", ""),
    )


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text).astimezone(UTC) if text else None


def _text(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


class BatchAnswer:
    """What became of each address of a member batch, by lower-cased address.

    `created` is empty unless an update made somebody anew. To a create, "updated" says that an archived member is
    back, as the gate allowed.
    """

    def __init__(self, answer: Mapping[str, Any], *, update: bool) -> None:
        new, changed = addresses(answer.get("new_members")), addresses(answer.get("updated_members"))
        self.created = new if update else frozenset[str]()
        self.written = changed if update else new | changed
        self.errors = {
            str(each.get("email_address", "")).lower(): each for each in answer.get("errors") or ()
        }

    def field_refusals(self, merge_fields_there: Container[str]) -> Iterator[tuple[str, Outcome]]:
        """Give the refusals that name a field of the audience, or the address: these need no second look."""
        for key, error in self.errors.items():
            field = str(error.get("field") or "")
            if field.upper() in _ADDRESS_FIELDS:
                yield key, rejected("fake_address")
            elif field in merge_fields_there:
                yield key, rejected("invalid_field", fields=field)


def addresses(members: Iterable[Mapping[str, Any]] | None) -> frozenset[str]:
    """Give the lower-cased addresses of members in an answer."""
    return frozenset(str(member["email_address"]).lower() for member in members or ())


def is_raise(before: str, after: str) -> bool:
    """Say whether mail can go out, or sooner, to somebody to whom it could not, going by two statuses."""
    rank = {"subscribed": 2, "pending": 1}
    return rank.get(after, 0) > rank.get(before, 0)


def rejected(code: str, *, fields: str = "", seen: RemoteContact | None = None) -> Outcome:
    """Give a refusal of one contact in our words."""
    reason = REASONS.get(code) or f"The audience refuses the value of {fields}, or requires one."
    return Outcome(status=OutcomeStatus.REJECTED, code=code, reason=reason, seen=seen)


def refusal(error: RefusedRequestError) -> Outcome:
    """Read the refusal of a request that was about one contact, by its title and field names alone."""
    if error.code in _TITLES:
        return rejected(_TITLES[error.code])
    named = error.body.get("errors") if isinstance(error.body, dict) else None
    fields = sorted({str(each.get("field", "")) for each in named or [] if isinstance(each, dict)} - {""})
    merge = [field for field in fields if field.upper() not in _ADDRESS_FIELDS]
    if merge:
        return rejected("invalid_field", fields=", ".join(merge))
    if error.code == "Invalid Resource":
        return rejected("fake_address")
    return Outcome(
        status=OutcomeStatus.REJECTED, code="refused", reason=f"Mailchimp answered {error.status}."
    )
