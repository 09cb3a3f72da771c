"""The figures of the runs for Prometheus, as text: for a server's /metrics and for a node exporter's textfile.

Everything is read from the store, so it survives processes: gauges from a destination's last runs, counters from sums
that each run adds itself to. Labels are a destination's name, an operation, an outcome, a code; never a contact.

The loser was prometheus_client's own counters with its multiprocess folder: they begin at zero with every process,
and a run by cron is a process a night.
"""

import json
import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Self

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from ..store.runs import Run, RunStatus
from ..store.store import Store
from .words import ended_well

_SUMS: Final = "metrics"  # the cursor that holds a destination's sums
_RECENT: Final = 200  # runs that may have ended since the sums were stored last
_BUCKETS: Final = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0)
_CODES: Final = 40  # so many different codes of refusals get a line of their own
_SENDING: Final = frozenset({"run", "apply"})

_COUNTERS: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "segue_runs": ("Runs that ended.", ("kind", "exit_code")),
    "segue_changes": ("Changes by what became of them.", ("operation", "status")),
    "segue_rejected_changes": ("Changes that the platform refused, by its code.", ("code",)),
    "segue_requests": ("Requests sent, retries included.", ("kind",)),
    "segue_answers": ("Requests by class of HTTP status; none where no whole answer came.", ("status",)),
    "segue_retried_requests": ("Requests sent again.", ()),
    "segue_throttled_requests": ("Requests that were told to slow down.", ()),
}


@dataclass(slots=True, kw_only=True)
class Sums:
    """What a destination's runs came to since the store was made, up to the run that began at `until`."""

    until: str = ""
    last_success: float = 0.0
    counters: dict[str, Counter[tuple[str, ...]]] = field(default_factory=dict)
    seconds: dict[str, list[float]] = field(default_factory=dict)

    @classmethod
    def of(cls, store: Store, destination: str) -> Self:
        """Read the stored sums and add the runs that ended since."""
        sums = cls.parse(store.destinations.cursor(destination, _SUMS) or "{}")
        for run in reversed(store.runs.newest(_RECENT, destination)):
            if run.status is not RunStatus.RUNNING and _moment(run) > sums.until:
                sums.add(run)
        return sums

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `text` back."""
        raw = json.loads(text)
        counters = {
            name: Counter({tuple(labels): number for *labels, number in rows})
            for name, rows in raw.get("counters", {}).items()
        }
        return cls(**{**raw, "counters": counters})

    def text(self) -> str:
        """Give what the store keeps."""
        counters = {
            name: [[*labels, number] for labels, number in sorted(rows.items())]
            for name, rows in self.counters.items()
        }
        return json.dumps(
            {
                "until": self.until,
                "last_success": self.last_success,
                "counters": counters,
                "seconds": self.seconds,
            }
        )

    def add(self, run: Run) -> None:
        """Add one run that ended."""
        self.until = _moment(run)
        report = run.report
        code = str(run.status if run.exit_code is None else run.exit_code)
        self._count("segue_runs", 1, run.kind, code)
        if ended_well(run) and run.kind in _SENDING and run.finished_at is not None:
            self.last_success = run.finished_at.timestamp()
        for operation, by_status in report.get("outcomes", {}).items():
            for status, number in by_status.items():
                self._count("segue_changes", number, operation, status)
        for reason in report.get("reasons", ()):
            if reason["status"] == "rejected":
                self._count("segue_rejected_changes", reason["count"], self._code(reason["code"]))
        requests = report.get("requests", {})
        for kind in ("read", "write"):
            self._count("segue_requests", requests.get(kind, 0), kind)
        for status, number in requests.get("by_status", {}).items():
            self._count("segue_answers", number, status)
        self._count("segue_retried_requests", requests.get("retried", 0))
        self._count("segue_throttled_requests", requests.get("throttled", 0))
        for phase, seconds in report.get("phases", {}).items():
            # Counts by bucket, not cumulated; the last but one is what is above all, the last is the sum of seconds.
            row = self.seconds.setdefault(phase, [0.0] * (len(_BUCKETS) + 2))
            row[next((i for i, limit in enumerate(_BUCKETS) if seconds <= limit), len(_BUCKETS))] += 1
            row[-1] += seconds

    def _count(self, name: str, number: int, *labels: str) -> None:
        self.counters.setdefault(name, Counter())[labels] += number

    def _code(self, code: str) -> str:
        known = self.counters.get("segue_rejected_changes", Counter())
        return code if (code,) in known or len(known) < _CODES else "other"


def _moment(run: Run) -> str:
    return f"{run.started_at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f} {run.run_id}"


class _LastRuns(Collector):
    """Reads the store anew at each collection."""

    def __init__(self, store: Store, destinations: Iterable[str]) -> None:
        self._store = store
        self._destinations = tuple(destinations)

    def collect(self) -> Iterator[Metric]:
        """Give all families."""
        sums = {name: Sums.of(self._store, name) for name in self._destinations}
        yield from _counters(sums)
        yield _histogram(sums)
        yield from self._gauges(sums)

    def _gauges(self, sums: Mapping[str, Sums]) -> Iterator[Metric]:
        waiting = _gauge("segue_waiting_changes", "Changes that are planned and not confirmed yet.")
        success = _gauge("segue_last_success_timestamp_seconds", "When a run last ended well.")
        ended = _gauge("segue_last_run_timestamp_seconds", "When the last run ended, well or not.")
        code = _gauge("segue_last_run_exit_code", "How the last run ended; 0 and 1 are well.")
        took = _gauge("segue_last_run_duration_seconds", "How long the last run took.")
        snapshot = _gauge("segue_snapshot_timestamp_seconds", "When the data of the last run were computed.")
        withheld = _gauge(
            "segue_withheld_contacts", "Contacts that the last plan gave nothing, by reason.", "reason"
        )
        for name, of in sums.items():
            waiting.add_metric([name], sum(self._store.outbox.pending_counts(name).values()))
            if of.last_success:
                success.add_metric([name], of.last_success)
            recent = [
                run for run in self._store.runs.newest(_RECENT, name) if run.status is not RunStatus.RUNNING
            ]
            for run in [run for run in recent if run.kind in _SENDING][:1]:
                if run.finished_at is not None:
                    ended.add_metric([name], run.finished_at.timestamp())
                if run.exit_code is not None:
                    code.add_metric([name], run.exit_code)
                    took.add_metric([name], run.report.get("seconds", 0.0))
            planned = next((run for run in recent if run.report.get("plan_id")), None)
            if planned is not None:
                for reason, number in sorted(planned.report.get("withheld", {}).items()):
                    withheld.add_metric([name, reason], number)
            if recent and (made := _made(recent[0].report.get("snapshot_id", ""))) is not None:
                snapshot.add_metric([name], made)
        yield from (waiting, success, ended, code, took, snapshot, withheld)


def exposition(store: Store, destinations: Iterable[str]) -> bytes:
    """Give the figures of these destinations in Prometheus' text format, as `prometheus_client.CONTENT_TYPE_LATEST`."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_LastRuns(store, destinations))
    return generate_latest(registry)


