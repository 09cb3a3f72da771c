"""Reading the contacts of a portal: all of them, and those that changed, a page at a time.

A search ends at 10,000 results, shows the newest changes late, and gives thousands of contacts one and the same time of
change; so it is never paged by an offset. Contacts that changed since an instant are asked for in the order of their
ids, each page from the id where the last one ended: https://developers.hubspot.com/docs/api-reference/latest/crm/search-the-crm.

How far reading came is told by HubSpot's own times alone. The next reading begins before the newest change that was
shown by as much as this one took, and a little more: what changed behind it, or was not in the index yet, comes then.
"""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Self

from .payload import instant
from .sdk import Endpoints

_OVERLAP: Final = timedelta(minutes=5)
_LISTED, _SEARCHED = 100, 200  # contacts of one page


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """How far reading came. `since` is where changes are read from, "" while everyone is read; `after` is where the next
    page begins. `newest` is the latest change that was shown, `began` when this reading did, by this machine's clock.
    """

    since: str = ""
    after: str = ""
    newest: str = ""
    began: float = 0.0

    @classmethod
    def parse(cls, cursor: str | None) -> Self:
        """Read a cursor back; None is the very beginning."""
        return cls(**json.loads(cursor)) if cursor else cls()

    def written(self) -> str:
        """Give the cursor."""
        return json.dumps(asdict(self))

    def past(self, records: Sequence[dict[str, Any]], after: str) -> Self:
        """Give how far it is with a page more, "" where that was the last one."""
        newest = max([self.newest, *(record["updatedAt"] for record in records)])
        if after:
            return replace(self, newest=newest, after=after)
        changed = instant(newest)
        took = timedelta(seconds=max(0.0, time.time() - self.began))
        since = (changed - took - _OVERLAP).isoformat() if changed else self.since
        return replace(self, since=max(since, self.since), after="", newest="", began=0.0)


def changes(
    api: Endpoints, cursor: str | None, properties: Sequence[str]
) -> Iterator[tuple[list[dict[str, Any]], str]]:
    """Give pages of records with the cursor after each: everyone for None, else whoever changed since."""
    reached = Reached.parse(cursor)
    if not reached.began:
        reached = replace(reached, began=time.time())
    while True:
        if reached.since:
            records = _searched(api, reached, properties)
            more = records[-1]["id"] if len(records) == _SEARCHED else ""
        else:
            records, more = _listed(api, reached, properties)
        reached = reached.past(records, more)
        yield records, reached.written()
        if not more:
            return


def _listed(api: Endpoints, reached: Reached, properties: Sequence[str]) -> tuple[list[dict[str, Any]], str]:
    place = {"after": reached.after} if reached.after else {}
    page = api.contacts.get_page(limit=_LISTED, properties=list(properties), **place)
    return page["results"], (page.get("paging") or {}).get("next", {}).get("after", "")


def _searched(api: Endpoints, reached: Reached, properties: Sequence[str]) -> list[dict[str, Any]]:
    since = datetime.fromisoformat(reached.since).astimezone(UTC)
    filters = [
        {
            "propertyName": "lastmodifieddate",
            "operator": "GTE",
            "value": str(int(since.timestamp() * 1000)),
        }
    ]
    if reached.after:
        filters.append({"propertyName": "hs_object_id", "operator": "GT", "value": reached.after})
    found: list[dict[str, Any]] = api.search.do_search(
        {
            "filterGroups": [{"filters": filters}],
            "sorts": [{"propertyName": "hs_object_id", "direction": "ASCENDING"}],
            "properties": list(properties),
            "limit": _SEARCHED,
        }
    )["results"]
    return found
