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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Final, Self

import structlog

from ..core.config import Guardrails, Project
from ..core.errors import ConfigError, SegueError
from ..core.model import Account
from ..core.snapshot import Snapshot
from ..mappings.mapping import Mapping
from .delivery.apply import Progress
from .delivery.doubt import settle_doubts
from .delivery.execution import Execution
from .delivery.guardrails import emptied, passed
from .inbound.observing import People, consents_of, record_consents
from .inbound.recorded_stops import opt_out_recorded
from .inbound.theirs import Theirs
from .opening import checked, open_connector, open_mapping, outdated, project_to, refuse_foreign_fields
from .planning.canary import Canary
from .planning.diff import Known
from .planning.plan import Plan, build_plan
from .planning.plan_files import drop_files
from .planning.rollback import Undoing, undo
from .pulling import Pulling
from .report import Report
from .store.leases import Lease
from .store.pauses import Pause
from .store.runs import PlanStatus, StoredPlan
from .store.store import Store
from .telemetry.tracing import request_ended
from .telemetry.watch import concluded, watched
from .unforeseen import as_ours, is_interrupt
from .verify import Inspector, Ours, forget_deleted

Clock = Callable[[], datetime]

_LOG = structlog.get_logger(__name__)

_CONSENTS: Final = "consents_of"
_AUDIENCE: Final = "audience"
_PLANS_KEPT: Final = 5
_SENDING: Final = frozenset({"run", "apply", "rollback"})  # kinds of runs
_NO_LIMITS: Final = Guardrails(max_change_share=1, max_untag_share=1)


