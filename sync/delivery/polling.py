"""Waits for what an ESP took and did not do at once: jobs, and writes that show only when the contact is read.

Nothing is sent here but questions, at the times that the connector's capabilities state. A job is noted in the store
before it is asked of for the first time, so that a run that is killed meanwhile asks on instead of sending again.
"""

from collections.abc import Sequence
from threading import Event
from typing import Final

from ...connectors.base import Connector
from ...core.errors import DestinationError, RetryableError
from ...core.model import Change, Outcome, OutcomeStatus
from ..store.outbox import OutboxRow
from ..store.store import Store

_PATIENCE: Final = 1800.0
"""Seconds in which a run waits for the jobs of one batch; what takes longer is asked of by the next run."""
_PATIENCE_READING: Final = 60.0
"""Seconds in which a run reads until a batch without a job shows; who does not is sent again, and holds up nobody."""


class Polling:
    """Asks an account what became of what it accepted. Safe to share between threads."""

    def __init__(self, connector: Connector, store: Store) -> None:
        self._connector = connector
        self._store = store
        self._stopped = Event()

    def stop(self) -> None:
        """Let nobody wait any longer: what is open then is asked of by the next run."""
        self._stopped.set()

    def note(self, rows: Sequence[OutboxRow], outcomes: Sequence[Outcome]) -> None:
        """Remember which jobs took which rows."""
        jobs: dict[str, list[int]] = {}
        for row, outcome in zip(rows, outcomes, strict=False):  # a connector that miscounts is told so later
            if outcome.status is OutcomeStatus.ACCEPTED and outcome.job:
                jobs.setdefault(outcome.job, []).append(row.id)
        if jobs:
            self._store.outbox.note_jobs(jobs)

    def ended(
        self, changes: Sequence[Change], outcomes: Sequence[Outcome], *, within: float = _PATIENCE
    ) -> list[Outcome]:
        """Give outcomes in which nothing is merely accepted: what is open after so many seconds is UNKNOWN, with its job."""
        told = list(outcomes)
        if not any(outcome.job for outcome in told):
            within = min(within, _PATIENCE_READING)
        open_ = [place for place, outcome in enumerate(told) if outcome.status is OutcomeStatus.ACCEPTED]
        jobs = self._connector.capabilities.jobs
        if open_ and jobs is None:
            raise DestinationError(
                f"connector {self._connector.name}: accepts what it has no jobs for. A bug there."
            )
        for wait in jobs.waits(within) if jobs else ():
            if not open_ or self._stopped.wait(wait):
                break
            for job in dict.fromkeys(told[place].job for place in open_):
                places = [place for place in open_ if told[place].job == job]
                try:
                    answers = self._connector.poll(job, [changes[place] for place in places])
                except RetryableError:
                    continue
                except DestinationError as error:
                    return self._unknown(told, error.message)
                for place, answer in zip(places, answers, strict=True):
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
