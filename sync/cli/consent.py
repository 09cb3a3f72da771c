"""The commands around the consent ledger: show, import, export, and what somebody says at the desk.

Lives here: their words. Must not: decide who may be mailed, or what an export means; `core.consent` and
`core.shapes` do.
"""

import sys
from collections.abc import Mapping
from contextlib import nullcontext
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .app import AsJson, ProjectFolder, app
from .output import Output

if TYPE_CHECKING:
    from ...core.config import Project
    from ...core.consent import ConsentAct
    from ...core.snapshot import Snapshot

consent = typer.Typer(help="Who may be mailed, and why: the consent ledger.")
app.add_typer(consent, name="consent")

Who = Annotated[str, typer.Argument(help="A contact id or an e-mail address.", show_default=False)]
Evidence = Annotated[
    list[str] | None,
    typer.Option(
        help='What proves it, as NAME=TEXT or just a text; several times if need be: "call=ticket 4711".',
        show_default=False,
    ),
]
At = Annotated[
    str | None,
    typer.Option(help="When it was said, like 2026-05-03T10:00:00Z; now if not given.", show_default=False),
]
By = Annotated[
    str | None,
    typer.Option(help="Who records it; the user of this machine if not given.", show_default=False),
]


class LedgerFormat(StrEnum):
    """The forms in which the ledger is written."""

    CSV = "csv"
    JSONL = "jsonl"


@consent.command()
def show(who: Who, project: ProjectFolder = Path(), *, as_json: AsJson = False) -> None:
    """Show all that the ledger holds of somebody, whether they may be mailed and why, and what destinations show."""
    from ...core.config import load_project
    from ..ledger.desk import find, view
    from ..store.store import Store

    output = Output(as_json=as_json)
    loaded = load_project(project)
    with Store.of(loaded) as store:
        person = find(loaded, store, _snapshot(loaded), who)
        seen = view(loaded, store, person)
    output.json(seen)
    output.say(f"{seen.state}: {seen.why}", style="bold")
    output.say(f"Contact {', '.join(seen.contacts)}" if seen.contacts else "Nobody in the current snapshot.")
    output.say(f"Law: {seen.regime}, for {seen.country or 'a country that is not known'}")
    if seen.entries:
        output.table(
            "Ledger",
            ["when", "act", "of", "about", "source", "evidence", "recorded", "by", ""],
            [
                [
                    line.occurred_at,
                    line.act.value,
                    line.of,
                    f"{line.channel}, {line.purpose}",
                    line.source,
                    "; ".join(f"{name}: {value}" for name, value in line.evidence.items()),
                    line.recorded_at,
                    line.recorded_by,
                    "decides" if line.decides else "" if line.counts else "not about e-mail marketing",
                ]
                for line in seen.entries
            ],
        )
    else:
        output.say("The ledger holds nothing of them.")
    for name, side in seen.destinations.items():
        output.say(
            f"{name}: {side.state or 'not seen there'}{', with fields of ours' if side.confirmed else ''}"
        )


