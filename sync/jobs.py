"""What a scheduled run does with one destination: pull, plan, apply, report, exit code.

Every command that touches an account goes through `Job`; nothing else takes a lease, opens a connector or decides
an exit code. A crash at any point is repaired by running again: pulled pages, plans, outbox and outcomes are each
stored before the next step begins.

A run does not send what a killed one left in the outbox: it plans anew from what was confirmed, which comes to the
same, and the old rows go when the new plan begins. The loser was to send them first: they are of a mapping, a snapshot
and an audience as they were then, and one that cannot be sent any more would have stopped every later run.
"""

import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Any, Final, Self

from ..connectors.base import Connector
from ..connectors.registry import connector_class
from ..core.config import Project, resolve_secret
from ..core.errors import ConfigError, GuardrailError, Problem, SegueError, UnsupportedFeatureError
from ..core.model import Account, DestinationSchema, OutcomeStatus
from ..core.snapshot import Snapshot
from ..mappings.mapping import Mapping as FieldMapping
from ..mappings.mapping import load_mapping
from .apply import LEASE, Tally, deliver, enqueue
from .inbound import People, observe, record_consents
from .plan import Known, Plan, build_plan
from .store.leases import Lease
from .store.runs import PlanStatus, StoredPlan
from .store.store import Store

Progress = Callable[[str, float], None]
Clock = Callable[[], datetime]

_PULLED: Final = "pulled_until"
_CONSENTS: Final = "consents_of"
_AUDIENCE: Final = "audience"
_PLANS_KEPT: Final = 5

CLEAN, SOME_REJECTED, STALE = 0, 1, 4


def utc_now() -> datetime:
    """Give this moment; the one clock of all jobs."""
    return datetime.now(UTC)


@dataclass(slots=True, kw_only=True)
class Report:
    """What one run did to one destination, as it is stored, printed and turned into an exit code.

    `waiting` is how many changes are not sent or not confirmed yet; the next run sees to them. `reads` and `writes`
    are the requests that were really sent, retries included; `seconds` is wall-clock time.
    """

    run_id: str
    destination: str
    plan: Plan | None = None
    tally: Tally = field(default_factory=Tally)
    pulled: int = 0
    left: int = 0
    waiting: int = 0
    reads: int = 0
    writes: int = 0
    seconds: float = 0.0
    error: SegueError | None = None

    @property
    def exit_code(self) -> int:
        """0 clean, 1 some rejected or put off, 3 the account, 4 stale rows; an error's own code wins."""
        if self.error is not None:
            return self.error.exit_code
        if self.tally.stale:
            return STALE
        return SOME_REJECTED if self.waiting or self.tally.count(OutcomeStatus.REJECTED) else CLEAN

    def as_json(self) -> dict[str, Any]:
        """Give the report as plain JSON, without any address."""
        return {
            "run_id": self.run_id,
            "destination": self.destination,
            "exit_code": self.exit_code,
            "plan_id": self.plan.plan_id if self.plan else None,
            "planned": dict(self.plan.operations) if self.plan else {},
            "withheld": dict(self.plan.withheld) if self.plan else {},
            "unchanged": self.plan.unchanged if self.plan else None,
            "pulled": self.pulled,
            "left": self.left,
            "waiting": self.waiting,
            "requests": {"read": self.reads, "write": self.writes},
            "seconds": round(self.seconds, 2),
            "error": self.error.message if self.error else None,
            **self.tally.report(),
        }


