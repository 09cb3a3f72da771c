"""What one run did to one destination: counted while it goes, then stored, printed and turned into an exit code.

Nothing here decides what is sent, and nothing names a person.
"""

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from time import monotonic
from typing import Any, Final

from ..connectors.meter import Traffic
from ..core.errors import SegueError
from ..core.model import OutcomeStatus
from .delivery.apply import Tally
from .planning.plan import Plan
from .telemetry.tracing import span
from .verify import Verification

CLEAN: Final = 0
SOME_REJECTED: Final = 1
STALE: Final = 4


@dataclass(slots=True, kw_only=True)
class Report:
    """What one run did to one destination, as it is stored, printed and turned into an exit code.

    `waiting` is how many changes are not sent or not confirmed yet; the next run sees to them. `traffic` counts the
    requests that were really sent, retries included; `seconds` is wall-clock time. `warnings` are about the run's
    surroundings, such as an alert that could not be delivered.
    """

    run_id: str
    destination: str
    snapshot_id: str = ""
    plan: Plan | None = None
    tally: Tally = field(default_factory=Tally)
    pulled: int = 0
    left: int = 0
    gone: int = 0  # of contacts known there that are not there any more
    moved: int = 0  # to another address, by somebody else's hand
    values: int = 0  # of fields that others changed
    engagement: int = 0  # opens and clicks
    unfinished: bool = False  # it was stopped to make room, and the next one goes on there
    waiting: int = 0
    traffic: Traffic = field(default_factory=Traffic)
    phases: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    error: SegueError | None = None
    warnings: list[str] = field(default_factory=list)
    paused: bool = False  # so nothing but opt-outs was sent, and the rest waits on purpose
    notes: list[str] = field(default_factory=list)  # what a person should know and need not mend
    verified: Verification | None = None
    audit: str = ""  # the head of the audit when the run ended: `segue audit verify --head` proves it

    @property
    def reads(self) -> int:
        """Requests that changed nothing."""
        return self.traffic.reads

    @property
    def writes(self) -> int:
        """Requests that may have changed something."""
        return self.traffic.writes

    @property
    def exit_code(self) -> int:
        """0 clean, 1 some rejected or put off, 3 the account, 4 stale rows or drift; an error's own code wins."""
        if self.error is not None:
            return self.error.exit_code
        if self.tally.stale or (self.verified and self.verified.drifted):
            return STALE
        waiting = self.waiting and not self.paused
        return SOME_REJECTED if waiting or self.tally.count(OutcomeStatus.REJECTED) else CLEAN

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the seconds of a part of the run; those of a part within it are not counted twice."""
        started, counted = monotonic(), sum(self.phases.values())
        try:
            with span(name):
                yield
        finally:
            within = sum(self.phases.values()) - counted
            self.phases[name] = self.phases.get(name, 0.0) + monotonic() - started - within

    def as_json(self) -> dict[str, Any]:
        """Give the report as plain JSON, without any address."""
        plan = self.plan
        return {
            "run_id": self.run_id,
            "destination": self.destination,
            "exit_code": self.exit_code,
            "snapshot_id": self.snapshot_id,
            "plan_id": plan.plan_id if plan else None,
            "planned": dict(plan.operations) if plan else {},
            "withheld": dict(plan.withheld) if plan else {},
            "unchanged": plan.unchanged if plan else None,
            "new_contacts": plan.new_contacts if plan else None,
            "new_fields": [spec.tag for spec in plan.schema.fields] if plan else [],
            "fields_changed": dict(plan.fields_changed) if plan else {},
            "tags_added": dict(plan.tags_added) if plan else {},
            "tags_removed": dict(plan.tags_removed) if plan else {},
            "guardrails": list(plan.guardrails) if plan else [],
            "pulled": self.pulled,
            "left": self.left,
            "gone": self.gone,
            "moved": self.moved,
            "values": self.values,
            "engagement": self.engagement,
            "waiting": self.waiting,
            "requests": self._requests(),
            "phases": {name: round(seconds, 3) for name, seconds in self.phases.items()},
            "seconds": round(self.seconds, 2),
            "error": self.error.message if self.error else None,
            "error_kind": type(self.error).__name__ if self.error else None,
            "warnings": list(self.warnings),
            "paused": self.paused,
            "notes": list(self.notes),
            "verified": self.verified.as_json() if self.verified else None,
            "audit": self.audit,
            "versions": {"segue": version("segue"), "python": platform.python_version()},
            **self.tally.report(),
        }

    def _requests(self) -> dict[str, Any]:
        traffic = self.traffic
        return {
            "read": traffic.reads,
            "write": traffic.writes,
            "retried": traffic.retries,
            "throttled": traffic.throttled,
            "failed": traffic.failed,
            "by_status": dict(traffic.by_status),
            "limits": [asdict(limit) for limit in traffic.rate_limits],
            "timeline": {
                "seconds": traffic.timeline.seconds,
                "requests": [point.requests for point in traffic.timeline.points],
                "refused": [point.refused for point in traffic.timeline.points],
                "failed": [point.failed for point in traffic.timeline.points],
            },
        }
