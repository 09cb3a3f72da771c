"""The one typer app and the options that commands share.

Lives here: how a command is declared. Must not: any command.

How to add a command: write `sync/cli/<group>.py`, import `app`, `ProjectFolder` and `AsJson` from here, put
`@app.command()` on a function, and name the module in `_GROUPS`. Everything heavy (ibis, duckdb, sqlalchemy, an SDK)
is imported inside the function, because `segue --help` imports every group. A command ends normally for exit code 0,
raises a `SegueError` for its exit code, and `typer.Exit(1)` for "some rejected"; it prints through `Output` alone.

    @app.command()
    def status(project: ProjectFolder = Path(), as_json: AsJson = False) -> None:
        '''Say what each destination holds.'''
        from ...core.config import load_project

        loaded = load_project(project)
        output = Output(as_json=as_json)
        ...
"""

import importlib
from pathlib import Path
from typing import Annotated

import typer

from ..telemetry import tracing
from ..telemetry.logs import LogFormat, LogLevel, configure

_EPILOGUE = """
Exit codes: 0 clean · 1 some contacts were rejected · 2 config, data or store · 3 an account or the network ·
4 a guardrail, stale steps, drift or a finding · 70 a bug in Segue · 130 interrupted.
"""

ProjectFolder = Annotated[
    Path,
    typer.Option(
        "--project", "-p", help="The folder with segue.yml.", show_default="this folder", metavar="FOLDER"
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]

app = typer.Typer(
    name="segue",
    help="Turns a shop's own data into segments, scores and product tokens, and syncs them, consent first, into "
    "its email platform.",
    epilog=_EPILOGUE,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:  # noqa: FBT001  (typer calls it with one positional argument)
    if wanted:
        from importlib.metadata import version

        typer.echo(f"segue {version('segue')}")
        raise typer.Exit


@app.callback()
def _everywhere(
    *,
    _asked: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
    log_format: Annotated[
        LogFormat, typer.Option(envvar="SEGUE_LOG_FORMAT", help="How log lines look, on stderr.")
    ] = LogFormat.NONE,
    log_level: Annotated[
        LogLevel, typer.Option(envvar="SEGUE_LOG_LEVEL", help="The least that is logged.")
    ] = LogLevel.INFO,
) -> None:
    """Set up what all commands share. A terminal has the progress, and stays free of log lines."""
    configure(log_format, log_level)
    if tracing.is_wanted():
        tracing.start()


# The order of `segue --help`: the way a newcomer goes.
_GROUPS = (
    "project",
    "data",
    "segments",
    "contact",
    "consent",
    "privacy",
    "fields",
    "sync",
    "pull",
    "control",
    "report",
    "audit",
    "schedule",
    "serve",
    "token",
    "connectors",
    "backup",
    "store",
    "sandbox",
)


def load_groups() -> None:
    """Import every group of commands, which registers them."""
    for group in _GROUPS:
        importlib.import_module(f".{group}", __package__)