class Job:
    """One destination of a project, opened: its connector, its mapping and what the store knows of it."""

    def __init__(
        self,
        project: Project,
        destination: str,
        store: Store,
        snapshot: Snapshot,
        *,
        clock: Clock = utc_now,
    ) -> None:
        if destination not in project.destinations:
            raise ConfigError(
                f'There is no destination "{destination}". segue.yml has: {", ".join(project.destinations) or "none"}.'
            )
        self.project = project
        self.destination = destination
        self.config = project.destinations[destination]
        self.store = store
        self.snapshot = snapshot
        self.clock = clock
        self.connector = open_connector(project, destination)
        self.mapping = open_mapping(project, destination, snapshot, self.connector)
        self.people = People(snapshot, store)
        self.folder = project.state_folder / "plans" / destination

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.connector.transport.close()

    def pull(self, report: Report, progress: Progress) -> None:
        """Read what changed at the ESP since the last pull, a page at a time, and remember it."""
        cursor = self.store.destinations.cursor(self.destination, _PULLED)
        newest = since = datetime.fromisoformat(cursor) if cursor else None
        for page in self.connector.pull(since):
            report.left += observe(
                self.store,
                self.destination,
                page,
                people=self.people,
                now=self.clock(),
                run_id=report.run_id,
            )
            report.pulled += len(page)
            changes = [contact.changed_at for contact in page if contact.changed_at is not None]
            newest = max(changes + ([newest] if newest else []), default=newest)
            progress("reading contacts", 0.0)
        if newest is not None:
            self.store.destinations.set_cursor(self.destination, _PULLED, newest.isoformat())

    def look(self, report: Report, progress: Progress) -> Account:
        """Learn who left, here and at the ESP: what goes before every write."""
        account = self.connector.check()
        self._refuse_another_audience(account)
        self._record_consents(report)
        self.pull(report, progress)
        return account

    def plan(self, report: Report, progress: Progress) -> Plan:
        """Look, then compare the current snapshot with what the destination confirmed, and store the plan."""
        account = self.look(report, progress)
        schema = self.mapping.schema()
        self._refuse_foreign_fields(schema, account)
        progress("comparing", 0.5)
        desired = self.folder / "desired.parquet"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)  # its files hold addresses
        try:
            project_to(self.mapping, self.snapshot, desired)
            plan = build_plan(
                destination=self.destination,
                snapshot_id=self.snapshot.id,
                desired=desired,
                schema=schema,
                known=self._known(),
                account=account,
                capabilities=self.connector.capabilities,
                guardrails=self.config.guardrails,
                keys=self.store.keys,
                folder=self.folder,
                now=self.clock(),
                concerns=(*outdated(self.project, self.snapshot, self.clock()), *self._emptied(account)),
            )
        finally:
            desired.unlink(missing_ok=True)
            shutil.rmtree(self.folder / "spill", ignore_errors=True)
        self._supersede()
        self.store.plans.save(
            StoredPlan(
                plan_id=plan.plan_id,
                destination=self.destination,
                created_at=plan.created_at,
                status=PlanStatus.PLANNED,
                snapshot_id=self.snapshot.id,
                manifest=plan.manifest(),
            )
        )
        self._prune(plan)
        report.plan = plan
        return plan

    def stored_plan(self, plan_id: str | None) -> Plan:
        """Give a stored plan, the newest unless named. Raises ConfigError when it is not there or not to be applied."""
        stored = self.store.plans.get(plan_id) if plan_id else self.store.plans.latest(self.destination)
        if stored is None or stored.destination != self.destination:
            raise ConfigError(
                f'Destination "{self.destination}" has no plan{f" {plan_id}" if plan_id else ""}. Make one with `segue plan`.'
            )
        if stored.status in {PlanStatus.APPLIED, PlanStatus.SUPERSEDED}:
            raise ConfigError(f"Plan {stored.plan_id} is {stored.status}. Make a new one with `segue plan`.")
        return Plan.from_manifest(stored.manifest)

    def apply(self, plan: Plan, lease: Lease, report: Report, progress: Progress, *, override: bool) -> None:
        """Execute a plan. Raises GuardrailError, with nothing sent, when a limit is passed and not overridden."""
        report.plan = plan
        if plan.guardrails and not override:
            raise GuardrailError(
                f"Plan {plan.plan_id} passes a limit and was not applied: {'; '.join(plan.guardrails)}."
                " Look at it with `segue plan`; if it is right, apply it with --override-guardrails."
            )
        if plan.schema.fields:
            progress("creating fields", 0.0)
            self.connector.ensure(plan.schema)
            self.store.destinations.own(
                self.destination, "field", {spec.tag: None for spec in plan.schema.fields}
            )
        self.store.destinations.own(self.destination, "tag", dict.fromkeys(plan.schema.tags))
        stored = self.store.plans.get(plan.plan_id)
        if stored is not None and stored.status is PlanStatus.PLANNED:
            self._drop_begun(lease)
            report.tally.stale += enqueue(plan, self.store)
        deliver(
            self.connector,
            self.store,
            lease,
            people=self.people,
            double_opt_in=plan.double_opt_in,
            run_id=report.run_id,
            clock=self.clock,
            progress=progress,
            tally=report.tally,
        )
        report.waiting = sum(self.store.outbox.pending_counts(self.destination).values())
        if not report.waiting:
            self.store.outbox.discard(plan.plan_id)
            self.store.plans.set_status(plan.plan_id, PlanStatus.APPLIED)

    def _drop_begun(self, lease: Lease) -> None:
        """Drop what older plans left in the outbox: what of it is still right is in the plan that begins now."""
        self.store.outbox.release_claims(lease)
        while begun := self.store.plans.latest(self.destination, PlanStatus.APPLYING):
            self.store.outbox.discard(begun.plan_id)
            self.store.plans.set_status(begun.plan_id, PlanStatus.SUPERSEDED)

    def _known(self) -> Known:
        return Known(
            baseline=self.store.baselines.stream(self.destination),
            remote=self.store.destinations.stream_remote(self.destination),
            consents=self.store.consents.stream_records(),
            rejections=self.store.settlements.stream_rejections(self.destination),
            payloads=lambda keys: self.store.baselines.stream_payloads(self.destination, keys),
        )

    def _record_consents(self, report: Report) -> None:
        """Take over the snapshot's consents, once per content; whose they are also depends on who has which address."""
        digest = f"{self.snapshot.digest_of('consents')} {self.snapshot.digest_of('profiles')}"
        if self.store.destinations.cursor("", _CONSENTS) != digest:
            record_consents(self.store, self.snapshot, now=self.clock(), run_id=report.run_id)
            self.store.destinations.set_cursor("", _CONSENTS, digest)

    def _refuse_another_audience(self, account: Account) -> None:
        """Refuse an audience that is not the one that everything in the store was confirmed by."""
        known = self.store.destinations.cursor(self.destination, _AUDIENCE)
        if known is None:
            self.store.destinations.set_cursor(self.destination, _AUDIENCE, account.audience_id)
        elif known != account.audience_id:
            raise ConfigError(
                f'Destination "{self.destination}" was synced with audience {known} so far, and'
                f" {self.project.place('destinations', self.destination, 'settings')} names {account.audience_id}:"
                " what is known of the one is not true of the other. Give the new audience a destination of its own."
            )

    def _emptied(self, account: Account) -> Iterator[str]:
        """Doubt an audience that lost most of what it confirmed: contacts known to be there get no create."""
        confirmed = self.store.baselines.count(self.destination)
        if account.contacts < confirmed / 2:
            yield (
                f"{account.audience} has {account.contacts:,} contacts and confirmed {confirmed:,} earlier: was it emptied, or"
                " is it another account? To load it anew, give it a destination name of its own"
            )

    def _refuse_foreign_fields(self, schema: DestinationSchema, account: Account) -> None:
        """Refuse a field that somebody else made, unless the mapping claims it, and one of another type."""
        owned = self.store.destinations.owned(self.destination, "field")
        there = [spec for spec in schema.fields if spec.tag in account.fields]
        foreign = [spec for spec in there if spec.tag not in owned and not spec.claim]
        problems = [
            Problem(
                where=f"field {spec.tag}",
                message=f"it is {account.fields[spec.tag] or 'of another type'} there and {spec.type} in the mapping.",
                next_step="Pin another tag in the mapping.",
            )
            for spec in there
            if spec not in foreign and account.fields[spec.tag] is not spec.type
        ]
        if foreign:
            problems.append(
                Problem(
                    where=f"fields {', '.join(spec.tag for spec in foreign)}",
                    message=f"{account.audience} has them already, and they were not made from this store.",
                    next_step="Pin other tags in the mapping, or take them over with `claim: true`.",
                )
            )
        if problems:
            raise UnsupportedFeatureError.of(problems)

    def _supersede(self) -> None:
        """Drop what an older plan put into the outbox but never began to send."""
        older = self.store.plans.latest(self.destination, PlanStatus.PLANNED)
        if older is not None:
            self.store.outbox.discard(older.plan_id)

    def _prune(self, plan: Plan) -> None:
        """Keep the newest few plans' files: they hold addresses."""
        for table in ("steps", "withheld"):
            files = sorted(self.folder.glob(f"{table}-*.parquet"), key=lambda path: path.stat().st_mtime)
            for path in files[:-_PLANS_KEPT]:
                if path not in {plan.steps, plan.withheld_contacts}:
                    path.unlink(missing_ok=True)


