"""Names in the order of an instant each: what lists of people and events are read from, a page at a time.

No HTTP and nothing of Klaviyo here. Putting a name at the end is O(1), elsewhere a search and a shift; a page starts with
a search, whatever came before it.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from datetime import datetime

Place = tuple[datetime, int]
_SPARE = 64  # rows left behind that are not worth tidying up


class Timeline:
    """One place per name. A name that moves leaves its old row behind, until more rows are dead than alive."""

    def __init__(self) -> None:
        self._rows: list[tuple[datetime, int, str]] = []
        self._places: dict[str, Place] = {}
        self._order = 0

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def at(self, name: str) -> datetime:
        """Give the instant of a name."""
        return self._places[name][0]

    def put(self, name: str, at: datetime) -> None:
        """Place a name, or move it; of two with one instant, the one placed later comes later."""
        self._order += 1
        row = (at, self._order, name)
        self._places[name] = (at, self._order)
        if not self._rows or self._rows[-1] < row:
            self._rows.append(row)
        else:
            insort(self._rows, row)
        self._tidy()

    def drop(self, name: str) -> None:
        """Forget a name; not holding it is fine."""
        if self._places.pop(name, None) is not None:
            self._tidy()

    def _tidy(self) -> None:
        if len(self._rows) > 2 * len(self._places) + _SPARE:
            self._rows = sorted((*place, name) for name, place in self._places.items())

    def walk(
        self, *, since: datetime | None = None, after: Place | None = None, newest_first: bool = False
    ) -> Iterator[tuple[Place, str]]:
        """Give places and names in order, from `since` on and behind the place `after` of an earlier page."""
        rows = self._rows
        first = 0 if since is None else bisect_left(rows, (since, 0, ""))
        if newest_first:
            last = len(rows) if after is None else bisect_left(rows, (*after, ""))
            numbers = range(last - 1, first - 1, -1)
        else:
            start = 0 if after is None else bisect_right(rows, (*after, chr(0x10FFFF)))
            numbers = range(max(first, start), len(rows))
        for number in numbers:
            at, order, name = rows[number]
            if self._places.get(name) == (at, order):
                yield (at, order), name
