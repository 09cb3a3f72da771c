"""The search index of the emulated HubSpot: what a search sees, which is what was written a moment ago.

Filters and order on values are here, HTTP is in `search.py`. A page of a walk by id or by time of change costs what the
page costs, not what the account holds: the matches of the latest query are kept until something changes.
"""

from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

Properties = Mapping[str, str]
Test = Callable[[Properties], bool]
_ID, _CHANGED = "hs_object_id", "lastmodifieddate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One filter. `key` is what tells two of them apart; `above` its bound where it says "more than this id"."""

    key: tuple[object, ...]
    test: Test
    above: int | None = None
    since: str | None = None
    exactly: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """How results are sorted: by the value of a property, ids breaking ties."""

    name: str = _ID
    descending: bool = False
    rank: Callable[[str], Any] = int

    @property
    def by_id(self) -> bool:
        """Whether it is the order of ids, upwards."""
        return self.name == _ID and not self.descending


class SearchIndex:
    """The records as a search sees them."""

    def __init__(self) -> None:
        self._seen: dict[int, Properties] = {}
        self._ids: list[int] = []
        self._changes: list[tuple[str, int]] = []  # also of states that are gone
        self._waiting: deque[tuple[datetime, int, Properties | None]] = deque()
        self._kept: tuple[object, list[int]] | None = None

    def put(self, number: int, properties: Properties | None, now: datetime, lag: float) -> None:
        """Let a search see a record's state after a lag; None takes the record away."""
        if lag <= 0 and not self._waiting:
            self._show(number, properties)
        else:
            self._waiting.append((now + timedelta(seconds=lag), number, properties))

    def find(self, groups: Sequence[Sequence[Condition]], order: Order, now: datetime) -> list[int]:
        """Give the ids of all records that match one of the groups, in order."""
        while self._waiting and self._waiting[0][0] <= now:
            _, number, properties = self._waiting.popleft()
            self._show(number, properties)
        if len(groups) != 1 or not order.by_id:
            return self._matching(groups, order)
        above = max((each.above for each in groups[0] if each.above is not None), default=0)
        found = self._matching([[each for each in groups[0] if each.above is None]], order)
        return found[bisect_right(found, above) :]

    def shown(self, number: int) -> Properties:
        """Give a record's properties as the search sees them."""
        return self._seen[number]

    def _matching(self, groups: Sequence[Sequence[Condition]], order: Order) -> list[int]:
        key = (tuple(tuple(each.key for each in group) for group in groups), order.name, order.descending)
        if self._kept is not None and self._kept[0] == key:
            return self._kept[1]
        found: set[int] = set()
        for group in groups:
            tests = [each.test for each in group]
            found.update(
                number
                for number in self._candidates(group)
                if all(test(self._seen[number]) for test in tests)
            )
        ids = sorted(found)
        if not order.by_id:
            valued = [number for number in ids if order.name in self._seen[number]]
            valued.sort(
                key=lambda number: order.rank(self._seen[number][order.name]), reverse=order.descending
            )
            ids = valued + [number for number in ids if order.name not in self._seen[number]]
        self._kept = (key, ids)
        return ids

    def _candidates(self, group: Sequence[Condition]) -> Sequence[int]:
        for each in group:
            if each.exactly is not None:
                return [number for number in each.exactly if number in self._seen]
        since = max((each.since for each in group if each.since is not None), default=None)
        if since is not None:
            start = bisect_left(self._changes, (since, 0))
            return [
                number
                for changed, number in self._changes[start:]
                if self._seen.get(number, {}).get(_CHANGED) == changed
            ]
        return self._ids

    def _show(self, number: int, properties: Properties | None) -> None:
        self._kept = None
        if properties is None:
            if self._seen.pop(number, None) is not None:
                del self._ids[bisect_left(self._ids, number)]
            return
        if number not in self._seen:
            insort(self._ids, number)
        self._seen[number] = properties
        change = (properties[_CHANGED], number)
        if self._changes and change < self._changes[-1]:
            insort(self._changes, change)
        else:
            self._changes.append(change)
        if len(self._changes) > 2 * len(self._seen) + 1000:
            self._changes = sorted((each[_CHANGED], other) for other, each in self._seen.items())
