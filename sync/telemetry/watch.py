"""What a run tells the world when it begins and when it ended, in one order: store, log, metrics, alerts.

Only `sync.jobs` calls this. What cannot be told is a warning in the run's report and never changes how it ended.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import unquote, urlsplit

import structlog

from ...core.config import Project
from ...core.errors import ConfigError, SegueError
from ..report import Report
from ..store.audit import acting, of_run
from ..store.runs import RunStatus
from ..store.store import Store
from . import alerts, metrics
from .logs import quiet_unless_configured
from .redaction import WALL
from .tracing import span
from .words import outcomes

_LOG = structlog.get_logger(__name__)


@contextmanager
def watched(project: Project, store: Store, kind: str, report: Report) -> Iterator[None]:
    """Store that a run begins, and mark whatever is logged and traced while the block runs as this run's.

    A run that was found still open is a dead one: it is told like a failure.
    """
    quiet_unless_configured()
    WALL.learn(_secrets(project, report.destination))
    with (
        structlog.contextvars.bound_contextvars(run_id=report.run_id, destination=report.destination),
        span("run", kind=kind, run_id=report.run_id, destination=report.destination),
        acting(of_run(report.run_id)),
    ):
        store.runs.start(report.run_id, report.destination, kind)
        _LOG.info("run_started", kind=kind, snapshot_id=report.snapshot_id)
        dead = next((run for run in store.runs.newest(2, report.destination)[1:]), None)
        if dead is not None and dead.status is RunStatus.INTERRUPTED:
            _LOG.warning("run_interrupted", interrupted=dead.run_id)
            with _harmless(report):
                report.warnings += alerts.tell(project, store, dead)
        yield


def concluded(project: Project, store: Store, report: Report) -> None:
    """Store how a run ended, then tell it."""
    code = report.exit_code
    report.audit = str(store.audit.head())
    store.runs.finish(report.run_id, exit_code=code, report=report.as_json())
    _LOG.log(
        _LEVELS.get(code, _ERROR),
        "run_finished",
        exit_code=code,
        changes=outcomes(report.tally.report()),
        waiting=report.waiting,
        reads=report.reads,
        writes=report.writes,
        seconds=round(report.seconds, 2),
        error=type(report.error).__name__ if report.error else None,
    )
    before = len(report.warnings)
    with _harmless(report):
        metrics.keep(store, report.destination)
        if project.metrics.textfile is not None:
            path = project.folder / project.metrics.textfile
            metrics.write_textfile(path, store, project.destinations)
    with _harmless(report):
        for run in store.runs.newest(1, report.destination):
            report.warnings += alerts.tell(project, store, run)
    if more := report.warnings[before:]:
        _LOG.warning("not_told", warnings=more)
        with _harmless(report):
            store.runs.finish(report.run_id, exit_code=code, report=report.as_json())


@contextmanager
def _harmless(report: Report) -> Iterator[None]:
    """Let nothing that goes wrong in telling of a run end the run: it is worth more than what is told of it."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  (see above; its kind is said, its words may quote a path or an address)
        why = (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
        report.warnings.append(f"How this run went could not be told everywhere: {why}.")


_INFO, _WARNING, _ERROR = 20, 30, 40
_LEVELS = {0: _INFO, 1: _INFO, 4: _WARNING}


def _secrets(project: Project, destination: str) -> Iterator[str]:
    """Give every secret that this run works with, resolved."""
    settings = project.destinations[destination].settings
    with suppress(ConfigError):
        resolved = project.destination_settings(destination)
        yield from (resolved[name] for name, value in settings.items() if value.startswith(("env:", "file:")))
    with suppress(SegueError):
        url = project.store_url()
        if password := urlsplit(url).password:
            yield from (url, password, unquote(password))
