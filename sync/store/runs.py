"""Runs and plans: what was started, what came of it, and the manifests of what was meant.

The changes of a plan are in the outbox or in its own files, not here.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

import sqlalchemy as sa

from .audit import Audit, of_run
from .database import Database
from .schema import plan as plans
from .schema import run as runs

_IN_PASSING: Final = ("plan", "pull", "opt_out")  # kinds; `segue serve` makes many of the latter two


class PlanStatus(StrEnum):
    """How far a plan has come."""

    PLANNED = "planned"
    PART = "part"  # some of it was sent, or may have been; the rest waits for a word
    APPLYING = "applying"
    APPLIED = "applied"
    SUPERSEDED = "superseded"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPlan:
    """A plan's head. `manifest` holds JSON values."""

    plan_id: str
    destination: str
    created_at: datetime
    status: PlanStatus
    snapshot_id: str
    manifest: Mapping[str, Any]


class Plans:
    """Stores the heads of plans."""

    def __init__(self, database: Database, audit: Audit) -> None:
        self._database = database
        self._audit = audit

    def save(self, plan: StoredPlan) -> None:
        """Store a new plan. An older one of the same destination that was never begun becomes superseded."""
        row = {
            "plan_id": plan.plan_id,
            "destination": plan.destination,
            "created_at": plan.created_at,
            "status": plan.status.value,
            "snapshot_id": plan.snapshot_id,
            "manifest": _to_json(plan.manifest),
        }
        waiting = (plans.c.destination == plan.destination) & (plans.c.status == PlanStatus.PLANNED.value)
        with self._database.write() as connection:
            connection.execute(sa.update(plans).where(waiting).values(status=PlanStatus.SUPERSEDED.value))
            connection.execute(sa.insert(plans), row)
            said = ("operations", "withheld", "guardrails")
            detail = {
                "plan": plan.plan_id,
                "snapshot": plan.snapshot_id,
                **{name: plan.manifest[name] for name in said if plan.manifest.get(name)},
            }
            self._audit.append(connection, "planned", destination=plan.destination, detail=detail)

    def get(self, plan_id: str) -> StoredPlan | None:
        """Give a plan, None when there is none of that id."""
        return self._first(sa.select(plans).where(plans.c.plan_id == plan_id))

    def latest(self, destination: str, status: PlanStatus | None = None) -> StoredPlan | None:
        """Give a destination's newest plan, of a status if asked."""
        query = sa.select(plans).where(plans.c.destination == destination)
        if status is not None:
            query = query.where(plans.c.status == status.value)
        return self._first(query.order_by(plans.c.created_at.desc(), plans.c.plan_id.desc()))

    def applied(self, destination: str, since: datetime) -> list[StoredPlan]:
        """Give the plans made since then that were applied to a destination."""
        there = (plans.c.destination == destination) & (plans.c.created_at >= since)
        return self._all(sa.select(plans).where(there, plans.c.status == PlanStatus.APPLIED.value))

    def begun(self, destination: str) -> list[StoredPlan]:
        """Give the plans of a destination that were begun and neither ended nor superseded."""
        open_ones = plans.c.status.in_([PlanStatus.PART.value, PlanStatus.APPLYING.value])
        return self._all(sa.select(plans).where(plans.c.destination == destination, open_ones))

    def set_status(self, plan_id: str, status: PlanStatus) -> None:
        """Say how far a plan has come."""
        with self._database.write() as connection:
            connection.execute(sa.update(plans).where(plans.c.plan_id == plan_id).values(status=status.value))

    def manifests(self) -> list[tuple[str, dict[str, Any]]]:
        """Give the manifests of all plans, with their ids."""
        with self._database.read() as connection:
            rows = connection.execute(sa.select(plans.c.plan_id, plans.c.manifest)).all()
        return [(row.plan_id, json.loads(row.manifest)) for row in rows]

    def rewrite(self, plan_id: str, manifest: Mapping[str, Any]) -> None:
        """Store which files a plan has now."""
        with self._database.write() as connection:
            connection.execute(
                sa.update(plans).where(plans.c.plan_id == plan_id).values(manifest=_to_json(manifest))
            )

    def _first(self, query: sa.Select[Any]) -> StoredPlan | None:
        return next(iter(self._all(query.limit(1))), None)

    def _all(self, query: sa.Select[Any]) -> list[StoredPlan]:
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        return [
            StoredPlan(
                plan_id=row.plan_id,
                destination=row.destination,
                created_at=row.created_at,
                status=PlanStatus(row.status),
                snapshot_id=row.snapshot_id,
                manifest=json.loads(row.manifest),
            )
            for row in rows
        ]