@contextmanager
def recorded(job: Job, kind: str) -> Iterator[tuple[Lease, Report]]:
    """Hold the destination's lease and store the run and how it ended.

    One that something else than our own errors ends stays open, and the next one calls it interrupted.
    """
    started = monotonic()
    lease = job.store.leases.acquire(job.destination, LEASE)
    report = Report(run_id=f"{job.clock():%Y%m%dT%H%M%S}-{secrets.token_hex(3)}", destination=job.destination)
    try:
        job.store.runs.start(report.run_id, job.destination, kind)
        try:
            yield lease, report
        except SegueError as error:
            report.error = error
            _finish(job, report, started)
            raise
        _finish(job, report, started)
    finally:
        job.store.leases.release(lease)


def _finish(job: Job, report: Report, started: float) -> None:
    traffic = job.connector.transport.traffic()
    report.reads, report.writes = traffic.reads, traffic.writes
    report.seconds = monotonic() - started
    job.store.runs.finish(report.run_id, exit_code=report.exit_code, report=report.as_json())


def pull(job: Job, progress: Progress) -> Report:
    """Learn who left, and change nothing. Raises what stops it, after the report is stored."""
    with recorded(job, "pull") as (_, report):
        job.look(report, progress)
    return report


def run(job: Job, progress: Progress, *, override: bool) -> Report:
    """Do all that a scheduled run does. Raises what stops it, after the report is stored."""
    with recorded(job, "run") as (lease, report):
        plan = job.plan(report, progress)
        job.apply(plan, lease, report, progress, override=override)
    return report


