"""The commands around webhooks: serve, install, list and remove at the ESP, and what of them waits here.

Lives here: their words. Must not: decide what a message means; `sync.receiving` does.
"""

import itertools
import sys
from collections.abc import Container
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .app import AsJson, ProjectFolder, app
from .output import Output

if TYPE_CHECKING:
    from ...core.config import Project
    from ..web.receiver import Door

webhooks = typer.Typer(help="The webhooks by which an email platform tells `segue serve` what happens there.")
app.add_typer(webhooks, name="webhooks")

Named = Annotated[str, typer.Argument(help="A destination of segue.yml.", show_default=False)]


@app.command()
def serve(project: ProjectFolder = Path(), *, as_json: AsJson = False) -> None:
    """Listen for webhooks, and send opt-outs to all destinations at once, until SIGTERM or Ctrl-C. Safe to kill."""
    from ...core.config import load_project
    from ..store.store import Store
    from ..web.app import serve as listen

    output = Output(as_json=as_json)
    loaded = load_project(project)

    def announce(host: str, port: int) -> None:
        output.json({"host": host, "port": port})
        output.say(f"Listening on http://{host}:{port}; Ctrl-C ends it.")
        if not any(config.webhooks for config in loaded.destinations.values()):
            output.say(
                "No destination has `webhooks`: who left is asked now and then. docs/webhooks.md shows how."
            )
        sys.stdout.flush()

    with Store.of(loaded) as store:
        listen(loaded, store, announce)


@webhooks.command()
def install(destination: Named, project: ProjectFolder = Path(), *, as_json: AsJson = False) -> None:
    """Have the platform post to `serve: public_url`; it tries the address at once, so `segue serve` must run."""
    from ...core.config import load_project
    from ...core.errors import ConfigError
    from ..opening import open_connector
    from ..web.app import path_of

    output = Output(as_json=as_json)
    loaded = load_project(project)
    door = _door(loaded, destination)
    if loaded.serve.public_url is None:
        raise ConfigError(
            f"{loaded.place('serve')}: there is no public_url. Write the address by which the world reaches"
            " `segue serve`, such as https://hooks.shop.example."
        )
    connector = open_connector(loaded, destination)
    made = connector.install_webhook(
        _free(
            loaded.serve.public_url.rstrip("/") + path_of(door),
            {each.url for each in connector.installed_webhooks()},
        )
    )
    output.json({"id": made.id, "events": made.events, "signing_secret": made.secret})
    output.say(f"{destination} posts {', '.join(made.events)} from now on (webhook {made.id}).")
    if made.secret:
        output.say(
            "It signs what it posts, and shows the secret this once:\n"
            f"  {made.secret}\n"
            f"Keep it where `destinations: {destination}: webhooks: secrets` reads it, then start `segue serve` again."
        )


@webhooks.command("list")
def list_(destination: Named, project: ProjectFolder = Path(), *, as_json: AsJson = False) -> None:
    """Show the webhooks that the account has; the last part of a path of ours is a secret and stays hidden."""
    from ...core.config import load_project
    from ..opening import open_connector

    output = Output(as_json=as_json)
    loaded = load_project(project)
    loaded.destinations_named(destination)
    rows = [
        {"id": each.id, "url": _hidden(each.url), "events": list(each.events)}
        for each in open_connector(loaded, destination).installed_webhooks()
    ]
    output.json(rows)
    output.table(destination, ["id", "address", "events"], [[r["id"], r["url"], r["events"]] for r in rows])


@webhooks.command()
def remove(
    destination: Named,
    webhook: Annotated[
        str, typer.Argument(help="Its id, as `segue webhooks list` shows it.", show_default=False)
    ],
    project: ProjectFolder = Path(),
    *,
    as_json: AsJson = False,
) -> None:
    """Take a webhook away from the account; polling goes on."""
    from ...core.config import load_project
    from ..opening import open_connector

    output = Output(as_json=as_json)
    loaded = load_project(project)
    loaded.destinations_named(destination)
    open_connector(loaded, destination).remove_webhook(webhook)
    output.json({"removed": webhook})
    output.say(f"{destination} no longer has the webhook {webhook}.")


@webhooks.command()
def inbox(project: ProjectFolder = Path(), *, as_json: AsJson = False) -> None:
    """Show how many messages wait, since when, and which were given up and why. Exit code 1 when any were."""
    from ...core.config import load_project
    from ..store.store import Store

    output = Output(as_json=as_json)
    loaded = load_project(project)
    with Store.of(loaded) as store:
        rows: list[dict[str, Any]] = [
            {
                "destination": name,
                "waiting": (counts := store.inbox.counts(name)).waiting,
                "oldest": counts.oldest_at,
                "given_up": counts.dead,
                "why": store.inbox.problems(name),
            }
            for name, config in loaded.destinations.items()
            if config.webhooks
        ]
    output.json(rows)
    if not rows:
        output.say("No destination has `webhooks`. docs/webhooks.md shows how.")
        return
    columns = ["destination", "waiting", "oldest", "given_up"]
    output.table("", columns, [[row[name] for name in columns] for row in rows])
    for row in rows:
        for why, count in row["why"].items():
            output.say(f"{row['destination']}: {count:,} given up: {why}", style="yellow")
    if any(row["given_up"] for row in rows):
        output.say(
            "`segue webhooks retry DESTINATION` has them tried again; the next pull asks who left in any case."
        )
        raise typer.Exit(1)


@webhooks.command()
def retry(destination: Named, project: ProjectFolder = Path(), *, as_json: AsJson = False) -> None:
    """Have messages that were given up tried again, by the `segue serve` that runs or by the next one."""
    from ...core.config import load_project
    from ..store.store import Store

    output = Output(as_json=as_json)
    loaded = load_project(project)
    loaded.destinations_named(destination)
    with Store.of(loaded) as store:
        count = store.inbox.revive(destination)
    output.json({"destination": destination, "messages": count})
    output.say(f"{count:,} messages of {destination} are tried again.")


def _door(loaded: "Project", destination: str) -> "Door":
    from ...core.errors import ConfigError
    from ..web.app import doors

    loaded.destinations_named(destination)
    for door in doors(loaded):
        if door.destination == destination:
            return door
    raise ConfigError(
        f"{loaded.place('destinations', destination)}: there is no `webhooks` with a token. docs/webhooks.md shows how."
    )


def _free(url: str, taken: Container[str]) -> str:
    """Give an address that no webhook of the account has: a new one may replace another without a gap."""
    addresses = itertools.chain([url], (f"{url}/{number}" for number in itertools.count(2)))
    return next(address for address in addresses if address not in taken)


def _hidden(url: str) -> str:
    """Give an address without the token that lets people in."""
    before, mark, rest = url.partition("/webhooks/")
    return f"{before}{mark}{rest.partition('/')[0]}/..." if mark and "/" in rest else url
