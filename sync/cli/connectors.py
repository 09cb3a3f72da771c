"""Which ESPs Segue can write to, ours and those of other packages, and what each can do.

Lives here: their words. Must not: know an ESP.
"""

from pathlib import Path
from typing import Annotated

import typer

from ...core.errors import ConfigError
from .app import AsJson, app
from .output import Output

connectors = typer.Typer(help="Which ESPs there are connectors for, and what each can do.")
app.add_typer(connectors, name="connectors")


@connectors.command("list")
def list_connectors(*, as_json: AsJson = False) -> None:
    """List all connectors, with the package that brings each, and what is wrong with one that cannot be loaded."""
    from ...connectors.registry import connector_class, listed

    output = Output(as_json=as_json)
    rows = []
    for each in listed():
        try:
            label, wrong = connector_class(each.name).label, ""
        except ConfigError as error:
            label, wrong = "", error.message
        rows.append({"name": each.name, "label": label, "package": each.package, "wrong": wrong})
    output.json(rows)
    output.table(
        "Connectors",
        ["name", "ESP", "comes with", "what is wrong"],
        [[row["name"], row["label"], row["package"], row["wrong"]] for row in rows],
    )


@connectors.command()
def describe(
    name: Annotated[str, typer.Argument(help="The connector's name, as a destination has it.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Say what a connector can do: fields, tags, batches, limits, webhooks, erasing."""
    from ...connectors.described import described
    from ...connectors.registry import connector_class

    output = Output(as_json=as_json)
    found = described(connector_class(name))
    output.json(found)
    output.table(f"{found['label']}", ["what", "how"], [[what, how] for what, how in found.items()])


@connectors.command()
def new(
    name: Annotated[str, typer.Argument(help="The new connector's name, in small letters.")],
    folder: Annotated[Path, typer.Option(help="Where to put the package.")] = Path(),
    *,
    as_json: AsJson = False,
) -> None:
    """Write a connector package to begin with: it works, and has the contract test in place."""
    from ...connectors.scaffold import make

    output = Output(as_json=as_json)
    written = make(name, folder)
    output.json([str(path) for path in written])
    root = written[0].parent
    output.say(f"Wrote {', '.join(str(path) for path in written)}.")
    output.say(
        f"Next: pip install -e '{root}[testing]', then pytest {root / 'tests'}; it passes. Now make it yours."
    )