def apply(job: Job, plan_id: str | None, progress: Progress, *, override: bool) -> Report:
    """Look who left since, then execute a stored plan, the newest unless named.

    Raises what stops it, after the report is stored.
    """
    with recorded(job, "apply") as (lease, report):
        plan = job.stored_plan(plan_id)
        if job.look(report, progress).double_opt_in is not plan.double_opt_in:
            raise GuardrailError(
                f"Plan {plan.plan_id} was not applied: double opt-in was switched on or off at the audience since."
                " Make a new one with `segue plan`."
            )
        job.apply(plan, lease, report, progress, override=override)
    return report


def open_connector(project: Project, destination: str) -> Connector:
    """Build a destination's connector, secrets resolved. Raises ConfigError; sends nothing."""
    config = project.destinations[destination]
    settings = {name: resolve_secret(str(value), project.folder) for name, value in config.settings.items()}
    return connector_class(config.connector).from_settings(settings)


def open_mapping(
    project: Project, destination: str, snapshot: Snapshot, connector: Connector
) -> FieldMapping:
    """Load a destination's mapping against the traits that the snapshot has."""
    config = project.destinations[destination]
    mapping = load_mapping(
        project.folder / config.mapping,
        traits=snapshot.traits,
        segments=list(project.segments),
        groups=list(project.groups),
        recommendations={name: config.slots for name, config in project.recommendations.items()},
        capabilities=connector.capabilities,
        timezone=project.timezone,
    )
    if mapping.connector != config.connector:
        raise ConfigError(
            f"{config.mapping} is for {mapping.connector}, and {project.place('destinations', destination, 'mapping')}"
            f" gives it to {config.connector}. Write a mapping for {config.connector}."
        )
    return mapping


def outdated(project: Project, snapshot: Snapshot, now: datetime) -> Iterator[str]:
    """Say which sources are older than their `max_age`, by their newest row; a fixed `as_of` stands for now."""
    newest = {
        (found["table_name"], found["source"]): found["newest"]
        for found in snapshot.manifest["report"]["sources"]
    }
    for table, sources in project.sources.items():
        for source in sources:
            if source.max_age is None:
                continue
            latest = newest.get((table, source.label))
            age = (project.as_of or now) - datetime.fromisoformat(latest) if latest else None
            if age is None or age > source.max_age:
                said = (
                    "has no time in any row"
                    if age is None
                    else f"is {age.days} days and {age.seconds // 3600} h old"
                )
                yield f"{source.label}: its newest row {said}, more than max_age {source.max_age}"


def project_to(mapping: FieldMapping, snapshot: Snapshot, path: Path) -> None:
    """Write the desired state of every contact as Parquet (contact_id, address, fields, tags)."""
    con = snapshot.connect()
    con.to_parquet(mapping.project(**projected_tables(con)), path)
    con.disconnect()


def projected_tables(con: Any) -> Mapping[str, Any]:
    """Give the four tables of an opened snapshot that a mapping reads."""
    return {name: con.table(name) for name in ("profiles", "segments", "groups", "recommendations")}
