"""The metric and event endpoints of the emulated Klaviyo.

Settled: the shapes, the filters, 200 events a page and at most 1,000, and that a metric of one's own cannot be filtered by;
unsettled is what such a filter answers: at the worst nothing, as if nothing had happened. An event makes or changes its
profile as an import would, a little later.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

from ...emulator import Answer, Call, Handler
from ..facts import endpoints
from .account import Account
from .answers import chosen, document, invalid, related, resource, stamp
from .events import Event, Metric
from .filters import Condition, conditions
from .pages import Row, after, numbered, page
from .profile_endpoints import patch_of, refuse_include
from .profile_shapes import profile_shown
from .profiles import ProfileError
from .timeline import Place, Timeline

_PROPERTIES = 300
_INCLUDED = frozenset({"metric", "profile"})
_METRICS = 200


class EventEndpoints:
    """Handlers over one account."""

    def __init__(self, account: Callable[[], Account]) -> None:
        self._current = account

    @property
    def _account(self) -> Account:
        return self._current()

    def endpoints(self) -> Sequence[tuple[str, str, Handler]]:
        """Give method, path template and handler of each."""
        return [
            ("GET", "/api/metrics", self._metrics),
            ("GET", "/api/events", self._index),
            ("POST", "/api/events", self._create),
        ]

    def _metrics(self, call: Call) -> Answer:
        refuse_include(call)
        if "filter" in call.query:
            raise invalid("The sandbox does not filter metrics.", parameter="filter")
        found = list(self._account.events.metrics.values())
        rows = numbered(found, self._account.clock.now(), after(call))
        return document(page(call, rows, lambda metric: _metric_shown(call, metric), size=_METRICS))

    def _index(self, call: Call) -> Answer:
        account = self._account
        include = set(call.query.get("include", "").split(",")) - {""}
        if include - _INCLUDED:
            raise invalid("The sandbox includes metrics and profiles alone.", parameter="include")
        wanted = conditions(call, endpoints()["GET /api/events"]["filters"])
        sort = call.query.get("sort", "-datetime")
        found: dict[tuple[str, str], dict[str, Any]] = {}

        def show(event: Event) -> dict[str, Any]:
            if "metric" in include:
                found["metric", event.metric.id] = _metric_shown(call, event.metric)
            if "profile" in include:
                profile = account.profiles.by_id[event.profile_id]
                found["profile", profile.id] = profile_shown(call, profile)
            return event_shown(call, event)

        rows = _rows(account, wanted, after(call), newest_first=sort.startswith("-"))
        shown = page(call, rows, show, size=200)
        return document({**shown, "included": list(found.values())} if include else shown)

    def _create(self, call: Call) -> Answer:
        account, attributes = self._account, self._account.body_of(call)["attributes"]
        if len(attributes["properties"]) > _PROPERTIES:
            raise invalid(
                f"An event has at most {_PROPERTIES} properties.", pointer="/data/attributes/properties"
            )
        name = attributes["metric"]["data"]["attributes"]["name"]
        if not name.strip():
            raise invalid("The name must not be empty.", pointer="/data/attributes/metric")
        who = attributes["profile"]["data"]
        patch_of(who["attributes"])
        now = account.clock.now()
        at = datetime.fromisoformat(attributes["time"]) if attributes.get("time") else now
        account.errands.send(now + account.later(), partial(_happened, account, call.number, attributes, at))
        account.tick()
        return Answer(status=202)


def _happened(
    account: Account, request: int, attributes: Mapping[str, Any], at: datetime, now: datetime
) -> None:
    """Write an event of one's own. One whose profile cannot be is lost: nobody is left to be told."""
    who = attributes["profile"]["data"]
    try:
        profile, _ = account.profiles.upsert(
            {name: value for name, value in who["attributes"].items() if name != "meta"},
            patch_of(who["attributes"]),
            account.write(request),
            name=who.get("id"),
        )
    except ProfileError:
        return
    metric = account.events.metric(attributes["metric"]["data"]["attributes"]["name"], now, own=False)
    unique = attributes.get("unique_id")
    account.events.write(metric, profile.id, at, attributes["properties"], unique=unique)
    profile.last_event = now


def _rows(
    account: Account, wanted: list[Condition], cursor: Place | None, *, newest_first: bool
) -> Iterator[Row]:
    """Give the events that meet all conditions, read along those of the metric or profile if one is named."""
    events = account.events
    timeline = events.all
    for each in wanted:
        if each.field == "metric_id":
            metric = events.metrics.get(each.value)
            own = metric is not None and (metric.own or not account.worst)
            timeline = metric.events if metric is not None and own else Timeline()
        elif each.field == "profile_id" and timeline is events.all:
            timeline = events.of_profile.get(each.value, Timeline())
    since = max((start for each in wanted if (start := _since(each)) is not None), default=None)
    for place, name in timeline.walk(since=since, after=cursor, newest_first=newest_first):
        event = events.by_id[name]
        values = {
            "metric_id": event.metric.id,
            "profile_id": event.profile_id,
            "datetime": event.at,
            "timestamp": event.at.timestamp(),
        }
        if all(each.holds(values[each.field]) for each in wanted):
            yield place, event


def _since(condition: Condition) -> datetime | None:
    """Give the instant before which nothing meets a condition, which a timestamp sets as a number."""
    if condition.field != "timestamp" or not condition.operator.startswith("greater"):
        return condition.since
    try:
        return datetime.fromtimestamp(condition.value, UTC).replace(microsecond=0)
    except (ValueError, OverflowError, OSError):
        raise invalid("The timestamp is out of range.", parameter="filter") from None


def event_shown(call: Call, event: Event) -> dict[str, Any]:
    """Give one event."""
    attributes = {
        "timestamp": int(event.at.timestamp()),
        "event_properties": dict(event.properties),
        "datetime": stamp(event.at),
        "uuid": event.uuid,
    }
    held = {
        "profile": {"type": "profile", "id": event.profile_id},
        "metric": {"type": "metric", "id": event.metric.id},
    }
    return resource(
        call,
        "event",
        event.id,
        "events",
        attributes=chosen(call, "event", attributes),
        relationships=related(call, f"events/{event.id}", held),
    )


def _metric_shown(call: Call, metric: Metric) -> dict[str, Any]:
    integration = (
        {"name": "Klaviyo", "category": "Internal"} if metric.own else {"name": "API", "category": "API"}
    )
    attributes = {
        "name": metric.name,
        "created": stamp(metric.created),
        "updated": stamp(metric.created),
        "integration": {"object": "integration", "id": "SANDBX", **integration},
    }
    return resource(call, "metric", metric.id, "metrics", attributes=chosen(call, "metric", attributes))
