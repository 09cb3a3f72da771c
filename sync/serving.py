"""What `segue serve` does behind its doors: believes what was posted, tells every destination who left, and sends that.

Which messages come in is `web.receiver`'s, what one means `receiving`'s, whom it concerns elsewhere `fanout`'s.

Nobody waits for an account that is not theirs. One thread believes messages, and asks no account at all; each
destination has one thread that sends opt-outs and one that looks: at hints, and now and then at all that changed. So who
leaves at one account is sent to the others while it hangs, and an account that hangs delays nobody but itself.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from time import monotonic, sleep
from typing import Final

import structlog

from ..connectors.webhooks import Webhooks
from ..core.config import Project
from ..core.errors import AuthenticationError, SegueError, StoreError
from ..core.snapshot import Snapshot, current, history
from .inbound.observing import People
from .jobs import Job, pull, utc_now
from .opting_out import send_ahead, send_opt_outs
from .receiving import HINTS, ROWS, believe, follow_hints
from .store.audit import acting
from .store.leases import LeaseHeldError
from .store.store import Store
from .unforeseen import as_ours

_LOG = structlog.get_logger(__name__)

_LOOK: Final = 1.0  # seconds between two looks at what waits for its time, or for another process
_AGAIN: Final = 10.0  # seconds until what failed is tried again, twice as long each time
_LONGEST: Final = 300.0  # seconds
_LONGEST_STORE: Final = 5.0  # seconds: the store is ours, and what waits for it is whoever left
_POLL: Final = 30.0  # seconds that a poll may read and keep the lease: the next one goes on there
_POLL_AGAIN: Final = 60.0  # seconds until a poll that was not made, or not to its end, is tried again
_UPKEEP: Final = 3600.0  # seconds
_AHEAD: Final = 500  # opt-outs sent ahead of the run that holds the lease, at a time
_BREATH: Final = (
    0.2  # seconds between two batches of messages: large ones leave more of the machine to the doors
)
_GRACE: Final = 20.0  # seconds that what is under way is given at the end


class Serving:
    """All that works off, on threads of its own: whenever it is told that something came, and now and then by itself."""

    def __init__(self, project: Project, store: Store, webhooks: Mapping[str, Webhooks]) -> None:
        self._sight = _Sight(project, store)
        self._senders = [
            _Worker(f"send {name}", _Sender(_Opened(project, name, store, self._sight)).turn)
            for name in project.destinations
        ]
        every = project.serve.poll_every
        lookers = [
            _Worker(
                f"look {name}",
                _Looker(_Opened(project, name, store, self._sight), webhooks.get(name), every).turn,
            )
            for name in project.destinations
        ]
        self._believer = _Worker("believe", self._believe)
        self._workers = [self._believer, *self._senders, *lookers]
        self._project = project
        self._store = store
        self._webhooks = webhooks
        self._upkeep_at = 0.0

    def start(self) -> None:
        """Begin to work off."""
        for worker in self._workers:
            worker.start()

    def stop(self) -> None:
        """End when what is at hand is done, or after a while; the rest waits in the store."""
        for worker in self._workers:
            worker.end()
        deadline = monotonic() + _GRACE
        for worker in self._workers:
            worker.join(max(0.0, deadline - monotonic()))

    def came(self) -> None:
        """Be told that something is new in the inboxes."""
        self._believer.wake()

    @property
    def healthy(self) -> bool:
        """Whether what comes in is believed; an account that does not answer makes nobody here ill."""
        return all(worker.alive for worker in self._workers) and not self._believer.failing

    def _believe(self) -> float:
        if monotonic() >= self._upkeep_at:
            self._store.inbox.forget()
            self._upkeep_at = monotonic() + _UPKEEP
        people, most = self._sight.look().people, 0
        failed: SegueError | None = None
        for destination, webhooks in self._webhooks.items():
            try:
                with acting(f"webhooks of {destination}"):
                    count = believe(
                        self._store,
                        destination,
                        webhooks,
                        people=people,
                        destinations=list(self._project.destinations),
                        clock=utc_now,
                    )
            except SegueError as error:  # those of the others are believed all the same
                failed, count = error, 0
            most = max(most, count)
            for sender in self._senders if count else ():
                sender.wake()
        if failed is not None:
            raise failed
        if 0 < most < ROWS:
            sleep(_BREATH)
        return 0.0 if most == ROWS else _LOOK


class _Worker:
    """A thread that takes a turn when it is woken, and again after as many seconds as the turn gives.

    What goes wrong is logged and tried again, later each time: a thread that ended would be missed by nobody.
    """

    def __init__(self, name: str, turn: Callable[[], float]) -> None:
        self._turn = turn
        self._woken = threading.Event()
        self._ending = False
        self._failures = 0
        # A daemon: what hangs at an account must not keep the process; whatever it does may be killed.
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        if not self._failures:  # what failed keeps to its time
            self._woken.set()

    def end(self) -> None:
        self._ending = True
        self._woken.set()

    def join(self, seconds: float) -> None:
        self._thread.join(seconds)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def failing(self) -> bool:
        return self._failures > 0

    def _work(self) -> None:
        while not self._ending:
            try:
                rest = self._turn()
                self._failures = 0
            except Exception as error:  # noqa: BLE001 - whatever it is, the next turn is taken
                rest = self._after(error if isinstance(error, SegueError) else as_ours(error))
            self._woken.wait(rest)
            self._woken.clear()

    def _after(self, error: SegueError) -> float:
        """Give the seconds until the next try: few after trouble with the store, which is here, more with an account."""
        first, longest = (_LOOK, _LONGEST_STORE) if isinstance(error, StoreError) else (_AGAIN, _LONGEST)
        rest = min(first * 2.0**self._failures, longest)
        self._failures = min(self._failures + 1, 10)
        _LOG.error(
            "serving_failed",
            part=self._thread.name,
            why=error.message,
            again_in=rest,
            kind=type(error).__name__,
        )
        return rest


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    snapshot: Snapshot | None
    people: People


class _Sight:
    """The newest snapshot and its people, opened once and shared by all threads; None and nobody before a build."""

    def __init__(self, project: Project, store: Store) -> None:
        self._folder = project.state_folder
        self._store = store
        self._lock = threading.Lock()
        self._seen: _Seen | None = None
        self._looked_at = 0.0

    def look(self) -> _Seen:
        """Give what is current, or was a moment ago.

        A newer snapshot that cannot be read is done without. Raises StoreError where there is no other one.
        """
        with self._lock:
            if self._seen is None or monotonic() - self._looked_at >= _LOOK:
                self._looked_at = monotonic()
                try:
                    snapshot = _current(self._folder)
                except StoreError as error:
                    if self._seen is None:
                        raise
                    _LOG.error("snapshot_unreadable", why=error.message)
                    return self._seen
                known = self._seen.snapshot.id if self._seen and self._seen.snapshot else None
                if self._seen is None or known != (snapshot.id if snapshot else None):
                    self._seen = _Seen(snapshot=snapshot, people=People(snapshot, self._store))
            return self._seen


class _Opened:
    """One destination's job, opened once for each snapshot and used by one thread."""

    def __init__(self, project: Project, destination: str, store: Store, sight: _Sight) -> None:
        self.store = store
        self.destination = destination
        self._project = project
        self._sight = sight
        self._job: Job | None = None

    def job(self) -> Job | None:
        """Give the job, None before a build. Raises ConfigError while the destination cannot be opened."""
        seen = self._sight.look()
        if seen.snapshot is None:
            return None
        if self._job is None or self._job.snapshot.id != seen.snapshot.id:
            self.close()
            self._job = Job(self._project, self.destination, self.store, seen.snapshot)
            self._job.people = seen.people
        self._job.connector.transport.recount()  # each run of this process has figures of its own
        return self._job

    def close(self) -> None:
        """Let it go, so that the next one reads its secrets anew."""
        if self._job is not None:
            self._job.connector.transport.close()
            self._job = None