def utc_now() -> datetime:
    """Give this moment; the one clock of all jobs."""
    return datetime.now(UTC)


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
        self.connector.transport.share(
            store.turns
        )  # other destinations and tools of ours use the same account
        self.people = People(snapshot, store)
        self.folder = project.state_folder / "plans" / destination

    @cached_property
    def mapping(self) -> Mapping:
        """What of a contact goes there and comes from there. Raises ConfigError where that is not in order."""
        return open_mapping(self.project, self.destination, self.snapshot, self.connector)

    def __enter__(self) -> Self:
        _ = self.mapping  # said before anything is begun; opt-outs, which need none, are sent without
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.connector.transport.close()

    def look(
        self,
        lease: Lease,
        report: Report,
        progress: Progress,
        *,
        full: bool = False,
        override: bool = False,
        seconds: float | None = None,
    ) -> Account:
        """Learn who left, here and at the ESP: what goes before every write. `full` also asks who is there no more."""
        account = self._checked()
        self._record_consents(report)
        with report.phase("pull"):
            pulling = Pulling(job=self, lease=lease, report=report, progress=progress)
            pulling.pull(full=full, override=override, seconds=seconds)
        _LOG.info("pulled", contacts=report.pulled, left=report.left)
        return account

    def prove(self, lease: Lease, report: Report) -> None:
        """Prove the account with reads alone, and settle what an earlier run left open."""
        self._checked()
        self._settle_doubts(lease, report)

    def _checked(self) -> Account:
        """Prove the account."""
        owned = self.store.destinations.owned(self.destination, "field")
        account = checked(self.connector, self.mapping.schema(), owned)
        self._refuse_another_audience(account)
        return account

    def plan(self, lease: Lease, report: Report, progress: Progress) -> Plan:
        """Look, then compare the current snapshot with what the destination confirmed, and store the plan."""
        account = self.look(lease, report, progress)
        self._settle_doubts(lease, report)
        owned = self.store.destinations.owned(self.destination, "field")
        refuse_foreign_fields(self.mapping.schema(), account, owned)
        self._forget_deleted(lease, account, report)
        progress("comparing", 0.5)
        limits = self.config.guardrails
        with self._working_file() as desired:
            theirs = Theirs(store=self.store, destination=self.destination)
            project_to(self.mapping, self.snapshot, theirs, desired)
            known = self.store.baselines.count(self.destination)
            concerns = (*outdated(self.project, self.snapshot, self.clock()), *emptied(account, known))
            plan = self._compare(desired, self._known(), account, limits, concerns)
        last = self.store.plans.latest(self.destination, PlanStatus.APPLIED)
        more = passed(
            plan,
            limits,
            confirmed=known,
            gone_before=last.manifest.get("gone", 0) if last else 0,
        )
        plan = replace(plan, guardrails=(*plan.guardrails, *more))
        self.save(plan)
        report.plan = plan
        _LOG.info(
            "planned",
            plan_id=plan.plan_id,
            changes=dict(plan.operations),
            withheld=dict(plan.withheld),
            unchanged=plan.unchanged,
            writes=plan.writes,
        )
        for line in plan.guardrails:
            _LOG.warning("guardrail", plan_id=plan.plan_id, limit=line)
        return plan

    def plan_rollback(
        self, run_id: str, lease: Lease, report: Report, progress: Progress
    ) -> tuple[Plan, Undoing]:
        """Look, then plan what takes a run back. Nothing of it is stored: `rollback` does, when somebody said so."""
        source = self._plan_of(run_id)
        account = self.look(lease, report, progress)
        self._settle_doubts(lease, report)
        progress("comparing", 0.5)
        with self._working_file() as desired:
            undoing = undo(source, self.store, desired)
            known = replace(self._known(), baseline=undoing.baseline.to_batches())
            plan = self._compare(desired, known, account, _NO_LIMITS)
        # What had vanished from the data before the run has vanished now: the next plan's limit counts from there.
        report.plan = plan = replace(plan, gone=max(0, source.gone - undoing.gone))
        return plan, undoing

    def _plan_of(self, run_id: str) -> Plan:
        """Give the plan that a run sent. Raises ConfigError when there is none, or not any more."""
        run = self.store.runs.get(run_id)
        if run is None or run.destination != self.destination or run.kind not in _SENDING:
            raise ConfigError(
                f"There is no run {run_id} that sent anything to {self.destination}. `segue runs` lists them."
            )
        stored = self.store.plans.get(run.report.get("plan_id") or "")
        if stored is None:
            raise ConfigError(f"Run {run_id} ended before it sent anything: there is nothing to take back.")
        if not Path(stored.manifest["steps"]).exists():
            raise ConfigError(
                f"Run {run_id} cannot be taken back: the files of its plan {stored.plan_id} are gone. They are kept"
                f" for {self.project.retention.plans.days} days (`retention: plans`), those of the newest plans longer."
            )
        return Plan.from_manifest(stored.manifest)

    @contextmanager
    def _working_file(self) -> Iterator[Path]:
        """Give the path of what is desired, for as long as it is compared; it holds addresses."""
        desired = self.folder / "desired.parquet"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        try:
            yield desired
        finally:
            desired.unlink(missing_ok=True)
            shutil.rmtree(self.folder / "spill", ignore_errors=True)

    def _compare(
        self,
        desired: Path,
        known: Known,
        account: Account,
        limits: Guardrails,
        concerns: Sequence[str] = (),
    ) -> Plan:
        return build_plan(
            destination=self.destination,
            snapshot_id=self.snapshot.id,
            desired=desired,
            schema=self.mapping.schema(),
            known=known,
            account=account,
            capabilities=self.connector.capabilities,
            guardrails=limits,
            keys=self.store.keys,
            folder=self.folder,
            now=self.clock(),
            concerns=concerns,
            sealing=self.store.sealing,
        )

    def _forget_deleted(self, lease: Lease, account: Account, report: Report) -> None:
        """Take note of fields and tags of ours that somebody deleted: the plan makes them and sends their values again."""
        owned = self.store.destinations.owned
        fields = frozenset(owned(self.destination, "field").keys() - account.fields.keys())
        tags = account.lacks(owned(self.destination, "tag"))
        if fields or tags:
            forget_deleted(self.store, lease, fields=fields, tags=tags)
            report.notes.append(
                f"{', '.join(sorted(fields | tags))}: deleted at {account.audience} and no longer confirmed there;"
                " what the mapping wants of it is made and sent again."
            )

    def save(self, plan: Plan) -> None:
        """Store a plan in the place of an older one that was never begun."""
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

    def apply(
        self,
        plan: Plan,
        lease: Lease,
        report: Report,
        progress: Progress,
        *,
        override: bool,
        canary: Canary | None = None,
        despite: Pause | None = None,
    ) -> None:
        """Execute a plan, or its canary alone. Raises GuardrailError when a limit is passed and not overridden."""
        report.plan = plan
        self.store.runs.note(report.run_id, report.as_json())  # so that a killed run can be taken back
        execution = Execution(
            connector=self.connector,
            store=self.store,
            lease=lease,
            people=self.people,
            limits=self.config.guardrails,
            regimes=self.project.consent,
            clock=self.clock,
            report=report,
            progress=progress,
            despite=despite,
        )
        execution.carry_out(plan, override=override, canary=canary)

    def _settle_doubts(self, lease: Lease, report: Report) -> None:
        settle_doubts(
            self.connector, self.store, lease, people=self.people, now=self.clock(), run_id=report.run_id
        )

    def _known(self) -> Known:
        return Known(
            baseline=self.store.baselines.stream(self.destination),
            remote=self.store.destinations.stream_remote(self.destination),
            consents=self.store.consents.stream_records(every_regime=bool(self.project.consent.regimes)),
            rejections=self.store.settlements.stream_rejections(self.destination),
            payloads=lambda keys: self.store.baselines.stream_payloads(self.destination, keys),
            regimes=self.project.consent,
            customers=self.snapshot.table("customers"),
        )

    def _record_consents(self, report: Report) -> None:
        """Take over the snapshot's consents, once per content; whose they are also depends on who has which address.

        Who left by them is told to all destinations: no plan knows a member who is no customer.
        """
        regimes = self.project.consent
        digest = (
            f"{self.snapshot.digest_of('consents')} {self.snapshot.digest_of('profiles')}{regimes.digest()}"
        )
        if self.store.destinations.cursor("", _CONSENTS) != digest:
            with consents_of(self.store, self.snapshot) as con:
                record_consents(self.store, con, regimes=regimes, now=self.clock(), run_id=report.run_id)
                opt_out_recorded(self.store, self.project.destinations, self.people, con)
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

    def _supersede(self) -> None:
        """Drop what an older plan put into the outbox but never began to send."""
        older = self.store.plans.latest(self.destination, PlanStatus.PLANNED)
        if older is not None:
            self.store.outbox.discard(older.plan_id)

    def _prune(self, plan: Plan) -> None:
        """Keep the files of the newest few plans, and of what was sent for as long as it can be taken back."""
        sent = self.store.plans.applied(self.destination, self.clock() - self.project.retention.plans)
        kept = {plan.steps, plan.withheld_contacts} | {Path(each.manifest["steps"]) for each in sent}
        drop_files(self.folder, kept, newest=_PLANS_KEPT)


