"""The commands that show what happened and tell others: report, alert.

Lives here: their words. Must not: know what a run means (`sync.telemetry`).
"""

from pathlib import Path
from typing import Annotated

import typer

from .app import AsJson, ProjectFolder, app
from .output import Output, words


@app.command()
def report(
    run: Annotated[
        str | None, typer.Argument(help="A run's id; the newest that was to send something if not given.")
    ] = None,
    project: ProjectFolder = Path(),
    html: Annotated[
        Path | None, typer.Option("--html", help="Write one page that needs no network.", metavar="FILE")
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Show what one run did and what to do next; as a page for others with --html. It names nobody."""
    from ...core.config import load_project
    from ...core.errors import ConfigError
    from ..gate import reason_in_words
    from ..store.store import Store
    from ..telemetry.page import page
    from ..telemetry.words import phases, summary, withheld

    output = Output(as_json=as_json)
    loaded = load_project(project)
    with Store.of(loaded) as store:
        found = store.runs.get(run) if run else store.runs.last_whole()
    if found is None:
        raise ConfigError(
            f"There is no run {run}. `segue runs` lists them."
            if run
            else "No run yet. Start with `segue run`."
        )
    if html is not None:
        html.write_text(page(found, loaded.project), encoding="utf-8")
    output.json(found)
    said = summary(found)
    output.say(
        f"{found.destination}, {found.kind} of {words(found.started_at)}: {said.headline}",
        style="bold" if said.well else "bold red",
    )
    told = found.report
    if told.get("error"):
        output.say(told["error"])
    output.table(
        "Outcomes",
        ["operation", "outcome", "changes"],
        [[o, status, n] for o, by in told.get("outcomes", {}).items() for status, n in by.items()],
    )
    for reason in told.get("reasons", ())[:10]:
        output.say(f"  {reason['count']:,} {reason['status']}: {reason['reason']}")
    output.table(
        "Withheld",
        ["reason", "contacts", "in words"],
        [[reason, n, reason_in_words(reason)] for reason, n in withheld(told)],
    )
    output.table("Time", ["part", "seconds"], [list(row) for row in phases(told)])
    for line in (*told.get("guardrails", ()), *told.get("notes", ()), *told.get("warnings", ())):
        output.say(f"! {line}", style="yellow")
    if told.get("audit"):
        output.say(f"Head of the audit: {told['audit']}", style="dim")
    for step in said.steps:
        output.say(f"Next: {step.text}{f' `{step.command}`' if step.command else ''}")
    if html is not None:
        output.say(f"Wrote {html}.")


@app.command()
def alert(
    project: ProjectFolder = Path(),
    *,
    test: Annotated[bool, typer.Option("--test", help="Send a test message to each of them.")] = False,
    as_json: AsJson = False,
) -> None:
    """List whom `alerts` in segue.yml tells when a sync fails; with --test, tell them that this is a test."""
    from ...core.config import load_project
    from ...core.errors import DestinationError

    output = Output(as_json=as_json)
    loaded = load_project(project)
    rows = [
        {
            "url": each.url,  # where the address stands, not the address
            "format": each.format,
            "destinations": list(each.destinations or loaded.destinations),
        }
        for each in loaded.alerts
    ]
    if test:
        from ..telemetry.alerts import test as send

        if failed := send(loaded):
            raise DestinationError(" ".join(failed))
    output.json(rows)
    if not rows:
        output.say("This project tells nobody. Add `alerts` to segue.yml.")
        return
    output.table("Told" if test else "", list(rows[0]), [list(row.values()) for row in rows])
