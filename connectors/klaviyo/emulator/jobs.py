"""What the emulated Klaviyo does later: jobs that can be looked at, and errands that cannot.

Nothing here knows profiles: what a job or errand does is handed in. Both run late, so that a write made after they were
accepted can be overtaken by them, as with the real one.
"""

import heapq
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

STATES = ("queued", "processing", "complete")
STEP = timedelta(seconds=1)  # of the emulator's clock, for a job that nobody looks at
LIFETIME = timedelta(days=7)


@dataclass(slots=True)
class Job:
    """One job over `items`. `run` does one item, by its number, and says whether it did anything.

    `errors` are those that `run` left; `touched` the profiles it changed, in order and each once.
    """

    id: str
    kind: str
    request: int
    items: Sequence[Any]
    created: datetime
    moved: datetime
    run: Callable[["Job", int], bool]
    state: str = STATES[0]
    completed: datetime | None = None
    done: int = 0
    passed_over: int = 0
    errors: list[dict[str, Any]] = field(default_factory=list)
    touched: dict[str, None] = field(default_factory=dict)
    related: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self.completed is not None

    @property
    def expires(self) -> datetime:
        """When it is forgotten."""
        return self.created + LIFETIME


class Jobs:
    """The account's jobs of every kind."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        self._open: dict[str, Job] = {}
        self._made = 0

    def submit(
        self,
        kind: str,
        items: Sequence[Any],
        run: Callable[[Job, int], bool],
        *,
        request: int,
        now: datetime,
        related: Mapping[str, Sequence[str]],
    ) -> Job:
        """Take a job; nothing runs yet."""
        self._made += 1
        job = Job(f"01JOB{self._made:021d}", kind, request, items, now, now, run, related=related)
        self._jobs[job.id] = self._open[job.id] = job
        return job

    @property
    def pending(self) -> int:
        """How many have not ended."""
        return len(self._open)

    def find(self, job_id: str, kind: str, now: datetime) -> Job | None:
        """Find a job of a kind that has not been forgotten."""
        job = self._jobs.get(job_id)
        return job if job is not None and job.kind == kind and now < job.expires else None

    def tick(self, now: datetime, *, seconds: float, cancel: bool) -> None:
        """Move every job as far as the time allows; `seconds` is how long one takes, 0 for a second each state."""
        each = timedelta(seconds=seconds / (len(STATES) - 1)) if seconds else STEP
        for job in list(self._open.values()):
            while not job.ended and now - job.moved >= each:
                self._step(job, job.moved + each, cancel=cancel)

    def look(self, job: Job, now: datetime, *, seconds: float, cancel: bool) -> None:
        """Move a job on because it was looked at, unless it keeps to its time."""
        if not seconds and not job.ended:
            self._step(job, now, cancel=cancel)

    def _step(self, job: Job, now: datetime, *, cancel: bool) -> None:
        job.moved = now
        if job.state == STATES[0]:
            job.state = STATES[1]
            return
        order = list(range(len(job.items)))
        random.Random(job.id).shuffle(order)  # noqa: S311 - an order that nobody may rely on, but repeatable
        for number in order[: len(order) // 2] if cancel else order:
            if job.run(job, number):
                job.done += 1
            else:
                job.passed_over += 1
        job.errors.sort(key=lambda error: str(error["id"]))
        job.state = "cancelled" if cancel else STATES[2]
        job.completed = now
        del self._open[job.id]


class Errands:
    """What was accepted without a job to ask about; carried out in the order in which it falls due."""

    def __init__(self) -> None:
        self._waiting: list[tuple[datetime, int, Callable[[datetime], None]]] = []
        self._order = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def send(self, due: datetime, run: Callable[[datetime], None]) -> None:
        """Do something when its time has come; it is told when that was."""
        self._order += 1
        heapq.heappush(self._waiting, (due, self._order, run))

    def tick(self, now: datetime) -> None:
        """Do whatever is due."""
        while self._waiting and self._waiting[0][0] <= now:
            due, _, run = heapq.heappop(self._waiting)
            run(due)
