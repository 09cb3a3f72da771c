"""docs/schedules.md and examples/schedules: every line that they tell people to copy is executed, and the clock itself."""

import ast
import configparser
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from cronsim import CronSim
from ruamel.yaml import YAML

from segue.connectors.mailchimp.testing import Sandbox
from segue.core.settings import parse_duration
from segue.sync.store.leases import _TTL

from .files_shop import BIN, DOCS, FilesShop, block

EXAMPLES = DOCS.parent / "examples" / "schedules"
A_DAY = datetime(2026, 1, 1, tzinfo=UTC)
SECONDS = """
schedule:
  nightly: {cron: "* * * * * *", command: run --no-build}
  yearly: {cron: "0 0 1 1 *"}
"""


@pytest.fixture
def shop(tmp_path: Path, mailchimp: Sandbox) -> FilesShop:
    found = FilesShop(tmp_path / "myshop", mailchimp)
    found.stock(["ann", "bob"])
    return found


# cron


def test_the_crontab_line_is_silent_when_all_went_well_and_tells_when_not(shop: FilesShop) -> None:
    line = block("schedules.md", "Cron", "crontab").splitlines()[-1]
    *fields, command = line.split(maxsplit=5)
    assert CronSim(" ".join(fields), A_DAY)
    assert "%" not in command  # to cron a new line
    done = shop.shell(command)
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)
    assert set(shop.members()) == {"ann", "bob"}
    shop.secrets(MAILCHIMP_KEY="wrong-us19")
    assert "Error: " in shop.shell(command).stdout


# systemd


def unit(name: str) -> configparser.ConfigParser:
    parsed = configparser.ConfigParser(interpolation=None, strict=True)
    parsed.optionxform = str  # type: ignore[assignment,method-assign]  # directives have capitals
    parsed.read(EXAMPLES / name)
    return parsed


