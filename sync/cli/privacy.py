"""The commands around the rights of persons: forget, access, purge, privacy check.

Lives here: their words. Must not: remove or gather anything; `sync.rights` does.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .app import AsJson, ProjectFolder, app
from .output import Output
from .sync import opened

if TYPE_CHECKING:
    from ...core.config import Project
    from ..store.erasures import Erasure
    from ..store.store import Store

privacy = typer.Typer(help="What a project does with people's data, and what should be better.")
app.add_typer(privacy, name="privacy")


@app.command()
def forget(
    who: Annotated[
        str | None, typer.Argument(help="A contact id or an e-mail address.", show_default=False)
    ] = None,
    project: ProjectFolder = Path(),
    receipt: Annotated[
        str | None, typer.Option(help="Show the receipt of an erasure again, by its id.", show_default=False)
    ] = None,
    *,
    yes: Annotated[
        bool, typer.Option("--yes", help="Do it. Without it, only what would be done is shown.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Do what is left of erasures that something stood in the way of.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Erase somebody here and at every destination, and give a receipt. It cannot be undone; safe to kill and to repeat."""
    from ...core.config import load_project
    from ...core.errors import ConfigError
    from ..rights import erasure
    from ..rights.whom import whom
    from ..store.audit import somebody
    from ..store.store import Store

    if sum((who is not None, receipt is not None, resume)) != 1:
        raise ConfigError("Name a person by contact id or address, or give one of --receipt and --resume.")
    output = Output(as_json=as_json)
    loaded = load_project(project)
    with Store.of(loaded) as store:
        if receipt is not None:
            found = store.erasures.get(receipt)
            if found is None:
                raise ConfigError(f"There is no erasure {receipt}.")
            _end(output, loaded, [found])
            return
        if yes and who is not None:
            _look(output, project, loaded)
        unfinished = erasure.resume_all(loaded, store) if resume or yes else []
        if who is None:
            if not unfinished:
                output.say("No erasure waits.")
            _end(output, loaded, unfinished)
            return
        subject = whom(loaded, store, who)
        if not yes:
            _show(output, loaded, store, erasure.outlook(loaded, store, subject))
            return
        _end(output, loaded, [*unfinished, erasure.erase(loaded, store, subject, who=somebody())])


def _look(output: Output, folder: Path, loaded: "Project") -> None:
    """Ask each account what changed since the last pull: a person is erased at the addresses that are known."""
    from ...core.errors import SegueError
    from ..jobs import pull

    for name in loaded.destinations:
        try:
            with opened(folder, name) as job, output.progress(f"pull {name}") as progress:
                pull(job, progress)
        except SegueError as error:
            output.say(
                f"{name}: whoever took another address there since the last pull is not known by it. {error.message}",
                style="yellow",
            )


def _show(output: Output, loaded: "Project", store: "Store", found: dict[str, Any]) -> None:
    output.json({"erased": False, **found, "unfinished": len(store.erasures.unfinished())})
    output.say(
        f"This would erase {found['contacts']:,} contacts with {found['addresses']:,} addresses:",
        style="bold",
    )
    for name, side in found["destinations"].items():
        rows = ", ".join(f"{count:,} rows of {table}" for table, count in side["rows"].items())
        output.say(f"At {name}, by its own call, then here: {rows or 'nothing is known of them here'}.")
        if side["note"]:
            output.say(f"  {side['note']}", style="yellow")
    for name in found["not_in_segue_yml"]:
        output.say(
            f"{name} is not in segue.yml any more: what is known of them goes, and at the account it is to be done by hand.",
            style="yellow",
        )
    tables = ", ".join(f"{count:,} rows of {table}" for table, count in found["snapshot_rows"].items())
    output.say(f"In snapshots: {tables or 'nothing'}.")
    output.say(f"In plans: {found['plan_rows']:,} rows. Webhooks that wait: {found['messages']:,}.")
    if found["erased_before"]:
        output.say(f"They were erased before, on {found['erased_before']:%Y-%m-%d}.")
    output.say(
        f"Nothing was changed. The same with --yes does it; it cannot be undone. The data of {loaded.project} itself is"
        " not touched: their rows there are left out of every build from then on."
    )


