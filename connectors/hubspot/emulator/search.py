"""The search of the emulated HubSpot, with what makes it awkward: a cap, an index that lags, a limit of its own.

https://developers.hubspot.com/docs/api-reference/latest/crm/search-the-crm: five groups of six filters, eighteen in all; pages
of 200; a body of 3,000 characters; one sort; 10,000 results and no more; five requests a second, refused without the
headers that other answers have; archived records never appear.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from ...emulator import Answer, Call, Clock, RefusedError
from .answers import invalid, object_of, problem, record
from .portal import Portal, Record
from .settings import SEARCHES, Settings

CAP: Final = 10_000
_PAGE, _BODY = 200, 3_000
_GROUPS, _FILTERS, _ALL_FILTERS = 5, 6, 18


class Search:
    """Answers searches of one portal."""

    def __init__(self, settings: Callable[[], Settings], clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._recent: deque[datetime] = deque()

    def answer(self, call: Call, portal: Portal) -> Answer:
        """Answer one search."""
        self._admit(call)
        if len(call.body) > _BODY:
            raise invalid(call, f"a body has at most {_BODY} characters")
        body = object_of(call)
        groups = self._groups(call, body)
        limit, after = body.get("limit", 10), body.get("after", 0)
        if not isinstance(limit, int) or not 0 < limit <= _PAGE:
            raise invalid(call, f"limit must be from 1 to {_PAGE}")
        if not str(after).isdecimal():
            raise invalid(call, "after must be an integer")
        start = int(after)
        if start + limit > CAP:
            raise invalid(call, f"paging ends at {CAP} results")
        total, found = self._found(portal, groups, self._sort(call, body), start, limit)
        answer: dict[str, Any] = {
            "total": total,
            "results": [record(each, body.get("properties") or ()) for each in found],
        }
        if start + len(found) < total:
            answer["paging"] = {"next": {"after": str(start + len(found))}}
        return Answer(body=answer)

    def _admit(self, call: Call) -> None:
        if not self._settings().limited:
            return
        now = self._clock.now()
        while self._recent and not timedelta() <= now - self._recent[0] < timedelta(seconds=SEARCHES.seconds):
            self._recent.popleft()
        if len(self._recent) >= SEARCHES.count:
            refused = problem(429, "RATE_LIMITS", "You have reached your secondly limit.", number=call.number)
            body = refused.body | {"errorType": "RATE_LIMIT", "policyName": "SECONDLY"}
            raise RefusedError(Answer(status=429, body=body))
        self._recent.append(now)

    def _groups(self, call: Call, body: Mapping[str, Any]) -> list[list[Mapping[str, Any]]]:
        groups = [group.get("filters", []) for group in body.get("filterGroups") or []]
        if len(groups) > _GROUPS or max(map(len, groups), default=0) > _FILTERS:
            raise invalid(call, f"at most {_GROUPS} groups of {_FILTERS} filters")
        if sum(map(len, groups)) > _ALL_FILTERS:
            raise invalid(call, f"at most {_ALL_FILTERS} filters")
        for each in (each for group in groups for each in group):
            if each.get("operator") not in _OPERATORS or not each.get("propertyName"):
                raise invalid(call, f"no such filter: {each.get('operator')}")
        return groups

    def _sort(self, call: Call, body: Mapping[str, Any]) -> tuple[str, bool]:
        sorts = body.get("sorts") or [{"propertyName": "createdate", "direction": "DESCENDING"}]
        if len(sorts) > 1:
            raise invalid(call, "one sort rule at most")
        return sorts[0]["propertyName"], sorts[0].get("direction") == "DESCENDING"

    def _found(
        self,
        portal: Portal,
        groups: Sequence[Sequence[Mapping[str, Any]]],
        sort: tuple[str, bool],
        start: int,
        limit: int,
    ) -> tuple[int, list[Record]]:
        """Give how many there are, and one page of them."""
        seen_until = self._clock.now() - timedelta(seconds=self._settings().search_lag)
        candidates: Iterable[Record] = portal.after(_behind(groups))
        visible = (each for each in candidates if each.updated <= seen_until)
        found = [each for each in visible if not groups or any(_fits(each, group) for group in groups)]
        name, descending = sort
        if name != "hs_object_id" or descending:
            found.sort(key=lambda each: _key(each, name), reverse=descending)
        return len(found), found[start : start + limit]


def _behind(groups: Sequence[Sequence[Mapping[str, Any]]]) -> int:
    """Give the id behind which all results lie, where the filters say so."""
    if len(groups) != 1:
        return 0
    ids = [
        int(each["value"])
        for each in groups[0]
        if each["propertyName"] == "hs_object_id" and each["operator"] == "GT"
    ]
    return max(ids, default=0)


def _key(found: Record, name: str) -> tuple[Any, int]:
    if name in {"lastmodifieddate", "createdate"}:
        return (found.updated if name == "lastmodifieddate" else found.created), found.id
    return found.properties.get(name, ""), found.id


def _fits(found: Record, group: Iterable[Mapping[str, Any]]) -> bool:
    return all(_OPERATORS[each["operator"]](_value(found, each["propertyName"]), each) for each in group)


def _value(found: Record, name: str) -> str:
    match name:
        case "hs_object_id":
            return str(found.id)
        case "lastmodifieddate" | "createdate":
            moment = found.updated if name == "lastmodifieddate" else found.created
            return str(int(moment.timestamp() * 1000))
        case _:
            return found.properties.get(name, "")


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[str, Mapping[str, Any]], bool]:
    def holds(value: str, each: Mapping[str, Any]) -> bool:
        wanted = str(each.get("value", ""))
        if not value:
            return False
        if value.lstrip("-").isdecimal() and wanted.lstrip("-").isdecimal():
            return compare(int(value), int(wanted))
        return compare(value, wanted)

    return holds


_OPERATORS: Final[Mapping[str, Callable[[str, Mapping[str, Any]], bool]]] = {
    "LT": _ordered(lambda a, b: a < b),
    "LTE": _ordered(lambda a, b: a <= b),
    "GT": _ordered(lambda a, b: a > b),
    "GTE": _ordered(lambda a, b: a >= b),
    "EQ": lambda value, each: value == str(each.get("value", "")),
    "NEQ": lambda value, each: value != str(each.get("value", "")),
    "IN": lambda value, each: value.lower() in (each.get("values") or ()),
    "NOT_IN": lambda value, each: value.lower() not in (each.get("values") or ()),
    "HAS_PROPERTY": lambda value, _: bool(value),
    "NOT_HAS_PROPERTY": lambda value, _: not value,
}