class _Sender:
    """Sends one destination's opt-outs, whoever put them into its outbox."""

    def __init__(self, opened: _Opened) -> None:
        self._opened = opened
        self._waited: set[int] = set()  # rows that somebody else was to send a moment ago
        self._ahead: set[int] = set()  # rows that were sent ahead of whoever is to settle them

    def turn(self) -> float:
        """Send what waits. Raises what keeps it from being sent."""
        store, destination = self._opened.store, self._opened.destination
        rows = store.outbox.urgent(destination, _AHEAD + len(self._ahead))
        pause = store.pauses.of(destination)
        if not rows or (pause and pause.opt_outs) or (job := self._opened.job()) is None:
            self._waited, self._ahead = set(), set()
            return _LOOK
        try:
            send_opt_outs(job)
        except LeaseHeldError:  # by a run, which is given a moment
            there = {row.id for row in rows}
            late = [row for row in rows if row.id in self._waited and row.id not in self._ahead]
            self._waited, self._ahead = there, (self._ahead & there)
            send_ahead(job, late, sent=self._ahead.update)
            return _LOOK
        except AuthenticationError:
            self._opened.close()
            raise
        self._waited, self._ahead = set(), set()
        return _AGAIN if store.outbox.urgent(destination, 1) else _LOOK


class _Looker:
    """Follows one destination's hints, and asks it now and then for all that changed."""

    def __init__(self, opened: _Opened, webhooks: Webhooks | None, every: timedelta) -> None:
        self._opened = opened
        self._webhooks = webhooks
        self._every = every.total_seconds()
        self._poll_at = 0.0

    def turn(self) -> float:
        """Look at what is due. Raises what keeps it from being seen."""
        job = self._opened.job()
        if job is None:
            return _LOOK
        try:
            if monotonic() >= self._poll_at:  # first: hints may come faster than they are followed
                self._poll(job)
            if self._webhooks is None:
                return _LOOK
            with acting(f"webhooks of {job.destination}"):
                followed = follow_hints(job, self._webhooks)
            if followed.moved:
                self._poll_at = 0.0
            if followed.hints == HINTS:
                return 0.0
        except AuthenticationError:
            self._opened.close()
            raise
        return _LOOK

    def _poll(self, job: Job) -> None:
        """Ask who left; where nothing ran yet, the first run reads everyone."""
        self._poll_at = monotonic() + min(_POLL_AGAIN, self._every)
        if not job.store.runs.newest(1, job.destination):
            return
        try:
            report = pull(job, lambda *_: None, seconds=_POLL)
        except LeaseHeldError as error:  # by a run, which asks by itself
            _LOG.info("poll_waits", destination=job.destination, why=error.message)
            return
        if not report.unfinished:
            self._poll_at = monotonic() + self._every
        _LOG.info("polled", destination=job.destination, contacts=report.pulled, left=report.left)


def _current(folder: Path) -> Snapshot | None:
    """Give the current snapshot, None before the first build."""
    try:
        return current(folder)
    except StoreError:
        damaged: list[str] = []
        if history(folder, damaged=damaged.append) or damaged:
            raise
        return None
