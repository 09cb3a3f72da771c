"""The commands around a destination: plan, apply, run, status, runs, rejected.

Lives here: their words. Must not: decide what is sent; `sync.jobs` does.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .app import AsJson, ProjectFolder, app
from .output import Output, words

if TYPE_CHECKING:
    from ..delivery.apply import Progress
    from ..jobs import Job
    from ..planning.plan import Plan
    from ..report import Report
    from ..store.pauses import Pause

_SAMPLES, _FIELDS = 3, 4  # of a plan that are shown
_SAID = {"schema": "create fields and tags", "jobs": "ask after jobs"}

Destination = Annotated[
    str | None,
    typer.Argument(help="A destination of segue.yml; the only one if there is one.", show_default=False),
]
Override = Annotated[bool, typer.Option("--override-guardrails", help="Apply although a limit is passed.")]


@app.command()
def plan(
    destination: Destination = None,
    project: ProjectFolder = Path(),
    *,
    as_json: AsJson = False,
) -> None:
    """Show what a sync would do, to whom, at what cost, and who is withheld and why. Writes nothing to the ESP."""
    from ..jobs import recorded

    output = Output(as_json=as_json)
    with opened(project, destination) as job, recorded(job, "plan") as (lease, report):
        with output.progress(f"plan {job.destination}") as progress:
            made = job.plan(lease, report, progress)
        output.json(made.manifest() | {"empty": made.empty, "writes": made.writes, "notes": report.notes})
        show_plan(output, made)
        for note in report.notes:
            output.say(note, style="yellow")


@app.command()
def apply(
    destination: Destination = None,
    project: ProjectFolder = Path(),
    plan_id: Annotated[
        str | None, typer.Option("--plan", help="A plan's id; the newest if not given.")
    ] = None,
    canary: Annotated[
        str | None,
        typer.Option(help="Send to a part first, e.g. 2% or 50 contacts; always the same people."),
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option(help="Send to these contacts first: ids with commas, or a file with one a line."),
    ] = None,
    *,
    override: Override = False,
    as_json: AsJson = False,
) -> None:
    """Execute a plan, exactly that one. Safe to kill and to repeat."""
    from ...core.errors import ConfigError
    from ..jobs import apply as apply_plan
    from ..planning.canary import Canary

    output = Output(as_json=as_json)
    if canary is not None and seeds is not None:
        raise ConfigError("A canary is a part or a list of seeds. Give one of --canary and --seeds.")
    first = None if canary is None else Canary.parse(canary)
    with opened(project, destination) as job:
        if seeds is not None:
            first = Canary.named(seeds, job.store.keys)
        with output.progress(f"apply {job.destination}") as progress:
            report = apply_plan(job, plan_id, progress, override=override, canary=first)
        end(output, [report])


@app.command()
def run(
    destination: Destination = None,
    project: ProjectFolder = Path(),
    *,
    no_build: Annotated[bool, typer.Option("--no-build", help="Use the current snapshot.")] = False,
    override: Override = False,
    as_json: AsJson = False,
) -> None:
    """Build, then pull, plan and apply for every destination: what a schedule calls. Safe to kill and to repeat."""
    from ...core.config import load_project
    from ...core.errors import DestinationError, GuardrailError, SegueError
    from ...core.personalize import build
    from ..inbound.learnt import learnt_by
    from ..jobs import pull, utc_now
    from ..jobs import run as run_job
    from ..rights.erasure import resume_all
    from ..rights.keeping_out import erased_by
    from ..store.store import Store
    from ..telemetry.alerts import telling

    output = Output(as_json=as_json)
    loaded = load_project(project)
    names = loaded.destinations_named(destination)
    if not no_build:
        with output.progress(f"build {loaded.project}") as progress, telling(loaded, names):
            build(
                loaded,
                as_of=loaded.as_of or utc_now(),
                progress=progress,
                learnt=learnt_by(loaded),
                erased=erased_by(loaded),
            )
    failed: dict[str, SegueError] = {}

    def each(word: str, task: "Callable[[Job, Progress], Report]") -> "Iterator[Report]":
        for name in [name for name in names if name not in failed]:
            try:
                with ExitStack() as stack:
                    with telling(loaded, [name]):
                        job = stack.enter_context(opened(project, name))
                    yield task(job, stack.enter_context(output.progress(f"{word} {name}")))
            except (
                DestinationError,
                GuardrailError,
            ) as error:  # one account's trouble does not stop the others
                failed[name] = error

    with Store.of(loaded) as store:
        resume_all(loaded, store)  # before anything is sent, and again where an account answers by now
    if len(names) > 1:  # all of them first: who left at one is written to at none
        list(each("pull", pull))
    reports = list(each("run", lambda job, progress: run_job(job, progress, override=override)))
    with Store.of(loaded) as store:
        resume_all(loaded, store)
    if failed and len(names) == 1:
        raise failed[names[0]]
    end(output, reports, list(failed.items()))


@app.command()
def status(project: ProjectFolder = Path(), *, as_json: AsJson = False) -> None:
    """Say what each destination holds, what waits to be sent and how the last run ended. Sends nothing."""
    from ...core.config import load_project
    from ..standing import standing
    from ..store.store import Store

    output = Output(as_json=as_json)
    loaded = load_project(project)
    with Store.of(loaded) as store:
        rows = standing(loaded, store)
    output.json(rows)
    if not rows:
        output.say("This project has no destination. Add one to segue.yml.")
        return
    columns = [name for name in rows[0] if name not in {"paused", "inbox"}]
    output.table("", columns, [[row[name] for name in columns] for row in rows])
    for row in rows:
        if (inbox := row["inbox"]) and (inbox.waiting or inbox.dead):
            output.say(
                f"{row['destination']}: {inbox.waiting:,} webhooks wait, {inbox.dead:,} were given up; see `segue webhooks inbox`."
            )
    pauses: list[Pause | None] = [row["paused"] for row in rows]
    for pause in filter(None, pauses):
        output.say(
            f"{pause.destination} is paused since {words(pause.since)}, by {pause.who}: {pause.reason or 'no reason given'}."
            f"{' Opt-outs are held back as well.' if pause.opt_outs else ''} `segue resume {pause.destination}` ends it.",
            style="bold red",
        )


@app.command()
def runs(
    destination: Destination = None,
    project: ProjectFolder = Path(),
    limit: Annotated[int, typer.Option(help="How many.", min=1)] = 20,
    *,
    as_json: AsJson = False,
) -> None:
    """List the newest runs with what they did."""
    from ...core.config import load_project
    from ..store.store import Store

    output = Output(as_json=as_json)
    loaded = load_project(project)
    loaded.destinations_named(destination)
    with Store.of(loaded) as store:
        found = store.runs.newest(limit, destination)
    output.json(found)
    output.table(
        "",
        ["run", "destination", "kind", "started", "status", "exit", "changes", "write requests", "error"],
        [
            [
                each.run_id,
                each.destination,
                each.kind,
                each.started_at,
                each.status,
                each.exit_code,
                sum(sum(counts.values()) for counts in each.report.get("outcomes", {}).values()),
                each.report.get("requests", {}).get("write", 0),
                each.report.get("error") or "",
            ]
            for each in found
        ],
    )


@app.command()
def rejected(
    destination: Destination = None,
    project: ProjectFolder = Path(),
    limit: Annotated[int, typer.Option(help="How many.", min=1)] = 50,
    *,
    as_json: AsJson = False,
) -> None:
    """List the contacts that an ESP refused, its reason and what to do. Each is tried again when what we send changes."""
    from ...connectors.registry import connector_class
    from ...core.config import load_project
    from ...core.snapshot import current
    from ..ledger.desk import contact_ids
    from ..store.store import Store

    output = Output(as_json=as_json)
    loaded = load_project(project)
    with Store.of(loaded) as store:
        names = loaded.destinations_named(destination)
        found = [(name, each) for name in names for each in store.settlements.rejections(name, limit)]
        counts = [(name, *each) for name in names for each in store.settlements.rejection_counts(name)]
        ids = contact_ids(current(loaded.state_folder), store.keys, [each.contact_key for _, each in found])
    remedies = {name: connector_class(loaded.destinations[name].connector).remedies for name in names}
    rows: list[dict[str, Any]] = [
        {
            "destination": name,
            "contact_id": ids.get(each.contact_key, ""),
            "operation": each.operation,
            "code": each.code,
            "reason": each.reason,
            "last_at": each.last_at,
            "attempts": each.attempts,
        }
        for name, each in found
    ]
    output.json([row | {"to_do": _to_do(remedies, row["destination"], row["code"])} for row in rows])
    if not rows:
        output.say("Nobody was refused.")
        return
    output.table(
        "Why, and what to do",
        ["destination", "contacts", "code", "reason", "to do"],
        [[name, count, code, reason, _to_do(remedies, name, code)] for name, code, reason, count in counts],
    )
    output.table(
        f"The newest {len(rows)}",
        [name for name in rows[0] if name != "reason"],
        [[value for name, value in row.items() if name != "reason"] for row in rows],
    )


def _to_do(remedies: Mapping[str, Mapping[str, str]], destination: str, code: str) -> str:
    return remedies[destination].get(code, "Mend what the reason names, then `segue retry`.")


@contextmanager
def opened(folder: Path, destination: str | None) -> "Iterator[Job]":
    """Open the job of one destination: the one named, or the only one."""
    from ...core.config import load_project
    from ...core.errors import ConfigError
    from ...core.snapshot import current
    from ..jobs import Job
    from ..store.store import Store

    project = load_project(folder)
    if destination is None:
        if len(project.destinations) != 1:
            raise ConfigError(
                f"Name a destination: segue.yml has {', '.join(project.destinations) or 'none'}."
            )
        destination = next(iter(project.destinations))
    snapshot = current(project.state_folder)
    with Store.of(project) as store, Job(project, destination, store, snapshot) as job:
        yield job


def _show_first_timers(output: Output, made: "Plan") -> None:
    if made.adopted:
        output.say(
            f"{made.adopted:,} contacts, matched by address, are in the audience already and get our fields for the first time."
        )
    if made.without_grant:
        counts = ", ".join(f"{country} {count:,}" for country, count in made.without_grant.items())
        output.say(f"Made without a grant, because segue.yml says opt_out there: {counts}.", style="yellow")


def show_plan(output: Output, made: "Plan") -> None:
    """Print a plan for a person."""
    from ..gate import reason_in_words

    output.say(f"Plan {made.plan_id} for {made.destination}, from snapshot {made.snapshot_id}", style="bold")
    if made.empty:
        output.say(f"Nothing to do: {made.unchanged:,} contacts are as they should be.")
    else:
        items = {"schema": len(made.schema.fields)} if made.schema.fields else {}
        names = dict.fromkeys([*items, *made.operations, *made.requests, *made.reads])
        items |= made.operations
        rows = [
            [_SAID.get(name, name), items.get(name, ""), made.requests.get(name, 0), made.reads.get(name, 0)]
            for name in names
        ]
        output.table("What would be sent", ["operation", "items", "write requests", "reads"], rows)
        output.say(
            f"{made.writes:,} write requests, {sum(made.reads.values()):,} reads besides, about {words(made.seconds)} s."
            f" {made.new_contacts:,} new billable contacts. {made.unchanged:,} contacts unchanged."
        )
    _show_first_timers(output, made)
    if made.tags_added or made.tags_removed:
        tags = sorted({*made.tags_added, *made.tags_removed})
        output.table(
            "Tags",
            ["tag", "added to", "removed from"],
            [[tag, made.tags_added.get(tag, 0), made.tags_removed.get(tag, 0)] for tag in tags],
        )
    if made.fields_changed:
        output.table("Fields of known contacts", ["field", "contacts"], list(made.fields_changed.items()))
    if made.withheld:
        output.table(
            "Withheld: these get nothing",
            ["reason", "contacts", "in words"],
            [[reason, count, reason_in_words(reason)] for reason, count in made.withheld.items()],
        )
    for sample in made.samples[:_SAMPLES]:
        output.say(f"e.g. {_sample(sample)}")
    if made.may_trigger:
        output.say(
            f"May set off automations that listen to these tags: {', '.join(made.may_trigger)}.",
            style="yellow",
        )
    for line in made.guardrails:
        output.say(
            f"Limit passed: {line}. `segue apply --override-guardrails` applies it anyway.", style="bold red"
        )


def _sample(sample: Mapping[str, Any]) -> str:
    """Put one planned change in a line: a few of its fields, before and after."""
    fields = list(sample["fields"].items())
    shown = [
        f"{tag} {new}" if old is None else f"{tag} {old} -> {new or 'nothing'}" for tag, (old, new) in fields
    ]
    more = [f"{len(shown) - _FIELDS} more fields"] if len(shown) > _FIELDS else []
    tags = [f"tags {', '.join(sample['tags_added'])}"] if sample["tags_added"] else []
    return f"{sample['operation']} {sample['contact_id']}: {'; '.join([*shown[:_FIELDS], *more, *tags])}"


def end(output: Output, reports: "list[Report]", failed: Any = ()) -> None:
    """Print reports, then leave with the worst exit code."""
    from ...core.errors import SegueError

    errors: list[tuple[str, SegueError]] = list(failed)
    output.json(
        [report.as_json() for report in reports]
        + [
            {"destination": name, "error": error.message, "exit_code": error.exit_code}
            for name, error in errors
        ]
    )
    for report in reports:
        show_report(output, report)
    for name, error in errors:
        output.say(f"{name}: {error.message}", style="bold red")
    code = max([report.exit_code for report in reports] + [error.exit_code for _, error in errors], default=0)
    if code:
        raise typer.Exit(code)


def show_report(output: Output, report: "Report") -> None:
    """Print what one run did."""
    tally = report.tally
    output.say(
        f"{report.destination}: {report.writes:,} write requests, {report.reads:,} reads, {words(report.seconds)} s"
        f" (run {report.run_id})",
        style="bold",
    )
    if tally.outcomes:
        rows = [[operation, status, count] for (operation, status), count in sorted(tally.outcomes.items())]
        output.table("Outcomes", ["operation", "outcome", "contacts"], rows)
    else:
        output.say("Nothing was to be sent.")
    for (status, _, reason), count in tally.codes.most_common(10):
        output.say(f"  {count:,} {status}: {reason}")
    for note in (*report.notes, *report.warnings):
        output.say(note, style="yellow")
    if report.left:
        output.say(f"{report.left:,} contacts turned out to have left at the ESP; they get nothing more.")
    if report.gone:
        output.say(f"{report.gone:,} contacts are not there any more; nobody of them is made again unasked.")
    if report.moved:
        output.say(f"{report.moved:,} contacts have another address there, and are written at that.")
    if tally.stale:
        output.say(f"{tally.stale:,} steps were stale: their contacts changed after the plan. Run again.")
