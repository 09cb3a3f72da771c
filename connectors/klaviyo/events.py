"""What Klaviyo's events tell: opens and clicks, and whether somebody left.

https://developers.klaviyo.com/en/reference/get_events. An event belongs to a metric, whose id differs between accounts.
They are read in the order of their time, to the second; late ones are met by beginning an hour before the newest one.
"""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from ...core.model import Engagement, EngagementKind
from ..base import EngagementPage
from .api import Api

_KINDS: Final = {"Opened Email": EngagementKind.OPEN, "Clicked Email": EngagementKind.CLICK}
_LEAVING: Final = frozenset(
    {"Unsubscribed from Email Marketing", "Marked Email as Spam", "Manually Suppressed from Email Marketing"}
)
_COMING: Final = "Subscribed to Email Marketing"
_OVERLAP: Final = 3600  # seconds
_PAGE: Final = "1000"


def opens_and_clicks(api: Api, cursor: str | None, *, since: datetime) -> Iterator[EngagementPage]:
    """Give the news of both kinds, a page at a time. The cursor holds the newest time of each."""
    reached: dict[str, int] = json.loads(cursor) if cursor else {}
    first = int(since.timestamp())
    for name, metric in _metrics(api).items():
        begin = max(first, reached.get(name, 0) - _OVERLAP)
        query = {
            "filter": f'equals(metric_id,"{metric}"),greater-or-equal(timestamp,{begin})',
            "sort": "timestamp",
            "include": "profile",
            "fields[profile]": "email",
            "page[size]": _PAGE,
        }
        for page, _ in api.pages("events", "/events", query):
            addresses = _addresses(page)
            found = [_engagement(event, _KINDS[name], addresses) for event in page["data"]]
            times = [event["attributes"]["timestamp"] for event in page["data"]]
            reached = {**reached, name: max([reached.get(name, 0), *times])}
            yield EngagementPage(found=[each for each in found if each.address], cursor=json.dumps(reached))


def left_since(api: Api, profile_id: str, since: datetime | None) -> bool:
    """Say whether a profile left since an instant of Klaviyo's own clock, None for ever, and did not subscribe after it."""
    begin = f",greater-or-equal(datetime,{since.astimezone(UTC).isoformat()})" if since else ""
    query = {
        "filter": f'equals(profile_id,"{profile_id}"){begin}',
        "include": "metric",
        "fields[metric]": "name",
        "page[size]": _PAGE,
    }
    left = came = 0
    for page, _ in api.pages("events", "/events", query):
        names = {
            each["id"]: each["attributes"].get("name")
            for each in page.get("included") or ()
            if each["type"] == "metric"
        }
        for event in page["data"]:
            name = names.get(event["relationships"]["metric"]["data"]["id"])
            at = event["attributes"]["timestamp"]
            left = max(left, at) if name in _LEAVING else left
            came = max(came, at) if name == _COMING else came
    return left > 0 and left >= came


def _metrics(api: Api) -> dict[str, str]:
    """Give the ids of Klaviyo's own metrics of opens and clicks, by name; those that never happened are not there."""
    return {
        told["name"]: metric["id"]
        for page, _ in api.pages("metrics", "/metrics", {})
        for metric in page["data"]
        if (told := metric["attributes"])["name"] in _KINDS
        and (told.get("integration") or {}).get("name") == "Klaviyo"
    }


def _addresses(page: Mapping[str, Any]) -> dict[str, str]:
    return {
        each["id"]: each["attributes"].get("email") or ""
        for each in page.get("included") or ()
        if each["type"] == "profile"
    }


def _engagement(event: Mapping[str, Any], kind: EngagementKind, addresses: Mapping[str, str]) -> Engagement:
    told = event["attributes"]
    profile = event["relationships"]["profile"]["data"]["id"]
    return Engagement(
        address=addresses.get(profile, ""),
        kind=kind,
        occurred_at=datetime.fromtimestamp(told["timestamp"], UTC),
        campaign=str((told.get("event_properties") or {}).get("$message") or ""),
    )
