"""The account and list endpoints of the emulated Klaviyo.

Unsettled: putting onto a list a profile that does not exist says nothing at the worst, and is a 404 in the permissive mode.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any

from ...emulator import Answer, Call, Handler
from ..facts import endpoints
from .account import Account
from .answers import chosen, document, invalid, missing, own_link, related, resource, stamp
from .filters import Condition, conditions
from .lists import MailingList
from .pages import Row, after, numbered, page
from .profile_endpoints import refuse_include
from .profile_shapes import profile_shown
from .profiles import Profile
from .timeline import Place

_LIST = "/api/lists/{id}"
_MEMBERSHIPS = _LIST + "/relationships/profiles"
_AT_ONCE = 1000


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
            ("GET", "/api/accounts", self._accounts),
            ("GET", "/api/lists", self._index),
            ("POST", "/api/lists", self._create),
            ("GET", _LIST, self._read),
            ("PATCH", _LIST, self._update),
            ("DELETE", _LIST, self._drop),
            ("GET", _LIST + "/profiles", self._members),
            ("POST", _MEMBERSHIPS, self._add),
            ("DELETE", _MEMBERSHIPS, self._remove),
        ]

    def _accounts(self, call: Call) -> Answer:
        address = dict.fromkeys(("address1", "address2", "city", "region", "country", "zip"))
        attributes = {
            "test_account": True,
            "contact_information": {
                "default_sender_name": "Segue sandbox",
                "default_sender_email": "shop@sandbox.invalid",
                "website_url": None,
                "organization_name": "Segue sandbox",
                "street_address": address,
            },
            "industry": None,
            "timezone": "UTC",
            "preferred_currency": "EUR",
            "public_api_key": "SANDBX",
            "locale": "en-US",
        }
        shown = resource(
            call, "account", "SANDBX", "accounts", attributes=chosen(call, "account", attributes)
        )
        return document({"data": [shown], "links": own_link(call)})

    # Lists

    def _index(self, call: Call) -> Answer:
        refuse_include(call)
        wanted = conditions(call, endpoints()["GET /api/lists"]["filters"])
        found = [each for each in self._account.lists.by_id.values() if _meets(each, wanted)]
        if sort := call.query.get("sort"):
            found.sort(key=lambda each: getattr(each, sort.removeprefix("-")), reverse=sort.startswith("-"))
        rows = numbered(found, self._account.clock.now(), after(call))
        return document(page(call, rows, lambda each: list_shown(call, each), size=10))

    def _create(self, call: Call) -> Answer:
        account, attributes = self._account, self._account.body_of(call)["attributes"]
        if not attributes["name"].strip():
            raise invalid("The name must not be empty.", pointer="/data/attributes/name")
        if len(account.lists.by_id) >= account.settings.max_lists:
            raise invalid(f"An account has at most {account.settings.max_lists} lists.", pointer="/data")
        opt_in = attributes.get("opt_in_process") or account.opt_in
        made = account.lists.make(attributes["name"], opt_in, account.clock.now())
        return self._one(call, made, status=201)

    def _read(self, call: Call) -> Answer:
        refuse_include(call)
        return self._one(call, self._account.list_of(call.parameters["id"]))

    def _update(self, call: Call) -> Answer:
        target, data = self._account.list_of(call.parameters["id"]), self._account.body_of(call)
        if data["id"] != target.id:
            raise invalid("The id of the body is not that of the address.", pointer="/data/id")
        target.name = data["attributes"].get("name") or target.name
        target.opt_in = data["attributes"].get("opt_in_process") or target.opt_in
        target.updated = self._account.clock.now()
        return self._one(call, target)

    def _drop(self, call: Call) -> Answer:
        account, target = self._account, self._account.list_of(call.parameters["id"])
        for _, name in target.members.walk():
            account.profiles.by_id[name].lists.pop(target.id)
        del account.lists.by_id[target.id]
        return Answer(status=204)

    def _one(self, call: Call, target: MailingList, *, status: int = 200) -> Answer:
        return document({"data": list_shown(call, target), "links": own_link(call)}, status)

    # Who is on one

    def _members(self, call: Call) -> Answer:
        account, target = self._account, self._account.list_of(call.parameters["id"])
        wanted = conditions(call, endpoints()[f"GET {_LIST}/profiles"]["filters"])

        def show(profile: Profile) -> dict[str, Any]:
            return profile_shown(call, profile, joined=profile.lists[target.id])

        rows = _member_rows(account, target, wanted, after(call), call.query.get("sort"))
        return document(page(call, rows, show, size=20))

    def _add(self, call: Call) -> Answer:
        target, now = self._account.list_of(call.parameters["id"]), self._account.clock.now()
        for profile in self._named(call):
            target.add(profile, now)
        return Answer(status=204)

    def _remove(self, call: Call) -> Answer:
        target = self._account.list_of(call.parameters["id"])
        for profile in self._named(call):
            target.remove(profile)
        return Answer(status=204)

    def _named(self, call: Call) -> list[Profile]:
        names = [each["id"] for each in self._account.body_of(call)]
        if len(names) > _AT_ONCE:
            raise invalid(f"At most {_AT_ONCE} profiles are taken at once.", pointer="/data")
        known = self._account.profiles.by_id
        if not self._account.worst:
            for name in names:
                if name not in known:
                    raise missing("profile", name)
        return [known[name] for name in names if name in known]


def list_shown(call: Call, target: MailingList) -> dict[str, Any]:
    """Give one list."""
    attributes: dict[str, Any] = {
        "name": target.name,
        "created": stamp(target.created),
        "updated": stamp(target.updated),
        "opt_in_process": target.opt_in,
    }
    if "profile_count" in call.query.get("additional-fields[list]", "").split(","):
        attributes["profile_count"] = len(target.members)
    shown = chosen(call, "list", attributes)
    links = related(call, f"lists/{target.id}", {"profiles": None, "tags": None, "flow-triggers": None})
    return resource(call, "list", target.id, "lists", attributes=shown, relationships=links)


def _meets(target: MailingList, wanted: list[Condition]) -> bool:
    return all(each.holds(getattr(target, each.field)) for each in wanted)


def _member_rows(
    account: Account, target: MailingList, wanted: list[Condition], cursor: Place | None, sort: str | None
) -> Iterator[Row]:
    """Give the members that meet all conditions, in the order of joining; whom an identifier names is looked up."""
    instants = [each for each in wanted if each.field == "joined_group_at"]
    named = [each for each in wanted if each.field in {"email", "phone_number"}]
    if len(instants) + len(named) < len(wanted):
        raise invalid("The sandbox does not filter by that.", parameter="filter")
    since: datetime | None = max((each.since for each in instants if each.since), default=None)
    only: set[str] | None = None
    for each in named:
        found = {
            profile.id
            for value in each.names or ()
            if (profile := account.profiles.by(each.field, value)) is not None
            and each.holds(profile.values[each.field])
        }
        only = found if only is None else only & found
    newest_first = (sort or "").startswith("-")
    for place, name in target.members.walk(since=since, after=cursor, newest_first=newest_first):
        if all(each.holds(place[0]) for each in instants) and (only is None or name in only):
            yield place, account.profiles.by_id[name]
