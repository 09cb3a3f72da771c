"""The clock of `segue schedule`: when a command is due, the process that it becomes, and the end.

Lives here: firings, their processes, what is said of them. Must not: open a store or send anything; that is what the
processes do, each started as cron would start it, so that one that crashes, leaks or is killed harms no other. The
loser was to run jobs in threads: one that runs out of memory takes all of them and the clock along.

APScheduler keeps the firings apart: of one entry never two at once, after a pause one and not all that were missed.
When an entry is due is read by cronsim, because APScheduler takes weekday 0 for Monday and wants day of month *and*
day of week, where every crontab means Sunday and *or*.
"""

import logging
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from queue import Empty, SimpleQueue
from types import FrameType
from typing import Any, Final
from zoneinfo import ZoneInfo

import structlog
from apscheduler.events import (
    EVENT_JOB_ERROR,
    EVENT_JOB_MAX_INSTANCES,
    EVENT_JOB_MISSED,
    JobExecutionEvent,
    JobSubmissionEvent,
)
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger
from cronsim import CronSim

from ..core.config import Project, ScheduleEntry
from ..core.errors import ConfigError

Say = Callable[[str], None]

_LOG = structlog.get_logger(__name__)

_LOOK_AGAIN: Final = 30.0  # seconds: a machine that slept counts none of them, so that no wait may be long
_ENDED: Final = 0  # stands among signals for "a process ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Upcoming:
    """One entry of the schedule, its command as in a shell, and its next firings in the project's zone."""

    name: str
    cron: str
    in_words: str
    command: str
    next: tuple[datetime, ...]


def upcoming(project: Project, now: datetime, count: int) -> list[Upcoming]:
    """List the entries, the next one first. Raises ConfigError when there is none or one cannot run unattended."""
    _refuse_what_cannot_run(project)
    found: list[Upcoming] = []
    for name, entry in project.schedule.items():
        ahead = moments(entry.cron, project.timezone, now)
        found.append(
            Upcoming(
                name=name,
                cron=entry.cron,
                in_words=CronSim(entry.cron, now).explain(),
                command=" ".join(["segue", *_arguments(entry)]),
                next=tuple(next(ahead) for _ in range(count)),
            )
        )
    return sorted(found, key=lambda each: each.next[0].astimezone(UTC))


def moments(cron: str, timezone: str, after: datetime) -> Iterator[datetime]:
    """Give the times of a cron expression on a zone's clock, later than `after`.

    As in Debian's cron: what falls into the hour that spring leaves out comes when it is over, and what falls into
    the hour that autumn repeats comes in the first of the two; but what comes every hour or more often by a star
    goes by the time that passes.
    """
    for moment in CronSim(cron, after.astimezone(ZoneInfo(timezone))):
        # Within one zone Python compares what clocks show, which in autumn is twice the same.
        if moment.astimezone(UTC) > after.astimezone(UTC):
            yield moment