@contextmanager
def recorded(job: Job, kind: str) -> Iterator[tuple[Lease, Report]]:
    """Hold the destination's lease and store the run and how it ended.

    One that a signal ends, and not an error, stays open, and the next one calls it interrupted.
    """
    started = monotonic()
    report = Report(
        run_id=f"{job.clock():%Y%m%dT%H%M%S}-{secrets.token_hex(3)}",
        destination=job.destination,
        snapshot_id=job.snapshot.id,
    )
    job.connector.transport.on_attempt = request_ended
    with job.store.leases.hold(job.destination, kind) as lease, watched(job.project, job.store, kind, report):
        try:
            yield lease, report
        except SegueError as error:
            report.error = error
            _finish(job, report, started)
            raise
        except Exception as error:
            if not is_interrupt(error):
                report.error = as_ours(error)
                _finish(job, report, started)
            raise
        _finish(job, report, started)


def _finish(job: Job, report: Report, started: float) -> None:
    report.traffic = job.connector.transport.traffic()
    report.seconds = monotonic() - started
    concluded(job.project, job.store, report)


def pull(
    job: Job,
    progress: Progress,
    *,
    full: bool = False,
    override: bool = False,
    seconds: float | None = None,
) -> Report:
    """Learn who left, and change nothing there; in no more than about so many seconds, and the next one goes on there.

    Raises what stops it, after the report is stored.
    """
    with recorded(job, "pull") as (lease, report):
        job.look(lease, report, progress, full=full, override=override, seconds=seconds)
    return report


