"""The command that asks destinations what changed there: pull.

Lives here: its words. Must not: decide what a change means; `sync.pulling` does.
"""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .app import AsJson, ProjectFolder, app
from .output import Output
from .sync import Override, end, opened

if TYPE_CHECKING:
    from ..jobs import Job
    from ..report import Report


@app.command()
def pull(
    destination: Annotated[
        str | None, typer.Argument(help="A destination of segue.yml; all if not given.", show_default=False)
    ] = None,
    project: ProjectFolder = Path(),
    *,
    full: Annotated[
        bool, typer.Option("--full", help="Read everyone, and take note of who is there no more.")
    ] = False,
    override: Override = False,
    as_json: AsJson = False,
) -> None:
    """Ask what changed at a destination, all when none is named: who left, came back, moved or is gone.

    Nothing is written there; who left is opted out at the other destinations at once. Safe to kill and to repeat.
    """
    from ...core.config import load_project
    from ...core.errors import SegueError
    from ..jobs import pull as look
    from ..telemetry.alerts import telling

    output = Output(as_json=as_json)
    loaded = load_project(project)
    names = loaded.destinations_named(destination)
    reports: list[Report] = []
    failed: dict[str, SegueError] = {}
    for name in names:
        try:
            with ExitStack() as stack:
                with telling(loaded, [name]):
                    job = stack.enter_context(opened(project, name))
                progress = stack.enter_context(output.progress(f"pull {name}"))
                reports.append(look(job, progress, full=full, override=override))
        except SegueError as error:  # one account's trouble does not stop the others
            failed[name] = error
    for name in loaded.destinations:
        try:
            with opened(project, name) as job:
                reports += _opt_out(output, job)
        except SegueError as error:  # they wait in its outbox, ahead of everything else
            failed.setdefault(name, error)
    if len(names) == 1 and set(failed) == set(names):
        raise failed[names[0]]
    for report in reports:
        if report.pulled:
            output.say(
                f"{report.destination}: {report.pulled:,} contacts read, {report.values:,} values of others"
            )
    end(output, reports, list(failed.items()))


def _opt_out(output: Output, job: "Job") -> "list[Report]":
    """Send a destination's opt-outs, unless somebody else does or it is paused."""
    from ..opting_out import send_opt_outs
    from ..store.leases import LeaseHeldError

    pause = job.store.pauses.of(job.destination)
    if not job.store.outbox.urgent(job.destination, 1) or (pause and pause.opt_outs):
        return []
    try:
        return [send_opt_outs(job)]
    except LeaseHeldError as error:  # by a run, which sends them first
        output.say(f"{job.destination}: opt-outs wait there. {error.message}", style="yellow")
        return []
