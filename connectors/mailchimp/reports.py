"""Opens and clicks, from the reports of an audience's campaigns (https://mailchimp.com/developer/marketing/api/reports/).

One request tells the totals of all campaigns of the last weeks; only those with new opens or clicks are read. Nothing
here knows members, and webhooks never tell either.

How far reading came is kept of each campaign: its totals, the newest time in it, and where a reading was cut off. Pages
go by recipients, in an order that is not documented; whoever opens for the first time meanwhile moves others to a later
page, never to an earlier one. Recipients without new activity may be listed with none.
"""

import json
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from ...core.model import Engagement, EngagementKind
from ..base import EngagementPage
from ..transport import RefusedRequestError
from .pages import PAGE_SIZE
from .payload import timestamp

_RECIPIENTS: Final = 500  # a page; of 1,000 some answers took longer than Mailchimp's own limit
_OVERLAP: Final = timedelta(hours=1)  # reports are written with a delay
_KINDS: Final = {"open": EngagementKind.OPEN, "click": EngagementKind.CLICK}  # a bounce is consent's business
_REPORT: Final = ("id", "list_id", "opens.opens_total", "clicks.clicks_total")
_ACTIVITY: Final = ("email_address", "activity.action", "activity.timestamp")


def engagement(
    reports: Any, audience: str, cursor: str | None, *, since: datetime
) -> Iterator[EngagementPage]:
    """Give the news of all campaigns sent since then, campaign by campaign."""
    before: dict[str, dict[str, Any]] = json.loads(cursor) if cursor else {}
    totals = dict(_totals(reports, audience, since))
    known = {
        campaign: before[campaign] for campaign in totals if campaign in before
    }  # older ones are forgotten
    for campaign, total in totals.items():
        until_now = known.get(campaign, {})
        if until_now.get("total", [0, 0]) == total and "offset" not in until_now:
            continue
        for found, reached in _campaign(reports, campaign, until_now, total):
            known[campaign] = reached
            yield EngagementPage(found=found, cursor=json.dumps(known))


def _totals(reports: Any, audience: str, since: datetime) -> Iterator[tuple[str, list[int]]]:
    offset = 0
    while True:
        page = reports.get_all_campaign_reports(
            since_send_time=timestamp(since),
            fields=[f"reports.{name}" for name in _REPORT],
            count=PAGE_SIZE,
            offset=offset,
        )["reports"]
        for report in page:
            if report["list_id"] == audience:
                yield report["id"], [report["opens"]["opens_total"], report["clicks"]["clicks_total"]]
        if len(page) < PAGE_SIZE:
            return
        offset += PAGE_SIZE


def _campaign(
    reports: Any, campaign: str, reached: Mapping[str, Any], total: list[int]
) -> Iterator[tuple[list[Engagement], dict[str, Any]]]:
    """Give a campaign's news a page at a time, each with how far reading came; `total` only with the last."""
    newest, offset = reached.get("newest"), reached.get("offset", 0)
    since = reached.get("since")
    query = {} if since is None else {"since": since}
    while True:
        try:
            recipients = reports.get_email_activity_for_campaign(
                campaign,
                fields=[f"emails.{name}" for name in _ACTIVITY],
                count=_RECIPIENTS,
                offset=offset,
                **query,
            )["emails"]
        except RefusedRequestError as error:
            if error.status == 404:  # deleted since the totals were read
                return
            raise
        found = [
            Engagement(
                address=each["email_address"],
                kind=_KINDS[act["action"]],
                occurred_at=datetime.fromisoformat(act["timestamp"]),
                campaign=campaign,
            )
            for each in recipients
            for act in each.get("activity", ())
            if act["action"] in _KINDS
        ]
        newest = max([newest, *(timestamp(each.occurred_at) for each in found)], key=lambda each: each or "")
        offset += _RECIPIENTS
        if len(recipients) < _RECIPIENTS:
            behind = newest and timestamp(datetime.fromisoformat(newest) - _OVERLAP)
            yield found, {"total": total, "since": behind, "newest": newest}
            return
        yield found, {"since": since, "newest": newest, "offset": offset}
