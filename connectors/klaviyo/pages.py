"""Reading the profiles of an account: all of them, and those that changed, a page at a time.

Klaviyo gives profiles in the order of their change, to the second, and pages by a cursor of its own; who changes
meanwhile comes again at the end. The next reading begins a little before the newest change that was shown, or right
there once that is so old that whatever belongs before it must have been shown.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from ..transport import RefusedRequestError
from .api import Api, error_of
from .payload import instant

_OVERLAP: Final = timedelta(seconds=60)
_SETTLED: Final = timedelta(hours=1)  # by this machine's clock, which may be wrong by minutes
_PAGE: Final = 100
_SHOWN: Final = {"additional-fields[profile]": "subscriptions", "page[size]": str(_PAGE)}


def changes(api: Api, cursor: str | None) -> Iterator[tuple[Sequence[dict[str, Any]], str]]:
    """Give pages of profiles with the cursor after each: everyone for None, else whoever changed since.

    Where Klaviyo does not take its own cursor of an earlier reading any more, that reading begins again.
    """
    reached: dict[str, str] = json.loads(cursor) if cursor else {}
    try:
        yield from _changes(api, reached)
    except RefusedRequestError as refused:
        wrong = (error_of(refused.body).get("source") or {}).get("parameter")
        if "page" not in reached or wrong != "page[cursor]":
            raise
        yield from _changes(api, {"since": reached.get("since", "")})


def _changes(api: Api, reached: Mapping[str, str]) -> Iterator[tuple[Sequence[dict[str, Any]], str]]:
    since, newest = reached.get("since", ""), reached.get("newest", "")
    query = {**_SHOWN, "sort": "updated"}
    if since:
        query["filter"] = f"greater-than(updated,{since})"
    if place := reached.get("page", ""):
        query["page[cursor]"] = place
    for page, after in api.pages("profiles", "/profiles", query):
        profiles = page["data"]
        newest = max([newest, *(_utc(each["attributes"]["updated"]) for each in profiles)])
        if after:
            reached = {"since": since, "newest": newest, "page": after}
        else:
            reached = {"since": max(since, _begin(newest))}
        yield profiles, json.dumps(reached)


def by_address(api: Api, addresses: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Give the profiles that have these addresses, a hundred a request."""
    wanted = sorted({address.lower() for address in addresses})
    for start in range(0, len(wanted), _PAGE):
        some = ",".join(json.dumps(address, ensure_ascii=False) for address in wanted[start : start + _PAGE])
        query = {**_SHOWN, "filter": f"any(email,[{some}])"}
        for page, _ in api.pages("profiles", "/profiles", query):
            yield from page["data"]


def _begin(newest: str) -> str:
    """Give from where the next reading begins, behind the newest change that this one showed."""
    changed = instant(newest)
    if changed is None:
        return ""
    settled = datetime.now(UTC) - changed > _SETTLED
    return (changed - (timedelta(seconds=1) if settled else _OVERLAP)).isoformat()


def _utc(text: str) -> str:
    return datetime.fromisoformat(text).astimezone(UTC).isoformat()
