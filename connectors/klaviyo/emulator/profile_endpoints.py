"""The profile endpoints of the emulated Klaviyo: reading, creating, changing, importing one, merging, deleting for good.

What a write does is in `profiles.py`. Identifiers are looked up; without them a listing is read along the order that its
sort or filter names, so that no page looks at everybody.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from ...emulator import Answer, Call, Handler
from ..facts import endpoints
from .account import Account, refused_profile
from .answers import document, invalid, own_link, resource
from .filters import Condition, conditions
from .pages import Row, after, page
from .profile_shapes import profile_shown
from .profiles import IDENTIFIERS, Profile, ProfileError
from .timeline import Place, Timeline

BYTES = 100_000  # of one profile
_SUPPRESSION = "subscriptions.email.marketing.suppression."
_LIST_SUPPRESSION = "subscriptions.email.marketing.list_suppressions."


class ProfileEndpoints:
    """Handlers over one account."""

    def __init__(self, account: Callable[[], Account]) -> None:
        self._current = account

    @property
    def _account(self) -> Account:
        return self._current()

    def endpoints(self) -> Sequence[tuple[str, str, Handler]]:
        """Give method, path template and handler of each."""
        return [
            ("GET", "/api/profiles", self._index),
            ("POST", "/api/profiles", self._create),
            ("GET", "/api/profiles/{id}", self._read),
            ("PATCH", "/api/profiles/{id}", self._update),
            ("POST", "/api/profile-import", self._import),
            ("POST", "/api/profile-merge", self._merge),
            ("POST", "/api/data-privacy-deletion-jobs", self._delete),
        ]

    # One by one

    def _read(self, call: Call) -> Answer:
        return self._one(call, self._account.profile_of(call.parameters["id"]))

    def _create(self, call: Call) -> Answer:
        data = self._data(call)
        try:
            profile = self._account.profiles.create(data["attributes"], self._account.write(call.number))
        except ProfileError as error:
            raise refused_profile(error) from None
        return self._one(call, profile, status=201)

    def _update(self, call: Call) -> Answer:
        account, data = self._account, self._data(call)
        profile = account.profile_of(call.parameters["id"])
        if data["id"] != profile.id:
            raise invalid("The id of the body is not that of the address.", pointer="/data/id")
        try:
            account.profiles.update(profile, data["attributes"], patch_of(data), account.write(call.number))
        except ProfileError as error:
            raise refused_profile(error) from None
        return self._one(call, profile)

    def _import(self, call: Call) -> Answer:
        account, data = self._account, self._data(call)
        try:
            profile, new = account.profiles.upsert(
                data["attributes"], patch_of(data), account.write(call.number), name=data.get("id")
            )
        except ProfileError as error:
            raise refused_profile(error) from None
        return self._one(call, profile, status=201 if new else 200)

    def _data(self, call: Call) -> dict[str, Any]:
        if len(call.body) > BYTES:
            raise invalid("The maximum allowed payload size is 100KB.", pointer="/data")
        data: dict[str, Any] = self._account.body_of(call)
        return data

    def _one(self, call: Call, profile: Profile, *, status: int = 200) -> Answer:
        return document({"data": profile_shown(call, profile), "links": own_link(call)}, status)

    # Later

    def _merge(self, call: Call) -> Answer:
        account, data = self._account, self._account.body_of(call)
        sources = data["relationships"]["profiles"].get("data", [])
        if len(sources) != 1:
            raise invalid(
                "Exactly one source profile is needed.", pointer="/data/relationships/profiles/data"
            )
        target, source = account.profile_of(data["id"]), account.profile_of(sources[0]["id"])
        if target is source:
            raise invalid("A profile cannot be merged into itself.", pointer="/data/id")
        account.errands.send(
            account.clock.now() + account.later(),
            partial(_merged, account, source.id, target.id, call.number),
        )
        shown = resource(call, "profile", target.id, "profiles")
        return document({"data": shown, "links": own_link(call)}, 201)

    def _delete(self, call: Call) -> Answer:
        account, who = self._account, self._account.body_of(call)["attributes"]["profile"]["data"]
        given = {name: value for name, value in who["attributes"].items() if value is not None}
        if who.get("id") is not None:
            given["id"] = who["id"]
        if len(given) != 1:
            raise invalid("Exactly one identifier is needed.", pointer="/data/attributes/profile/data")
        account.errands.send(account.clock.now() + account.later(), lambda _: _erased(account, given))
        return Answer(status=202)

    # Listing

    def _index(self, call: Call) -> Answer:
        refuse_include(call)
        wanted = conditions(call, endpoints()["GET /api/profiles"]["filters"])
        rows = _rows(self._account, wanted, call.query.get("sort"), after(call))
        return document(page(call, rows, lambda profile: profile_shown(call, profile), size=20))


def patch_of(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Read `patch_properties` out of a profile's resource; the other patch is not emulated, and refused."""
    meta = data.get("meta") or {}
    if meta.get("patch_identifiers"):
        raise invalid("The sandbox knows no patch_identifiers.", pointer="/data/meta/patch_identifiers")
    found: Mapping[str, Any] = meta.get("patch_properties") or {}
    return found


