"""The emulated Klaviyo's metrics and events: what happened to whom, in the orders in which they are read.

No HTTP here. Klaviyo's own metrics exist from the start in the permissive mode; at the worst each begins with its first
event, as a new account has none.
"""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from .timeline import Timeline

OWN_METRICS = (
    "Received Email",
    "Opened Email",
    "Clicked Email",
    "Bounced Email",
    "Dropped Email",
    "Marked Email as Spam",
    "Subscribed to Email Marketing",
    "Unsubscribed from Email Marketing",
    "Manually Suppressed from Email Marketing",
)


@dataclass(slots=True)
class Metric:
    """One kind of event; `own` are Klaviyo's, the others are made by whoever writes events."""

    id: str
    name: str
    own: bool
    created: datetime
    events: Timeline = field(default_factory=Timeline)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event. `at` is to the second."""

    id: str
    metric: Metric
    profile_id: str
    at: datetime
    properties: Mapping[str, Any]

    @property
    def uuid(self) -> str:
        """Its other name."""
        return str(uuid.uuid5(uuid.NAMESPACE_URL, self.id))


class Events:
    """All events; `listener` hears of each new one of Klaviyo's own."""

    def __init__(self) -> None:
        self.metrics: dict[str, Metric] = {}
        self._by_name: dict[tuple[str, bool], Metric] = {}
        self.by_id: dict[str, Event] = {}
        self.all = Timeline()
        self.of_profile: dict[str, Timeline] = {}
        self.listener: Callable[[Event], None] = lambda _: None
        self._seen: set[tuple[str, str, str]] = set()
        self._made = 0

    def metric(self, name: str, now: datetime, *, own: bool) -> Metric:
        """Find a metric by name, or make it."""
        if (found := self._by_name.get((name, own))) is None:
            metric_id = "M" + uuid.uuid5(uuid.NAMESPACE_URL, f"{own} {name}").hex[:5].upper()
            found = self._by_name[name, own] = self.metrics[metric_id] = Metric(metric_id, name, own, now)
        return found

    def write(
        self,
        metric: Metric,
        profile_id: str,
        at: datetime,
        properties: Mapping[str, Any],
        *,
        unique: str | None = None,
    ) -> Event | None:
        """Keep an event, or None when the same was there: by `unique`, else by its second."""
        at = at.astimezone(UTC).replace(microsecond=0)
        key = (metric.id, profile_id, unique or str(int(at.timestamp())))
        if unique is not None or not metric.own:
            if key in self._seen:
                return None
            self._seen.add(key)
        self._made += 1
        name = f"4{self._made:010d}"
        event = Event(
            id=name,
            metric=metric,
            profile_id=profile_id,
            at=at,
            properties=properties,
        )
        self.by_id[name] = event
        for timeline in (self.all, metric.events, self.of_profile.setdefault(profile_id, Timeline())):
            timeline.put(name, at)
        if metric.own:
            self.listener(event)
        return event

    def move(self, source: str, target: str) -> None:
        """Give one profile's events to another, as a merge does."""
        moved = self.of_profile.pop(source, Timeline())
        theirs = self.of_profile.setdefault(target, Timeline())
        for _, name in moved.walk():
            old = self.by_id[name]
            self.by_id[name] = replace(old, profile_id=target)
            theirs.put(name, old.at)

    def erase(self, profile_id: str) -> None:
        """Forget a profile's events."""
        for _, name in self.of_profile.pop(profile_id, Timeline()).walk():
            event = self.by_id.pop(name)
            self.all.drop(name)
            event.metric.events.drop(name)
