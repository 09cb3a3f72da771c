"""The clock of `segue schedule`: when it fires, what it leaves out, and which schedules it refuses."""

import os
import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.core.config import Project, load_project
from segue.core.errors import ConfigError
from segue.sync.schedule import Scheduler, moments, upcoming

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.fixture
def project(tmp_path: Path) -> Callable[[str], Project]:
    """A project with this schedule, in Berlin."""

    def make(schedule: str, customers: str = "path: customers.csv") -> Project:
        (tmp_path / "mapping.yml").write_text("")
        (tmp_path / "segue.yml").write_text(
            "project: small\ntimezone: Europe/Berlin\n"
            f"sources:\n  customers: [{{{customers}}}]\n"
            "destinations:\n  newsletter: {connector: mailchimp, mapping: mapping.yml}\n"
            f"{schedule}"
        )
        return load_project(tmp_path)

    return make


def local(cron: str, after: datetime, count: int) -> list[str]:
    return [
        moment.strftime("%a %d %H:%M %Z") for moment in islice(moments(cron, "Europe/Berlin", after), count)
    ]


@pytest.mark.parametrize(
    ("cron", "day", "comes"),
    [
        # On 29 March 02:00 to 03:00 is left out, on 25 October it comes twice.
        ("30 2 * * *", datetime(2026, 3, 28, 12, tzinfo=BERLIN), ["Sun 29 03:00 CEST", "Mon 30 02:30 CEST"]),
        ("30 2 * * *", datetime(2026, 10, 24, 12, tzinfo=BERLIN), ["Sun 25 02:30 CEST", "Mon 26 02:30 CET"]),
        ("15 3 * * *", datetime(2026, 3, 28, 12, tzinfo=BERLIN), ["Sun 29 03:15 CEST", "Mon 30 03:15 CEST"]),
        ("15 3 * * *", datetime(2026, 10, 24, 12, tzinfo=BERLIN), ["Sun 25 03:15 CET", "Mon 26 03:15 CET"]),
        ("30 * * * *", datetime(2026, 3, 29, 1, tzinfo=BERLIN), ["Sun 29 01:30 CET", "Sun 29 03:30 CEST"]),
        (
            "30 * * * *",
            datetime(2026, 10, 25, 2, tzinfo=BERLIN),
            ["Sun 25 02:30 CEST", "Sun 25 02:30 CET", "Sun 25 03:30 CET"],
        ),
    ],
)
def test_a_day_on_which_the_clocks_change_has_each_daily_firing_once_and_each_hourly_one_an_hour_apart(
    cron: str, day: datetime, comes: list[str]
) -> None:
    assert local(cron, day, len(comes)) == comes


def test_started_in_the_repeated_hour_nothing_of_its_first_half_comes_again() -> None:
    in_the_second_one = datetime(2026, 10, 25, 2, 10, tzinfo=BERLIN, fold=1)
    assert local("30 2 * * *", in_the_second_one, 1) == ["Mon 26 02:30 CET"]


@pytest.mark.parametrize(
    ("cron", "comes"),
    [
        ("0 4 * * 0", ["Sun 01 04:00 CET", "Sun 08 04:00 CET"]),
        ("0 4 * * 7", ["Sun 01 04:00 CET", "Sun 08 04:00 CET"]),
        ("0 4 * * mon-fri", ["Thu 29 04:00 CET", "Fri 30 04:00 CET", "Mon 02 04:00 CET"]),
        (
            "0 4 13 * 5",
            ["Fri 30 04:00 CET", "Fri 06 04:00 CET", "Fri 13 04:00 CET"],
        ),  # either day, as in cron
        ("0 4 l * *", ["Sat 31 04:00 CET", "Sat 28 04:00 CET"]),
    ],
)
def test_days_are_those_of_a_crontab(cron: str, comes: list[str]) -> None:
    assert local(cron, datetime(2026, 1, 28, 12, tzinfo=BERLIN), len(comes)) == comes


