"""The command that starts runs by the clock.

Lives here: its words. Must not: decide when something is due; `sync.schedule` does.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from ..telemetry.logs import LogFormat
from .app import AsJson, ProjectFolder, app
from .output import Output, words

_SHOWN = 3  # firings ahead


@app.command()
def schedule(
    context: typer.Context,
    project: ProjectFolder = Path(),
    *,
    listed: Annotated[bool, typer.Option("--list", help="Show what comes next, and stop.")] = False,
    as_json: AsJson = False,
) -> None:
    """Start what `schedule` in segue.yml says, by the clock, until SIGTERM or Ctrl-C. Safe to kill and to restart."""
    from datetime import UTC, datetime

    from ...core.config import load_project
    from ..schedule import Scheduler, upcoming

    output = Output(as_json=as_json)
    loaded = load_project(project)
    ahead = upcoming(loaded, datetime.now(UTC), _SHOWN)
    output.json(ahead)
    output.table(
        "",
        ["name", "command", "cron", "in words", f"next ({loaded.timezone})", "then"],
        [[e.name, e.command, e.cron, e.in_words, e.next[0], list(e.next[1:])] for e in ahead],
    )
    if listed:
        return

    # Log lines say the same, where they are wanted.
    quiet = (
        context.parent is not None and LogFormat(context.parent.params["log_format"]) is not LogFormat.NONE
    )

    def say(text: str) -> None:
        if quiet:
            return
        sys.stderr.write(f"{words(datetime.now(UTC))} {text}\n")
        sys.stderr.flush()

    code = Scheduler(loaded, say).serve()
    if code:
        raise typer.Exit(code)