def keep(store: Store, destination: str) -> None:
    """Store the sums up to the last run that ended. Call it under the destination's lease."""
    store.destinations.set_cursor(destination, _SUMS, Sums.of(store, destination).text())


def write_textfile(path: Path, store: Store, destinations: Iterable[str]) -> None:
    """Write the exposition, whole or not at all. Raises OSError.

    Runs of two destinations may write at the same time: whoever wrote looks once more, and so the last one that
    wrote saw what both did.
    """
    names, written = list(destinations), b""
    path.parent.mkdir(parents=True, exist_ok=True)
    while (now := exposition(store, names)) != written:
        # The collector reads every *.prom in the folder, so the draft has another ending.
        handle, draft = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(now)
            Path(draft).chmod(0o644)  # another user collects it
            Path(draft).replace(path)
        except BaseException:
            Path(draft).unlink(missing_ok=True)
            raise
        written = now


def _counters(sums: Mapping[str, Sums]) -> Iterator[Metric]:
    for name, (words, labels) in _COUNTERS.items():
        family = CounterMetricFamily(name, words, labels=["destination", *labels])
        for destination, of in sums.items():
            for values, number in sorted(of.counters.get(name, {}).items()):
                family.add_metric([destination, *values], number)
        yield family


def _histogram(sums: Mapping[str, Sums]) -> Metric:
    family = HistogramMetricFamily(
        "segue_phase_duration_seconds", "How long the parts of a run took.", labels=["destination", "phase"]
    )
    for destination, of in sums.items():
        for phase, (*counts, total) in sorted(of.seconds.items()):
            edges = [*map(str, _BUCKETS), "+Inf"]
            sofar = [sum(counts[: index + 1]) for index in range(len(counts))]
            family.add_metric([destination, phase], list(zip(edges, sofar, strict=True)), total)
    return family


def _gauge(name: str, words: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, words, labels=["destination", *labels])


def _made(snapshot_id: str) -> float | None:
    """Give the moment that a snapshot's id begins with."""
    try:
        return (
            datetime.strptime(snapshot_id.partition("-")[0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
        )
    except ValueError:
        return None