@given(
    after=st.datetimes(
        min_value=datetime(2026, 1, 1),  # noqa: DTZ001
        max_value=datetime(2027, 12, 31),  # noqa: DTZ001
        timezones=st.sampled_from([UTC, BERLIN, ZoneInfo("America/New_York")]),
        allow_imaginary=True,
    ),
    cron=st.sampled_from(["30 2 * * *", "*/20 * * * *", "0 1-3 * * *", "15 2 * * 0", "0 0 29 2 *"]),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]),
)
def test_firings_are_ahead_and_in_order(after: datetime, cron: str, zone: str) -> None:
    ahead = [after.astimezone(UTC), *(m.astimezone(UTC) for m in islice(moments(cron, zone, after), 3))]
    assert all(earlier < later for earlier, later in pairwise(ahead))


def test_the_next_firing_is_listed_first_with_its_command_in_words(
    project: Callable[[str], Project],
) -> None:
    loaded = project(
        "schedule:\n"
        '  weekly: {cron: "0 5 * * 1", command: verify, destination: newsletter}\n'
        '  nightly: {cron: "15  3 * * *"}\n'
        '  opt_outs: {cron: "0 * * * *", command: run --no-build}\n'
    )
    listed = upcoming(loaded, datetime(2026, 3, 28, 2, 30, tzinfo=UTC), 2)
    assert [(each.name, each.command) for each in listed] == [
        ("opt_outs", "segue run --no-build"),
        ("nightly", "segue run"),
        ("weekly", "segue verify newsletter"),
    ]
    assert listed[1].in_words == "At 03:15 every day"
    assert [moment.isoformat() for moment in listed[1].next] == [
        "2026-03-29T03:15:00+02:00",
        "2026-03-30T03:15:00+02:00",
    ]


def test_every_mistake_in_a_schedule_is_told_at_once_with_its_line(project: Callable[[str], Project]) -> None:
    with pytest.raises(ConfigError) as told:
        project(
            "schedule:\n"
            '  never: {cron: "0 0 30 2 *"}\n'
            '  wrong: {cron: "0 25 * * *"}\n'
            '  nightly: {cron: "15 3 * *"}\n'
            "  elsewhere:\n"
            '    cron: "15 3 * * *"\n'
            "    destination: newsleter\n"
            '  other: {cron: "15 3 * * *", command: build}\n'
            '  lazy: {cron: "15 3 * * *", grace: 1 month}\n'
        )
    assert [(problem.where, problem.message.partition(": ")[0]) for problem in told.value.problems] == [
        ("segue.yml:8", "schedule.never.cron"),
        ("segue.yml:9", "schedule.wrong.cron"),
        ("segue.yml:10", "schedule.nightly.cron"),
        ("segue.yml:13", "schedule.elsewhere.destination"),
        ("segue.yml:14", "schedule.other.command"),
        ("segue.yml:15", "schedule.lazy.grace"),
    ]
    assert told.value.problems[3].next_step == 'Did you mean "newsletter"?'


def test_without_a_schedule_there_is_nothing_to_serve(project: Callable[[str], Project]) -> None:
    with pytest.raises(ConfigError, match="has no `schedule`"):
        Scheduler(project(""), print)


def test_what_is_piped_in_cannot_be_built_on_a_schedule(project: Callable[..., Project]) -> None:
    with pytest.raises(ConfigError, match=r"segue.yml:4: sources.customers\[0\]: is piped in"):
        Scheduler(project('schedule: {nightly: {cron: "15 3 * * *"}}\n', "stdin: csv"), print)
    every_hour = 'schedule: {hourly: {cron: "0 * * * *", command: run --no-build}}\n'
    assert upcoming(project(every_hour, "stdin: csv"), datetime.now(UTC), 1)


@pytest.mark.parametrize(
    ("missed", "said"),
    [
        (timedelta(minutes=20), "nightly: started `segue run`"),
        (timedelta(minutes=40), "nightly: left out"),
    ],
)
def test_a_firing_that_was_slept_through_comes_once_within_its_grace_and_else_not_at_all(
    project: Callable[[str], Project], missed: timedelta, said: str
) -> None:
    loaded = project('schedule: {nightly: {cron: "0 0 1 1 *", grace: 30 minutes}}\n')
    lines: list[str] = []

    def say(line: str) -> None:
        lines.append(line)
        if len(lines) == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    scheduler = Scheduler(loaded, say)
    # As if the machine had slept since then.
    scheduler._clock.modify_job("nightly", next_run_time=datetime.now(UTC) - missed)
    assert scheduler.serve() == 0
    assert lines[0].startswith(said)
    assert sum("started" in line for line in lines) == ("started" in said)
