"""The commands around the tokens of the API: create, list, revoke.

Lives here: their words. Must not: know what a role may see; `sync.web.api` does.
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from .app import AsJson, ProjectFolder, app
from .output import Output

token = typer.Typer(help="The tokens by which people and programs are let into the API of `segue serve`.")
app.add_typer(token, name="token")

Named = Annotated[str, typer.Argument(help="Whose it is, e.g. grafana.", show_default=False)]


class RoleName(StrEnum):
    """The roles, spelt here too: the store costs too long to import for `--help`."""

    ADMIN = "admin"
    MARKETER = "marketer"


@token.command()
def create(
    name: Named,
    role: Annotated[
        RoleName, typer.Option(help="A marketer sees no raw addresses, and no metrics.", show_default=False)
    ],
    project: ProjectFolder = Path(),
    *,
    as_json: AsJson = False,
) -> None:
    """Make a token and show it this once. It is good until `segue token revoke`."""
    from ...core.config import load_project
    from ...core.errors import ConfigError
    from ..store.store import Store
    from ..store.tokens import Role

    output = Output(as_json=as_json)
    if not name.isprintable() or not name.strip():
        raise ConfigError("A token's name is a word or two that can be read.")
    with Store.of(load_project(project)) as store:
        secret = store.tokens.create(name, Role(role.value))
    output.json({"name": name, "role": role, "token": secret})
    output.say(
        f"{secret}\n"
        f"This is shown once, and only its hash is kept. Send it as `Authorization: Bearer ...`;"
        f" `segue token revoke {name}` ends it."
    )


@token.command("list")
def list_(project: ProjectFolder = Path(), *, as_json: AsJson = False) -> None:
    """List the tokens that are good, without their secrets."""
    from ...core.config import load_project
    from ..store.store import Store

    output = Output(as_json=as_json)
    with Store.of(load_project(project)) as store:
        found = store.tokens.all()
    output.json(found)
    if not found:
        output.say("Nobody has a token. `segue token create NAME --role marketer` makes one.")
        return
    output.table("", ["name", "role", "made"], [[each.name, each.role, each.made_at] for each in found])


@token.command()
def revoke(name: Named, project: ProjectFolder = Path(), *, as_json: AsJson = False) -> None:
    """End a token, at once and also for a server that runs."""
    from ...core.config import load_project
    from ...core.errors import ConfigError
    from ..store.store import Store

    output = Output(as_json=as_json)
    with Store.of(load_project(project)) as store:
        ended = store.tokens.revoke(name)
    if not ended:
        raise ConfigError(f'There is no token "{name}". `segue token list` shows them.')
    output.json({"revoked": name})
    output.say(f"{name} is let in no longer.")
