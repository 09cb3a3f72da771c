"""The commands of the audit: show, verify.

Lives here: their words. Must not: prove anything; `sync.store.audit` does.
"""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .app import AsJson, ProjectFolder, app
from .output import Output, words

if TYPE_CHECKING:
    from ..store.audit import AuditRow, Head
    from ..store.store import Store

audit = typer.Typer(help="What was done to whom, when and by whom, as a chain that shows every change of it.")
app.add_typer(audit, name="audit")

_BROKEN = 4
_RUNS = 1_000  # so many of the newest reports are asked for the heads that they name


@audit.command()
def show(  # each narrows down
    who: Annotated[
        str | None, typer.Argument(help="A contact id or an e-mail address; everybody if not given.")
    ] = None,
    project: ProjectFolder = Path(),
    run: Annotated[str | None, typer.Option(help="Only of this run.")] = None,
    destination: Annotated[str | None, typer.Option(help="Only of this destination.")] = None,
    since: Annotated[datetime | None, typer.Option(help="Only from this moment on, in UTC.")] = None,
    limit: Annotated[int, typer.Option(help="At most so many rows, the newest.", min=1)] = 50,
    *,
    as_json: AsJson = False,
) -> None:
    """Show what happened, newest first; of one person, under the id and the address that they have in the data.

    The audit holds keyed hashes, no ids or addresses: a person who was erased, or had another address, is found by
    typing that id or address.
    """
    from datetime import UTC

    from ...core.config import load_project
    from ..contact import keys_of
    from ..store.store import Store

    output = Output(as_json=as_json)
    loaded = load_project(project)
    with Store.of(loaded) as store:
        rows = store.audit.show(
            keys=keys_of(loaded, store, who) if who else (),
            run_id=run,
            destination=destination,
            since=since.replace(tzinfo=UTC) if since else None,
            limit=limit,
        )
    output.json(rows)
    columns = ["number", "at", "what", "who", "destination", "detail"]
    output.table("Audit, newest first", columns, [_shown(row) for row in rows])
    if not rows:
        output.say("Nothing of the kind is in the audit.")


@audit.command()
def verify(
    project: ProjectFolder = Path(),
    head: Annotated[
        list[str] | None,
        typer.Option(
            help="A head that a run's report printed, e.g. 412:9f86d081884c7d65.", metavar="NUMBER:MAC"
        ),
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Prove that no row of the audit was changed, removed, moved or cut off. Exit code 0: whole; 4: it is not.

    The heads that the stored reports of runs name are looked for as well; one that was printed elsewhere, given with
    --head, also finds a store that was put back as a whole.
    """
    from ...core.config import load_project
    from ..store.audit import Head
    from ..store.store import Store

    output = Output(as_json=as_json)
    loaded = load_project(project)
    named = [Head.parse(text) for text in head or ()]
    with Store.of(loaded) as store:
        proof = store.audit.verify([*named, *_reported(store)])
    output.json(
        {
            "whole": not proof.problems,
            "first": proof.first,
            "last": proof.last,
            "head": str(proof.head),
            "problems": [{"number": number, "problem": problem} for number, problem in proof.problems],
        }
    )
    for number, problem in proof.problems:
        output.say(f"Row {number}: {problem}.", style="bold red")
    if proof.problems:
        output.say("The audit is not whole. docs/security.md says what to do.")
        raise typer.Exit(_BROKEN)
    output.say(f"The audit is whole: rows {proof.first:,} to {proof.last:,}, head {proof.head}.")


def _reported(store: "Store") -> "list[Head]":
    from ..store.audit import Head

    told = (run.report.get("audit") for run in store.runs.newest(_RUNS))
    return [Head.parse(text) for text in told if text]


def _shown(row: "AuditRow") -> list[Any]:
    counted = [f"{word} {count:,}".strip() for word, count in row.groups.items()]
    what = ", ".join(row.concerns or counted)
    detail = ", ".join(
        f"{name}: {value}" for name, value in row.detail.items() if value not in (None, {}, [])
    )
    return [
        row.number,
        words(row.at),
        f"{row.act}{f': {what}' if what else ''}",
        row.who,
        row.destination or "",
        detail,
    ]
