"""Messages to people when a destination begins to fail and when it is well again: once each.

What was said last stands in the store, and only after it was delivered; so a message that got lost is sent by the next
run, and none is sent twice. Nothing here may end a run: a message that cannot be delivered is a warning.

Whether a destination is well is told by what works on it, not by looks at it: a `plan` neither alerts nor heals, and
a `pull` or a `verify` that fails is healed by its like or by a whole run, never a failed run by a pull.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import requests
import structlog
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt

from ...core.config import AlertConfig, Project
from ...core.errors import ConfigError, SegueError
from ...core.settings import resolve_secret
from ..store.runs import Run
from ..store.store import Store
from ..unforeseen import as_ours, is_interrupt
from .redaction import WALL
from .words import Summary, ended_well, summary

_LOG = structlog.get_logger(__name__)
_SECONDS: Final = (3.05, 5.0)  # to connect, and to answer: a run waits for it
_TRIES: Final = 2
_LOOKS: Final = frozenset({"plan"})
_WHOLE: Final = frozenset({"run", "apply"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What is told about one destination. `event` is failed, recovered or test."""

    event: str
    project: str
    destination: str
    headline: str
    run_id: str = ""
    kind: str = ""
    exit_code: int | None = None
    detail: str = ""
    steps: tuple[str, ...] = ()

    def body(self, form: str) -> dict[str, Any]:
        """Give what is posted, in one of the two forms."""
        told = {
            name: WALL.value(getattr(self, name))
            for name in (
                "event",
                "project",
                "destination",
                "run_id",
                "kind",
                "exit_code",
                "headline",
                "detail",
            )
        } | {"steps": [WALL.text(step) for step in self.steps]}
        if form == "json":
            return told
        lines = [
            f"Segue, {told['project']}, {told['destination']}: {_VERBS[self.event]}. {told['headline']}",
            *([told["detail"]] if told["detail"] else []),
            *(f"• {step}" for step in told["steps"]),
            *([f"run {told['run_id']}, exit code {told['exit_code']}"] if self.run_id else []),
        ]
        # Slack reads these three as markup.
        text = "\n".join(lines).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        return {"text": text}


_VERBS: Final = {"failed": "failed", "recovered": "is well again", "test": "this is a test"}


def tell(project: Project, store: Store, run: Run) -> list[str]:
    """Tell whoever wants to know that a run failed, or that all is well again. Gives what could not be delivered."""
    if run.kind in _LOOKS:
        return []
    failed = not ended_well(run)
    said = summary(run)
    return list(_deliver_each(project, store, _message(project, run, said), failed=failed))


@contextmanager
def telling(project: Project, destinations: Sequence[str]) -> Iterator[None]:
    """Tell when the block fails, which stands before a run is recorded: a build, or a store that does not open."""
    try:
        yield
    except Exception as error:
        if project.alerts and not is_interrupt(error):
            _tell_unstarted(project, destinations, error if isinstance(error, SegueError) else as_ours(error))
        raise


def _tell_unstarted(project: Project, destinations: Sequence[str], error: SegueError) -> None:
    messages = [
        Message(
            event="failed",
            project=project.project,
            destination=name,
            headline="The run failed before it began. Nothing was sent.",
            kind="run",
            exit_code=error.exit_code,
            detail=error.message,
            steps=("Find every mistake at once. segue check",),
        )
        for name in destinations
    ]
    try:
        with Store.of(project) as store:
            for message in messages:
                list(_deliver_each(project, store, message, failed=True))
    except SegueError:
        # Without a store nobody knows what was told before: rather twice than never.
        for message in messages:
            for alert in _receivers(project, message.destination):
                _post(project, alert, message)


def test(project: Project) -> list[str]:
    """Send a test message to every address, whatever was said before. Gives what could not be delivered."""
    warnings = []
    for alert in project.alerts:
        message = Message(
            event="test",
            project=project.project,
            destination=", ".join(alert.destinations or project.destinations) or "no destination",
            headline="Whoever reads this will hear when a sync fails, and when it is well again.",
        )
        warnings += _post(project, alert, message)
    return warnings


def _message(project: Project, run: Run, said: Summary) -> Message:
    return Message(
        event="recovered" if said.well else "failed",
        project=project.project,
        destination=run.destination,
        headline=said.headline,
        run_id=run.run_id,
        kind=run.kind,
        exit_code=run.exit_code,
        detail=str(run.report.get("error") or ""),
        steps=() if said.well else tuple(f"{step.text} {step.command}".strip() for step in said.steps),
    )


def _receivers(project: Project, destination: str) -> list[AlertConfig]:
    return [each for each in project.alerts if not each.destinations or destination in each.destinations]


def _deliver_each(project: Project, store: Store, message: Message, *, failed: bool) -> Iterator[str]:
    kind, destination = message.kind, message.destination
    for alert in _receivers(project, destination):
        # By where the address stands, not by the address: that is a secret, and changes with a new one.
        name = f"alerted {hashlib.sha256(f'{alert.url} {alert.format}'.encode()).hexdigest()[:12]}"
        state = json.loads(store.destinations.cursor(destination, name) or "{}")
        known = state.get("failed")
        if failed is (known is not None) or not (failed or kind in _WHOLE or kind == known):
            continue
        warnings = _post(project, alert, message)
        yield from warnings
        if not warnings:
            store.destinations.set_cursor(destination, name, json.dumps({"failed": kind} if failed else {}))


def _post(project: Project, alert: AlertConfig, message: Message) -> list[str]:
    """Post one message; give the warning if it was not taken, without its address, which is a secret."""
    trying = Retrying(
        stop=stop_after_attempt(_TRIES),
        retry=retry_if_exception_type(requests.RequestException),
        reraise=True,
    )
    try:
        url = resolve_secret(alert.url, project.folder)
        # Also without scheme and host, which are logged apart from the rest at the most talkative level.
        WALL.learn([url, url.partition("://")[2].partition("/")[2]])
        trying(_send, url, message.body(alert.format))
    except ConfigError as error:
        why = error.message
    except requests.HTTPError as error:
        why = str(error)
    except (requests.RequestException, ValueError) as error:  # their words quote the address
        why = type(error).__name__
    else:
        _LOG.info("alert_sent", alert=message.event)
        return []
    _LOG.warning("alert_not_delivered", alert=message.event, why=why)
    place = project.place("alerts", project.alerts.index(alert))
    return [f"The alert of {place} about {message.destination} was not delivered: {why}."]


def _send(url: str, body: dict[str, Any]) -> None:
    answer = requests.post(url, json=body, timeout=_SECONDS, allow_redirects=False)
    if not 200 <= answer.status_code < 300:
        raise requests.HTTPError(f"it answered {answer.status_code}")
