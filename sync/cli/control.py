"""The commands by which a person takes a sync in hand: pause, resume, rollback, verify, retry.

Lives here: their words. Must not: decide what is sent; `sync.jobs` does.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .app import AsJson, ProjectFolder, app
from .output import Output
from .sync import Destination, end, opened, show_plan

if TYPE_CHECKING:
    from ..jobs import Job
    from ..planning.rollback import Undoing
    from ..report import Report
    from ..verify import Drift, Verification

Paused = Annotated[str, typer.Argument(help="A destination of segue.yml.", show_default=False)]


@app.command()
def pause(
    destination: Paused,
    project: ProjectFolder = Path(),
    reason: Annotated[str, typer.Option(help="Why; `segue status` shows it.")] = "",
    *,
    opt_outs: Annotated[
        bool,
        typer.Option("--opt-outs-too", help="Hold back opt-outs as well: people who left may be mailed."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write nothing more to a destination, at once and until `segue resume`. Opt-outs still go."""
    from ...core.config import load_project
    from ..store.store import Store

    output = Output(as_json=as_json)
    loaded = load_project(project)
    loaded.destinations_named(destination)
    with Store.of(loaded) as store:
        made = store.pauses.pause(destination, reason=reason, opt_outs=opt_outs, who=_who())
    output.json(made)
    still = "Not even opt-outs go out" if opt_outs else "Opt-outs still go out, nothing else does"
    output.say(f"{destination} is paused. {still}; `segue resume {destination}` ends it.")


@app.command()
def resume(destination: Paused, project: ProjectFolder = Path(), *, as_json: AsJson = False) -> None:
    """End a pause. The next run, or `segue apply`, sends what waited."""
    from ...core.config import load_project
    from ..store.store import Store

    output = Output(as_json=as_json)
    loaded = load_project(project)
    loaded.destinations_named(destination)
    with Store.of(loaded) as store:
        was_paused = store.pauses.resume(destination)
    output.json({"destination": destination, "was_paused": was_paused})
    output.say(
        f"{destination} is written to again, from the next run on."
        if was_paused
        else f"{destination} was not paused."
    )


