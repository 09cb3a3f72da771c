"""Mailchimp's asynchronous batches, emulated: jobs that move on when looked at or when time passes, and their results.

A job knows calls and answers, not members: `run` is handed in. It runs late, between two states, so that a write made
after submission can be overtaken by it, as with the real one; and in shuffled order, because none is promised.
"""

import gzip
import io
import json
import random
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

STATES = ("pending", "preprocessing", "started", "finalizing", "finished")
STEP = timedelta(seconds=1)  # of the emulator's clock, for a job that nobody looks at
URL_LIFETIME = timedelta(minutes=10)
RESULT_LIFETIME = timedelta(days=7)
MAXIMUM_PENDING = 500
_PER_FILE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOperation:
    """One call to make. `body` is the JSON text that the caller wrote, still unread."""

    method: str
    path: str
    operation_id: str
    body: str
    params: dict[str, str]


@dataclass(slots=True)
class Job:
    """One batch. `results` fill when it runs: (operation id, status, JSON text of the answer)."""

    id: str
    number: int
    base_url: str
    operations: Sequence[JobOperation]
    submitted_at: datetime
    state: int = 0
    moved_at: datetime | None = None
    completed_at: datetime | None = None
    results: list[tuple[str, int, str]] = field(default_factory=list)
    links: int = 0


class Jobs:
    """The account's batches and the addresses of their results, each of which works for ten minutes."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        self._links: dict[str, tuple[str, datetime]] = {}
        self._made = 0

    def submit(self, operations: Sequence[JobOperation], *, number: int, base_url: str, now: datetime) -> Job:
        """Take a batch; nothing runs yet."""
        self._made += 1
        job = Job(f"batch{self._made:05d}", number, base_url, operations, now, moved_at=now)
        self._jobs[job.id] = job
        return job

    @property
    def pending(self) -> int:
        """How many are not finished."""
        return sum(1 for job in self._jobs.values() if job.state < len(STATES) - 1)

    def all(self) -> list[Job]:
        """Give all batches, newest first."""
        return list(reversed(self._jobs.values()))

    def find(self, job_id: str) -> Job | None:
        """Find a batch that was not deleted."""
        return self._jobs.get(job_id)

    def drop(self, job: Job) -> None:
        """Stop and forget a batch: what ran has happened, and its results are gone."""
        del self._jobs[job.id]

    def tick(self, now: datetime, run: Callable[[Job, JobOperation], tuple[int, str]]) -> None:
        """Move every job as far as the time since its last move allows."""
        for job in list(self._jobs.values()):
            while job.state < len(STATES) - 1 and job.moved_at is not None and now - job.moved_at >= STEP:
                self.step(job, job.moved_at + STEP, run)

    def step(self, job: Job, now: datetime, run: Callable[[Job, JobOperation], tuple[int, str]]) -> None:
        """Move one job to its next state; the operations run on the way from started to finalizing."""
        if STATES[job.state] == "started":
            order = list(job.operations)
            random.Random(job.id).shuffle(order)  # noqa: S311 - an order that nobody may rely on, but repeatable
            job.results = [(operation.operation_id, *run(job, operation)) for operation in order]
        if job.state < len(STATES) - 1:
            job.state += 1
            job.moved_at = now
            if STATES[job.state] == "finished":
                job.completed_at = now

    def link(self, job: Job, now: datetime) -> str:
        """Give a fresh address for the results, "" before the end and after seven days."""
        if job.completed_at is None or now - job.completed_at > RESULT_LIFETIME:
            return ""
        self._links = {token: made for token, made in self._links.items() if now - made[1] <= URL_LIFETIME}
        job.links += 1
        token = f"{job.id}-{job.links}"
        self._links[token] = (job.id, now)
        return f"{job.base_url}/batch-results/{token}.tar.gz"

    def archive(self, token: str, now: datetime) -> bytes | None:
        """Give the archive behind an address, None when it is unknown or older than ten minutes."""
        job_id, made = self._links.get(token, ("", now))
        job = self._jobs.get(job_id)
        return _archive(job) if job is not None and now - made <= URL_LIFETIME else None

    def shown(self, job: Job, now: datetime) -> dict[str, Any]:
        """Give a batch as /batches shows it. `finished_operations` includes the failed ones."""
        return {
            "id": job.id,
            "status": STATES[job.state],
            "total_operations": len(job.operations),
            "finished_operations": len(job.results),
            "errored_operations": sum(1 for _, status, _ in job.results if status >= 400),
            "submitted_at": job.submitted_at.isoformat(timespec="seconds"),
            "completed_at": job.completed_at.isoformat(timespec="seconds") if job.completed_at else "",
            "response_body_url": self.link(job, now),
        }


def _archive(job: Job) -> bytes:
    """Pack the results as Mailchimp does: a folder entry, then files that each hold an array; how many is not promised."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        folder = tarfile.TarInfo("./")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for start in range(0, len(job.results), _PER_FILE):
            rows = [
                {"status_code": status, "operation_id": operation, "response": response}
                for operation, status, response in job.results[start : start + _PER_FILE]
            ]
            content = json.dumps(rows).encode()
            entry = tarfile.TarInfo(f"./{job.id}-{start // _PER_FILE}.json")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return gzip.compress(buffer.getvalue(), mtime=0)