def _end(output: Output, loaded: "Project", done: "Sequence[Erasure]") -> None:
    """Print receipts; end with the code of what stands in the way of any."""
    from ..rights.receipt import as_json, as_text

    output.json([as_json(each) for each in done])
    for each in done:
        output.say(as_text(each, loaded.project))
        output.say()
    codes = [step.get("exit_code", 0) for each in done for step in each.receipt["steps"].values()]
    if any(each.finished_at is None for each in done):
        output.say(
            "Something stands in the way of a part. `segue forget --resume` does what is left, as every run does."
        )
        raise typer.Exit(max(codes, default=2) or 2)


@app.command()
def access(
    who: Annotated[str, typer.Argument(help="A contact id or an e-mail address.", show_default=False)],
    project: ProjectFolder = Path(),
    out: Annotated[
        Path | None,
        typer.Option(help="Write it as a page that people read, into a new file.", show_default=False),
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Give all that is held of somebody: as JSON, and with --out as a page for the person."""
    from ...core.config import load_project
    from ...core.errors import ConfigError
    from ..rights.access import held_of
    from ..rights.access_page import page
    from ..store.store import Store

    output = Output(as_json=as_json)
    loaded = load_project(project)
    with Store.of(loaded) as store:
        held = held_of(loaded, store, who)
    output.json(held)
    if out is not None:
        try:
            with out.open("x", encoding="utf-8") as file:
                out.chmod(0o600)
                file.write(page(held))
        except OSError as error:
            raise ConfigError(
                f"{out}: cannot be made: {error.strerror}. Name another file with --out."
            ) from error
        output.say(
            f"Written to {out}. It holds personal data: give it to the person alone, and remove it then."
        )
        return
    for title, count in held.summary():
        output.say(f"{title}: {count:,}")
    output.say(held.sentence())
    if sys.stdout.isatty() and not held.is_empty:
        output.say("`--out FILE.html` writes all of it as a page, `--json` gives it to machines.")


@app.command()
def purge(
    project: ProjectFolder = Path(),
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what is too old, and remove nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Remove what was kept for as long as `retention` in segue.yml says. Meant for a schedule: once a day is enough."""
    from datetime import UTC, datetime

    from ...core.config import load_project
    from ..rights.retention import purge as remove
    from ..store.store import Store

    output = Output(as_json=as_json)
    loaded = load_project(project)
    with Store.of(loaded) as store:
        done = remove(loaded, store, now=datetime.now(UTC), dry_run=dry_run)
    output.json({"dry_run": dry_run, "removed": done})
    output.table(
        "Older than its limit" if dry_run else "Removed",
        ["what", "how many"],
        [[name.replace("_", " "), count] for name, count in done.items()],
    )


@privacy.command()
def check(project: ProjectFolder = Path(), *, as_json: AsJson = False) -> None:
    """Say what should be better about how people's data is kept and sent. Ends with 4 if anything is not accepted."""
    from ...core.config import load_project
    from ..rights.check import findings
    from ..rights.rules import RULES

    output = Output(as_json=as_json)
    found = findings(load_project(project))
    output.json(found)
    for each in found:
        rule = RULES[each.rule]
        if each.accepted:
            output.say(f"{each.rule} (accepted: {each.accepted})", style="dim")
        else:
            output.say(each.rule, style="bold yellow")
        output.say(f"  {each.where}: {each.message}")
        output.say(f"  {rule.fix}")
    open_ones = sum(not each.accepted for each in found)
    output.say(
        f"{open_ones:,} findings; docs/privacy.md says why each matters."
        if open_ones
        else "Nothing is left to do."
    )
    if open_ones:
        raise typer.Exit(4)
