"""Carries a plan out: all of it, or its canary first; its opt-outs whatever else holds it back.

What a plan holds is decided before (`sync.planning`), how a batch travels after (`apply`). Nothing here opens an
account, takes a lease or stores a run.
"""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from ...connectors.base import Connector
from ...core.config import Guardrails
from ...core.errors import GuardrailError, RetryableError
from ...core.model import Operation
from ...core.regimes import ConsentConfig
from ..inbound.observing import People
from ..planning.canary import Canary
from ..planning.plan import Plan
from ..report import Report
from ..store.leases import Lease
from ..store.pauses import Pause
from ..store.runs import PlanStatus
from ..store.store import Store
from .apply import Permitted, Progress, Tally, deliver
from .doubt import collect_jobs, settle_doubts
from .enqueue import enqueue
from .guardrails import too_many_rejects

_CANARY: Final = "canary"
_OPT_OUTS: Final = frozenset({Operation.OPT_OUT})

# Objects made until Python looks for cycles among the youngest: those of a batch or two, and not of a few contacts.
_OBJECTS: Final = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """What carrying out needs. `despite` is the one pause that does not stop it."""

    connector: Connector
    store: Store
    lease: Lease
    people: People
    limits: Guardrails
    regimes: ConsentConfig
    clock: Callable[[], datetime]
    report: Report
    progress: Progress
    despite: Pause | None = None

    def carry_out(self, plan: Plan, *, override: bool, canary: Canary | None = None) -> None:
        """Send a plan, or its canary alone.

        While the destination is paused its opt-outs alone go. Raises GuardrailError, with nothing but opt-outs sent,
        when a limit is passed and not overridden; and when too many contacts are refused, with the rest left.
        """
        pause = self._pause()
        if pause is not None or (plan.guardrails and not override):
            held = frozenset[Operation]() if pause and pause.opt_outs else _OPT_OUTS
            self._send(plan, lambda _: held, chosen=lambda _: False, part=True)
            if pause is None:
                raise GuardrailError(
                    f"Plan {plan.plan_id} passes a limit, and nothing but opt-outs was sent:"
                    f" {'; '.join(plan.guardrails)}. Look at it with `segue plan`; if it is right, apply it with"
                    " --override-guardrails."
                )
            self._say_paused(pause)
            return
        self._make(plan)
        chosen = canary.of(plan, self.store) if canary else self._rest(plan)
        self._send(
            plan,
            lambda tally: self._permitted(tally, override=override),
            chosen=chosen,
            part=canary is not None,
        )
        if pause := self._pause():
            self._say_paused(pause)
            return
        if canary and not self.report.waiting:
            self.store.destinations.set_cursor(plan.destination, _CANARY, canary.remembered(plan))
        refused = too_many_rejects(self.report.tally, self.limits, of_all=canary is not None)
        if refused and not override and (canary or self.report.waiting):
            raise GuardrailError(
                f"Plan {plan.plan_id} was stopped, and the rest of it waits: {refused}. `segue rejected` says why;"
                " `segue apply --override-guardrails` sends the rest anyway."
            )

    def _make(self, plan: Plan) -> None:
        """Make what is missing, and remember which fields and tags are ours."""
        own = self.store.destinations.own
        # First ours, then made: killed in between, the next run makes them, and takes them for nobody else's.
        own(plan.destination, "field", {spec.tag: None for spec in plan.schema.fields})
        if plan.requests.get("schema"):
            self.progress("creating fields", 0.0)
            self.connector.ensure(plan.schema)
        # A tag that nobody carries is not there, and so cannot be missed.
        owned = self.store.destinations.owned(plan.destination, "tag")
        own(plan.destination, "tag", dict.fromkeys(plan.tags_added.keys() - owned.keys()))

    def _send(
        self, plan: Plan, permitted: Permitted, *, chosen: Callable[[int], bool] | None, part: bool
    ) -> None:
        """Send what an earlier run began of a plan, then what is chosen of it; all of it makes it applied."""
        stored = self.store.plans.get(plan.plan_id)
        status = stored.status if stored else PlanStatus.PLANNED
        if self._jobs_at_work(patience=0.0):
            if status is PlanStatus.PLANNED:
                enqueue(plan, self.store, chosen=lambda _: False, part=True)
            self._deliver(plan, lambda tally: frozenset(permitted(tally)) & _OPT_OUTS)
        if still := self._jobs_at_work():
            raise RetryableError(
                f"{self.connector.label} is still at work on {still} jobs of an earlier run, and nothing but opt-outs was"
                " sent meanwhile. The next run goes on when they are done."
            )
        with _rare_collections():
            if status is not PlanStatus.PLANNED:
                self._deliver(plan, permitted)
            if status is not PlanStatus.APPLYING:
                self._drop_begun(plan)
                self.report.tally.stale += enqueue(plan, self.store, chosen=chosen, part=part)
                self._deliver(plan, permitted)
        self.report.waiting = sum(self.store.outbox.pending_counts(plan.destination).values())
        if not self.report.waiting and not part:
            self.store.outbox.discard(plan.plan_id)
            self.store.plans.set_status(plan.plan_id, PlanStatus.APPLIED)

    def _deliver(self, plan: Plan, permitted: Permitted) -> None:
        deliver(
            self.connector,
            self.store,
            self.lease,
            people=self.people,
            double_opt_in=plan.double_opt_in,
            regimes=self.regimes,
            run_id=self.report.run_id,
            clock=self.clock,
            progress=self.progress,
            tally=self.report.tally,
            permitted=permitted,
        )

    def _jobs_at_work(self, **patience: float) -> int:
        """Give how many jobs of earlier runs are open: no contact may be in two at a time."""
        return collect_jobs(
            self.connector,
            self.store,
            self.lease,
            people=self.people,
            now=self.clock(),
            run_id=self.report.run_id,
            **patience,
        )

    def _drop_begun(self, plan: Plan) -> None:
        """Drop what older plans left in the outbox: what of it is still right is in the plan that begins now."""
        settle_doubts(
            self.connector,
            self.store,
            self.lease,
            people=self.people,
            now=self.clock(),
            run_id=self.report.run_id,
        )
        for begun in self.store.plans.begun(plan.destination):
            self.store.outbox.discard(begun.plan_id)
            if begun.plan_id != plan.plan_id:
                self.store.plans.set_status(begun.plan_id, PlanStatus.SUPERSEDED)

    def _rest(self, plan: Plan) -> Callable[[int], bool] | None:
        """Say who of a plan is left once its canary is through; None: everybody."""
        canary = Canary.recalled(plan, self.store.destinations.cursor(plan.destination, _CANARY))
        if canary is None:
            return None
        first = canary.of(plan, self.store)
        return lambda key: not first(key)

    def _permitted(self, tally: Tally, *, override: bool) -> frozenset[Operation]:
        """Say what may go on, asked before each claim: opt-outs, if nothing else."""
        if pause := self._pause():
            return frozenset() if pause.opt_outs else _OPT_OUTS
        if not override and too_many_rejects(tally, self.limits):
            return _OPT_OUTS
        return frozenset(Operation)

    def _pause(self) -> Pause | None:
        pause = self.store.pauses.of(self.lease.destination)
        return None if pause == self.despite else pause

    def _say_paused(self, pause: Pause) -> None:
        self.report.paused = True
        self.report.notes.append(
            f"{pause.destination} is paused since {pause.since:%Y-%m-%d %H:%M} UTC, by {pause.who}:"
            f" {pause.reason or 'no reason given'}. {'Nothing' if pause.opt_outs else 'Nothing but opt-outs'} is sent;"
            f" `segue resume {pause.destination}` lets the rest go."
        )


@contextmanager
def _rare_collections() -> Iterator[None]:
    """Have Python look for garbage in cycles once a batch, and not among what the process holds already.

    Contacts in their batches are many objects and no cycles. As often as is usual, and through all modules every
    time, the search takes a third of the time of a first load.
    """
    usual = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(_OBJECTS, *usual[1:])
    try:
        yield
    finally:
        gc.set_threshold(*usual)
        gc.unfreeze()
