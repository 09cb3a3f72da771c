"""The report of a run as one HTML page: no network, no script, light and dark, for a marketer and for an engineer.

It shows what the stored run holds and computes nothing but sums and shares. All text is escaped by the template; only
our own plots are not.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from ..gate import reason_in_words
from ..report import CLEAN
from ..store.runs import Run, RunStatus
from .plots import reasons_plot, requests_plot
from .words import outcomes, phases, summary, withheld


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A line of a table; `share` draws a bar below its first cell, in the colour of its tone: good, slow, bad."""

    cells: tuple[str, ...]
    share: float | None = None
    tone: str = "good"


_TONES: Final = {"applied": "good", "accepted": "good", "unchanged": "good", "rejected": "bad"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of the page. `numbers` are the columns that stand to the right; a `folded` table repeats the plot."""

    id: str
    title: str
    words: str = ""
    plot: Markup | None = None
    heads: tuple[str, ...] = ()
    rows: Sequence[Row] = ()
    numbers: frozenset[int] = field(default_factory=frozenset)
    folded: bool = False
    command: str = ""


def page(run: Run, project: str) -> str:
    """Give the whole page of a run that has ended or is still at work."""
    template = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    text = Path(__file__).with_name("report.html").read_text(encoding="utf-8")
    report = {"error": None, **run.report}
    return template.from_string(text).render(
        run=run,
        project=project,
        report=report,
        said=summary(run),
        state=_state(run),
        began=_time(run.started_at),
        # What stopped a run says its error already.
        warnings=[
            *(() if report["error"] else report.get("guardrails", ())),
            *report.get("notes", ()),
            *report.get("warnings", ()),
        ],
        figures=_figures(run),
        parts=list(_parts(run)),
        details=list(_details(run)),
        versions={"segue": "", **report.get("versions", {})},
        audit=report.get("audit", ""),
    )


def _state(run: Run) -> str:
    match run.status:
        case RunStatus.FINISHED:
            return "done" if run.exit_code == CLEAN else "done in part"
        case RunStatus.FAILED:
            return f"failed, exit code {run.exit_code}"
        case _:
            return run.status.value


def _figures(run: Run) -> list[tuple[str, str]]:
    report, sums = run.report, outcomes(run.report)
    requests = report.get("requests", {})
    return [
        ("changes arrived", f"{sums.get('applied', 0) + sums.get('accepted', 0):,}"),
        ("refused", f"{sums.get('rejected', 0):,}"),
        ("wait for the next run", f"{report.get('waiting', 0):,}"),
        ("contacts withheld", f"{sum(report.get('withheld', {}).values()):,}"),
        ("write requests", f"{requests.get('write', 0):,}"),
        ("in all", _duration(report.get("seconds", 0.0))),
    ]


def _parts(run: Run) -> Iterator[Part]:
    report = run.report
    yield from _outcomes(report)
    yield from _requests(report)
    yield from _rejects(report, run.destination)
    if rows := [(reason_in_words(reason), number) for reason, number in withheld(report)]:
        yield _counted(
            Part(
                id="withheld",
                title="Withheld",
                words="These contacts get nothing, and why.",
                heads=("reason", "contacts"),
                command=f"segue plan {run.destination}",
            ),
            rows,
        )
    yield from _changed(report)
    if took_each := phases(report):
        longest = max(took for _, took in took_each) or 1.0
        yield Part(
            id="time",
            title="Where the time went",
            heads=("part", "time"),
            rows=[Row(cells=(name, _duration(took)), share=took / longest) for name, took in took_each],
            numbers=frozenset({1}),
        )


def _outcomes(report: Mapping[str, Any]) -> Iterator[Part]:
    rows = [
        (operation, outcome, number)
        for operation, by_outcome in report.get("outcomes", {}).items()
        for outcome, number in by_outcome.items()
    ]
    if rows:
        most = max(number for *_, number in rows)
        yield Part(
            id="outcomes",
            title="Outcomes",
            heads=("operation", "outcome", "changes"),
            rows=[
                Row(
                    cells=(operation.replace("_", " "), outcome, f"{number:,}"),
                    share=number / most,
                    tone=_TONES.get(outcome, "slow"),
                )
                for operation, outcome, number in rows
            ],
            numbers=frozenset({2}),
        )


def _requests(report: Mapping[str, Any]) -> Iterator[Part]:
    requests = report.get("requests", {})
    timeline = requests.get("timeline", {})
    if not any(timeline.get("requests", ())):
        return
    limits = requests.get("limits", ())
    declared = " and ".join(f"{limit['count']:,} in {limit['seconds']:g} s" for limit in limits)
    numbers = {
        "reads": requests["read"],
        "writes": requests["write"],
        "told to slow down": requests.get("throttled", 0),
        "failed": requests.get("failed", 0),
        "sent again": requests.get("retried", 0),
        **{f"answered {status}": number for status, number in sorted(requests.get("by_status", {}).items())},
    }
    yield Part(
        id="requests",
        title="Requests over time",
        words=f"The limit is {declared}." if declared else "No limit is declared for this account.",
        plot=Markup(requests_plot(timeline, limits)),  # noqa: S704  # of our own counts
        heads=("requests", "number"),
        rows=[Row(cells=(name, f"{number:,}")) for name, number in numbers.items()],
        numbers=frozenset({1}),
        folded=True,
    )


def _rejects(report: Mapping[str, Any], destination: str) -> Iterator[Part]:
    refused = [reason for reason in report.get("reasons", ()) if reason["status"] == "rejected"]
    if refused:
        by_code: dict[str, int] = {}
        for reason in refused:
            by_code[reason["code"]] = by_code.get(reason["code"], 0) + reason["count"]
        yield Part(
            id="refused",
            title="Refused by reason",
            plot=Markup(reasons_plot(by_code)),  # noqa: S704  # its text is escaped where it is drawn
            heads=("the platform's reason", "changes"),
            rows=[
                Row(cells=(f"{reason['code']}: {reason['reason']}", f"{reason['count']:,}"))
                for reason in refused
            ],
            numbers=frozenset({1}),
            command=f"segue rejected {destination}",
        )
    others = [reason for reason in report.get("reasons", ()) if reason["status"] != "rejected"]
    if others:
        yield Part(
            id="others",
            title="Put off or withheld on the way",
            heads=("outcome", "reason", "changes"),
            rows=[
                Row(cells=(reason["status"], reason["reason"], f"{reason['count']:,}")) for reason in others
            ],
            numbers=frozenset({2}),
        )


def _changed(report: Mapping[str, Any]) -> Iterator[Part]:
    added, removed = report.get("tags_added", {}), report.get("tags_removed", {})
    tags = sorted({*added, *removed})
    if tags:
        yield Part(
            id="tags",
            title="Tags planned",
            heads=("tag", "added to", "removed from"),
            rows=[Row(cells=(tag, f"{added.get(tag, 0):,}", f"{removed.get(tag, 0):,}")) for tag in tags],
            numbers=frozenset({1, 2}),
        )
    made = report.get("new_fields", ())
    fields = report.get("fields_changed", {})
    if made or fields:
        yield _counted(
            Part(
                id="fields",
                title="Fields planned",
                words=f"New at the platform: {', '.join(made)}." if made else "",
                heads=("field", "known contacts changed"),
            ),
            list(fields.items()),
        )


def _counted(part: Part, rows: Sequence[tuple[str, int]]) -> Part:
    most = max((number for _, number in rows), default=1) or 1
    return Part(
        id=part.id,
        title=part.title,
        words=part.words,
        heads=part.heads,
        rows=[Row(cells=(name, f"{number:,}"), share=number / most) for name, number in rows],
        numbers=frozenset({1}),
        command=part.command,
    )


def _details(run: Run) -> Iterator[tuple[str, str]]:
    report = run.report
    yield "run", run.run_id
    for name, value in (("plan", report.get("plan_id")), ("snapshot", report.get("snapshot_id"))):
        if value:
            yield name, value
    yield "began", _time(run.started_at)
    if run.finished_at is not None:
        yield "ended", _time(run.finished_at)
    if run.exit_code is not None:
        yield "exit code", str(run.exit_code)
    if report.get("error_kind"):
        yield "error", report["error_kind"]
    yield "read first", f"{report.get('pulled', 0):,} contacts, {report.get('left', 0):,} of them had left"
    if report.get("unchanged") is not None:
        yield "as they should be", f"{report['unchanged']:,} contacts"
    if report.get("new_contacts"):
        yield "new billable contacts", f"{report['new_contacts']:,}"
    if report.get("stale"):
        yield "stale steps", f"{report['stale']:,}"
    for name, number in report.get("versions", {}).items():
        yield name, number


def _time(moment: datetime) -> str:
    return f"{moment:%d %B %Y, %H:%M:%S} UTC"


def _duration(seconds: float) -> str:
    """Write a length of time for a person.

    >>> _duration(0.42), _duration(75), _duration(7300)
    ('0.4 s', '1 min 15 s', '2 h 1 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
