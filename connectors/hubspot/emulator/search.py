"""The search endpoint of the emulated HubSpot: reads filters, groups and order, and cuts a page.

What a search sees, and how fast, is in `index.py`. Settled by sources: at most 5 groups, 6 filters in each, 18 in all;
one rule of order; 200 a page and 10,000 results a query; a body of at most 3,000 characters; IN wants lower-case texts.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from ...emulator import Answer, Call
from .account import SHOWN, Account
from .answers import Json, answered, body_of, invalid, texts, texts_in, whole
from .definitions import Definition
from .index import Condition, Order, Properties, Test
from .paths import CONTACTS, Endpoint, under
from .records import number_of

_GROUPS, _FILTERS, _ALL_FILTERS = 5, 6, 18
_PAGE, _PAGE_UNASKED, _CAP = 200, 10, 10_000
_BODY = 3000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Key = tuple[object, ...]
_COMPARED: Mapping[str, Callable[[Any, Any], bool]] = {
    "EQ": lambda mine, theirs: bool(mine == theirs),
    "LT": lambda mine, theirs: bool(mine < theirs),
    "LTE": lambda mine, theirs: bool(mine <= theirs),
    "GT": lambda mine, theirs: bool(mine > theirs),
    "GTE": lambda mine, theirs: bool(mine >= theirs),
    "NEQ": lambda mine, theirs: bool(mine != theirs),
}
_QUERIED = ("email", "firstname", "lastname", "phone", "hs_additional_emails")
SEARCHES = [base + "/search" for base in CONTACTS]


class SearchEndpoints:
    """Handlers over one account."""

    def __init__(self, account: Callable[[], Account]) -> None:
        self._current = account

    def endpoints(self) -> Sequence[Endpoint]:
        """Give method, path template and handler."""
        return under(CONTACTS, "POST", "/search", self._search)

    def _search(self, call: Call) -> Answer:
        account, body = self._current(), body_of(call)
        if len(call.body.decode(errors="replace")) > _BODY:
            raise invalid(call, f"The request body can have at most {_BODY} characters")
        limit = whole(call, body.get("limit") or _PAGE_UNASKED, "limit", least=1, most=_PAGE)
        after = whole(call, body.get("after") or 0, "after", least=0, most=10**18)
        if after + limit > _CAP:
            raise invalid(call, f"Paging through more than {_CAP} results is not supported")
        groups = _groups(call, body, account.definitions.active)
        if query := body.get("query"):
            groups = [[*group, _asked(call, query)] for group in groups]
        order = _order(call, body, account.definitions.active)
        index = account.records.index
        found = index.find(groups, order, account.clock.now())
        properties = texts_in(call, body, "properties")
        results = [_shown(number, index.shown(number), properties) for number in found[after : after + limit]]
        answer: Json = {"total": len(found), "results": results}
        if after + limit < len(found):
            answer["paging"] = {"next": {"after": str(after + limit)}}
        return answered(answer)


def _groups(call: Call, body: Mapping[str, Any], known: Mapping[str, Definition]) -> list[list[Condition]]:
    raw = body.get("filterGroups") or []
    if not isinstance(raw, list) or not all(isinstance(group, dict) for group in raw):
        raise invalid(call, "Invalid input JSON: filterGroups must be a list of objects")
    lists = [group.get("filters") or [] for group in raw]
    if not all(isinstance(filters, list) for filters in lists):
        raise invalid(call, "Invalid input JSON: filters must be a list")
    if len(lists) > _GROUPS or any(len(filters) > _FILTERS for filters in lists):
        raise invalid(call, f"At most {_GROUPS} filter groups of {_FILTERS} filters are supported")
    if sum(len(filters) for filters in lists) > _ALL_FILTERS:
        raise invalid(call, f"At most {_ALL_FILTERS} filters are supported")
    return [[_condition(call, each, known) for each in filters] for filters in lists] or [[]]


def _condition(call: Call, raw: Any, known: Mapping[str, Definition]) -> Condition:
    if not isinstance(raw, dict):
        raise invalid(call, "Invalid input JSON: a filter must be an object")
    name, operator = raw.get("propertyName"), raw.get("operator")
    definition = known.get(name) if isinstance(name, str) else None
    if definition is None:
        raise invalid(call, f"Property {name!r} does not exist")
    values = [raw.get(each) for each in ("value", "highValue", "values")]
    key: Key = (definition.name, str(operator), repr(values))
    if operator in {"HAS_PROPERTY", "NOT_HAS_PROPERTY"}:
        return Condition(key=key, test=_present(definition.name, wanted=operator == "HAS_PROPERTY"))
    if operator in {"IN", "NOT_IN"}:
        return _listed(
            key, definition.name, texts(call, raw.get("values"), "values"), wanted=operator == "IN"
        )
    if operator in {"CONTAINS_TOKEN", "NOT_CONTAINS_TOKEN"}:
        token = str(_value(call, raw, "value", str)).lower().strip("*")
        return Condition(
            key=key, test=_with_token(definition.name, token, wanted=operator == "CONTAINS_TOKEN")
        )
    read = _reader(definition)
    if operator == "BETWEEN":
        low, high = _value(call, raw, "value", read), _value(call, raw, "highValue", read)
        return Condition(key=key, test=_between(definition.name, low, high, read))
    if not isinstance(operator, str) or operator not in _COMPARED:
        raise invalid(call, f"operator {operator!r} is not supported")
    return _compared(key, definition.name, operator, _value(call, raw, "value", read), read)


def _present(name: str, *, wanted: bool) -> Test:
    return lambda mine: (name in mine) is wanted


def _listed(key: Key, name: str, values: list[str], *, wanted: bool) -> Condition:
    """Look for a value in a list; what a record has is in lower case here, whatever was asked is not."""
    listed = set(values)
    exact = None
    if wanted and name == "hs_object_id":
        exact = tuple(number_of(each) for each in listed)
    return Condition(
        key=key, test=lambda mine: (mine.get(name, "").lower() in listed) is wanted, exactly=exact
    )


def _with_token(name: str, token: str, *, wanted: bool) -> Test:
    return lambda mine: (token in mine.get(name, "").lower()) is wanted


def _between(name: str, low: Any, high: Any, read: Callable[[str], Any]) -> Test:
    return lambda mine: name in mine and bool(low <= read(mine[name]) <= high)


def _compared(key: Key, name: str, operator: str, value: Any, read: Callable[[str], Any]) -> Condition:
    compare, absent = _COMPARED[operator], operator == "NEQ"

    def test(mine: Properties) -> bool:
        return compare(read(mine[name]), value) if name in mine else absent

    above = exactly = since = None
    if name == "hs_object_id" and math.isfinite(value):
        if operator in {"GT", "GTE"}:
            above = math.floor(value) if operator == "GT" else math.ceil(value) - 1
        elif operator == "EQ":
            exactly = (math.floor(value),)
    if name == "lastmodifieddate" and operator in {"GT", "GTE"}:
        since = (
            (_EPOCH + timedelta(milliseconds=value)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        )
    return Condition(key=key, test=test, above=above, since=since, exactly=exactly)


def _reader(definition: Definition) -> Callable[[str], Any]:
    """Give what makes the values of a property comparable."""
    match definition.type:
        case "number":
            return float
        case "date" | "datetime":
            return _milliseconds
        case _:
            return str.lower


def _milliseconds(text: str) -> int:
    if text.lstrip("-").isdecimal():
        milliseconds = int(text)
        _ = _EPOCH + timedelta(milliseconds=milliseconds)
        return milliseconds
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None:
        instant = instant.replace(tzinfo=UTC)
    return (instant - _EPOCH) // timedelta(milliseconds=1)


def _value(call: Call, raw: Mapping[str, Any], name: str, read: Callable[[str], Any]) -> Any:
    text = raw.get(name)
    if not isinstance(text, str) or not text:
        raise invalid(call, f"The operator {raw.get('operator')} needs {name}, a string")
    try:
        return read(text)
    except (ValueError, OverflowError):
        raise invalid(call, f"{text} is not a value of {raw.get('propertyName')}") from None


def _asked(call: Call, query: Any) -> Condition:
    if not isinstance(query, str):
        raise invalid(call, "Invalid input JSON: query must be a string")
    text = query.lower()
    return Condition(
        key=("query", text), test=lambda mine: any(text in mine.get(name, "").lower() for name in _QUERIED)
    )


def _order(call: Call, body: Mapping[str, Any], known: Mapping[str, Definition]) -> Order:
    sorts = body.get("sorts") or []
    if not isinstance(sorts, list) or len(sorts) > 1:
        raise invalid(call, "Only one sort rule is supported")
    if not sorts:
        return Order()
    rule = sorts[0]
    name: Any
    if isinstance(rule, str):  # the vendor's own client sends texts: "name", "-name"
        name, descending = rule.removeprefix("-"), rule.startswith("-")
    elif isinstance(rule, dict):
        name, descending = rule.get("propertyName"), rule.get("direction") == "DESCENDING"
    else:
        raise invalid(call, "Invalid input JSON: a sort rule must be an object")
    definition = known.get(name) if isinstance(name, str) else None
    if definition is None:
        raise invalid(call, f"Property {name!r} does not exist")
    return Order(name=definition.name, descending=descending, rank=_reader(definition))


def _shown(number: int, seen: Properties, properties: Sequence[str]) -> Json:
    values = {name: seen.get(name) for name in properties or SHOWN}
    for name in ("createdate", "hs_object_id", "lastmodifieddate"):
        values[name] = seen.get(name)
    return {
        "id": str(number),
        "properties": values,
        "createdAt": seen["createdate"],
        "updatedAt": seen["lastmodifieddate"],
        "archived": False,
    }
