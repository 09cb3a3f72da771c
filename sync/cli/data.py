"""The commands around the data: build, sql, quarantine, identity.

Lives here: their words. Must not: read a source or compute anything.
"""

import csv
import itertools
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..plain import plain
from .app import AsJson, ProjectFolder, app
from .output import Output, words

if TYPE_CHECKING:
    from ...core.snapshot import Snapshot

identity = typer.Typer(help="Who was merged with whom, and how to undo it.")
app.add_typer(identity, name="identity")

_COUNTS = """
    select source, table_name, rule, column_name, count(*) as n
    from quarantine group by all order by n desc, source, rule, column_name
"""
_ROWS = "from quarantine order by source, row_number, column_name, rule"
_SHOWN_ROWS = 100  # of a query on a terminal; --csv and --json give all


@app.command()
def build(
    project: ProjectFolder = Path(),
    as_of: Annotated[
        str | None, typer.Option(help="Compute everything for this moment, e.g. 2011-12-10T00:00:00Z.")
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Read the sources and compute traits, segments and recommendations into a new snapshot."""
    from ...core.config import load_project
    from ...core.personalize import build as make
    from ..inbound.learnt import learnt_by
    from ..rights.keeping_out import erased_by

    output = Output(as_json=as_json)
    loaded = load_project(project)
    moment = _moment(as_of) if as_of else loaded.as_of or datetime.now(UTC)
    # A terminal is no pipe: reading it would wait for somebody to type a CSV file.
    piped = sys.stdin.buffer if sys.stdin and not sys.stdin.isatty() else None
    with output.progress(f"build {loaded.project}") as progress:
        snapshot = make(
            loaded,
            as_of=moment,
            progress=progress,
            stdin=piped,
            learnt=learnt_by(loaded),
            erased=erased_by(loaded),
        )
    output.json(snapshot.manifest)
    _show_snapshot(output, snapshot)


def _show_snapshot(output: Output, snapshot: "Snapshot") -> None:
    rows = [[name, snapshot.rows(name)] for name in snapshot.tables]
    output.table(f"Snapshot {snapshot.id}, computed for {words(snapshot.as_of)}", ["table", "rows"], rows)
    columns = ["source", "rule", "rows", "effect"]
    broken = [[rule[name] for name in columns] for rule in snapshot.manifest["report"]["rules"]]
    if broken:
        output.table("Broken rules: `segue quarantine` says more", columns, broken)
    for warning in snapshot.manifest["warnings"]:
        output.say(f"Note: {warning}", style="yellow")


@app.command()
def sql(
    query: Annotated[str, typer.Argument(help="One SELECT over the tables of the current snapshot.")],
    project: ProjectFolder = Path(),
    *,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    as_json: AsJson = False,
) -> None:
    """Query the current snapshot. Reads only; `select * from information_schema.tables` lists what is there."""
    from ...core.config import load_project
    from ...core.errors import ConfigError
    from ...core.snapshot import current
    from .query import opened, select

    if as_csv and as_json:
        raise ConfigError("--csv and --json exclude each other. Choose one.")
    snapshot = current(load_project(project).state_folder)
    output = Output(as_json=as_json)
    with opened(snapshot) as connection:
        found = select(connection, query)
        if as_csv:
            writer = csv.writer(sys.stdout, lineterminator="\n")
            writer.writerow(found.columns)
            writer.writerows([_cell(value) for value in row] for row in found.rows)
        elif as_json:
            output.json_rows(found.mappings())
        else:
            shown = list(itertools.islice(found.rows, _SHOWN_ROWS))
            more = next(found.rows, None) is not None
            caption = f"the first {_SHOWN_ROWS} rows; --csv and --json give all" if more else ""
            output.table("", found.columns, shown, caption=caption)


@app.command()
def quarantine(
    project: ProjectFolder = Path(),
    rows: Annotated[int, typer.Option(help="Show that many refused rows.", min=0, metavar="N")] = 0,
    *,
    as_json: AsJson = False,
) -> None:
    """Say which rows and values the last build refused or doubted, by rule."""
    from ...core.config import load_project
    from ...core.snapshot import current
    from .query import opened, select

    output = Output(as_json=as_json)
    snapshot = current(load_project(project).state_folder)
    with opened(snapshot) as connection:
        counts = list(select(connection, _COUNTS).mappings())
        refused = list(select(connection, f"{_ROWS} limit {rows}").mappings())
    output.json({"counts": counts, "rows": refused})
    if not counts:
        output.say("Nothing was refused.")
        return
    output.table("By rule", list(counts[0]), [list(row.values()) for row in counts])
    if refused:
        output.table("Rows", list(refused[0]), [list(row.values()) for row in refused])
    else:
        output.say("`segue quarantine --rows 20` shows where.")


@identity.command("report")
def identity_report(project: ProjectFolder = Path(), *, as_json: AsJson = False) -> None:
    """Say which customers the last build merged into one contact."""
    from ...core.config import load_project
    from ...core.snapshot import current
    from .query import opened, select

    output = Output(as_json=as_json)
    snapshot = current(load_project(project).state_folder)
    with opened(snapshot) as connection:
        merged = list(select(connection, "from identity order by survivor_id, contact_id").mappings())
    output.json({"merged": merged})
    if not merged:
        output.say("Nobody was merged.")
        return
    output.table(f"{len(merged):,} merged away", list(merged[0]), [list(row.values()) for row in merged])
    output.say("`segue identity undo CONTACT` keeps one of them apart from the next build on.")


@identity.command("undo")
def identity_undo(
    contact: Annotated[str, typer.Argument(help="The contact_id that was merged away.")],
    project: ProjectFolder = Path(),
    *,
    as_json: AsJson = False,
) -> None:
    """Keep a customer apart from the next build on, although the address is shared."""
    from ...core.config import load_project
    from ...core.data.identity import keep_apart
    from ...core.errors import ConfigError
    from ...core.snapshot import current
    from .query import opened, select

    output = Output(as_json=as_json)
    loaded = load_project(project)
    merged = current(loaded.state_folder)
    with opened(merged) as connection:
        known = {row[0] for row in select(connection, "select contact_id from identity").rows}
    if contact not in known:
        raise ConfigError(
            f'the last build merged no customer "{contact}" away. `segue identity report` lists who was.'
        )
    is_new = keep_apart(loaded.folder, contact)
    output.json({"kept_apart": contact, "new": is_new})
    output.say(f"{contact} {'stays' if is_new else 'stood'} apart. The next `segue build` does it.")


def _cell(value: Any) -> Any:
    """Write a value for CSV: nested ones as JSON."""
    shaped = plain(value)
    return json.dumps(shaped, ensure_ascii=False) if isinstance(shaped, list | dict) else shaped


def _moment(text: str) -> datetime:
    from pydantic import TypeAdapter, ValidationError

    from ...core.errors import ConfigError
    from ...core.settings import Instant

    try:
        return TypeAdapter(Instant).validate_python(text)
    except ValidationError as error:
        raise ConfigError(f"--as-of: {error.errors()[0]['msg']}") from None
