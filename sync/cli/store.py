"""The commands about the store as a whole: rotate-key.

Lives here: their words. Must not: touch a value; `sync.store.encryption` does.
"""

from contextlib import ExitStack
from pathlib import Path

import typer

from .app import AsJson, ProjectFolder, app
from .output import Output

store = typer.Typer(help="The store as a whole.")
app.add_typer(store, name="store")


@store.command("rotate-key")
def rotate_key(project: ProjectFolder = Path(), *, as_json: AsJson = False) -> None:
    """Encrypt all that the store holds of people under the newest key of `encryption_key`. Killed, call it again.

    Give the new key and behind it, with a space, the old one; restart `segue serve` and `segue schedule` with both;
    run this; then take the old key away. With a first key it encrypts what was stored before.
    """
    from ...core.config import load_project
    from ..store.store import Store

    output = Output(as_json=as_json)
    loaded = load_project(project)
    with Store.of(loaded) as opened, ExitStack() as held, output.progress("encrypt") as progress:
        for name in loaded.destinations:  # a run that was started with the old key would go on to use it
            held.enter_context(opened.leases.hold(name))
        done = opened.rotate_key(lambda table, count: progress(f"{table}: {count:,} values", 0.0))
    output.json(done)
    for table, count in done.values.items():
        output.say(f"{table}: {count:,} values encrypted anew.")
    output.say(f"All values are under the key {done.key}. An older key is needed only for older backups.")
