"""The command that copies the store away.

Lives here: its words. Must not: know what a store is made of; `sync.store.backup` does.
"""

from pathlib import Path
from typing import Annotated

import typer

from .app import AsJson, ProjectFolder, app
from .output import Output


@app.command()
def backup(
    file: Annotated[Path, typer.Argument(help="The tar file to write; it must not be there yet.")],
    project: ProjectFolder = Path(),
    *,
    as_json: AsJson = False,
) -> None:
    """Copy the store and its contact key into one file, also while a run is at work."""
    from ...core.config import load_project
    from ..store.backup import backup as write

    output = Output(as_json=as_json)
    written = write(load_project(project), file)
    output.json(written)
    output.say(f"Wrote {written.file}: {', '.join(written.holds)}, {written.size:,} bytes.")
    if written.key_elsewhere:
        output.say(
            f"The contact key is not in it: it comes from {written.key_elsewhere}. Keep it as safe as this file; "
            "without it the store knows nobody.",
            style="yellow",
        )
