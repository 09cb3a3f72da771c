"""Waits for what an ESP took and did not do at once: jobs, and writes that show only when the contact is read.

Nothing is sent here but questions, at the times that the connector's capabilities state. A job is noted in the store
before it is asked of for the first time, so that a run that is killed meanwhile asks on instead of sending again. Whoever
is to be made without a job that could be asked is noted before they are sent: sent again, because an answer was lost or a
run was killed, they could be made mailable after they left.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from threading import Event
from typing import Final

from ...connectors.base import Connector
from ...core.errors import DestinationError, RetryableError
from ...core.model import Change, Operation, Outcome, OutcomeStatus
from ..store.outbox_row import OutboxRow
from ..store.store import Store

_PATIENCE: Final = 1800.0
"""Seconds in which a run waits for the jobs of one batch; what takes longer is asked of by the next run."""
_PATIENCE_READING: Final = 30.0
"""So many times the wait before the first question a run reads until a batch without a job shows; who does not holds up
nobody else."""
_LOST_AFTER: Final = timedelta(hours=6)
"""Who may have been accepted to be made and is not shown for so long was not made, and is planned anew."""
_UNSHOWN: Final = "unshown since "  # stands for the job where there is none


def is_job(job: str) -> bool:
    """Whether this is the ESP's own job, and not what stands for one."""
    return bool(job) and not job.startswith(_UNSHOWN)


def is_lost(job: str, now: datetime) -> bool:
    """Whether those for whom this stands are waited for no longer."""
    since = job.removeprefix(_UNSHOWN)
    return since != job and now - datetime.fromisoformat(since) > _LOST_AFTER


class Polling:
    """Asks an account what became of what it accepted. Safe to share between threads."""

    def __init__(self, connector: Connector, store: Store, clock: Callable[[], datetime]) -> None:
        self._connector = connector
        self._store = store
        self._clock = clock
        self._stopped = Event()

    def stop(self) -> None:
        """Let nobody wait any longer: what is open then is asked of by the next run."""
        self._stopped.set()

    def announce(self, rows: Sequence[OutboxRow]) -> str:
        """Remember who is about to be made without a job, and give what stands for one; "" where jobs or answers tell."""
        jobs = self._connector.capabilities.jobs
        if jobs is None or Operation.CREATE in jobs.operations or rows[0].operation is not Operation.CREATE:
            return ""
        unshown = f"{_UNSHOWN}{self._clock().isoformat()}"
        self._store.outbox.note_jobs({unshown: [row.id for row in rows]})
        return unshown

    def note(self, rows: Sequence[OutboxRow], outcomes: Sequence[Outcome], announced: str) -> list[Outcome]:
        """Remember which jobs took which rows, and give the outcomes, with what was announced where there is no job."""
        noted = [
            replace(outcome, job=outcome.job or announced)
            if outcome.status is OutcomeStatus.ACCEPTED
            else outcome
            for outcome in outcomes
        ]
        jobs: dict[str, list[int]] = {}
        for row, outcome in zip(rows, noted, strict=False):  # miscounts are told later
            if is_job(outcome.job):
                jobs.setdefault(outcome.job, []).append(row.id)
        if jobs:
            self._store.outbox.note_jobs(jobs)
        return noted

    def ended(
        self, changes: Sequence[Change], outcomes: Sequence[Outcome], *, within: float = _PATIENCE
    ) -> list[Outcome]:
        """Give outcomes in which nothing is merely accepted: what is open after so many seconds is UNKNOWN, with its job.

        In no seconds it is asked once, and at once.
        """
        told = list(outcomes)
        open_ = [place for place, outcome in enumerate(told) if outcome.status is OutcomeStatus.ACCEPTED]
        jobs = self._connector.capabilities.jobs
        if open_ and jobs is None:
            raise DestinationError(
                f"connector {self._connector.name}: accepts what it has no jobs for. A bug there."
            )
        if jobs and not any(is_job(outcome.job) for outcome in told):
            within = min(within, _PATIENCE_READING * jobs.first_poll)
        waits = jobs.waits(within) if jobs and within else (0.0,)
        for wait in waits:
            if not open_ or self._stopped.wait(wait):
                break
            for job in dict.fromkeys(told[place].job for place in open_):
                places = [place for place in open_ if told[place].job == job]
                try:
                    answers = self._connector.poll(
                        job if is_job(job) else "", [changes[place] for place in places]
                    )
                except RetryableError:
                    continue
                except DestinationError as error:
                    return self._unknown(told, error.message)
                for place, answer in zip(places, answers, strict=True):
                    if answer.status is not OutcomeStatus.ACCEPTED:
                        told[place] = answer
            open_ = [place for place in open_ if told[place].status is OutcomeStatus.ACCEPTED]
        return self._unknown(told, "The ESP is still at work on it; the next run asks again.")

    def _unknown(self, outcomes: Sequence[Outcome], reason: str) -> list[Outcome]:
        return [
            Outcome(status=OutcomeStatus.UNKNOWN, code="not_finished", reason=reason, job=outcome.job)
            if outcome.status is OutcomeStatus.ACCEPTED
            else outcome
            for outcome in outcomes
        ]
