"""What a stored run comes to, in a sentence, and what to do next: the same words in a terminal, on a page, in an alert.

Only what the run's report holds is said. Nothing is counted here, and no person is named.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ..report import CLEAN, SOME_REJECTED, STALE
from ..store.runs import Run, RunStatus

_ORDER: Final = {name: place for place, name in enumerate(("pull", "plan", "apply"))}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Something to do next; `command` may be empty."""

    text: str
    command: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A run in a sentence, whether it went well, and the next steps in order."""

    headline: str
    well: bool
    steps: tuple[Step, ...] = ()


def ended_well(run: Run) -> bool:
    """Whether a run did its work: exit code 0, or 1, where some contacts were refused or wait."""
    return run.exit_code in (CLEAN, SOME_REJECTED)


def count(number: int, noun: str) -> str:
    """Give a number with its noun.

    >>> count(1, "change"), count(1200, "change"), count(0, "change")
    ('1 change', '1,200 changes', 'no change')
    """
    return f"{f'{number:,}' if number else 'no'} {noun}{'s' if number > 1 else ''}"


def phases(report: Mapping[str, Any]) -> list[tuple[str, float]]:
    """Give a report's phases with their seconds, in the order in which a run goes through them."""
    return sorted(report.get("phases", {}).items(), key=lambda row: (_ORDER.get(row[0], len(_ORDER)), row[0]))


def withheld(report: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Give how many contacts a plan withheld by reason, the most frequent first."""
    return sorted(report.get("withheld", {}).items(), key=lambda row: (-row[1], row[0]))


def outcomes(report: Mapping[str, Any]) -> dict[str, int]:
    """Count a report's changes by outcome."""
    sums: dict[str, int] = {}
    for by_outcome in report.get("outcomes", {}).values():
        for outcome, number in by_outcome.items():
            sums[outcome] = sums.get(outcome, 0) + number
    return sums


def summary(run: Run) -> Summary:
    """Say what became of a run and what to do next."""
    match run.status, run.exit_code:
        case RunStatus.RUNNING, _:
            return Summary(headline="It is still at work, or its process was lost.", well=True)
        case RunStatus.INTERRUPTED, _:
            step = Step(
                text="Nothing needs repair: the next run goes on.", command=f"segue run {run.destination}"
            )
            return Summary(
                headline="It was interrupted: its process ended without a word.", well=False, steps=(step,)
            )
        case _, code if code in (CLEAN, SOME_REJECTED):
            return _done(run)
        case _:
            return _failed(run)


def _done(run: Run) -> Summary:
    report, sums = run.report, outcomes(run.report)
    if run.kind == "plan":
        planned = sum(report.get("planned", {}).values())
        passed = " A limit is passed." if report.get("guardrails") else ""
        return Summary(
            headline=f"It planned {count(planned, 'change')} and sent nothing.{passed}",
            well=True,
            steps=(Step(text="Apply exactly this plan.", command=f"segue apply {run.destination}"),)
            if planned
            else (),
        )
    if run.kind == "verify":
        return Summary(headline="What was looked at is as it was confirmed.", well=True)
    if run.kind == "pull":
        read, left = count(report.get("pulled", 0), "contact"), report.get("left", 0)
        return Summary(headline=f"It read {read}, of whom {left:,} had left, and sent nothing.", well=True)
    written = sums.get("applied", 0) + sums.get("accepted", 0)
    said = [f"{count(written, 'change').capitalize()} arrived" if sums else "Nothing had to be changed"]
    steps = []
    if refused := sums.get("rejected", 0):
        said.append(f"{refused:,} {'was' if refused == 1 else 'were'} refused")
        steps.append(Step(text="See who was refused and why.", command=f"segue rejected {run.destination}"))
    if report.get("paused"):
        said.append("the rest waits because the destination is paused")
        steps.append(Step(text="When the cause is mended, go on.", command=f"segue resume {run.destination}"))
    elif waiting := report.get("waiting", 0):
        said.append(f"{waiting:,} {'waits' if waiting == 1 else 'wait'} for the next run")
        steps.append(
            Step(text="The next run sends what waits.", command=f"segue run {run.destination} --no-build")
        )
    return Summary(
        headline=f"{', '.join(said)}.", well=True, steps=tuple(steps) or (Step(text="Nothing: all is well."),)
    )


def _failed(run: Run) -> Summary:
    report, name = run.report, run.destination
    if run.kind == "verify" and run.exit_code == STALE and not report.get("error"):
        said, steps = _DRIFT
    else:
        said, steps = _FAILURES.get(
            str(report.get("error_kind")), _BY_CODE.get(run.exit_code or 0, _BY_CODE[2])
        )
    return Summary(
        headline=said(report),
        well=False,
        steps=tuple(Step(text=text, command=command.format(name=name)) for text, command in steps),
    )


_Failure = tuple[Callable[[Mapping[str, Any]], str], tuple[tuple[str, str], ...]]

_BY_CODE: Final[Mapping[int, _Failure]] = {
    2: (
        lambda _: "It stopped: the project, the data or the store is at fault.",
        (("Find every mistake at once.", "segue check"),),
    ),
    3: (
        lambda _: "It stopped: the account or the network failed.",
        (
            ("The next run picks up where this one ended.", "segue run {name}"),
            ("If it lasts, look at the platform's status page and at the key.", ""),
        ),
    ),
    STALE: (
        lambda report: (
            f"{count(report.get('stale', 0), 'step')} were stale: their contacts changed after the plan."
        ),
        (("Plan and apply anew.", "segue run {name}"),),
    ),
}

_DRIFT: Final[_Failure] = (
    lambda _: "Somebody else changed what was confirmed.",
    (
        ("See what, on which fields.", "segue verify {name}"),
        ("The next run repairs it, except where the mapping accepts drift.", "segue run {name}"),
    ),
)

_FAILURES: Final[Mapping[str, _Failure]] = {
    "GuardrailError": (
        lambda report: (
            "It stopped because a limit was passed. "
            f"{count(outcomes(report).get('applied', 0), 'change').capitalize()} had gone out before."
        ),
        (
            ("Look at the plan.", "segue plan {name}"),
            ("If it is right, apply it all the same.", "segue apply {name} --override-guardrails"),
        ),
    ),
    "AuthenticationError": (
        lambda _: "It stopped: the platform refuses the key.",
        (
            ("Renew the key where segue.yml takes it from, then check.", "segue check"),
            ("The next run picks up where this one ended.", "segue run {name}"),
        ),
    ),
    "UnsupportedFeatureError": (
        lambda _: "It stopped: the platform cannot do what the mapping asks for.",
        (("Change the mapping as the message says, then look.", "segue plan {name}"),),
    ),
    "BugError": (
        lambda _: "It stopped at a bug of Segue. What was stored before is untouched.",
        (("Keep this report and send it to the authors; it holds no personal data.", ""),),
    ),
    "ConsentError": (
        lambda _: "It stopped: a request would have raised somebody's consent. It was not sent.",
        (("Keep this report and send it to the authors; do not go on before that.", ""),),
    ),
}