def refuse_include(call: Call) -> None:
    """Refuse a query for included resources where the sandbox has none."""
    if "include" in call.query:
        raise invalid("The sandbox includes nothing here.", parameter="include")


def _merged(account: Account, source_id: str, target_id: str, request: int, _: datetime) -> None:
    source = account.profiles.by_id.get(source_id)
    target = account.profiles.by_id.get(target_id)
    if source is None or target is None:
        return
    for list_id, joined in list(source.lists.items()):
        account.lists.by_id[list_id].remove(source)
        account.lists.by_id[list_id].add(target, joined)
    account.events.move(source.id, target.id)
    account.profiles.merge(source, target, account.write(request))


def _erased(account: Account, who: Mapping[str, str]) -> None:
    if "id" in who:
        profile = account.profiles.by_id.get(who["id"])
    else:
        profile = next(iter(account.profiles.matches(who)), None)
    if profile is not None:
        account.erase(profile)


def _values(profile: Profile, field: str) -> list[Any]:
    """Give what a field of the filter is of a profile; of suppressions there are several."""
    if field in IDENTIFIERS:
        return [profile.values.get(field)]
    own: Mapping[str, Any] = {"id": profile.id, "created": profile.created, "updated": profile.updated}
    if field in own:
        return [own[field]]
    if (standing := profile.standing) is None:
        return []
    reasons, lists = standing.suppressions, standing.list_suppressions
    held: Mapping[str, Iterable[Any]] = {
        _SUPPRESSION + "reason": reasons,
        _SUPPRESSION + "timestamp": reasons.values(),
        _LIST_SUPPRESSION + "reason": ["UNSUBSCRIBE"] if lists else [],
        _LIST_SUPPRESSION + "timestamp": lists.values(),
        _LIST_SUPPRESSION + "list_id": lists,
    }
    return list(held.get(field, []))


def _rows(account: Account, wanted: list[Condition], sort: str | None, cursor: Place | None) -> Iterator[Row]:
    """Give the profiles that meet all conditions, in order, behind a cursor."""
    newest_first = (sort or "").startswith("-")
    order = (sort or "").removeprefix("-") or next(
        (each.field for each in wanted if each.since is not None or each.field.startswith("subscriptions")),
        "id",
    )
    order = order.replace(".reason", ".timestamp").replace(".list_id", ".timestamp")
    timeline, named = _timeline(account, order)
    named_by = next((each for each in wanted if each.field in {"id", *IDENTIFIERS} and each.names), None)
    if named_by is not None:
        timeline = _among(account, named_by, timeline, named)
    since = max((each.since for each in wanted if each.field == order and each.since), default=None)
    for place, name in timeline.walk(since=since, after=cursor, newest_first=newest_first):
        profile = named(name)
        if profile is not None and all(
            any(each.holds(value) for value in _values(profile, each.field)) for each in wanted
        ):
            yield place, profile


def _timeline(account: Account, order: str) -> tuple[Timeline, Callable[[str], Profile | None]]:
    profiles, standings = account.profiles, account.standings
    by_address = partial(profiles.by, "email")
    match order:
        case "updated":
            return profiles.updated, profiles.by_id.get
        case "created" | "id":
            return profiles.created, profiles.by_id.get
        case "subscriptions.email.marketing.suppression.timestamp":
            return standings.suppressed, by_address
        case "subscriptions.email.marketing.list_suppressions.timestamp":
            return standings.list_suppressed, by_address
        case _:
            raise invalid("The sandbox does not sort by that.", parameter="sort")


def _among(
    account: Account, condition: Condition, order: Timeline, named: Callable[[str], Profile | None]
) -> Timeline:
    """Give the same order of those alone whom a condition names."""
    found = Timeline()
    by_address = named != account.profiles.by_id.get
    for value in condition.names or ():
        field = condition.field
        profile = account.profiles.by_id.get(value) if field == "id" else account.profiles.by(field, value)
        if profile is not None:
            name = profile.email if by_address else profile.id
            if name is not None and name in order:
                found.put(name, order.at(name))
    return found
