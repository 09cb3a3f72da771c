"""The emulated Mailchimp's campaign reports: what was sent, and who opened and clicked it.

Campaigns are not made by the API here: a test or a person sends one. Settled by the vendor's specification: the shapes,
the paging, `since` and at most 1,000 opens and clicks per recipient. Unsettled: whether recipients without activity
since then are listed; adversarial lists them, permissive does not. `since` leaves out its very second.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal

from ...emulator import Answer, Call, Handler
from .account import Account
from .answers import invalid, missing, page, projected, stamp
from .audience import Audience, Member

_KEPT: Final = 1000  # of each kind, per recipient

Action = Literal["open", "click"]


@dataclass(slots=True, kw_only=True)
class Campaign:
    """One mailing as it was sent: `activity` by subscriber hash, the recipients in the order of sending."""

    id: str
    audience: Audience
    sent_at: datetime
    recipients: dict[str, str]  # address by subscriber hash
    activity: dict[str, list[tuple[Action, datetime]]] = field(default_factory=dict)

    def count(self, action: Action) -> int:
        """Count the opens or clicks of everyone."""
        return sum(kind == action for acts in self.activity.values() for kind, _ in acts)


class ReportEndpoints:
    """What was sent, and its two endpoints."""

    def __init__(self, account: Callable[[], Account]) -> None:
        self._of_account = account
        self.campaigns: dict[str, Campaign] = {}

    def endpoints(self) -> Sequence[tuple[str, str, Handler]]:
        """Give the endpoints."""
        return [
            ("GET", "/3.0/reports", self._reports),
            ("GET", "/3.0/reports/{campaign_id}/email-activity", self._activity),
        ]

    def clear(self) -> None:
        """Forget all campaigns."""
        self.campaigns.clear()

    def send(self, audience: Audience, now: datetime) -> Campaign:
        """Send a campaign to everyone who is subscribed now."""
        number = len(self.campaigns) + 1
        to = {each.id: each.address for each in audience.members.values() if each.status == "subscribed"}
        campaign = Campaign(id=f"c{number:09x}", audience=audience, sent_at=now, recipients=to)
        self.campaigns[campaign.id] = campaign
        return campaign

    def act(self, audience: Audience, member: Member, action: Action, now: datetime) -> None:
        """Let a person open the newest campaign or click in it; the first one is sent for that."""
        sent = [each for each in self.campaigns.values() if each.audience is audience]
        campaign = sent[-1] if sent else self.send(audience, now)
        if member.id not in campaign.recipients:
            raise LookupError("the newest campaign was not sent to that address")
        acts = campaign.activity.setdefault(member.id, [])
        if sum(kind == action for kind, _ in acts) < _KEPT:
            acts.append((action, now))

    def _reports(self, call: Call) -> Answer:
        since, before = _instant(call, "since_send_time"), _instant(call, "before_send_time")
        found = [
            each
            for each in self.campaigns.values()
            if (since is None or each.sent_at > since) and (before is None or each.sent_at < before)
        ]
        return projected(call, page(call, "reports", found, _report))

    def _activity(self, call: Call) -> Answer:
        campaign = self.campaigns.get(call.parameters["campaign_id"])
        if campaign is None:
            raise missing(call)
        since = _instant(call, "since")

        def acts(key: str) -> list[tuple[Action, datetime]]:
            known = campaign.activity.get(key, [])
            return [each for each in known if since is None or each[1].replace(microsecond=0) > since]

        listed = list(campaign.recipients)
        if self._of_account().settings.permissive:
            listed = [key for key in listed if acts(key)]

        def show(key: str) -> dict[str, Any]:
            return {
                "campaign_id": campaign.id,
                "list_id": campaign.audience.id,
                "list_is_active": True,
                "email_id": key,
                "email_address": campaign.recipients[key],
                "activity": [_act(kind, at) for kind, at in acts(key)],
            }

        return projected(call, {**page(call, "emails", listed, show), "campaign_id": campaign.id})


def _act(kind: Action, at: datetime) -> dict[str, str]:
    shown = {"action": kind, "timestamp": stamp(at), "ip": "192.0.2.1"}
    return shown | {"url": "https://shop.invalid/"} if kind == "click" else shown


def _report(campaign: Campaign) -> dict[str, Any]:
    return {
        "id": campaign.id,
        "campaign_title": "Sandbox",
        "type": "regular",
        "list_id": campaign.audience.id,
        "list_is_active": True,
        "list_name": campaign.audience.name,
        "subject_line": "Sandbox",
        "emails_sent": len(campaign.recipients),
        "send_time": stamp(campaign.sent_at),
        "opens": {"opens_total": campaign.count("open")},
        "clicks": {"clicks_total": campaign.count("click")},
    }


def _instant(call: Call, name: str) -> datetime | None:
    if (text := call.query.get(name)) is None:
        return None
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise invalid(call, name, "Schema describes a time in ISO 8601") from None
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)