class Scheduler:
    """Starts the processes of a project's schedule. `say` gets a line about each start, end and firing left out."""

    def __init__(self, project: Project, say: Say) -> None:
        _refuse_what_cannot_run(project)
        self._project = project
        self._say = say
        self._heard: SimpleQueue[int] = SimpleQueue()
        self._lock = threading.Lock()
        self._stopping = False
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        logging.getLogger("apscheduler").setLevel(logging.CRITICAL)  # the listener says the same in our words
        self._clock: Any = BackgroundScheduler(
            timezone=UTC, executors={"default": ThreadPoolExecutor(len(project.schedule))}
        )
        for name, entry in project.schedule.items():
            self._clock.add_job(
                self._fire,
                _Cron(entry.cron, project.timezone),
                args=[name, _arguments(entry)],
                id=name,
                coalesce=True,
                max_instances=1,
                misfire_grace_time=int(entry.grace.total_seconds()),
            )
        self._clock.add_listener(self._left_out, EVENT_JOB_MISSED | EVENT_JOB_MAX_INSTANCES | EVENT_JOB_ERROR)

    def serve(self) -> int:
        """Work until SIGTERM or SIGINT, wait for what runs, and give 0, or the second signal's number plus 128.

        The first signal is handed on to what runs, as SIGTERM; the second one kills it.
        """
        with self._hearing():
            self._clock.start()
            while not (told := self._next_signal()):
                self._clock.wakeup()
            self._clock.shutdown(wait=False)
            self._send(signal.SIGTERM)
            while self._processes:
                if told := self._next_signal():
                    self._send(signal.SIGKILL)
                    return 128 + told
        return 0

    def _fire(self, name: str, arguments: list[str]) -> None:
        with self._lock:
            if self._stopping:
                return
            # A session of its own: Ctrl-C in a terminal goes to every process there, and a run is told once.
            process = subprocess.Popen(  # noqa: S603  (our own command, words of a closed list)
                [sys.executable, "-P", "-m", "segue.sync.cli", *arguments, "--project", self._project.path],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
            self._processes[name] = process
        command = " ".join(["segue", *arguments])
        _LOG.info("firing_started", entry=name, command=command, process=process.pid)
        self._say(f"{name}: started `{command}` as process {process.pid}.")
        code = process.wait()
        (_LOG.warning if code else _LOG.info)("firing_ended", entry=name, exit_code=code)
        self._say(f"{name}: {_ending(code)}.")
        with self._lock:
            del self._processes[name]
        self._heard.put(_ENDED)

    def _left_out(self, event: JobSubmissionEvent | JobExecutionEvent) -> None:
        if event.code == EVENT_JOB_MAX_INSTANCES:
            why = "left out, the one before is still at work"
        elif event.code == EVENT_JOB_MISSED:
            why = f"left out, {event.scheduled_run_time:%Y-%m-%d %H:%M} UTC is too long ago"
        else:
            why = f"could not be started: {type(event.exception).__name__}"
        _LOG.warning("firing_left_out", entry=event.job_id, reason=why)
        self._say(f"{event.job_id}: {why}.")

    @contextmanager
    def _hearing(self) -> Iterator[None]:
        """Put the signals that ask for an end into the queue."""

        def hear(number: int, _frame: FrameType | None) -> None:
            self._heard.put(number)

        before = {number: signal.signal(number, hear) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _next_signal(self) -> int:
        """Wait a while for a signal; 0 when none came, or a process ended."""
        try:
            return self._heard.get(timeout=_LOOK_AGAIN)
        except Empty:
            return _ENDED

    def _send(self, number: signal.Signals) -> None:
        with self._lock:
            self._stopping = True
            for process in self._processes.values():
                process.send_signal(number)


class _Cron(BaseTrigger):  # type: ignore[misc]  # APScheduler 3 ships no types
    """APScheduler's question when to fire next, answered from the expression."""

    def __init__(self, cron: str, timezone: str) -> None:
        self._cron = cron
        self._timezone = timezone

    def get_next_fire_time(self, previous: datetime | None, now: datetime) -> datetime:
        return next(moments(self._cron, self._timezone, previous or now)).astimezone(UTC)


def _refuse_what_cannot_run(project: Project) -> None:
    if not project.schedule:
        raise ConfigError(
            f'{project.path.name} has no `schedule`. Add e.g. `schedule: {{nightly: {{cron: "15 3 * * *"}}}}`.'
        )
    for table, sources in project.sources.items():
        for place, source in enumerate(sources):
            builds = any(entry.command == "run" for entry in project.schedule.values())
            if source.stdin is not None and builds:
                raise ConfigError(
                    f"{project.place('sources', table, place)}: sources.{table}[{place}]: is piped in, and nobody"
                    " does so for a scheduled run. Read a file, or schedule `run --no-build`."
                )


def _arguments(entry: ScheduleEntry) -> list[str]:
    return [*entry.command.split(), *([entry.destination] if entry.destination else [])]


def _ending(code: int) -> str:
    """Say how a process ended; a negative code is the signal that killed it."""
    return f"ended with exit code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"