@app.command()
def rollback(
    run: Annotated[str, typer.Argument(help="A run's id, as `segue runs` shows it.", show_default=False)],
    project: ProjectFolder = Path(),
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do it without asking.")] = False,
    no_pause: Annotated[
        bool,
        typer.Option("--no-pause", help="Leave the destination open: the next run may send the same again."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Take back the fields and tags that a run changed, as far as nobody changed them since. Consent stays as it is."""
    from ..jobs import recorded
    from ..jobs import rollback as take_back

    output = Output(as_json=as_json)
    with opened(project, _destination_of(project, run)) as job:
        with recorded(job, "plan") as (lease, report), output.progress(f"plan {job.destination}") as progress:
            plan, undoing = job.plan_rollback(run, lease, report, progress)
        show_plan(output, plan)
        output.say(
            f"{undoing.restored:,} contacts would be as before run {run}; {undoing.moved:,} changed since and are left"
            f" alone, {undoing.untouched:,} were not changed by it. Opt-outs are never taken back."
        )
        if plan.empty or not _agreed(yes=yes):
            output.json({"applied": False, "plan": plan.manifest(), **_counts(undoing)})
            if not plan.empty:
                output.say(f"Nothing was sent. `segue rollback {run} --yes` does it.")
            return
        with output.progress(f"rollback {job.destination}") as progress:
            done = take_back(job, plan, run, progress, pause_for=None if no_pause else _who())
        end(output, [done])


@app.command()
def verify(
    destination: Destination = None,
    project: ProjectFolder = Path(),
    sample: Annotated[int, typer.Option(help="How many contacts, chosen at random.", min=1)] = 200,
    *,
    everybody: Annotated[bool, typer.Option("--all", help="All contacts, page by page.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Store nothing of what was seen.")] = False,
    as_json: AsJson = False,
) -> None:
    """Read contacts back and say what others changed of ours there. The next run repairs it, where the mapping says so."""
    from ...core.config import load_project
    from ..jobs import verify as look

    output = Output(as_json=as_json)
    reports: list[Report] = []
    examples: dict[str, list[dict[str, object]]] = {}
    for name in load_project(project).destinations_named(destination):
        with opened(project, name) as job, output.progress(f"verify {name}") as progress:
            report = look(job, progress, sample=None if everybody else sample, dry_run=dry_run)
            reports.append(report)
            if report.verified is not None:
                examples[name] = _examples(job, report.verified)
                _show(output, job, report.verified, examples[name], dry_run=dry_run)
    output.json([report.as_json() | {"examples": examples[report.destination]} for report in reports])
    if code := max((report.exit_code for report in reports), default=0):
        raise typer.Exit(code)


@app.command()
def retry(
    destination: Destination = None,
    project: ProjectFolder = Path(),
    code: Annotated[
        str | None, typer.Option(help="Only those refused with this code; `segue rejected` shows them.")
    ] = None,
    contact: Annotated[str | None, typer.Option(help="Only this contact, by its id.")] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Let the next run try refused changes again, although nothing in them changed."""
    from ...core.config import load_project
    from ..store.store import Store

    output = Output(as_json=as_json)
    loaded = load_project(project)
    with Store.of(loaded) as store:
        key = None if contact is None else store.keys.contact_key(contact)
        counts = {
            name: store.settlements.forgive(name, code=code, contact_key=key)
            for name in loaded.destinations_named(destination)
        }
    output.json(counts)
    for name, count in counts.items():
        output.say(f"{name}: {count:,} refused changes are tried again at the next run.")


def _who() -> str:
    """Name whoever typed the command, as far as this machine knows."""
    from ..store.audit import somebody

    return somebody()


def _agreed(*, yes: bool) -> bool:
    return yes or (sys.stdin.isatty() and sys.stdout.isatty() and typer.confirm("Take it back?"))


def _destination_of(project: Path, run: str) -> str:
    from ...core.config import load_project
    from ...core.errors import ConfigError
    from ..store.store import Store

    loaded = load_project(project)
    with Store.of(loaded) as store:
        found = store.runs.get(run)
    if found is None or found.destination not in loaded.destinations:
        raise ConfigError(f"There is no run {run}. `segue runs` lists them.")
    return found.destination


def _counts(undoing: "Undoing") -> dict[str, int]:
    return {name: getattr(undoing, name) for name in ("restored", "moved", "untouched")}


def _examples(job: "Job", found: "Verification") -> list[dict[str, object]]:
    """Give what was found with the ids of a few contacts, as far as the snapshot has them."""
    from ..ledger.desk import contact_ids

    keys = [key for some in found.examples.values() for key in some]
    ids = contact_ids(job.snapshot, job.store.keys, keys)
    return [
        {
            "kind": drift.kind.value,
            "name": drift.name,
            "contacts": count,
            "policy": _policy(drift),
            "examples": [ids.get(key, "not in the data") for key in found.examples[drift]],
        }
        for drift, count in found.counts.most_common()
    ]


def _policy(drift: "Drift") -> str:
    from ..verify import DriftKind

    match drift.kind:
        case DriftKind.GONE:
            return "left alone: whoever was deleted there is not made again"
        case DriftKind.CONSENT:
            return "recorded"
        case _:
            return "accepted" if drift.accepted else "repaired by the next run"


def _show(
    output: Output,
    job: "Job",
    found: "Verification",
    rows: list[dict[str, object]],
    *,
    dry_run: bool,
) -> None:
    output.say(f"{job.destination}: {found.checked:,} contacts read back", style="bold")
    if rows:
        output.table("Not as confirmed", list(rows[0]), [list(row.values()) for row in rows])
    else:
        output.say("All of them are as confirmed.")
    if found.undecided:
        output.say(
            f"{found.undecided:,} were left out: a write to them is unanswered. The next run settles it."
        )
    if found.uncertain:
        output.say(f"Of {found.uncertain:,} contacts the destination does not show all tags.")
    if dry_run and found.restated:
        output.say("Nothing was stored: without --dry-run the next run repairs it.")
