"""What `segue serve` does behind its doors: works messages off, tells every destination who left, and sends that.

Which messages come in is `web.receiver`'s, what one means `receiving`'s, whom it concerns elsewhere `fanout`'s. A run of
another process may hold a destination's lease meanwhile: the opt-outs are in its outbox then, and it sends them before
whatever it claims next. Where nobody runs, they are sent from here.
"""

import threading
from collections.abc import Mapping
from time import monotonic
from typing import Final

import structlog

from ..connectors.webhooks import Webhooks
from ..core.config import Project
from ..core.errors import SegueError
from ..core.model import Operation
from ..core.snapshot import Snapshot, current
from .delivery.apply import deliver
from .fanout import fan_out
from .jobs import Job, recorded
from .receiving import ROWS, work_off
from .report import Report
from .store.store import Store

_LOG = structlog.get_logger(__name__)

_LOOK: Final = 1.0  # seconds between two looks at what waits for its time, or for another process
_AGAIN: Final = 10.0  # seconds until an account that did not take opt-outs is tried again


class Serving:
    """Works off on a thread of its own, whenever it is told that something came, and now and then by itself."""

    def __init__(self, project: Project, store: Store, webhooks: Mapping[str, Webhooks]) -> None:
        self._project = project
        self._store = store
        self._webhooks = webhooks
        self._urged: set[str] = set(
            project.destinations
        )  # an earlier server may have been killed before it sent
        self._not_before: dict[str, float] = {}  # by destination, on the monotonic clock
        self._came = threading.Event()
        self._ending = False
        self._thread = threading.Thread(target=self._work, name="serving")

    def start(self) -> None:
        """Begin to work off."""
        self._thread.start()

    def stop(self) -> None:
        """End when what is at hand is done; the rest waits in the store."""
        self._ending = True
        self._came.set()
        self._thread.join()

    def came(self, destinations: set[str]) -> None:
        """Be told that something is new in these inboxes."""
        del destinations  # all are looked at: one that is empty costs one look
        self._came.set()

    def _work(self) -> None:
        while not self._ending:
            self._came.wait(_LOOK)
            self._came.clear()
            try:
                self.turn()
            except SegueError as error:
                _LOG.error("serving_failed", why=error.message)

    def turn(self) -> None:
        """Work off all that waits, and send what follows from it."""
        snapshot = current(self._project.state_folder)
        for destination, webhooks in self._webhooks.items():
            while self._work_off(destination, webhooks, snapshot) == ROWS:
                pass
        for destination in sorted(self._urged):
            if self._sent(destination, snapshot):
                self._urged.discard(destination)

    def _work_off(self, destination: str, webhooks: Webhooks, snapshot: Snapshot) -> int:
        waiting = len(self._store.inbox.take(destination, ROWS))
        if waiting:
            with Job(self._project, destination, self._store, snapshot) as job:
                left = work_off(job, webhooks)
                urged = fan_out(self._store, self._project.destinations, job.people, left)
            self._urged |= urged.keys()
            _LOG.info("webhooks_worked_off", destination=destination, messages=waiting, urged=dict(urged))
        return waiting

    def _sent(self, destination: str, snapshot: Snapshot) -> bool:
        """Send the opt-outs of one destination; say whether nobody need come back for them."""
        if not self._store.outbox.has_urgent(destination):
            return True
        pause = self._store.pauses.of(destination)
        if (pause and pause.opt_outs) or monotonic() < self._not_before.get(destination, 0.0):
            return False
        with Job(self._project, destination, self._store, snapshot) as job:
            try:
                send_opt_outs(job)
            except SegueError as error:
                _LOG.warning("opt_outs_wait", destination=destination, why=error.message)
        sent = not self._store.outbox.has_urgent(destination)
        self._not_before[destination] = 0.0 if sent else monotonic() + _AGAIN
        return sent


def send_opt_outs(job: Job) -> Report:
    """Send the opt-outs of a destination that wait, and nothing else.

    Raises StoreError while a run of another process holds the lease: it sends them. Raises what stops it, after the
    report is stored.
    """
    with recorded(job, "opt_out") as (lease, report):
        deliver(
            job.connector,
            job.store,
            lease,
            people=job.people,
            double_opt_in=False,
            run_id=report.run_id,
            clock=job.clock,
            progress=lambda *_: None,
            tally=report.tally,
            permitted=lambda _: frozenset({Operation.OPT_OUT}),
        )
    return report