@pytest.mark.parametrize("name", ["segue-run.service", "segue-run.timer", "segue-schedule.service"])
def test_systemd_finds_nothing_to_object_to(name: str, shop: FilesShop, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not here")
    for file in EXAMPLES.glob("segue-*"):
        (tmp_path / file.name).write_text(shop.here(file.read_text()))
    done = subprocess.run(
        ["systemd-analyze", "verify", tmp_path / name], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_service_runs_what_it_starts_and_knows_each_exit_code(shop: FilesShop) -> None:
    service = unit("segue-run.service")["Service"]
    command = (
        f"set -a; . {service['EnvironmentFile']}; cd {service['WorkingDirectory']}; {service['ExecStart']}"
    )
    assert shop.shell(command).returncode == 0
    assert set(shop.members()) == {"ann", "bob"}
    assert service["ReadWritePaths"] == service["WorkingDirectory"]
    column = exit_codes("systemd")
    for code in service["SuccessExitStatus"].split():
        assert column[code] in {"success", "stopped"}
    for code in service["RestartPreventExitStatus"].split():
        assert column[code] == "failed"
    assert set(column) == {"0", "3", "130"} | set(
        (service["SuccessExitStatus"] + " " + service["RestartPreventExitStatus"]).split()
    )


def test_the_starts_of_a_night_fit_into_the_window_that_counts_them() -> None:
    service = unit("segue-run.service")
    between = parse_duration(service["Service"]["RestartSec"].replace("min", " minutes"))
    window = parse_duration(service["Unit"]["StartLimitIntervalSec"].replace("h", " hours"))
    assert between * int(service["Unit"]["StartLimitBurst"]) < window


def test_the_clock_alone_is_told_to_stop() -> None:
    assert unit("segue-schedule.service")["Service"]["KillMode"] == "mixed"


# Kubernetes


def cron_job() -> tuple[Mapping[str, Any], Mapping[str, Any], Mapping[str, Any]]:
    """The CronJob's spec, its pod's and the volume claim."""
    job, claim = YAML(typ="safe").load_all((EXAMPLES / "cronjob.yaml").read_text())
    assert (job["apiVersion"], job["kind"], claim["kind"]) == ("batch/v1", "CronJob", "PersistentVolumeClaim")
    return job["spec"], job["spec"]["jobTemplate"]["spec"]["template"]["spec"], claim


def test_the_cron_job_runs_on_postgresql_with_what_its_secret_holds(
    shop: FilesShop, postgres_database: str
) -> None:
    config = (shop.folder / "segue.yml").read_text()
    needed = "store: env:SEGUE_STORE\ncontact_key: env:SEGUE_CONTACT_KEY"
    (shop.folder / "segue.yml").write_text(config.replace("store: sqlite", needed))
    secret = re.findall(r"--from-literal=(\w+)=", (EXAMPLES / "cronjob.yaml").read_text())
    values = {
        "MAILCHIMP_KEY": shop.sandbox.key,
        "SEGUE_STORE": postgres_database,
        "SEGUE_CONTACT_KEY": "ab" * 32,
    }
    _, pod, _ = cron_job()
    container = pod["containers"][0]
    command = shlex.join([*container["command"], *container["args"]])
    done = shop.shell(
        f"cd {container['workingDir']} && {command}", env={name: values[name] for name in secret}
    )
    assert done.returncode == 0, done.stderr
    assert set(shop.members()) == {"ann", "bob"}
    assert not (shop.folder / ".segue" / "store.db").exists()


def test_the_cron_job_never_runs_twice_and_outlasts_a_dead_runs_lease() -> None:
    spec, pod, claim = cron_job()
    job = spec["jobTemplate"]["spec"]
    assert spec["concurrencyPolicy"] == "Forbid"
    assert CronSim(spec["schedule"], A_DAY)
    assert pod["restartPolicy"] == "Never"  # podFailurePolicy is refused with any other
    assert pod["terminationGracePeriodSeconds"] >= 60
    waits = [10 * 2**number for number in range(job["backoffLimit"])]
    assert sum(waits) > _TTL.total_seconds()
    container = pod["containers"][0]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts == {"state": f"{container['workingDir']}/.segue"}
    assert pod["volumes"] == [
        {"name": "state", "persistentVolumeClaim": {"claimName": claim["metadata"]["name"]}}
    ]
    assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]


def test_the_cron_job_tries_again_where_the_page_says_so() -> None:
    spec, pod, _ = cron_job()
    fail, ignore = spec["jobTemplate"]["spec"]["podFailurePolicy"]["rules"]
    assert (fail["action"], ignore["action"]) == ("FailJob", "Ignore")
    assert fail["onExitCodes"]["containerName"] == pod["containers"][0]["name"]
    final = {code for code, what in exit_codes("Kubernetes").items() if "not tried again" in what}
    assert {str(code) for code in fail["onExitCodes"]["values"]} == final


# Airflow


def dag() -> Mapping[str, Any]:
    """Every keyword in the DAG's file that is a plain value."""
    tree = ast.parse((EXAMPLES / "segue_dag.py").read_text())
    return {
        keyword.arg: keyword.value.value
        for keyword in ast.walk(tree)
        if isinstance(keyword, ast.keyword) and keyword.arg and isinstance(keyword.value, ast.Constant)
    }


def test_the_dags_task_fails_for_everything_but_refused_contacts(shop: FilesShop) -> None:
    said = dag()
    command = f"cd {said['cwd']}; {said['bash_command']}"
    assert "{{" not in command  # Airflow fills in templates

    def run() -> int:
        return shop.shell(command, by="/bin/bash").returncode

    assert run() == 0
    assert set(shop.members()) == {"ann", "bob"}
    shop.sandbox.settings(refuse_fake_addresses=True)
    shop.stock(["eve"])
    customers = shop.folder / "customers.csv"
    customers.write_text(customers.read_text().replace("eve@myshop.example", "eve@example.com"))
    assert run() == 0
    assert json.loads(shop.segue("segue runs --json").stdout)[0]["exit_code"] == 1
    shop.secrets(MAILCHIMP_KEY="wrong-us19")
    assert run() == 3


def test_the_dag_makes_up_for_no_night_and_runs_one_at_a_time() -> None:
    said = dag()
    assert (said["catchup"], said["max_active_runs"]) == (False, 1)
    assert CronSim(said["schedule"], A_DAY)


# Segue's own clock


def test_the_schedule_of_the_page_is_listed_in_words(shop: FilesShop) -> None:
    config = (shop.folder / "segue.yml").read_text().replace("timezone: Europe/Berlin\n", "")
    (shop.folder / "segue.yml").write_text(config + block("schedules.md", "Segue's own clock", "yaml"))
    first, *_ = block("schedules.md", "Segue's own clock", "console").splitlines()
    done = shop.segue(f"{first.removeprefix('$ ')} --json")
    listed = json.loads(done.stdout)
    assert {each["name"]: each["command"] for each in listed} == {
        "opt_outs": "segue run --no-build newsletter",
        "nightly": "segue run",
        "who_is_gone": "segue pull --full",
    }
    assert shop.segue("segue check").returncode == 0


class Clock:
    """A running `segue schedule`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.heard: list[str] = []

    def hear(self, words: str) -> str:
        """Wait for a line with these words."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.heard.append(line)
            if words in line:
                return line
        pytest.fail(f"it ended without a word of {words!r}: {self.heard}")

    def ended(self) -> int:
        """Wait until it and its runs are gone, and give its exit code."""
        assert self.process.stderr is not None
        self.heard += list(self.process.stderr)
        return self.process.wait(timeout=60)


@contextmanager
def clock(shop: FilesShop) -> Iterator[Clock]:
    """Build, then start a schedule that fires every second."""
    shop.build()
    with (shop.folder / "segue.yml").open("a") as file:
        file.write(SECONDS)
    process = subprocess.Popen(
        [BIN / "segue", "schedule", "--project", shop.folder],
        env=shop.environment | {"MAILCHIMP_KEY": shop.sandbox.key},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    try:
        yield Clock(process)
    finally:
        process.kill()
        process.communicate()


def started(running: Clock) -> int:
    """Wait for a run and give its process."""
    return int(running.hear("nightly: started").rpartition("process ")[2].rstrip(".\n"))


def test_what_the_clock_starts_syncs_and_the_clock_ends_when_told(shop: FilesShop) -> None:
    with clock(shop) as running:
        running.hear("nightly: ended with exit code 0")
        assert set(shop.members()) == {"ann", "bob"}
        running.process.terminate()
        assert running.ended() == 0


def test_of_one_entry_never_two_run_at_once(shop: FilesShop) -> None:
    shop.sandbox.settings(latency=0.3)
    with clock(shop) as running:
        running.hear("nightly: left out, the one before is still at work")
        running.hear("nightly: ended with exit code 0")
        running.hear("nightly: started")
        running.process.send_signal(signal.SIGINT)
        assert running.ended() == 0
    turns = [line.split()[4] for line in running.heard if re.search(r"nightly: (started|ended)", line)]
    assert all(one != next_one for one, next_one in pairwise(turns)), turns


def test_told_to_stop_the_clock_stops_its_run_which_gives_its_work_back(shop: FilesShop) -> None:
    shop.sandbox.settings(latency=1.0)
    with clock(shop) as running:
        number = started(running)
        running.hear("comparing")
        assert os.getpgid(number) == number  # a terminal's Ctrl-C reaches the clock alone
        os.killpg(running.process.pid, signal.SIGINT)  # as Ctrl-C in a terminal
        assert running.ended() == 0
    assert "nightly: ended with exit code 143" in running.heard[-1]
    shop.sandbox.settings(latency=0.0)
    assert shop.sync().exit_code == 0


def test_a_second_signal_kills_a_run_that_does_not_end(shop: FilesShop) -> None:
    with clock(shop) as running:
        number = started(running)
        os.kill(number, signal.SIGSTOP)
        running.process.terminate()
        running.process.send_signal(signal.SIGINT)
        assert running.ended() in {130, 143}
    assert shop.sync().exit_code == 0


def test_a_killed_clock_leaves_its_run_to_end_by_itself(shop: FilesShop) -> None:
    with clock(shop) as running:
        running.hear("nightly: started")
        running.process.kill()
        assert running.ended() == -signal.SIGKILL  # the pipe ends with the last of the two
    assert set(shop.members()) == {"ann", "bob"}
    assert json.loads(shop.segue("segue runs --json").stdout)[0]["exit_code"] == 0


# the page


def exit_codes(scheduler: str) -> Mapping[str, str]:
    """A column of the page's table of exit codes, by code."""
    text = (DOCS / "schedules.md").read_text().partition("## What exit codes become")[2]
    head, _, *lines = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if "|" in line
    ]
    column = next(number for number, cell in enumerate(head) if cell.strip("`") == scheduler)
    return {code: line[column] for line in lines for code in re.findall(r"\d+", line[0]) if line[column]}


def test_every_exit_code_of_operations_is_explained_for_every_scheduler() -> None:
    rows = re.findall(r"^\| ([\d, ]+) \|", (DOCS / "operations.md").read_text(), re.MULTILINE)
    known = {code for row in rows for code in row.split(", ")}
    for scheduler in ("segue schedule", "cron", "systemd", "Kubernetes", "Airflow"):
        assert known <= set(exit_codes(scheduler)), scheduler