def run(job: Job, progress: Progress, *, override: bool) -> Report:
    """Do all that a scheduled run does, the canary first if there is one.

    Raises what stops it, after the report is stored.
    """
    with recorded(job, "run") as (lease, report):
        with report.phase("plan"):
            plan = job.plan(lease, report, progress)
        with report.phase("apply"):
            first = job.config.guardrails.canary
            if first is not None:
                job.apply(plan, lease, report, progress, override=override, canary=Canary.parse(first))
            if first is None or not report.paused:
                job.apply(plan, lease, report, progress, override=override)
    return report


def apply(
    job: Job, plan_id: str | None, progress: Progress, *, override: bool, canary: Canary | None = None
) -> Report:
    """Look who left since, then execute a stored plan, the newest unless named, or its canary alone.

    Raises what stops it, after the report is stored.
    """
    with recorded(job, "apply") as (lease, report):
        plan = job.stored_plan(plan_id)
        if job.look(lease, report, progress).double_opt_in is not plan.double_opt_in:
            switched = "double opt-in was switched on or off at the audience since; make a new plan"
            plan, override = replace(plan, guardrails=(*plan.guardrails, switched)), False
        with report.phase("apply"):
            job.apply(plan, lease, report, progress, override=override, canary=canary)
        if canary and not report.paused:
            report.notes.append(
                f"This was the canary of plan {plan.plan_id}. Look at it, then `segue apply` sends the rest."
            )
    return report


def rollback(job: Job, plan: Plan, run_id: str, progress: Progress, *, pause_for: str | None) -> Report:
    """Execute what `Job.plan_rollback` planned, and leave the destination paused in the name of `pause_for`.

    It is paused before the first step, so that no schedule pushes again what is being taken back, and a pause that
    was there does not stop it. Raises what stops it, after the report is stored.
    """
    with recorded(job, "rollback") as (lease, report):
        job.look(lease, report, progress)
        job.save(plan)
        pauses = job.store.pauses
        pause = pauses.of(job.destination)
        if pause is None and pause_for is not None:
            pause = pauses.pause(
                job.destination, reason=f"rolled back {run_id}", opt_outs=False, who=pause_for
            )
        with report.phase("apply"):
            job.apply(plan, lease, report, progress, override=True, despite=pause)
        if pause is not None:
            report.notes.append(
                f"{job.destination} is paused, so that the next run does not send the same again."
                f" When the cause is mended: `segue resume {job.destination}`."
            )
    return report


def verify(job: Job, progress: Progress, *, sample: int | None, dry_run: bool) -> Report:
    """Read contacts back and compare them with what was confirmed: a sample, or all of them for None.

    Raises what stops it, after the report is stored.
    """
    with recorded(job, "verify") as (lease, report):
        job.prove(lease, report)
        ours = Ours.of(job.mapping, job.store, job.destination)
        inspector = Inspector(job.connector, job.store, lease, job.people, ours, dry_run=dry_run)
        report.verified = inspector.look(
            sample=sample, run_id=report.run_id, clock=job.clock, progress=progress
        )
        report.left += report.verified.left
    return report