class RunStatus(StrEnum):
    """What became of a run."""

    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    INTERRUPTED = "interrupted"  # its process ended without a word


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run. `report` holds JSON values; `finished_at` and `exit_code` are None until it ends."""

    run_id: str
    destination: str
    kind: str
    started_at: datetime
    finished_at: datetime | None
    status: RunStatus
    exit_code: int | None
    report: Mapping[str, Any]


class Runs:
    """Stores runs, newest first when read."""

    def __init__(self, database: Database, audit: Audit, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._audit = audit
        self._clock = clock

    def start(self, run_id: str, destination: str, kind: str) -> Run:
        """Store that a run begins. Call it under the destination's lease: a run still open there is a dead one."""
        run = Run(
            run_id=run_id,
            destination=destination,
            kind=kind,
            started_at=self._clock(),
            finished_at=None,
            status=RunStatus.RUNNING,
            exit_code=None,
            report={},
        )
        open_there = (runs.c.destination == destination) & (runs.c.status == RunStatus.RUNNING.value)
        with self._database.write() as connection:
            connection.execute(
                sa.update(runs)
                .where(open_there)
                .values(status=RunStatus.INTERRUPTED.value, finished_at=run.started_at)
            )
            connection.execute(
                sa.insert(runs),
                {
                    "run_id": run_id,
                    "destination": destination,
                    "kind": kind,
                    "started_at": run.started_at,
                    "status": run.status.value,
                    "report": "{}",
                },
            )
            detail = {"kind": kind}
            self._audit.append(
                connection, "run started", who=of_run(run_id), destination=destination, detail=detail
            )
        return run

    def note(self, run_id: str, report: Mapping[str, Any]) -> None:
        """Store what a run that is at work is about, so that it is known also when the run is killed."""
        with self._database.write() as connection:
            connection.execute(sa.update(runs).where(runs.c.run_id == run_id).values(report=_to_json(report)))

    def finish(self, run_id: str, *, exit_code: int, report: Mapping[str, Any]) -> None:
        """Store how a run ended: exit codes 0 and 1 are a finished one."""
        status = RunStatus.FINISHED if exit_code in (0, 1) else RunStatus.FAILED
        this = runs.c.run_id == run_id
        with self._database.write() as connection:
            ends = connection.execute(sa.select(runs.c.destination).where(this, runs.c.finished_at.is_(None)))
            if found := ends.one_or_none():
                said = {"exit_code": exit_code, "snapshot": report.get("snapshot_id")}
                self._audit.append(
                    connection, "run ended", who=of_run(run_id), destination=found.destination, detail=said
                )
            connection.execute(
                sa.update(runs)
                .where(this)
                .values(
                    finished_at=self._clock(),
                    status=status.value,
                    exit_code=exit_code,
                    report=_to_json(report),
                )
            )

    def newest(self, limit: int, destination: str | None = None) -> list[Run]:
        """Give the newest runs, of one destination if asked."""
        query = sa.select(runs).limit(limit)
        if destination is not None:
            query = query.where(runs.c.destination == destination)
        return self._found(query)

    def get(self, run_id: str) -> Run | None:
        """Give a run, None when there is none of that id."""
        return next(iter(self._found(sa.select(runs).where(runs.c.run_id == run_id))), None)

    def last_whole(self, destination: str | None = None) -> Run | None:
        """Give the newest run that is more than a look or the opt-outs of a moment, None when there is none."""
        query = sa.select(runs).where(runs.c.kind.not_in(_IN_PASSING)).limit(1)
        if destination is not None:
            query = query.where(runs.c.destination == destination)
        return next(iter(self._found(query)), None)

    def _found(self, query: sa.Select[Any]) -> list[Run]:
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(runs.c.started_at.desc(), runs.c.run_id.desc())).all()
        return [
            Run(
                run_id=row.run_id,
                destination=row.destination,
                kind=row.kind,
                started_at=row.started_at,
                finished_at=row.finished_at,
                status=RunStatus(row.status),
                exit_code=row.exit_code,
                report=json.loads(row.report),
            )
            for row in rows
        ]

    def last(self, destination: str) -> Run | None:
        """Give a destination's newest run, None before the first."""
        return next(iter(self.newest(1, destination)), None)


def _to_json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)