@consent.command()
def export(
    project: ProjectFolder = Path(),
    out: Annotated[
        Path | None, typer.Option(help="A new file; stdout if not given.", show_default=False)
    ] = None,
    form: Annotated[LedgerFormat, typer.Option("--format", help="How it is written.")] = LedgerFormat.CSV,
    *,
    with_contacts: Annotated[
        bool,
        typer.Option(
            "--with-contacts", help="Add contact ids and addresses, as the current snapshot has them."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write the whole ledger, each entry under the keyed hash of its contact or address."""
    from ...core.config import load_project
    from ...core.errors import ConfigError
    from ..ledger.files import export as write
    from ..store.store import Store

    output = Output(as_json=as_json)
    loaded = load_project(project)
    if as_json and out is None:
        raise ConfigError(
            "--json tells what was written: name a file with --out. For lines of JSON: --format jsonl."
        )
    try:
        file = nullcontext(sys.stdout.buffer) if out is None else out.open("xb")
    except OSError as error:
        raise ConfigError(
            f"{out}: cannot be made: {error.strerror}. Name another file with --out."
        ) from error
    with file as stream, Store.of(loaded) as store:
        if out is not None:
            out.chmod(0o600)
        count = write(
            store,
            _snapshot(loaded),
            stream,
            as_csv=form is LedgerFormat.CSV,
            with_contacts=with_contacts,
        )
    output.json({"entries": count, "file": out})
    if out is not None:
        output.say(f"{count:,} entries written to {out}.")


@consent.command("import")
def import_(  # noqa: PLR0913  # typer's options
    file: Annotated[Path, typer.Argument(help="A CSV, JSONL or Parquet file.", show_default=False)],
    source: Annotated[
        str, typer.Option(help="What the ledger calls it, such as onetrust.", show_default=False)
    ],
    project: ProjectFolder = Path(),
    shape: Annotated[
        str, typer.Option(help="Whose export it is: onetrust, trustarc, cookiebot, or segue for our own.")
    ] = "segue",
    mapping: Annotated[
        Path | None,
        typer.Option("--map", help="A file that says what the columns mean, instead.", show_default=False),
    ] = None,
    marketing: Annotated[
        list[str] | None,
        typer.Option(
            help="A purpose of theirs that is e-mail marketing; several times if need be.", show_default=False
        ),
    ] = None,
    encoding: Annotated[
        str | None, typer.Option(help="Of the file, such as windows-1252.", show_default=False)
    ] = None,
    by: By = None,
    *,
    partly: Annotated[
        bool, typer.Option("--partly", help="Import the good rows although there are bad ones.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Take a consent platform's export into the ledger. Bad rows are listed, and nothing is imported then."""
    from ...core.config import load_project
    from ...core.shapes import load_shape
    from ..ledger.files import import_file, with_options
    from ..store.audit import acting, somebody
    from ..store.store import Store

    output = Output(as_json=as_json)
    loaded = load_project(project)
    meant = with_options(load_shape(mapping or shape), marketing=tuple(marketing or ()), encoding=encoding)
    who = by or somebody()
    with Store.of(loaded) as store, acting(who), output.progress(f"import {file.name}") as progress:
        done = import_file(
            loaded,
            store,
            _snapshot(loaded),
            file,
            meant,
            source=source,
            partly=partly,
            by=who,
            now=datetime.now(UTC),
            progress=progress,
        )
    output.json(done)
    output.say(f"{done.rows:,} rows read, {done.new:,} new entries in the ledger.", style="bold")
    if done.ignored:
        output.say(f"{done.ignored:,} rows are not about mail, by the word of the shape.")
    for found in done.first:
        where = f", column {found.column}" if found.column else ""
        output.say(f"Row {found.row:,}{where}: {found.rule} ({found.value_class}); {found.effect}")
    for rule, rows in done.noted.items():
        output.say(f"{rule}: {rows:,} rows")
    _say_opt_outs(output, done.opt_outs)
    if done.left_out:
        raise typer.Exit(1)


@consent.command()
def withdraw(
    who: Who,
    project: ProjectFolder = Path(),
    evidence: Evidence = None,
    at: At = None,
    by: By = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Record that somebody does not want mail any more, and have them opted out at every destination."""
    from ...core.consent import ConsentAct

    _record(who, ConsentAct.WITHDRAWAL, project, evidence, at, by, as_json=as_json)


@consent.command()
def release(
    who: Who,
    project: ProjectFolder = Path(),
    evidence: Evidence = None,
    at: At = None,
    by: By = None,
    *,
    erased: Annotated[
        bool, typer.Option("--erased", help="Let somebody who was erased be known here again.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """End a suppression by a bounce or a complaint, by a person's word. It grants nothing."""
    from ...core.consent import ConsentAct

    _record(who, ConsentAct.RELEASE, project, evidence, at, by, erased=erased, as_json=as_json)


@consent.command()
def grant(
    who: Who,
    project: ProjectFolder = Path(),
    evidence: Evidence = None,
    at: At = None,
    by: By = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Record that somebody agreed to be mailed. Without evidence it is refused."""
    from ...core.consent import ConsentAct

    _record(who, ConsentAct.GRANT, project, evidence, at, by, as_json=as_json)


def _record(
    who: str,
    act: "ConsentAct",
    project: Path,
    evidence: list[str] | None,
    at: str | None,
    by: str | None,
    *,
    erased: bool = False,
    as_json: bool,
) -> None:
    from ...core.config import load_project
    from ...core.consent import ConsentAct
    from ...core.errors import ConfigError
    from ..ledger.desk import find, normal, record_act, refuse_act
    from ..store.audit import acting, somebody
    from ..store.store import Store

    output = Output(as_json=as_json)
    loaded = load_project(project)
    now = datetime.now(UTC)
    recorder = by or somebody()
    with Store.of(loaded) as store, acting(recorder):
        snapshot = _snapshot(loaded)
        proof, moment = _evidence(evidence or []), _instant(at) if at else now
        refuse_act(act, evidence=proof, at=moment, now=now)
        names = [who.strip()], [normal(who)]
        lifted = 0
        if (erased_at := store.tombstones.erased_at(*names)) is not None and act is not ConsentAct.WITHDRAWAL:
            if not erased:
                raise ConfigError(
                    f"This person was erased on {erased_at:%Y-%m-%d}, and nothing more is recorded of them. If they"
                    " want to be known here again: `segue consent release WHO --erased`."
                )
            lifted = store.tombstones.lift(*names)
        person = find(loaded, store, snapshot, who)
        done = record_act(
            loaded,
            store,
            snapshot,
            person,
            act,
            evidence=proof,
            at=moment,
            by=recorder,
            now=now,
        )
    output.json(done)
    if lifted:
        output.say("The erasure is over: data that names them is taken in again.", style="yellow")
    said = f"The {act} is recorded" if done.new else "Nothing new is recorded"
    output.say(f"{said}. {done.state}: {done.why}", style="bold")
    _say_opt_outs(output, done.opt_outs)


def _say_opt_outs(output: Output, opt_outs: Mapping[str, int]) -> None:
    for destination, count in opt_outs.items():
        output.say(
            f"{destination}: {count:,} opt-outs wait and go before all else, with `segue serve` or the next run."
        )


def _evidence(given: list[str]) -> dict[str, str]:
    """Read NAME=TEXT; a text without a name is the reference."""
    said: dict[str, str] = {}
    for each in given:
        name, equals, text = each.partition("=")
        if equals and name.isidentifier():
            said[name] = text.strip()
        else:
            said["reference"] = "; ".join(filter(None, (said.get("reference"), each.strip())))
    return said


def _instant(text: str) -> datetime:
    from ...core.errors import ConfigError

    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError("--at is no time. Write it like 2026-05-03T10:00:00Z.") from None
    if moment.tzinfo is None:
        raise ConfigError("--at has no time zone. Write it like 2026-05-03T10:00:00Z.")
    return moment.astimezone(UTC)


def _snapshot(loaded: "Project") -> "Snapshot | None":
    """Give the current snapshot; the ledger is there without one too."""
    from ...core.errors import StoreError
    from ...core.snapshot import current, history

    try:
        return current(loaded.state_folder)
    except StoreError:
        damaged: list[str] = []
        if history(loaded.state_folder, damaged=damaged.append) or damaged:
            raise
        return None
