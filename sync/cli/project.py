"""The commands that make and check a project: init, check, schema.

Lives here: their words. Must not: what a good project is (`core.starter`, `sync.check`).
"""

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from .app import AsJson, ProjectFolder, app
from .output import Output


class SchemaOf(StrEnum):
    """The files whose JSON Schema can be printed."""

    PROJECT = "project"
    MAPPING = "mapping"


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="The folder to make the project in.")],
    data: Annotated[Path, typer.Option(help="The folder with the shop's CSV, Parquet and JSONL files.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Look at a folder of data files and write a working, commented project."""
    from datetime import UTC, datetime

    from ...core.starter import init as make
    from ...mappings.mapping import starter

    output = Output(as_json=as_json)
    made = make(folder, data, now=datetime.now(UTC), mapping=starter("mailchimp").read_text(encoding="utf-8"))
    output.json(made)
    output.table(
        f"Looked at {data}",
        ["file", "holds", "found", "decimal", "further columns"],
        [
            [file.path.name, file.table or "nothing of use", file.why, file.decimal, list(file.extra)]
            for file in made.files
        ],
    )
    for guess in made.guesses:
        output.say(f"guessed: {guess}")
    for open_question in made.open_questions:
        output.say(f"not found: {open_question}", style="yellow")
    output.say(f"\nWrote {', '.join(str(path) for path in made.written)}.")
    output.say(f"Next: read {made.written[0]}, then `segue check -p {folder}` and `segue build -p {folder}`.")


@app.command()
def check(project: ProjectFolder = Path(), *, as_json: AsJson = False) -> None:
    """Find every mistake in config, data, rules, mappings and secrets. Sends nothing."""
    from ...core.config import load_project
    from ...core.errors import ConfigError
    from ..check import check as look

    output = Output(as_json=as_json)
    found = look(load_project(project))
    if found.problems:
        raise ConfigError.of(found.problems)
    output.json(found)
    output.say(
        f"All well. Sources: {found.sources}, traits: {found.traits}, segments: {found.segments}, "
        f"destinations: {found.destinations}. Nothing was sent."
    )


@app.command()
def schema(
    of: Annotated[SchemaOf, typer.Argument(help="Which file's schema.")] = SchemaOf.PROJECT,
    *,
    as_json: AsJson = False,  # noqa: ARG001  (a schema is JSON either way; scripts may still say so)
) -> None:
    """Print the JSON Schema of segue.yml or of a mapping, for completion in editors."""
    if of is SchemaOf.MAPPING:
        from ...mappings.mapping import mapping_schema

        content = mapping_schema()
    else:
        from ...core.config import project_schema

        content = project_schema()
    json.dump(content, sys.stdout, indent=2)
    sys.stdout.write("\n")
